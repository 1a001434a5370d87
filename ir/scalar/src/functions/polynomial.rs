//! Polynomials and rational functions, with which the other families approximate their functions.

use crate::arithmetic::Arithmetic;

/// Evaluates a polynomial with Horner's method. The coefficients start at the highest power: `p = c0`, then `p = p * x + c` for
/// each further coefficient.
#[inline(always)]
pub(super) fn horner<A: Arithmetic, const N: usize>(a: &mut A, coefficients: [f32; N], x: A::Real) -> A::Real {
    let mut p = a.real(coefficients[0]);
    for &c in &coefficients[1..] {
        p = a.mul(p, x);
        let c = a.real(c);
        p = a.add(p, c);
    }
    p
}

/// `c * P(c^2) / Q(c^2)`, where `c` is the argument clamped to `-bound..=bound`. NaN gives NaN.
#[inline(always)]
pub(super) fn odd_rational<A: Arithmetic, const P: usize, const Q: usize>(
    a: &mut A,
    x: A::Real,
    bound: f32,
    numerator: [f32; P],
    denominator: [f32; Q],
) -> A::Real {
    // The bound is the first operand of `min` and `max`, so NaN stays NaN.
    let high = a.real(bound);
    let c = a.min(high, x);
    let low = a.real(-bound);
    let c = a.max(low, c);
    let square = a.mul(c, c);
    let p = horner(a, numerator, square);
    let p = a.mul(c, p);
    let q = horner(a, denominator, square);
    a.div(p, q)
}
