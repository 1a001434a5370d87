//! Requantization by one fused multiply and add: from a layer's sum (and the code of a shortcut) to its code by fewer operations than
//! the program's, which round one by one. Both maps are monotonic, so checking each code boundary proves them equal. Each channel is
//! checked there, and where rounding made a difference, its bias is moved by the least amount that mends it.

use super::layer::Scaling;
use super::store::ConvStore;
use catc_kernels::epilogue::{EpilogueProgram, ProgramStep, function, store};

/// The most boundaries between codes, for all codes of the shortcut together, that are worth checking.
const MAX_TRIALS: u32 = 64;

/// What a bias is moved by, in units of `f32::EPSILON` of its scale.
const MOVES: [i32; 13] = [0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8];

/// The program and its factors by channel.
#[derive(Debug)]
pub(crate) struct Affine {
    pub program: EpilogueProgram,
    pub multiplier: Vec<f32>,
    pub bias: Vec<f32>,
}

/// The two ways from a sum, within `-largest..=largest`, to a code in one channel.
struct Channel<'a> {
    before: &'a EpilogueProgram,
    after: &'a EpilogueProgram,
    /// The multiplier and bias of `before`.
    given: (f32, f32),
    /// The factor by which the kernel's sums are larger than the layer's.
    scale: i32,
    /// 1 or -1: times this, larger sums have larger codes.
    sign: i32,
    largest: i32,
}

impl Channel<'_> {
    fn shortcut(step: &ProgramStep, code: i32) -> f32 {
        (code - step.zero) as f32 * step.x
    }

    fn code(program: &EpilogueProgram, rounded: f32, zero: i32) -> i32 {
        (rounded.round_ties_even() as i32).saturating_add(zero).clamp(0, program.levels as i32)
    }

    /// The code by the operations of the program, each rounded on its own.
    fn expected(&self, sum: i32, shortcut: i32) -> i32 {
        let program = self.before;
        let mut t = (self.sign * sum) as f32 * self.given.0;
        t += self.given.1;
        if program.count == 1 {
            t += Self::shortcut(&program.steps[0], shortcut);
        }
        Self::code(program, t * program.requantize, program.zero)
    }

    /// The code as the kernel computes it.
    fn found(&self, (multiplier, bias): (f32, f32), sum: i32, shortcut: i32) -> i32 {
        let mut t = ((self.scale * self.sign * sum) as f32).mul_add(multiplier, bias);
        if self.after.count == 1 {
            t += Self::shortcut(&self.after.steps[0], shortcut);
        }
        Self::code(self.after, t, 0)
    }

    /// The largest sum whose code is at most `code`, where there are codes on both sides.
    fn last_sum(&self, code: i32, shortcut: i32) -> i32 {
        let is_last = |sum: i32| self.expected(sum, shortcut) <= code && self.expected(sum + 1, shortcut) > code;
        let (multiplier, bias) = (f64::from(self.given.0).abs(), f64::from(self.given.1));
        let mut middle = (f64::from(code - self.before.zero) + 0.5) / f64::from(self.before.requantize) - bias;
        if self.before.count == 1 {
            middle -= f64::from(Self::shortcut(&self.before.steps[0], shortcut));
        }
        let guess = ((middle / multiplier).floor() as i32).clamp(-self.largest, self.largest - 1);
        if is_last(guess) {
            return guess;
        }
        let (mut low, mut high) = (-self.largest, self.largest);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.expected(middle, shortcut) <= code {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Whether both ways give the same codes, for every sum and every code of the shortcut up to `shortcuts`.
    fn agree(&self, factors: (f32, f32), shortcuts: i32) -> bool {
        (0..=shortcuts).all(|shortcut| {
            let same = |sum: i32| self.found(factors, sum, shortcut) == self.expected(sum, shortcut);
            if !same(-self.largest) || !same(self.largest) {
                return false;
            }
            let (low, high) = (self.expected(-self.largest, shortcut), self.expected(self.largest, shortcut));
            (low..high).all(|code| {
                let last = self.last_sum(code, shortcut);
                self.found(factors, last, shortcut) <= code && self.found(factors, last + 1, shortcut) > code
            })
        })
    }
}

/// The program of a layer by one multiply and add, if that gives the same codes for all sums `-largest..=largest`. The kernel gives
/// `scale` times the sums.
pub(crate) fn of(
    program: &EpilogueProgram,
    to: &ConvStore,
    scaling: &Scaling,
    largest: u64,
    scale: i32,
) -> Option<Affine> {
    let largest =
        i32::try_from(largest).ok().filter(|&l| i64::from(l) * i64::from(scale).abs() <= i64::from(i32::MAX))?;
    let shortcuts = match (program.count, program.steps[0]) {
        (0, _) => 0,
        (1, ProgramStep { function: function::ADD_SMALL_CODE, operand, .. }) => {
            u32::from(to.operands.get(operand as usize)?.levels)
        }
        _ => return None,
    };
    let tried = program.levels * (shortcuts + 1) <= MAX_TRIALS;
    let grows = program.requantize > 0.0;
    if program.store != store::SMALL_CODES || scaling.bound.is_none() || !tried || !grows {
        return None;
    }
    let requantize = f64::from(program.requantize);
    let mut after = EpilogueProgram { store: store::AFFINE, requantize: 1.0, zero: 0, ..*program };
    after.steps[0].x = (f64::from(program.steps[0].x) * requantize) as f32;
    let (mut multiplier, mut bias) = (Vec::new(), Vec::new());
    for given in scaling.multiplier.iter().copied().zip(scaling.bias.iter().copied()) {
        let sign = if given.0 < 0.0 { -1 } else { 1 };
        let channel = Channel { before: program, after: &after, given, scale, sign, largest };
        let factor = (f64::from(given.0) * requantize / f64::from(scale)) as f32;
        let term = f64::from(given.1) * requantize + f64::from(program.zero);
        let moved = |by: i32| (term + f64::from(by) * f64::from(f32::EPSILON) * term.abs().max(1.0)) as f32;
        let found = MOVES.into_iter().map(moved).find(|&term| channel.agree((factor, term), shortcuts as i32))?;
        multiplier.push(factor);
        bias.push(found);
    }
    Some(Affine { program: after, multiplier, bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sum and every code of a shortcut, with factors and biases at which rounding decides.
    #[test]
    fn every_sum_has_its_code() {
        let mut before = EpilogueProgram {
            store: store::SMALL_CODES,
            requantize: 0.37,
            zero: 1,
            levels: 3,
            ..EpilogueProgram::default()
        };
        let (mut state, mut moved) = (5u32, 0);
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        for turn in 0..3000 {
            before.count = turn % 2;
            before.steps[0] =
                ProgramStep { function: function::ADD_SMALL_CODE, operand: 0, x: next(), y: 0.0, zero: 1 };
            let mut after = EpilogueProgram { store: store::AFFINE, requantize: 1.0, zero: 0, ..before };
            after.steps[0].x = before.steps[0].x * before.requantize;
            // Multiples of powers of two put thresholds on sums.
            let factor = if turn % 3 == 0 { 0.0625 } else { 0.05 * (next() - 0.25) };
            let given = (factor, (next() * 16.0).floor() / 16.0 / before.requantize);
            let sign = if factor < 0.0 { -1 } else { 1 };
            let scale = if turn % 5 < 2 { 144 } else { -65536 };
            let channel = Channel { before: &before, after: &after, given, scale, sign, largest: 300 };
            let factor = (f64::from(given.0) * f64::from(before.requantize) / f64::from(scale)) as f32;
            let term = given.1 * before.requantize + 1.0;
            let shortcuts = if before.count == 1 { 3 } else { 0 };
            let same = |factors: (f32, f32)| {
                (0..=shortcuts).all(|shortcut| {
                    (-300..=300).all(|sum| channel.found(factors, sum, shortcut) == channel.expected(sum, shortcut))
                })
            };
            for by in [0.0, 1e-6, -1e-3, 0.03] {
                assert_eq!(channel.agree((factor, term + by), shortcuts), same((factor, term + by)), "{given:?} {by}");
                moved += usize::from(!same((factor, term + by)));
            }
        }
        // Both answers occur.
        assert!(moved > 1000 && moved < 9000, "{moved}");
    }
}
