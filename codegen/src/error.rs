//! Why a graph has no program.

use catc_ir::{Phase, Violation};
use catc_program::InvalidProgram;

/// Why a graph could not be lowered.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// It is not in the integer phase.
    #[error("the graph is in the {} phase: lower it to the integer phase first", .0.name())]
    Phase(Phase),
    /// The verifier does not accept it.
    #[error("the graph breaks {} rules of the IR, the first at {}", .0.len(), .0.first().map(|v| v.to_string()).unwrap_or_default())]
    Unverified(Vec<Violation>),
    /// A node that no step can stand for.
    #[error("cannot compile {node}: {reason}")]
    Node {
        /// Its name and operation.
        node: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// An input or output that a compiled network cannot have.
    #[error("cannot compile {port}: {reason}")]
    Port {
        /// Which one.
        port: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// What came out could not be run: sizes beyond the bounds of a program, or factors that are no numbers.
    #[error("the lowered graph cannot be run: {0}")]
    Invalid(#[from] InvalidProgram),
}
