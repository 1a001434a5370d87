//! The quantization of an image of planes to pixels of codes by its precompiled kernel: the first step of most networks.

use crate::builder::{Builder, Slots};
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::emit::halo::HaloFill;
use crate::error::JitError;
use crate::storage::{Buffer, StorageFormat};
use crate::storage::{Placed, Slot};
use catc_kernels::Function;
use catc_kernels::planes::{self, MAX_PLANES, PlanesRow, Quantization};
use catc_program::Step;
use std::mem::{offset_of, size_of};

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlanesCode {
    function: &'static Function,
    planes: usize,
    width: usize,
    plane_bytes: i64,
    input_row: i64,
    output_row: i64,
    output_origin: i64,
    halo: Option<HaloFill>,
    /// Slots of output, input and quantization.
    slots: [usize; 3],
}

impl StepCode for PlanesCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, first, last);
        }
        let call = e.prepare(self.function, size_of::<PlanesRow>());
        let [output, input, quantization] = self.slots.map(|slot| e.slot(slot));
        e.set(&call, offset_of!(PlanesRow, quantization), quantization);
        e.set_int(&call, offset_of!(PlanesRow, plane_bytes), self.plane_bytes);
        e.set_int(&call, offset_of!(PlanesRow, planes), self.planes as i64);
        e.set_int(&call, offset_of!(PlanesRow, pixels), self.width as i64);
        let output = e.offset(output, self.output_origin);
        let rows = [(input, self.input_row), (output, self.output_row)].map(|(p, by)| (e.index(p, first, by), by));
        e.range(first, last, &rows, vec![], |e, _, pointers, _| {
            e.set(&call, offset_of!(PlanesRow, input), pointers[0]);
            e.set(&call, offset_of!(PlanesRow, output), pointers[1]);
            e.call(&call);
            vec![]
        });
    }
}

/// Lowers a map that quantizes planes to pixels and does nothing else. Returns false, with nothing done, for all other maps.
pub(crate) fn lower(
    p: &mut Builder<'_>,
    step: &Step,
    scale: f32,
    input: &Placed,
    output: &Placed,
) -> Result<bool, JitError> {
    let (from, to) = (&input.buffer, &output.buffer);
    let Some(codes) = to.codes else { return Ok(false) };
    let plain =
        from.format == StorageFormat::Float && from.is_dense() && from.order == [0, 1, 2] && from.dims.len() == 3;
    let pixels = to.format == StorageFormat::Byte && to.order == [1, 2, 0];
    let few = to.dims.first().is_some_and(|&c| (1..=MAX_PLANES).contains(&c));
    let bare = step.epilogue.steps.is_empty();
    let function = planes::function(p.kernels).filter(|_| plain && pixels && few && bare);
    let Some(function) = function else { return Ok(false) };
    let quantization = Quantization {
        scale,
        requantize: step.epilogue.requantize.unwrap_or(1.0),
        zero: i32::from(codes.zero),
        levels: u32::from(codes.levels),
    };
    let mut slots = Slots::default();
    let constant = p.constants.push(&quantization.words());
    let numbers = [output.slot, input.slot, Slot::Constant(constant)].map(|slot| slots.add(slot));
    let [_, height, width] = rank3(to);
    let code = PlanesCode {
        function,
        planes: to.dims[0],
        width,
        plane_bytes: from.stride(0),
        input_row: from.stride(1),
        output_row: to.stride(1),
        output_origin: to.origin,
        halo: output.halo_fill(numbers[0]),
        slots: numbers,
    };
    p.push(&step.name, slots, height, code);
    Ok(true)
}

fn rank3(buffer: &Buffer) -> [usize; 3] {
    std::array::from_fn(|i| buffer.dims.get(i).copied().unwrap_or(1))
}
