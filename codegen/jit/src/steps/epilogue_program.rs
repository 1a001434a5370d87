//! The epilogue of a step as a program of the precompiled functions.

use crate::builder::PlannedEpilogue;
use crate::storage::{Codes, LaneAccess, StorageFormat};
use catc_kernels::Refusal;
use catc_kernels::epilogue::{EpilogueProgram, OperandAccess, OperandElement, epilogue_steps, store};
use catc_scalar::EpilogueStep;

/// The program, or why the precompiled functions do not support the epilogue. A factor that is given comes before the steps. `codes` are
/// those of the output, which holds floats otherwise.
pub(crate) fn program(
    first: Option<f32>,
    planned: &PlannedEpilogue,
    operands: &[OperandAccess],
    codes: Option<Codes>,
) -> Result<EpilogueProgram, Refusal> {
    let steps = planned.steps.iter().map(|step| step.map_factor(|factor| factor.value));
    let steps: Vec<_> = first.map(EpilogueStep::Scale).into_iter().chain(steps).collect();
    let mut program = EpilogueProgram { requantize: 1.0, ..EpilogueProgram::default() };
    for (to, step) in program.steps.iter_mut().zip(epilogue_steps(&steps, operands)?) {
        *to = step;
        program.count += 1;
    }
    if let Some(codes) = codes {
        program.store = if planned.small { store::SMALL_CODES } else { store::CODES };
        program.requantize = planned.requantize.map_or(1.0, |f| f.value);
        program.zero = i32::from(codes.zero);
        program.levels = u32::from(codes.levels);
    }
    Ok(program)
}

/// How the precompiled functions see an operand, from its elements along the channels of the output. `readable` says whether whole vectors may be
/// read.
pub(crate) fn operand_access(access: LaneAccess, zero: i32, levels: u8, readable: bool) -> OperandAccess {
    let element = match access.format {
        StorageFormat::Float => OperandElement::Float,
        StorageFormat::Byte | StorageFormat::RowOffset | StorageFormat::Index => OperandElement::Code { zero, levels },
    };
    OperandAccess { element, layout: access.along_channels(), readable }
}
