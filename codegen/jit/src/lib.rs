//! Programs to machine code with Cranelift.
//!
//! [`compile`] takes a program through these stages, each a folder or file of this crate:
//!
//! 1. `assign`: how every tensor is stored (f32, a byte per code, two 2-bit codes as the offset of a look-up table's row), which
//!    padding lies around it, and which kernel every convolution gets ([`catc_kernels`]).
//! 2. `steps`: one file per kind of step. Each lowers a step (packs weights, lists the memory its function touches) with the means of
//!    `builder`, and emits the function's body with the means of `emit`: loops, access to a few neighbouring elements, f32 functions,
//!    epilogues. A step that cannot read how a tensor is stored gets a converted copy. What differs between instruction sets is in
//!    `emit/target.rs` alone.
//! 3. `place`: which steps share a function (`row_fusion`), and which tensors share memory (`memory`).
//! 4. `functions` and `verify`: emission, and the proof that a function stays within its memory.
//! 5. `code` and `compiled`: the functions in executable memory, and [`CompiledProgram::run`], which calls them in order.
//!
//! [`object()`] shares the first four stages and writes the functions to an object file instead, with an entry function that calls
//! them.
//!
//! Integer results are exact and equal on every tier; f32 results of the integer phase are the operations of the program in
//! their documented order, a multiply and an add never fused. Layers left in float sum in an order of their own.

mod assign;
mod block;
mod builder;
mod code;
mod compiled;
mod emit;
mod error;
mod explain;
mod functions;
mod isa;
mod limits;
mod memory;
#[cfg(feature = "object")]
mod object;
mod parallel_for;
mod place;
mod row_fusion;
mod steps;
mod storage;
mod tune;
mod verify;
mod weights;

pub use builder::Work;
pub use compiled::{CompiledProgram, Input, OutputMut, StepReport, Workspace, compile, prove};
pub use error::JitError;
pub use explain::{StepKernels, explain};
pub use limits::Limits;
#[cfg(feature = "object")]
pub use object::{ObjectFile, ObjectOptions, ObjectStep, is_c_identifier, object};
pub use parallel_for::{ParallelFor, chunk_size};
pub use tune::{Tuned, tune};

/// What code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The instruction set; the best of this CPU if `None`.
    pub tier: Option<catc_kernels::Tier>,
    /// The kernels to choose from.
    pub kernels: &'static [catc_kernels::KernelRef],
    /// What compiling and running may take.
    pub limits: Limits,
}

impl Default for Options {
    /// The best instruction set of this CPU, all kernels, the usual limits.
    fn default() -> Options {
        Options { tier: None, kernels: catc_kernels::KERNELS, limits: Limits::default() }
    }
}
