//! The weights of a program as the input of the kernels' packing routines.

use crate::error::JitError;
use catc_kernels::{KernelSet, PackError, QuantizedWeights, WeightShape};
use catc_program::{Constant, ConstantData, Geometry, Op, Program, Step};

/// The extents of a convolution's weights `[O,C/groups,KH,KW]`.
pub(crate) fn conv_shape(
    name: &str,
    constant: &Constant,
    geometry: &Geometry,
    groups: usize,
) -> Result<WeightShape, JitError> {
    let [outputs, inputs, kernel_height, kernel_width] = *constant.dims.as_slice() else {
        return Err(JitError::invalid(name, "the weights are not of rank 4"));
    };
    if groups == 0 || !outputs.is_multiple_of(groups) || geometry.kernel != [kernel_height, kernel_width] {
        return Err(JitError::invalid(name, "the weights contradict groups or window"));
    }
    if outputs == 0 || inputs == 0 || kernel_height == 0 || kernel_width == 0 {
        return Err(JitError::invalid(name, "the weights are empty"));
    }
    if geometry.strides.contains(&0) || geometry.dilations.contains(&0) {
        return Err(JitError::invalid(name, "a stride or dilation is 0"));
    }
    Ok(WeightShape { groups, outputs: outputs / groups, inputs, kernel_height, kernel_width })
}

/// The weights of a convolution as unpacked codes, counted from the lowest code of their format.
#[derive(Debug)]
pub(crate) struct PreparedWeights {
    shape: WeightShape,
    codes: Vec<u8>,
    zero_points: Vec<i32>,
    /// Width of the codes.
    pub bits: u8,
}

/// The most input channels of groups that are joined.
const MAX_INPUTS: usize = 64;

impl PreparedWeights {
    /// The weights of a convolution of codes.
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

    /// Joins several groups into one if all their outputs fit a vector of the kernels. Weights between different groups are 0. A vector of the
    /// joined group takes no more instructions than the separate groups with a vector each.
    fn joined(self, kernels: KernelSet) -> Self {
        let shape = self.shape;
        let lanes = kernels.dot_channels();
        // Joining pays even if the joined outputs do not fill a vector, because longer sums have less overhead.
        let fits = |n: &usize| shape.groups.is_multiple_of(*n) && shape.inputs * n <= MAX_INPUTS;
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
            // A code equal to the zero-point is a weight of 0. `of` has checked that zero-points are codes.
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

    /// The extents after joining groups.
    pub fn shape(&self) -> WeightShape {
        self.shape
    }

    /// Bytes of the codes.
    pub fn bytes(&self) -> usize {
        self.codes.len()
    }

    /// Zero-points of the output channels, counted from the lowest code.
    pub fn zero_points(&self) -> &[i32] {
        &self.zero_points
    }
}
