//! Products of two activation tensors, f32 or codes. Vectors run along the columns. A sum of f32 has four partial sums, each a vector of its
//! own. Large products of codes go by precompiled tiles where there are any ([`super::conv::product`]).

use super::conv::product::{self, Product};
use crate::builder::{Builder, Need, Slots};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::emit::{F32Bits, StepCode};
use crate::error::JitError;
use crate::storage::LaneStep;
use crate::storage::StorageFormat;
use catc_program::Step;
use cranelift_codegen::ir::types::{F32, F32X4, I8, I8X16, I16, I16X8};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Cursor 0 writes, 1 reads a row of the first input, 2 columns of the second; the others are operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MatMulCode {
    nest: Nest,
    length: usize,
    /// Bytes between rows of the second input.
    row_bytes: i64,
    /// Zero-points and factor, if both inputs are codes.
    codes: Option<Codes>,
    output: Output,
    epilogue: Epilogue,
    operand_zeros: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Codes {
    left_zero: i32,
    right_zero: i32,
    scale: F32Bits,
}

impl StepCode for MatMulCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        e.nest(&self.nest, units, &mut |e, pointers, count| {
            let mut values = Vec::new();
            match self.codes {
                Some(codes) => values = self.code_sums(e, codes, pointers[1], pointers[2], count),
                None => {
                    for first in (0..count).step_by(4) {
                        let columns = (count - first).min(4);
                        let right = e.offset(pointers[2], 4 * first as i64);
                        values.push(self.sums(e, pointers[1], right, columns));
                    }
                }
            }
            let values = e.apply(&self.epilogue, values, |e, number| {
                let access = self.nest.cursors[3 + number].lanes;
                e.load_floats(access, pointers[3 + number], 0, count, self.operand_zeros[number])
            });
            e.store_results(&self.output, &self.epilogue, pointers[0], 0, count, values);
        });
    }
}

impl MatMulCode {
    /// Neighbouring elements of a product of codes, as f32. Two codes of the row and two rows of the columns are one `pmaddwd` (or
    /// `smull` and `addp`). The zero-point of the left codes is subtracted first. The right codes are taken as they are, so their zero-point
    /// adds itself times the sum of the left codes; this product is subtracted at the end.
    fn code_sums(&self, e: &mut Emitter<'_>, codes: Codes, left: Value, right: Value, count: usize) -> Vec<Value> {
        // The last accumulator is the sum of the left codes.
        let start = vec![e.ints(0); count.div_ceil(4) + 1];
        let pairs = self.length / 2;
        let down = 2 * self.row_bytes;
        let mut sums = e.repeat(pairs, &[(left, 2), (right, down)], start, |e, p, sums| {
            self.add_pair(e, codes, (p[0], p[1]), 2, count, sums)
        });
        if self.length % 2 == 1 {
            let last = (e.offset(left, 2 * pairs as i64), e.offset(right, down * pairs as i64));
            sums = self.add_pair(e, codes, last, 1, count, sums);
        }
        let zero = sums.pop().map(|left| {
            let zero = e.ints(codes.right_zero);
            e.b.ins().imul(left, zero)
        });
        sums.into_iter()
            .map(|sum| {
                let sum = zero.map_or(sum, |zero| e.b.ins().isub(sum, zero));
                let sum = e.b.ins().fcvt_from_sint(F32X4, sum);
                e.scale(sum, codes.scale.value())
            })
            .collect()
    }

    /// Adds the products of one or two neighbouring codes of the row with as many rows of the columns.
    fn add_pair(
        &self,
        e: &mut Emitter<'_>,
        codes: Codes,
        (left, right): (Value, Value),
        terms: usize,
        count: usize,
        sums: Vec<Value>,
    ) -> Vec<Value> {
        let access = self.nest.cursors[2].lanes;
        let x = match terms {
            2 => e.load(I16, left, 0),
            _ => {
                let x = e.load(I8, left, 0);
                e.b.ins().uextend(I16, x)
            }
        };
        let x = e.b.ins().splat(I16X8, x);
        let x = e.cast(I8X16, x);
        let x = e.b.ins().uwiden_low(x);
        let own = (codes.left_zero as i16).to_le_bytes();
        let zero = e.constant(I16X8, std::array::from_fn(|i| if i % 4 < 2 || terms == 2 { own[i % 2] } else { 0 }));
        let x = e.b.ins().isub(x, zero);
        let first = e.load_bytes(access, right, 0, count);
        let second = if terms == 2 { e.load_bytes(access, right, self.row_bytes, count) } else { e.bytes(0) };
        let (low, high) = e.interleave_bytes(first, second);
        let mut columns = Vec::with_capacity(4);
        for half in [low, high] {
            columns.push(e.b.ins().uwiden_low(half));
            columns.push(e.b.ins().uwiden_high(half));
        }
        columns.truncate(sums.len() - 1);
        let mut products: Vec<Value> = columns.into_iter().map(|y| e.multiply_add_shorts(y, x)).collect();
        products.push(e.add_neighbours(x));
        sums.into_iter().zip(products).map(|(sum, product)| e.b.ins().iadd(sum, product)).collect()
    }

    /// Up to four neighbouring elements.
    fn sums(&self, e: &mut Emitter<'_>, left: Value, right: Value, columns: usize) -> Value {
        let start = vec![e.floats(0.0); 4];
        let turns = self.length / 4;
        let down = 4 * self.row_bytes;
        let mut sums = e.repeat(turns, &[(left, 16), (right, down)], start, |e, p, state| {
            state.into_iter().enumerate().map(|(j, sum)| self.add(e, p[0], p[1], j, columns, sum)).collect()
        });
        let rest = self.length % 4;
        if rest > 0 {
            let left = e.offset(left, 16 * turns as i64);
            let right = e.offset(right, down * turns as i64);
            for (j, sum) in sums.iter_mut().enumerate().take(rest) {
                *sum = self.add(e, left, right, j, columns, *sum);
            }
        }
        let low = e.b.ins().fadd(sums[0], sums[1]);
        let high = e.b.ins().fadd(sums[2], sums[3]);
        e.b.ins().fadd(low, high)
    }

    fn add(&self, e: &mut Emitter<'_>, left: Value, right: Value, j: usize, columns: usize, sum: Value) -> Value {
        let x = e.load(F32, left, 4 * j as i64);
        let x = e.b.ins().splat(F32X4, x);
        let y = e.load_words(F32X4, LaneStep::Unit, right, self.row_bytes * j as i64, columns)[0];
        let product = e.b.ins().fmul(x, y);
        e.b.ins().fadd(sum, product)
    }
}

/// Lowers a matrix product.
pub(crate) fn matmul(p: &mut Builder<'_>, step: &Step, scale: f32) -> Result<(), JitError> {
    let error = || JitError::invalid(&step.name, "the dimensions do not multiply");
    let &[left, right] = step.inputs.as_slice() else { return Err(error()) };
    let plain = |p: &Builder<'_>, t| Need::plain(&p.program.tensor(t).format);
    let (need_left, need_right) = (plain(p, left), plain(p, right));
    let (left, right) = (p.read(left, need_left)?, p.read(right, need_right)?);
    let output = p.write(step.output)?;
    let (a, b, to) = (&left.buffer, &right.buffer, &output.buffer);
    let rank = to.dims.len();
    let (format, bytes) = match a.format {
        StorageFormat::Float => (StorageFormat::Float, 4),
        _ => (StorageFormat::Byte, 1),
    };
    let plain = [a, b].iter().all(|x| x.format == format && x.is_dense() && x.dims.len() == rank);
    if rank < 2 || !plain || a.dims[rank - 1] != b.dims[rank - 2] {
        return Err(error());
    }
    let lane = rank - 1;
    let walk = Walk::of(to).with_lane(lane);
    let mut slots = Slots::default();
    let (out, from_a, from_b) = (slots.add(output.slot), slots.add(left.slot), slots.add(right.slot));
    let planned = p.epilogue(step, &mut slots, lane, true, None)?;
    let product =
        Product { left: a, right: b, output: to, slots, numbers: [out, from_a, from_b], epilogue: planned, scale };
    if let Some(kernel) = product.kernel(p) {
        product::lower(p, step, product, kernel);
        return Ok(());
    }
    let Product { slots, epilogue: planned, .. } = product;
    let (mut a_strides, mut b_strides) = (a.strides.clone(), b.strides.clone());
    a_strides[rank - 1] = 0;
    b_strides[rank - 2] = 0;
    let mut cursors = vec![
        walk.cursor(out, to.format, to.origin, &to.strides),
        walk.cursor(from_a, format, 0, &a_strides),
        walk.cursor(from_b, format, 0, &b_strides),
    ];
    for (operand, strides) in &planned.operands {
        cursors.push(walk.cursor(operand.slot, operand.format, operand.origin, strides));
    }
    let nest = walk.nest(cursors);
    let units = nest.outer[0];
    let code = MatMulCode {
        output: Output { access: nest.cursors[0].lanes, codes: to.codes },
        nest,
        length: a.dims[rank - 1],
        row_bytes: (b.dims[rank - 1] * bytes) as i64,
        codes: (format == StorageFormat::Byte).then(|| Codes {
            left_zero: i32::from(a.zero()),
            right_zero: i32::from(b.zero()),
            scale: scale.into(),
        }),
        epilogue: planned.code(),
        operand_zeros: planned.operands.iter().map(|(o, _)| o.zero).collect(),
    };
    p.push(&step.name, slots, units, code).with_macs((a.dims[rank - 1] * to.len()) as u64);
    Ok(())
}
