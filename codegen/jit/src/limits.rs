//! What compiling a program may take. Files of a few bytes can ask for gigabytes or minutes: that is decided before it is taken.

use crate::error::JitError;

/// Limits on what a program may ask for; `docs/limits.md` lists them with those of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of activations and scratch memory for one image on one thread. Unpacked weights may take as much, and so may
    /// packed ones; either may take [`Limits::PACKED`] bytes beyond that for each byte of the program's constants.
    pub memory: u64,
    /// Instructions that are handed to the code generator for all steps together, which bounds the time that compiling takes.
    pub instructions: u64,
}

impl Limits {
    /// Bytes of packed weights for each byte of a constant in the file: 2-bit codes that become bytes, twice, with room to spare.
    pub const PACKED: u64 = 16;
}

impl Default for Limits {
    /// A gigabyte of memory and two million instructions: large networks take a tenth of either.
    fn default() -> Limits {
        Limits { memory: 1 << 30, instructions: 2_000_000 }
    }
}

/// Refuses what is beyond a limit. `limit` is the name of its field.
pub(crate) fn within(what: &'static str, needed: u64, limit: &'static str, allowed: u64) -> Result<(), JitError> {
    if needed <= allowed { Ok(()) } else { Err(JitError::Limit { what, needed, limit, allowed }) }
}
