//! Means over axes, lanes along an output dimension.

use crate::builder::{Builder, Need, Slots};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::halo::HaloFill;
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::emit::{F32Bits, StepCode};
use crate::error::JitError;
use crate::storage::LaneStep;
use crate::storage::{Buffer, StorageFormat, lane_access};
use catc_program::Step;
use cranelift_codegen::ir::types::{F32, F32X4, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Cursor 0 writes, cursor 1 stands at the first element to be reduced, the others are operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MeanCode {
    nest: Nest,
    /// Extents and bytes of the reduced axes, outermost first in the logical order.
    reduced: Vec<(usize, i64)>,
    zero: i32,
    scale: F32Bits,
    output: Output,
    epilogue: Epilogue,
    operand_zeros: Vec<i32>,
    halo: Option<HaloFill>,
}

impl StepCode for MeanCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        let lanes = e.stack(4 * 4 * 16);
        e.nest(&self.nest, units, &mut |e, pointers, count| {
            let values = match self.nest.cursors[1].lanes.format {
                StorageFormat::Float if self.is_contiguous() => self.contiguous_floats(e, pointers[1], count),
                StorageFormat::Float => self.floats(e, pointers[1], count, lanes),
                _ => self.codes(e, pointers[1], count),
            };
            let values = e.apply(&self.epilogue, values, |e, number| {
                let access = self.nest.cursors[2 + number].lanes;
                e.load_floats(access, pointers[2 + number], 0, count, self.operand_zeros[number])
            });
            e.store_results(&self.output, &self.epilogue, pointers[0], 0, count, values);
        });
    }
}

/// Emits the work on one reduced element: takes its pointer and the state, and gives the new state.
type ElementBody<'b> = &'b mut dyn FnMut(&mut Emitter<'_>, Value, Vec<Value>) -> Vec<Value>;

impl MeanCode {
    fn count(&self) -> usize {
        self.reduced.iter().map(|&(n, _)| n).product()
    }

    /// Runs `body` for every reduced element, in order; `state` goes from one to the next.
    fn each(
        &self,
        e: &mut Emitter<'_>,
        level: usize,
        pointer: Value,
        state: Vec<Value>,
        body: ElementBody<'_>,
    ) -> Vec<Value> {
        let Some(&(extent, bytes)) = self.reduced.get(level) else { return body(e, pointer, state) };
        e.repeat(extent, &[(pointer, bytes)], state, |e, p, state| self.each(e, level + 1, p[0], state, body))
    }

    fn codes(&self, e: &mut Emitter<'_>, pointer: Value, count: usize) -> Vec<Value> {
        let from = self.nest.cursors[1].lanes;
        let start = vec![e.ints(0); count.div_ceil(4)];
        let sums = self.each(e, 0, pointer, start, &mut |e, pointer, state| {
            let zero = e.ints(self.zero);
            let codes = e.load_codes(from, pointer, 0, count);
            let add = |(code, sum)| {
                debug_assert_eq!(e.b.func.dfg.value_type(sum), I32X4);
                let code = e.b.ins().isub(code, zero);
                e.b.ins().iadd(sum, code)
            };
            codes.into_iter().zip(state).map(add).collect()
        });
        let factor = self.scale.value() / self.count() as f32;
        sums.into_iter()
            .map(|sum| {
                let sum = e.b.ins().fcvt_from_sint(F32X4, sum);
                e.scale(sum, factor)
            })
            .collect()
    }

    /// Whether the reduced elements of an output are floats one after the other.
    fn is_contiguous(&self) -> bool {
        let mut next = 4;
        self.reduced.iter().rev().all(|&(extent, bytes)| {
            let follows = extent == 1 || bytes == next;
            next *= extent as i64;
            follows
        })
    }

    /// The means of contiguous floats: lane `i` of a vector is partial sum `i`. Several outputs are computed at once, so that an addition does not
    /// wait for the one before it.
    fn contiguous_floats(&self, e: &mut Emitter<'_>, pointer: Value, count: usize) -> Vec<Value> {
        let row = self.nest.cursors[1].lanes;
        let mut means = Vec::new();
        for first in (0..count).step_by(4) {
            let rows = (count - first).min(4);
            let starts = (first..first + rows).map(|r| e.offset(pointer, row.advance(r))).collect::<Vec<_>>();
            let advances: Vec<_> = starts.iter().map(|&start| (start, 16)).collect();
            let zero = e.floats(0.0);
            let mut sums = e.repeat(self.count() / 4, &advances, vec![zero; rows], |e, pointers, sums| {
                let add = |(&from, sum): (&Value, Value)| {
                    let values = e.load(F32X4, from, 0);
                    e.b.ins().fadd(sum, values)
                };
                pointers.iter().zip(sums).map(add).collect()
            });
            let (whole, rest) = (4 * (self.count() / 4), self.count() % 4);
            if rest > 0 {
                for (sum, &start) in sums.iter_mut().zip(&starts) {
                    // A partial sum is never -0.0, so adding 0.0 does not change it.
                    let mut values = e.floats(0.0);
                    for lane in 0..rest {
                        let value = e.load(F32, start, 4 * (whole + lane) as i64);
                        values = e.b.ins().insertlane(values, value, lane as u8);
                    }
                    *sum = e.b.ins().fadd(*sum, values);
                }
            }
            let mut totals = e.floats(0.0);
            for (lane, sum) in sums.into_iter().enumerate() {
                let l = [0, 1, 2, 3].map(|i| e.b.ins().extractlane(sum, i));
                let (low, high) = (e.b.ins().fadd(l[0], l[1]), e.b.ins().fadd(l[2], l[3]));
                let total = e.b.ins().fadd(low, high);
                totals = e.b.ins().insertlane(totals, total, lane as u8);
            }
            let number = e.floats(self.count() as f32);
            means.push(e.b.ins().fdiv(totals, number));
        }
        means
    }

    /// Element `i` goes to partial sum `i mod 4`; the partial sums are in memory, one after the other.
    fn floats(&self, e: &mut Emitter<'_>, pointer: Value, count: usize, lanes: Value) -> Vec<Value> {
        let from = self.nest.cursors[1].lanes;
        let groups = count.div_ceil(4) as i64;
        let zero = e.floats(0.0);
        for at in 0..4 * groups {
            e.store(zero, lanes, 16 * at);
        }
        let first = e.int(0);
        self.each(e, 0, pointer, vec![first], &mut |e, pointer, state| {
            let values = e.load_floats(from, pointer, 0, count, 0);
            let lane = e.b.ins().band_imm_u(state[0], 3);
            let place = e.index(lanes, lane, 16 * groups);
            for (group, value) in values.into_iter().enumerate() {
                let sum = e.load(F32X4, place, 16 * group as i64);
                let sum = e.b.ins().fadd(sum, value);
                e.store(sum, place, 16 * group as i64);
            }
            vec![e.offset(state[0], 1)]
        });
        (0..groups)
            .map(|group| {
                let l: Vec<Value> = (0..4).map(|j| e.load(F32X4, lanes, 16 * (j * groups + group))).collect();
                let low = e.b.ins().fadd(l[0], l[1]);
                let high = e.b.ins().fadd(l[2], l[3]);
                let sum = e.b.ins().fadd(low, high);
                let count = e.floats(self.count() as f32);
                e.b.ins().fdiv(sum, count)
            })
            .collect()
    }
}

/// Lowers a mean.
pub(crate) fn mean(p: &mut Builder<'_>, step: &Step, axes: &[usize], scale: f32) -> Result<(), JitError> {
    let format = p.program.tensor(step.inputs[0]).format;
    let mut input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let rank = input.buffer.dims.len();
    // Input axis of each output dimension; `None` where the reduced axis stays as size 1.
    let kept: Vec<Option<usize>> = if output.buffer.dims.len() == rank {
        (0..rank).map(|i| (!axes.contains(&i)).then_some(i)).collect()
    } else {
        (0..rank).filter(|i| !axes.contains(i)).map(Some).collect()
    };
    if kept.len() != output.buffer.dims.len() || axes.iter().any(|&a| a >= rank) {
        return Err(JitError::invalid(&step.name, "the axes contradict the dimensions"));
    }
    let walk = lanes_of(&output.buffer);
    let along = |strides: &[i64]| -> Vec<i64> { kept.iter().map(|k| k.map_or(0, |i| strides[i])).collect() };
    if input.buffer.format == StorageFormat::RowOffset {
        let lanes = along(&input.buffer.strides);
        let unit =
            lanes.get(walk.lane()).is_some_and(|&s| lane_access(StorageFormat::RowOffset, s).step == LaneStep::Unit);
        if !unit {
            input = p.read(step.inputs[0], Need::plain(&format))?;
        }
    }
    let (source, to) = (&input.buffer, &output.buffer);
    let mut slots = Slots::default();
    let (out, from) = (slots.add(output.slot), slots.add(input.slot));
    let bound = super::pool::average_bound(p, step.inputs[0], scale);
    let planned = p.epilogue(step, &mut slots, walk.lane(), true, bound)?;
    let mut cursors = vec![
        walk.cursor(out, to.format, to.origin, &to.strides),
        walk.cursor(from, source.format, source.origin, &along(&source.strides)),
    ];
    for (operand, strides) in &planned.operands {
        cursors.push(walk.cursor(operand.slot, operand.format, operand.origin, strides));
    }
    let nest = walk.nest(cursors).simplified();
    let units = nest.outer[0];
    let code = MeanCode {
        output: Output { access: nest.cursors[0].lanes, codes: to.codes },
        nest,
        reduced: axes.iter().map(|&a| (source.dims[a], source.strides[a] / 2)).collect(),
        zero: i32::from(source.zero()),
        scale: scale.into(),
        epilogue: planned.code(),
        operand_zeros: planned.operands.iter().map(|(o, _)| o.zero).collect(),
        halo: output.halo_fill(out),
    };
    p.push(&step.name, slots, units, code);
    Ok(())
}

/// Lanes run along the innermost dimension that has more than one element: a reduced axis may remain with size 1.
fn lanes_of(output: &Buffer) -> Walk {
    let walk = Walk::of(output);
    match output.order.iter().rev().find(|&&dim| output.dims[dim] > 1) {
        // At least one dimension is left for the work units.
        Some(&dim)
            if output.format == StorageFormat::Float
                && output.order.iter().any(|&d| d != dim && output.dims[d] > 1) =>
        {
            walk.with_lane(dim)
        }
        _ => walk,
    }
}
