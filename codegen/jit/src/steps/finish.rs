//! The epilogue of a tile by the precompiled kernel, for the forms that it knows.

use super::conv::{ConvCursor, ConvStore};
use crate::buffer::Form;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::EpilogueStep;
use crate::emit::lanes::LaneStep;
use crate::plan::Slot;
use catc_kernels::precompiled::finish::{Finish, MOST_OPERANDS, MOST_STEPS, Program, Step, function, store};
use catc_program::{Binary, Unary};
use cranelift_codegen::ir::Value;
use std::mem::offset_of;

/// The steps between sums and store as the kernel's program; `None` if it does not know one of them. `slots` are those of the
/// function.
pub(crate) fn program(to: &ConvStore, cursors: &[ConvCursor], slots: &[Slot]) -> Option<Program> {
    let operands = &cursors[to.first_cursor + 1..];
    // The kernel reads whole vectors, which the caller's memory does not allow.
    let readable = operands.iter().all(|c| !matches!(slots[c.slot], Slot::Input(_)));
    let unit = |access: &crate::emit::lanes::LaneAccess| {
        access.step == LaneStep::Unit && matches!(access.form, Form::Float | Form::Byte)
    };
    let plain = unit(&to.output.access) && to.operands.iter().all(|o| unit(&o.access));
    if !readable || !plain || to.operands.len() > MOST_OPERANDS || to.epilogue.steps.len() > MOST_STEPS {
        return None;
    }
    let mut program = Program { requantize: 1.0, ..Program::default() };
    for (at, step) in to.epilogue.steps.iter().enumerate() {
        let simple = |function, x, y| Step { function, x, y, ..Step::default() };
        program.steps[at] = match *step {
            EpilogueStep::Scale(factor) => simple(function::SCALE, factor.value, 0.0),
            EpilogueStep::Unary(activation) => match activation {
                Unary::Relu => simple(function::RELU, 0.0, 0.0),
                Unary::LeakyRelu { alpha } => simple(function::LEAKY_RELU, alpha, 0.0),
                Unary::Clip { min, max } => simple(function::CLIP, min, max),
                Unary::HardSigmoid { alpha, beta } => simple(function::HARD_SIGMOID, alpha, beta),
                Unary::HardSwish => simple(function::HARD_SWISH, 1.0 / 6.0, 0.5),
                _ => return None,
            },
            EpilogueStep::Binary { op: Binary::Add, operand: number, scale: factor } => {
                let operand = &to.operands[number];
                let function = match (operand.access.form, factor.value) {
                    (Form::Float, 1.0) => function::ADD_FLOAT,
                    (Form::Float, _) => function::ADD_SCALED_FLOAT,
                    _ if operand.levels < 16 => function::ADD_SMALL_CODE,
                    _ => function::ADD_CODE,
                };
                Step { function, operand: number as u32, x: factor.value, y: 0.0, zero: operand.zero }
            }
            EpilogueStep::Binary { .. } => return None,
        };
        program.count += 1;
    }
    if let Some(codes) = to.output.codes {
        program.store = if to.epilogue.small { store::SMALL_CODES } else { store::CODES };
        program.requantize = to.epilogue.requantize.map_or(1.0, |f| f.value);
        program.zero = i32::from(codes.zero);
        program.levels = u32::from(codes.levels);
    }
    Some(program)
}

/// The argument block of a kernel that finishes tiles: where its [`Finish`] lies, and what changes from call to call.
pub(crate) struct FinishArguments<'a> {
    pub call: &'a Call,
    /// Byte offset of the [`Finish`] in the block.
    pub at: usize,
}

impl FinishArguments<'_> {
    /// Sets what no call changes: the program and the strides. `cursors` are those of the output and its operands.
    pub fn fix(&self, e: &mut Emitter<'_>, program_slot: usize, cursors: &[ConvCursor]) {
        let program = e.slot(program_slot);
        e.set(self.call, self.at + offset_of!(Finish, program), program);
        e.set_int(self.call, self.at + offset_of!(Finish, output_pixel), cursors[0].pixel);
        e.set_int(self.call, self.at + offset_of!(Finish, output_row), cursors[0].row);
        for (number, cursor) in cursors[1..].iter().enumerate() {
            e.set_int(self.call, self.at + offset_of!(Finish, operand_pixel) + 8 * number, cursor.pixel);
            e.set_int(self.call, self.at + offset_of!(Finish, operand_row) + 8 * number, cursor.row);
        }
    }

    /// Sets multipliers, biases and the number of channels of a block.
    pub fn block(&self, e: &mut Emitter<'_>, multiplier: Value, bias: Value, channels: usize) {
        e.set(self.call, self.at + offset_of!(Finish, multiplier), multiplier);
        e.set(self.call, self.at + offset_of!(Finish, bias), bias);
        e.set_int(self.call, self.at + offset_of!(Finish, channels), channels as i64);
    }

    /// Sets the places of the first pixel: of the output, then of its operands.
    pub fn places(&self, e: &mut Emitter<'_>, pointers: &[Value]) {
        e.set(self.call, self.at + offset_of!(Finish, output), pointers[0]);
        for (number, &pointer) in pointers[1..].iter().enumerate() {
            e.set(self.call, self.at + offset_of!(Finish, operands) + 8 * number, pointer);
        }
    }
}
