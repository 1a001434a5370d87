//! Rounding to integers.

use super::UnaryFunction;
use crate::arithmetic::Arithmetic;

/// The largest integer that is not greater than `x`.
#[derive(Clone, Copy, Debug)]
pub struct Floor;

impl UnaryFunction for Floor {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        a.floor(x)
    }

    #[inline(always)]
    fn slope(self, _: f32, _: f32) -> f32 {
        0.0
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound + 1.0)
    }

    fn is_non_decreasing(self) -> bool {
        true
    }
}

/// The smallest integer that is not less than `x`.
#[derive(Clone, Copy, Debug)]
pub struct Ceil;

impl UnaryFunction for Ceil {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        a.ceil(x)
    }

    #[inline(always)]
    fn slope(self, _: f32, _: f32) -> f32 {
        0.0
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound + 1.0)
    }

    fn is_non_decreasing(self) -> bool {
        true
    }
}

/// The nearest integer. Ties go to the even one.
#[derive(Clone, Copy, Debug)]
pub struct Round;

impl UnaryFunction for Round {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        a.round_half_even(x)
    }

    /// The straight-through estimator: 1 instead of the true derivative 0. Quantizers use the same estimator for their rounding
    /// (Bengio, Leonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013).
    #[inline(always)]
    fn slope(self, _: f32, _: f32) -> f32 {
        1.0
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound + 1.0)
    }

    fn is_non_decreasing(self) -> bool {
        true
    }
}
