//! Programs to machine code with Cranelift.
//!
//! [`compile`] takes a program through three stages, each a folder or file of this crate:
//!
//! 1. `plan`: which form every tensor has (f32, a byte per code, two 2-bit codes as the offset of a look-up table's row), which
//!    padding lies around it, which kernel every convolution gets ([`catc_kernels`]), and, when all steps are lowered, which
//!    tensors share memory. A step that cannot read a tensor's form gets a converted copy.
//! 2. `steps`: one file per kind of layer. Each lowers a step (packs weights, lists the memory its function touches) and emits the
//!    function's body, from the means in `emit`: loops, access to a few neighbouring elements, f32 functions, epilogues. What differs
//!    between instruction sets is in `emit/target.rs` alone.
//! 3. `code` and `compiled`: the functions in executable memory, and [`CompiledProgram::run`], which calls them in order.
//!
//! [`object()`] shares the first two stages and writes the functions to an object file instead, with an entry function that calls
//! them.
//!
//! Integer results are exact and equal on every tier; f32 results of the integer phase are the operations of the program in
//! their documented order, a multiply and an add never fused. Layers left in float sum in an order of their own.

mod arrange;
mod block;
mod buffer;
mod code;
mod compiled;
mod emit;
mod error;
mod functions;
mod isa;
mod limits;
#[cfg(feature = "object")]
mod object;
mod parallel_for;
mod plan;
mod steps;
mod tune;
mod verify;

pub use compiled::{CompiledProgram, Input, OutputMut, StepReport, Workspace, compile, prove};
pub use error::JitError;
pub use limits::Limits;
#[cfg(feature = "object")]
pub use object::{ObjectFile, ObjectOptions, ObjectStep, is_c_identifier, object};
pub use parallel_for::{ParallelFor, chunk_size};
pub use tune::{Tuned, tune};

/// What code is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The instruction set; the best of this CPU if `None`.
    pub tier: Option<catc_kernels::Tier>,
    /// What compiling and running may take.
    pub limits: Limits,
}
