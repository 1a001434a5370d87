//! Reductions over axes.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// Returns the size of `axis`, or an error unless it is a fixed dimension of `shape`.
pub(crate) fn check_axis(shape: &Shape, axis: usize) -> Result<usize, InferError> {
    match shape.dims().get(axis) {
        Some(Dim::Fixed(n)) => Ok(*n),
        Some(Dim::Batch(_)) => Err(InferError::Attribute(format!("axis {axis} of {shape} is the batch"))),
        None => Err(InferError::Attribute(format!("{shape} has no axis {axis}"))),
    }
}

/// Arithmetic mean over fixed axes. Over the last two axes of `[N,C,H,W]` it is global average pooling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReduceMean {
    /// The axes, ascending, from 0.
    pub axes: Vec<usize>,
    /// Whether the output keeps the reduced axes with size 1.
    pub keep_dims: bool,
}

impl ReduceMean {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(ReduceMean { axes: r.sizes("axes")?.ok_or(AttrError::Missing("axes"))?, keep_dims: r.flag("keep_dims")? })
    }

    /// The output shape for an input of this shape.
    pub(crate) fn output_shape(&self, shape: &Shape) -> Result<Shape, InferError> {
        if self.axes.is_empty() || self.axes.windows(2).any(|w| w[0] >= w[1]) {
            return Err(InferError::Attribute("axes must be ascending and not empty".into()));
        }
        for &axis in &self.axes {
            if check_axis(shape, axis)? == 0 {
                return Err(InferError::Attribute(format!("axis {axis} of {shape} is empty")));
            }
        }
        let keep = |(i, d): (usize, &Dim)| match (self.axes.contains(&i), self.keep_dims) {
            (false, _) => Some(*d),
            (true, true) => Some(Dim::Fixed(1)),
            (true, false) => None,
        };
        Ok(Shape::new(shape.dims().iter().enumerate().filter_map(keep)))
    }
}

impl OpAttributes for ReduceMean {
    fn name(&self) -> &'static str {
        "reduce_mean"
    }

    fn attrs(&self) -> Attrs {
        let mut a: Attrs = vec![("axes", self.axes[..].into())];
        if self.keep_dims {
            a.push(("keep_dims", true.into()));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        Ok(TensorType::f32(self.output_shape(inputs.f32(0)?)?))
    }
}

/// The function of a [`Reduce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum.
    Sum,
    /// The product.
    Prod,
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
}

/// A reduction of f32 or integers over fixed axes. It is evaluated only. Of all reductions, only [`ReduceMean`] can be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// The function.
    pub kind: Reduction,
    /// The axes, ascending, from 0.
    pub axes: Vec<usize>,
    /// Whether the output keeps the reduced axes with size 1.
    pub keep_dims: bool,
}

impl Reduce {
    const NAMES: [(Reduction, &str); 4] = [
        (Reduction::Sum, "reduce_sum"),
        (Reduction::Prod, "reduce_prod"),
        (Reduction::Max, "reduce_max"),
        (Reduction::Min, "reduce_min"),
    ];

    pub(crate) fn read(name: &str, r: &mut AttrReader) -> Result<Option<Self>, AttrError> {
        let Some(&(kind, _)) = Reduce::NAMES.iter().find(|(_, n)| *n == name) else { return Ok(None) };
        let axes = r.sizes("axes")?.ok_or(AttrError::Missing("axes"))?;
        Ok(Some(Reduce { kind, axes, keep_dims: r.flag("keep_dims")? }))
    }

    fn as_mean(&self) -> ReduceMean {
        ReduceMean { axes: self.axes.clone(), keep_dims: self.keep_dims }
    }
}

impl OpAttributes for Reduce {
    fn name(&self) -> &'static str {
        Reduce::NAMES.iter().find(|(kind, _)| *kind == self.kind).map_or("reduce", |(_, n)| n)
    }

    fn attrs(&self) -> Attrs {
        self.as_mean().attrs()
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        let element = inputs.ty(0).element;
        if !matches!(element, Element::F32 | Element::I64) {
            return Err(InferError::Element { index: 0, expected: "f32 or i64" });
        }
        Ok(TensorType::new(element, self.as_mean().output_shape(inputs.shape(0))?))
    }
}
