//! Operations that only the cluster-wise affine correction uses (CAT, arXiv 2509.26277, section 3.1, algorithm 2).

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::reduce::check_axis;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// Squared Euclidean distances: points `[N,P]`, centroids `[K,P]` -> `[N,K]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SquaredDistance;

impl OpAttributes for SquaredDistance {
    fn name(&self) -> &'static str {
        "squared_distance"
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        inputs.all_f32()?;
        match (inputs.shape(0).dims(), inputs.shape(1).dims()) {
            ([n, p], [k, q]) if p == q => Ok(TensorType::f32(Shape::new([*n, *k]))),
            ([_, p], _) => Err(inputs.bad_shape(1, format!("[K,{p}]"))),
            _ => Err(inputs.bad_shape(0, "[N,P]")),
        }
    }
}

/// The index of the smallest element along an axis. Of equal elements the lowest index wins. The output does not have the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgMin {
    /// The axis, from 0.
    pub axis: usize,
}

impl ArgMin {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(ArgMin { axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))? })
    }
}

impl OpAttributes for ArgMin {
    fn name(&self) -> &'static str {
        "argmin"
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", self.axis.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        if check_axis(inputs.f32(0)?, self.axis)? == 0 {
            return Err(InferError::Attribute(format!("axis {} is empty", self.axis)));
        }
        let rest = inputs.shape(0).dims().iter().enumerate().filter(|(i, _)| *i != self.axis);
        Ok(TensorType::new(Element::I64, Shape::new(rest.map(|(_, d)| *d).collect::<Vec<Dim>>())))
    }
}

/// `(1 - alpha) * a + alpha * b` for two tensors of equal shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    /// The weight of the second tensor.
    pub alpha: f32,
}

impl Blend {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Blend { alpha: r.float("alpha")?.ok_or(AttrError::Missing("alpha"))? })
    }
}

impl OpAttributes for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn attrs(&self) -> Attrs {
        vec![("alpha", self.alpha.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        inputs.all_f32()?;
        inputs.expect_shape(1, inputs.shape(0))?;
        Ok(inputs.ty(0).clone())
    }
}
