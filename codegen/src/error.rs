//! Why a graph has no program.

use catc_ir::{Phase, Violation};
use catc_program::InvalidProgram;
use std::collections::HashSet;

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
    #[error("cannot compile {:?} ({operator}): {reason}", .name)]
    Node {
        /// Its name in the model.
        name: String,
        /// Its operation.
        operator: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// Several nodes, inputs and outputs.
    #[error("{}", listed(.0))]
    Several(Vec<CodegenError>),
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

/// A line for each, of the first few.
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
    /// The same with the operators of the model's file, by the names of nodes, in place of operations of the graph.
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

    /// All of several as one. A node of the model that became several in the graph is named once.
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
