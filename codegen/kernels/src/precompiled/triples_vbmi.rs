//! 2-bit look-ups by `vpermb`.

use super::triples::{LookupTile, PackTile, PixelSums};
use crate::triples::STEPS_PER_DRAIN;
use std::arch::x86_64::*;

/// Turns a row of pixels into offsets.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VBMI. The block is a [`PackTile`] whose pointers cover what its fields say.
pub(super) unsafe extern "C" fn lookup_pack_vbmi(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { pack(&*block.cast::<PackTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn pack(t: &PackTile) {
    // SAFETY: loads are masked to the pixel's channels; stores reach at most 64 offsets past the last, which the caller allows.
    unsafe {
        let shares = _mm512_loadu_si512(t.shares.cast());
        let first = |count: i64| if count >= 64 { u64::MAX } else { !(u64::MAX << count.max(0)) };
        for pixel in 0..t.pixels {
            let from = t.input.offset((pixel * t.pixel_bytes) as isize);
            let to = t.offsets.add((pixel * t.triples) as usize);
            let (mut share_sum, mut code_sum) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            let mut triple = 0;
            while triple < t.triples {
                let here = first(t.triples - triple);
                let part = |part: i64| {
                    let channel = triple + part * t.triples;
                    _mm512_maskz_loadu_epi8(
                        here & first(t.channels - channel),
                        from.wrapping_offset(channel as isize).cast(),
                    )
                };
                let (a0, a1, a2) = (part(0), part(1), part(2));
                // Codes are below 4: nothing crosses from byte to byte.
                let index =
                    _mm512_or_si512(a0, _mm512_or_si512(_mm512_slli_epi16::<2>(a1), _mm512_slli_epi16::<4>(a2)));
                let codes = _mm512_add_epi8(a0, _mm512_add_epi8(a1, a2));
                let zero = _mm512_setzero_si512();
                code_sum = _mm512_add_epi64(code_sum, _mm512_sad_epu8(codes, zero));
                let share = _mm512_permutexvar_epi8(index, shares);
                share_sum = _mm512_add_epi64(share_sum, _mm512_sad_epu8(share, zero));
                let low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(index));
                let high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(index));
                let to = to.add(triple as usize);
                _mm512_storeu_si512(to.cast(), _mm512_slli_epi16::<6>(low));
                if t.triples - triple > 32 {
                    _mm512_storeu_si512(to.add(32).cast(), _mm512_slli_epi16::<6>(high));
                }
                triple += 64;
            }
            *t.sums.add(pixel as usize) = PixelSums {
                shares: _mm512_reduce_add_epi64(share_sum) as i32,
                codes: _mm512_reduce_add_epi64(code_sum) as i32,
            };
        }
    }
}

/// A tile of sums.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VBMI. The block is a [`LookupTile`] whose pointers cover what its fields say.
pub(super) unsafe extern "C" fn lookup_vbmi(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { dispatch(&*block.cast::<LookupTile>()) }
}

macro_rules! shapes {
    ($tile:expr, $(($p:literal, $v:literal)),* $(,)?) => {
        match ($tile.pixels, $tile.vectors) {
            // SAFETY: the caller's promise.
            $(($p, $v) => unsafe { tile::<$p, $v>($tile) },)*
            _ => debug_assert!(false, "no such tile"),
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn dispatch(tile: &LookupTile) {
    #[rustfmt::skip]
    shapes!(tile,
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2),
    );
}

/// 16-bit totals of a tile: for each pixel and vector the even and the odd channels' bytes.
#[repr(C, align(64))]
struct Totals<const P: usize, const V: usize>([[[__m512i; 2]; V]; P]);

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn tile<const P: usize, const V: usize>(t: &LookupTile) {
    // SAFETY: all reads and writes are those that the block's fields describe; the caller promises that they are in bounds. Offsets
    // are below 4096, the size of the table.
    unsafe {
        let mut totals = Totals([[[_mm512_setzero_si512(); 2]; V]; P]);
        let mut weights = t.weights;
        for row in 0..t.rows {
            for tap in 0..t.taps {
                let mut offsets = t.offsets.byte_offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                let parts = (t.steps + STEPS_PER_DRAIN as i64 - 1) / STEPS_PER_DRAIN as i64;
                let mut left = t.steps;
                for part in (1..=parts).rev() {
                    let steps = left / part;
                    left -= steps;
                    let mut sums = [[_mm512_setzero_si512(); V]; P];
                    for _ in 0..steps {
                        let mut vectors = [_mm512_setzero_si512(); V];
                        for (v, vector) in vectors.iter_mut().enumerate() {
                            *vector = _mm512_loadu_si512(weights.add(64 * v).cast());
                        }
                        for (p, pixel) in sums.iter_mut().enumerate() {
                            let offset = *offsets.byte_offset(p as isize * t.pixel_bytes as isize);
                            let row = _mm512_load_si512(t.table.add(usize::from(offset)).cast());
                            for (sum, &vector) in pixel.iter_mut().zip(&vectors) {
                                *sum = _mm512_add_epi8(*sum, _mm512_permutexvar_epi8(vector, row));
                            }
                        }
                        offsets = offsets.add(1);
                        weights = weights.add(64 * V);
                    }
                    let low = _mm512_set1_epi16(0xff);
                    for (totals, sums) in totals.0.iter_mut().zip(&sums) {
                        for (total, &sum) in totals.iter_mut().zip(sums) {
                            total[0] = _mm512_add_epi16(total[0], _mm512_and_si512(sum, low));
                            total[1] = _mm512_add_epi16(total[1], _mm512_srli_epi16::<8>(sum));
                        }
                    }
                }
            }
        }
        for (p, totals) in totals.0.iter().enumerate() {
            let mut met = PixelSums::default();
            let sums = t.sums.byte_offset(p as isize * t.sums_pixel as isize);
            for row in 0..t.rows {
                for column in 0..t.columns {
                    let at = *sums.byte_offset((row * t.sums_row + column * t.sums_tap) as isize);
                    met.shares += at.shares;
                    met.codes += at.codes;
                }
            }
            let shares = _mm512_set1_epi32(met.shares);
            let codes = _mm512_set1_epi32(met.codes);
            let common = _mm512_set1_epi32(met.shares - t.zero_point as i32 * met.codes);
            for (v, total) in totals.iter().enumerate() {
                let shorts = [
                    _mm512_castsi512_si256(total[0]),
                    _mm512_extracti64x4_epi64::<1>(total[0]),
                    _mm512_castsi512_si256(total[1]),
                    _mm512_extracti64x4_epi64::<1>(total[1]),
                ];
                for (quarter, &shorts) in shorts.iter().enumerate() {
                    let channel = 64 * v + 16 * quarter;
                    let constant = _mm512_loadu_si512(t.constants.add(channel).cast());
                    let own = if t.zero_points.is_null() {
                        common
                    } else {
                        let zero_points = _mm512_loadu_si512(t.zero_points.add(channel).cast());
                        _mm512_sub_epi32(shares, _mm512_mullo_epi32(zero_points, codes))
                    };
                    let sum = _mm512_sub_epi32(_mm512_add_epi32(constant, own), _mm512_cvtepu16_epi32(shorts));
                    _mm512_storeu_si512(t.results.add(p * V * 64 + channel).cast(), sum);
                }
            }
        }
    }
}
