//! Which steps and operands the functions take, and how they take them.

use super::{MAX_OPERANDS, MAX_STEPS, Step, function};
use crate::kernel::Refusal;
use catc_scalar::{Binary, EpilogueStep, Unary};

/// How an operand lies along the channels of an output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperandAccess {
    /// What an element is.
    pub element: OperandElement,
    /// Whether neighbouring channels are neighbours in memory.
    pub contiguous: bool,
    /// Whether whole vectors of it may be read, of which the caller's memory has but the elements.
    pub readable: bool,
}

/// An element of an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OperandElement {
    /// f32.
    Float,
    /// A byte, counted from the lowest code.
    Code {
        /// The zero-point.
        zero: i32,
        /// The highest code.
        levels: u8,
    },
}

/// Codes below this are looked up.
const SMALL_LEVELS: u8 = 16;

/// The steps of an epilogue as the functions take them; operands by number.
///
/// # Errors
/// What they do not take.
pub fn epilogue_steps(steps: &[EpilogueStep<usize>], operands: &[OperandAccess]) -> Result<Vec<Step>, Refusal> {
    if operands.len() > MAX_OPERANDS || steps.len() > MAX_STEPS {
        let reason = format!("its epilogue takes {MAX_STEPS} steps and {MAX_OPERANDS} operands");
        return Err(Refusal::new(reason));
    }
    if operands.iter().any(|operand| !operand.contiguous) {
        return Err(Refusal::new("an operand of the epilogue does not follow the channels in memory"));
    }
    if operands.iter().any(|operand| !operand.readable) {
        return Err(Refusal::new("an operand of the epilogue is an input of the network"));
    }
    steps.iter().map(|step| epilogue_step(step, operands)).collect()
}

fn epilogue_step(step: &EpilogueStep<usize>, operands: &[OperandAccess]) -> Result<Step, Refusal> {
    let simple = |function, x, y| Ok(Step { function, x, y, ..Step::default() });
    match *step {
        EpilogueStep::Scale(factor) => simple(function::SCALE, factor, 0.0),
        EpilogueStep::Unary(unary) => match unary {
            Unary::Relu => simple(function::RELU, 0.0, 0.0),
            Unary::LeakyRelu { alpha } => simple(function::LEAKY_RELU, alpha, 0.0),
            Unary::Clip { min, max } => simple(function::CLIP, min, max),
            Unary::HardSigmoid { alpha, beta } => simple(function::HARD_SIGMOID, alpha, beta),
            Unary::HardSwish => simple(function::HARD_SWISH, 1.0 / 6.0, 0.5),
            _ => Err(Refusal::new(format!("its epilogue does not have {}", unary.name()))),
        },
        EpilogueStep::Binary { op: Binary::Add, operand: number, scale } => {
            let (function, zero) = match (operands[number].element, scale) {
                (OperandElement::Float, 1.0) => (function::ADD_FLOAT, 0),
                (OperandElement::Float, _) => (function::ADD_SCALED_FLOAT, 0),
                (OperandElement::Code { zero, levels }, _) if levels < SMALL_LEVELS => (function::ADD_SMALL_CODE, zero),
                (OperandElement::Code { zero, .. }, _) => (function::ADD_CODE, zero),
            };
            Ok(Step { function, operand: number as u32, x: scale, y: 0.0, zero })
        }
        EpilogueStep::Binary { .. } => Err(Refusal::new("its epilogue adds operands, and does nothing else with them")),
    }
}
