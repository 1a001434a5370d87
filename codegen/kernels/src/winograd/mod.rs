//! 3x3 convolutions of stride 1 by Winograd's algorithm in integers ([`forms`]): the kernel for every instruction set, and the arguments of its
//! three functions. They compute the transform of the input, the products, and the transform of the sums with the epilogue.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod forms;

pub use forms::{Form, WinogradWeights, pack};

use crate::dot::UNITS;
use crate::epilogue::EpilogueArguments;
use crate::function::Function;
use crate::kernel::{Execution, Fit, Kernel, KernelInfo, Refusal};
use crate::query::Query;

/// How the code of a layer runs a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WinogradTiles {
    /// The form of its tiles.
    pub form: Form,
    /// The transform of a row of tiles of the input; arguments [`InputTile`].
    pub input: &'static Function,
    /// The products of several tiles for a block of output channels; arguments [`ProductTile`].
    pub product: &'static Function,
    /// The transform of the sums of a row of tiles, and the epilogue; arguments [`OutputTile`].
    pub output: &'static Function,
    /// Whether the epilogue supports [`crate::epilogue::store::AFFINE`].
    pub fuses: bool,
}

/// A kernel of the family.
#[derive(Debug)]
pub struct Winograd {
    info: KernelInfo,
    tiles: WinogradTiles,
    /// For kernels with 16-bit sums: the fewest steps between drains for which Winograd's algorithm is faster than a direct convolution.
    min_steps_per_drain: Option<usize>,
    /// Cycles, measured on an Intel Xeon (Emerald Rapids): of four products for a vector of output channels, of the transform of a vector of
    /// input channels, and of the transform and epilogue of a vector of output channels. The latter two are per position of a tile.
    costs: [f64; 3],
}

/// The least number of input and of output channels for which the transforms save more than they cost.
const MIN_CHANNELS: usize = 16;

/// Weights of up to this many bytes stay in the second-level cache until the next image.
const CACHED_WEIGHTS: f64 = 1e6;

/// Bytes per cycle at which larger weights arrive from memory.
const ARRIVING: f64 = 9.0;

impl Kernel for Winograd {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        let (form, shape, window) = (self.tiles.form, &query.shape, &query.window);
        let codes = query.code_operands()?;
        query.one_group()?;
        if [shape.kernel_height, shape.kernel_width] != [3; 2] || window.strides != [1; 2] || window.dilations != [1; 2]
        {
            return Err(Refusal::new("needs 3x3 filters, stride 1 and dilation 1"));
        }
        if shape.inputs < MIN_CHANNELS || shape.outputs < MIN_CHANNELS {
            return Err(Refusal::new(format!("needs at least {MIN_CHANNELS} input and output channels")));
        }
        query.epilogue.precompiled.clone()?;
        if form.scale() as u64 * query.largest_result() > i32::MAX as u64 {
            return Err(Refusal::new("sums may exceed 32 bits"));
        }
        if !form.takes(codes.levels()) {
            return Err(Refusal::new("transformed activations may not fit in a byte"));
        }
        // The multipliers are divided by a power of two, which is exact unless they become subnormal.
        if query.epilogue.smallest_multiplier < form.left_scale() as f32 * f32::MIN_POSITIVE {
            return Err(Refusal::new("the requantize factor of a channel is too small"));
        }
        if !forms::fits(codes.weights, query.largest_absolute(), form) {
            return Err(Refusal::new("transformed weights do not fit in a byte"));
        }
        let Some(least) = self.min_steps_per_drain else { return Ok(Fit::default()) };
        let steps_per_drain = forms::steps_per_drain(query.largest_absolute(), codes.levels());
        if steps_per_drain < least {
            return Err(Refusal::new(format!("16-bit sums hold only {steps_per_drain} steps, and it needs {least}")));
        }
        Ok(Fit { steps_per_drain })
    }

    /// Cycles of the products or of the arrival of the weights, whichever takes longer, plus the transforms of the input and of the sums.
    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        let (form, shape, [product, input, output]) = (self.tiles.form, &query.shape, self.costs);
        let tiles: usize = form.count(query.window.output).iter().product();
        let positions = (tiles * form.positions()) as f64;
        let vector_bytes = self.info.vector_bytes;
        let quads = shape.inputs.div_ceil(UNITS) as f64;
        let vectors = shape.outputs.div_ceil(self.info.channels_per_vector) as f64;
        let weights = (form.positions() * vector_bytes) as f64 * quads * vectors;
        let products = positions * quads * vectors * product;
        let arrival = if weights > CACHED_WEIGHTS { weights / ARRIVING } else { 0.0 };
        let inputs = (shape.inputs as f64 / vector_bytes as f64).ceil();
        products.max(arrival) + 0.2 * arrival + positions * (input * inputs + output * vectors)
    }

    fn execution(&self) -> Execution {
        Execution::Winograd(self.tiles)
    }
}

/// The most positions of a transformed tile.
pub const MAX_POSITIONS: usize = 30;

/// Output channels of a block: two vectors of sums.
pub const BLOCK: usize = 32;

/// The most tiles per call of the product.
pub const MAX_TILES: usize = 25;

/// Transforms a row of tiles of the input to bytes `transformed[position][tile][channel]`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InputTile {
    /// The first channel of the upper left pixel of the first tile.
    pub input: *const u8,
    /// Bytes from pixel to pixel.
    pub pixel_bytes: i64,
    /// Bytes from row to row.
    pub row_bytes: i64,
    /// Channels, a multiple of four; channels that the image does not have get zero weights.
    pub channels: i64,
    /// Tiles.
    pub tiles: i64,
    /// Where position 0 of the first tile is stored: `channels` bytes for each tile, without gaps.
    pub transformed: *mut u8,
    /// Bytes from position to position.
    pub position_bytes: i64,
    /// Added to transformed activations so that none is negative ([`Form::offset`]).
    pub offset: i64,
    /// Output rows of a tile.
    pub tile_height: i64,
    /// Output columns of a tile, which is also the distance between tiles in pixels. Rows and columns are those of a [`Form`].
    pub tile_width: i64,
}

/// Bytes from position to position of the sums of `tiles` tiles: an odd number of cache lines, so that the positions of a tile are in
/// different sets of the cache.
pub const fn sums_bytes(tiles: usize) -> usize {
    4 * BLOCK * tiles + 64
}

/// The products of several tiles for a block of output channels: `sums[position][tile][channel]`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProductTile {
    /// Position 0 of the first tile.
    pub transformed: *const u8,
    /// Bytes from position to position of the transformed input.
    pub position_bytes: i64,
    /// Bytes of a tile at one position, a multiple of four.
    pub channels: i64,
    /// Tiles, at most [`MAX_TILES`].
    pub tiles: i64,
    /// The block's weights: `[position][channels / 4][BLOCK][4]`.
    pub weights: *const i8,
    /// The block's initial sums: `[position][BLOCK]`.
    pub start: *const i32,
    /// Where the sums are stored: `[tile][BLOCK]` for each position, [`sums_bytes`] apart.
    pub sums: *mut i32,
    /// Steps of four channels after which 16-bit sums must be widened, 1 or more; not read by kernels without 16-bit sums.
    pub drain: i64,
    /// Positions, at most [`MAX_POSITIONS`].
    pub positions: i64,
}

/// The results of a row of tiles, from their sums.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OutputTile {
    /// The epilogue of the results. Its first pixel is the upper left one of the first tile.
    pub epilogue: EpilogueArguments,
    /// Position 0 of the first tile's sums, `BLOCK` for each tile, on a cache line boundary.
    pub sums: *const i32,
    /// Bytes from position to position of the sums, a multiple of a cache line.
    pub position_bytes: i64,
    /// Tiles, at most [`MAX_TILES`].
    pub tiles: i64,
    /// Output pixels of a row, at most `tile_width` for each tile.
    pub pixels: i64,
    /// Output rows, at most `tile_height`.
    pub rows: i64,
    /// Output rows of a tile.
    pub tile_height: i64,
    /// Output columns of a tile.
    pub tile_width: i64,
}
