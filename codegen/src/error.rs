//! Errors of lowering a graph to a program.

use catc_ir::{Phase, Violation};
use catc_program::InvalidProgram;
use std::collections::HashSet;

/// Why a graph could not be lowered.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// The graph is not in the integer phase.
    #[error("the graph is in the {} phase: lower it to the integer phase first", .0.name())]
    Phase(Phase),
    /// The verifier rejects the graph.
    #[error("the graph breaks {} rules of the IR, the first at {}", .0.len(), .0.first().map(|v| v.to_string()).unwrap_or_default())]
    Unverified(Vec<Violation>),
    /// A node cannot be lowered to steps.
    #[error("cannot compile {:?} ({operator}): {reason}", .name)]
    Node {
        /// The node's name in the model.
        name: String,
        /// The node's operation.
        operator: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// Several nodes, inputs or outputs cannot be lowered.
    #[error("{}", listed(.0))]
    Several(Vec<CodegenError>),
    /// An input or output that a compiled network cannot have.
    #[error("cannot compile {port}: {reason}")]
    Port {
        /// The input or output.
        port: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The lowered program is not valid, for example because a size exceeds the limits of a program or a factor is not finite.
    #[error("the lowered graph cannot be run: {0}")]
    Invalid(#[from] InvalidProgram),
}

/// One line for each of the first few errors.
fn listed(errors: &[CodegenError]) -> String {
    const SHOWN: usize = 10;
    let mut text = format!("{} parts of the network cannot be compiled:", errors.len());
    errors.iter().take(SHOWN).for_each(|e| text += &format!("\n  - {e}"));
    if let Some(more) = errors.len().checked_sub(SHOWN).filter(|&n| n > 0) {
        text += &format!("\n  - and {more} more");
    }
    text
}

impl CodegenError {
    /// Replaces the operations of the graph by the operators of the model file. `operator_of` finds the operator by the name of
    /// the node.
    pub fn with_operators(self, operator_of: &dyn Fn(&str) -> Option<String>) -> CodegenError {
        match self {
            CodegenError::Node { name, operator, reason } => {
                let operator = operator_of(&name).unwrap_or(operator);
                CodegenError::Node { name, operator, reason }
            }
            CodegenError::Several(all) => {
                CodegenError::Several(all.into_iter().map(|e| e.with_operators(operator_of)).collect())
            }
            other => other,
        }
    }

    /// Combines errors into one. Duplicates are removed, because one node of the model may have become several nodes in the
    /// graph.
    pub(crate) fn all(errors: Vec<CodegenError>) -> Result<(), CodegenError> {
        let mut seen = HashSet::new();
        let mut errors: Vec<CodegenError> = errors.into_iter().filter(|e| seen.insert(e.to_string())).collect();
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(CodegenError::Several(errors)),
        }
    }
}
