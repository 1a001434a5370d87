//! Float tiles in 256-bit vectors.

use super::float::{FloatTile, float_tile};
use std::arch::x86_64::*;

/// The tile of `vfmadd`.
///
/// # Safety
/// The CPU has AVX2 and FMA. The block is a [`FloatTile`] whose shape [`super::float::takes`] allows for 8 lanes and whose pointers cover
/// what its fields say.
pub(super) unsafe extern "C" fn float_256(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { dispatch(&*block.cast::<FloatTile>()) }
}

#[rustfmt::skip]
float_tile!("avx2,fma", 8, __m256, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, [
    (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
    (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
    (1, 3), (2, 3), (3, 3), (4, 3),
]);
