//! Float tiles in 512-bit vectors.

use super::tiles::FloatTiles;
use super::{FloatTile, each_shape};
use crate::epilogue;
use crate::function::{Contract, Function};
use crate::kernel::{ActivationFormat, Implementation, KernelInfo};
use crate::tier::Tier;
use crate::vector::Avx512;

/// Fused multiplications and additions of 16 floats.
pub static FLOAT_512: FloatTiles = FloatTiles {
    info: KernelInfo {
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
    },
    tile: &TILE,
    exists,
    epilogue: &epilogue::avx512::EPILOGUE_512,
    rate: 29.0,
};

/// Floats per vector.
const LANES: usize = 16;

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

/// The tile of `vfmadd`.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The block is a [`FloatTile`] whose shape [`exists`] and whose pointers cover the memory that its
/// fields describe.
unsafe extern "C" fn tile(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { dispatch(&*block.cast::<FloatTile>()) }
}

#[rustfmt::skip]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn dispatch(tile: &FloatTile) {
    // SAFETY: the caller's promise.
    unsafe {
        each_shape!(Avx512::new(), tile,
            (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
            (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2),
            (1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3),
            (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4),
        )
    }
}
