//! Activation tensors and constants.

use crate::codes::PackedCodes;

/// An activation tensor of a program: its index in [`crate::Program::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub u32);

/// What an activation tensor holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// Whole numbers of 32 bits, two's complement: indices, as `argmin` makes them, and inputs that are no reals.
    Index,
    /// Codes of 2 to 8 bits that stand for `scale * (code - zero_point)`. How they lie in memory (a byte each, several to a
    /// byte) is chosen when machine code is made.
    Codes {
        /// Whether the codes are two's complement.
        signed: bool,
        /// Width in bits, 2..=8.
        bits: u8,
        /// Scale, finite and positive. It says what the codes stand for; no code is made from it, as steps carry the factors they
        /// need.
        scale: f32,
        /// Zero-point, a code of the format.
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
    /// The last dimension is the fastest.
    RowMajor,
    /// Dimensions `[C,H,W]` with C the fastest, then W, then H. Only for rank 3.
    ChannelsLast,
}

/// An activation tensor. Each image of a batch has one of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDecl {
    /// The value it was in the graph, for messages.
    pub name: String,
    /// What it holds.
    pub format: Format,
    /// Sizes for one image, outermost first, without the batch: `[C,H,W]` for image tensors whatever the layout.
    pub dims: Vec<usize>,
    /// The order of its elements.
    pub layout: Layout,
}

impl TensorDecl {
    /// Elements of one image.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether an image has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distance in elements between neighbours of each dimension.
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
    /// Reals.
    F32(Vec<f32>),
    /// Codes of 2 to 8 bits.
    Codes {
        /// The codes, their width, and whether they are two's complement.
        codes: PackedCodes,
        /// One scale, or one for each slice of the first dimension.
        scale: Vec<f32>,
        /// As many zero-points.
        zero_point: Vec<i32>,
    },
}

impl ConstantData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            ConstantData::F32(v) => v.len(),
            ConstantData::Codes { codes, .. } => codes.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the elements take in `model.bin`, without scales and what aligns them.
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
    /// Sizes, outermost first.
    pub dims: Vec<usize>,
    /// Elements.
    pub data: ConstantData,
}
