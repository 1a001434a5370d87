//! The epilogue steps that are applied to an output element between the accumulator and the store. All stages of the compiler
//! share them.
//!
//! The running value `t` is f32. A binary step first scales its operand and then applies its function. Every f32 operation is
//! rounded separately. Each stage defines for itself how `t` becomes a code in the end.

use crate::binary::Binary;
use crate::unary::Unary;
use std::convert::Infallible;
use std::fmt;

/// One step on the running value `t`, with operands of type `O` (an input, a tensor, a pointer) and factors of type `F`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EpilogueStep<O, F = f32> {
    /// `t = t op r`. For an operand of codes, `r = (code - zero_point) as f32 * scale`. For an f32 operand, `r = x * scale`.
    Binary {
        /// The function.
        op: Binary,
        /// The second operand. It broadcasts to the output.
        operand: O,
        /// The factor of the operand.
        scale: F,
    },
    /// `t = f(t)`.
    Unary(Unary),
    /// `t = t * factor`.
    Scale(F),
}

impl<O, F> EpilogueStep<O, F> {
    /// Its operand, if it has one.
    pub fn operand(&self) -> Option<&O> {
        match self {
            EpilogueStep::Binary { operand, .. } => Some(operand),
            EpilogueStep::Unary(_) | EpilogueStep::Scale(_) => None,
        }
    }

    /// Its operand, if it has one.
    pub fn operand_mut(&mut self) -> Option<&mut O> {
        match self {
            EpilogueStep::Binary { operand, .. } => Some(operand),
            EpilogueStep::Unary(_) | EpilogueStep::Scale(_) => None,
        }
    }

    /// The same step with its operand replaced.
    pub fn map_operand<P>(self, map: impl FnOnce(O) -> P) -> EpilogueStep<P, F> {
        match self.try_map_operand(|o| Ok::<_, Infallible>(map(o))) {
            Ok(step) => step,
        }
    }

    /// The same step with its operand replaced.
    ///
    /// # Errors
    /// Returns the error of `map`.
    pub fn try_map_operand<P, E>(self, map: impl FnOnce(O) -> Result<P, E>) -> Result<EpilogueStep<P, F>, E> {
        Ok(match self {
            EpilogueStep::Binary { op, operand, scale } => EpilogueStep::Binary { op, operand: map(operand)?, scale },
            EpilogueStep::Unary(f) => EpilogueStep::Unary(f),
            EpilogueStep::Scale(factor) => EpilogueStep::Scale(factor),
        })
    }

    /// The same step with its factor replaced.
    pub fn map_factor<G>(self, map: impl FnOnce(F) -> G) -> EpilogueStep<O, G> {
        match self {
            EpilogueStep::Binary { op, operand, scale } => EpilogueStep::Binary { op, operand, scale: map(scale) },
            EpilogueStep::Unary(f) => EpilogueStep::Unary(f),
            EpilogueStep::Scale(factor) => EpilogueStep::Scale(map(factor)),
        }
    }
}

/// Prints `add(t0, 0.5)`, `relu` or `scale(2.0)`.
impl<O: fmt::Display> fmt::Display for EpilogueStep<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EpilogueStep::Binary { op, operand, scale } => write!(f, "{}({operand}, {scale:?})", op.name()),
            EpilogueStep::Unary(function) => function.fmt(f),
            EpilogueStep::Scale(x) => write!(f, "scale({x:?})"),
        }
    }
}
