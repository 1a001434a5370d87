//! Errors of compiling and running a program.

use thiserror::Error;

/// Why a program could not be compiled or run.
#[derive(Debug, Error)]
pub enum JitError {
    /// The CPU lacks the instructions that every kernel needs.
    #[error(
        "this CPU has no instruction set that kernels exist for; x86-64 with SSSE3 and SSE4.1 (x86-64-v2) or AArch64 with Advanced SIMD \
         is the least that is needed"
    )]
    Cpu,
    /// The CPU cannot run code of the requested tier.
    #[error("this CPU cannot run code for `{tier}`; leave the choice to the runtime or name a weaker tier")]
    Tier {
        /// The requested tier.
        tier: catc_kernels::Tier,
    },
    /// A name that is not a C identifier.
    #[error(
        "{name:?} cannot begin the names of C functions; letters, digits and underscores can, not starting with a digit"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The program needs more than a limit allows.
    #[error(
        "{what} of this model: {needed}, more than the limit of {allowed}; raise `Limits::{limit}`{} if the model is to be trusted",
        option(limit)
    )]
    Limit {
        /// What is limited.
        what: &'static str,
        /// How much the program needs.
        needed: u64,
        /// The field of [`crate::Limits`].
        limit: &'static str,
        /// How much is allowed.
        allowed: u64,
    },
    /// Code that is not proved to stay within its memory. It is never run.
    #[error(
        "the code of step `{step}` is not proved to stay within its memory, and is not run: {reason}. This is a fault of catc"
    )]
    Unproved {
        /// The step.
        step: String,
        /// What could not be proved.
        reason: String,
    },
    /// The program breaks a rule for all programs.
    #[error(transparent)]
    Program(#[from] catc_program::InvalidProgram),
    /// The program contradicts itself, or no kernel supports a step.
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
    /// Weights that the kernel of the step does not support.
    #[error("step `{step}`: {source}")]
    Weights {
        /// The step.
        step: String,
        /// Why.
        source: catc_kernels::PackError,
    },
    /// Cranelift returned an error, which is a defect of the code generator.
    #[error("code generation failed at step `{step}`: {message}; this is a defect of catc, please report it")]
    Codegen {
        /// The step.
        step: String,
        /// The message of Cranelift.
        message: String,
    },
    /// A run cannot be done, for example because its inputs do not fit the program.
    #[error("{0}")]
    Run(String),
}

impl JitError {
    pub(crate) fn invalid(at: &str, reason: impl Into<String>) -> JitError {
        JitError::Invalid { at: at.to_string(), reason: reason.into() }
    }
}

/// The command-line option that raises a limit, as text in parentheses; empty if there is none.
fn option(limit: &str) -> &'static str {
    if limit == "memory" { " (`--max-memory`)" } else { "" }
}
