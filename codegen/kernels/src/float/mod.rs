//! Convolutions of floats, one value to a step ([`crate::dot::pack_float`]).

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod emitted;
pub mod tiles;

use crate::sum_tile::SumTile;

/// Floats, each product added without being rounded (fused), in the order of the walk.
pub type FloatTile = SumTile<f32, f32, f32>;

/// The body of a tile for one instruction set: the type and operations of its vectors, and the shapes it has.
#[cfg(target_arch = "x86_64")]
macro_rules! float_tile {
    ($features:literal, $lanes:literal, $vector:ty, $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident, [$(($p:literal, $v:literal)),* $(,)?]) => {
        #[target_feature(enable = $features)]
        unsafe fn dispatch(tile: &FloatTile) {
            match (tile.pixels, tile.vectors) {
                // SAFETY: the caller's promise.
                $(($p, $v) => unsafe { sum::<$p, $v>(tile) },)*
                _ => unreachable!("calls are emitted for shapes that `exists` allows, which is checked then"),
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn sum<const P: usize, const V: usize>(t: &FloatTile) {
            /// Steps of a turn.
            const TURN: usize = 4;
            /// Weights that are asked for ahead of their use.
            const AHEAD: usize = 1024;
            // SAFETY: all reads and writes are those that the block's fields describe; the caller promises that they are in bounds.
            unsafe {
                let mut sums: [[$vector; V]; P] = [[$zero(); V]; P];
                for v in 0..V {
                    let start = $load(t.start.add($lanes * v));
                    for pixel in &mut sums {
                        pixel[v] = start;
                    }
                }
                let mut weights = t.weights;
                let mut step = |input: *const f32, weights: *const f32| {
                    for v in (0..V * $lanes).step_by(16) {
                        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + v).cast());
                    }
                    let mut vectors: [$vector; V] = [$zero(); V];
                    for (v, vector) in vectors.iter_mut().enumerate() {
                        *vector = $load(weights.add($lanes * v));
                    }
                    for (p, pixel) in sums.iter_mut().enumerate() {
                        let x = $splat(*input.byte_offset(p as isize * t.input_pixel as isize));
                        for (sum, &vector) in pixel.iter_mut().zip(&vectors) {
                            *sum = $fma(x, vector, *sum);
                        }
                    }
                };
                for row in 0..t.rows {
                    for tap in 0..t.taps {
                        let mut input = t.input.byte_offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                        for _ in 0..t.steps as usize / TURN {
                            for k in 0..TURN {
                                step(input.add(k), weights.add($lanes * V * k));
                            }
                            input = input.add(TURN);
                            weights = weights.add($lanes * V * TURN);
                        }
                        for _ in 0..t.steps as usize % TURN {
                            step(input, weights);
                            input = input.add(1);
                            weights = weights.add($lanes * V);
                        }
                    }
                }
                for (p, pixel) in sums.iter().enumerate() {
                    let to = t.sums.byte_offset(p as isize * t.sums_pixel as isize);
                    for (v, &sum) in pixel.iter().enumerate() {
                        $store(to.add($lanes * v), sum);
                    }
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
use float_tile;
