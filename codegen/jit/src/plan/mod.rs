//! From a program to what is emitted: where every tensor lies, what every step's function reads, and its code.

pub(crate) mod bands;
pub(crate) mod bounds;
pub(crate) mod constants;
pub(crate) mod forms;
pub(crate) mod memory;
pub(crate) mod planner;
pub(crate) mod wish;

use crate::buffer::Buffer;
use crate::emit::emitter::Emitter;
use catc_kernels::KernelId;
use std::fmt::Debug;

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

/// Code of a step: emits the body of its function. Equal `Debug` texts mean equal code, so that layers of one shape share a
/// function.
pub(crate) trait StepCode: Debug {
    /// Emits the body.
    fn emit(&self, e: &mut Emitter<'_>);

    /// How the step reaches its tensors, if its work units are the rows of its output and it may be done with other steps some rows
    /// at a time.
    fn rows(&self) -> Option<bands::RowAccess> {
        None
    }
}

/// One function to be called.
#[derive(Debug)]
pub(crate) struct PlanStep {
    /// For messages and reports.
    pub name: String,
    /// What it does: the name of the program's operation, or `convert`.
    pub op: &'static str,
    /// The inner kernel, if it has one.
    pub kernel: Option<KernelId>,
    /// Pixels and vectors of its tile, if it has several.
    pub tile: Option<(usize, usize)>,
    /// The number of the program's step, if it is one alone.
    pub source: Option<usize>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// What its function reads and writes.
    pub slots: Vec<Slot>,
    /// Work units: a call does a range of them.
    pub units: usize,
    /// Scratch bytes.
    pub scratch: usize,
    /// The code.
    pub code: Box<dyn StepCode>,
    /// Regions read and written, for the memory plan.
    pub regions: Vec<usize>,
}

/// Memory of a tensor, and how it lies there.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// Where.
    pub slot: Slot,
    /// How.
    pub buffer: Buffer,
}
