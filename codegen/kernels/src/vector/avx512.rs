//! Vectors of 512 bits.

use super::Vector;
use catc_scalar::Arithmetic;
use std::arch::x86_64::*;

/// Sixteen lanes. A value proves that the CPU has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU has AVX-512 F, BW, DQ and VL.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx512(())
    }
}

/// Defines methods that consist of one expression.
macro_rules! methods {
    ($($name:ident($($x:ident: $t:ty),*) -> $out:ty { $body:expr })*) => {
        $(#[inline(always)]
        fn $name(&mut self, $($x: $t),*) -> $out {
            // SAFETY: a value of this type exists only where the CPU has the instructions.
            unsafe { $body }
        })*
    };
}

impl Arithmetic for Avx512 {
    type Real = __m512;
    type Int = __m512i;
    type Mask = __mmask16;

    methods! {
        real(x: f32) -> __m512 { _mm512_set1_ps(x) }
        int(n: i32) -> __m512i { _mm512_set1_epi32(n) }
        add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        neg(x: __m512) -> __m512 { _mm512_xor_ps(x, _mm512_set1_ps(-0.0)) }
        abs(x: __m512) -> __m512 { _mm512_abs_ps(x) }
        sqrt(x: __m512) -> __m512 { _mm512_sqrt_ps(x) }
        floor(x: __m512) -> __m512 { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x) }
        ceil(x: __m512) -> __m512 { _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(x) }
        round_half_even(x: __m512) -> __m512 { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
        less(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        at_least(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b) }
        equal(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
        select(mask: __mmask16, a: __m512, b: __m512) -> __m512 { _mm512_mask_blend_ps(mask, b, a) }
        convert_to_int(x: __m512) -> __m512i { _mm512_cvtps_epi32(x) }
        convert_to_real(n: __m512i) -> __m512 { _mm512_cvtepi32_ps(n) }
        bits_to_int(x: __m512) -> __m512i { _mm512_castps_si512(x) }
        bits_to_real(n: __m512i) -> __m512 { _mm512_castsi512_ps(n) }
        add_int(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        sub_int(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        shift_left(n: __m512i, count: u32) -> __m512i { _mm512_sll_epi32(n, _mm_cvtsi32_si128(count as i32)) }
        shift_right(n: __m512i, count: u32) -> __m512i { _mm512_sra_epi32(n, _mm_cvtsi32_si128(count as i32)) }
    }
}

/// Packs 32-bit codes to bytes within each 128-bit quarter: double word `i` of a quarter has the codes of four lanes of vector `i`.
#[inline(always)]
fn pack(codes: [__m512i; 4]) -> __m512i {
    let [a, b, c, d] = codes;
    // SAFETY: the caller has a value of `Avx512`.
    unsafe { _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)) }
}

/// A mask of the first `count` of 16 lanes.
#[inline(always)]
fn first_of_16(count: i64) -> __mmask16 {
    if count >= 16 { u16::MAX } else { !(u16::MAX << count.max(0)) }
}

/// A mask of the first `count` of 64 bytes.
#[inline(always)]
fn first_of_64(count: i64) -> __mmask64 {
    if count >= 64 { u64::MAX } else { !(u64::MAX << count.max(0)) }
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    type Bytes = __m512i;

    #[inline(always)]
    unsafe fn load_reals(self, from: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_some_reals(self, from: *const f32, count: i64) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(first_of_16(count), from) }
    }

    #[inline(always)]
    unsafe fn load_ints(self, from: *const i32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_packed_bytes(self, from: *const u8, count: i64) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_epi8(first_of_64(count), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_reals(self, to: *mut f32, values: __m512, count: i64) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_ps(to, first_of_16(count), values) }
    }

    #[inline(always)]
    unsafe fn store_runs<const RUNS: usize>(self, to: *mut u8, stride: i64, bytes: __m512i, count: i64) {
        let mask = first_of_64(count);
        let run = |number: isize| to.wrapping_offset(number * stride as isize).cast::<i8>();
        // SAFETY: the caller's promise.
        unsafe {
            match RUNS {
                4 => {
                    let mask = mask as __mmask16;
                    _mm_mask_storeu_epi8(run(0), mask, _mm512_castsi512_si128(bytes));
                    _mm_mask_storeu_epi8(run(1), mask, _mm512_extracti32x4_epi32::<1>(bytes));
                    _mm_mask_storeu_epi8(run(2), mask, _mm512_extracti32x4_epi32::<2>(bytes));
                    _mm_mask_storeu_epi8(run(3), mask, _mm512_extracti32x4_epi32::<3>(bytes));
                }
                2 => {
                    let mask = mask as __mmask32;
                    _mm256_mask_storeu_epi8(run(0), mask, _mm512_castsi512_si256(bytes));
                    _mm256_mask_storeu_epi8(run(1), mask, _mm512_extracti64x4_epi64::<1>(bytes));
                }
                _ => {
                    const { assert!(RUNS == 1 || RUNS == 2 || RUNS == 4) }
                    _mm512_mask_storeu_epi8(run(0), mask, bytes);
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch may have any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    fn lane_numbers(self) -> __m512i {
        // SAFETY: a value of this type exists only where the CPU has the instructions; the same holds below.
        unsafe { _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }
    }

    #[inline(always)]
    fn look_up(self, table: __m512, index: __m512i) -> __m512 {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm512_permutexvar_ps(index, table) }
    }

    #[inline(always)]
    fn fused_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn zero_where_nan(self, x: __m512) -> __m512 {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), x) }
    }

    #[inline(always)]
    fn round_to_int(self, x: __m512) -> __m512i {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm512_cvtps_epi32(x) }
    }

    #[inline(always)]
    fn sub_halves(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm512_sub_epi16(a, b) }
    }

    #[inline(always)]
    fn shift_halves_left_8(self, a: __m512i) -> __m512i {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm512_slli_epi16::<8>(a) }
    }

    #[inline(always)]
    fn pack_vectors(self, codes: [__m512i; 4], highest: u8) -> __m512i {
        // SAFETY: see `lane_numbers`.
        unsafe {
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm512_permutexvar_epi32(order, pack(codes));
            _mm512_min_epu8(bytes, _mm512_set1_epi8(highest.cast_signed()))
        }
    }

    #[inline(always)]
    fn pack_lanes(self, codes: [__m512i; 4], highest: u8) -> __m512i {
        // SAFETY: see `lane_numbers`.
        unsafe {
            let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm512_shuffle_epi8(pack(codes), _mm512_broadcast_i32x4(order));
            _mm512_min_epu8(bytes, _mm512_set1_epi8(highest.cast_signed()))
        }
    }
}
