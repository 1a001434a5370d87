//! Dense weights: the input of the kernels' packing routines.

use thiserror::Error;

/// The extents of a convolution's weights. For a matrix product, `groups`, `kernel_height` and `kernel_width` are 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightShape {
    /// Groups of a grouped convolution.
    pub groups: usize,
    /// Output channels of one group.
    pub outputs: usize,
    /// Input channels of one group.
    pub inputs: usize,
    /// Filter rows.
    pub kernel_height: usize,
    /// Filter columns.
    pub kernel_width: usize,
}

impl WeightShape {
    /// Output channels of all groups.
    pub fn total_outputs(&self) -> usize {
        self.groups * self.outputs
    }

    /// Weights that contribute to one output: `inputs * kernel_height * kernel_width`, the K of the matrix product.
    pub fn reduction(&self) -> usize {
        self.inputs * self.kernel_height * self.kernel_width
    }

    /// Whether every group has one input and one output channel.
    pub fn is_depthwise(&self) -> bool {
        self.inputs == 1 && self.outputs == 1 && self.groups > 1
    }

    /// Position in a dense `[groups * outputs, inputs, kernel_height, kernel_width]` array (ONNX order).
    pub fn index(&self, output: usize, input: usize, ky: usize, kx: usize) -> usize {
        ((output * self.inputs + input) * self.kernel_height + ky) * self.kernel_width + kx
    }
}

/// Why weights could not be laid out for a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PackError {
    /// An array does not have the length that the shape requires.
    #[error("the weights hold {found} {what}, their shape asks for {expected}")]
    Length {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A weight minus its zero-point does not fit a signed byte.
    #[error(
        "weight code {code} of output channel {channel} less its zero-point {zero_point} does not fit a signed byte; \
         quantize these weights symmetrically or to fewer bits"
    )]
    Range {
        /// Output channel, over all groups.
        channel: usize,
        /// The unsigned code.
        code: u8,
        /// The zero-point of the channel, counted from the lowest code.
        zero_point: i32,
    },
    /// The kernel does not support these operands.
    #[error("kernel `{kernel}` does not take these weights: {reason}")]
    Unsupported {
        /// Name of the kernel.
        kernel: &'static str,
        /// What is wrong with them.
        reason: &'static str,
    },
}

/// Quantized weights: unsigned codes in `[groups * outputs, inputs, kernel_height, kernel_width]` order.
///
/// Codes and zero-points are both counted from the lowest code of the format, so that signed and unsigned formats look
/// alike: the i2 code -2 is 0 here, and the weight is `scale * (code - zero_point)` in either case.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedWeights<'a> {
    shape: WeightShape,
    codes: &'a [u8],
    zero_points: &'a [i32],
}

impl<'a> QuantizedWeights<'a> {
    /// Checks the lengths: one code per weight, one zero-point per output channel of all groups.
    pub fn new(shape: WeightShape, codes: &'a [u8], zero_points: &'a [i32]) -> Result<Self, PackError> {
        let expected = shape.total_outputs() * shape.reduction();
        if codes.len() != expected {
            return Err(PackError::Length { what: "codes", found: codes.len(), expected });
        }
        if zero_points.len() != shape.total_outputs() {
            let (found, expected) = (zero_points.len(), shape.total_outputs());
            return Err(PackError::Length { what: "zero-points", found, expected });
        }
        Ok(QuantizedWeights { shape, codes, zero_points })
    }

    /// The extents.
    pub fn shape(&self) -> &WeightShape {
        &self.shape
    }

    /// The unsigned code at a position; `output` counts over all groups.
    pub fn code(&self, output: usize, input: usize, ky: usize, kx: usize) -> u8 {
        self.codes[self.shape.index(output, input, ky, kx)]
    }

    /// The codes of one output channel, `[inputs, kernel_height, kernel_width]`.
    pub fn channel(&self, output: usize) -> &'a [u8] {
        let reduction = self.shape.reduction();
        &self.codes[output * reduction..(output + 1) * reduction]
    }

    /// The zero-point of an output channel, counted from the lowest code.
    pub fn zero_point(&self, output: usize) -> i32 {
        self.zero_points[output]
    }

    /// The weight in units of its scale, `code - zero_point`.
    pub fn centred(&self, output: usize, input: usize, ky: usize, kx: usize) -> i32 {
        i32::from(self.code(output, input, ky, kx)) - self.zero_points[output]
    }

    /// `code - zero_point` as a signed byte, the operand of every dot kernel.
    pub fn signed_byte(&self, output: usize, input: usize, ky: usize, kx: usize) -> Result<i8, PackError> {
        i8::try_from(self.centred(output, input, ky, kx)).map_err(|_| PackError::Range {
            channel: output,
            code: self.code(output, input, ky, kx),
            zero_point: self.zero_points[output],
        })
    }

    /// `sum(code - zero_point)` over the reduction, for each output channel.
    pub fn centred_sums(&self) -> Vec<i32> {
        let sum = |output: usize| {
            let codes = self.channel(output);
            let raw: u32 = codes.iter().map(|&code| u32::from(code)).sum();
            (i64::from(raw) - codes.len() as i64 * i64::from(self.zero_points[output])) as i32
        };
        (0..self.shape.total_outputs()).map(sum).collect()
    }

    /// The largest `sum(|code - zero_point|)` over the reduction of an output channel. Times the largest activation code, it is a bound on
    /// the magnitude of every accumulator.
    pub fn largest_absolute_sum(&self) -> u64 {
        let sum = |output: usize| {
            let zero_point = self.zero_points[output];
            // Chunks keep the inner sums in 32 bits, which is several times faster.
            let chunk = |codes: &[u8]| {
                u64::from(codes.iter().map(|&code| (i32::from(code) - zero_point).unsigned_abs()).sum::<u32>())
            };
            self.channel(output).chunks(1 << 16).map(chunk).sum()
        };
        (0..self.shape.total_outputs()).map(sum).max().unwrap_or(0)
    }

    /// The largest `|code - zero_point|`.
    pub fn largest_absolute(&self) -> u32 {
        let largest = |output: usize| {
            let (mut low, mut high) = (u8::MAX, u8::MIN);
            for &code in self.channel(output) {
                low = low.min(code);
                high = high.max(code);
            }
            let zero_point = self.zero_points[output];
            (i32::from(low) - zero_point).unsigned_abs().max((i32::from(high) - zero_point).unsigned_abs())
        };
        if self.shape.reduction() == 0 { 0 } else { (0..self.shape.total_outputs()).map(largest).max().unwrap_or(0) }
    }
}

/// Weights of a layer that is not quantized, in `[groups * outputs, inputs, kernel_height, kernel_width]` order.
#[derive(Clone, Copy, Debug)]
pub struct FloatWeights<'a> {
    shape: WeightShape,
    values: &'a [f32],
}

impl<'a> FloatWeights<'a> {
    /// Checks the length: one value per weight.
    pub fn new(shape: WeightShape, values: &'a [f32]) -> Result<Self, PackError> {
        let expected = shape.total_outputs() * shape.reduction();
        if values.len() != expected {
            return Err(PackError::Length { what: "values", found: values.len(), expected });
        }
        Ok(FloatWeights { shape, values })
    }

    /// The extents.
    pub fn shape(&self) -> &WeightShape {
        &self.shape
    }

    /// The value at a position; `output` counts over all groups.
    pub fn value(&self, output: usize, input: usize, ky: usize, kx: usize) -> f32 {
        self.values[self.shape.index(output, input, ky, kx)]
    }
}
