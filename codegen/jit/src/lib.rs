//! Programs to machine code with Cranelift.
//!
//! [`compile`] plans how every tensor lies in memory ([`buffer`], [`plan`]), packs the weights for the kernels the CPU can run,
//! and emits one function per step ([`steps`], on top of [`emit`]). [`CompiledProgram::run`] calls them in order.
//!
//! Integer results are exact and equal on every tier; f32 results of the integer phase are the operations of the program in
//! their documented order, a multiply and an add never fused.

mod buffer;
mod code;
mod compiled;
mod emit;
mod error;
mod isa;
mod plan;
mod steps;

pub use compiled::{CompiledProgram, Input, OutputMut, StepReport, Workspace, compile};
pub use error::JitError;

/// What code is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The instruction set; the best of this CPU if `None`.
    pub tier: Option<catc_kernels::Tier>,
}
