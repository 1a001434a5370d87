//! 2-bit convolutions by look-ups of three channels ([`crate::triples`]) or two ([`crate::pairs`]), in functions: the packing of an input
//! row into offsets of table rows, the look-ups of a tile, and the look-ups with an epilogue behind them. Here are their arguments, and
//! the kernel, whatever its instruction set. Pairs keep an offset of a table row in a byte instead of a `u16`, and need no sums over the codes
//! of a pixel, which they neither write nor read.

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
    /// Turns a row of pixels into offsets; arguments [`PackTile`].
    pub pack: &'static Function,
    /// The look-ups of a tile; arguments [`LookupTile`].
    pub look_up: &'static Function,
    /// The same with an epilogue behind them; arguments [`LookupResultsTile`].
    pub results: &'static Function,
    /// The epilogue that follows `look_up`.
    pub epilogue: &'static Function,
    /// Whether that epilogue has [`crate::epilogue::store::AFFINE`].
    pub fuses_after_sums: bool,
    /// Input channels of a look-up.
    pub together: usize,
    /// Bytes of an offset.
    pub offset_bytes: usize,
    /// Bytes of the sums over the codes of a pixel.
    pub sum_bytes: usize,
    /// Output channels of a vector.
    pub lanes: usize,
    /// What `results` multiplies sums by before its epilogue.
    pub sum_scale: i32,
    /// The highest code of an operand that `results` adds.
    pub max_operand_levels: u8,
    /// Whether `look_up` takes one zero-point for all weights, in place of one for each output channel.
    pub takes_common_zero_point: bool,
    /// The order of the weights of a convolution of one group; a run is a filter row where the flag is set, else a tap. Last the vectors of a
    /// block.
    pub layout: fn(&WeightShape, bool, usize) -> WeightLayout,
    /// Packs the weights of a layer in that order, channels of a vector in the given one, for activations with that zero-point.
    pub weights: fn(&QuantizedWeights<'_>, &WeightLayout, Order, i32) -> Result<LookupWeights, PackError>,
}

impl PartialEq for LookupTiles {
    /// Kernels have functions of their own.
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

/// The weights of a layer, packed for look-ups, and what goes with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupWeights {
    /// Index vectors in the order of the layout, a byte for each output channel.
    pub indices: Vec<u8>,
    /// For each output channel what is added to the sums of the table's entries (triples) or taken from them (pairs).
    pub constants: Vec<i32>,
    /// Parts of a run, cut by [`crate::byte_sums::part`], after each of which byte accumulators must be widened.
    pub parts: usize,
    /// The table of the look-ups.
    pub table: Vec<u8>,
    /// `G` of each index of activations, for kernels that sum over the codes of a pixel.
    pub shares: Vec<u8>,
    /// What the result of each output channel is multiplied with, for kernels that mirror weights: -1 where they are, else 1.
    pub signs: Option<Vec<i32>>,
}

impl LookupWeights {
    /// Multipliers of sums that are still to be multiplied with their signs.
    pub fn signed(&self, mut multiplier: Vec<f32>) -> Vec<f32> {
        for (multiplier, &sign) in multiplier.iter_mut().zip(self.signs.iter().flatten()) {
            *multiplier *= sign as f32;
        }
        multiplier
    }
}

/// A kernel of look-ups by tiles.
#[derive(Debug)]
pub struct LookupKernel {
    /// What is the same for every layer.
    pub info: KernelInfo,
    /// How it is run.
    pub tiles: &'static LookupTiles,
    /// Whether the tables and accumulators take the weights.
    pub takes: fn(&Query<'_>, &QuantizedWeights<'_>) -> Result<Fit, Refusal>,
    /// What it costs.
    pub costs: LookupCosts,
    /// Cycles of a tile of that many pixels and vectors, if there is one.
    pub tile_cycles: fn(&TileQuery, usize, usize) -> Option<f64>,
}

/// What a kernel costs, in cycles measured on an Intel Xeon (Emerald Rapids).
#[derive(Clone, Copy, Debug)]
pub struct LookupCosts {
    /// A look-up of a vector and its share of the widening.
    pub look_up: f64,
    /// The sums that the table leaves out, and the epilogue, of a vector.
    pub end: f64,
    /// The packing of a pixel, and how many of its pairs or triples are packed in a cycle beyond that.
    pub pixel: f64,
    /// See `pixel`.
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
        // Input pixels that are packed for each output pixel.
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
    /// `G` of each index ([`crate::triples::packing::shares`]).
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
    /// Parts of a run that byte accumulators take ([`crate::byte_sums::part`]), 1 or more.
    pub parts: i64,
    /// Index vectors of the block.
    pub weights: *const u8,
    /// The table ([`crate::triples::packing::table`], [`crate::pairs::packing::table`]), on a cache line boundary.
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
    /// Index vectors, 1 or more; together with `pixels` a shape that [`crate::function::LookupReach::exists`] allows.
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
    /// [`crate::byte_sums::words`] of the constants times -1: totals end as the sums times -1 (triples), or as the sums, times -1 in the
    /// channels that are mirrored (pairs).
    pub start: *const i16,
    /// [`crate::byte_sums::words`] of the zero-point of each output channel; of pairs they are not read.
    pub zero_points: *const i16,
    /// The epilogue of 65536 times the totals, for as many channels as the tile has; its multipliers take back their sign. For
    /// [`store::AFFINE`] the weights are in [`crate::byte_sums::Order::Bytes`], multipliers and biases in the order of
    /// [`crate::byte_sums::quarters`], and codes of operands bytes below 16 (pairs: 8); else the weights are in
    /// [`crate::byte_sums::Order::Quarters`].
    pub epilogue: EpilogueArguments,
}
