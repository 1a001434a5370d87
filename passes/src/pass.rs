//! What a pass is: a named change of a graph that keeps its meaning up to a stated tolerance, or moves it to the next
//! phase.
//!
//! One pass is one file and one struct whose fields are its options. Its kebab-case name is also the name of the file
//! (with underscores), of its folder of tests and the word on the command line. Passes do no I/O, read no clock, and
//! take all randomness from the seed of the context.

use crate::context::PassContext;
use catc_ir::infer::InferError;
use catc_ir::{Graph, Phase, Violation};
use std::error::Error;
use std::fmt;

/// An error of a kind that this crate does not know, from a source of data or an evaluator.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Whether a pass changed the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The text of the graph differs from before.
    Yes,
    /// The text is unchanged, for this reason (a sentence fragment: "no batch_norm").
    No(String),
}

impl Changed {
    /// `Yes` if `changed`, else `No` for this reason.
    pub fn from_flag(changed: bool, reason: impl Into<String>) -> Self {
        if changed { Changed::Yes } else { Changed::No(reason.into()) }
    }

    /// Whether it is `Yes`.
    pub fn is_yes(&self) -> bool {
        *self == Changed::Yes
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Changed::Yes => f.write_str("changed"),
            Changed::No(reason) => write!(f, "unchanged, {reason}"),
        }
    }
}

/// A change of a graph.
pub trait Pass: fmt::Debug + Send + Sync {
    /// Its kebab-case name.
    fn name(&self) -> &'static str;

    /// The phases a graph may be in when the pass runs.
    fn phases(&self) -> &'static [Phase];

    /// The phase the graph is in afterwards; `None` leaves it as it was.
    fn produces(&self) -> Option<Phase> {
        None
    }

    /// Changes the graph. After an error the graph is unspecified.
    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError>;
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The graph is in a phase that the pass does not take.
    #[error("`{pass}` takes a graph in phase {expected}, this one is in phase {}", found.name())]
    Phase {
        /// The pass.
        pass: &'static str,
        /// The phases it takes.
        expected: String,
        /// The phase of the graph.
        found: Phase,
    },
    /// The pass needs something that the context does not hold.
    #[error("`{pass}` needs {what}")]
    Missing {
        /// The pass.
        pass: &'static str,
        /// What it needs and how to give it.
        what: String,
    },
    /// A calibration sample could not be read.
    #[error("calibration sample {index}: {source}")]
    Sample {
        /// Which one, from 0.
        index: usize,
        /// What its source says.
        source: BoxError,
    },
    /// The graph could not be evaluated.
    #[error("`{pass}` could not evaluate the graph: {source}")]
    Evaluation {
        /// The pass.
        pass: &'static str,
        /// What the evaluator says.
        source: BoxError,
    },
    /// A place in the graph that the pass cannot handle.
    #[error("`{pass}` at {place}: {message}")]
    Graph {
        /// The pass.
        pass: &'static str,
        /// The node or value ([`Graph::label`]).
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A pass made a node whose inputs do not fit together: a bug in the pass.
    #[error("`{pass}` made an unsound node at {place}: {source}")]
    Infer {
        /// The pass.
        pass: &'static str,
        /// The node.
        place: String,
        /// What inference says.
        source: Box<InferError>,
    },
    /// The graph that a pass left, or the one it was given, breaks rules of the verifier.
    #[error("the graph is unsound {when}:{}", violations.iter().map(|v| format!("\n  {v}")).collect::<String>())]
    Unsound {
        /// "before all passes" or "after `name`".
        when: String,
        /// Every broken rule.
        violations: Vec<Violation>,
    },
    /// A pass said that it changed the graph and did not, or the other way round.
    #[error("`{pass}` reports {reported:?}, but the text of the graph says otherwise")]
    Misreported {
        /// The pass.
        pass: &'static str,
        /// What it said.
        reported: Changed,
    },
}

impl PassError {
    /// [`PassError::Graph`].
    pub fn graph(pass: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        PassError::Graph { pass, place: place.into(), message: message.into() }
    }

    /// [`PassError::Missing`].
    pub fn missing(pass: &'static str, what: impl Into<String>) -> Self {
        PassError::Missing { pass, what: what.into() }
    }

    /// [`PassError::Evaluation`].
    pub fn evaluation(pass: &'static str, source: impl Into<BoxError>) -> Self {
        PassError::Evaluation { pass, source: source.into() }
    }

    /// Makes a [`PassError::Infer`] of an inference error.
    pub fn infer(pass: &'static str, place: impl Into<String>) -> impl FnOnce(InferError) -> Self {
        let place = place.into();
        move |source| PassError::Infer { pass, place, source: Box::new(source) }
    }
}
