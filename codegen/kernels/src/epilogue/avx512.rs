//! Epilogues in 512-bit vectors, four at a time: the channels of one pixel, or of several neighbours.

use super::{EpilogueArguments, EpilogueTile, MAX_OPERANDS, function, store};
use crate::function::{Contract, Function};
use crate::tier::Tier;
use std::arch::x86_64::*;

// SAFETY: `row` touches what the fields of the arguments describe, in whole vectors, but for stores, which are of channels that exist.
pub(crate) static EPILOGUE_512: Function =
    unsafe { Function::new("catc_epilogue_512", Tier::Avx512Vnni, Contract::Epilogue { lanes: 16 }, epilogue_512) };

/// The epilogue of a row of sums.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The block is a [`EpilogueTile`] whose pointers cover what its fields say.
unsafe extern "C" fn epilogue_512(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let tile = &*block.cast::<EpilogueTile>();
        row(&tile.epilogue, tile.sums, tile.sums_pixel, 0, 0, tile.pixels);
    }
}

/// The epilogue of `pixels` neighbours of row `row_number` from pixel `first` on, whose sums lie `sums_pixel` bytes apart.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) unsafe fn row(
    f: &EpilogueArguments,
    sums: *const i32,
    sums_pixel: i64,
    row_number: i64,
    first: i64,
    pixels: i64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let program = &*f.program;
        let scaled = !f.multiplier.is_null() && program.store == store::SMALL_CODES;
        match (program.count, program.steps[0].function) {
            (0, _) if program.store == store::AFFINE => {
                shaped::<AFFINE>(f, sums, sums_pixel, row_number, first, pixels);
            }
            _ if program.store == store::AFFINE => {
                shaped::<AFFINE_SHORTCUT>(f, sums, sums_pixel, row_number, first, pixels);
            }
            (0, _) if !f.multiplier.is_null() && program.store == store::FLOATS => {
                shaped::<FLOATS>(f, sums, sums_pixel, row_number, first, pixels);
            }
            (1, function::ADD_FLOAT) if scaled => {
                shaped::<FLOAT_SHORTCUT>(f, sums, sums_pixel, row_number, first, pixels);
            }
            (0, _) if scaled => shaped::<PLAIN>(f, sums, sums_pixel, row_number, first, pixels),
            (1, function::ADD_SMALL_CODE) if scaled => {
                shaped::<SHORTCUT>(f, sums, sums_pixel, row_number, first, pixels)
            }
            _ => shaped::<ANY>(f, sums, sums_pixel, row_number, first, pixels),
        }
    }
}

/// Whatever the program says.
const ANY: u8 = 0;
/// Scale, bias, codes.
const PLAIN: u8 = 1;
/// Scale, bias, one operand of small codes, codes.
const SHORTCUT: u8 = 2;
/// [`store::AFFINE`] without an operand.
const AFFINE: u8 = 3;
/// [`store::AFFINE`] with one.
const AFFINE_SHORTCUT: u8 = 4;
/// Scale, bias, an operand of floats, codes.
const FLOAT_SHORTCUT: u8 = 5;
/// Scale and bias.
const FLOATS: u8 = 6;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn shaped<const KIND: u8>(
    f: &EpilogueArguments,
    sums: *const i32,
    sums_pixel: i64,
    row_number: i64,
    first: i64,
    pixels: i64,
) {
    // SAFETY: the caller's promise; the shape of the cells follows from the number of channels.
    unsafe {
        match f.channels {
            49..=64 => cells::<4, 1, KIND>(f, sums, sums_pixel, row_number, first, pixels),
            33..=48 => cells::<3, 1, KIND>(f, sums, sums_pixel, row_number, first, pixels),
            17..=32 => {
                let pairs = pixels & !1;
                cells::<2, 2, KIND>(f, sums, sums_pixel, row_number, first, pairs);
                let rest = sums.byte_offset((pairs * sums_pixel) as isize);
                cells::<2, 1, KIND>(f, rest, sums_pixel, row_number, first + pairs, pixels - pairs);
            }
            _ => {
                let fours = pixels & !3;
                cells::<1, 4, KIND>(f, sums, sums_pixel, row_number, first, fours);
                let rest = sums.byte_offset((fours * sums_pixel) as isize);
                cells::<1, 1, KIND>(f, rest, sums_pixel, row_number, first + fours, pixels - fours);
            }
        }
    }
}

/// `P` pixels of `V` vectors at a time; `pixels` is a multiple of `P`, and `P * V` at most 4.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn cells<const V: usize, const P: usize, const KIND: u8>(
    f: &EpilogueArguments,
    sums: *const i32,
    sums_pixel: i64,
    row_number: i64,
    first: i64,
    pixels: i64,
) {
    // SAFETY: every access is one that the fields of `f` describe, in whole vectors but for the stores, which are masked.
    unsafe {
        let program = &*f.program;
        // What a small code adds, for each of sixteen.
        let shortcut = {
            let step = &program.steps[0];
            let codes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let centred = _mm512_sub_epi32(codes, _mm512_set1_epi32(step.zero));
            _mm512_mul_ps(_mm512_cvtepi32_ps(centred), _mm512_set1_ps(step.x))
        };
        let scaled = KIND != ANY || !f.multiplier.is_null();
        let (mut multipliers, mut biases) = ([_mm512_setzero_ps(); V], [_mm512_setzero_ps(); V]);
        if scaled {
            for v in 0..V {
                multipliers[v] = _mm512_loadu_ps(f.multiplier.add(16 * v));
                biases[v] = _mm512_loadu_ps(f.bias.add(16 * v));
            }
        }
        let mut pixel = 0;
        while pixel < pixels {
            let at = first + pixel;
            let mut t = [_mm512_setzero_ps(); 4];
            for p in 0..P {
                let from = sums.byte_offset(((pixel + p as i64) * sums_pixel) as isize);
                for v in 0..V {
                    t[p * V + v] = _mm512_loadu_ps(from.add(16 * v).cast());
                }
            }
            if scaled {
                for (cell, value) in t[..P * V].iter_mut().enumerate() {
                    let sum = _mm512_cvtepi32_ps(_mm512_castps_si512(*value));
                    let (multiplier, bias) = (multipliers[cell % V], biases[cell % V]);
                    *value = match KIND {
                        AFFINE | AFFINE_SHORTCUT => _mm512_fmadd_ps(sum, multiplier, bias),
                        _ => _mm512_add_ps(_mm512_mul_ps(sum, multiplier), bias),
                    };
                }
            }
            if KIND == SHORTCUT || KIND == AFFINE_SHORTCUT {
                let number = program.steps[0].operand as usize % MAX_OPERANDS;
                let operand = f.operands[number];
                let place =
                    operand.offset((row_number * f.operand_row[number] + at * f.operand_pixel[number]) as isize);
                for p in 0..P {
                    let place = place.offset(p as isize * f.operand_pixel[number] as isize);
                    // For the row of as many pixels that usually follows.
                    _mm_prefetch::<_MM_HINT_T0>(
                        place.wrapping_offset((pixels * f.operand_pixel[number]) as isize).cast(),
                    );
                    for v in 0..V {
                        let code = _mm512_cvtepu8_epi32(_mm_loadu_si128(place.add(16 * v).cast()));
                        t[p * V + v] = _mm512_add_ps(t[p * V + v], _mm512_permutexvar_ps(code, shortcut));
                    }
                }
            }
            if KIND == FLOAT_SHORTCUT {
                let number = program.steps[0].operand as usize % MAX_OPERANDS;
                let operand = f.operands[number];
                let place =
                    operand.offset((row_number * f.operand_row[number] + at * f.operand_pixel[number]) as isize);
                for p in 0..P {
                    let place = place.offset(p as isize * f.operand_pixel[number] as isize).cast::<f32>();
                    for v in 0..V {
                        t[p * V + v] = _mm512_add_ps(t[p * V + v], _mm512_loadu_ps(place.add(16 * v)));
                    }
                }
            }
            let steps = if KIND == ANY { program.count as usize } else { 0 };
            for step in &program.steps[..steps] {
                let x = _mm512_set1_ps(step.x);
                let operand = |p: usize, bytes: usize| {
                    let number = step.operand as usize;
                    let place = row_number * f.operand_row[number] + (at + p as i64) * f.operand_pixel[number];
                    f.operands[number].offset(place as isize).add(bytes)
                };
                match step.function {
                    function::SCALE => {
                        for value in &mut t[..P * V] {
                            *value = _mm512_mul_ps(*value, x);
                        }
                    }
                    function::RELU => {
                        for value in &mut t[..P * V] {
                            *value = _mm512_max_ps(*value, _mm512_setzero_ps());
                        }
                    }
                    function::CLIP => {
                        for value in &mut t[..P * V] {
                            *value = _mm512_min_ps(_mm512_max_ps(*value, x), _mm512_set1_ps(step.y));
                        }
                    }
                    function::LEAKY_RELU => {
                        for value in &mut t[..P * V] {
                            let above = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(*value, _mm512_setzero_ps());
                            let scaled = _mm512_mul_ps(*value, x);
                            *value = _mm512_mask_blend_ps(above, scaled, *value);
                        }
                    }
                    function::HARD_SIGMOID | function::HARD_SWISH => {
                        for value in &mut t[..P * V] {
                            let line = _mm512_add_ps(_mm512_mul_ps(*value, x), _mm512_set1_ps(step.y));
                            let cut = _mm512_min_ps(_mm512_max_ps(line, _mm512_setzero_ps()), _mm512_set1_ps(1.0));
                            *value =
                                if step.function == function::HARD_SWISH { _mm512_mul_ps(*value, cut) } else { cut };
                        }
                    }
                    function::ADD_FLOAT | function::ADD_SCALED_FLOAT => {
                        for p in 0..P {
                            for v in 0..V {
                                let mut other = _mm512_loadu_ps(operand(p, 64 * v).cast());
                                if step.function == function::ADD_SCALED_FLOAT {
                                    other = _mm512_mul_ps(other, x);
                                }
                                t[p * V + v] = _mm512_add_ps(t[p * V + v], other);
                            }
                        }
                    }
                    _ => {
                        let zero = _mm512_set1_epi32(step.zero);
                        for p in 0..P {
                            for v in 0..V {
                                let code = _mm512_cvtepu8_epi32(_mm_loadu_si128(operand(p, 16 * v).cast()));
                                let other = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero));
                                t[p * V + v] = _mm512_add_ps(t[p * V + v], _mm512_mul_ps(other, x));
                            }
                        }
                    }
                }
            }
            let to = f.output.offset((row_number * f.output_row + at * f.output_pixel) as isize);
            if KIND == FLOATS || KIND == ANY && program.store == store::FLOATS {
                for p in 0..P {
                    let to = to.offset(p as isize * f.output_pixel as isize).cast::<f32>();
                    for v in 0..V {
                        let mask = lanes16(f.channels - 16 * v as i64);
                        _mm512_mask_storeu_ps(to.add(16 * v), mask, t[p * V + v]);
                    }
                }
            } else {
                let mut codes = [_mm512_setzero_si512(); 4];
                let zero = _mm512_set1_epi32(program.zero);
                for (code, value) in codes.iter_mut().zip(&t[..P * V]) {
                    if KIND == AFFINE || KIND == AFFINE_SHORTCUT {
                        *code = _mm512_cvtps_epi32(*value);
                        continue;
                    }
                    let mut value = _mm512_mul_ps(*value, _mm512_set1_ps(program.requantize));
                    if KIND == ANY && program.store == store::CODES {
                        // NaN becomes the zero-point, which is 0 here; then the range of the codes less it.
                        let ordered = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(value, value);
                        value = _mm512_maskz_mov_ps(ordered, value);
                        value = _mm512_max_ps(value, _mm512_set1_ps(-(program.zero as f32)));
                        let high = program.levels as i32 - program.zero;
                        value = _mm512_min_ps(value, _mm512_set1_ps(high as f32));
                    }
                    *code = _mm512_cvtps_epi32(value);
                    if program.zero != 0 {
                        *code = _mm512_add_epi32(*code, zero);
                    }
                }
                // Both packs work within 128 bits: afterwards lane i holds bytes i of the four vectors, four of each.
                let low = _mm512_packs_epi32(codes[0], codes[1 % (P * V)]);
                let high = if P * V > 2 { _mm512_packs_epi32(codes[2], codes[3 % (P * V)]) } else { low };
                let bytes = _mm512_packus_epi16(low, high);
                let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let bytes = _mm512_permutexvar_epi32(order, bytes);
                let bytes = _mm512_min_epu8(bytes, _mm512_set1_epi8(program.levels as i8));
                let mask = u64::MAX >> (64 - f.channels);
                let next = |p: usize| to.offset(p as isize * f.output_pixel as isize).cast::<i8>();
                match (V, P) {
                    (2, 2) => {
                        let mask = mask as u32;
                        _mm256_mask_storeu_epi8(next(0), mask, _mm512_castsi512_si256(bytes));
                        _mm256_mask_storeu_epi8(next(1), mask, _mm512_extracti64x4_epi64::<1>(bytes));
                    }
                    (1, 4) => {
                        let mask = mask as u16;
                        _mm_mask_storeu_epi8(next(0), mask, _mm512_castsi512_si128(bytes));
                        _mm_mask_storeu_epi8(next(1), mask, _mm512_extracti32x4_epi32::<1>(bytes));
                        _mm_mask_storeu_epi8(next(2), mask, _mm512_extracti32x4_epi32::<2>(bytes));
                        _mm_mask_storeu_epi8(next(3), mask, _mm512_extracti32x4_epi32::<3>(bytes));
                    }
                    _ => _mm512_mask_storeu_epi8(next(0), mask, bytes),
                }
            }
            pixel += P as i64;
        }
    }
}

/// A mask of the first `count` of 16 lanes.
fn lanes16(count: i64) -> __mmask16 {
    if count >= 16 { u16::MAX } else { !(u16::MAX << count.max(0)) }
}
