//! Functions that saturate on both sides, and gated activations built from them.

use super::polynomial::odd_rational;
use super::{Exp, Softplus, UnaryFunction};
use crate::arithmetic::Arithmetic;

/// Arguments of [`Tanh`] are clamped to this magnitude, at which the result is 1.
const TANH_BOUND: f32 = 7.905311;
/// For arguments below this magnitude, [`Tanh`] returns the argument itself.
const TANH_LINEAR: f32 = 0.0004;
/// Numerator of [`Tanh`] in `x^2`, from the highest power (a rational minimax, as in Eigen's `ptanh`).
const TANH_NUMERATOR: [f32; 7] =
    [-2.7607684e-16, 2.000188e-13, -8.604672e-11, 5.1222973e-8, 1.485_722_4e-5, 6.372_619_5e-4, 4.893_524_6e-3];
/// Denominator of [`Tanh`] in `x^2`, from the highest power.
const TANH_DENOMINATOR: [f32; 4] = [1.1982584e-6, 1.1853471e-4, 2.268_434_7e-3, 4.893_525e-3];
/// Arguments of [`Erf`] are clamped to this magnitude, at which the result is within 3e-7 of 1.
const ERF_BOUND: f32 = 4.0;
/// Numerator of [`Erf`] in `x^2`, from the highest power (a rational minimax, as in XLA's `ErfImpl32`).
const ERF_NUMERATOR: [f32; 7] =
    [-2.7261424e-10, 2.7706815e-8, -2.101024e-6, -5.6925062e-5, -7.349_906_4e-4, -2.9546e-3, -1.609_603_3e-2];
/// Denominator of [`Erf`] in `x^2`, from the highest power.
const ERF_DENOMINATOR: [f32; 5] = [-1.456_607_1e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];

/// The coefficient of `x^3` in [`GeluTanh`].
const GELU_CUBE: f32 = 0.044715;
/// `sqrt(2 / pi)`, the factor of the argument of the hyperbolic tangent in [`GeluTanh`].
const GELU_TANH_FACTOR: f32 = 0.797_884_6;

/// `1 / (exp(-x) + 1)`, computed with [`Exp`]. NaN gives NaN.
#[derive(Clone, Copy, Debug)]
pub struct Sigmoid;

impl UnaryFunction for Sigmoid {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let minus = a.neg(x);
        let e = Exp.value(a, minus);
        let one = a.real(1.0);
        let below = a.add(e, one);
        a.div(one, below)
    }

    #[inline(always)]
    fn slope(self, _: f32, y: f32) -> f32 {
        y * (1.0 - y)
    }

    fn bound(self, _: f32) -> Option<f32> {
        Some(1.0)
    }
}

/// The hyperbolic tangent. Its absolute and relative errors are at most 4e-7. NaN gives NaN.
///
/// It is an odd rational function of the clamped argument. If `|x| < 0.0004`, the result is `x` itself.
#[derive(Clone, Copy, Debug)]
pub struct Tanh;

impl UnaryFunction for Tanh {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let y = odd_rational(a, x, TANH_BOUND, TANH_NUMERATOR, TANH_DENOMINATOR);
        let size = a.abs(x);
        let linear = a.real(TANH_LINEAR);
        let small = a.less(size, linear);
        a.select(small, x, y)
    }

    #[inline(always)]
    fn slope(self, _: f32, y: f32) -> f32 {
        1.0 - y * y
    }

    fn bound(self, _: f32) -> Option<f32> {
        Some(1.0)
    }
}

/// The error function. Its absolute and relative errors are at most 5e-7. NaN gives NaN.
#[derive(Clone, Copy, Debug)]
pub struct Erf;

impl UnaryFunction for Erf {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        odd_rational(a, x, ERF_BOUND, ERF_NUMERATOR, ERF_DENOMINATOR)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        std::f32::consts::FRAC_2_SQRT_PI * Exp.at(-x * x)
    }

    fn bound(self, _: f32) -> Option<f32> {
        Some(1.0)
    }
}

/// `x * Phi(x)`, where `Phi` is the cumulative distribution function of the normal distribution. It is computed as
/// `(x * 0.5) * (erf(x * sqrt(1/2)) + 1)` with [`Erf`]. NaN gives NaN.
///
/// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
#[derive(Clone, Copy, Debug)]
pub struct Gelu;

impl UnaryFunction for Gelu {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let half = a.real(0.5);
        let half = a.mul(x, half);
        let root = a.real(std::f32::consts::FRAC_1_SQRT_2);
        let y = a.mul(x, root);
        let y = Erf.value(a, y);
        let one = a.real(1.0);
        let y = a.add(y, one);
        a.mul(half, y)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        const DENSITY_AT_0: f32 = 0.398_942_3;
        0.5 * (1.0 + Erf.at(x * std::f32::consts::FRAC_1_SQRT_2)) + x * DENSITY_AT_0 * Exp.at(-0.5 * x * x)
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }
}

/// The approximation of [`Gelu`] by a hyperbolic tangent: `(x * 0.5) * (tanh((x + 0.044715 x^3) * sqrt(2 / pi)) + 1)`, computed with
/// [`Tanh`]. NaN gives NaN.
///
/// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
#[derive(Clone, Copy, Debug)]
pub struct GeluTanh;

impl UnaryFunction for GeluTanh {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let square = a.mul(x, x);
        let cube = a.mul(square, x);
        let coefficient = a.real(GELU_CUBE);
        let cube = a.mul(cube, coefficient);
        let inner = a.add(x, cube);
        let factor = a.real(GELU_TANH_FACTOR);
        let inner = a.mul(inner, factor);
        let gate = Tanh.value(a, inner);
        let one = a.real(1.0);
        let gate = a.add(gate, one);
        let half = a.real(0.5);
        let half = a.mul(x, half);
        a.mul(half, gate)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        let gate = Tanh.at((x + GELU_CUBE * x * x * x) * GELU_TANH_FACTOR);
        let inner = GELU_TANH_FACTOR * (1.0 + 3.0 * GELU_CUBE * x * x);
        0.5 * (1.0 + gate) + 0.5 * x * (1.0 - gate * gate) * inner
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }
}

/// `x * sigmoid(x)`, computed with [`Sigmoid`]; also called swish. NaN and -inf give NaN.
///
/// Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in Reinforcement Learning", 2017.
#[derive(Clone, Copy, Debug)]
pub struct Silu;

impl UnaryFunction for Silu {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let gate = Sigmoid.value(a, x);
        a.mul(x, gate)
    }

    #[inline(always)]
    fn slope(self, x: f32, y: f32) -> f32 {
        let gate = Sigmoid.at(x);
        gate + y * (1.0 - gate)
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }
}

/// `x * tanh(log(1 + e^x))`, computed with [`Softplus`] and [`Tanh`]. NaN and -inf give NaN.
///
/// Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019.
#[derive(Clone, Copy, Debug)]
pub struct Mish;

impl UnaryFunction for Mish {
    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let gate = Softplus.value(a, x);
        let gate = Tanh.value(a, gate);
        a.mul(x, gate)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        let gate = Tanh.at(Softplus.at(x));
        gate + x * (1.0 - gate * gate) * Sigmoid.at(x)
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }
}

/// `x / (|x| + 1)`. NaN and infinities give NaN.
#[derive(Clone, Copy, Debug)]
pub struct Softsign;

impl UnaryFunction for Softsign {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let size = a.abs(x);
        let one = a.real(1.0);
        let below = a.add(size, one);
        a.div(x, below)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        let root = 1.0 / (x.abs() + 1.0);
        root * root
    }

    fn bound(self, bound: f32) -> Option<f32> {
        bound.is_finite().then_some(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_is_close_and_saturates() {
        for i in -4000..=4000 {
            let x = i as f32 * 0.02;
            let truth = 1.0 / (1.0 + (-x as f64).exp());
            assert!((Sigmoid.at(x) as f64 / truth - 1.0).abs() < 5e-7, "{x}");
        }
        assert_eq!(Sigmoid.at(f32::NEG_INFINITY), 0.0);
        assert_eq!(Sigmoid.at(f32::INFINITY), 1.0);
        assert!(Sigmoid.at(f32::NAN).is_nan());
    }

    /// The error function in f64. It uses the power series below 3, and 1 minus a continued fraction above.
    fn erf_f64(x: f64) -> f64 {
        let a = x.abs();
        let y = if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for n in 1..200 {
                term *= -a * a / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let fraction = (1..80).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
            1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
        };
        y.copysign(x)
    }

    #[test]
    fn tanh_erf_and_gelu_are_close() {
        fn near(name: &str, f: impl UnaryFunction, truth: impl Fn(f64) -> f64, x: f32, bound: f64) {
            let t = truth(f64::from(x));
            assert!((f64::from(f.at(x)) - t).abs() <= bound * t.abs().max(1e-30), "{name}({x}): {} for {t}", f.at(x));
        }
        for i in -6000..=6000 {
            for x in [i as f32 * 0.002, (i as f32 * 0.002).exp2() - 1e-3, i as f32 * 1e-7] {
                near("tanh", Tanh, f64::tanh, x, 4e-7);
                near("erf", Erf, erf_f64, x, 5e-7);
                let t = 0.5 * f64::from(x) * (1.0 + erf_f64(f64::from(x) / std::f64::consts::SQRT_2));
                assert!((f64::from(Gelu.at(x)) - t).abs() <= 4e-7 * f64::from(x).abs().max(1e-30), "gelu({x})");
            }
        }
        assert!(Tanh.at(f32::NAN).is_nan() && Erf.at(f32::NAN).is_nan() && Gelu.at(f32::NAN).is_nan());
    }
}
