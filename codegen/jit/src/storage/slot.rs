//! The memory that the code of a step accesses: slots, tensors in slots, and rows of tensors.

use super::buffer::Buffer;

/// The memory to which a slot of a step's function points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A region of the activation memory.
    Region(usize),
    /// A constant, by its byte offset in the constants.
    Constant(usize),
    /// An input of the program, in the caller's memory.
    Input(usize),
    /// Scratch memory, which only one call uses at a time.
    Scratch,
}

/// The slot of a tensor, and its layout.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// The slot.
    pub slot: Slot,
    /// The layout.
    pub buffer: Buffer,
}

/// Rows of a tensor in a slot, or parts of the sequence of its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPlace {
    pub slot: usize,
    /// Bytes from the slot to the first row or part.
    pub origin: i64,
    /// Bytes from each to the next.
    pub row: i64,
}

/// The memory that a step accesses, if its work units are the rows of its output, or parts of the sequence of its pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowAccess {
    /// Slot of the input, any part of which the step may read.
    pub input: usize,
    /// The rows or parts that it writes.
    pub output: RowPlace,
    /// The tensors of which it reads only the rows or parts that it writes.
    pub operands: Vec<RowPlace>,
}
