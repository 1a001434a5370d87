//! The index of the smallest element along an axis, and the rows of a table that indices name.

use crate::builder::{Builder, Need, Slots};
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::emit::nest::{Cursor, Nest};
use crate::emit::walk::Walk;
use crate::error::JitError;
use crate::storage::Slot;
use crate::storage::StorageFormat;
use crate::storage::{LaneAccess, LaneStep};
use catc_program::{ConstantId, Step};
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32X4, I32, I32X4, I64};

/// Cursor 0 writes indices, cursor 1 stands at the first element along the axis.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArgMinCode {
    nest: Nest,
    size: usize,
    bytes: i64,
}

impl StepCode for ArgMinCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        let (to, from) = (self.nest.cursors[0].lanes, self.nest.cursors[1].lanes);
        e.nest(&self.nest, units, &mut |e, pointers, count| {
            let vectors = count.div_ceil(4);
            let mut state = e.load_words(F32X4, from.step, pointers[1], 0, count);
            state.extend(vec![e.ints(0); vectors + 1]);
            let next = e.offset(pointers[1], self.bytes);
            let found = e.repeat(self.size - 1, &[(next, self.bytes)], state, |e, p, state| {
                let one = e.ints(1);
                let index = e.b.ins().iadd(state[2 * vectors], one);
                let values = e.load_words(F32X4, from.step, p[0], 0, count);
                let mut next = state.clone();
                for (i, value) in values.into_iter().enumerate() {
                    let less = e.b.ins().fcmp(FloatCC::LessThan, value, state[i]);
                    next[vectors + i] = e.b.ins().bitselect(less, index, state[vectors + i]);
                    let less = e.cast(F32X4, less);
                    next[i] = e.b.ins().bitselect(less, value, state[i]);
                }
                next[2 * vectors] = index;
                next
            });
            e.store_words(to.step, pointers[0], 0, count, &found[vectors..2 * vectors]);
        });
    }
}

/// Lowers an argmin.
pub(crate) fn argmin(p: &mut Builder<'_>, step: &Step, axis: usize) -> Result<(), JitError> {
    let input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let (from, to) = (&input.buffer, &output.buffer);
    if axis >= from.dims.len()
        || from.format != StorageFormat::Float
        || to.format != StorageFormat::Index
        || from.dims[axis] == 0
    {
        return Err(JitError::invalid(&step.name, "there is no such axis, or no floats along it"));
    }
    let mut along = from.strides.clone();
    let bytes = along.remove(axis) / 2;
    let mut slots = Slots::default();
    let (out, source) = (slots.add(output.slot), slots.add(input.slot));
    let walk = Walk::of(to);
    let nest = walk
        .nest(vec![
            walk.cursor(out, to.format, to.origin, &to.strides),
            walk.cursor(source, from.format, from.origin, &along),
        ])
        .simplified();
    let units = nest.outer[0];
    p.push(&step.name, slots, units, ArgMinCode { nest, size: from.dims[axis], bytes });
    Ok(())
}

/// A unit for each index: cursor 0 writes its row, cursor 1 stands at the table's first row.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GatherCode {
    nest: Nest,
    index_slot: usize,
    rows: usize,
}

impl StepCode for GatherCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        let indices = e.slot(self.index_slot);
        e.nest_outer(&self.nest, units, &mut |e, pointers, at| {
            let from = e.index(indices, at[0], 4);
            let index = e.load(I32, from, 0);
            let index = e.b.ins().sextend(I64, index);
            // A negative index counts from the end. Any index is then clamped to the rows of the table.
            let (low, rows, high) = (e.int(0), e.int(self.rows as i64), e.int(self.rows as i64 - 1));
            let counted = e.b.ins().iadd(index, rows);
            let negative = e.b.ins().icmp(IntCC::SignedLessThan, index, low);
            let index = e.b.ins().select(negative, counted, index);
            let index = e.b.ins().smax(index, low);
            let index = e.b.ins().smin(index, high);
            let row = e.index(pointers[1], index, 4 * self.nest.lanes as i64);
            e.nest_lanes(&self.nest, &[pointers[0], row], &mut |e, pointers, count| {
                let values = e.load_words(I32X4, LaneStep::Unit, pointers[1], 0, count);
                e.store_words(LaneStep::Unit, pointers[0], 0, count, &values);
            });
        });
    }
}

/// Lowers the choice of rows.
pub(crate) fn gather_row(p: &mut Builder<'_>, step: &Step, table: ConstantId) -> Result<(), JitError> {
    let input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let values = p.floats(&step.name, table)?;
    let count = input.buffer.len();
    let rank = input.buffer.dims.len();
    let length: usize = output.buffer.dims.get(rank..).unwrap_or_default().iter().product();
    let fits = input.buffer.format == StorageFormat::Index
        && output.buffer.format == StorageFormat::Float
        && output.buffer.dims.starts_with(&input.buffer.dims)
        && input.buffer.is_dense()
        && output.buffer.is_dense();
    if !fits || length == 0 || values.is_empty() || !values.len().is_multiple_of(length) {
        return Err(JitError::invalid(&step.name, "the table contradicts its output"));
    }
    let rows = values.len() / length;
    let mut slots = Slots::default();
    let (out, index_slot) = (slots.add(output.slot), slots.add(input.slot));
    let table_slot = slots.add(Slot::Constant(p.constants.push(&values)));
    let lanes = LaneAccess { format: StorageFormat::Float, step: LaneStep::Unit };
    let cursor = |slot, stride| Cursor { slot, origin: 0, strides: vec![stride], lanes };
    let cursors = vec![cursor(out, 4 * length as i64), cursor(table_slot, 0)];
    let nest = Nest { outer: vec![count], lanes: length, cursors };
    p.push(&step.name, slots, count, GatherCode { nest, index_slot, rows });
    Ok(())
}
