//! What the code of a step reaches: slots, tensors in them, and rows of tensors.

use super::buffer::Buffer;

/// What a slot of a step's function points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A region of the activation memory.
    Region(usize),
    /// A byte offset in the constants.
    Constant(usize),
    /// An input of the program, as the caller handed it in.
    Input(usize),
    /// Memory that only one call uses.
    Scratch,
}

/// Memory of a tensor, and how it lies there.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Where.
    pub slot: Slot,
    /// How.
    pub buffer: Buffer,
}

/// Rows of a tensor in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPlace {
    pub slot: usize,
    /// Bytes from the slot to the first row.
    pub origin: i64,
    /// Bytes from row to row.
    pub row: i64,
}

/// How a step whose work units are the rows of its output reaches its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowAccess {
    /// Slot of what the step reads whole.
    pub input: usize,
    /// Where it writes.
    pub output: RowPlace,
    /// What it reads the same rows of as it writes.
    pub operands: Vec<RowPlace>,
}
