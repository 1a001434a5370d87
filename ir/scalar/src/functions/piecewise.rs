//! Functions that consist of comparisons, products and sums.

use super::UnaryFunction;
use crate::arithmetic::Arithmetic;
use crate::unary::Unary;

/// `min(max(x, low), high)`. The constants are the second operands, so NaN gives `low`.
#[inline(always)]
fn clip<A: Arithmetic>(a: &mut A, x: A::Real, low: f32, high: f32) -> A::Real {
    let low = a.real(low);
    let x = a.max(x, low);
    let high = a.real(high);
    a.min(x, high)
}

/// `alpha x + beta`, with the product and the sum rounded separately.
#[inline(always)]
fn line<A: Arithmetic>(a: &mut A, x: A::Real, alpha: f32, beta: f32) -> A::Real {
    let alpha = a.real(alpha);
    let x = a.mul(x, alpha);
    let beta = a.real(beta);
    a.add(x, beta)
}

/// `max(x, 0)`. NaN gives 0.
#[derive(Clone, Copy, Debug)]
pub struct Relu;

impl UnaryFunction for Relu {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let zero = a.real(0.0);
        a.max(x, zero)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }

    fn is_non_decreasing(self) -> bool {
        true
    }

    fn rescaled(self, _: f32) -> Option<Unary> {
        Some(Unary::Relu)
    }
}

/// `x` if `x >= 0`, else `alpha x`.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// The slope below 0.
    pub alpha: f32,
}

impl UnaryFunction for LeakyRelu {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let alpha = a.real(self.alpha);
        let scaled = a.mul(x, alpha);
        let zero = a.real(0.0);
        let above = a.at_least(x, zero);
        a.select(above, x, scaled)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        if x > 0.0 { 1.0 } else { self.alpha }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound * self.alpha.abs().max(1.0))
    }

    fn is_non_decreasing(self) -> bool {
        self.alpha >= 0.0
    }

    fn check(self) -> Result<(), String> {
        match self.alpha.is_finite() {
            true => Ok(()),
            false => Err(format!("slope {:?} is not finite", self.alpha)),
        }
    }

    fn rescaled(self, _: f32) -> Option<Unary> {
        Some(Unary::LeakyRelu { alpha: self.alpha })
    }
}

/// `min(max(x, min), max)`. NaN gives `min`.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// The lower bound, which may be -inf.
    pub min: f32,
    /// The upper bound, which may be inf.
    pub max: f32,
}

impl UnaryFunction for Clip {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        clip(a, x, self.min, self.max)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        if x > self.min && x < self.max { 1.0 } else { 0.0 }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound.min(self.min.abs().max(self.max.abs())))
    }

    fn is_non_decreasing(self) -> bool {
        true
    }

    fn check(self) -> Result<(), String> {
        // This also rejects a NaN bound.
        match self.min <= self.max {
            true => Ok(()),
            false => Err(format!("clip bounds {:?} and {:?} are out of order", self.min, self.max)),
        }
    }

    fn rescaled(self, s: f32) -> Option<Unary> {
        Some(Unary::Clip { min: self.min * s, max: self.max * s })
    }
}

/// `min(max(alpha x + beta, 0), 1)`. NaN gives 0.
#[derive(Clone, Copy, Debug)]
pub struct HardSigmoid {
    /// The slope.
    pub alpha: f32,
    /// The offset.
    pub beta: f32,
}

impl UnaryFunction for HardSigmoid {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let x = line(a, x, self.alpha, self.beta);
        clip(a, x, 0.0, 1.0)
    }

    #[inline(always)]
    fn slope(self, _: f32, y: f32) -> f32 {
        if y > 0.0 && y < 1.0 { self.alpha } else { 0.0 }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        // `alpha x + beta` must be finite, because an overflow could produce NaN before the clip.
        (bound * self.alpha.abs() + self.beta.abs()).is_finite().then_some(1.0)
    }

    fn is_non_decreasing(self) -> bool {
        self.alpha >= 0.0
    }

    fn check(self) -> Result<(), String> {
        match self.alpha.is_finite() && self.beta.is_finite() {
            true => Ok(()),
            false => Err(format!("slope {:?} or offset {:?} is not finite", self.alpha, self.beta)),
        }
    }
}

/// `x * min(max(x * (1/6) + 0.5, 0), 1)`, with 1/6 rounded to f32. NaN gives NaN.
///
/// This follows the definition in ONNX: a multiplication by 1/6, which is cheaper than a division by 6 (Howard et al., "Searching
/// for MobileNetV3", 2019, section 5.2).
#[derive(Clone, Copy, Debug)]
pub struct HardSwish;

impl UnaryFunction for HardSwish {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        let gate = line(a, x, 1.0 / 6.0, 0.5);
        let gate = clip(a, gate, 0.0, 1.0);
        a.mul(x, gate)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        let inner = if x < 3.0 { x * (1.0 / 3.0) + 0.5 } else { 1.0 };
        if x > -3.0 { inner } else { 0.0 }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }
}

/// `|x|`.
#[derive(Clone, Copy, Debug)]
pub struct Abs;

impl UnaryFunction for Abs {
    const IS_SHORT: bool = true;

    #[inline(always)]
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
        a.abs(x)
    }

    #[inline(always)]
    fn slope(self, x: f32, _: f32) -> f32 {
        if x > 0.0 {
            1.0
        } else if x < 0.0 {
            -1.0
        } else {
            0.0
        }
    }

    fn bound(self, bound: f32) -> Option<f32> {
        Some(bound)
    }

    fn rescaled(self, _: f32) -> Option<Unary> {
        Some(Unary::Abs)
    }
}
