//! Float tiles in 512-bit vectors.

use super::{FloatTile, float_tile, tile_cycles};
use crate::epilogue;
use crate::function::{Contract, Function};
use crate::kernel::{
    ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, Refusal, SumTiles, TileWeights,
};
use crate::query::Query;
use crate::tier::Tier;
use crate::tile_sizes::TileQuery;
use std::arch::x86_64::*;

/// The kernel of floats in 512-bit vectors.
#[derive(Debug)]
pub struct Float512(KernelInfo);

/// Fused multiplications and additions of 16 floats.
pub static FLOAT_512: Float512 = Float512(KernelInfo {
    name: "float-512",
    tier: Tier::Avx512Vnni,
    implementation: Implementation::Precompiled,
    superseded: &[],
    weight_bits: 32..=32,
    activation_bits: 32..=32,
    channels_per_vector: LANES,
    units_per_step: 1,
    vector_bytes: 4 * LANES,
    activations: ActivationFormat::Float,
});

/// Floats per vector.
const LANES: usize = 16;

/// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
const RATE: f64 = 29.0;

// SAFETY: `dispatch` accesses only the memory that the fields of its tile describe, in whole vectors, and has every shape that `exists`.
static TILE: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: 4 * LANES, step_bytes: 4, exists };
    Function::new("catc_float_512", Tier::Avx512Vnni, contract, tile)
};

/// Whether there is a tile of this shape. Its sums must fit the 32 registers. It has at most eight pixels, because the addresses of more
/// do not fit registers, which makes a tile almost twice as slow.
const fn exists(pixels: usize, vectors: usize) -> bool {
    let most = match vectors {
        1..=3 => 8,
        4 => 6,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}

impl Kernel for Float512 {
    fn info(&self) -> &KernelInfo {
        &self.0
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / RATE
    }

    fn execution(&self) -> Execution {
        Execution::SumTiles(SumTiles {
            tile: &TILE,
            weights: TileWeights::Floats,
            epilogue: &epilogue::avx512::EPILOGUE_512,
            fuses: false,
        })
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        exists(pixels, vectors).then(|| tile_cycles(query, pixels, vectors, LANES))
    }
}

/// The tile of `vfmadd`.
///
/// # Safety
/// The CPU has AVX-512 F. The block is a [`FloatTile`] whose shape [`exists`] and whose pointers cover the memory that its fields describe.
unsafe extern "C" fn tile(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { dispatch(&*block.cast::<FloatTile>()) }
}

#[rustfmt::skip]
float_tile!("avx512f", 16, __m512, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, [
    (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
    (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2),
    (1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3),
    (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4),
]);
