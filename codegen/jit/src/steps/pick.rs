//! Slices of an axis at given indices, one after the other.

use super::copy::ends;
use super::interpolate::SliceTable;
use crate::builder::{Builder, Slots};
use crate::emit::StepCode;
use crate::emit::copy::move_elements;
use crate::emit::emitter::Emitter;
use crate::emit::halo::HaloFill;
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::error::JitError;
use crate::storage::Slot;
use crate::storage::StorageFormat;
use catc_program::Step;

/// Cursor 0 writes, cursor 1 stands at slice 0 of the input.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PickCode {
    nest: Nest,
    table: SliceTable,
    halo: Option<HaloFill>,
}

impl StepCode for PickCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        e.nest_outer(&self.nest, units, &mut |e, pointers, at| {
            let entry = self.table.row(e, self.table.slot, at);
            let slice = self.table.slice(e, entry, 0, pointers[1]);
            e.nest_lanes(&self.nest, &[pointers[0], slice], &mut |e, pointers, count| {
                move_elements(e, &self.nest, pointers, count);
            });
        });
    }
}

/// Lowers the choice of slices.
pub(crate) fn pick(p: &mut Builder<'_>, step: &Step, axis: usize, indices: &[usize]) -> Result<(), JitError> {
    let (input, output) = ends(p, step)?;
    let (from, to) = (&input.buffer, &output.buffer);
    let fits = axis < from.dims.len()
        && from.format == to.format
        && from.format != StorageFormat::RowOffset
        && from.dims.len() == to.dims.len()
        && from.dims.iter().zip(&to.dims).enumerate().all(|(i, (a, b))| i == axis || a == b)
        && to.dims[axis] == indices.len()
        && indices.iter().all(|&i| i < from.dims[axis]);
    if !fits {
        return Err(JitError::invalid(&step.name, "the indices contradict its input"));
    }
    let mut slots = Slots::default();
    let (out, source) = (slots.add(output.slot), slots.add(input.slot));
    let table: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
    let slot = slots.add(Slot::Constant(p.constants.push(&table)));
    // Elements along the axis are picked one by one; lanes run along another one.
    let walk = Walk::of(to).beside(axis);
    let mut strides = from.strides.clone();
    let distance = std::mem::replace(&mut strides[axis], 0) / 2;
    let target = walk.cursor(out, to.format, to.origin, &to.strides);
    let nest = walk.nest(vec![target, walk.cursor(source, from.format, from.origin, &strides)]);
    let (nest, level) = nest.simplified_beside(walk.level(axis));
    let units = nest.outer[0];
    let table = SliceTable { level, slot, taps: 1, slices: from.dims[axis], distance };
    let code = PickCode { nest, table, halo: output.halo_fill(out) };
    p.push(&step.name, slots, units, code);
    Ok(())
}
