//! Float tiles in 256-bit vectors.

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

/// The kernel of floats in 256-bit vectors.
#[derive(Debug)]
pub struct Float256(KernelInfo);

/// Fused multiplications and additions of 8 floats.
pub static FLOAT_256: Float256 = Float256(KernelInfo {
    name: "float-256",
    tier: Tier::X86V3,
    implementation: Implementation::Precompiled,
    superseded: &[Tier::Avx512Vnni],
    weight_bits: 32..=32,
    activation_bits: 32..=32,
    channels_per_vector: LANES,
    units_per_step: 1,
    vector_bytes: 4 * LANES,
    activations: ActivationFormat::Float,
});

/// Floats per vector.
const LANES: usize = 8;

/// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
const RATE: f64 = 14.5;

// SAFETY: `dispatch` accesses only the memory that the fields of its tile describe, in whole vectors, and has every shape that `exists`.
static TILE: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: 4 * LANES, step_bytes: 4, exists };
    Function::new("catc_float_256", Tier::X86V3, contract, tile)
};

/// Whether there is a tile of this shape. Its sums must fit the 16 registers.
const fn exists(pixels: usize, vectors: usize) -> bool {
    let most = match vectors {
        1 => 12,
        2 => 6,
        3 => 4,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}

impl Kernel for Float256 {
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
            epilogue: &epilogue::avx2::EPILOGUE_256,
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
/// The CPU has AVX2 and FMA. The block is a [`FloatTile`] whose shape [`exists`] and whose pointers cover the memory that its fields describe.
unsafe extern "C" fn tile(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { dispatch(&*block.cast::<FloatTile>()) }
}

#[rustfmt::skip]
float_tile!("avx2,fma", 8, __m256, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, [
    (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
    (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
    (1, 3), (2, 3), (3, 3), (4, 3),
]);
