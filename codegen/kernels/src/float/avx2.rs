//! Float tiles in 256-bit vectors.

use super::tiles::FloatTiles;
use super::{FloatTile, each_shape};
use crate::epilogue;
use crate::function::{Contract, Function};
use crate::kernel::{ActivationFormat, Implementation, KernelInfo};
use crate::tier::Tier;
use crate::vector::Avx2;

/// Fused multiplications and additions of 8 floats.
pub static FLOAT_256: FloatTiles = FloatTiles {
    info: KernelInfo {
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
    },
    tile: &TILE,
    exists,
    epilogue: &epilogue::avx2::EPILOGUE_256,
    rate: 14.5,
};

/// Floats per vector.
const LANES: usize = 8;

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

/// The tile of `vfmadd`.
///
/// # Safety
/// The CPU has AVX2 and FMA. The block is a [`FloatTile`] whose shape [`exists`] and whose pointers cover the memory that its fields describe.
unsafe extern "C" fn tile(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { dispatch(&*block.cast::<FloatTile>()) }
}

#[rustfmt::skip]
#[target_feature(enable = "avx2,fma")]
unsafe fn dispatch(tile: &FloatTile) {
    // SAFETY: the caller's promise.
    unsafe {
        each_shape!(Avx2::new(), tile,
            (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
            (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
            (1, 3), (2, 3), (3, 3), (4, 3),
        )
    }
}
