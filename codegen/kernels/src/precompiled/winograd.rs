//! Arguments of the tiles of a 3x3 convolution of stride 1 by Winograd's algorithm in integers ([`crate::winograd`]).

use super::finish::Finish;

/// The most positions of a transformed tile.
pub const MOST_POSITIONS: usize = 30;

/// Output channels of a block: two vectors of sums.
pub const BLOCK: usize = 32;

/// The most tiles of a call of the product.
pub const MOST_TILES: usize = 25;

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
    /// Added so that bytes are not negative ([`crate::winograd::Tile::offset`]).
    pub offset: i64,
    /// Output rows of a tile.
    pub tile_height: i64,
    /// Output columns of a tile, which is how far tiles are apart; together with the rows a form of [`crate::winograd::Tile`].
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
    /// Tiles, at most [`MOST_TILES`].
    pub tiles: i64,
    /// The block's weights: `[position][channels / 4][BLOCK][4]`.
    pub weights: *const i8,
    /// The block's initial sums: `[position][BLOCK]`.
    pub start: *const i32,
    /// Where the sums go: `[tile][BLOCK]` for each position, [`sums_bytes`] apart.
    pub sums: *mut i32,
    /// Steps of four channels after which 16-bit sums must be widened, for kernels that have such.
    pub drain: i64,
    /// Positions, at most [`MOST_POSITIONS`].
    pub positions: i64,
}

/// The results of a row of tiles, from their sums.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OutputTile {
    /// What to do with the results; its first pixel is the upper left one of the first tile.
    pub finish: Finish,
    /// Position 0 of the first tile's sums, `BLOCK` each.
    pub sums: *const i32,
    /// Bytes from position to position of the sums.
    pub position_bytes: i64,
    /// Tiles, at most [`MOST_TILES`].
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
