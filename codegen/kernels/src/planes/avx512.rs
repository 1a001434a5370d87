//! Planes of f32 to pixels of codes, 16 pixels at a time.

use super::{MAX_PLANES, PlanesRow, Quantization};
use crate::function::{Contract, Function};
use crate::tier::Tier;
use std::arch::x86_64::*;

// SAFETY: `pixels` accesses only the memory that the fields of the row describe, because loads and stores are limited to pixels that exist.
pub(super) static PLANES_512: Function =
    unsafe { Function::new("catc_planes_512", Tier::Avx512Vnni, Contract::Planes, planes_512) };

/// Quantizes a row of pixels.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The block is a [`PlanesRow`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn planes_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::Planes`).
    unsafe {
        let row = &*block.cast::<PlanesRow>();
        match row.planes {
            1 => pixels::<1>(row),
            2 => pixels::<2>(row),
            3 => pixels::<3>(row),
            _ => pixels::<MAX_PLANES>(row),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pixels<const C: usize>(row: &PlanesRow) {
    // SAFETY: loads are masked to the pixels that exist, and only pixels that exist are copied to the output.
    unsafe {
        let q = &*row.quantization;
        let mut done = 0;
        while done < row.pixels {
            let count = (row.pixels - done).min(16);
            let mask = (u32::MAX >> (32 - count)) as __mmask16;
            let mut planes = [_mm_setzero_si128(); C];
            for (c, plane) in planes.iter_mut().enumerate() {
                let from = row.input.byte_offset((c as i64 * row.plane_bytes + 4 * done) as isize);
                *plane = codes(q, _mm512_maskz_loadu_ps(mask, from));
            }
            let to = row.output.add(C * done as usize);
            let mut last = [_mm_setzero_si128(); C];
            for (vector, masks) in last.iter_mut().zip(&Interleaving::<C>::MASKS) {
                for (&plane, mask) in planes.iter().zip(masks) {
                    let placed = _mm_shuffle_epi8(plane, _mm_loadu_si128(mask.as_ptr().cast()));
                    *vector = _mm_or_si128(*vector, placed);
                }
            }
            if count == 16 {
                for (number, &vector) in last.iter().enumerate() {
                    _mm_storeu_si128(to.add(16 * number).cast(), vector);
                }
            } else {
                std::ptr::copy_nonoverlapping(last.as_ptr().cast(), to, C * count as usize);
            }
            done += count;
        }
    }
}

/// The shuffles that interleave 16 pixels of `C` planes into `C` vectors of 16 bytes.
struct Interleaving<const C: usize>;

impl<const C: usize> Interleaving<C> {
    /// The shuffle of each plane for each output vector. A constant, because computing it for every row would take as long as the row itself.
    const MASKS: [[[u8; 16]; C]; C] = {
        let mut masks = [[[0x80; 16]; C]; C];
        let mut at = 0;
        while at < 16 * C {
            masks[at / 16][at % C][at % 16] = (at / C) as u8;
            at += 1;
        }
        masks
    };
}

/// Quantizes sixteen values.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn codes(q: &Quantization, values: __m512) -> __m128i {
    let t = _mm512_mul_ps(_mm512_mul_ps(values, _mm512_set1_ps(q.scale)), _mm512_set1_ps(q.requantize));
    let ordered = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(t, t);
    let t = _mm512_maskz_mov_ps(ordered, t);
    let t = _mm512_max_ps(t, _mm512_set1_ps(-(q.zero as f32)));
    let t = _mm512_min_ps(t, _mm512_set1_ps((q.levels as i32 - q.zero) as f32));
    // Rounds half to even. The value was clamped before, so the code is in range.
    let code = _mm512_add_epi32(_mm512_cvtps_epi32(t), _mm512_set1_epi32(q.zero));
    _mm512_cvtepi32_epi8(code)
}
