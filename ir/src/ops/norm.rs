//! Normalizations.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::reduce::check_axis;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Shape, TensorType};

/// Batch normalization for inference: x `[N,C,..]` and scale, bias, mean, variance `[C]` ->
/// `(x - mean) / sqrt(variance + eps) * scale + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl BatchNorm {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(BatchNorm { eps: r.float("eps")?.unwrap_or(1e-5) })
    }
}

impl OpAttributes for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn attrs(&self) -> Attrs {
        vec![("eps", self.eps.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(5, 5, "5")?;
        inputs.all_f32()?;
        let Some(&Dim::Fixed(c)) = inputs.shape(0).dims().get(1) else {
            return Err(inputs.bad_shape(0, "[N,C,..] with fixed C"));
        };
        (1..5).try_for_each(|i| inputs.expect_shape(i, &Shape::fixed(&[c])))?;
        Ok(inputs.ty(0).clone())
    }
}

/// Softmax over one axis: `exp(x - max) / sum(exp(x - max))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis, from 0.
    pub axis: usize,
}

impl Softmax {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Softmax { axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))? })
    }
}

impl OpAttributes for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", self.axis.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        check_axis(inputs.f32(0)?, self.axis)?;
        Ok(inputs.ty(0).clone())
    }
}

/// Layer normalization over the last axis: x `[..,K]`, optional scale and bias `[K]` ->
/// `(x - mean) / sqrt(variance + eps) * scale + bias`. The variance is the mean squared distance from the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(LayerNorm { eps: r.float("eps")?.unwrap_or(1e-5) })
    }
}

impl OpAttributes for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn attrs(&self) -> Attrs {
        vec![("eps", self.eps.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 3, "1 to 3")?;
        inputs.all_f32()?;
        let shape = inputs.shape(0);
        let Some(&Dim::Fixed(k)) = shape.dims().last() else {
            return Err(inputs.bad_shape(0, "[..,K] with fixed K"));
        };
        if k == 0 {
            return Err(inputs.bad_shape(0, "a last axis that is not empty"));
        }
        (1..inputs.len()).try_for_each(|i| inputs.expect_shape(i, &Shape::fixed(&[k])))?;
        Ok(inputs.ty(0).clone())
    }
}
