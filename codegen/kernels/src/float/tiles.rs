//! Products of floats by precompiled tiles of sums: the kernel and the body of a tile, for every instruction set.

use super::FloatTile;
use crate::function::Function;
use crate::kernel::{Execution, Fit, Kernel, KernelInfo, Refusal, SumTiles, TileWeights};
use crate::query::Query;
use crate::tile_sizes::TileQuery;
use crate::vector::Vector;

/// Convolutions of floats by tiles of sums.
#[derive(Debug)]
pub struct FloatTiles {
    /// The properties that are the same for every layer.
    pub info: KernelInfo,
    /// The function that computes a tile of sums.
    pub tile: &'static Function,
    /// Whether there is a tile with this many pixels and vectors.
    pub exists: fn(usize, usize) -> bool,
    /// The epilogue, from sums to stored values.
    pub epilogue: &'static Function,
    /// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
    pub rate: f64,
}

impl Kernel for FloatTiles {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / self.rate
    }

    fn execution(&self) -> Execution {
        let FloatTiles { tile, epilogue, .. } = *self;
        Execution::SumTiles(SumTiles { tile, weights: TileWeights::Floats, epilogue, fuses: false })
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        let (p, v) = (pixels as f64, vectors as f64);
        // Half a cycle per product, a latency of four cycles, two loads per cycle. The rest is the epilogue and the call.
        let step = (0.5 * p * v).max(4.0).max((p + v) * 0.5);
        let end = p * v * self.info.channels_per_vector as f64 * 0.25 + 40.0;
        (self.exists)(pixels, vectors).then_some(query.steps as f64 * step + end)
    }
}

/// Steps per iteration of the innermost loop.
const TURN: usize = 4;

/// Distance of the prefetch ahead of the weights, in floats.
const AHEAD: usize = 1024;

/// A tile of `P` pixels and `N` vectors.
///
/// # Safety
/// The pointers of the tile cover the memory that its fields describe, including whole vectors of weights and sums.
#[inline(always)]
pub(super) unsafe fn sum<V: Vector, const P: usize, const N: usize>(mut v: V, t: &FloatTile) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[v.real(0.0); N]; P];
        for n in 0..N {
            let start = v.load_reals(t.start.add(V::LANES * n));
            for pixel in &mut sums {
                pixel[n] = start;
            }
        }
        let stride = t.input_pixel as isize;
        let mut weights = t.weights;
        for row in 0..t.rows {
            for tap in 0..t.taps {
                let mut input = t.input.byte_offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                for _ in 0..t.steps as usize / TURN {
                    for k in 0..TURN {
                        step(v, &mut sums, input.add(k), stride, weights.add(V::LANES * N * k));
                    }
                    input = input.add(TURN);
                    weights = weights.add(V::LANES * N * TURN);
                }
                for _ in 0..t.steps as usize % TURN {
                    step(v, &mut sums, input, stride, weights);
                    input = input.add(1);
                    weights = weights.add(V::LANES * N);
                }
            }
        }
        for (p, pixel) in sums.iter().enumerate() {
            let to = t.sums.byte_offset(p as isize * t.sums_pixel as isize);
            for (n, &sum) in pixel.iter().enumerate() {
                v.store_reals(to.add(V::LANES * n), sum, V::LANES as i64);
            }
        }
    }
}

/// Adds the products of one input channel. Pixels are `stride` bytes apart.
#[inline(always)]
unsafe fn step<V: Vector, const P: usize, const N: usize>(
    mut v: V,
    sums: &mut [[V::Real; N]; P],
    input: *const f32,
    stride: isize,
    weights: *const f32,
) {
    // SAFETY: the caller's promise; a prefetch may have any address.
    unsafe {
        for float in (0..N * V::LANES).step_by(16) {
            v.prefetch(weights.wrapping_add(AHEAD + float).cast());
        }
        let mut vectors = [v.real(0.0); N];
        for (n, vector) in vectors.iter_mut().enumerate() {
            *vector = v.load_reals(weights.add(V::LANES * n));
        }
        for (p, pixel) in sums.iter_mut().enumerate() {
            let x = v.real(*input.byte_offset(p as isize * stride));
            for (sum, &vector) in pixel.iter_mut().zip(&vectors) {
                *sum = v.fused_mul_add(x, vector, *sum);
            }
        }
    }
}
