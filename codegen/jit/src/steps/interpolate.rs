//! Weighted sums of a few slices of an axis. Lanes run along another axis, so that all lanes have the same taps.

use crate::builder::{Builder, Need, Slots};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::halo::HaloFill;
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::emit::{F32Bits, StepCode};
use crate::error::JitError;
use crate::storage::{LaneStep, Placed, Slot, StorageFormat, lane_access};
use catc_program::{ConstantId, Step};
use cranelift_codegen::ir::types::{F32, F32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Up to this many taps, the code of each tap is written out, and each tap has a pointer of its own.
const UNROLLED: usize = 4;

/// The most taps for which a bound on the values holds: rounding raises their sum by less than the slack of the bound.
const BOUNDED: usize = 1 << 12;

/// The indices and weights of an interpolation, for code that computes slices of the output's axis.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SliceTable {
    /// The outer loop that runs along the axis of the output.
    pub level: usize,
    /// Slot of the indices.
    pub slot: usize,
    /// Indices for each slice of the output.
    pub taps: usize,
    /// Slices of the input, and the bytes between them.
    pub slices: usize,
    pub distance: i64,
}

impl SliceTable {
    /// The address of the entries for the present turn of the outer loops.
    pub fn row(&self, e: &mut Emitter<'_>, slot: usize, at: &[Value]) -> Value {
        let entries = e.slot(slot);
        e.index(entries, at[self.level], 4 * self.taps as i64)
    }

    /// The pointer to the slice whose index is at an address; `first` points to slice 0.
    pub fn slice(&self, e: &mut Emitter<'_>, entry: Value, displacement: i64, first: Value) -> Value {
        use cranelift_codegen::ir::types::{I32, I64};
        let index = e.load(I32, entry, displacement);
        let index = e.b.ins().uextend(I64, index);
        // The plan has checked the indices. The minimum keeps any number that is read inside the axis, which the proof needs.
        let last = e.int(self.slices as i64 - 1);
        let index = e.b.ins().smin(index, last);
        e.index(first, index, self.distance)
    }
}

/// Cursor 0 writes. Cursors `1..=sources` stand at slice 0 of the input. The others are operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InterpolateCode {
    nest: Nest,
    table: SliceTable,
    /// The number of taps if they are written out, otherwise 1.
    sources: usize,
    weights_slot: usize,
    zero: i32,
    scale: F32Bits,
    output: Output,
    epilogue: Epilogue,
    operand_zeros: Vec<i32>,
    halo: Option<HaloFill>,
}

impl StepCode for InterpolateCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        e.nest_outer(&self.nest, units, &mut |e, pointers, at| {
            let indices = self.table.row(e, self.table.slot, at);
            let weights = self.table.row(e, self.weights_slot, at);
            if self.sources < self.table.taps {
                return e.nest_lanes(&self.nest, pointers, &mut |e, pointers, count| {
                    let sums = self.looped(e, indices, weights, pointers[1], count);
                    self.finish(e, pointers, count, sums);
                });
            }
            let mut here = pointers.to_vec();
            let mut factors = Vec::with_capacity(self.sources);
            for tap in 0..self.sources {
                here[1 + tap] = self.table.slice(e, indices, 4 * tap as i64, pointers[1 + tap]);
                factors.push(weight(e, weights, 4 * tap as i64));
            }
            e.nest_lanes(&self.nest, &here, &mut |e, pointers, count| {
                let mut sums = self.products(e, pointers[1], factors[0], count);
                for tap in 1..self.sources {
                    let products = self.products(e, pointers[1 + tap], factors[tap], count);
                    sums = added(e, sums, products);
                }
                self.finish(e, pointers, count, sums);
            });
        });
    }
}

/// The weight at an address, four times.
fn weight(e: &mut Emitter<'_>, pointer: Value, displacement: i64) -> Value {
    let weight = e.load(F32, pointer, displacement);
    e.b.ins().splat(F32X4, weight)
}

fn added(e: &mut Emitter<'_>, sums: Vec<Value>, products: Vec<Value>) -> Vec<Value> {
    sums.into_iter().zip(products).map(|(sum, product)| e.b.ins().fadd(sum, product)).collect()
}

impl InterpolateCode {
    /// Elements of one slice times its weight.
    fn products(&self, e: &mut Emitter<'_>, pointer: Value, weight: Value, count: usize) -> Vec<Value> {
        let values = e.load_floats(self.nest.cursors[1].lanes, pointer, 0, count, self.zero);
        values.into_iter().map(|v| e.b.ins().fmul(v, weight)).collect()
    }

    /// The sums by a loop over the taps.
    fn looped(&self, e: &mut Emitter<'_>, indices: Value, weights: Value, slices: Value, count: usize) -> Vec<Value> {
        let first = self.table.slice(e, indices, 0, slices);
        let factor = weight(e, weights, 0);
        let sums = self.products(e, first, factor, count);
        let entries = [(e.offset(indices, 4), 4), (e.offset(weights, 4), 4)];
        e.repeat(self.table.taps - 1, &entries, sums, |e, entries, sums| {
            let slice = self.table.slice(e, entries[0], 0, slices);
            let factor = weight(e, entries[1], 0);
            let products = self.products(e, slice, factor, count);
            added(e, sums, products)
        })
    }

    fn finish(&self, e: &mut Emitter<'_>, pointers: &[Value], count: usize, mut values: Vec<Value>) {
        let scale = self.scale.value();
        if scale != 1.0 {
            values = values.into_iter().map(|v| e.scale(v, scale)).collect();
        }
        let values = e.apply(&self.epilogue, values, |e, number| {
            let cursor = 1 + self.sources + number;
            let access = self.nest.cursors[cursor].lanes;
            e.load_floats(access, pointers[cursor], 0, count, self.operand_zeros[number])
        });
        e.store_results(&self.output, &self.epilogue, pointers[0], 0, count, values);
    }
}

/// Lowers an interpolation.
pub(crate) fn interpolate(
    p: &mut Builder<'_>,
    step: &Step,
    axis: usize,
    indices: &[usize],
    weights: ConstantId,
    scale: f32,
) -> Result<(), JitError> {
    let mut input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let values = p.floats(&step.name, weights)?;
    let taps = p.program.constant(weights).dims.last().copied().unwrap_or(0);
    check(step, &input, &output, axis, indices, (values.len(), taps))?;
    let walk = Walk::of(&output.buffer).beside(axis);
    if input.buffer.format == StorageFormat::RowOffset && input.buffer.lanes(walk.lane()).step != LaneStep::Unit {
        input = p.read(step.inputs[0], Need::plain(&p.program.tensor(step.inputs[0]).format))?;
    }
    let (from, to) = (&input.buffer, &output.buffer);
    let mut slots = Slots::default();
    let (out, source) = (slots.add(output.slot), slots.add(input.slot));
    let table: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
    let slot = slots.add(Slot::Constant(p.constants.push(&table)));
    let weights_slot = slots.add(Slot::Constant(p.constants.push(&values)));
    let bound = p.bound(step.inputs[0]).filter(|_| taps <= BOUNDED);
    let most = values.chunks(taps).map(|row| row.iter().map(|w| w.abs()).sum::<f32>()).fold(0.0, f32::max);
    let bound = bound.map(|b| 1.01 * b * most * scale.abs());
    let planned = p.epilogue(step, &mut slots, walk.lane(), true, bound)?;
    let mut strides = from.strides.clone();
    let distance = std::mem::replace(&mut strides[axis], 0) / 2;
    let sources = if taps <= UNROLLED { taps } else { 1 };
    let mut cursors = vec![walk.cursor(out, to.format, to.origin, &to.strides)];
    cursors.extend(vec![walk.cursor(source, from.format, from.origin, &strides); sources]);
    for (operand, strides) in &planned.operands {
        cursors.push(walk.cursor(operand.slot, operand.format, operand.origin, strides));
    }
    let (nest, level) = walk.nest(cursors).simplified_beside(walk.level(axis));
    let units = nest.outer[0];
    let lane = to.strides.get(walk.lane()).copied().unwrap_or(to.format.half_bytes() as i64);
    let code = InterpolateCode {
        nest,
        table: SliceTable { level, slot, taps, slices: from.dims[axis], distance },
        sources,
        weights_slot,
        zero: i32::from(from.zero()),
        scale: scale.into(),
        output: Output { access: lane_access(to.format, lane), codes: to.codes },
        epilogue: planned.code(),
        operand_zeros: planned.operands.iter().map(|(o, _)| o.zero).collect(),
        halo: output.halo_fill(out),
    };
    p.push(&step.name, slots, units, code);
    Ok(())
}

/// Checks that the taps fit the tensors; `weights` are the number of weights and of those for each slice of the output.
fn check(
    step: &Step,
    input: &Placed,
    output: &Placed,
    axis: usize,
    indices: &[usize],
    (weights, taps): (usize, usize),
) -> Result<(), JitError> {
    let (from, to) = (&input.buffer, &output.buffer);
    let fits = axis < from.dims.len()
        && from.format != StorageFormat::Index
        && to.format != StorageFormat::Index
        && from.dims.len() == to.dims.len()
        && from.dims.iter().zip(&to.dims).enumerate().all(|(i, (a, b))| i == axis || a == b)
        && taps > 0
        && Some(weights) == to.dims[axis].checked_mul(taps)
        && indices.len() == weights
        && indices.iter().all(|&i| i < from.dims[axis]);
    if fits { Ok(()) } else { Err(JitError::invalid(&step.name, "the taps contradict its input or output")) }
}
