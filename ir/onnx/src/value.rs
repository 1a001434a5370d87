//! The values of names during the translation of a model.

use crate::size::Size;
use catc_ir::{Element, Shape, Tensor, TensorData, ValueId};
use std::sync::Arc;

/// A tensor that the graph computes, or that is known at import.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A value of the graph.
    Computed(ValueId),
    /// A known tensor: an initializer, a constant, or the result of a computation on shapes.
    Known(Known),
}

/// A tensor whose elements are known at import. It is added to the graph when a node uses it.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// A tensor whose elements do not depend on the batch.
    Tensor(Arc<Tensor>),
    /// Integers, of which at least one depends on the batch.
    Sizes {
        /// The sizes of the tensor.
        shape: Vec<usize>,
        /// The elements.
        items: Vec<Size>,
    },
}

impl Known {
    /// A tensor of integers. The number of items must match the shape.
    pub fn sizes(shape: Vec<usize>, items: Vec<Size>) -> Self {
        match items.iter().map(|s| s.fixed()).collect::<Option<Vec<i64>>>() {
            Some(fixed) => Known::Tensor(Arc::new(Tensor::new(shape, TensorData::I64(fixed)))),
            None => Known::Sizes { shape, items },
        }
    }

    /// A list of integers.
    pub fn list(items: Vec<Size>) -> Self {
        Known::sizes(vec![items.len()], items)
    }

    /// The sizes of the tensor.
    pub fn shape(&self) -> &[usize] {
        match self {
            Known::Tensor(t) => t.shape(),
            Known::Sizes { shape, .. } => shape,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Known::Tensor(t) => t.len(),
            Known::Sizes { items, .. } => items.len(),
        }
    }

    /// The element type.
    pub fn element(&self) -> Element {
        match self {
            Known::Sizes { .. } => Element::I64,
            Known::Tensor(t) => match t.data() {
                TensorData::F32(_) => Element::F32,
                TensorData::Bool(_) => Element::Bool,
                TensorData::I64(_) | TensorData::Code(_) => Element::I64,
            },
        }
    }

    /// The elements, if they are integers.
    pub fn as_sizes(&self) -> Option<Vec<Size>> {
        match self {
            Known::Tensor(t) => Some(t.as_i64()?.iter().map(|&n| Size::Fixed(n)).collect()),
            Known::Sizes { items, .. } => Some(items.clone()),
        }
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match self {
            Known::Tensor(t) => t.as_f32(),
            Known::Sizes { .. } => None,
        }
    }

    /// The shape as a type of the IR.
    pub fn ir_shape(&self) -> Shape {
        Shape::fixed(self.shape())
    }
}

impl From<Tensor> for Known {
    fn from(t: Tensor) -> Self {
        Known::Tensor(Arc::new(t))
    }
}

impl From<Known> for Value {
    fn from(k: Known) -> Self {
        Value::Known(k)
    }
}
