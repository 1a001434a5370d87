//! Limits on the resources of compiling a program. A file of a few bytes may need gigabytes or minutes, so limits are checked first.

use crate::error::JitError;

/// Limits on the resources of a program; `docs/limits.md` lists them together with the limits of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of activations and scratch memory for one image on one thread. Unpacked weights and packed weights may each take this many bytes
    /// too, plus [`Limits::PACKED`] bytes for each byte of the program's constants.
    pub memory: u64,
    /// Instructions of all steps together in the input of the code generator, which bounds the time of compiling.
    pub instructions: u64,
}

impl Limits {
    /// Bytes of packed weights for each byte of a constant in the file. 2-bit codes that become two bytes each need 8; the rest is a margin.
    pub const PACKED: u64 = 16;
}

impl Default for Limits {
    /// A gigabyte of memory and two million instructions; large networks need a tenth of either.
    fn default() -> Limits {
        Limits { memory: 1 << 30, instructions: 2_000_000 }
    }
}

/// Returns an error if `needed` exceeds a limit. `limit` is the name of the field of [`Limits`].
pub(crate) fn within(what: &'static str, needed: u64, limit: &'static str, allowed: u64) -> Result<(), JitError> {
    if needed <= allowed { Ok(()) } else { Err(JitError::Limit { what, needed, limit, allowed }) }
}
