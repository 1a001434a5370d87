//! Bounds on the values of an epilogue. Values with a small bound, which are never NaN, are clamped to codes by integer saturation instead
//! of float comparisons.

use super::epilogue::ValuedStep;
use catc_program::Binary;

/// Rounding may increase a value above the bound of exact arithmetic, but by less than this factor.
const SLACK: f32 = 1.001;

/// Values below this are rounded correctly by the addition of `1.5 * 2^23`.
const SMALL: f32 = 2_097_152.0;

/// A bound on the magnitude after the steps, given a bound before them and one for each operand before its factor. `None` if no bound is
/// known.
pub(crate) fn after(steps: &[ValuedStep], before: Option<f32>, operands: &[Option<f32>]) -> Option<f32> {
    let mut bound = before?;
    for step in steps {
        let next = match *step {
            ValuedStep::Scale(factor) => bound * factor.value.abs(),
            ValuedStep::Unary(function) => function.bound(bound)?,
            ValuedStep::Binary { op, operand, scale } => {
                let other = (*operands.get(operand)?)? * scale.value.abs();
                match op {
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

/// Whether values with this bound, after multiplication by the factor of requantization, are small enough for integer saturation.
pub(crate) fn are_small(bound: Option<f32>, requantize: Option<f32>) -> bool {
    bound.is_some_and(|b| b * requantize.unwrap_or(1.0).abs() * SLACK < SMALL)
}

#[cfg(test)]
mod tests {
    use super::super::epilogue::ValuedFactor;
    use super::*;
    use catc_program::Unary;

    #[test]
    fn steps_change_the_bound() {
        let steps = vec![
            ValuedStep::Binary { op: Binary::Add, operand: 0, scale: ValuedFactor { value: 0.5, number: 0 } },
            ValuedStep::Unary(Unary::LeakyRelu { alpha: -2.0 }),
            ValuedStep::Scale(ValuedFactor { value: -3.0, number: 1 }),
        ];
        let bound = after(&steps, Some(10.0), &[Some(4.0)]).unwrap();
        assert!((72.0..72.5).contains(&bound));
        assert_eq!(after(&steps, Some(10.0), &[None]), None);
        assert_eq!(after(&steps, None, &[Some(4.0)]), None);
        assert!(are_small(Some(2e6), None) && !are_small(Some(2e6), Some(1.1)) && !are_small(None, None));
    }
}
