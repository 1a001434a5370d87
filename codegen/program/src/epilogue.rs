//! What a step does to each output element between accumulator and store.
//!
//! The running value `t` is f32. Each step is one f32 operation (two for a binary step: operand factor, then the
//! function), rounded on its own; a multiply and an add are never fused. The compiler's reference evaluator
//! computes the same operations in the same order, so results agree bit for bit.

use crate::TensorId;
use crate::program::ConstantId;

/// A function of one real. `max(a, b)` is `a` if `a > b`, else `b`, and `min(a, b)` is `a` if `a < b`, else `b`: the second where either is NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `max(t, 0)`; `0` for NaN.
    Relu,
    /// `t` where `t >= 0`, else `alpha * t`.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `min(max(t, min), max)`.
    Clip {
        /// Lower bound, maybe -inf.
        min: f32,
        /// Upper bound, maybe inf.
        max: f32,
    },
    /// `1 / (1 + exp(-t))` with the polynomial `exp` of the evaluator.
    Sigmoid,
    /// `min(max(alpha * t + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `t * min(max(t * (1/6) + 0.5, 0), 1)`, with 1/6 rounded to f32.
    HardSwish,
    /// `e^t` with the polynomial of the evaluator.
    Exp,
    /// The natural logarithm, likewise.
    Log,
    /// The square root.
    Sqrt,
    /// The hyperbolic tangent, a rational function as in the evaluator.
    Tanh,
    /// The error function, likewise.
    Erf,
    /// `(t * 0.5) * (erf(t * sqrt(1/2)) + 1)`.
    Gelu,
    /// `|t|`.
    Abs,
    /// The largest whole number that is not above `t`.
    Floor,
    /// The smallest whole number that is not below `t`.
    Ceil,
    /// The nearest whole number, halves to even.
    Round,
}

/// A function of two reals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

/// The second operand of a binary step. It broadcasts to the step's output: dimensions are aligned at the end, and missing ones or
/// ones of size 1 repeat. (Logical dimensions, `[C,H,W]`: layouts may differ.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// An activation tensor: f32 or codes.
    Tensor(TensorId),
    /// An f32 constant.
    Constant(ConstantId),
}

/// One step on the running value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EpilogueStep {
    /// `t = t op r` with `r = (code - zero_point) as f32 * scale` for codes, `r = x * scale` for f32.
    Binary {
        /// The function.
        op: Binary,
        /// The second operand.
        operand: Operand,
        /// Its factor.
        scale: f32,
    },
    /// `t = f(t)`.
    Activation(Activation),
    /// `t = t * factor`.
    Scale(f32),
}

/// The steps, then the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// In order.
    pub steps: Vec<EpilogueStep>,
    /// Multiplied onto `t` just before rounding to codes; `None` if scales are folded already (nothing is multiplied) or the
    /// output is f32.
    ///
    /// An output of codes is `clamp(round_half_even(t), min - zero_point, max - zero_point) + zero_point`, NaN giving the zero-point.
    pub requantize: Option<f32>,
}

impl Epilogue {
    /// The operands of its binary steps, in order.
    pub fn operands(&self) -> impl Iterator<Item = Operand> + '_ {
        self.steps.iter().filter_map(|s| match s {
            EpilogueStep::Binary { operand, .. } => Some(*operand),
            EpilogueStep::Activation(_) | EpilogueStep::Scale(_) => None,
        })
    }

    /// The tensors among its operands, in order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.operands().filter_map(|o| match o {
            Operand::Tensor(t) => Some(t),
            Operand::Constant(_) => None,
        })
    }
}
