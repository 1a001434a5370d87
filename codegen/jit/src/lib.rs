//! Compiles programs to machine code with Cranelift.
//!
//! [`compile`] takes a program through these stages, each a folder or file of this crate:
//!
//! 1. `assign` decides how every tensor is stored (f32, one byte per code, or one byte per two 2-bit codes as the offset of a look-up
//!    table's row), which padding surrounds it, and which kernel every convolution gets ([`catc_kernels`]).
//! 2. `steps` has one file per kind of step. Each lowers a step with `builder`: it packs weights and lists the memory that the step's
//!    function accesses. It emits the function's body with `emit`: loops, access to a few neighbouring elements, f32 functions, epilogues.
//!    A step that cannot read a tensor's format gets a converted copy. Differences between instruction sets are in `emit/target.rs` only.
//! 3. `place` decides which steps share a function (`row_fusion`) and which tensors share memory (`memory`).
//! 4. `functions` and `verify` emit each function and prove that it stays within its memory.
//! 5. `code` and `compiled` hold the functions in executable memory; [`CompiledProgram::run`] calls them in order.
//!
//! [`object()`] shares the first four stages. It writes the functions to an object file, with an entry function that calls them.
//!
//! Integer results are exact and equal on every tier. The f32 results of quantized layers are those of the program's operations in their
//! documented order, in which a multiplication and an addition are never fused. Layers that are not quantized add in their own order.

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

/// Options of [`compile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The instruction set; the strongest of this CPU if `None`.
    pub tier: Option<catc_kernels::Tier>,
    /// The kernels to choose from.
    pub kernels: &'static [catc_kernels::KernelRef],
    /// Limits on the resources of compiling and running.
    pub limits: Limits,
}

impl Default for Options {
    /// The strongest instruction set of this CPU, all kernels, and the default limits.
    fn default() -> Options {
        Options { tier: None, kernels: catc_kernels::KERNELS, limits: Limits::default() }
    }
}
