//! Float tiles in 512-bit vectors.

use super::float::{FloatTile, float_tile};
use std::arch::x86_64::*;

/// The tile of `vfmadd`.
///
/// # Safety
/// The CPU has AVX-512 F. The block is a [`FloatTile`] whose shape [`super::float::takes`] allows for 16 lanes and whose pointers cover
/// what its fields say.
pub(super) unsafe extern "C" fn float_512(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { dispatch(&*block.cast::<FloatTile>()) }
}

#[rustfmt::skip]
float_tile!("avx512f", 16, __m512, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, [
    (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
    (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2),
    (1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3),
    (1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4),
]);
