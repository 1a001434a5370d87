//! Epilogues in 256-bit vectors, four at a time: the channels of one pixel, or of several neighbours.

use super::{EpilogueArguments, EpilogueTile, function, store};
use crate::function::{Contract, Function};
use crate::tier::Tier;
use std::arch::x86_64::*;

// SAFETY: `row` touches what the fields of the arguments describe, in whole vectors, but for stores, which are of channels that exist.
pub(crate) static EPILOGUE_256: Function =
    unsafe { Function::new("catc_epilogue_256", Tier::X86V3, Contract::Epilogue { lanes: 8 }, epilogue_256) };

/// The epilogue of a row of sums.
///
/// # Safety
/// The CPU has AVX2. The block is a [`EpilogueTile`] whose pointers cover what its fields say.
unsafe extern "C" fn epilogue_256(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let tile = &*block.cast::<EpilogueTile>();
        row(&tile.epilogue, tile.sums, tile.sums_pixel, 0, 0, tile.pixels);
    }
}

/// Channels of four vectors.
const CHUNK: i64 = 32;

/// The epilogue of `pixels` neighbours of row `row_number` from pixel `first` on, whose sums lie `sums_pixel` bytes apart.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn row(
    f: &EpilogueArguments,
    sums: *const i32,
    sums_pixel: i64,
    row_number: i64,
    first: i64,
    pixels: i64,
) {
    // SAFETY: the caller's promise; the shape of the cells follows from the number of channels.
    unsafe {
        let program = &*f.program;
        let plain = program.count == 0 && !f.multiplier.is_null() && program.store == store::SMALL_CODES;
        let mut channel = 0;
        while channel < f.channels {
            let channels = (f.channels - channel).min(CHUNK);
            let row = Row { f, sums: sums.add(channel as usize), sums_pixel, row_number, first, channel, channels };
            match (channels, plain) {
                (25.., true) => cells::<4, 1, true>(&row, 0, pixels),
                (25.., false) => cells::<4, 1, false>(&row, 0, pixels),
                (17..=24, _) => cells::<3, 1, false>(&row, 0, pixels),
                (9..=16, _) => {
                    cells::<2, 2, false>(&row, 0, pixels & !1);
                    cells::<2, 1, false>(&row, pixels & !1, pixels);
                }
                _ => {
                    cells::<1, 4, false>(&row, 0, pixels & !3);
                    cells::<1, 1, false>(&row, pixels & !3, pixels);
                }
            }
            channel += channels;
        }
    }
}

/// A row of sums of up to [`CHUNK`] channels.
struct Row<'a> {
    f: &'a EpilogueArguments,
    sums: *const i32,
    sums_pixel: i64,
    row_number: i64,
    /// The pixel of the output that the first sums belong to.
    first: i64,
    /// The first of the channels.
    channel: i64,
    channels: i64,
}

/// The pixels `from..to`, `P` of `V` vectors at a time; their number is a multiple of `P`, and `P * V` at most 4. `PLAIN`: scale, bias
/// and codes are all there is to do.
#[target_feature(enable = "avx2")]
unsafe fn cells<const V: usize, const P: usize, const PLAIN: bool>(r: &Row<'_>, from: i64, to: i64) {
    // SAFETY: every access is one that the fields of `f` describe, in whole vectors but for the stores of channels that fill none.
    unsafe {
        let f = r.f;
        let program = &*f.program;
        let channel = r.channel as usize;
        let mut pixel = from;
        while pixel < to {
            let at = r.first + pixel;
            let mut t = [_mm256_setzero_ps(); 4];
            for p in 0..P {
                let from = r.sums.byte_offset(((pixel + p as i64) * r.sums_pixel) as isize);
                for v in 0..V {
                    t[p * V + v] = _mm256_loadu_ps(from.add(8 * v).cast());
                }
            }
            if PLAIN || !f.multiplier.is_null() {
                for v in 0..V {
                    let multiplier = _mm256_loadu_ps(f.multiplier.add(channel + 8 * v));
                    let bias = _mm256_loadu_ps(f.bias.add(channel + 8 * v));
                    for p in 0..P {
                        let value = &mut t[p * V + v];
                        let sum = _mm256_cvtepi32_ps(_mm256_castps_si256(*value));
                        *value = _mm256_add_ps(_mm256_mul_ps(sum, multiplier), bias);
                    }
                }
            }
            let steps = if PLAIN { 0 } else { program.count as usize };
            for step in &program.steps[..steps] {
                let x = _mm256_set1_ps(step.x);
                let operand = |p: usize, element: usize| {
                    let number = step.operand as usize;
                    let place = r.row_number * f.operand_row[number] + (at + p as i64) * f.operand_pixel[number];
                    f.operands[number].offset(place as isize).add(element * channel)
                };
                match step.function {
                    function::SCALE => {
                        for value in &mut t[..P * V] {
                            *value = _mm256_mul_ps(*value, x);
                        }
                    }
                    function::RELU => {
                        for value in &mut t[..P * V] {
                            *value = _mm256_max_ps(*value, _mm256_setzero_ps());
                        }
                    }
                    function::CLIP => {
                        for value in &mut t[..P * V] {
                            *value = _mm256_min_ps(_mm256_max_ps(*value, x), _mm256_set1_ps(step.y));
                        }
                    }
                    function::LEAKY_RELU => {
                        for value in &mut t[..P * V] {
                            let above = _mm256_cmp_ps::<_CMP_GE_OQ>(*value, _mm256_setzero_ps());
                            *value = _mm256_blendv_ps(_mm256_mul_ps(*value, x), *value, above);
                        }
                    }
                    function::HARD_SIGMOID | function::HARD_SWISH => {
                        for value in &mut t[..P * V] {
                            let line = _mm256_add_ps(_mm256_mul_ps(*value, x), _mm256_set1_ps(step.y));
                            let cut = _mm256_min_ps(_mm256_max_ps(line, _mm256_setzero_ps()), _mm256_set1_ps(1.0));
                            *value =
                                if step.function == function::HARD_SWISH { _mm256_mul_ps(*value, cut) } else { cut };
                        }
                    }
                    function::ADD_FLOAT | function::ADD_SCALED_FLOAT => {
                        for p in 0..P {
                            for v in 0..V {
                                let mut other = _mm256_loadu_ps(operand(p, 4).add(32 * v).cast());
                                if step.function == function::ADD_SCALED_FLOAT {
                                    other = _mm256_mul_ps(other, x);
                                }
                                t[p * V + v] = _mm256_add_ps(t[p * V + v], other);
                            }
                        }
                    }
                    _ => {
                        let zero = _mm256_set1_epi32(step.zero);
                        for p in 0..P {
                            for v in 0..V {
                                let codes = _mm_loadl_epi64(operand(p, 1).add(8 * v).cast());
                                let centred = _mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), zero);
                                let other = _mm256_mul_ps(_mm256_cvtepi32_ps(centred), x);
                                t[p * V + v] = _mm256_add_ps(t[p * V + v], other);
                            }
                        }
                    }
                }
            }
            let to = f.output.offset((r.row_number * f.output_row + at * f.output_pixel) as isize);
            if !PLAIN && program.store == store::FLOATS {
                for p in 0..P {
                    let to = to.offset(p as isize * f.output_pixel as isize).cast::<f32>().add(channel);
                    for v in 0..V {
                        let left = r.channels as usize - 8 * v;
                        if left >= 8 {
                            _mm256_storeu_ps(to.add(8 * v), t[p * V + v]);
                        } else {
                            let values = (&raw const t[p * V + v]).cast::<f32>();
                            std::ptr::copy_nonoverlapping(values, to.add(8 * v), left);
                        }
                    }
                }
            } else {
                let mut codes = [_mm256_setzero_si256(); 4];
                let zero = _mm256_set1_epi32(program.zero);
                for (code, value) in codes.iter_mut().zip(&t[..P * V]) {
                    let mut value = _mm256_mul_ps(*value, _mm256_set1_ps(program.requantize));
                    if !PLAIN && program.store == store::CODES {
                        // NaN becomes the zero-point, which is 0 here; then the range of the codes less it.
                        value = _mm256_and_ps(value, _mm256_cmp_ps::<_CMP_ORD_Q>(value, value));
                        value = _mm256_max_ps(value, _mm256_set1_ps(-(program.zero as f32)));
                        let high = program.levels as i32 - program.zero;
                        value = _mm256_min_ps(value, _mm256_set1_ps(high as f32));
                    }
                    *code = _mm256_add_epi32(_mm256_cvtps_epi32(value), zero);
                }
                // Both packs work within 128 bits: afterwards lane i holds bytes i of the four vectors, four of each.
                let low = _mm256_packs_epi32(codes[0], codes[1 % (P * V)]);
                let high = if P * V > 2 { _mm256_packs_epi32(codes[2], codes[3 % (P * V)]) } else { low };
                let bytes = _mm256_packus_epi16(low, high);
                let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
                let bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(program.levels as i8));
                if P == 1 && r.channels == CHUNK {
                    _mm256_storeu_si256(to.add(channel).cast(), bytes);
                } else {
                    let mut memory = [0u8; 32];
                    _mm256_storeu_si256(memory.as_mut_ptr().cast(), bytes);
                    for p in 0..P {
                        let to = to.offset(p as isize * f.output_pixel as isize).add(channel);
                        std::ptr::copy_nonoverlapping(memory.as_ptr().add(8 * V * p), to, r.channels as usize);
                    }
                }
            }
            pixel += P as i64;
        }
    }
}
