//! The epilogue of a convolution as a program of the precompiled kernels, and the arguments of the functions that have one.

use super::loops::ConvCursor;
use super::plan::ConvPlan;
use super::store::{ConvOperand, ConvStore};
use crate::builder::PlannedEpilogue;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::steps::epilogue_program;
use crate::storage::Slot;
use catc_kernels::Refusal;
use catc_kernels::epilogue::{EpilogueArguments, EpilogueProgram, OperandAccess};
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
        let readable = !matches!(slots[cursor.slot], Slot::Input(_));
        epilogue_program::operand_access(operand.access, operand.zero, operand.levels, readable)
    };
    let operands: Vec<OperandAccess> = to.operands.iter().zip(&cursors[to.first_cursor + 1..]).map(operand).collect();
    if !to.output.access.is_plain() {
        return Err(Refusal::new("its output does not follow the channels in memory"));
    }
    epilogue_program::program(None, planned, &operands, to.output.codes)
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
        e.set_int(self.call, self.at + offset_of!(EpilogueArguments, output_row), cursors[0].unit);
        for (number, cursor) in cursors[1..].iter().enumerate() {
            e.set_int(self.call, self.at + offset_of!(EpilogueArguments, operand_pixel) + 8 * number, cursor.pixel);
            e.set_int(self.call, self.at + offset_of!(EpilogueArguments, operand_row) + 8 * number, cursor.unit);
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
