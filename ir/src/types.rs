//! Element types, dimensions and shapes.

use crate::QuantizerId;
use smallvec::SmallVec;
use std::fmt;

/// One dimension of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size known when the model is imported.
    Fixed(usize),
    /// This multiple of the symbolic batch size `N`. Printed as `N`, `2N`, ...
    Batch(usize),
}

impl Dim {
    /// The batch size, `N`.
    pub const N: Dim = Dim::Batch(1);

    /// The size, if it does not depend on the batch.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(n),
            Dim::Batch(_) => None,
        }
    }

    /// The size for `batch` images.
    pub fn at_batch(self, batch: usize) -> usize {
        match self {
            Dim::Fixed(n) => n,
            Dim::Batch(k) => k * batch,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Batch(1) => f.write_str("N"),
            Dim::Batch(k) => write!(f, "{k}N"),
        }
    }
}

/// The dimensions of a tensor, outermost first. Image tensors are NCHW.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(pub SmallVec<[Dim; 4]>);

impl Shape {
    /// A shape from its dimensions.
    pub fn new(dims: impl IntoIterator<Item = Dim>) -> Self {
        Shape(dims.into_iter().collect())
    }

    /// A shape without a batch dimension.
    pub fn fixed(dims: &[usize]) -> Self {
        Shape(dims.iter().map(|&n| Dim::Fixed(n)).collect())
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dimensions.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The sizes, if none of them depends on the batch.
    pub fn as_fixed(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|d| d.fixed()).collect()
    }

    /// The sizes for `batch` images.
    pub fn at_batch(&self, batch: usize) -> Vec<usize> {
        self.0.iter().map(|d| d.at_batch(batch)).collect()
    }

    /// The number of elements as `(fixed factor, power of N)`. `None` if the factor overflows.
    pub fn volume(&self) -> Option<(usize, u32)> {
        self.0.iter().try_fold((1usize, 0u32), |(n, p), d| match *d {
            Dim::Fixed(k) => Some((n.checked_mul(k)?, p)),
            Dim::Batch(k) => Some((n.checked_mul(k)?, p + 1)),
        })
    }

    /// Numpy-style broadcast of two shapes. `None` if they are incompatible.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let dim = |s: &Shape, i: usize| {
            let missing = rank - s.rank();
            if i < missing { Dim::Fixed(1) } else { s.0[i - missing] }
        };
        (0..rank)
            .map(|i| match (dim(self, i), dim(other, i)) {
                (a, b) if a == b => Some(a),
                (Dim::Fixed(1), b) => Some(b),
                (a, Dim::Fixed(1)) => Some(a),
                _ => None,
            })
            .collect::<Option<SmallVec<_>>>()
            .map(Shape)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// Indices and shapes.
    I64,
    /// Booleans.
    Bool,
    /// Codes of a quantizer: integers that represent `scale * (code - zero_point)`.
    Code(QuantizerId),
}

impl Element {
    /// The quantizer, if the elements are codes.
    pub fn quantizer(self) -> Option<QuantizerId> {
        match self {
            Element::Code(q) => Some(q),
            _ => None,
        }
    }
}

/// The element type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub element: Element,
    /// The shape.
    pub shape: Shape,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(element: Element, shape: Shape) -> Self {
        TensorType { element, shape }
    }

    /// An f32 tensor.
    pub fn f32(shape: Shape) -> Self {
        TensorType { element: Element::F32, shape }
    }
}
