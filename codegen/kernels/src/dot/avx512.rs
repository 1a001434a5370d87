//! Dot products of bytes in 512-bit vectors.

use super::tiles::{Costs, DotTiles};
use super::{DotTile, UNITS};
use crate::epilogue;
use crate::function::{Contract, Function};
use crate::kernel::{ActivationFormat, Implementation, KernelInfo, TileWeights};
use crate::tier::Tier;
use std::arch::x86_64::*;

/// Four-way products of unsigned and signed bytes by `vpdpbusd`.
pub static VNNI_512: DotTiles = DotTiles {
    info: KernelInfo {
        name: "dot-vnni-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled,
        superseded: &[],
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        channels_per_vector: 16,
        units_per_step: UNITS,
        vector_bytes: 64,
        activations: ActivationFormat::Byte,
    },
    tile: &TILE,
    exists,
    weights: TileWeights::Bytes,
    epilogue: &epilogue::avx512::EPILOGUE_512,
    fuses: true,
    min_steps_per_drain: None,
    costs: Costs { layer: [0.53, 2.5], tile: [0.5, 0.0, 5.0] },
};

// SAFETY: `dispatch` accesses only the memory that the fields of its tile describe, in whole vectors, and has every shape that `exists`.
static TILE: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: 64, step_bytes: 4, exists };
    Function::new("catc_dot_vnni_512", Tier::Avx512Vnni, contract, tile)
};

/// Whether there is a tile of this shape. Its sums must fit the 32 registers.
const fn exists(pixels: usize, vectors: usize) -> bool {
    let most = match vectors {
        1 | 2 => 14,
        3 => 8,
        4 => 6,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}

/// The tile of `vpdpbusd`.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VNNI. The block is a [`DotTile`] whose shape [`exists`] and whose pointers cover the memory that its
/// fields describe.
unsafe extern "C" fn tile(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { dispatch(&*block.cast::<DotTile>()) }
}

/// Distance of the prefetch ahead of the weights, in bytes.
const AHEAD: usize = 4096;

macro_rules! shapes {
    ($tile:expr, $(($p:literal, $v:literal)),* $(,)?) => {
        match ($tile.pixels, $tile.vectors) {
            // SAFETY: the caller's promise.
            $(($p, $v) => unsafe { sum::<$p, $v>($tile) },)*
            _ => unreachable!("calls are emitted for shapes that `exists` allows, which is checked then"),
        }
    };
}

/// Computes a tile with the code for its shape.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn dispatch(tile: &DotTile) {
    #[rustfmt::skip]
    shapes!(tile,
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1), (13, 1), (14, 1),
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2), (9, 2), (10, 2), (11, 2), (12, 2), (13, 2), (14, 2),
        (1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3),
        (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4),
    );
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn sum<const P: usize, const V: usize>(t: &DotTile) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); V]; P];
        for v in 0..V {
            let start = _mm512_loadu_si512(t.start.add(16 * v).cast());
            for pixel in &mut sums {
                pixel[v] = start;
            }
        }
        let mut weights = t.weights;
        for row in 0..t.rows {
            for tap in 0..t.taps {
                let mut input = t.input.offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                for _ in 0..t.steps {
                    let mut vectors = [_mm512_setzero_si512(); V];
                    for (v, vector) in vectors.iter_mut().enumerate() {
                        *vector = _mm512_loadu_si512(weights.add(64 * v).cast());
                        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(64 * v + AHEAD));
                    }
                    for (p, pixel) in sums.iter_mut().enumerate() {
                        let at = input.offset(p as isize * t.input_pixel as isize);
                        let codes = _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
                        for (sum, &vector) in pixel.iter_mut().zip(&vectors) {
                            *sum = _mm512_dpbusd_epi32(*sum, codes, vector);
                        }
                    }
                    input = input.add(4);
                    weights = weights.add(64 * V);
                }
            }
        }
        for (p, pixel) in sums.iter().enumerate() {
            let to = t.sums.byte_offset(p as isize * t.sums_pixel as isize);
            for (v, &sum) in pixel.iter().enumerate() {
                _mm512_storeu_si512(to.add(16 * v).cast(), sum);
            }
        }
    }
}
