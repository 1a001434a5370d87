//! Matrix products.

use super::OpAttributes;
use super::attrs::Attrs;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Shape, TensorType};

/// Fully connected layer: x `[..,K]`, w `[O,K]`, optional bias `[O]` -> `x wᵀ + b`, `[..,O]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear;

impl Linear {
    /// The output shape for inputs 0 (x) and 1 (w) of any element type.
    pub(crate) fn output_shape(inputs: &Inputs) -> Result<Shape, InferError> {
        let Some(&[o, k]) = inputs.shape(1).as_fixed().as_deref() else {
            return Err(inputs.bad_shape(1, "[O,K]"));
        };
        let mut shape = inputs.shape(0).clone();
        match shape.0.last_mut() {
            Some(last) if *last == Dim::Fixed(k) => *last = Dim::Fixed(o),
            _ => return Err(inputs.bad_shape(0, format!("[..,{k}]"))),
        }
        Ok(shape)
    }
}

impl OpAttributes for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 3, "2 or 3")?;
        inputs.all_f32()?;
        let shape = Linear::output_shape(inputs)?;
        if inputs.len() == 3 {
            inputs.expect_shape(2, &Shape(shape.0[shape.rank() - 1..].into()))?;
        }
        Ok(TensorType::f32(shape))
    }
}

/// Matrix product of `[..,M,K]` and `[..,K,P]`. Leading dimensions broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul;

impl MatMul {
    /// The output shape for two inputs of any element type.
    pub(crate) fn output_shape(inputs: &Inputs) -> Result<Shape, InferError> {
        let (a, b) = (inputs.shape(0), inputs.shape(1));
        let (ra, rb) = (a.rank(), b.rank());
        if ra < 2 {
            return Err(inputs.bad_shape(0, "at least two dimensions"));
        }
        if rb < 2 || a.dims()[ra - 1] != b.dims()[rb - 2] {
            return Err(inputs.bad_shape(1, format!("[..,{},P]", a.dims()[ra - 1])));
        }
        let lead = |s: &Shape| Shape(s.0[..s.rank() - 2].into());
        let mut shape = lead(a)
            .broadcast(&lead(b))
            .ok_or_else(|| inputs.bad_shape(1, format!("leading dimensions that broadcast with {a}")))?;
        shape.0.extend([a.dims()[ra - 2], b.dims()[rb - 1]]);
        Ok(shape)
    }
}

impl OpAttributes for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        inputs.all_f32()?;
        Ok(TensorType::f32(MatMul::output_shape(inputs)?))
    }
}
