//! Why a graph or its inputs cannot be evaluated.

use catc_ir::{QFormat, Shape, ValueId};

/// Why an evaluation failed. Nothing was computed that the caller could see, except what an observer was shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The graph breaks rules of the verifier.
    #[error("the graph is not valid: {0}")]
    Invalid(String),
    /// Too few or too many inputs.
    #[error("the graph takes {expected} inputs, {found} were given")]
    InputCount {
        /// Inputs of the graph.
        expected: usize,
        /// Tensors given.
        found: usize,
    },
    /// A given tensor has another shape than its value.
    #[error("{value}: a tensor of shape {found:?} was given, {expected} is needed")]
    Shape {
        /// The value.
        value: ValueId,
        /// Its shape.
        expected: Shape,
        /// The shape of the tensor.
        found: Vec<usize>,
    },
    /// A given tensor holds other elements than its value.
    #[error("{place}: {expected} elements are needed")]
    Element {
        /// The value or node.
        place: String,
        /// What it must hold.
        expected: &'static str,
    },
    /// A given tensor holds a code that its format does not have.
    #[error("{value}: {code} is no code of {format}")]
    Code {
        /// The value.
        value: ValueId,
        /// The code.
        code: i16,
        /// Its format.
        format: QFormat,
    },
    /// The given tensors do not agree on the batch size.
    #[error("{value} is given for {found} images, values before it for {expected}")]
    Batch {
        /// The value that disagrees.
        value: ValueId,
        /// Images of the values before it.
        expected: usize,
        /// Images of this one.
        found: usize,
    },
    /// The graph has no such value.
    #[error("{0} is no value of the graph")]
    Unknown(ValueId),
    /// What is wanted depends on a graph input that was not given.
    #[error("{0} is an input of the graph that is needed and was not given")]
    NotGiven(ValueId),
    /// An index beyond its table.
    #[error("{place}: index {index} is outside a table of {size}")]
    Index {
        /// The node.
        place: String,
        /// The index.
        index: i64,
        /// Entries of the table.
        size: usize,
    },
    /// The evaluation would take more memory than allowed.
    #[error(
        "evaluating {batch} images needs about {needed} bytes, the limit is {limit}; use smaller batches or raise the limit"
    )]
    Memory {
        /// Images of the batch.
        batch: usize,
        /// Bytes of all values alive at the worst moment.
        needed: u128,
        /// Bytes allowed.
        limit: usize,
    },
    /// Gradients were asked for through an operation that has none.
    #[error("{place}: no gradient is defined for {op}; take gradients before the graph is lowered to it")]
    NoGradient {
        /// The node.
        place: String,
        /// The operation.
        op: &'static str,
    },
    /// A gradient to start from, or a place to take one at, that the recorded evaluation does not have.
    #[error("{place}: {message}")]
    Gradient {
        /// The value, constant or quantizer.
        place: String,
        /// Why it cannot be used.
        message: String,
    },
    /// A tensor that replaces a constant or quantizer has another type.
    #[error("{place}: {message}")]
    Replacement {
        /// The constant or quantizer.
        place: String,
        /// Why it does not fit.
        message: String,
    },
}
