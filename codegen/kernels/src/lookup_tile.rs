//! 2-bit convolutions by look-ups of three channels ([`crate::triples`]) or two ([`crate::pairs`]): the kernel for every instruction set, and
//! the arguments of its functions.
//!
//! One function packs an input row into offsets of table rows. A second one computes a tile of sums by look-ups. A third one does the same
//! and applies an epilogue. Offsets are `u16` for triples and bytes for pairs. Only triples write and read sums over the codes of a pixel.

use crate::byte_sums::Order;
use crate::epilogue::EpilogueArguments;
#[cfg(doc)]
use crate::epilogue::{function, store};
use crate::function::Function;
use crate::kernel::{Execution, Fit, Kernel, KernelInfo, Refusal};
use crate::layout::WeightLayout;
use crate::query::Query;
use crate::tile_sizes::TileQuery;
use crate::weights::{PackError, QuantizedWeights, WeightShape};
use std::hash::{Hash, Hasher};

/// How the code of a layer runs a kernel.
#[derive(Debug)]
pub struct LookupTiles {
    /// Packs a row of pixels into offsets; arguments [`PackTile`].
    pub pack: &'static Function,
    /// The look-ups of a tile; arguments [`LookupTile`].
    pub look_up: &'static Function,
    /// The look-ups of a tile followed by an epilogue; arguments [`LookupResultsTile`].
    pub results: &'static Function,
    /// The epilogue that follows `look_up`.
    pub epilogue: &'static Function,
    /// Whether `epilogue` supports [`crate::epilogue::store::AFFINE`].
    pub fuses_after_sums: bool,
    /// Input channels per look-up.
    pub together: usize,
    /// Bytes of an offset.
    pub offset_bytes: usize,
    /// Bytes of the sums over the codes of a pixel; 0 if there are none.
    pub sum_bytes: usize,
    /// Output channels per vector.
    pub lanes: usize,
    /// The factor by which `results` multiplies the sums before its epilogue.
    pub sum_scale: i32,
    /// The highest operand code that the epilogue of `results` can add.
    pub max_operand_levels: u8,
    /// Whether `look_up` accepts one zero-point for all weights instead of one for each output channel.
    pub takes_common_zero_point: bool,
    /// The order of the weights of a convolution of one group. The flag says whether a run is a filter row instead of a tap. The last argument
    /// is the number of vectors per block.
    pub layout: fn(&WeightShape, bool, usize) -> WeightLayout,
    /// Packs the weights of a layer. The arguments are the weights, the order of vectors, the order of channels in a vector, and the
    /// zero-point of the activations.
    pub weights: fn(&QuantizedWeights<'_>, &WeightLayout, Order, i32) -> Result<LookupWeights, PackError>,
}

impl PartialEq for LookupTiles {
    /// Each kernel has its own functions.
    fn eq(&self, other: &LookupTiles) -> bool {
        self.results == other.results
    }
}

impl Eq for LookupTiles {}

impl Hash for LookupTiles {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.results.hash(state);
    }
}

/// The weights of a layer, packed for look-ups, with the table and constants that belong to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupWeights {
    /// Index vectors in the order of the layout, one byte for each output channel.
    pub indices: Vec<u8>,
    /// A term of each output channel's sum, which the kernel adds (triples) or subtracts (pairs).
    pub constants: Vec<i32>,
    /// Parts into which [`crate::byte_sums::part`] divides a run. Byte accumulators must be widened after each part.
    pub parts: usize,
    /// The table of the look-ups.
    pub table: Vec<u8>,
    /// `G` ([`crate::triples::packing`]) of each index of activation codes, for kernels that sum over the codes of a pixel.
    pub shares: Vec<u8>,
    /// The sign of each output channel's result, for kernels that mirror weights: -1 for mirrored channels, else 1.
    pub signs: Option<Vec<i32>>,
}

impl LookupWeights {
    /// The multipliers of output channels, each times the sign of its channel.
    pub fn signed(&self, mut multiplier: Vec<f32>) -> Vec<f32> {
        for (multiplier, &sign) in multiplier.iter_mut().zip(self.signs.iter().flatten()) {
            *multiplier *= sign as f32;
        }
        multiplier
    }
}

/// A kernel that computes tiles by look-ups.
#[derive(Debug)]
pub struct LookupKernel {
    /// The properties that are the same for every layer.
    pub info: KernelInfo,
    /// How the code of a layer runs it.
    pub tiles: &'static LookupTiles,
    /// Whether the table can represent the weights and the accumulators can hold the sums.
    pub takes: fn(&Query<'_>, &QuantizedWeights<'_>) -> Result<Fit, Refusal>,
    /// Its costs.
    pub costs: LookupCosts,
    /// Estimated cycles of a tile with this many pixels and vectors, if there is one.
    pub tile_cycles: fn(&TileQuery, usize, usize) -> Option<f64>,
}

/// The costs of a kernel, in cycles measured on an Intel Xeon (Emerald Rapids).
#[derive(Clone, Copy, Debug)]
pub struct LookupCosts {
    /// Of one look-up of a vector, including its share of the widening.
    pub look_up: f64,
    /// Of one vector of output channels at a pixel: the terms that the table does not hold, and the epilogue.
    pub end: f64,
    /// Of packing a pixel, in addition to the time for its pairs or triples.
    pub pixel: f64,
    /// Pairs or triples packed per cycle.
    pub units_per_cycle: f64,
}

impl Kernel for LookupKernel {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.one_group()?;
        query.epilogue.precompiled.clone()?;
        (self.takes)(query, query.code_operands()?.weights)
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        let (shape, LookupCosts { look_up, end, pixel, units_per_cycle }) = (query.shape, self.costs);
        let taps = shape.kernel_height * shape.kernel_width;
        let vectors = shape.outputs.div_ceil(self.tiles.lanes) as f64;
        let units = shape.inputs.div_ceil(self.tiles.together) as f64;
        // Input pixels that are packed per output pixel.
        let packed: usize = if taps == 1 { 1 } else { query.window.strides.iter().product() };
        let packing = packed as f64 * (pixel + units / units_per_cycle);
        query.pixels() * (vectors * (taps as f64 * look_up * units + end) + packing)
    }

    fn execution(&self) -> Execution {
        Execution::LookupTiles(self.tiles)
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        (self.tile_cycles)(query, pixels, vectors)
    }
}

/// Sums over the codes of a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PixelSums {
    /// The sum of `G` ([`crate::triples::packing`]) over the pixel's triples.
    pub shares: i32,
    /// The sum of the pixel's codes.
    pub codes: i32,
}

/// Packs a row of pixels into offsets of table rows, one for each pair or triple of channels.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PackTile {
    /// Codes of the first pixel, one byte each.
    pub input: *const u8,
    /// Bytes from pixel to pixel.
    pub pixel_bytes: i64,
    /// Pixels.
    pub pixels: i64,
    /// Channels of a pixel.
    pub channels: i64,
    /// Pairs or triples of a pixel.
    pub units: i64,
    /// Where the offsets are stored: `units` for each pixel, without gaps. Up to 64 offsets past the last may be overwritten.
    pub offsets: *mut u8,
    /// Where the sums of each pixel are stored; not written by pairs.
    pub sums: *mut PixelSums,
    /// `G` of each index ([`crate::triples::packing::shares`]), 64 bytes; not read by pairs.
    pub shares: *const u8,
}

/// A tile of sums `sum (a - za)(w - zw)` from offsets.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LookupTile {
    /// The offset of the first pixel's first step.
    pub offsets: *const u8,
    /// Bytes of offsets from a pixel of the tile to the next.
    pub pixel_bytes: i64,
    /// Filter rows.
    pub rows: i64,
    /// Bytes of offsets from a filter row to the next.
    pub row_bytes: i64,
    /// Runs per filter row.
    pub taps: i64,
    /// Bytes of offsets from run to run.
    pub tap_bytes: i64,
    /// Offsets per run.
    pub steps: i64,
    /// Parts into which a run is divided ([`crate::byte_sums::part`]), 1 or more; byte accumulators are widened after each part.
    pub parts: i64,
    /// Index vectors of the block.
    pub weights: *const u8,
    /// The table ([`crate::triples::packing::table`], [`crate::pairs::packing::table`]), on a cache line boundary.
    pub table: *const u8,
    /// The sums of the first input pixel in the window of the tile's first pixel; not read by pairs.
    pub sums: *const PixelSums,
    /// Bytes of sums from a pixel of the tile to the next.
    pub sums_pixel: i64,
    /// Bytes of sums from a filter row to the next.
    pub sums_row: i64,
    /// Bytes of sums from a filter tap to the next.
    pub sums_tap: i64,
    /// Filter taps per filter row.
    pub columns: i64,
    /// A term of each output channel's sum, in whole vectors: added ([`crate::triples`]) or subtracted ([`crate::pairs`]).
    pub constants: *const i32,
    /// For triples, the zero-point of each output channel, or null if all have `zero_point`. For pairs, the sign of each output channel,
    /// never null.
    pub zero_points: *const i32,
    /// The common zero-point of all output channels, if `zero_points` is null.
    pub zero_point: i64,
    /// Where the results are stored: whole vectors for each pixel, without gaps.
    pub results: *mut i32,
    /// Pixels, 1 or more.
    pub pixels: i64,
    /// Index vectors, 1 or more. [`crate::function::LookupReach::exists`] says which combinations with `pixels` exist.
    pub vectors: i64,
}

/// A tile from offsets to stored values, without storing 32-bit sums in between. Sums must fit 16 bits, and the epilogue must be one of
/// - [`store::AFFINE`], to codes, with or without its operand,
/// - [`store::FLOATS`] without steps,
/// - [`store::SMALL_CODES`] with the one step [`function::ADD_FLOAT`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LookupResultsTile {
    /// The look-ups. The fields `constants`, `zero_points` and `results` are not used.
    pub lookup: LookupTile,
    /// [`crate::byte_sums::words`] of the negated constants, with which the totals start. They end as the negated sums (triples), or as the
    /// sums, negated in mirrored channels (pairs).
    pub start: *const i16,
    /// [`crate::byte_sums::words`] of the zero-point of each output channel; not read by pairs.
    pub zero_points: *const i16,
    /// The epilogue, for at most as many channels as the tile has. Its input is 65536 times the totals, so its multipliers include the factor
    /// 1 / 65536 and the sign of the totals. For [`store::AFFINE`], the weights are in [`crate::byte_sums::Order::Bytes`], multipliers and
    /// biases are in the order of [`crate::byte_sums::quarters`], and operand codes are below 16 (pairs: below 8). Else the weights are in
    /// [`crate::byte_sums::Order::Quarters`].
    pub epilogue: EpilogueArguments,
}
