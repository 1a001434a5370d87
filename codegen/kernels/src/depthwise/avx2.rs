//! Depthwise convolutions in 256-bit vectors, for codes and for floats.
//!
//! The codes of two taps are interleaved, so that a multiply-add of neighbours sums over the two taps of a channel.

use super::rows::{DepthwiseRows, PairWeights, RowOperands};
use super::{BLOCK, DepthwiseRow, MAX_TAPS};
use crate::epilogue;
use crate::epilogue::Row;
use crate::function::{Contract, Function};
use crate::tier::Tier;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

const BYTES: RowOperands = RowOperands::Pairs(PairWeights::Bytes);
const SHORTS: RowOperands = RowOperands::Pairs(PairWeights::Shorts);
const FLOATS: RowOperands = RowOperands::Floats { lanes: 8 };

/// Two taps per `vpmaddubsw`, summed in 16 bits.
pub static MADDUBS_256: DepthwiseRows =
    DepthwiseRows::new("depthwise-maddubs-256", (Tier::X86V3, 32), &BYTES_ROW, BYTES, 16.0);

/// Two taps per `vpmaddwd`, summed in 32 bits.
pub static MADD16_256: DepthwiseRows =
    DepthwiseRows::new("depthwise-madd16-256", (Tier::X86V3, 32), &SHORTS_ROW, SHORTS, 9.0);

/// Fused multiplications and additions of floats.
pub static FLOATS_256: DepthwiseRows =
    DepthwiseRows::new("depthwise-float-256", (Tier::X86V3, 32), &FLOATS_ROW, FLOATS, 8.0);

// SAFETY: the functions access only the memory that the fields of their row and the operands of their contract describe.
static BYTES_ROW: Function =
    unsafe { Function::new("catc_depthwise_bytes_256", Tier::X86V3, Contract::DepthwiseRow(BYTES), bytes_256) };
// SAFETY: see above.
static SHORTS_ROW: Function =
    unsafe { Function::new("catc_depthwise_shorts_256", Tier::X86V3, Contract::DepthwiseRow(SHORTS), shorts_256) };
// SAFETY: see above.
static FLOATS_ROW: Function =
    unsafe { Function::new("catc_depthwise_float_256", Tier::X86V3, Contract::DepthwiseRow(FLOATS), floats_256) };

/// A row of codes, with weights of signed bytes.
///
/// # Safety
/// The CPU has AVX2 and FMA. The block is a [`DepthwiseRow`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn bytes_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::DepthwiseRow`).
    unsafe { row(&*block.cast::<DepthwiseRow>(), &mut Bytes) }
}

/// A row of codes, with weights of 16 bits.
///
/// # Safety
/// As [`bytes_256`].
unsafe extern "C" fn shorts_256(block: *const u64) {
    // SAFETY: see `bytes_256`.
    unsafe { row(&*block.cast::<DepthwiseRow>(), &mut Shorts) }
}

/// A row of floats.
///
/// # Safety
/// As [`bytes_256`].
unsafe extern "C" fn floats_256(block: *const u64) {
    // SAFETY: see `bytes_256`.
    unsafe { row(&*block.cast::<DepthwiseRow>(), &mut Floats) }
}

/// Output pixels between two epilogues.
const PIXELS: usize = 8;

/// The sums of up to [`PIXELS`] pixels.
#[repr(C, align(32))]
struct Sums([MaybeUninit<i32>; PIXELS * BLOCK]);

/// The distances of the taps from the first one, in bytes. An odd number of taps is followed by a copy of the last one, whose weight is 0.
struct Taps {
    offsets: [isize; MAX_TAPS + 1],
    count: usize,
}

impl Taps {
    fn of(row: &DepthwiseRow) -> Taps {
        let mut taps = Taps { offsets: [0; MAX_TAPS + 1], count: (row.rows * row.columns) as usize };
        for y in 0..row.rows {
            for x in 0..row.columns {
                let offset = (y * row.row_bytes + x * row.column_bytes) as isize;
                let number = (y * row.columns + x) as usize;
                taps.offsets[number] = offset;
                taps.offsets[number + 1] = offset;
            }
        }
        taps
    }
}

/// The arithmetic of a row.
trait Products {
    /// Channels that are summed together.
    const GROUP: usize;
    /// Bytes of a channel of the input.
    const ELEMENT: usize;

    /// Stores the sums of a group of channels for `P` pixels: initial sums plus products. The pixels are `pixel` bytes apart in the input and
    /// `sums_pixel` elements apart in `sums`. Gives the weights of the next of the block's `groups`.
    ///
    /// # Safety
    /// The CPU has AVX2 and FMA. All taps of the pixels, the weights and initial sums of the group, and the sums, are valid memory.
    unsafe fn group<const P: usize>(
        taps: &Taps,
        operands: (*const u8, *const u8, *const u8),
        pixel: isize,
        sums: *mut i32,
        sums_pixel: usize,
        groups: usize,
    ) -> *const u8;
}

#[target_feature(enable = "avx2,fma")]
unsafe fn row<R: Products>(row: &DepthwiseRow, _: &mut R) {
    let taps = Taps::of(row);
    let mut sums = Sums([MaybeUninit::uninit(); PIXELS * BLOCK]);
    let sums = (&raw mut sums).cast::<i32>();
    let groups = (row.epilogue.channels as usize).div_ceil(R::GROUP);
    let sums_pixel = groups * R::GROUP;
    let pixel = row.pixel_bytes as isize;
    let mut done = 0;
    // SAFETY: the sums have room for `PIXELS` pixels of whole groups, as a block has at most `BLOCK` channels. The caller promises the rest.
    unsafe {
        while done < row.pixels {
            let count = (row.pixels - done).min(PIXELS as i64) as usize;
            let mut weights = row.weights;
            for group in 0..groups {
                let start = row.start.add(4 * R::GROUP * group);
                let mut at = 0;
                let mut next = weights;
                while at < count {
                    let first = done as isize + at as isize;
                    let input = row.input.offset(first * pixel).add(R::ELEMENT * R::GROUP * group);
                    let sums = sums.add(at * sums_pixel + R::GROUP * group);
                    let operands = (input, weights, start);
                    let pixels = match count - at {
                        4.. => 4,
                        2.. => 2,
                        _ => 1,
                    };
                    next = match pixels {
                        4 => R::group::<4>(&taps, operands, pixel, sums, sums_pixel, groups),
                        2 => R::group::<2>(&taps, operands, pixel, sums, sums_pixel, groups),
                        _ => R::group::<1>(&taps, operands, pixel, sums, sums_pixel, groups),
                    };
                    at += pixels;
                }
                weights = next;
            }
            epilogue::avx2::row(&Row {
                arguments: &row.epilogue,
                sums,
                sums_pixel: 4 * sums_pixel as i64,
                number: 0,
                first: done,
                pixels: count as i64,
            });
            done += count as i64;
        }
    }
}

/// Sums of 16 bits over bytes of 32 channels.
struct Bytes;

impl Products for Bytes {
    const GROUP: usize = PairWeights::Bytes.group();
    const ELEMENT: usize = 1;

    #[inline(always)]
    unsafe fn group<const P: usize>(
        taps: &Taps,
        (input, mut weights, start): (*const u8, *const u8, *const u8),
        pixel: isize,
        sums: *mut i32,
        sums_pixel: usize,
        _: usize,
    ) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut low, mut high) = ([_mm256_setzero_si256(); P], [_mm256_setzero_si256(); P]);
            for pair in 0..taps.count.div_ceil(2) {
                let (a, b) = (taps.offsets[2 * pair], taps.offsets[2 * pair + 1]);
                let low_weights = _mm256_loadu_si256(weights.cast());
                let high_weights = _mm256_loadu_si256(weights.add(32).cast());
                for p in 0..P {
                    let from = input.offset(p as isize * pixel);
                    let a = _mm256_loadu_si256(from.offset(a).cast());
                    let b = _mm256_loadu_si256(from.offset(b).cast());
                    let products = _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), low_weights);
                    low[p] = _mm256_add_epi16(low[p], products);
                    let products = _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), high_weights);
                    high[p] = _mm256_add_epi16(high[p], products);
                }
                weights = weights.add(64);
            }
            for p in 0..P {
                let sums = sums.add(p * sums_pixel);
                // Unpacking works within 128 bits: the low sums are those of channels 0 to 7 and 16 to 23.
                let quarters = [
                    _mm256_castsi256_si128(low[p]),
                    _mm256_castsi256_si128(high[p]),
                    _mm256_extracti128_si256::<1>(low[p]),
                    _mm256_extracti128_si256::<1>(high[p]),
                ];
                for (number, quarter) in quarters.into_iter().enumerate() {
                    let first = _mm256_loadu_si256(start.add(32 * number).cast());
                    let sum = _mm256_add_epi32(_mm256_cvtepi16_epi32(quarter), first);
                    _mm256_storeu_si256(sums.add(8 * number).cast(), sum);
                }
            }
            weights
        }
    }
}

/// Sums of 32 bits over bytes of 16 channels, times weights of 16 bits.
struct Shorts;

impl Products for Shorts {
    const GROUP: usize = PairWeights::Shorts.group();
    const ELEMENT: usize = 1;

    #[inline(always)]
    unsafe fn group<const P: usize>(
        taps: &Taps,
        (input, mut weights, start): (*const u8, *const u8, *const u8),
        pixel: isize,
        sums: *mut i32,
        sums_pixel: usize,
        _: usize,
    ) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut low, mut high) = ([_mm256_setzero_si256(); P], [_mm256_setzero_si256(); P]);
            for pair in 0..taps.count.div_ceil(2) {
                let (a, b) = (taps.offsets[2 * pair], taps.offsets[2 * pair + 1]);
                let low_weights = _mm256_loadu_si256(weights.cast());
                let high_weights = _mm256_loadu_si256(weights.add(32).cast());
                for p in 0..P {
                    let from = input.offset(p as isize * pixel);
                    let a = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.offset(a).cast()));
                    let b = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.offset(b).cast()));
                    let products = _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), low_weights);
                    low[p] = _mm256_add_epi32(low[p], products);
                    let products = _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), high_weights);
                    high[p] = _mm256_add_epi32(high[p], products);
                }
                weights = weights.add(64);
            }
            let starts = [_mm256_loadu_si256(start.cast()), _mm256_loadu_si256(start.add(32).cast())];
            for p in 0..P {
                let sums = sums.add(p * sums_pixel);
                // Unpacking works within 128 bits: the low sums are those of channels 0 to 3 and 8 to 11.
                let first = _mm256_permute2x128_si256::<0x20>(low[p], high[p]);
                let second = _mm256_permute2x128_si256::<0x31>(low[p], high[p]);
                _mm256_storeu_si256(sums.cast(), _mm256_add_epi32(first, starts[0]));
                _mm256_storeu_si256(sums.add(8).cast(), _mm256_add_epi32(second, starts[1]));
            }
            weights
        }
    }
}

/// Sums of floats of 8 channels.
struct Floats;

impl Products for Floats {
    const GROUP: usize = 8;
    const ELEMENT: usize = 4;

    #[inline(always)]
    unsafe fn group<const P: usize>(
        taps: &Taps,
        (input, weights, start): (*const u8, *const u8, *const u8),
        pixel: isize,
        sums: *mut i32,
        sums_pixel: usize,
        groups: usize,
    ) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [_mm256_loadu_ps(start.cast()); P];
            for (number, &tap) in taps.offsets[..taps.count].iter().enumerate() {
                let weight = _mm256_loadu_ps(weights.add(32 * groups * number).cast());
                for (p, acc) in acc.iter_mut().enumerate() {
                    let value = _mm256_loadu_ps(input.offset(p as isize * pixel + tap).cast());
                    *acc = _mm256_fmadd_ps(value, weight, *acc);
                }
            }
            for (p, &acc) in acc.iter().enumerate() {
                _mm256_storeu_ps(sums.add(p * sums_pixel).cast(), acc);
            }
            weights.add(32)
        }
    }
}
