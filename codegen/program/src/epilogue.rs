//! What a step does to each output element between accumulator and store.
//!
//! The steps are those of `catc-scalar`, which the compiler's reference evaluator computes in the same order, so results agree bit
//! for bit.

use crate::TensorId;
use crate::program::ConstantId;

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
pub type EpilogueStep = catc_scalar::EpilogueStep<Operand>;

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
        self.steps.iter().filter_map(EpilogueStep::operand).copied()
    }

    /// The tensors among its operands, in order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.operands().filter_map(|o| match o {
            Operand::Tensor(t) => Some(t),
            Operand::Constant(_) => None,
        })
    }
}
