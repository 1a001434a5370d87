//! The unary functions. Each is a type that implements [`UnaryFunction`], and each family has a file.
//!
//! To add a function, add its type to the file of its family and a row to the table in [`crate::unary`].

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

/// A unary function with its parameters. The trait holds everything that the compiler knows about the function.
pub trait UnaryFunction: Copy {
    /// Whether the function has so few operations that a call would cost more. Such functions are inlined even in code with many
    /// copies of a loop.
    const IS_SHORT: bool = false;

    /// Computes the value in the given arithmetic.
    fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real;

    /// The derivative at `x`, where the function has the value `y`. At a kink next to a constant part, it is the derivative of
    /// that part, which is 0.
    fn slope(self, x: f32, y: f32) -> f32;

    /// A bound on the magnitude of the result for arguments of magnitude at most `bound`, up to rounding errors. `None` if there
    /// is no known bound. If there is one, no such argument gives NaN.
    fn bound(self, bound: f32) -> Option<f32>;

    /// Whether the computed function is non-decreasing, except for NaN. False if this is not known.
    fn is_non_decreasing(self) -> bool {
        false
    }

    /// A function `g` with `s f(x) = g(s x)` for every `x` and this `s > 0`. `None` if the table has no such function. The
    /// compiler uses it to move a factor across the function.
    fn rescaled(self, _s: f32) -> Option<Unary> {
        None
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// Returns a message that names the invalid parameters.
    fn check(self) -> Result<(), String> {
        Ok(())
    }

    /// The value for one number.
    #[inline(always)]
    fn at(self, x: f32) -> f32 {
        self.value(&mut Scalar, x)
    }
}
