//! How large the values of an epilogue can become. Values that are known to stay small, and so are never NaN, become codes with
//! integer saturation instead of float comparisons.

use crate::emit::epilogue::{Epilogue, EpilogueStep};
use catc_program::{Activation, Binary};

/// Rounding may take a value beyond the bound that exact arithmetic gives; not by this much.
const SLACK: f32 = 1.001;

/// Values beyond this are not rounded exactly by the addition of `1.5 * 2^23`.
const SMALL: f32 = 2_097_152.0;

/// A bound on the magnitude after the steps, given one before them and one for each operand (before its factor). `None`: no bound
/// is known.
pub(crate) fn after(epilogue: &Epilogue, before: Option<f32>, operands: &[Option<f32>]) -> Option<f32> {
    let mut bound = before?;
    for step in &epilogue.steps {
        let next = match *step {
            EpilogueStep::Scale(factor) => bound * factor.value.abs(),
            EpilogueStep::Activation(function) => match function {
                Activation::Relu | Activation::HardSwish | Activation::Gelu | Activation::Abs => bound,
                Activation::Tanh | Activation::Erf => 1.0,
                Activation::Floor | Activation::Ceil | Activation::Round => bound + 1.0,
                Activation::Exp | Activation::Log | Activation::Sqrt => return None,
                Activation::LeakyRelu { alpha } => bound * alpha.abs().max(1.0),
                Activation::Clip { min, max } => bound.min(min.abs().max(max.abs())),
                Activation::Sigmoid => 1.0,
                Activation::HardSigmoid { alpha, beta } => {
                    // The line before it is cut must be finite for the cut to be exact.
                    if (bound * alpha.abs() + beta.abs()).is_finite() { 1.0 } else { f32::INFINITY }
                }
            },
            EpilogueStep::Binary(function, number, factor) => {
                let other = (*operands.get(number)?)? * factor.value.abs();
                match function {
                    Binary::Add | Binary::Sub => bound + other,
                    Binary::Mul => bound * other,
                    Binary::Div => return None,
                }
            }
        };
        bound = next * SLACK;
        if !bound.is_finite() {
            return None;
        }
    }
    Some(bound)
}

/// Whether values with that bound, once multiplied with the factor of requantization, are small enough for integer saturation.
pub(crate) fn are_small(bound: Option<f32>, requantize: Option<f32>) -> bool {
    bound.is_some_and(|b| b * requantize.unwrap_or(1.0).abs() * SLACK < SMALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::epilogue::Factor;

    #[test]
    fn steps_change_the_bound() {
        let steps = vec![
            EpilogueStep::Binary(Binary::Add, 0, Factor { value: 0.5, number: 0 }),
            EpilogueStep::Activation(Activation::LeakyRelu { alpha: -2.0 }),
            EpilogueStep::Scale(Factor { value: -3.0, number: 1 }),
        ];
        let epilogue = Epilogue { steps, ..Epilogue::default() };
        let bound = after(&epilogue, Some(10.0), &[Some(4.0)]).unwrap();
        assert!((72.0..72.5).contains(&bound));
        assert_eq!(after(&epilogue, Some(10.0), &[None]), None);
        assert_eq!(after(&epilogue, None, &[Some(4.0)]), None);
        assert!(are_small(Some(2e6), None) && !are_small(Some(2e6), Some(1.1)) && !are_small(None, None));
    }
}
