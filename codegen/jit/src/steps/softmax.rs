//! Softmax over one axis: the maximum, exponentials and their sum in four lanes, the quotients.

use crate::builder::{Builder, Need, Slots};
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::emit::halo::HaloFill;
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::error::JitError;
use crate::storage::LaneAccess;
use crate::storage::StorageFormat;
use catc_program::Step;
use catc_scalar::functions::Exp;
use catc_scalar::{Arithmetic, UnaryFunction};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::F32X4;
use cranelift_codegen::ir::{InstBuilder, Value};

/// Cursor 0 writes, cursor 1 reads; the lane dimension is the axis.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SoftmaxCode {
    nest: Nest,
    halo: Option<HaloFill>,
    /// The number of rows of an image output whose work units are not its rows: there the first unit fills the whole halo.
    rows: Option<usize>,
}

impl StepCode for SoftmaxCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            match self.rows {
                None => halo.emit(e, units.0, units.1),
                Some(rows) => {
                    let (zero, rows) = (e.int(0), e.int(rows as i64));
                    let begins = e.b.ins().icmp_imm_s(IntCC::Equal, units.0, 0);
                    e.when(begins, |e| halo.emit(e, zero, rows));
                }
            }
        }
        let (to, from) = (self.nest.cursors[0].lanes, self.nest.cursors[1].lanes);
        e.nest_outer(&self.nest, units, &mut |e, pointers, _| {
            let lowest = e.floats(f32::NEG_INFINITY);
            let maximum = self.fold(e, pointers, lowest, &mut |e, p, count, best| {
                let x = e.load_words(F32X4, from.step, p[1], 0, count)[0];
                let x = keep(e, x, lowest, count);
                e.max(best, x)
            });
            let maximum = all_lanes(e, maximum, |e, a, b| e.max(a, b));
            let zero = e.floats(0.0);
            let sums = self.fold(e, pointers, zero, &mut |e, p, count, sum| {
                let x = e.load_words(F32X4, from.step, p[1], 0, count)[0];
                let x = e.b.ins().fsub(x, maximum);
                let power = Exp.value(e, x);
                e.store_words(to.step, p[0], 0, count, &[power]);
                let power = keep(e, power, zero, count);
                e.b.ins().fadd(sum, power)
            });
            let sum = e.sum_of_lanes(sums);
            let sum = e.b.ins().splat(F32X4, sum);
            self.fold(e, pointers, zero, &mut |e, p, count, state| {
                let power = e.load_words(F32X4, to.step, p[0], 0, count)[0];
                let quotient = e.b.ins().fdiv(power, sum);
                e.store_words(to.step, p[0], 0, count, &[quotient]);
                state
            });
        });
    }
}

/// Emits the work on up to four elements of the axis: takes pointers, the number of elements and the state, and gives the new state.
type AxisBody<'b> = &'b mut dyn FnMut(&mut Emitter<'_>, &[Value], usize, Value) -> Value;

impl SoftmaxCode {
    /// Goes along the axis four elements at a time; what is left comes last.
    fn fold(&self, e: &mut Emitter<'_>, pointers: &[Value], start: Value, body: AxisBody<'_>) -> Value {
        let bytes: Vec<i64> = self.nest.cursors.iter().map(|c| c.lanes.advance(4)).collect();
        let advances: Vec<_> = pointers.iter().copied().zip(bytes.iter().copied()).collect();
        let turns = self.nest.lanes / 4;
        let mut state = e.repeat(turns, &advances, vec![start], |e, p, state| vec![body(e, p, 4, state[0])]);
        let rest = self.nest.lanes % 4;
        if rest > 0 {
            let at: Vec<Value> = advances.iter().map(|&(p, b)| e.offset(p, b * turns as i64)).collect();
            state = vec![body(e, &at, rest, state[0])];
        }
        state[0]
    }
}

/// The first `count` lanes of `x`, the others of `other`.
fn keep(e: &mut Emitter<'_>, x: Value, other: Value, count: usize) -> Value {
    if count == 4 {
        return x;
    }
    let mask = e.constant(F32X4, std::array::from_fn(|i| if i < 4 * count { 0xff } else { 0 }));
    e.b.ins().bitselect(mask, x, other)
}

/// Four lanes joined by a function, the result in every lane.
fn all_lanes(e: &mut Emitter<'_>, v: Value, join: impl Fn(&mut Emitter<'_>, Value, Value) -> Value) -> Value {
    let mut lanes = (0..4).map(|i| {
        let lane = e.b.ins().extractlane(v, i);
        e.b.ins().splat(F32X4, lane)
    });
    let lanes: [Value; 4] = std::array::from_fn(|_| lanes.next().unwrap_or(v));
    let low = join(e, lanes[0], lanes[1]);
    let high = join(e, lanes[2], lanes[3]);
    join(e, low, high)
}

/// Lowers a softmax.
pub(crate) fn softmax(p: &mut Builder<'_>, step: &Step, axis: usize) -> Result<(), JitError> {
    let input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let (from, to) = (&input.buffer, &output.buffer);
    let floats = from.format == StorageFormat::Float && to.format == StorageFormat::Float;
    if !floats || from.dims != to.dims || axis >= to.dims.len() {
        return Err(JitError::invalid(&step.name, "its input and output differ, or there is no such axis"));
    }
    let mut slots = Slots::default();
    let (out, source) = (slots.add(output.slot), slots.add(input.slot));
    let walk = Walk::of(to).with_lane(axis);
    let nest = walk.nest(vec![
        walk.cursor(out, to.format, to.origin, &to.strides),
        walk.cursor(source, from.format, from.origin, &from.strides),
    ]);
    debug_assert!(nest.cursors.iter().all(|c| matches!(c.lanes, LaneAccess { format: StorageFormat::Float, .. })));
    let units = nest.outer[0];
    let halo = output.halo_fill(out);
    // With lanes along the rows of an image the units are its columns.
    let rows = (axis == 1).then(|| to.dims[1]);
    p.push(&step.name, slots, units, SoftmaxCode { nest, halo, rows });
    Ok(())
}
