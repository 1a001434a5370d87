//! The epilogue of a convolution as a program of the precompiled kernels, and the arguments of the functions that have one.

use super::loops::ConvCursor;
use super::plan::ConvPlan;
use super::store::{ConvOperand, ConvStore};
use crate::builder::PlannedEpilogue;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::{LaneAccess, LaneStep, Slot, StorageFormat};
use catc_kernels::Refusal;
use catc_kernels::epilogue::{
    EpilogueArguments, EpilogueProgram, OperandAccess, OperandElement, epilogue_steps, store,
};
use cranelift_codegen::ir::Value;
use std::mem::offset_of;

/// The program of a layer whose kernel was chosen for its epilogue, with blocks of that many channels.
pub(crate) fn program_of(plan: &ConvPlan, block: usize, name: &str) -> Result<EpilogueProgram, JitError> {
    let mut ends = Vec::new();
    let (slots, store) = plan.clone().store(&mut ends, block);
    let broken = |reason| JitError::invalid(name, format!("its kernel was chosen for another epilogue: {reason}"));
    program(plan.epilogue(), &store, &ends, slots.as_slice()).map_err(broken)
}

/// The steps between sums and store as the kernels' program, or why they do not take them. `slots` are those of the function.
pub(crate) fn program(
    planned: &PlannedEpilogue,
    to: &ConvStore,
    cursors: &[ConvCursor],
    slots: &[Slot],
) -> Result<EpilogueProgram, Refusal> {
    let operand = |(operand, cursor): (&ConvOperand, &ConvCursor)| {
        let element = match operand.access.format {
            StorageFormat::Float => OperandElement::Float,
            StorageFormat::Byte | StorageFormat::RowOffset | StorageFormat::Index => {
                OperandElement::Code { zero: operand.zero, levels: operand.levels }
            }
        };
        OperandAccess {
            element,
            contiguous: is_plain(operand.access),
            readable: !matches!(slots[cursor.slot], Slot::Input(_)),
        }
    };
    let operands: Vec<OperandAccess> = to.operands.iter().zip(&cursors[to.first_cursor + 1..]).map(operand).collect();
    if !is_plain(to.output.access) {
        return Err(Refusal::new("its output does not follow the channels in memory"));
    }
    let steps: Vec<_> = planned.steps.iter().map(|step| step.map_factor(|factor| factor.value)).collect();
    let mut program = EpilogueProgram { requantize: 1.0, ..EpilogueProgram::default() };
    for (to, step) in program.steps.iter_mut().zip(epilogue_steps(&steps, &operands)?) {
        *to = step;
        program.count += 1;
    }
    if let Some(codes) = to.output.codes {
        program.store = if planned.small { store::SMALL_CODES } else { store::CODES };
        program.requantize = planned.requantize.map_or(1.0, |f| f.value);
        program.zero = i32::from(codes.zero);
        program.levels = u32::from(codes.levels);
    }
    Ok(program)
}

/// Whether neighbouring channels are neighbours in memory, a float or a byte each.
fn is_plain(access: LaneAccess) -> bool {
    access.step == LaneStep::Unit && matches!(access.format, StorageFormat::Float | StorageFormat::Byte)
}

/// The argument block of a function with an epilogue: where its [`EpilogueArguments`] lies, and what changes from call to call.
pub(crate) struct EpilogueCall<'a> {
    pub call: &'a Call,
    /// Byte offset of the [`EpilogueArguments`] in the block.
    pub at: usize,
}

impl EpilogueCall<'_> {
    /// Sets what no call changes: the program and the strides. `cursors` are those of the output and its operands.
    pub fn fix(&self, e: &mut Emitter<'_>, program_slot: usize, cursors: &[ConvCursor]) {
        let program = e.slot(program_slot);
        e.set(self.call, self.at + offset_of!(EpilogueArguments, program), program);
        e.set_int(self.call, self.at + offset_of!(EpilogueArguments, output_pixel), cursors[0].pixel);
        e.set_int(self.call, self.at + offset_of!(EpilogueArguments, output_row), cursors[0].row);
        for (number, cursor) in cursors[1..].iter().enumerate() {
            e.set_int(self.call, self.at + offset_of!(EpilogueArguments, operand_pixel) + 8 * number, cursor.pixel);
            e.set_int(self.call, self.at + offset_of!(EpilogueArguments, operand_row) + 8 * number, cursor.row);
        }
    }

    /// Sets multipliers, biases and the number of channels of a block.
    pub fn block(&self, e: &mut Emitter<'_>, multiplier: Value, bias: Value, channels: usize) {
        e.set(self.call, self.at + offset_of!(EpilogueArguments, multiplier), multiplier);
        e.set(self.call, self.at + offset_of!(EpilogueArguments, bias), bias);
        e.set_int(self.call, self.at + offset_of!(EpilogueArguments, channels), channels as i64);
    }

    /// Sets the places of the first pixel: of the output, then of its operands.
    pub fn places(&self, e: &mut Emitter<'_>, pointers: &[Value]) {
        e.set(self.call, self.at + offset_of!(EpilogueArguments, output), pointers[0]);
        for (number, &pointer) in pointers[1..].iter().enumerate() {
            e.set(self.call, self.at + offset_of!(EpilogueArguments, operands) + 8 * number, pointer);
        }
    }
}
