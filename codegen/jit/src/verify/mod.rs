//! Proof, before anything is called, that a step's function stays within the memory that the plan gives it.
//!
//! A function is read as Cranelift gets it, whatever made it: [`walk`] follows every address from the slot or stack memory that it starts at
//! through additions, loops and minima ([`affine`]), and notes for each slot which bytes can be read and written by any range of work units.
//! What a precompiled kernel touches follows from its block of arguments ([`kernels`]). Each step that has the function then
//! compares these bytes with those of its own slots. An address that cannot be followed, and one that leaves its memory, is an error.
//!
//! Two things are trusted: that Cranelift translates the function correctly, and that a kernel does what the documentation of its arguments
//! says.

mod affine;
mod kernels;
#[cfg(test)]
mod tests;
mod walk;

use crate::builder::constants::Constants;
use crate::error::JitError;
use crate::storage::Slot;
use catc_kernels::epilogue::EpilogueProgram;
use std::collections::BTreeMap;

pub(crate) use walk::footprint;

/// Memory behind one slot of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Bytes that belong to the slot.
    pub bytes: usize,
    /// Bytes behind them that may be read, not used.
    pub slack: usize,
    /// Whether it may be written.
    pub writable: bool,
}

/// Bytes that are touched, as the first and one past the last, counted from a slot's pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched(i128, i128);

impl Touched {
    fn union(self, other: Touched) -> Touched {
        Touched(self.0.min(other.0), self.1.max(other.1))
    }
}

/// What a function does to the memory of a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    read: Option<Touched>,
    written: Option<Touched>,
}

/// Bytes of the elements that an epilogue's program loads, stores and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EpilogueAccess {
    /// Of a channel's sum, float or code.
    input: i128,
    /// Of a channel's result.
    output: i128,
    /// Of the operands that it reads.
    operands: [Option<OperandBytes>; catc_kernels::epilogue::MAX_OPERANDS],
}

/// Bytes of an operand of an epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OperandBytes {
    /// Each channel has an element of that many bytes.
    OfChannel(i128),
    /// The channels of a pixel share an element of that many bytes.
    OfPixel(i128),
}

/// What a function does to memory, for any range of its units.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    slots: BTreeMap<usize, Use>,
    /// Slots of epilogue programs, and what the proof assumed of each.
    programs: BTreeMap<usize, EpilogueAccess>,
}

/// What the proof knows of a step besides its code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub slots: &'a [Slot],
    pub constants: &'a Constants,
    /// Of each slot.
    pub extents: &'a [Extent],
    pub units: usize,
}

impl Surroundings<'_> {
    /// The epilogue's program in a slot.
    fn program(&self, slot: usize) -> Result<EpilogueProgram, String> {
        let Some(&Slot::Constant(at)) = self.slots.get(slot) else {
            return Err(format!("slot {slot} holds no constant, but is taken for the program of an epilogue"));
        };
        let words = self.constants.words(at, size_of::<EpilogueProgram>() / 4);
        words
            .and_then(|words| EpilogueProgram::from_words(&words))
            .ok_or_else(|| "the program of an epilogue is broken".into())
    }
}

impl Footprint {
    /// Checks that a step may have this function.
    pub fn check(&self, name: &str, step: &Surroundings<'_>) -> Result<(), JitError> {
        self.fits(step).map_err(|reason| JitError::Unproved { step: name.into(), reason })
    }

    fn fits(&self, step: &Surroundings<'_>) -> Result<(), String> {
        for (&slot, used) in &self.slots {
            let Some(extent) = step.extents.get(slot) else { return Err(format!("there is no slot {slot}")) };
            let inside = |touched: Option<Touched>, end: usize| {
                touched.is_none_or(|Touched(low, high)| low >= 0 && high <= end as i128)
            };
            let writable = extent.writable || used.written.is_none();
            if !writable || !inside(used.written, extent.bytes) || !inside(used.read, extent.bytes + extent.slack) {
                let bytes = |touched: Option<Touched>| match touched {
                    Some(Touched(low, high)) => format!("bytes {low}..{high}"),
                    None => "nothing".into(),
                };
                return Err(format!(
                    "it may read {} and write {} of slot {slot} ({:?}), which has {} bytes{}",
                    bytes(used.read),
                    bytes(used.written),
                    step.slots[slot],
                    extent.bytes,
                    if extent.writable { "" } else { " to be read only" },
                ));
            }
        }
        for (&slot, form) in &self.programs {
            if kernels::form(&step.program(slot)?)? != *form {
                return Err("the program of its epilogue is not that of the step whose code it shares".into());
            }
        }
        Ok(())
    }

    fn touch(&mut self, slot: usize, touched: Touched, write: bool) {
        let used = self.slots.entry(slot).or_default();
        let known = if write { &mut used.written } else { &mut used.read };
        *known = Some(known.map_or(touched, |before| before.union(touched)));
    }
}
