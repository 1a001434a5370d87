//! Weights of a program, as the kernels' packing routines take them.

use crate::error::JitError;
use crate::plan::forms::conv_shape;
use catc_kernels::{PackError, QuantizedWeights, WeightShape};
use catc_program::{ConstantData, Op, Program, Step};

/// Codes of a convolution counted from the lowest code of their format.
#[derive(Debug)]
pub(crate) struct PreparedWeights {
    shape: WeightShape,
    codes: Vec<u8>,
    zero_points: Vec<i32>,
    /// Width of the codes.
    pub bits: u8,
}

impl PreparedWeights {
    /// Those of a convolution of codes.
    pub fn of(program: &Program, step: &Step) -> Result<Self, JitError> {
        let name = &step.name;
        let Op::Conv { geometry, groups, weights, .. } = &step.op else {
            return Err(JitError::invalid(name, "not a convolution of codes"));
        };
        let constant = program.constant(*weights);
        let shape = conv_shape(name, constant, geometry, *groups)?;
        let ConstantData::Codes { codes, zero_point, .. } = &constant.data else {
            return Err(JitError::invalid(name, "the weights of an integer convolution are not codes"));
        };
        let lowest = codes.lowest();
        let channels = shape.total_outputs();
        let zero_points = match zero_point.as_slice() {
            &[one] => vec![one - lowest; channels],
            each if each.len() == channels => each.iter().map(|z| z - lowest).collect(),
            _ => return Err(JitError::invalid(name, "the weights have neither one zero-point nor one per channel")),
        };
        if zero_points.iter().any(|&z| !(0..=255).contains(&z)) {
            return Err(JitError::invalid(name, "a weight zero-point is not a code"));
        }
        Ok(PreparedWeights { shape, codes: codes.unsigned(), zero_points, bits: codes.bits() })
    }

    /// The weights for packing.
    pub fn view(&self) -> Result<QuantizedWeights<'_>, PackError> {
        QuantizedWeights::new(self.shape, &self.codes, &self.zero_points)
    }

    /// Zero-points of the output channels, counted from the lowest code.
    pub fn zero_points(&self) -> &[i32] {
        &self.zero_points
    }
}
