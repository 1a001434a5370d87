//! The exponential, the logarithm, softplus, the exponential linear units and the square root.

use super::polynomial::horner;
use super::{Clip, Relu, Sigmoid, UnaryFunction};
use crate::arithmetic::Arithmetic;

/// Arguments of [`Exp`] above this give infinity.
const EXP_HIGHEST: f32 = 89.0;
/// Arguments of [`Exp`] below this give zero.
const EXP_LOWEST: f32 = -104.0;
/// The leading 10 bits of `ln(2)`. Its product with an integer of up to 14 bits is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
/// `ln(2)` minus [`LN2_HIGH`].
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of the polynomial `P` of [`Exp`], from the highest power: `exp(r) ~ 1 + (r + r^2 P(r))` for `|r| <= ln(2) / 2`
/// (minimax, as in Cephes `expf`).
const EXP_POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// Coefficients of [`Log`], from the highest power (Cephes `logf`).
const LOG_POLYNOMIAL: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_84e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_7e-1,
    2.000_071_4e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];

/// `e^x`, within 2 ulp of the true value. Subnormal results are rounded twice. NaN gives NaN, `-inf` gives 0, and `inf` gives
/// infinity.
///
/// Step by step:
/// 1. `x = min(89, x)`, `x = max(-104, x)`. The operand order keeps NaN.
/// 2. `n = round_half_even(x * log2(e))`, an integer in -150..=128.
/// 3. `r = (x - n * LN2_HIGH) - n * LN2_LOW`, with `ln(2)` in two parts.
/// 4. `p = P(r)`, a polynomial of degree 5.
/// 5. `y = (p * (r * r) + r) + 1`.
/// 6. `a = n >> 1` (arithmetic), `b = n - a`; the result is `(y * 2^a) * 2^b`, where `2^i` has the bits `(i + 127) << 23`. There
///    are two factors because `2^n` may not be a normal number.
#[derive(Clone, Copy, Debug)]
pub struct Exp;

impl UnaryFunction for Exp {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let high = a.real(EXP_HIGHEST);
        let x = a.min(high, x);
        let low = a.real(EXP_LOWEST);
        let x = a.max(low, x);
        let log2_e = a.real(std::f32::consts::LOG2_E);
        let n = a.mul(x, log2_e);
        let n = a.round_half_even(n);
        let ln2_high = a.real(LN2_HIGH);
        let high = a.mul(n, ln2_high);
        let r = a.sub(x, high);
        let ln2_low = a.real(LN2_LOW);
        let low = a.mul(n, ln2_low);
        let r = a.sub(r, low);
        let p = horner(a, EXP_POLYNOMIAL, r);
        let square = a.mul(r, r);
        let y = a.mul(p, square);
        let y = a.add(y, r);
        let one = a.real(1.0);
        let y = a.add(y, one);
        let n = a.convert_to_int(n);
        let half = a.shift_right(n, 1);
        let rest = a.sub_int(n, half);
        let half = power_of_two(a, half);
        let rest = power_of_two(a, rest);
        let y = a.mul(y, half);
        a.mul(y, rest)
    }

    #[inline(always)]
    fn slope(self, _: f32, y: f32) -> f32 {
        y
    }

    fn bound(self, _: f32) -> Option<f32> {
        None
    }
}

/// `2^n` for `n` in -126..=127.
#[inline(always)]
fn power_of_two<A: Arithmetic>(a: &mut A, n: A::Int) -> A::Real {
    let bias = a.int(127);
    let exponent = a.add_int(n, bias);
    let bits = a.shift_left(exponent, 23);
    a.bits_to_real(bits)
}

/// The natural logarithm, within 3 ulp, or within an absolute error of 2e-7 near 1. Subnormal arguments are treated as the
/// smallest normal number. 0 gives -inf, inf gives inf, and negative numbers and NaN give NaN.
///
/// Step by step:
/// 1. `a = max(x, 2^-126)`. The bits of `a` give the exponent `e` and a mantissa `m` in 0.5..1, such that `a = m * 2^e`.
/// 2. If `m < sqrt(1/2)`, `e = e - 1` and `m = m + m`. Then `m = m - 1` and `z = m * m`.
/// 3. `y = (P(m) * m) * z + e * LN2_LOW`, `y = y - z * 0.5`. The result is `(m + y) + e * LN2_HIGH`.
#[derive(Clone, Copy, Debug)]
pub struct Log;

impl UnaryFunction for Log {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let (m, e) = mantissa_and_exponent(a, x);
        let z = a.mul(m, m);
        let p = horner(a, LOG_POLYNOMIAL, m);
        let y = a.mul(p, m);
        let y = a.mul(y, z);
        let ln2_low = a.real(LN2_LOW);
        let tail = a.mul(e, ln2_low);
        let y = a.add(y, tail);
        let half = a.real(0.5);
        let half = a.mul(z, half);
        let y = a.sub(y, half);
        let y = a.add(m, y);
        let ln2_high = a.real(LN2_HIGH);
        let head = a.mul(e, ln2_high);
        let y = a.add(y, head);
        let infinity = a.real(f32::INFINITY);
        let infinite = a.equal(x, infinity);
        let y = a.select(infinite, infinity, y);
        let zero = a.real(0.0);
        let is_zero = a.equal(x, zero);
        let bottom = a.real(f32::NEG_INFINITY);
        let y = a.select(is_zero, bottom, y);
        let defined = a.at_least(x, zero);
        let nan = a.real(f32::NAN);
        a.select(defined, y, nan)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        1.0 / x
    }

    fn bound(self, _: f32) -> Option<f32> {
        None
    }
}

/// `m` and `e` with `x = (1 + m) * 2^e` and `1 + m` in `sqrt(1/2)..sqrt(2)`, for positive normal `x`.
#[inline(always)]
fn mantissa_and_exponent<A: Arithmetic>(a: &mut A, x: A::Real) -> (A::Real, A::Real) {
    let least = a.real(f32::MIN_POSITIVE);
    let x = a.max(x, least);
    let bits = a.bits_to_int(x);
    let fraction = a.int(0x007f_ffff);
    let m = a.and(bits, fraction);
    let half = a.int(0x3f00_0000);
    let m = a.or(m, half);
    let m = a.bits_to_real(m);
    let root = a.real(std::f32::consts::FRAC_1_SQRT_2);
    let low = a.less(m, root);
    let exponent = a.shift_right(bits, 23);
    let bias = a.int(126);
    let exponent = a.sub_int(exponent, bias);
    let e = a.convert_to_real(exponent);
    let minus_one = a.real(-1.0);
    let less = a.add(e, minus_one);
    let e = a.select(low, less, e);
    let double = a.add(m, m);
    let m = a.select(low, double, m);
    (a.add(m, minus_one), e)
}

/// `log(1 + e^x)`, computed as `max(x, 0) + log(exp(-|x|) + 1)`, which never overflows. The error is at most 2e-7 times the
/// larger of 1 and the true value. NaN gives NaN.
///
/// Dugas et al., "Incorporating Second-Order Functional Knowledge for Better Option Pricing", 2000.
#[derive(Clone, Copy, Debug)]
pub struct Softplus;

impl UnaryFunction for Softplus {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let size = a.abs(x);
        let minus = a.neg(size);
        let e = Exp.value(a, minus);
        let one = a.real(1.0);
        let e = a.add(e, one);
        let rest = Log.value(a, e);
        let above = Relu.value(a, x);
        a.add(above, rest)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        Sigmoid.at(x)
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound + std::f32::consts::LN_2)
    }
}

/// `exp(min(x, 0) / scale) - 1`, computed with [`Exp`]. NaN gives -1.
#[inline(always)]
fn below_zero<A: Arithmetic>(a: &mut A, x: A::Real, scale: f32) -> A::Real {
    let low = Clip { min: f32::NEG_INFINITY, max: 0.0 }.value(a, x);
    let scale = a.real(scale);
    let low = a.div(low, scale);
    let e = Exp.value(a, low);
    let one = a.real(1.0);
    a.sub(e, one)
}

/// `max(x, 0) + alpha (exp(min(x, 0)) - 1)`. NaN gives `-alpha`.
///
/// Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units", 2015.
#[derive(Clone, Copy, Debug)]
pub struct Elu {
    /// The negative of the limit at -inf.
    pub alpha: f32,
}

impl UnaryFunction for Elu {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let below = below_zero(a, x, 1.0);
        let alpha = a.real(self.alpha);
        let below = a.mul(below, alpha);
        let above = Relu.value(a, x);
        a.add(above, below)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        if x > 0.0 { 1.0 } else { self.alpha * Exp.at(x) }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound.max(self.alpha.abs()))
    }

    fn check(self) -> Result<(), String> {
        match self.alpha.is_finite() {
            true => Ok(()),
            false => Err(format!("alpha {:?} is not finite", self.alpha)),
        }
    }
}

/// `(max(x, 0) + alpha (exp(min(x, 0)) - 1)) * gamma`: [`Elu`] times a factor. NaN gives `-alpha gamma`.
///
/// Klambauer et al., "Self-Normalizing Neural Networks", 2017.
#[derive(Clone, Copy, Debug)]
pub struct Selu {
    /// The parameter of [`Elu`].
    pub alpha: f32,
    /// The factor.
    pub gamma: f32,
}

impl UnaryFunction for Selu {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let y = Elu { alpha: self.alpha }.value(a, x);
        let gamma = a.real(self.gamma);
        a.mul(y, gamma)
    }

    #[inline(always)]
    fn slope(self, x: f32, y: f32) -> f32 {
        self.gamma * Elu { alpha: self.alpha }.slope(x, y)
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound.max(self.alpha.abs()) * self.gamma.abs()).filter(|b| b.is_finite())
    }

    fn check(self) -> Result<(), String> {
        match self.alpha.is_finite() && self.gamma.is_finite() {
            true => Ok(()),
            false => Err(format!("alpha {:?} or gamma {:?} is not finite", self.alpha, self.gamma)),
        }
    }
}

/// `max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)`. NaN gives `-alpha`.
///
/// Barron, "Continuously Differentiable Exponential Linear Units", 2017.
#[derive(Clone, Copy, Debug)]
pub struct Celu {
    /// The negative of the limit at -inf, not 0.
    pub alpha: f32,
}

impl UnaryFunction for Celu {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let below = below_zero(a, x, self.alpha);
        let alpha = a.real(self.alpha);
        let below = a.mul(below, alpha);
        let above = Relu.value(a, x);
        a.add(above, below)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        if x > 0.0 { 1.0 } else { Exp.at(x / self.alpha) }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        (self.alpha > 0.0).then(|| bound.max(self.alpha))
    }

    fn check(self) -> Result<(), String> {
        match self.alpha.is_finite() && self.alpha != 0.0 {
            true => Ok(()),
            false => Err(format!("alpha {:?} is 0 or not finite", self.alpha)),
        }
    }
}

/// The square root. NaN below 0.
#[derive(Clone, Copy, Debug)]
pub struct Sqrt;

impl UnaryFunction for Sqrt {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        a.sqrt(x)
    }

    #[inline(always)]
    fn slope(self, _: f32, y: f32) -> f32 {
        0.5 / y
    }

    fn bound(self, _: f32) -> Option<f32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance to the true value in units in the last place (ulp) of the nearest f32.
    fn ulps(found: f32, truth: f64) -> f64 {
        let near = truth as f32;
        let ulp = f32::from_bits(near.to_bits() + 1) as f64 - near as f64;
        (found as f64 - truth).abs() / ulp
    }

    #[test]
    fn exp_is_within_two_ulp_over_its_range() {
        let mut worst = (0.0, 0.0);
        // Every 97th float from the smallest to the largest argument with a normal result.
        for sign in [0u32, 1 << 31] {
            for bits in (0..=0x42b1_7217u32).step_by(97) {
                let x = f32::from_bits(sign | bits);
                if x >= -87.33 {
                    let e = ulps(Exp.at(x), (x as f64).exp());
                    worst = if e > worst.0 { (e, x) } else { worst };
                }
            }
        }
        assert!(worst.0 < 2.0, "{worst:?}");
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(Exp.at(0.0), 1.0);
        assert_eq!(Exp.at(-0.0), 1.0);
        assert_eq!(Exp.at(f32::INFINITY), f32::INFINITY);
        assert_eq!(Exp.at(88.8), f32::INFINITY);
        assert!(Exp.at(88.7).is_finite());
        assert_eq!(Exp.at(f32::NEG_INFINITY), 0.0);
        assert_eq!(Exp.at(-104.0), 0.0);
        assert!(Exp.at(-100.0) > 0.0 && (Exp.at(-100.0) as f64 / (-100f64).exp() - 1.0).abs() < 0.1);
        assert!(Exp.at(f32::NAN).is_nan());
    }

    #[test]
    fn softplus_is_close_and_never_overflows() {
        for i in -12_000..=12_000 {
            let x = i as f32 * 0.01;
            let truth = f64::from(x).max(0.0) + (-f64::from(x).abs()).exp().ln_1p();
            assert!((f64::from(Softplus.at(x)) - truth).abs() <= 2e-7 * truth.max(1.0), "softplus({x})");
        }
        assert_eq!([f32::NEG_INFINITY, -200.0, f32::MAX].map(|x| Softplus.at(x)), [0.0, 0.0, f32::MAX]);
        assert_eq!(Softplus.at(f32::INFINITY), f32::INFINITY);
        assert!(Softplus.at(f32::NAN).is_nan());
    }

    #[test]
    fn log_is_close() {
        for i in -6000..=6000 {
            let x = (i as f32 * 0.02).exp2();
            let truth = f64::from(x).ln();
            assert!((f64::from(Log.at(x)) - truth).abs() <= 2e-7 * truth.abs().max(1.0), "log({x})");
        }
        assert_eq!([0.0, f32::INFINITY, 1.0].map(|x| Log.at(x)), [f32::NEG_INFINITY, f32::INFINITY, 0.0]);
        assert!(Log.at(f32::NAN).is_nan() && Log.at(-1.0).is_nan());
    }
}
