//! The translation of an epilogue's steps to the program of the precompiled functions, or the reason why they do not support them.

use super::function::{OperandKind, StepFunction};
use super::{MAX_OPERANDS, MAX_STEPS, ProgramStep};
use crate::kernel::Refusal;
use catc_scalar::EpilogueStep;

/// The layout of an operand along the channels of an output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperandAccess {
    /// The type of an element.
    pub element: OperandElement,
    /// Where neighbouring channels are.
    pub layout: OperandLayout,
    /// Whether whole vectors may be read, past the last element. This is false for inputs of the network, whose memory is the caller's.
    pub readable: bool,
}

/// Where the elements for neighbouring channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandLayout {
    /// Adjacent in memory.
    Adjacent,
    /// All channels of a pixel have the same element.
    Same,
    /// Elsewhere.
    Apart,
}

/// An element of an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OperandElement {
    /// f32.
    Float,
    /// A byte: the code, counted from the lowest code of the format.
    Code {
        /// The zero-point.
        zero: i32,
        /// The highest code.
        levels: u8,
    },
}

/// Codes below this are dequantized by a look-up in a vector of 16 lanes.
const SMALL_LEVELS: u8 = 16;

/// The steps of an epilogue as the precompiled functions read them. Operands are numbers, which index `operands`.
///
/// # Errors
/// If the functions do not support the steps or operands, the reason.
pub fn epilogue_steps(steps: &[EpilogueStep<usize>], operands: &[OperandAccess]) -> Result<Vec<ProgramStep>, Refusal> {
    if operands.len() > MAX_OPERANDS || steps.len() > MAX_STEPS {
        let reason = format!("its epilogue takes {MAX_STEPS} steps and {MAX_OPERANDS} operands");
        return Err(Refusal::new(reason));
    }
    let supported = |operand: &OperandAccess| match operand.layout {
        OperandLayout::Adjacent => true,
        OperandLayout::Same => operand.element == OperandElement::Float,
        OperandLayout::Apart => false,
    };
    if !operands.iter().all(supported) {
        return Err(Refusal::new("an operand of the epilogue does not follow the channels in memory"));
    }
    if operands.iter().any(|operand| !operand.readable) {
        return Err(Refusal::new("an operand of the epilogue is an input of the network"));
    }
    Ok(steps.iter().map(|step| epilogue_step(step, operands)).collect())
}

fn epilogue_step(step: &EpilogueStep<usize>, operands: &[OperandAccess]) -> ProgramStep {
    let (function, operand, factor, zero) = match *step {
        EpilogueStep::Scale(factor) => (StepFunction::Scale, 0, Some(factor), 0),
        EpilogueStep::Unary(unary) => (StepFunction::Unary(unary), 0, None, 0),
        EpilogueStep::Binary { op, operand, scale } => {
            let (kind, zero) = match (operands[operand].element, scale) {
                (OperandElement::Float, _) if operands[operand].layout == OperandLayout::Same => {
                    (OperandKind::OneFloat, 0)
                }
                (OperandElement::Float, 1.0) => (OperandKind::Float, 0),
                (OperandElement::Float, _) => (OperandKind::ScaledFloat, 0),
                (OperandElement::Code { zero, levels }, _) if levels < SMALL_LEVELS => (OperandKind::SmallCode, zero),
                (OperandElement::Code { zero, .. }, _) => (OperandKind::Code, zero),
            };
            (StepFunction::Binary(op, kind), operand, Some(scale), zero)
        }
    };
    let (number, [x, y]) = function.encode();
    ProgramStep { function: number, operand: operand as u32, x: factor.unwrap_or(x), y, zero }
}
