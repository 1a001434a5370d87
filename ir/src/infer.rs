//! Errors and helpers of shape inference. The inference rules are defined with the operations.

use crate::types::{Dim, Element, Shape, TensorType};

/// Why an operation does not accept its inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// There are too few or too many inputs.
    #[error("takes {expected} inputs, not {found}")]
    Arity {
        /// The accepted number of inputs.
        expected: &'static str,
        /// The given number of inputs.
        found: usize,
    },
    /// An input has the wrong element type.
    #[error("input {index} must be {expected}")]
    Element {
        /// Which input.
        index: usize,
        /// The required element type.
        expected: &'static str,
    },
    /// An input has the wrong shape.
    #[error("input {index} has shape {found}, {expected} is needed")]
    Shape {
        /// Which input.
        index: usize,
        /// The shape of the input.
        found: Shape,
        /// The required shape.
        expected: String,
    },
    /// An attribute is not valid for these inputs.
    #[error("{0}")]
    Attribute(String),
}

/// The types of a node's inputs, with the checks that most operations share.
pub struct Inputs<'a>(pub &'a [TensorType]);

impl Inputs<'_> {
    /// The number of inputs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no inputs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an error unless there are between `min` and `max` inputs.
    pub fn arity(&self, min: usize, max: usize, expected: &'static str) -> Result<(), InferError> {
        if (min..=max).contains(&self.len()) { Ok(()) } else { Err(InferError::Arity { expected, found: self.len() }) }
    }

    /// The type of input `index`.
    pub fn ty(&self, index: usize) -> &TensorType {
        &self.0[index]
    }

    /// The shape of input `index`.
    pub fn shape(&self, index: usize) -> &Shape {
        &self.0[index].shape
    }

    /// Returns the shape of input `index`, or an error if it is not f32.
    pub fn f32(&self, index: usize) -> Result<&Shape, InferError> {
        match self.0[index].element {
            Element::F32 => Ok(&self.0[index].shape),
            _ => Err(InferError::Element { index, expected: "f32" }),
        }
    }

    /// Returns an error unless every input is f32.
    pub fn all_f32(&self) -> Result<(), InferError> {
        (0..self.len()).try_for_each(|i| self.f32(i).map(|_| ()))
    }

    /// An error that states the required shape of input `index`.
    pub fn bad_shape(&self, index: usize, expected: impl Into<String>) -> InferError {
        InferError::Shape { index, found: self.shape(index).clone(), expected: expected.into() }
    }

    /// Returns an error unless input `index` has exactly this shape.
    pub fn expect_shape(&self, index: usize, shape: &Shape) -> Result<(), InferError> {
        if self.shape(index) == shape { Ok(()) } else { Err(self.bad_shape(index, shape.to_string())) }
    }

    /// The shape to which inputs `a` and `b` broadcast.
    pub fn broadcast(&self, a: usize, b: usize) -> Result<Shape, InferError> {
        let (left, right) = (self.shape(a), self.shape(b));
        left.broadcast(right).ok_or_else(|| self.bad_shape(b, format!("one that broadcasts with {left}")))
    }

    /// The four dimensions of an NCHW input whose last three are fixed: `(n, c, h, w)`.
    pub fn nchw(&self, index: usize) -> Result<(Dim, usize, usize, usize), InferError> {
        match self.shape(index).dims() {
            [n, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => Ok((*n, *c, *h, *w)),
            _ => Err(self.bad_shape(index, "[N,C,H,W] with fixed C, H, W")),
        }
    }
}
