//! The layout of an activation tensor in memory.

use super::access::{LaneAccess, lane_access};
use crate::error::JitError;
use catc_program::{Format, Layout, TensorDecl};

/// How one element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum StorageFormat {
    /// f32.
    Float,
    /// i32.
    Index,
    /// A byte: the code, counted from the lowest code of its format.
    Byte,
    /// One byte for two neighbouring 2-bit codes of the innermost dimension: the offset of their row in the look-up table
    /// ([`catc_kernels::pairs::rows::row_offset`]).
    RowOffset,
}

impl StorageFormat {
    /// Twice the bytes of an element.
    pub fn half_bytes(self) -> usize {
        match self {
            StorageFormat::Float | StorageFormat::Index => 8,
            StorageFormat::Byte => 2,
            StorageFormat::RowOffset => 1,
        }
    }

    /// The storage format that can hold every tensor of a format.
    pub fn plain(format: &Format) -> StorageFormat {
        match format {
            Format::F32 => StorageFormat::Float,
            Format::Index => StorageFormat::Index,
            Format::Codes { .. } => StorageFormat::Byte,
        }
    }
}

/// The pixels around an image `[C,H,W]` that hold the padding of convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Halo {
    /// Rows above.
    pub top: usize,
    /// Pixels left of each row.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Pixels right of each row.
    pub right: usize,
}

impl Halo {
    /// No pixels at all.
    pub const NONE: Halo = Halo { top: 0, left: 0, bottom: 0, right: 0 };

    /// The smallest halo that holds both.
    pub fn union(self, other: Halo) -> Halo {
        Halo {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.max(other.bottom),
            right: self.right.max(other.right),
        }
    }
}

/// The codes of a quantized tensor, and how its bytes represent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Codes {
    /// Lowest code of the format, which byte 0 represents.
    pub lowest: i32,
    /// Highest code minus the lowest.
    pub levels: u8,
    /// Zero-point minus the lowest code.
    pub zero: u8,
}

impl Codes {
    /// The codes of a format; `None` for floats and indices. A zero-point outside the range of codes, which validation refuses, is clamped.
    pub fn of(format: &Format) -> Option<Codes> {
        let Format::Codes { signed, bits, zero_point, .. } = *format else { return None };
        let lowest = Format::min_code(signed, bits);
        let levels = Format::max_code(signed, bits) - lowest;
        Some(Codes { lowest, levels: levels as u8, zero: (zero_point - lowest).clamp(0, levels) as u8 })
    }
}

/// The layout of one activation tensor of one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Buffer {
    /// How an element is stored.
    pub format: StorageFormat,
    /// The codes, for [`StorageFormat::Byte`] and [`StorageFormat::RowOffset`].
    pub codes: Option<Codes>,
    /// Logical sizes.
    pub dims: Vec<usize>,
    /// Half bytes from an element to the next along each logical dimension.
    pub strides: Vec<i64>,
    /// Logical dimensions, outermost first in memory.
    pub order: Vec<usize>,
    /// The padding around an image.
    pub halo: Halo,
    /// Bytes before the first element: the halo above the image and to the left of its first row.
    pub origin: i64,
    /// Total bytes.
    pub bytes: usize,
}

/// The most bytes of a buffer.
const LARGEST: usize = 1 << 40;

impl Buffer {
    /// The buffer of a tensor. Only images (`[C,H,W]`, channels last) have a halo.
    pub fn new(decl: &TensorDecl, format: StorageFormat, halo: Halo) -> Result<Buffer, JitError> {
        let codes = Codes::of(&decl.format);
        let too_large = || JitError::TooLarge { tensor: decl.name.clone() };
        let rank = decl.dims.len();
        let image = is_image(decl);
        if decl.layout == Layout::ChannelsLast && rank != 3 {
            return Err(JitError::invalid(&decl.name, "channels last, but not of rank 3"));
        }
        let order: Vec<usize> = if image { vec![1, 2, 0] } else { (0..rank).collect() };
        let mut strides = vec![0i64; rank];
        let mut span = format.half_bytes();
        for (level, &dim) in order.iter().enumerate().rev() {
            strides[dim] = span as i64;
            let mut size = decl.dims[dim];
            if image {
                size += match level {
                    0 => halo.top + halo.bottom,
                    1 => halo.left + halo.right,
                    _ => 0,
                };
            }
            span = span.checked_mul(size).filter(|&s| s <= 2 * LARGEST).ok_or_else(too_large)?;
            if level + 1 == rank && format == StorageFormat::RowOffset {
                span = span.next_multiple_of(2);
            }
        }
        let (halo, origin) = if image {
            (halo, halo.top as i64 * (strides[1] / 2) + halo.left as i64 * (strides[2] / 2))
        } else {
            (Halo::NONE, 0)
        };
        Ok(Buffer { format, codes, dims: decl.dims.clone(), strides, order, halo, origin, bytes: span.div_ceil(2) })
    }

    /// Bytes from an element to the next along a logical dimension; not valid for the innermost dimension of row offsets.
    pub fn stride(&self, dim: usize) -> i64 {
        self.strides[dim] / 2
    }

    /// The access to elements along a logical dimension.
    pub fn lanes(&self, dim: usize) -> LaneAccess {
        lane_access(self.format, self.strides[dim])
    }

    /// The code that represents zero, which the halo holds; 0 for floats, whose halo holds 0.0.
    pub fn zero(&self) -> u8 {
        self.codes.map_or(0, |c| c.zero)
    }

    /// The byte with which the halo is filled; for row offsets it represents two zeros.
    pub fn fill(&self) -> u8 {
        match self.format {
            StorageFormat::RowOffset => catc_kernels::pairs::rows::row_offset(self.zero(), self.zero()),
            _ => self.zero(),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no bytes between elements in memory order.
    pub fn is_dense(&self) -> bool {
        self.halo == Halo::NONE
            && (self.format != StorageFormat::RowOffset
                || self.order.last().is_none_or(|&d| self.dims[d].is_multiple_of(2)))
    }
}

/// Whether a tensor is an image `[C,H,W]` whose channels are innermost in memory, which is true of every single pixel.
pub(crate) fn is_image(decl: &TensorDecl) -> bool {
    matches!((decl.layout, decl.dims.as_slice()), (Layout::ChannelsLast, &[_, _, _]) | (Layout::RowMajor, &[_, 1, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decl(format: Format, dims: &[usize], layout: Layout) -> TensorDecl {
        TensorDecl { name: "t".into(), format, dims: dims.to_vec(), layout }
    }

    const CODES: Format = Format::Codes { signed: true, bits: 2, scale: 1.0, zero_point: -1 };

    #[test]
    fn an_image_has_its_halo_outside() {
        let halo = Halo { top: 1, left: 2, bottom: 3, right: 4 };
        let buffer =
            Buffer::new(&decl(CODES, &[5, 6, 7], Layout::ChannelsLast), StorageFormat::RowOffset, halo).unwrap();
        // A pixel has three bytes, and a row has 13 pixels.
        assert_eq!(buffer.strides, [1, 78, 6]);
        assert_eq!(buffer.origin, 39 + 6);
        assert_eq!(buffer.bytes, 10 * 39);
        assert_eq!((buffer.zero(), buffer.fill()), (1, 16 * 5));
        assert!(!buffer.is_dense());
    }

    #[test]
    fn a_row_major_tensor_is_dense() {
        let buffer =
            Buffer::new(&decl(Format::F32, &[2, 3, 4], Layout::RowMajor), StorageFormat::Float, Halo::NONE).unwrap();
        assert_eq!((buffer.stride(0), buffer.stride(1), buffer.stride(2)), (48, 16, 4));
        assert_eq!(buffer.bytes, 96);
        assert!(buffer.is_dense());
    }

    #[test]
    fn sizes_beyond_memory_are_refused() {
        let dims = [1 << 30, 1 << 30, 1 << 30];
        assert!(Buffer::new(&decl(Format::F32, &dims, Layout::RowMajor), StorageFormat::Float, Halo::NONE).is_err());
    }
}
