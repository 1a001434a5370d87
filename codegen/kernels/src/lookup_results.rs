//! The epilogue of look-up tiles, from 16-bit totals to stored values: the body for vectors of any width.

use crate::epilogue::{EpilogueProgram, MAX_OPERANDS, small_codes, store};
use crate::lookup_tile::LookupResultsTile;
use crate::vector::Vector;
use std::mem::MaybeUninit;

/// The two 16-bit totals of a pixel and a vector of channels ([`crate::byte_sums`]): sums of whole words, and sums of their odd bytes.
pub(crate) type Cell<V> = [<V as catc_scalar::Arithmetic>::Int; 2];

/// Codes by [`store::AFFINE`].
const AFFINE: u8 = 0;
/// Codes by [`store::AFFINE`], with a shortcut of codes.
const AFFINE_SHORTCUT: u8 = 1;
/// Floats.
const FLOATS: u8 = 2;
/// Codes, with a shortcut of floats.
const FLOAT_SHORTCUT: u8 = 3;

/// Which of these kinds a program is.
#[inline(always)]
fn kind(program: &EpilogueProgram) -> u8 {
    match (program.store, program.count) {
        (store::AFFINE, 0) => AFFINE,
        (store::AFFINE, _) => AFFINE_SHORTCUT,
        (store::FLOATS, _) => FLOATS,
        _ => FLOAT_SHORTCUT,
    }
}

/// The sums of the even and of the odd bytes. Subtracts from the words what the odd bytes added to them.
#[inline(always)]
pub(crate) fn halves<V: Vector>(v: V, [all, odd]: Cell<V>) -> Cell<V> {
    [v.sub_halves(all, v.shift_halves_left_8(odd)), odd]
}

/// Prefetches the operand of a tile, so that it arrives during the look-ups.
///
/// # Safety
/// The pointers of the tile cover the memory that its fields describe.
#[inline(always)]
pub(crate) unsafe fn prefetch_operand<V: Vector>(v: V, tile: &LookupResultsTile) {
    // SAFETY: the caller's promise.
    let program = unsafe { &*tile.epilogue.program };
    let bytes = match kind(program) {
        AFFINE_SHORTCUT => 1,
        FLOAT_SHORTCUT => 4,
        _ => return,
    };
    let (operand, stride) = operand(tile, program);
    for pixel in 0..tile.lookup.pixels as isize {
        for byte in (0..bytes * 4 * V::LANES * tile.lookup.vectors as usize).step_by(64) {
            v.prefetch(operand.wrapping_offset(pixel * stride).wrapping_add(byte));
        }
    }
}

/// The operand of the only step at the first pixel, and its bytes from pixel to pixel. Arbitrary and unused if there is no step.
#[inline(always)]
fn operand(tile: &LookupResultsTile, program: &EpilogueProgram) -> (*const u8, isize) {
    let number = program.steps[0].operand as usize % MAX_OPERANDS;
    (tile.epilogue.operands[number], tile.epilogue.operand_pixel[number] as isize)
}

/// Applies the epilogue to a tile's totals and stores the results. There is a cell for each vector of each pixel, pixel by pixel.
///
/// # Safety
/// The pointers of the tile cover the memory that its fields describe, including whole vectors of operands; all totals are initialized.
#[inline(always)]
pub(crate) unsafe fn store_results<V: Vector>(v: V, tile: &LookupResultsTile, totals: &[MaybeUninit<Cell<V>>]) {
    // SAFETY: the caller's promise.
    unsafe {
        match kind(&*tile.epilogue.program) {
            AFFINE => store_as::<V, AFFINE>(v, tile, totals),
            AFFINE_SHORTCUT => store_as::<V, AFFINE_SHORTCUT>(v, tile, totals),
            FLOATS => store_as::<V, FLOATS>(v, tile, totals),
            _ => store_as::<V, FLOAT_SHORTCUT>(v, tile, totals),
        }
    }
}

#[inline(always)]
unsafe fn store_as<V: Vector, const KIND: u8>(v: V, tile: &LookupResultsTile, totals: &[MaybeUninit<Cell<V>>]) {
    // SAFETY: the caller's promise.
    unsafe {
        let f = &tile.epilogue;
        let program = &*f.program;
        let vectors = tile.lookup.vectors as usize;
        let shortcut = small_codes(v, &program.steps[0]);
        let (operands, stride) = operand(tile, program);
        for n in 0..vectors {
            let first = 4 * V::LANES * n;
            let count = f.channels - first as i64;
            let multipliers = quarters(v, f.multiplier.add(first));
            let biases = quarters(v, f.bias.add(first));
            for (p, totals) in totals.chunks_exact(vectors).enumerate() {
                let mut values = scaled::<V, KIND>(v, totals[n].assume_init(), &multipliers, &biases);
                let operand = operands.wrapping_offset((p as isize).wrapping_mul(stride));
                let output = f.output.offset(p as isize * f.output_pixel as isize);
                match KIND {
                    AFFINE_SHORTCUT => add_codes(v, shortcut, operand.wrapping_add(first), count, &mut values),
                    FLOAT_SHORTCUT => add_floats(v, operand.wrapping_add(4 * first).cast(), count, &mut values),
                    FLOATS => {
                        let to = output.wrapping_add(4 * first).cast::<f32>();
                        store_floats(v, to, count, &values);
                        continue;
                    }
                    _ => {}
                }
                let bytes = if KIND == FLOAT_SHORTCUT {
                    v.pack_vectors(rounded(v, program, values), program.levels as u8)
                } else {
                    let [a, b, c, d] = values;
                    let codes = [v.round_to_int(a), v.round_to_int(b), v.round_to_int(c), v.round_to_int(d)];
                    v.pack_lanes(codes, program.levels as u8)
                };
                let count = count.clamp(0, 4 * V::LANES as i64);
                v.store_runs::<1>(output.wrapping_add(first), 0, bytes, count);
            }
        }
    }
}

/// Four vectors of multipliers or biases, one for each quarter of the channels.
#[inline(always)]
unsafe fn quarters<V: Vector>(v: V, of: *const f32) -> [V::Real; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [
            v.load_reals(of),
            v.load_reals(of.add(V::LANES)),
            v.load_reals(of.add(2 * V::LANES)),
            v.load_reals(of.add(3 * V::LANES)),
        ]
    }
}

/// `65536 * total * multiplier + bias`. For [`store::AFFINE`], vector `i` has byte `i` of each lane; else each vector has a quarter of the
/// channels, in sequence.
#[inline(always)]
fn scaled<V: Vector, const KIND: u8>(
    mut v: V,
    cell: Cell<V>,
    multipliers: &[V::Real; 4],
    biases: &[V::Real; 4],
) -> [V::Real; 4] {
    let [even, odd] = halves(v, cell);
    let upper = v.int(0xffff << 16);
    let (byte_0, byte_1) = (v.shift_left(even, 16), v.shift_left(odd, 16));
    let (byte_2, byte_3) = (v.and(even, upper), v.and(odd, upper));
    let affine = KIND == AFFINE || KIND == AFFINE_SHORTCUT;
    let sums = if affine { [byte_0, byte_1, byte_2, byte_3] } else { [byte_0, byte_2, byte_1, byte_3] };
    let mut values = [v.real(0.0); 4];
    for quarter in 0..4 {
        let sum = v.convert_to_real(sums[quarter]);
        values[quarter] = if affine {
            v.fused_mul_add(sum, multipliers[quarter], biases[quarter])
        } else {
            let product = v.mul(sum, multipliers[quarter]);
            v.add(product, biases[quarter])
        };
    }
    values
}

/// Adds the dequantized codes of an operand.
#[inline(always)]
unsafe fn add_codes<V: Vector>(mut v: V, table: V::Real, from: *const u8, count: i64, values: &mut [V::Real; 4]) {
    // SAFETY: the caller's promise.
    let codes = unsafe { v.load_packed_bytes(from, count) };
    // Only the lowest bits of a lane are the index, so the other bytes need no mask.
    for (byte, value) in values.iter_mut().enumerate() {
        let index = if byte == 0 { codes } else { v.shift_right(codes, 8 * byte as u32) };
        let other = v.look_up(table, index);
        *value = v.add(*value, other);
    }
}

/// Adds an operand of floats.
#[inline(always)]
unsafe fn add_floats<V: Vector>(mut v: V, from: *const f32, count: i64, values: &mut [V::Real; 4]) {
    for (quarter, value) in values.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let other =
            unsafe { v.load_some_reals(from.wrapping_add(V::LANES * quarter), count - (V::LANES * quarter) as i64) };
        *value = v.add(*value, other);
    }
}

/// Stores the channels that exist, without the padding of the last vector.
#[inline(always)]
unsafe fn store_floats<V: Vector>(v: V, to: *mut f32, count: i64, values: &[V::Real; 4]) {
    for (quarter, &value) in values.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { v.store_reals(to.wrapping_add(V::LANES * quarter), value, count - (V::LANES * quarter) as i64) };
    }
}

/// Multiplies by the factor before rounding, rounds, and adds the zero-point.
#[inline(always)]
fn rounded<V: Vector>(mut v: V, program: &EpilogueProgram, values: [V::Real; 4]) -> [V::Int; 4] {
    let requantize = v.real(program.requantize);
    let mut codes = [v.int(0); 4];
    for (code, value) in codes.iter_mut().zip(values) {
        let value = v.mul(value, requantize);
        *code = v.round_to_int(value);
        if program.zero != 0 {
            let zero = v.int(program.zero);
            *code = v.add_int(*code, zero);
        }
    }
    codes
}
