//! What happens to an output element between accumulator and store: the steps that every stage of the compiler has in common.
//!
//! The running value `t` is f32. Each step is one f32 operation (two for a binary step: the operand's factor, then the
//! function), rounded on its own. How `t` becomes a code in the end belongs to the stage that says so.

use crate::binary::Binary;
use crate::unary::Unary;
use std::convert::Infallible;
use std::fmt;

/// One step on the running value `t`, with operands of type `O` (an input, a tensor, a pointer) and factors of type `F`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EpilogueStep<O, F = f32> {
    /// `t = t op r` with `r = (code - zero_point) as f32 * scale` if the operand holds codes, `r = x * scale` if it is f32.
    Binary {
        /// The function.
        op: Binary,
        /// The second operand. It broadcasts to the output.
        operand: O,
        /// Its factor.
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

    /// The same step with another operand.
    pub fn map_operand<P>(self, map: impl FnOnce(O) -> P) -> EpilogueStep<P, F> {
        match self.try_map_operand(|o| Ok::<_, Infallible>(map(o))) {
            Ok(step) => step,
        }
    }

    /// The same step with another operand, or the error of `map`.
    ///
    /// # Errors
    /// That of `map`.
    pub fn try_map_operand<P, E>(self, map: impl FnOnce(O) -> Result<P, E>) -> Result<EpilogueStep<P, F>, E> {
        Ok(match self {
            EpilogueStep::Binary { op, operand, scale } => EpilogueStep::Binary { op, operand: map(operand)?, scale },
            EpilogueStep::Unary(f) => EpilogueStep::Unary(f),
            EpilogueStep::Scale(factor) => EpilogueStep::Scale(factor),
        })
    }

    /// The same step with another factor.
    pub fn map_factor<G>(self, map: impl FnOnce(F) -> G) -> EpilogueStep<O, G> {
        match self {
            EpilogueStep::Binary { op, operand, scale } => EpilogueStep::Binary { op, operand, scale: map(scale) },
            EpilogueStep::Unary(f) => EpilogueStep::Unary(f),
            EpilogueStep::Scale(factor) => EpilogueStep::Scale(map(factor)),
        }
    }
}

/// `add(t0, 0.5)`, `relu`, `scale(2.0)`.
impl<O: fmt::Display> fmt::Display for EpilogueStep<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EpilogueStep::Binary { op, operand, scale } => write!(f, "{}({operand}, {scale:?})", op.name()),
            EpilogueStep::Unary(function) => function.fmt(f),
            EpilogueStep::Scale(x) => write!(f, "scale({x:?})"),
        }
    }
}
