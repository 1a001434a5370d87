//! What can go wrong between a program and its machine code.

use thiserror::Error;

/// Why a program could not be compiled or run.
#[derive(Debug, Error)]
pub enum JitError {
    /// The CPU lacks what every kernel needs.
    #[error(
        "this CPU has no instruction set that kernels exist for; x86-64 with SSSE3 and SSE4.1 (x86-64-v2) or AArch64 with Advanced SIMD \
         is the least that is needed"
    )]
    Cpu,
    /// The CPU cannot run code of the tier that was asked for.
    #[error("this CPU cannot run code for `{tier}`; leave the choice to the runtime or name a weaker tier")]
    Tier {
        /// The tier asked for.
        tier: catc_kernels::Tier,
    },
    /// A name that C does not take.
    #[error(
        "{name:?} cannot begin the names of C functions; letters, digits and underscores can, not starting with a digit"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The program asks for more than it may have.
    #[error(
        "{what} of this model: {needed}, more than the limit of {allowed}; raise `Limits::{limit}`{} if the model is to be trusted",
        option(limit)
    )]
    Limit {
        /// What it asks for.
        what: &'static str,
        /// How much of it.
        needed: u64,
        /// The field of [`crate::Limits`].
        limit: &'static str,
        /// What is allowed.
        allowed: u64,
    },
    /// Code that may leave its memory, which is never run.
    #[error(
        "the code of step `{step}` is not proved to stay within its memory, and is not run: {reason}. This is a fault of catc"
    )]
    Unproved {
        /// The step.
        step: String,
        /// What could not be proved.
        reason: String,
    },
    /// The program breaks a rule that every program must keep.
    #[error(transparent)]
    Program(#[from] catc_program::InvalidProgram),
    /// The program contradicts itself or asks for what no kernel does.
    #[error("`{at}`: {reason}")]
    Invalid {
        /// The step or tensor.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor would not fit any memory.
    #[error("tensor `{tensor}` is too large for memory")]
    TooLarge {
        /// The tensor.
        tensor: String,
    },
    /// Weights that no kernel takes.
    #[error("step `{step}`: {source}")]
    Weights {
        /// The step.
        step: String,
        /// Why.
        source: catc_kernels::PackError,
    },
    /// Cranelift refused; a defect of the code generator.
    #[error("code generation failed at step `{step}`: {message}; this is a defect of catc, please report it")]
    Codegen {
        /// The step.
        step: String,
        /// What Cranelift said.
        message: String,
    },
    /// What was handed to a run does not fit the program.
    #[error("{0}")]
    Run(String),
}

impl JitError {
    pub(crate) fn invalid(at: &str, reason: impl Into<String>) -> JitError {
        JitError::Invalid { at: at.to_string(), reason: reason.into() }
    }
}

/// The option of the command that raises a limit, if there is one.
fn option(limit: &str) -> &'static str {
    if limit == "memory" { " (`--max-memory`)" } else { "" }
}
