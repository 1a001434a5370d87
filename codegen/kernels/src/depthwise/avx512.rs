//! Depthwise convolutions in 512-bit vectors, for codes of any width and for floats.
//!
//! `vpdpbusd` sums products of four neighbouring bytes, so four taps of a channel must become neighbours. They are four rows of one input
//! column. The bytes of a column are interleaved once and used by every output pixel whose window contains the column.

use super::rows::{COLUMN_TAPS, DepthwiseRows, RowOperands};
use super::{DepthwiseRow, MAX_TAPS};
use crate::epilogue;
use crate::epilogue::Row;
use crate::function::{Contract, Function};
use crate::tier::Tier;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

const COLUMNS: RowOperands = RowOperands::Columns;
const LANES: RowOperands = RowOperands::Floats { lanes: 16 };

/// Four-way dot products over filter columns. The rate was measured on an Intel Xeon (Emerald Rapids), as that of floats.
pub static CODES_512: DepthwiseRows =
    DepthwiseRows::new("depthwise-vnni-512", (Tier::Avx512Vnni, 64), &CODES, COLUMNS, 18.0);

/// Fused multiplications and additions of floats.
pub static FLOATS_512: DepthwiseRows =
    DepthwiseRows::new("depthwise-float-512", (Tier::Avx512Vnni, 64), &FLOATS, LANES, 10.0);

// SAFETY: `codes` accesses only the memory that the fields of its row describe. It reads the input in vectors of 64 bytes, and weights and
// initial sums in as many vectors of 16 channels as needed.
static CODES: Function = unsafe {
    let contract = Contract::DepthwiseRow(COLUMNS);
    Function::new("catc_depthwise_512", Tier::Avx512Vnni, contract, depthwise_512)
};

// SAFETY: `floats` accesses only the memory that the fields of its row describe, in whole vectors of 16 floats.
static FLOATS: Function = unsafe {
    let contract = Contract::DepthwiseRow(LANES);
    Function::new("catc_depthwise_float_512", Tier::Avx512Vnni, contract, depthwise_float_512)
};

/// Output pixels that are computed together.
const PIXELS: usize = 8;

/// The most vectors of interleaved columns.
const MAX_COLUMNS: usize = MAX_TAPS * 4;

/// Interleaved columns, and the sums of up to [`PIXELS`] pixels.
#[repr(C, align(64))]
struct Scratch {
    columns: [MaybeUninit<__m512i>; MAX_COLUMNS],
    sums: [MaybeUninit<__m512i>; PIXELS * 4],
}

impl Scratch {
    fn new() -> MaybeUninit<Scratch> {
        MaybeUninit::uninit()
    }
}

/// A row of codes.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VNNI. The block is a [`DepthwiseRow`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn depthwise_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::DepthwiseRow`).
    unsafe {
        let row = &*block.cast::<DepthwiseRow>();
        match row.epilogue.channels {
            49.. => codes::<4>(row),
            33..=48 => codes::<3>(row),
            17..=32 => codes::<2>(row),
            _ => codes::<1>(row),
        }
    }
}

/// A row of floats.
///
/// # Safety
/// As [`depthwise_512`].
unsafe extern "C" fn depthwise_float_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::DepthwiseRow`).
    unsafe {
        let row = &*block.cast::<DepthwiseRow>();
        match row.epilogue.channels {
            49.. => floats::<4>(row),
            33..=48 => floats::<3>(row),
            17..=32 => floats::<2>(row),
            _ => floats::<1>(row),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn codes<const V: usize>(row: &DepthwiseRow) {
    let groups = (row.rows as usize).div_ceil(COLUMN_TAPS);
    let columns = row.columns as usize;
    let shared = (PIXELS - 1) * row.stride as usize + columns;
    let share = row.stride > 0 && shared * groups * V <= MAX_COLUMNS;
    let mut scratch = Scratch::new();
    // SAFETY: only columns that were interleaved before are read. The scratch has room for them: if columns are shared, `shared * groups * V`
    // is at most `MAX_COLUMNS`; else it holds one window of at most `MAX_TAPS * V` vectors. The caller promises the rest.
    unsafe {
        let scratch = scratch.as_mut_ptr();
        let to = (&raw mut (*scratch).columns).cast::<__m512i>();
        let sums = (&raw mut (*scratch).sums).cast::<__m512i>();
        let per_column = groups * V;
        let mut done = 0;
        while done < row.pixels {
            let count = if share { (row.pixels - done).min(PIXELS as i64) } else { 1 };
            let input = row.input.offset((done * row.pixel_bytes) as isize);
            let met = if share { (count - 1) as usize * row.stride as usize + columns } else { columns };
            for column in 0..met {
                let from = input.offset(column as isize * row.column_bytes as isize);
                interleave::<V>(from, row.rows as usize, row.row_bytes as isize, to.add(column * per_column));
            }
            for pixel in 0..count as usize {
                let first = to.add(pixel * row.stride as usize * per_column);
                if columns * groups == 3 {
                    sum::<V>(row, first, 3, sums.add(pixel * V));
                } else {
                    sum::<V>(row, first, columns * groups, sums.add(pixel * V));
                }
            }
            epilogue::avx512::row(&Row {
                arguments: &row.epilogue,
                sums: sums.cast(),
                sums_pixel: 64 * V as i64,
                number: 0,
                first: done,
                pixels: count,
            });
            done += count;
        }
    }
}

/// The sums of one pixel, from `steps * V` vectors of interleaved bytes and as many of weights.
#[inline(always)]
unsafe fn sum<const V: usize>(row: &DepthwiseRow, columns: *const __m512i, steps: usize, sums: *mut __m512i) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [_mm512_setzero_si512(); V];
        for (v, acc) in acc.iter_mut().enumerate() {
            *acc = _mm512_loadu_si512(row.start.add(64 * v).cast());
        }
        for step in 0..steps {
            for (v, acc) in acc.iter_mut().enumerate() {
                let bytes = _mm512_load_si512(columns.add(step * V + v));
                let weights = _mm512_loadu_si512(row.weights.add(64 * (step * V + v)).cast());
                *acc = _mm512_dpbusd_epi32(*acc, bytes, weights);
            }
        }
        for (v, &acc) in acc.iter().enumerate() {
            _mm512_store_si512(sums.add(v), acc);
        }
    }
}

/// Interleaves the bytes of a column, four rows at a time: vector `v` has the bytes of the four rows for each of 16 channels, from `16 * v`.
#[inline(always)]
unsafe fn interleave<const V: usize>(from: *const u8, rows: usize, row_bytes: isize, to: *mut __m512i) {
    // SAFETY: the caller's promise.
    unsafe {
        // Unpacking works within 128 bits. This order of double words makes its results have the channels in sequence.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        for first in (0..rows).step_by(COLUMN_TAPS) {
            let load = |tap: usize| {
                if first + tap < rows {
                    let bytes = _mm512_loadu_si512(from.offset((first + tap) as isize * row_bytes).cast());
                    _mm512_permutexvar_epi32(order, bytes)
                } else {
                    _mm512_setzero_si512()
                }
            };
            let (a, b, c, d) = (load(0), load(1), load(2), load(3));
            let to = to.add(first / COLUMN_TAPS * V);
            let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
            _mm512_store_si512(to, _mm512_unpacklo_epi16(ab, cd));
            if V > 1 {
                _mm512_store_si512(to.add(1), _mm512_unpackhi_epi16(ab, cd));
            }
            if V > 2 {
                let (ab, cd) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
                _mm512_store_si512(to.add(2), _mm512_unpacklo_epi16(ab, cd));
                if V > 3 {
                    _mm512_store_si512(to.add(3), _mm512_unpackhi_epi16(ab, cd));
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn floats<const V: usize>(row: &DepthwiseRow) {
    let mut scratch = Scratch::new();
    // SAFETY: the scratch has room for the sums of `PIXELS` pixels; the caller promises the rest.
    unsafe {
        let sums = (&raw mut (*scratch.as_mut_ptr()).sums).cast::<f32>();
        let mut done = 0;
        while done < row.pixels {
            let count = (row.pixels - done).min(PIXELS as i64);
            for pixel in 0..count {
                let input = row.input.offset(((done + pixel) * row.pixel_bytes) as isize);
                let mut acc = [_mm512_setzero_ps(); V];
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = _mm512_loadu_ps(row.start.add(64 * v).cast());
                }
                let mut weights = row.weights.cast::<f32>();
                for y in 0..row.rows {
                    for x in 0..row.columns {
                        let from = input.offset((y * row.row_bytes + x * row.column_bytes) as isize).cast::<f32>();
                        for (v, acc) in acc.iter_mut().enumerate() {
                            let value = _mm512_loadu_ps(from.add(16 * v));
                            *acc = _mm512_fmadd_ps(value, _mm512_loadu_ps(weights.add(16 * v)), *acc);
                        }
                        weights = weights.add(16 * V);
                    }
                }
                for (v, &acc) in acc.iter().enumerate() {
                    _mm512_store_ps(sums.add(16 * (pixel as usize * V + v)), acc);
                }
            }
            epilogue::avx512::row(&Row {
                arguments: &row.epilogue,
                sums: sums.cast(),
                sums_pixel: 64 * V as i64,
                number: 0,
                first: done,
                pixels: count,
            });
            done += count;
        }
    }
}
