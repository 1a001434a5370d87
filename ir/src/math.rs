//! The one definition of every f32 function that is left in the integer phase, written so that a code generator can emit
//! the same operations in the same order and agree bit for bit.
//!
//! Rules: every operation below is one IEEE single-precision operation, rounded to nearest even, subnormals kept; a multiply
//! and an add are never fused. `max` and `min` are the comparisons spelled out in [`max`] and [`min`] (x86 `maxps` and
//! `minps`, AArch64 `fcmgt` + `bsl`), which decide what NaN does.
//!
//! What the operations of the integer phase compute from them, `x[k]` being the elements that one output element needs in
//! row-major order:
//!
//! | operation | value |
//! |---|---|
//! | linear | [`dot4`]`(x, w) + bias`, without the last addition if there is no bias |
//! | matmul | [`dot4`] of a row and a column |
//! | reduce_mean | [`sum4`]`(x) / count` |
//! | avg_pool | `(..((0 + x[0]) + x[1]) + ..) / count` over the taps inside the input |
//! | softmax | `e[i] / `[`sum4`]`(e)` with `e[i] = `[`exp`]`(x[i] - m)` and `m` the [`max`] of all `x` |
//! | squared_distance | [`sum4`] of `d * d` with `d = x[k] - c[k]` |
//! | layer_norm | `d = x - m` with `m = `[`sum4`]`(x) / count`, `s = sqrt(`[`sum4`]`(d * d) / count + eps)`, then `((d / s) * scale) + bias` |
//! | batch_norm | `((x - mean) / sqrt(variance + eps)) * scale + bias` |
//! | blend | `(1 - alpha) * a + alpha * b` |
//! | unary functions | [`crate::ops::Unary::apply`] |

/// `a` if `a > b`, else `b`: so `b` where either is NaN, and `b` where both are zeros.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `a` if `a < b`, else `b`: so `b` where either is NaN, and `b` where both are zeros.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Arguments of [`exp`] above this give infinity.
pub const EXP_HIGHEST: f32 = 89.0;
/// Arguments of [`exp`] below this give zero.
pub const EXP_LOWEST: f32 = -104.0;
/// The f32 next to `log2(e)`.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// The leading 10 bits of `ln(2)`: a product with a whole number of up to 14 bits is exact.
pub const LN2_HIGH: f32 = 355.0 / 512.0;
/// `ln(2)` less [`LN2_HIGH`].
pub const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of the polynomial `P` of [`exp`], from the highest power: `exp(r) ~ 1 + (r + r^2 P(r))` for `|r| <= ln(2) / 2`
/// (minimax, as in Cephes `expf`).
pub const EXP_POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `e^x` in f32, within 2 ulp of the true value; subnormal results are rounded twice. NaN gives NaN, `-inf` 0, `inf` infinity.
///
/// Step by step:
/// 1. `x = `[`min`]`(89, x)`, `x = `[`max`]`(-104, x)`, in this operand order, so that NaN stays NaN.
/// 2. `n = round_half_even(x * LOG2_E)`, a whole number in -150..=128 (as an integer, 0 for NaN).
/// 3. `r = (x - n * LN2_HIGH) - n * LN2_LOW`.
/// 4. `p = c0`, then `p = p * r + c` for each further coefficient of [`EXP_POLYNOMIAL`].
/// 5. `y = (p * (r * r) + r) + 1`.
/// 6. `a = n >> 1` (arithmetic), `b = n - a`; the result is `(y * 2^a) * 2^b`, where `2^i` has the bits `(i + 127) << 23`.
///    Two factors, because `2^n` itself need not be a normal number.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = min(EXP_HIGHEST, x);
    let x = max(EXP_LOWEST, x);
    let whole = (x * LOG2_E).round_ties_even();
    let r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let mut p = EXP_POLYNOMIAL[0];
    for c in &EXP_POLYNOMIAL[1..] {
        p = p * r + c;
    }
    let y = (p * (r * r) + r) + 1.0;
    let n = whole as i32;
    let a = n >> 1;
    let power = |i: i32| f32::from_bits(((i + 127) << 23) as u32);
    (y * power(a)) * power(n - a)
}

/// `1 / (1 + exp(-x))` with [`exp`], the negation flipping the sign bit. NaN gives NaN.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Arguments of [`tanh`] beyond this give what this gives, which is 1.
pub const TANH_BOUND: f32 = 7.905311;
/// Arguments of [`tanh`] below this are their own value.
pub const TANH_LINEAR: f32 = 0.0004;
/// Numerator and denominator of [`tanh`] in `x^2`, from the highest power (a rational minimax, as in Eigen's `ptanh`).
pub const TANH_NUMERATOR: [f32; 7] =
    [-2.7607684e-16, 2.000188e-13, -8.604672e-11, 5.1222973e-8, 1.485_722_4e-5, 6.372_619_5e-4, 4.893_524_6e-3];
/// See [`TANH_NUMERATOR`].
pub const TANH_DENOMINATOR: [f32; 4] = [1.1982584e-6, 1.1853471e-4, 2.268_434_7e-3, 4.893_525e-3];
/// Arguments of [`erf`] beyond this give what this gives, 1 within 3e-7.
pub const ERF_BOUND: f32 = 4.0;
/// Numerator and denominator of [`erf`] in `x^2`, from the highest power (a rational minimax, as in XLA's `ErfImpl32`).
pub const ERF_NUMERATOR: [f32; 7] =
    [-2.7261424e-10, 2.7706815e-8, -2.101024e-6, -5.6925062e-5, -7.349_906_4e-4, -2.9546e-3, -1.609_603_3e-2];
/// See [`ERF_NUMERATOR`].
pub const ERF_DENOMINATOR: [f32; 5] =
    [-1.456_607_1e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
/// Coefficients of [`log`], from the highest power (Cephes `logf`).
pub const LOG_POLYNOMIAL: [f32; 9] = [
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

/// A polynomial from its highest power: `p = c0`, then `p = p * x + c` for each further coefficient.
#[inline(always)]
fn horner(coefficients: &[f32], x: f32) -> f32 {
    let mut p = coefficients[0];
    for c in &coefficients[1..] {
        p = p * x + c;
    }
    p
}

/// `c * P(c^2) / Q(c^2)` with `c` the argument cut to `bound`; NaN stays NaN.
#[inline(always)]
fn odd_rational(x: f32, bound: f32, numerator: &[f32], denominator: &[f32]) -> f32 {
    let c = max(-bound, min(bound, x));
    let square = c * c;
    (c * horner(numerator, square)) / horner(denominator, square)
}

/// The hyperbolic tangent in f32, within 4e-7 of the true value, absolute and relative. NaN gives NaN.
///
/// [`TANH_NUMERATOR`] over [`TANH_DENOMINATOR`]; `x` itself where `|x| <` [`TANH_LINEAR`].
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let y = odd_rational(x, TANH_BOUND, &TANH_NUMERATOR, &TANH_DENOMINATOR);
    if x.abs() < TANH_LINEAR { x } else { y }
}

/// The error function in f32, within 5e-7 of the true value, absolute and relative. NaN gives NaN.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    odd_rational(x, ERF_BOUND, &ERF_NUMERATOR, &ERF_DENOMINATOR)
}

/// `x * Phi(x)` with the normal distribution's `Phi`: `(x * 0.5) * (1 + erf(x * sqrt(1/2)))`.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    (x * 0.5) * (erf(x * std::f32::consts::FRAC_1_SQRT_2) + 1.0)
}

/// The natural logarithm in f32, within 3 ulp (2e-7 absolute near 1); subnormal arguments count as the smallest normal
/// number. 0 gives -inf, inf gives inf, and negative numbers and NaN give NaN.
///
/// Step by step:
/// 1. `a = `[`max`]`(x, 2^-126)`; its bits give the exponent `e` and `m` in 0.5..1 with `a = m * 2^e`.
/// 2. Where `m < sqrt(1/2)`: `e = e - 1`, `m = m + m`. Then `m = m - 1`, `z = m * m`.
/// 3. `y = (P(m) * m) * z + e * `[`LN2_LOW`], `y = y - z * 0.5`, the result is `(m + y) + e * `[`LN2_HIGH`].
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let a = max(x, f32::MIN_POSITIVE);
    let bits = a.to_bits() as i32;
    let m = f32::from_bits(((bits & 0x007f_ffff) | 0x3f00_0000) as u32);
    let low = m < std::f32::consts::FRAC_1_SQRT_2;
    let e = ((bits >> 23) - 126) as f32;
    let e = if low { e - 1.0 } else { e };
    let m = (if low { m + m } else { m }) - 1.0;
    let z = m * m;
    let y = (horner(&LOG_POLYNOMIAL, m) * m) * z + e * LN2_LOW;
    let y = y - z * 0.5;
    let y = (m + y) + e * LN2_HIGH;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// The sum of products of two slices of one length, in four lanes: lane `j` starts at 0 and takes `a[i] * b[i]` for
/// `i = j, j + 4, j + 8, ..` in order, product and sum rounded each on its own; the result is
/// `(l0 + l1) + (l2 + l3)`. What is beyond the last multiple of 4 goes to its lane likewise.
///
/// The shorter slice decides if the lengths differ.
pub fn dot4(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut lanes = [0f32; 4];
    let (ca, cb) = (a.chunks_exact(4), b.chunks_exact(4));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (x, y) in ca.zip(cb) {
        for j in 0..4 {
            lanes[j] += x[j] * y[j];
        }
    }
    for (j, (x, y)) in ra.iter().zip(rb).enumerate() {
        lanes[j] += x * y;
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// The sum of a slice in the four lanes of [`dot4`].
pub fn sum4(x: &[f32]) -> f32 {
    let mut lanes = [0f32; 4];
    let chunks = x.chunks_exact(4);
    let rest = chunks.remainder();
    for c in chunks {
        for j in 0..4 {
            lanes[j] += c[j];
        }
    }
    for (j, x) in rest.iter().enumerate() {
        lanes[j] += x;
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// [`sum4`] of what an iterator yields.
pub fn sum4_of(items: impl IntoIterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; 4];
    for (i, x) in items.into_iter().enumerate() {
        lanes[i % 4] += x;
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance to the true value in units of the last place of the f32 nearest to it.
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
                    let e = ulps(exp(x), (x as f64).exp());
                    worst = if e > worst.0 { (e, x) } else { worst };
                }
            }
        }
        assert!(worst.0 < 2.0, "{worst:?}");
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(88.7).is_finite());
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-104.0), 0.0);
        assert!(exp(-100.0) > 0.0 && (exp(-100.0) as f64 / (-100f64).exp() - 1.0).abs() < 0.1);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_is_close_and_saturates() {
        for i in -4000..=4000 {
            let x = i as f32 * 0.02;
            let truth = 1.0 / (1.0 + (-x as f64).exp());
            assert!((sigmoid(x) as f64 / truth - 1.0).abs() < 5e-7, "{x}");
        }
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    /// The error function in f64: its series below 3, 1 less a continued fraction above.
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
    fn functions_are_close() {
        let near = |name: &str, f: fn(f32) -> f32, truth: &dyn Fn(f64) -> f64, x: f32, bound: f64| {
            let t = truth(f64::from(x));
            assert!((f64::from(f(x)) - t).abs() <= bound * t.abs().max(1e-30), "{name}({x}): {} for {t}", f(x));
        };
        for i in -6000..=6000 {
            for x in [i as f32 * 0.002, (i as f32 * 0.002).exp2() - 1e-3, i as f32 * 1e-7] {
                near("tanh", tanh, &f64::tanh, x, 4e-7);
                near("erf", erf, &erf_f64, x, 5e-7);
                let t = 0.5 * f64::from(x) * (1.0 + erf_f64(f64::from(x) / std::f64::consts::SQRT_2));
                assert!((f64::from(gelu(x)) - t).abs() <= 4e-7 * f64::from(x).abs().max(1e-30), "gelu({x})");
            }
            let x = (i as f32 * 0.02).exp2();
            assert!(
                (f64::from(log(x)) - f64::from(x).ln()).abs() <= 2e-7 * f64::from(x).ln().abs().max(1.0),
                "log({x})"
            );
        }
        assert_eq!([log(0.0), log(f32::INFINITY), log(1.0)], [f32::NEG_INFINITY, f32::INFINITY, 0.0]);
        for f in [tanh, erf, gelu, log] {
            assert!(f(f32::NAN).is_nan());
        }
        assert!(log(-1.0).is_nan());
    }

    #[test]
    fn sums_take_their_lanes() {
        let x = [1e8, 1.0, -1e8, 1.0, 3.0, 0.5, 0.25];
        // l0 = 1e8 + 3, l1 = 1.5, l2 = -1e8 + 0.25, l3 = 1.
        let expected = ((1e8f32 + 3.0) + 1.5) + ((-1e8f32 + 0.25) + 1.0);
        assert_eq!(sum4(&x), expected);
        assert_eq!(sum4_of(x), expected);
        assert_eq!(dot4(&x, &[1.0; 7]), expected);
        assert_eq!(sum4(&[]), 0.0);
    }

    #[test]
    fn nan_takes_the_second_operand() {
        assert_eq!(max(f32::NAN, 1.0), 1.0);
        assert!(max(1.0, f32::NAN).is_nan());
        assert_eq!(min(f32::NAN, 1.0), 1.0);
        assert!(min(1.0, f32::NAN).is_nan());
    }
}
