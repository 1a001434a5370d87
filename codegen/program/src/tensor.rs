//! Activation tensors and constants.

use crate::codes::PackedCodes;

/// An activation tensor of a program: its index in [`crate::Program::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub u32);

/// The element format of an activation tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// 32-bit integers in two's complement: indices, such as the output of `argmin`, and integer or boolean inputs.
    Index,
    /// Codes of 2 to 8 bits that stand for `scale * (code - zero_point)`. The code generator chooses how they are stored in
    /// memory (one or several codes per byte).
    Codes {
        /// Whether the codes are two's complement.
        signed: bool,
        /// The width in bits, 2..=8.
        bits: u8,
        /// The scale, finite and positive. It only defines the meaning of the codes. No machine code depends on it, because steps
        /// carry the factors that they need.
        scale: f32,
        /// The zero point, which is a code of the format.
        zero_point: i32,
    },
}

impl Format {
    /// The smallest code of a code format.
    pub fn min_code(signed: bool, bits: u8) -> i32 {
        if signed { -(1 << (bits - 1)) } else { 0 }
    }

    /// The largest code of a code format.
    pub fn max_code(signed: bool, bits: u8) -> i32 {
        Format::min_code(signed, bits) + (1 << bits) - 1
    }
}

/// The order of the elements of one image in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The last dimension varies fastest.
    RowMajor,
    /// For dimensions `[C,H,W]`, C varies fastest, then W, then H. Only tensors of rank 3 can have this layout.
    ChannelsLast,
}

/// An activation tensor. Each image of a batch has its own copy.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDecl {
    /// The name of its value in the graph, for messages.
    pub name: String,
    /// The element format.
    pub format: Format,
    /// The sizes for one image, outermost first, without the batch. Image tensors have `[C,H,W]` in every layout.
    pub dims: Vec<usize>,
    /// The order of the elements in memory.
    pub layout: Layout,
}

impl TensorDecl {
    /// The number of elements of one image.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether an image has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stride of each dimension, in elements.
    pub fn strides(&self) -> Vec<usize> {
        match (self.layout, self.dims.as_slice()) {
            (Layout::ChannelsLast, &[c, _, w]) => vec![1, w * c, c],
            _ => {
                let mut strides = vec![1; self.dims.len()];
                for i in (1..self.dims.len()).rev() {
                    strides[i - 1] = strides[i] * self.dims[i];
                }
                strides
            }
        }
    }
}

/// The elements of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum ConstantData {
    /// f32 values.
    F32(Vec<f32>),
    /// Codes of 2 to 8 bits.
    Codes {
        /// The codes, their width, and whether they are two's complement.
        codes: PackedCodes,
        /// One scale, or one for each slice of the first dimension.
        scale: Vec<f32>,
        /// One zero point for each scale.
        zero_point: Vec<i32>,
    },
}

impl ConstantData {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            ConstantData::F32(v) => v.len(),
            ConstantData::Codes { codes, .. } => codes.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the elements in `model.bin` in bytes, without scales, zero points and alignment padding.
    pub fn stored_bytes(&self) -> usize {
        match self {
            ConstantData::F32(v) => 4 * v.len(),
            ConstantData::Codes { codes, .. } => codes.bytes().len(),
        }
    }
}

/// A constant of a program, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The sizes, outermost first.
    pub dims: Vec<usize>,
    /// The elements in row-major order.
    pub data: ConstantData,
}
