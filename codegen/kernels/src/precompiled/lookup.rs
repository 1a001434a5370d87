//! Arguments of the 2-bit look-up tiles: of three channels ([`crate::triples`]), and of two ([`crate::pairs`]). These keep an offset of a
//! table row in a byte instead of a `u16`, and need no sums over the codes of a pixel, which they neither write nor read.

use super::finish::Finish;
#[cfg(doc)]
use super::finish::{function, store};
use crate::table::KernelId;

/// The most pixels of a tile.
pub const MOST_PIXELS: usize = 8;

/// The most index vectors of a tile of triples.
pub const MOST_VECTORS: usize = 2;

/// Whether the kernel has a tile of that shape: its sums and what adds to them fit the registers, 32 of 512 bits or 16 of 256.
pub const fn takes(kernel: KernelId, pixels: usize, vectors: usize) -> bool {
    let most = match (kernel, vectors) {
        (KernelId::Lookup512, 1..=MOST_VECTORS) | (KernelId::Lookup256, 1) => MOST_PIXELS,
        (KernelId::Lookup256, 2) => 6,
        (KernelId::Lookup256, 3) => 4,
        (KernelId::Lookup256, 4) => 3,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}

/// Sums over the codes of a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PixelSums {
    /// Of `G` ([`crate::triples`]) over its triples.
    pub shares: i32,
    /// Of its codes.
    pub codes: i32,
}

/// Turns a row of pixels into offsets of table rows, one for each pair or triple of channels.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PackTile {
    /// Codes of the first pixel, a byte each.
    pub input: *const u8,
    /// Bytes from pixel to pixel.
    pub pixel_bytes: i64,
    /// Pixels.
    pub pixels: i64,
    /// Channels of a pixel.
    pub channels: i64,
    /// Pairs or triples of a pixel.
    pub units: i64,
    /// Where the offsets go: pixels follow one another, `units` each. Up to 64 offsets past the last are overwritten.
    pub offsets: *mut u8,
    /// Where the sums of each pixel go.
    pub sums: *mut PixelSums,
    /// `G` of each index ([`crate::triples::shares`]).
    pub shares: *const u8,
}

/// A tile of sums `sum (a - za)(w - zw)` from offsets.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LookupTile {
    /// The offset that the first pixel meets first.
    pub offsets: *const u8,
    /// Bytes of offsets from a pixel of the tile to the next.
    pub pixel_bytes: i64,
    /// Filter rows.
    pub rows: i64,
    /// Bytes of offsets from a filter row to the next.
    pub row_bytes: i64,
    /// Runs in a row.
    pub taps: i64,
    /// Bytes of offsets from run to run.
    pub tap_bytes: i64,
    /// Offsets in a run.
    pub steps: i64,
    /// Parts of a run that byte accumulators take ([`crate::lanes::part`]), 1 or more.
    pub parts: i64,
    /// Index vectors of the block.
    pub weights: *const u8,
    /// The table ([`crate::triples::table`], [`crate::pairs::table`]), on a cache line boundary.
    pub table: *const u8,
    /// The sums of the first pixel that the first pixel of the tile meets.
    pub sums: *const PixelSums,
    /// Bytes of sums from a pixel of the tile to the next.
    pub sums_pixel: i64,
    /// Bytes of sums from a filter row to the next.
    pub sums_row: i64,
    /// Bytes of sums from a filter tap to the next.
    pub sums_tap: i64,
    /// Filter taps in a row.
    pub columns: i64,
    /// A constant for each output channel, whole vectors: what is added ([`crate::triples`]), or taken away ([`crate::pairs`]).
    pub constants: *const i32,
    /// The zero-point of each output channel, or null if it is one for all; of pairs the sign of each output channel, never null.
    pub zero_points: *const i32,
    /// That one.
    pub zero_point: i64,
    /// Where the results go: whole vectors for each pixel, pixels following one another.
    pub results: *mut i32,
    /// Pixels, 1 or more.
    pub pixels: i64,
    /// Index vectors, 1 or more; together with `pixels` a shape that [`takes`] allows.
    pub vectors: i64,
}

/// A tile from offsets to what a layer stores, without a way over memory: results within 16 bits, and one of the endings
/// - [`store::AFFINE`], to codes, with or without its operand,
/// - [`store::FLOATS`] without steps,
/// - [`store::SMALL_CODES`] with the one step [`function::ADD_FLOAT`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LookupResultsTile {
    /// The look-ups. Constants, zero-points and results are not touched.
    pub lookup: LookupTile,
    /// [`crate::lanes::words`] of the constants times -1: totals end as the sums times -1 (triples), or as the sums, times -1 in the
    /// channels that are mirrored (pairs).
    pub start: *const i16,
    /// [`crate::lanes::words`] of the zero-point of each output channel; of pairs they are not read.
    pub zero_points: *const i16,
    /// The epilogue of 65536 times the totals, for as many channels as the tile has; its multipliers take back their sign. For
    /// [`store::AFFINE`] the weights are in [`crate::lanes::Order::Bytes`], multipliers and biases in the order of
    /// [`crate::lanes::quarters`], and codes of operands bytes below 16 (pairs: 8); else the weights are in
    /// [`crate::lanes::Order::Quarters`].
    pub finish: Finish,
}
