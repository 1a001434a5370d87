//! 3x3 convolutions of stride 1 by Winograd's algorithm in integers ([`forms`]), in three functions: the transform of the input, the
//! products, and the transform of the sums with the epilogue. Here are their arguments, and the kernel, whatever its instruction set.

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
    /// The products of some tiles with a block of output channels; arguments [`ProductTile`].
    pub product: &'static Function,
    /// The transform of the sums of a row of tiles, and the epilogue; arguments [`OutputTile`].
    pub output: &'static Function,
    /// Whether the epilogue has [`crate::epilogue::store::AFFINE`].
    pub fuses: bool,
}

/// A kernel of the family.
#[derive(Debug)]
pub struct Winograd {
    info: KernelInfo,
    tiles: WinogradTiles,
    /// For kernels of 16-bit sums: the fewest steps between drains with which products of tiles are faster than direct ones.
    min_steps_per_drain: Option<usize>,
    /// Cycles, measured on an Intel Xeon (Emerald Rapids), of four products of a vector of output channels; of the transforms of a vector
    /// of the input, and of a vector of output channels.
    costs: [f64; 3],
}

/// Channels and outputs below which the transforms cost more than they save.
const MIN_CHANNELS: usize = 16;

/// Bytes of weights that stay in the second-level cache until the next image.
const CACHED_WEIGHTS: f64 = 1e6;

/// Bytes of weights that arrive in a cycle otherwise.
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
            return Err(Refusal::new("it takes 3x3 filters of stride and dilation 1"));
        }
        if shape.inputs < MIN_CHANNELS || shape.outputs < MIN_CHANNELS {
            return Err(Refusal::new(format!("it takes {MIN_CHANNELS} input and output channels or more")));
        }
        query.epilogue.precompiled.clone()?;
        if form.scale() as u64 * query.largest_result() > i32::MAX as u64 {
            return Err(Refusal::new("its sums may exceed 32 bits"));
        }
        if !form.takes(codes.levels()) {
            return Err(Refusal::new("transformed activations do not fit a byte"));
        }
        // A power of two is taken from the multipliers, which rounds nothing unless they become subnormal.
        if query.epilogue.smallest_multiplier < form.left_scale() as f32 * f32::MIN_POSITIVE {
            return Err(Refusal::new("a factor of its sums is too small"));
        }
        if !forms::fits(codes.weights, query.largest_absolute(), form) {
            return Err(Refusal::new("transformed weights do not fit a byte"));
        }
        let Some(least) = self.min_steps_per_drain else { return Ok(Fit::default()) };
        let steps_per_drain = forms::steps_per_drain(query.largest_absolute(), codes.levels());
        if steps_per_drain < least {
            return Err(Refusal::new(format!("16-bit sums must be widened after {steps_per_drain} steps")));
        }
        Ok(Fit { steps_per_drain })
    }

    /// The products, unless the weights take longer to arrive; and the transforms of the input and of the sums.
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

/// The most tiles of a call of the product.
pub const MAX_TILES: usize = 25;

/// Transforms a row of tiles of the input: `transformed[position][tile][channel]`, bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InputTile {
    /// The first channel of the upper left pixel of the first tile.
    pub input: *const u8,
    /// Bytes from pixel to pixel.
    pub pixel_bytes: i64,
    /// Bytes from row to row.
    pub row_bytes: i64,
    /// Channels, a multiple of four; those past the image's meet zero weights.
    pub channels: i64,
    /// Tiles.
    pub tiles: i64,
    /// Where position 0 of the first tile goes; tiles follow one another, `channels` bytes each.
    pub transformed: *mut u8,
    /// Bytes from position to position.
    pub position_bytes: i64,
    /// Added so that bytes are not negative ([`Form::offset`]).
    pub offset: i64,
    /// Output rows of a tile.
    pub tile_height: i64,
    /// Output columns of a tile, which is how far tiles are apart; together with the rows a form of [`Form`].
    pub tile_width: i64,
}

/// Bytes from position to position of the sums of that many tiles: an odd number of cache lines, so that the positions of a tile do not
/// share a set of the cache.
pub const fn sums_bytes(tiles: usize) -> usize {
    4 * BLOCK * tiles + 64
}

/// The products of some tiles with a block of output channels: `sums[position][tile][channel]`.
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
    /// Where the sums go: `[tile][BLOCK]` for each position, [`sums_bytes`] apart.
    pub sums: *mut i32,
    /// Steps of four channels after which 16-bit sums must be widened, for kernels that have such.
    pub drain: i64,
    /// Positions, at most [`MAX_POSITIONS`].
    pub positions: i64,
}

/// The results of a row of tiles, from their sums.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OutputTile {
    /// What to do with the results; its first pixel is the upper left one of the first tile.
    pub epilogue: EpilogueArguments,
    /// Position 0 of the first tile's sums, `BLOCK` each.
    pub sums: *const i32,
    /// Bytes from position to position of the sums.
    pub position_bytes: i64,
    /// Tiles, at most [`MAX_TILES`].
    pub tiles: i64,
    /// Pixels of a row, at most `tile_width` for each tile.
    pub pixels: i64,
    /// Rows, 1 to `tile_height`.
    pub rows: i64,
    /// Output rows of a tile.
    pub tile_height: i64,
    /// Output columns of a tile.
    pub tile_width: i64,
}
