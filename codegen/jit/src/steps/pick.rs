//! Slices of an axis at given indices, one after the other.

use super::copy::ends;
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
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::types::{I32, I64};

/// Cursor 0 writes, cursor 1 stands at slice 0 of the input.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PickCode {
    nest: Nest,
    /// The outer loop that runs along the axis of the output.
    level: usize,
    indices_slot: usize,
    /// Slices of the input, and the bytes between them.
    slices: usize,
    distance: i64,
    halo: Option<HaloFill>,
}

impl StepCode for PickCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        let indices = e.slot(self.indices_slot);
        e.nest_outer(&self.nest, units, &mut |e, pointers, at| {
            let from = e.index(indices, at[self.level], 4);
            let index = e.load(I32, from, 0);
            let index = e.b.ins().uextend(I64, index);
            // The plan has checked the indices. The minimum keeps any number that is read inside the axis, which the proof needs.
            let last = e.int(self.slices as i64 - 1);
            let index = e.b.ins().smin(index, last);
            let slice = e.index(pointers[1], index, self.distance);
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
    let indices_slot = slots.add(Slot::Constant(p.constants.push(&table)));
    // Elements along the axis are picked one by one; lanes run along another one.
    let walk = Walk::of(to).beside(axis);
    let level = walk.level(axis);
    let mut strides = from.strides.clone();
    let distance = std::mem::replace(&mut strides[axis], 0) / 2;
    let nest = walk.nest(vec![
        walk.cursor(out, to.format, to.origin, &to.strides),
        walk.cursor(source, from.format, from.origin, &strides),
    ]);
    let units = nest.outer[0];
    let code = PickCode { nest, level, indices_slot, slices: from.dims[axis], distance, halo: output.halo_fill(out) };
    p.push(&step.name, slots, units, code);
    Ok(())
}
