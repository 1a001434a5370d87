//! Requantization by comparison. If a code has few levels, depends on the integer sum alone and grows with it, then the code is the number
//! of thresholds that the sum exceeds. The thresholds are computed by the f32 operations that they replace, so the codes are the same.

use super::layer::Scaling;
use crate::builder::{PlannedEpilogue, ValuedStep};
use crate::storage::Codes;

/// The most levels; for more, comparisons cost more than the f32 operations.
const MAX_LEVELS: u8 = 7;

/// The thresholds of all output channels.
#[derive(Debug)]
pub(crate) struct Thresholds {
    /// For each level, for each channel: the largest sum that is still below the level. Levels are padded apart.
    pub values: Vec<i16>,
    /// Thresholds of a channel.
    pub levels: usize,
    /// Bytes from one level to the next.
    pub level_bytes: i64,
}

/// The thresholds that replace an epilogue; `None` if the code is no growing function of the sum alone. Sums are within `-largest..=largest`,
/// which fits 16 bits.
pub(crate) fn of(
    epilogue: &PlannedEpilogue,
    codes: Option<Codes>,
    scaling: &Scaling,
    largest: u64,
) -> Option<Thresholds> {
    let codes = codes.filter(|c| c.levels <= MAX_LEVELS)?;
    let grows = epilogue.steps.iter().all(|step| match *step {
        ValuedStep::Scale(factor) => factor.value >= 0.0,
        ValuedStep::Unary(function) => function.is_non_decreasing(),
        ValuedStep::Binary { .. } => false,
    });
    let finite = scaling.bound.is_some() && scaling.multiplier.iter().all(|&m| m >= 0.0);
    if !grows || !finite || !epilogue.requantize.is_none_or(|f| f.value >= 0.0) {
        return None;
    }
    let largest = i32::try_from(largest).ok().filter(|&l| l <= i32::from(i16::MAX))?;
    let channels = scaling.multiplier.len();
    let padded = (channels + 16).next_multiple_of(32);
    let levels = usize::from(codes.levels);
    let mut values = vec![0; padded * levels];
    for channel in 0..channels {
        let (multiplier, bias) = (scaling.multiplier[channel], scaling.bias[channel]);
        for level in 0..levels {
            // The first sum in low..=high with a code above `level`; `high` if there is none.
            let (mut low, mut high) = (-largest, largest + 1);
            while low < high {
                let middle = (low + high).div_euclid(2);
                if usize::from(code(epilogue, codes, middle, multiplier, bias)) > level {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            values[level * padded + channel] = (low - 1) as i16;
        }
    }
    Some(Thresholds { values, levels, level_bytes: 2 * padded as i64 })
}

/// The code of a sum: the f32 operations of the program, one by one.
fn code(epilogue: &PlannedEpilogue, codes: Codes, sum: i32, multiplier: f32, bias: f32) -> u8 {
    let mut t = sum as f32 * multiplier;
    t += bias;
    for step in &epilogue.steps {
        t = match *step {
            ValuedStep::Scale(factor) => t * factor.value,
            ValuedStep::Unary(function) => function.apply(t),
            ValuedStep::Binary { .. } => t,
        };
    }
    let t = epilogue.requantize.map_or(t, |factor| t * factor.value).round_ties_even();
    let zero = f32::from(codes.zero);
    (t.clamp(-zero, f32::from(codes.levels) - zero) + zero) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::ValuedFactor;
    use catc_program::Unary;

    #[test]
    fn every_sum_is_beyond_as_many_thresholds_as_its_code_says() {
        let steps = vec![
            ValuedStep::Unary(Unary::LeakyRelu { alpha: 0.25 }),
            ValuedStep::Unary(Unary::Clip { min: -2.0, max: 9.0 }),
        ];
        let epilogue = PlannedEpilogue {
            steps,
            requantize: Some(ValuedFactor { value: 0.37, number: 0 }),
            ..PlannedEpilogue::default()
        };
        let codes = Codes { lowest: -4, levels: 7, zero: 2 };
        let scaling = Scaling { multiplier: vec![0.013, 0.0, 2.0], bias: vec![-1.7, 0.6, 0.5], bound: Some(1.0) };
        let found = of(&epilogue, Some(codes), &scaling, 1000).unwrap();
        for sum in -1000i32..=1000 {
            for channel in 0..3 {
                let beyond = |level: usize| {
                    let at = level * found.level_bytes as usize / 2 + channel;
                    sum > i32::from(found.values[at])
                };
                let expected = code(&epilogue, codes, sum, scaling.multiplier[channel], scaling.bias[channel]);
                assert_eq!((0..found.levels).filter(|&l| beyond(l)).count(), usize::from(expected));
            }
        }
    }

    #[test]
    fn what_does_not_only_grow_is_left_alone() {
        let codes = Some(Codes { lowest: 0, levels: 3, zero: 0 });
        let scaling = |m| Scaling { multiplier: vec![m], bias: vec![0.0], bound: Some(1.0) };
        let plain = PlannedEpilogue::default();
        assert!(of(&plain, codes, &scaling(1.0), 9).is_some());
        assert!(of(&plain, codes, &scaling(-1.0), 9).is_none());
        assert!(of(&plain, codes, &scaling(1.0), 40_000).is_none());
        let swish = PlannedEpilogue { steps: vec![ValuedStep::Unary(Unary::HardSwish)], ..PlannedEpilogue::default() };
        assert!(of(&swish, codes, &scaling(1.0), 9).is_none());
    }
}
