//! Arguments of the dot-product tiles.

/// A tile of sums: `sums[p][o] = start[o] + sum_k input[p][k] * weights[k][o]`, unsigned codes times signed bytes.
///
/// The reduction of a pixel is a walk: `rows` filter rows, in each `taps` runs of `steps` times four bytes. Weights are packed in
/// that order, a step's vectors together ([`crate::dot::pack`]).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DotTile {
    /// The first byte that the first pixel's first row meets.
    pub input: *const u8,
    /// The first weight vector of the block.
    pub weights: *const i8,
    /// Initial sums, a whole vector for each vector of the block.
    pub start: *const i32,
    /// Where the sums go: `vectors` whole vectors for each pixel.
    pub sums: *mut i32,
    /// Bytes from a pixel's sums to the next pixel's.
    pub sums_pixel: i64,
    /// Bytes from a pixel's input to the next pixel's.
    pub input_pixel: i64,
    /// Pixels, 1 to [`MOST_PIXELS`].
    pub pixels: i64,
    /// Vectors of output channels, 1 to [`MOST_VECTORS`]; together with `pixels` a shape that [`takes`] allows.
    pub vectors: i64,
    /// Filter rows.
    pub rows: i64,
    /// Bytes from a filter row's input to the next.
    pub row_bytes: i64,
    /// Runs in a row.
    pub taps: i64,
    /// Bytes from a run's input to the next.
    pub tap_bytes: i64,
    /// Steps of four bytes in a run.
    pub steps: i64,
}

/// The most pixels of a tile.
pub const MOST_PIXELS: usize = 14;

/// The most vectors of a tile.
pub const MOST_VECTORS: usize = 4;

/// Whether a tile of that shape exists: its sums fit the registers.
pub const fn takes(pixels: usize, vectors: usize) -> bool {
    let most = match vectors {
        1 | 2 => MOST_PIXELS,
        3 => 8,
        4 => 6,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}
