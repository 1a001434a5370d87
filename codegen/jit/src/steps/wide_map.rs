//! Element-wise steps by the precompiled epilogue, whose vectors are wider than those of emitted code. Lanes of the nest are channels, and the
//! innermost outer dimension counts pixels.

use super::epilogue_program;
use crate::builder::{OperandWalk, PlannedEpilogue, Slots};
use crate::emit::StepCode;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::emit::halo::HaloFill;
use crate::emit::nest::{Cursor, Nest};
use crate::storage::{Codes, Slot, StorageFormat};
use catc_kernels::epilogue::{EpilogueArguments, EpilogueProgram, EpilogueTile, OperandAccess, load, widest};
use catc_kernels::{Function, KernelSet};
use cranelift_codegen::ir::Value;
use std::mem::{offset_of, size_of};

/// Vectors of a cell of the epilogue.
const VECTORS: usize = 4;

/// The function and the program of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct WideMap {
    function: &'static Function,
    lanes: usize,
    program: EpilogueProgram,
}

impl WideMap {
    /// For a nest whose cursor 0 writes, cursor 1 reads and the others are the operands; `None` if the kernels have no function for it. The
    /// input holds codes with this zero-point, or floats, times `scale`. `codes` are those of the output.
    pub fn of(
        kernels: KernelSet,
        (nest, slots): (&Nest, &Slots),
        (zero, scale): (i32, f32),
        planned: &PlannedEpilogue,
        codes: Option<Codes>,
    ) -> Option<WideMap> {
        let (function, lanes) = widest(kernels)?;
        let [output, input, operands @ ..] = nest.cursors.as_slice() else { return None };
        // Whole vectors are read, which the memory of the caller does not allow.
        let readable = |cursor: &Cursor| !matches!(slots.as_slice()[cursor.slot], Slot::Input(_));
        if nest.lanes < lanes || !output.lanes.is_plain() || !input.lanes.is_plain() || !readable(input) {
            return None;
        }
        let access = |(cursor, (operand, _)): (&Cursor, &(OperandWalk, Vec<i64>))| {
            epilogue_program::operand_access(cursor.lanes, operand.zero, operand.levels, readable(cursor))
        };
        let operands: Vec<OperandAccess> = operands.iter().zip(&planned.operands).map(access).collect();
        let floats = input.lanes.format == StorageFormat::Float;
        let first = Some(scale).filter(|&scale| floats && scale != 1.0);
        let mut program = epilogue_program::program(first, planned, &operands, codes).ok()?;
        if !floats {
            (program.load, program.load_zero, program.load_scale) = (load::CODES, zero, scale);
        }
        Some(WideMap { function, lanes, program })
    }

    /// The words of the program, which belong among the constants.
    pub fn words(&self) -> Vec<u32> {
        self.program.words()
    }

    /// The code. `program` is the slot of [`WideMap::words`].
    pub fn code(&self, program: usize, nest: Nest, halo: Option<HaloFill>) -> WideMapCode {
        WideMapCode { function: self.function, block: VECTORS * self.lanes, program, nest, halo }
    }
}

/// Cursor 0 writes, cursor 1 reads, the others are the operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WideMapCode {
    function: &'static Function,
    /// Lanes of a pixel where the nest has none: a line of lanes alone is divided into blocks.
    block: usize,
    program: usize,
    nest: Nest,
    halo: Option<HaloFill>,
}

impl StepCode for WideMapCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        let call = e.prepare(self.function, size_of::<EpilogueTile>());
        let arguments = offset_of!(EpilogueTile, epilogue);
        let program = e.slot(self.program);
        e.set(&call, arguments + offset_of!(EpilogueArguments, program), program);
        e.set_int(&call, arguments + offset_of!(EpilogueArguments, multiplier), 0);
        e.set_int(&call, arguments + offset_of!(EpilogueArguments, bias), 0);
        // A call has one row.
        e.set_int(&call, arguments + offset_of!(EpilogueArguments, output_row), 0);
        for number in 0..self.nest.cursors.len() - 2 {
            e.set_int(&call, arguments + offset_of!(EpilogueArguments, operand_row) + 8 * number, 0);
        }
        let lanes = self.nest.lanes;
        if self.nest.outer.len() > 1 {
            let mut rows = self.nest.clone();
            let pixels = rows.outer.pop().unwrap_or(1);
            let strides: Vec<i64> = rows.cursors.iter_mut().map(|c| c.strides.pop().unwrap_or(0)).collect();
            return e.nest_outer(&rows, units, &mut |e, pointers, _| run(e, &call, pointers, &strides, pixels, lanes));
        }
        let strides: Vec<i64> = self.nest.cursors.iter().map(|c| c.lanes.advance(self.block)).collect();
        let (pixels, rest) = (lanes / self.block, lanes % self.block);
        e.nest_outer(&self.nest, units, &mut |e, pointers, _| {
            if pixels > 0 {
                run(e, &call, pointers, &strides, pixels, self.block);
            }
            if rest > 0 {
                let moved =
                    pointers.iter().zip(&strides).map(|(&p, &s)| e.offset(p, s * pixels as i64)).collect::<Vec<_>>();
                run(e, &call, &moved, &strides, 1, rest);
            }
        });
    }
}

/// Calls the function for `pixels` pixels of `channels` channels. `strides` are the bytes from pixel to pixel of each pointer.
fn run(e: &mut Emitter<'_>, call: &Call, pointers: &[Value], strides: &[i64], pixels: usize, channels: usize) {
    let arguments = offset_of!(EpilogueTile, epilogue);
    e.set(call, offset_of!(EpilogueTile, sums), pointers[1]);
    e.set_int(call, offset_of!(EpilogueTile, sums_pixel), strides[1]);
    e.set_int(call, offset_of!(EpilogueTile, pixels), pixels as i64);
    e.set_int(call, arguments + offset_of!(EpilogueArguments, channels), channels as i64);
    e.set(call, arguments + offset_of!(EpilogueArguments, output), pointers[0]);
    e.set_int(call, arguments + offset_of!(EpilogueArguments, output_pixel), strides[0]);
    for (number, (&pointer, &stride)) in pointers.iter().zip(strides).skip(2).enumerate() {
        e.set(call, arguments + offset_of!(EpilogueArguments, operands) + 8 * number, pointer);
        e.set_int(call, arguments + offset_of!(EpilogueArguments, operand_pixel) + 8 * number, stride);
    }
    e.call(call);
}
