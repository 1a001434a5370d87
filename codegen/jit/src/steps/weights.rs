//! Weights of a program, as the kernels' packing routines take them.

use crate::error::JitError;
use crate::plan::forms::conv_shape;
use catc_kernels::{KernelSet, PackError, QuantizedWeights, Tier, WeightShape};
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

/// Input channels that several groups have together at most.
const MOST_INPUTS: usize = 64;

impl PreparedWeights {
    /// Those of a convolution of codes.
    pub fn of(program: &Program, step: &Step, kernels: KernelSet) -> Result<Self, JitError> {
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
        Ok(PreparedWeights { shape, codes: codes.unsigned(), zero_points, bits: codes.bits() }.joined(kernels))
    }

    /// Several groups as one where all their outputs fit a vector of the kernels: the weights between them are 0, and they take as many
    /// products as each group with a vector of its own.
    fn joined(self, kernels: KernelSet) -> Self {
        let shape = self.shape;
        let lanes = [(Tier::Avx512Vnni, 16), (Tier::X86V3, 8)];
        let lanes = lanes.into_iter().find(|&(tier, _)| kernels.has_precompiled(tier)).map_or(4, |(_, lanes)| lanes);
        // Longer sums are worth a vector that is not full.
        let fits = |n: &usize| shape.groups.is_multiple_of(*n) && shape.inputs * n <= MOST_INPUTS;
        let together = (2..=lanes / shape.outputs.min(lanes)).rev().find(fits);
        let (Some(together), false) = (together, shape.is_depthwise()) else { return self };
        let taps = shape.kernel_height * shape.kernel_width;
        let joined = WeightShape {
            groups: shape.groups / together,
            outputs: shape.outputs * together,
            inputs: shape.inputs * together,
            ..shape
        };
        let mut codes = Vec::with_capacity(self.codes.len() * together);
        for (output, own) in self.codes.chunks_exact(shape.reduction()).enumerate() {
            // A code of the zero-point is a weight of 0; all zero-points are codes.
            let start = codes.len();
            codes.resize(start + joined.reduction(), self.zero_points[output] as u8);
            let group = output / shape.outputs % together;
            codes[start + group * shape.inputs * taps..][..own.len()].copy_from_slice(own);
        }
        PreparedWeights { shape: joined, codes, ..self }
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
