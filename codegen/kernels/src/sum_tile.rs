//! Arguments of the tiles that sum products: of codes ([`super::dot`]) and of floats ([`super::float`]).

/// A tile of sums: `sums[p][o] = start[o] + sum_k input[p][k] * weights[k][o]` of inputs `I`, weights `W` and sums `S`.
///
/// The reduction visits `rows` filter rows, each of `taps` runs, each of `steps` steps. Weights are packed in this order; the vectors of
/// one step are adjacent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SumTile<I, W, S> {
    /// The input of the first pixel's first step.
    pub input: *const I,
    /// The first weight vector of the block.
    pub weights: *const W,
    /// Initial sums, a whole vector for each vector of output channels.
    pub start: *const S,
    /// Where the sums are stored: `vectors` whole vectors for each pixel.
    pub sums: *mut S,
    /// Bytes from a pixel's sums to the next pixel's.
    pub sums_pixel: i64,
    /// Bytes from a pixel's input to the next pixel's.
    pub input_pixel: i64,
    /// Pixels, 1 or more.
    pub pixels: i64,
    /// Vectors of output channels, 1 or more. The function's contract says which combinations with `pixels` exist
    /// ([`crate::Contract::SumTile`]).
    pub vectors: i64,
    /// Filter rows.
    pub rows: i64,
    /// Bytes from a filter row's input to the next.
    pub row_bytes: i64,
    /// Runs per filter row.
    pub taps: i64,
    /// Bytes from a run's input to the next.
    pub tap_bytes: i64,
    /// Steps per run. A step reads four bytes of the input. It advances by four bytes, or by two if weights are 16-bit integers.
    pub steps: i64,
    /// Steps after which 16-bit sums must be widened, 1 or more; not read by kernels without 16-bit sums.
    pub drain: i64,
}
