//! Arguments of the depthwise kernels.

use super::finish::Finish;

/// Output pixels of a row, for up to 64 channels: `start[c] + sum_t input[t][c] * weights[t][c]` over the taps, of codes (unsigned
/// bytes times signed bytes, summed in 32 bits) or floats, then what [`Finish`] says.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DepthwiseRow {
    /// From sums to the store; its channels are those of the block.
    pub finish: Finish,
    /// The first channel of what the first output pixel's first tap meets. Whole vectors of 64 bytes (codes) or 16 floats are read.
    pub input: *const u8,
    /// The block's weights ([`crate::depthwise::pack_columns`], [`crate::depthwise::pack_wide_float`]).
    pub weights: *const u8,
    /// The block's initial sums, i32 or f32, in whole vectors of 16.
    pub start: *const u8,
    /// Output pixels.
    pub pixels: i64,
    /// Bytes from an output pixel's input to the next one's.
    pub pixel_bytes: i64,
    /// Filter rows and columns; at most [`MOST_TAPS`] taps.
    pub rows: i64,
    /// See `rows`.
    pub columns: i64,
    /// Bytes from a filter row's input to the next one's.
    pub row_bytes: i64,
    /// Bytes from a filter column's input to the next one's.
    pub column_bytes: i64,
    /// Columns from an output pixel to the next where neighbouring pixels share columns, else 0.
    pub stride: i64,
}

/// The most taps that the kernels take.
pub const MOST_TAPS: usize = 128;

/// Channels of a block.
pub const BLOCK: usize = 64;

/// Taps of a filter column that are summed in one step.
pub const COLUMN_TAPS: usize = 4;
