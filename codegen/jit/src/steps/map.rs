//! Element-wise steps: a factor and an epilogue, between any forms and layouts.

use super::planes;
use super::wide_map::WideMap;
use crate::builder::{Builder, Need, Slots};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::halo::HaloFill;
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::emit::{F32Bits, StepCode};
use crate::error::JitError;
use crate::storage::LaneStep;
use crate::storage::{Placed, Slot};
use crate::storage::{StorageFormat, lane_access};
use catc_program::{ConstantId, Step};

/// Cursor 0 writes, cursor 1 reads, the others are the operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MapCode {
    nest: Nest,
    zero: i32,
    scale: F32Bits,
    epilogue: Epilogue,
    operand_zeros: Vec<i32>,
    output: Output,
    halo: Option<HaloFill>,
}

impl StepCode for MapCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        e.nest(&self.nest, units, &mut |e, pointers, count| {
            let from = self.nest.cursors[1].lanes;
            let mut values = e.load_floats(from, pointers[1], 0, count, self.zero);
            let scale = self.scale.value();
            if scale != 1.0 {
                values = values.into_iter().map(|v| e.scale(v, scale)).collect();
            }
            let values = e.apply(&self.epilogue, values, |e, number| {
                let access = self.nest.cursors[2 + number].lanes;
                e.load_floats(access, pointers[2 + number], 0, count, self.operand_zeros[number])
            });
            e.store_results(&self.output, &self.epilogue, pointers[0], 0, count, values);
        });
    }
}

/// Lowers a map.
pub(crate) fn map(p: &mut Builder<'_>, step: &Step, scale: f32) -> Result<(), JitError> {
    let mut input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    if input.buffer.dims != output.buffer.dims || output.buffer.format == StorageFormat::Index {
        return Err(JitError::invalid(&step.name, "its input and output differ in size, or it makes indices"));
    }
    if planes::lower(p, step, scale, &input, &output)? {
        return Ok(());
    }
    let walk = lanes_for(&output, &input);
    if input.buffer.format == StorageFormat::RowOffset && input.buffer.lanes(walk.lane()).step != LaneStep::Unit {
        input = p.read(step.inputs[0], Need::plain(&p.program.tensor(step.inputs[0]).format))?;
    }
    let mut slots = Slots::default();
    let (out, from) = (slots.add(output.slot), slots.add(input.slot));
    let source = walk.cursor(from, input.buffer.format, input.buffer.origin, &input.buffer.strides);
    let zero = i32::from(input.buffer.zero());
    push(p, step, slots, walk, output, out, source, zero, scale)
}

/// Lowers a constant that fills its output.
pub(crate) fn constant(p: &mut Builder<'_>, step: &Step, id: ConstantId) -> Result<(), JitError> {
    let output = p.write(step.output)?;
    let mut slots = Slots::default();
    let out = slots.add(output.slot);
    let (slot, strides) = p.float_operand(step, id, &output.buffer.dims.clone())?;
    let from = slots.add(slot);
    let walk = Walk::of(&output.buffer);
    let source = walk.cursor(from, StorageFormat::Float, 0, &strides);
    push(p, step, slots, walk, output, out, source, 0, 1.0)
}

#[allow(clippy::too_many_arguments)]
fn push(
    p: &mut Builder<'_>,
    step: &Step,
    mut slots: Slots,
    walk: Walk,
    output: Placed,
    out: usize,
    source: crate::emit::nest::Cursor,
    zero: i32,
    scale: f32,
) -> Result<(), JitError> {
    let lane = walk.lane();
    let bound = step.inputs.first().and_then(|&i| p.bound(i)).map(|b| b * scale.abs());
    let planned = p.epilogue(step, &mut slots, lane, true, bound)?;
    let to = &output.buffer;
    let mut cursors = vec![walk.cursor(out, to.format, to.origin, &to.strides), source];
    for (operand, strides) in &planned.operands {
        cursors.push(walk.cursor(operand.slot, operand.format, operand.origin, strides));
    }
    let nest = walk.nest(cursors).simplified();
    let units = nest.outer[0];
    let halo = output.halo_fill(out);
    if let Some(wide) = WideMap::of(p.kernels, (&nest, &slots), (zero, scale), &planned, to.codes) {
        let program = slots.add(Slot::Constant(p.constants.push(&wide.words())));
        p.push(&step.name, slots, units, wide.code(program, nest, halo));
        return Ok(());
    }
    let access = lane_access(to.format, to.strides.get(lane).copied().unwrap_or(to.format.half_bytes() as i64));
    let code = MapCode {
        nest,
        zero,
        scale: scale.into(),
        epilogue: planned.code(),
        operand_zeros: planned.operands.iter().map(|(o, _)| o.zero).collect(),
        output: Output { access, codes: to.codes },
        halo,
    };
    p.push(&step.name, slots, units, code);
    Ok(())
}

/// Lanes run along the innermost dimension of the output. Where that is too short to fill a vector (an image of three planes becomes pixels
/// of three channels), they run along the innermost dimension of the input.
fn lanes_for(output: &Placed, input: &Placed) -> Walk {
    let walk = Walk::of(&output.buffer);
    let (to, from) = (&output.buffer, &input.buffer);
    let Some(&inner) = from.order.last() else { return walk };
    let short = to.dims[walk.lane()] < 8 && to.dims[inner] >= 8;
    if short && to.format != StorageFormat::RowOffset && from.format != StorageFormat::RowOffset {
        walk.with_lane(inner)
    } else {
        walk
    }
}
