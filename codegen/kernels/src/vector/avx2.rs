//! Vectors of 256 bits.

use super::Vector;
use catc_scalar::Arithmetic;
use std::arch::x86_64::*;

/// Eight lanes. A value proves that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new() -> Self {
        Avx2(())
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

impl Arithmetic for Avx2 {
    type Real = __m256;
    type Int = __m256i;
    type Mask = __m256;

    methods! {
        real(x: f32) -> __m256 { _mm256_set1_ps(x) }
        int(n: i32) -> __m256i { _mm256_set1_epi32(n) }
        add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        neg(x: __m256) -> __m256 { _mm256_xor_ps(x, _mm256_set1_ps(-0.0)) }
        abs(x: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) }
        sqrt(x: __m256) -> __m256 { _mm256_sqrt_ps(x) }
        floor(x: __m256) -> __m256 { _mm256_floor_ps(x) }
        ceil(x: __m256) -> __m256 { _mm256_ceil_ps(x) }
        round_half_even(x: __m256) -> __m256 { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
        less(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
        at_least(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_GE_OQ>(a, b) }
        equal(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b) }
        select(mask: __m256, a: __m256, b: __m256) -> __m256 { _mm256_blendv_ps(b, a, mask) }
        convert_to_int(x: __m256) -> __m256i { _mm256_cvtps_epi32(x) }
        convert_to_real(n: __m256i) -> __m256 { _mm256_cvtepi32_ps(n) }
        bits_to_int(x: __m256) -> __m256i { _mm256_castps_si256(x) }
        bits_to_real(n: __m256i) -> __m256 { _mm256_castsi256_ps(n) }
        add_int(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        sub_int(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) }
        and(a: __m256i, b: __m256i) -> __m256i { _mm256_and_si256(a, b) }
        or(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        shift_left(n: __m256i, count: u32) -> __m256i { _mm256_sll_epi32(n, _mm_cvtsi32_si128(count as i32)) }
        shift_right(n: __m256i, count: u32) -> __m256i { _mm256_sra_epi32(n, _mm_cvtsi32_si128(count as i32)) }
    }
}

/// Packs 32-bit codes to bytes within each 128-bit half: double word `i` of a half has the codes of four lanes of vector `i`.
#[inline(always)]
fn pack(codes: [__m256i; 4]) -> __m256i {
    let [a, b, c, d] = codes;
    // SAFETY: the caller has a value of `Avx2`.
    unsafe { _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)) }
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    type Bytes = __m256i;

    #[inline(always)]
    unsafe fn load_reals(self, from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_some_reals(self, from: *const f32, count: i64) -> __m256 {
        if count <= 0 {
            // SAFETY: a value of this type exists only where the CPU has the instructions; no memory is accessed.
            return unsafe { _mm256_setzero_ps() };
        }
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_ints(self, from: *const i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_packed_bytes(self, from: *const u8, _: i64) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_reals(self, to: *mut f32, values: __m256, count: i64) {
        // SAFETY: the caller's promise.
        unsafe {
            if count >= 8 {
                _mm256_storeu_ps(to, values);
            } else {
                store_some_reals(to, values, count);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_runs<const RUNS: usize>(self, to: *mut u8, stride: i64, bytes: __m256i, count: i64) {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            match RUNS {
                1 if count == 32 => _mm256_storeu_si256(to.cast(), bytes),
                1 if count < 16 => store_bytes(to, low, count),
                1 => {
                    _mm_storeu_si128(to.cast(), low);
                    store_bytes(to.add(16), high, count - 16);
                }
                2 => {
                    store_bytes(to, low, count);
                    store_bytes(to.offset(stride as isize), high, count);
                }
                _ => {
                    let mut to = to;
                    for run in [low, _mm_unpackhi_epi64(low, low), high, _mm_unpackhi_epi64(high, high)] {
                        store_bytes(to, run, count);
                        to = to.wrapping_offset(stride as isize);
                    }
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
    fn lane_numbers(self) -> __m256i {
        // SAFETY: a value of this type exists only where the CPU has the instructions; the same holds below.
        unsafe { _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7) }
    }

    #[inline(always)]
    fn look_up(self, table: __m256, index: __m256i) -> __m256 {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm256_permutevar8x32_ps(table, index) }
    }

    #[inline(always)]
    fn fused_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn zero_where_nan(self, x: __m256) -> __m256 {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm256_and_ps(x, _mm256_cmp_ps::<_CMP_ORD_Q>(x, x)) }
    }

    #[inline(always)]
    fn round_to_int(self, x: __m256) -> __m256i {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm256_cvtps_epi32(x) }
    }

    #[inline(always)]
    fn sub_halves(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm256_sub_epi16(a, b) }
    }

    #[inline(always)]
    fn shift_halves_left_8(self, a: __m256i) -> __m256i {
        // SAFETY: see `lane_numbers`.
        unsafe { _mm256_slli_epi16::<8>(a) }
    }

    #[inline(always)]
    fn pack_vectors(self, codes: [__m256i; 4], highest: u8) -> __m256i {
        // SAFETY: see `lane_numbers`.
        unsafe {
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(pack(codes), order);
            _mm256_min_epu8(bytes, _mm256_set1_epi8(highest.cast_signed()))
        }
    }

    #[inline(always)]
    fn pack_lanes(self, codes: [__m256i; 4], highest: u8) -> __m256i {
        // SAFETY: see `lane_numbers`.
        unsafe {
            let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let bytes = _mm256_shuffle_epi8(pack(codes), _mm256_broadcastsi128_si256(order));
            _mm256_min_epu8(bytes, _mm256_set1_epi8(highest.cast_signed()))
        }
    }
}

/// Stores the first `count` bytes, 0 to 16. Not by a copy from memory: the library's function would be called, which keeps no vector register.
#[inline(always)]
unsafe fn store_bytes(mut to: *mut u8, mut bytes: __m128i, count: i64) {
    // SAFETY: the caller promises AVX2 and `count` bytes of memory. The powers of two in a count up to 16 have it as their sum.
    unsafe {
        if count == 16 {
            _mm_storeu_si128(to.cast(), bytes);
            return;
        }
        if count & 8 != 0 {
            _mm_storel_epi64(to.cast(), bytes);
            (to, bytes) = (to.add(8), _mm_srli_si128::<8>(bytes));
        }
        if count & 4 != 0 {
            to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(bytes));
            (to, bytes) = (to.add(4), _mm_srli_si128::<4>(bytes));
        }
        if count & 2 != 0 {
            to.cast::<u16>().write_unaligned(_mm_extract_epi16::<0>(bytes) as u16);
            (to, bytes) = (to.add(2), _mm_srli_si128::<2>(bytes));
        }
        if count & 1 != 0 {
            to.write(_mm_extract_epi8::<0>(bytes) as u8);
        }
    }
}

/// Stores the first `count` lanes, of which there are less than 8; none if it is negative.
#[inline(always)]
unsafe fn store_some_reals(mut to: *mut f32, values: __m256, count: i64) {
    // SAFETY: the caller promises AVX2 and `count` floats of memory. The powers of two in a count below 8 have it as their sum.
    unsafe {
        if count <= 0 {
            return;
        }
        let mut four = _mm256_castps256_ps128(values);
        if count & 4 != 0 {
            _mm_storeu_ps(to, four);
            (to, four) = (to.add(4), _mm256_extractf128_ps::<1>(values));
        }
        if count & 2 != 0 {
            _mm_storel_epi64(to.cast(), _mm_castps_si128(four));
            (to, four) = (to.add(2), _mm_movehl_ps(four, four));
        }
        if count & 1 != 0 {
            _mm_store_ss(to, four);
        }
    }
}
