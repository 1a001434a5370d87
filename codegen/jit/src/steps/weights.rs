//! Weights of a program, as the kernels' packing routines take them.

use crate::error::JitError;
use crate::plan::forms::conv_shape;
use catc_kernels::{PackError, QuantizedWeights, WeightShape};
use catc_program::{Constant, ConstantData, Format, Geometry};

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
    /// Takes the codes of a constant.
    pub fn new(name: &str, constant: &Constant, geometry: &Geometry, groups: usize) -> Result<Self, JitError> {
        let shape = conv_shape(name, constant, geometry, groups)?;
        let ConstantData::Codes { signed, bits, codes, zero_point, .. } = &constant.data else {
            return Err(JitError::invalid(name, "the weights of an integer convolution are not codes"));
        };
        let (lowest, highest) = (Format::min_code(*signed, *bits), Format::max_code(*signed, *bits));
        let levels = (highest - lowest) as u16;
        // A code below the lowest wraps to a large number.
        let raw = |code: i16| code.wrapping_sub(lowest as i16) as u16;
        let most = codes.iter().fold(0, |most, &code| raw(code).max(most));
        if most > levels {
            let code = most.wrapping_add(lowest as u16) as i16;
            return Err(JitError::invalid(name, format!("weight code {code} is outside its format")));
        }
        let unsigned: Vec<u8> = codes.iter().map(|&code| raw(code) as u8).collect();
        let channels = shape.total_outputs();
        let zero_points = match zero_point.as_slice() {
            &[one] => vec![one - lowest; channels],
            each if each.len() == channels => each.iter().map(|z| z - lowest).collect(),
            _ => return Err(JitError::invalid(name, "the weights have neither one zero-point nor one per channel")),
        };
        if zero_points.iter().any(|&z| !(0..=255).contains(&z)) {
            return Err(JitError::invalid(name, "a weight zero-point is not a code"));
        }
        Ok(PreparedWeights { shape, codes: unsigned, zero_points, bits: *bits })
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
