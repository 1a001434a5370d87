//! A function to be called, before its memory is placed.

use crate::emit::SharedCode;
use crate::storage::Slot;
use catc_kernels::{Choice, KernelRef};

/// One step of the program as a function executes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The number of the program's step.
    pub source: usize,
    /// The inner kernel, if it has one.
    pub kernel: Option<KernelRef>,
    /// Pixels and vectors of output channels of the kernel's tile, if it has several.
    pub tile: Option<(usize, usize)>,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// Estimated cycles of the kernel, for an image on one thread.
    pub cycles: Option<f64>,
}

/// One function to be called.
#[derive(Debug)]
pub(crate) struct UnplacedStep {
    /// For messages and reports.
    pub name: String,
    /// The name of the program's operation, or `convert`.
    pub op: &'static str,
    /// The steps of the program that it executes; one unless functions were joined.
    pub work: Vec<Work>,
    /// The memory that its function reads and writes.
    pub slots: Vec<Slot>,
    /// Work units; a call executes a range of them.
    pub units: usize,
    /// Scratch bytes.
    pub scratch: usize,
    /// The code.
    pub code: SharedCode,
    /// Regions read and written, for the memory plan.
    pub regions: Vec<usize>,
}

impl UnplacedStep {
    /// Records the kernel and its work.
    pub fn with_kernel(&mut self, choice: &Choice, macs: u64, tile: Option<(usize, usize)>) -> &mut Self {
        for work in &mut self.work {
            (work.kernel, work.macs, work.cycles, work.tile) = (Some(choice.kernel), macs, Some(choice.cycles), tile);
        }
        self
    }

    /// Records a kernel that was not chosen among several, its tile, and its estimated cycles.
    pub fn with_tile(&mut self, kernel: KernelRef, tile: (usize, usize), cycles: f64) -> &mut Self {
        for work in &mut self.work {
            (work.kernel, work.tile, work.cycles) = (Some(kernel), Some(tile), Some(cycles));
        }
        self
    }

    /// Records the multiply-accumulates of a step.
    pub fn with_macs(&mut self, macs: u64) -> &mut Self {
        for work in &mut self.work {
            work.macs = macs;
        }
        self
    }
}
