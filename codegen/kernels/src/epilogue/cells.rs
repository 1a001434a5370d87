//! The body of the epilogues, for vectors of any width. It computes cells of up to four vectors, which hold the channels of one pixel or of
//! several neighbouring pixels.

use super::function::{self, OperandKind, StepFunction};
use super::unary::apply_short_unary;
use super::{EpilogueArguments, EpilogueProgram, MAX_OPERANDS, ProgramStep, load, store};
use crate::vector::Vector;
use catc_scalar::UnaryFunction;
use catc_scalar::functions::Clip;

/// Vectors with the unary functions of epilogue steps.
pub(crate) trait EpilogueVector: Vector {
    /// Applies the unary function of a step to every lane. Not inlined, so that each width has the code of long functions only once.
    fn unary(self, step: &ProgramStep, values: &mut [Self::Real; 4]);

    /// Calls [`cells`]. Out of line: in one function, the addresses of all shapes would be computed before every row.
    ///
    /// # Safety
    /// As [`row`].
    unsafe fn cells<const N: usize, const P: usize, const KIND: u8>(
        self,
        row: &Row<'_>,
        channels: &Channels,
        from: i64,
        to: i64,
    );
}

/// A row of sums.
pub(crate) struct Row<'a> {
    /// The arguments of the epilogue.
    pub arguments: &'a EpilogueArguments,
    /// Sums of the first pixel.
    pub sums: *const i32,
    /// Bytes from a pixel's sums to the next pixel's.
    pub sums_pixel: i64,
    /// The row of the output to which the sums belong, counted from the first row of `arguments`.
    pub number: i64,
    /// The pixel of that row to which the first sums belong.
    pub first: i64,
    /// Pixels.
    pub pixels: i64,
}

/// Any other program.
const ANY: u8 = 0;
/// Scale, bias, codes.
const PLAIN: u8 = 1;
/// Scale, bias, the addition of an operand of small codes, codes.
const SHORTCUT: u8 = 2;
/// [`store::AFFINE`] without an operand.
const AFFINE: u8 = 3;
/// [`store::AFFINE`] with an operand.
const AFFINE_SHORTCUT: u8 = 4;
/// Scale, bias, the addition of an operand of floats, codes.
const FLOAT_SHORTCUT: u8 = 5;
/// Scale and bias, stored as floats.
const FLOATS: u8 = 6;
/// Scale, bias, a clip, codes.
const CLIP: u8 = 7;
/// Scale, bias, any other unary function, codes.
const UNARY: u8 = 8;

/// The epilogue of a row of sums.
///
/// # Safety
/// The pointers of the row and its arguments cover the memory that their fields describe.
#[inline(always)]
pub(crate) unsafe fn row<V: EpilogueVector>(v: V, row: &Row<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let program = &*row.arguments.program;
        let scaled = !row.arguments.multiplier.is_null();
        match (program.count, program.steps[0].function, program.store) {
            (0, _, store::AFFINE) => shaped::<V, AFFINE>(v, row),
            (_, _, store::AFFINE) => shaped::<V, AFFINE_SHORTCUT>(v, row),
            (0, _, store::FLOATS) if scaled => shaped::<V, FLOATS>(v, row),
            (0, _, store::SMALL_CODES) if scaled => shaped::<V, PLAIN>(v, row),
            (1, function::CLIP, store::SMALL_CODES) if scaled => shaped::<V, CLIP>(v, row),
            (1, f, store::SMALL_CODES) if scaled && function::is_unary(f) => shaped::<V, UNARY>(v, row),
            (1, function::ADD_FLOAT, store::SMALL_CODES) if scaled => shaped::<V, FLOAT_SHORTCUT>(v, row),
            (1, function::ADD_SMALL_CODE, store::SMALL_CODES) if scaled => shaped::<V, SHORTCUT>(v, row),
            _ => shaped::<V, ANY>(v, row),
        }
    }
}

/// Divides the row into cells: up to four vectors of channels of one pixel, or fewer vectors of several pixels.
#[inline(always)]
unsafe fn shaped<V: EpilogueVector, const KIND: u8>(v: V, row: &Row<'_>) {
    // SAFETY: the caller's promise. Cells have as many vectors as the channels need.
    unsafe {
        let mut channel = 0;
        while channel < row.arguments.channels {
            let channels = (row.arguments.channels - channel).min(4 * V::LANES as i64);
            let some = Channels { first: channel as usize, count: channels };
            let (pairs, fours) = (row.pixels & !1, row.pixels & !3);
            match (channels as usize).div_ceil(V::LANES) {
                1 => {
                    v.cells::<1, 4, KIND>(row, &some, 0, fours);
                    v.cells::<1, 1, KIND>(row, &some, fours, row.pixels);
                }
                2 => {
                    v.cells::<2, 2, KIND>(row, &some, 0, pairs);
                    v.cells::<2, 1, KIND>(row, &some, pairs, row.pixels);
                }
                3 => v.cells::<3, 1, KIND>(row, &some, 0, row.pixels),
                _ => v.cells::<4, 1, KIND>(row, &some, 0, row.pixels),
            }
            channel += channels;
        }
    }
}

/// Up to four vectors of neighbouring channels.
pub(crate) struct Channels {
    first: usize,
    count: i64,
}

/// The pixels `from..to` in cells of `P` pixels times `N` vectors. The number of pixels is a multiple of `P`, and `P * N` is at most 4.
#[inline(always)]
pub(super) unsafe fn cells<V: EpilogueVector, const N: usize, const P: usize, const KIND: u8>(
    mut v: V,
    row: &Row<'_>,
    channels: &Channels,
    from: i64,
    to: i64,
) {
    // SAFETY: every access is within the memory that the fields of the arguments describe: loads in whole vectors, stores of `count` channels.
    unsafe {
        // Loads loop invariants once, because the compiler cannot prove that stores do not change them.
        let f = row.arguments;
        let program = &*f.program;
        let rounding = Rounding::of(program);
        let floats = KIND == FLOATS || KIND == ANY && program.store == store::FLOATS;
        let scaled = KIND != ANY || !f.multiplier.is_null();
        let (mut multipliers, mut biases) = ([v.real(0.0); N], [v.real(0.0); N]);
        if scaled {
            for n in 0..N {
                multipliers[n] = v.load_reals(f.multiplier.add(channels.first + n * V::LANES));
                biases[n] = v.load_reals(f.bias.add(channels.first + n * V::LANES));
            }
        }
        let shortcut = small_codes(v, &program.steps[0]);
        let shortcut_at = Operand::of(row, &program.steps[0]);
        let (sums_pixel, output_pixel) = (row.sums_pixel as isize, f.output_pixel as isize);
        let element = if KIND == ANY && program.load == load::CODES { 1 } else { 4 };
        let mut sums = row.sums.cast::<u8>().offset(from as isize * sums_pixel).add(element * channels.first);
        let mut output = f.output.offset((row.number * f.output_row + row.first * f.output_pixel) as isize);
        output = output.offset(from as isize * output_pixel);
        for pixel in (from..to).step_by(P) {
            let mut t = [v.real(0.0); 4];
            for p in 0..P {
                let sums = sums.offset(p as isize * sums_pixel);
                for n in 0..N {
                    let sums = sums.add(n * V::LANES * element);
                    t[p * N + n] = match (scaled, KIND) {
                        (false, _) if element == 1 => {
                            let codes = v.load_bytes(sums);
                            dequantized(&mut v, codes, program.load_zero, program.load_scale)
                        }
                        (false, _) => v.load_reals(sums.cast()),
                        (true, AFFINE | AFFINE_SHORTCUT) => {
                            let sum = v.load_ints(sums.cast());
                            let sum = v.convert_to_real(sum);
                            v.fused_mul_add(sum, multipliers[n], biases[n])
                        }
                        (true, _) => {
                            let sum = v.load_ints(sums.cast());
                            let sum = v.convert_to_real(sum);
                            let product = v.mul(sum, multipliers[n]);
                            v.add(product, biases[n])
                        }
                    };
                }
            }
            let at = Place { pixel, channel: channels.first };
            match KIND {
                SHORTCUT | AFFINE_SHORTCUT => {
                    let step = &program.steps[0];
                    add_small_codes::<V, N, P>(v, (step, shortcut), &shortcut_at, &at, row.pixels, &mut t);
                }
                CLIP => {
                    let step = &program.steps[0];
                    let clip = Clip { min: step.x, max: step.y };
                    for value in &mut t[..P * N] {
                        *value = clip.value(&mut v, *value);
                    }
                }
                UNARY => {
                    // Passes a copy, so that the running values stay in registers.
                    let mut values = t;
                    v.unary(&program.steps[0], &mut values);
                    t = values;
                }
                FLOAT_SHORTCUT => {
                    for p in 0..P {
                        for n in 0..N {
                            let other = shortcut_at.load(&mut v, &program.steps[0], OperandKind::Float, &at, (p, n));
                            t[p * N + n] = v.add(t[p * N + n], other);
                        }
                    }
                }
                ANY => {
                    for step in &program.steps[..program.count as usize] {
                        apply::<V, N, P>(v, row, step, &at, &mut t);
                    }
                }
                _ => {}
            }
            if floats {
                for p in 0..P {
                    let to = output.offset(p as isize * output_pixel).cast::<f32>().add(channels.first);
                    for n in 0..N {
                        v.store_reals(to.add(n * V::LANES), t[p * N + n], channels.count - (n * V::LANES) as i64);
                    }
                }
            } else {
                let codes = rounding.codes::<V, KIND>(v, t);
                let count = P * N;
                let codes = [codes[0], codes[1 % count], codes[2 % count], codes[3 % count]];
                let bytes = v.pack_vectors(codes, rounding.levels);
                v.store_runs::<P>(output.add(channels.first), output_pixel as i64, bytes, channels.count);
            }
            sums = sums.wrapping_offset(P as isize * sums_pixel);
            output = output.wrapping_offset(P as isize * output_pixel);
        }
    }
}

/// The position of a cell's first element.
struct Place {
    /// Counted from the row's first.
    pixel: i64,
    channel: usize,
}

/// The operand of a step along a row.
struct Operand {
    /// The operand at the row's first pixel; arbitrary if the step has no operand.
    first: *const u8,
    /// Bytes from pixel to pixel.
    stride: isize,
}

impl Operand {
    #[inline(always)]
    fn of(row: &Row<'_>, step: &ProgramStep) -> Operand {
        let (f, number) = (row.arguments, step.operand as usize % MAX_OPERANDS);
        let offset = row.number.wrapping_mul(f.operand_row[number]);
        let offset = offset.wrapping_add(row.first.wrapping_mul(f.operand_pixel[number]));
        Operand { first: f.operands[number].wrapping_offset(offset as isize), stride: f.operand_pixel[number] as isize }
    }

    /// The address of the operand at a pixel of the cell, with `element` bytes per channel.
    #[inline(always)]
    fn at(&self, place: &Place, pixel: usize, element: usize) -> *const u8 {
        let offset = (place.pixel as isize + pixel as isize) * self.stride;
        self.first.wrapping_offset(offset).wrapping_add(element * place.channel)
    }

    /// Its values at a pixel and a vector of channels of the cell, multiplied by the step's factor.
    #[inline(always)]
    unsafe fn load<V: Vector>(
        &self,
        v: &mut V,
        step: &ProgramStep,
        kind: OperandKind,
        place: &Place,
        (pixel, vector): (usize, usize),
    ) -> V::Real {
        // SAFETY: the caller's promise.
        unsafe {
            match kind {
                OperandKind::Float => v.load_reals(self.at(place, pixel, 4).cast::<f32>().add(vector * V::LANES)),
                OperandKind::OneFloat => {
                    let other = v.real(self.at(place, pixel, 0).cast::<f32>().read());
                    let factor = v.real(step.x);
                    v.mul(other, factor)
                }
                OperandKind::ScaledFloat => {
                    let other = v.load_reals(self.at(place, pixel, 4).cast::<f32>().add(vector * V::LANES));
                    let factor = v.real(step.x);
                    v.mul(other, factor)
                }
                OperandKind::Code | OperandKind::SmallCode => {
                    let codes = v.load_bytes(self.at(place, pixel, 1).add(vector * V::LANES));
                    centred(v, step, codes)
                }
            }
        }
    }
}

/// The dequantized values of the codes below the number of lanes, as a table for [`Vector::look_up`].
#[inline(always)]
pub(crate) fn small_codes<V: Vector>(mut v: V, step: &ProgramStep) -> V::Real {
    let codes = v.lane_numbers();
    centred(&mut v, step, codes)
}

/// `(code - zero) as f32 * x`.
#[inline(always)]
fn centred<V: Vector>(v: &mut V, step: &ProgramStep, codes: V::Int) -> V::Real {
    dequantized(v, codes, step.zero, step.x)
}

/// `(code - zero) as f32 * scale`.
#[inline(always)]
fn dequantized<V: Vector>(v: &mut V, codes: V::Int, zero: i32, scale: f32) -> V::Real {
    let zero = v.int(zero);
    let codes = v.sub_int(codes, zero);
    let codes = v.convert_to_real(codes);
    let scale = v.real(scale);
    v.mul(codes, scale)
}

/// Adds an operand of codes below 16. `shortcut` has the dequantized value of each code, if a vector has 16 lanes.
#[inline(always)]
unsafe fn add_small_codes<V: Vector, const N: usize, const P: usize>(
    mut v: V,
    (step, shortcut): (&ProgramStep, V::Real),
    operand: &Operand,
    place: &Place,
    pixels: i64,
    t: &mut [V::Real; 4],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..P {
            let at = operand.at(place, p, 1);
            // Prefetches the same pixel of the next row, which usually has as many pixels.
            v.prefetch(at.wrapping_offset(pixels as isize * operand.stride));
            for n in 0..N {
                let codes = v.load_bytes(at.add(n * V::LANES));
                let other = if V::LANES >= 16 { v.look_up(shortcut, codes) } else { centred(&mut v, step, codes) };
                t[p * N + n] = v.add(t[p * N + n], other);
            }
        }
    }
}

/// One step of a program.
#[inline(always)]
unsafe fn apply<V: EpilogueVector, const N: usize, const P: usize>(
    mut v: V,
    row: &Row<'_>,
    step: &ProgramStep,
    place: &Place,
    t: &mut [V::Real; 4],
) {
    match StepFunction::of(step) {
        Some(StepFunction::Scale) => {
            let factor = v.real(step.x);
            for value in &mut t[..P * N] {
                *value = v.mul(*value, factor);
            }
        }
        Some(StepFunction::Binary(op, kind)) => {
            let operand = Operand::of(row, step);
            for p in 0..P {
                for n in 0..N {
                    // SAFETY: the caller's promise.
                    let other = unsafe { operand.load(&mut v, step, kind, place, (p, n)) };
                    let value = &mut t[p * N + n];
                    *value = op.value(&mut v, *value, other);
                }
            }
        }
        Some(StepFunction::Unary(_)) => {
            let applied = apply_short_unary(v, step, &mut t[..P * N]);
            if !applied {
                // Passes a copy, so that the running values stay in registers.
                let mut values = *t;
                v.unary(step, &mut values);
                *t = values;
            }
        }
        None => {}
    }
}

/// How values become codes.
struct Rounding {
    factor: f32,
    zero: i32,
    levels: u8,
    /// Whether values may have any magnitude, or be NaN.
    any: bool,
}

impl Rounding {
    #[inline(always)]
    fn of(program: &EpilogueProgram) -> Rounding {
        Rounding {
            factor: program.requantize,
            zero: program.zero,
            levels: program.levels as u8,
            any: program.store == store::CODES,
        }
    }

    /// Codes with the zero-point added, not yet clamped to their range.
    #[inline(always)]
    fn codes<V: Vector, const KIND: u8>(&self, mut v: V, t: [V::Real; 4]) -> [V::Int; 4] {
        let mut codes = [v.int(0); 4];
        for (code, mut value) in codes.iter_mut().zip(t) {
            if KIND == AFFINE || KIND == AFFINE_SHORTCUT {
                *code = v.round_to_int(value);
                continue;
            }
            let factor = v.real(self.factor);
            value = v.mul(value, factor);
            if KIND == ANY && self.any {
                // The zero-point is 0 here, so NaN becomes 0. Then clamps to the range of codes minus the zero-point.
                value = v.zero_where_nan(value);
                let low = v.real(-(self.zero as f32));
                value = v.max(value, low);
                let high = v.real((i32::from(self.levels) - self.zero) as f32);
                value = v.min(value, high);
            }
            *code = v.round_to_int(value);
            if self.zero != 0 {
                let zero = v.int(self.zero);
                *code = v.add_int(*code, zero);
            }
        }
        codes
    }
}

#[cfg(test)]
mod tests;
