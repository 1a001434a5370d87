//! Depthwise convolutions: vector lanes are channels, and the sums are over the taps only.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod emitted;
pub mod packing;
pub mod rows;

pub use packing::{
    CHANNELS, DepthwiseWeights, FLOAT_CHANNELS, pack, pack_columns, pack_float, pack_pairs, pack_wide_float,
};
pub use rows::{PairWeights, RowOperands};

use crate::epilogue::EpilogueArguments;

/// The arithmetic of an emitted kernel on the taps of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DepthwiseProduct {
    /// Sums of two products of unsigned and signed bytes, in 16 bits.
    Bytes,
    /// Sums of two products of 16-bit integers, in 32 bits.
    Shorts,
    /// Products of floats.
    Floats,
}

/// A row of output pixels, for up to 64 channels: `start[c] + sum_t input[t][c] * weights[t][c]` over the taps, followed by the epilogue.
/// The operands are codes (unsigned bytes times signed bytes, summed in 32 bits) or floats.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DepthwiseRow {
    /// The epilogue, from sums to stored values. It has the number of channels.
    pub epilogue: EpilogueArguments,
    /// The first channel of the input pixel at the first output pixel's first tap. [`RowOperands`] says how much is read.
    pub input: *const u8,
    /// The block's weights, in the order of the function's [`RowOperands`].
    pub weights: *const u8,
    /// The block's initial sums, i32 or f32, in whole vectors.
    pub start: *const u8,
    /// Output pixels.
    pub pixels: i64,
    /// Bytes from an output pixel's input to the next one's.
    pub pixel_bytes: i64,
    /// Filter rows. `rows * columns` is at most [`MAX_TAPS`].
    pub rows: i64,
    /// Filter columns.
    pub columns: i64,
    /// Bytes from a filter row's input to the next one's.
    pub row_bytes: i64,
    /// Bytes from a filter column's input to the next one's.
    pub column_bytes: i64,
    /// Distance between neighbouring output pixels in filter columns, if these pixels can share columns; else 0.
    pub stride: i64,
}

/// The most taps that the kernels support.
pub const MAX_TAPS: usize = crate::query::MAX_DEPTHWISE_TAPS;

/// Channels of a block.
pub const BLOCK: usize = 64;
