//! What a name of the model stands for while it is translated.

use crate::size::Size;
use catc_ir::{Element, Shape, Tensor, TensorData, ValueId};
use std::sync::Arc;

/// A tensor: computed by the graph, or known now.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A value of the graph.
    Computed(ValueId),
    /// Initializers, constants and what is computed from shapes.
    Known(Known),
}

/// A tensor whose elements are known when the model is imported. It enters the graph when a node takes it.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Elements that do not depend on the batch.
    Tensor(Arc<Tensor>),
    /// Whole numbers of which at least one depends on the batch.
    Sizes {
        /// Sizes of the tensor.
        shape: Vec<usize>,
        /// Its elements.
        items: Vec<Size>,
    },
}

impl Known {
    /// Whole numbers under a shape of as many elements.
    pub fn sizes(shape: Vec<usize>, items: Vec<Size>) -> Self {
        match items.iter().map(|s| s.fixed()).collect::<Option<Vec<i64>>>() {
            Some(fixed) => Known::Tensor(Arc::new(Tensor::new(shape, TensorData::I64(fixed)))),
            None => Known::Sizes { shape, items },
        }
    }

    /// A list of whole numbers.
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

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Known::Tensor(t) => t.len(),
            Known::Sizes { items, .. } => items.len(),
        }
    }

    /// What it holds.
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

    /// Its elements, if they are whole numbers.
    pub fn as_sizes(&self) -> Option<Vec<Size>> {
        match self {
            Known::Tensor(t) => Some(t.as_i64()?.iter().map(|&n| Size::Fixed(n)).collect()),
            Known::Sizes { items, .. } => Some(items.clone()),
        }
    }

    /// Its elements, if they are reals.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match self {
            Known::Tensor(t) => t.as_f32(),
            Known::Sizes { .. } => None,
        }
    }

    /// Its shape as the IR writes it.
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
