//! Why a graph or its inputs cannot be evaluated.

use catc_ir::{QFormat, Shape, ValueId};

/// Why an evaluation failed. The caller gets no results, except those that an observer was shown before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The graph breaks rules of the verifier.
    #[error("the graph is not valid: {0}")]
    Invalid(String),
    /// The number of inputs is wrong.
    #[error("the graph takes {expected} inputs, {found} were given")]
    InputCount {
        /// The number of inputs of the graph.
        expected: usize,
        /// The number of given tensors.
        found: usize,
    },
    /// A given tensor does not have the shape of its value.
    #[error("{value}: a tensor of shape {found:?} was given, {expected} is needed")]
    Shape {
        /// The value.
        value: ValueId,
        /// The shape of the value.
        expected: Shape,
        /// The shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor has the wrong element type.
    #[error("{place}: {expected} elements are needed")]
    Element {
        /// The value or node.
        place: String,
        /// The required element type.
        expected: &'static str,
    },
    /// A given tensor holds a code outside the range of its format.
    #[error("{value}: {code} is no code of {format}")]
    Code {
        /// The value.
        value: ValueId,
        /// The code.
        code: i16,
        /// The format.
        format: QFormat,
    },
    /// The given tensors do not agree on the batch size.
    #[error("{value} is given for {found} images, values before it for {expected}")]
    Batch {
        /// The value that disagrees.
        value: ValueId,
        /// The number of images of the values before it.
        expected: usize,
        /// The number of images of this value.
        found: usize,
    },
    /// The graph has no such value.
    #[error("{0} is no value of the graph")]
    Unknown(ValueId),
    /// A wanted value depends on a graph input that was not given.
    #[error("{0} is an input of the graph that is needed and was not given")]
    NotGiven(ValueId),
    /// An index is out of range.
    #[error("{place}: index {index} is outside a table of {size}")]
    Index {
        /// The node.
        place: String,
        /// The index.
        index: i64,
        /// The number of entries of the table.
        size: usize,
    },
    /// The evaluation would need more memory than allowed.
    #[error(
        "evaluating {batch} images needs about {needed} bytes, the limit is {limit}; use smaller batches or raise the limit"
    )]
    Memory {
        /// The batch size.
        batch: usize,
        /// The peak size of all values alive at the same time, in bytes.
        needed: u128,
        /// The limit in bytes.
        limit: usize,
    },
    /// An operation on the path of the gradients has no gradient.
    #[error("{place}: no gradient is defined for {op}; take gradients before the graph is lowered to it")]
    NoGradient {
        /// The node.
        place: String,
        /// The operation.
        op: &'static str,
    },
    /// The recorded evaluation cannot use a seed, or cannot compute a requested gradient.
    #[error("{place}: {message}")]
    Gradient {
        /// The value, constant or quantizer.
        place: String,
        /// Why it cannot be used.
        message: String,
    },
    /// A replacement does not fit its constant or quantizer.
    #[error("{place}: {message}")]
    Replacement {
        /// The constant or quantizer.
        place: String,
        /// Why it does not fit.
        message: String,
    },
}
