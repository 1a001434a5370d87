//! Arguments of the tiles that sum products: of codes ([`super::dot`]) and of floats ([`super::float`]).

/// A tile of sums: `sums[p][o] = start[o] + sum_k input[p][k] * weights[k][o]` of inputs `I`, weights `W` and sums `S`.
///
/// The reduction of a pixel is a walk: `rows` filter rows, in each `taps` runs of `steps` steps. Weights are packed in that order, a
/// step's vectors together.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SumTile<I, W, S> {
    /// What the first pixel's first row meets first.
    pub input: *const I,
    /// The first weight vector of the block.
    pub weights: *const W,
    /// Initial sums, a whole vector for each vector of the block.
    pub start: *const S,
    /// Where the sums go: `vectors` whole vectors for each pixel.
    pub sums: *mut S,
    /// Bytes from a pixel's sums to the next pixel's.
    pub sums_pixel: i64,
    /// Bytes from a pixel's input to the next pixel's.
    pub input_pixel: i64,
    /// Pixels, 1 or more.
    pub pixels: i64,
    /// Vectors of output channels, 1 or more; together with `pixels` a shape that the family's `takes` allows.
    pub vectors: i64,
    /// Filter rows.
    pub rows: i64,
    /// Bytes from a filter row's input to the next.
    pub row_bytes: i64,
    /// Runs in a row.
    pub taps: i64,
    /// Bytes from a run's input to the next.
    pub tap_bytes: i64,
    /// Steps of a run: of four bytes, or of one float.
    pub steps: i64,
    /// Steps after which 16-bit sums must be widened, for kernels that have such.
    pub drain: i64,
}
