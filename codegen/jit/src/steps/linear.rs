//! Rows of f32 against rows of constants: fully connected layers and squared distances. Sums run in four lanes, lane `j` over the
//! elements `j, j + 4, ..`, which is one vector accumulator.

use crate::builder::{Builder, Need, Slots};
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::nest::{Cursor, Nest};
use crate::emit::walk::Walk;
use crate::error::JitError;
use crate::storage::Slot;
use crate::storage::{LaneAccess, LaneStep};
use crate::storage::{StorageFormat, lane_access};
use catc_program::{ConstantId, Step};
use cranelift_codegen::ir::types::F32X4;
use cranelift_codegen::ir::{InstBuilder, Value};

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Term {
    Product,
    SquaredDifference,
}

/// Cursor 0 writes, 1 reads the row, 2 the constant rows (padded to four), 3 the biases; the others are operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LinearCode {
    term: Term,
    nest: Nest,
    length: usize,
    output: Output,
    epilogue: Epilogue,
    operand_zeros: Vec<i32>,
}

impl StepCode for LinearCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        e.nest(&self.nest, units, &mut |e, pointers, count| {
            let mut values = Vec::new();
            for first in (0..count).step_by(4) {
                let rows = (count - first).min(4);
                let at = self.nest.cursors[2].lanes.advance(first);
                let sums = self.sums(e, pointers[1], pointers[2], at, rows);
                let mut vector = e.b.ins().scalar_to_vector(F32X4, sums[0]);
                for (lane, &sum) in sums.iter().enumerate().skip(1) {
                    vector = e.b.ins().insertlane(vector, sum, lane as u8);
                }
                values.push(vector);
            }
            if self.term == Term::Product {
                let biases = e.load_floats(self.nest.cursors[3].lanes, pointers[3], 0, count, 0);
                values = values.into_iter().zip(biases).map(|(v, b)| e.b.ins().fadd(v, b)).collect();
            }
            let values = e.apply(&self.epilogue, values, |e, number| {
                let access = self.nest.cursors[4 + number].lanes;
                e.load_floats(access, pointers[4 + number], 0, count, self.operand_zeros[number])
            });
            e.store_results(&self.output, &self.epilogue, pointers[0], 0, count, values);
        });
    }
}

impl LinearCode {
    /// The sums of up to four rows of constants, each a scalar.
    fn sums(&self, e: &mut Emitter<'_>, row: Value, constants: Value, at: i64, rows: usize) -> Vec<Value> {
        let stride = self.nest.cursors[2].lanes.advance(1);
        let start = vec![e.floats(0.0); rows];
        let turns = self.length / 4;
        let mut sums = e.repeat(turns, &[(row, 16), (constants, 16)], start, |e, p, state| {
            let x = e.load(F32X4, p[0], 0);
            self.add(e, x, p[1], at, stride, state)
        });
        let rest = self.length % 4;
        if rest > 0 {
            let done = 16 * turns as i64;
            let x = e.load_words(F32X4, LaneStep::Unit, row, done, rest)[0];
            sums = self.add(e, x, constants, at + done, stride, sums);
        }
        sums.into_iter().map(|sum| e.sum_of_lanes(sum)).collect()
    }

    fn add(
        &self,
        e: &mut Emitter<'_>,
        x: Value,
        constants: Value,
        at: i64,
        stride: i64,
        sums: Vec<Value>,
    ) -> Vec<Value> {
        sums.into_iter()
            .enumerate()
            .map(|(row, sum)| {
                let c = e.load(F32X4, constants, at + stride * row as i64);
                let term = match self.term {
                    Term::Product => e.b.ins().fmul(x, c),
                    Term::SquaredDifference => {
                        let difference = e.b.ins().fsub(x, c);
                        e.b.ins().fmul(difference, difference)
                    }
                };
                e.b.ins().fadd(sum, term)
            })
            .collect()
    }
}

/// Lowers a fully connected layer.
pub(crate) fn linear(p: &mut Builder<'_>, step: &Step, weights: ConstantId, bias: ConstantId) -> Result<(), JitError> {
    lower(p, step, Term::Product, weights, Some(bias))
}

/// Lowers squared distances.
pub(crate) fn squared_distance(p: &mut Builder<'_>, step: &Step, centroids: ConstantId) -> Result<(), JitError> {
    lower(p, step, Term::SquaredDifference, centroids, None)
}

fn lower(
    p: &mut Builder<'_>,
    step: &Step,
    term: Term,
    constants: ConstantId,
    bias: Option<ConstantId>,
) -> Result<(), JitError> {
    let input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let (from, to) = (&input.buffer, &output.buffer);
    let (Some(&length), Some(&outputs)) = (from.dims.last(), to.dims.last()) else {
        return Err(JitError::invalid(&step.name, "its input or output has no dimension"));
    };
    let values = p.floats(&step.name, constants)?;
    let rows = from.dims[..from.dims.len() - 1] == to.dims[..to.dims.len() - 1];
    if values.len() != length * outputs || !rows || !from.is_dense() || from.format != StorageFormat::Float {
        return Err(JitError::invalid(&step.name, "the constants contradict input and output"));
    }
    let padded = length.next_multiple_of(4);
    let mut packed = vec![0f32; padded * outputs];
    for (to, from) in packed.chunks_exact_mut(padded).zip(values.chunks_exact(length)) {
        to[..length].copy_from_slice(from);
    }
    let bias = match bias {
        Some(bias) => p.channel_floats(&step.name, bias, outputs)?,
        None => vec![0.0; outputs],
    };
    let mut slots = Slots::default();
    let (out, source) = (slots.add(output.slot), slots.add(input.slot));
    let constant_slot = slots.add(Slot::Constant(p.constants.push(&packed)));
    let bias_slot = slots.add(Slot::Constant(p.constants.push(&bias)));
    let lane = to.dims.len() - 1;
    let walk = Walk::of(to).with_lane(lane);
    let planned = p.epilogue(step, &mut slots, lane, true, None)?;
    let mut along_rows = from.strides.clone();
    if let Some(last) = along_rows.last_mut() {
        *last = 0;
    }
    let depth = walk.outer_extents().len();
    let beside = |slot: usize, step: LaneStep| Cursor {
        slot,
        origin: 0,
        strides: vec![0; depth],
        lanes: LaneAccess { format: StorageFormat::Float, step },
    };
    let mut cursors = vec![
        walk.cursor(out, to.format, to.origin, &to.strides),
        walk.cursor(source, StorageFormat::Float, from.origin, &along_rows),
        beside(constant_slot, LaneStep::Bytes(4 * padded as i64)),
        beside(bias_slot, LaneStep::Unit),
    ];
    for (operand, strides) in &planned.operands {
        cursors.push(walk.cursor(operand.slot, operand.format, operand.origin, strides));
    }
    let nest = walk.nest(cursors);
    let units = nest.outer[0];
    let code = LinearCode {
        term,
        nest,
        length,
        output: Output { access: lane_access(to.format, to.strides[lane]), codes: to.codes },
        epilogue: planned.code(),
        operand_zeros: planned.operands.iter().map(|(o, _)| o.zero).collect(),
    };
    p.push(&step.name, slots, units, code).with_macs((length * to.len()) as u64);
    Ok(())
}
