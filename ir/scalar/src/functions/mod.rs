//! The functions of one real, each a type that implements [`UnaryFunction`]: one file a family.
//!
//! To add one: its type in the file of its family, and its row in the table of [`crate::unary`].

mod exponential;
mod piecewise;
mod polynomial;
mod rounding;
mod sigmoidal;

pub use exponential::*;
pub use piecewise::*;
pub use rounding::*;
pub use sigmoidal::*;

use crate::arithmetic::{Arithmetic, Scalar};
use crate::unary::Unary;

/// A function of one real with its parameters: all that is known of it.
pub trait UnaryFunction: Copy {
    /// Whether it is so few operations that a call would cost more: code with many copies of a loop has them in place.
    const IS_SHORT: bool = false;

    /// The value in any arithmetic.
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real;

    /// The derivative at `x`, where the value is `y`. At a kink, that of the side where the function is constant.
    fn slope(self, x: f32, y: f32) -> f32;

    /// A bound on the magnitude of the values at arguments of magnitude `bound` at most, up to rounding; `None` if there is none.
    /// Where there is one, no such argument gives NaN.
    fn bound(self, bound: f32) -> Option<f32>;

    /// Whether a larger argument never gives a smaller value, as computed, NaN aside. False if that is not known.
    fn is_non_decreasing(self) -> bool {
        false
    }

    /// The function `g` of the table with `s f(x) = g(s x)` for every `x`, for this `s > 0`; `None` if there is none. It lets a
    /// factor move across the function.
    fn rescaled(self, _s: f32) -> Option<Unary> {
        None
    }

    /// What is wrong with the parameters, if anything.
    ///
    /// # Errors
    /// A sentence that names the parameters.
    fn check(self) -> Result<(), String> {
        Ok(())
    }

    /// The value at one real.
    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        self.value(&mut Scalar, x)
    }
}
