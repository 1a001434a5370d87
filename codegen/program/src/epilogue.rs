//! The operations that a step applies to each output element between the accumulator and the store.
//!
//! The epilogue steps are defined in `catc-scalar`. The compiler's reference evaluator computes them in the same order, so
//! results agree bit for bit.

use crate::TensorId;
use crate::program::ConstantId;

/// The second operand of a binary step. It broadcasts to the step's output: dimensions are aligned at the last one, and
/// dimensions that are missing or have size 1 repeat. Broadcasting uses the logical dimensions `[C,H,W]`, so the layouts may
/// differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// An activation tensor: f32 or codes.
    Tensor(TensorId),
    /// An f32 constant.
    Constant(ConstantId),
}

/// One epilogue step on the running value.
pub type EpilogueStep = catc_scalar::EpilogueStep<Operand>;

/// The epilogue steps, followed by the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// The epilogue steps in order of execution.
    pub steps: Vec<EpilogueStep>,
    /// The factor of `t` just before it is rounded to a code. `None` if the output is f32, or if the scales are folded already,
    /// so that no factor is needed.
    ///
    /// An output code is `clamp(round_half_even(t), min - zero_point, max - zero_point) + zero_point`. NaN gives the zero point.
    pub requantize: Option<f32>,
}

impl Epilogue {
    /// The operands of the binary steps, in order.
    pub fn operands(&self) -> impl Iterator<Item = Operand> + '_ {
        self.steps.iter().filter_map(EpilogueStep::operand).copied()
    }

    /// The tensors among the operands, in order.
    pub fn tensors(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.operands().filter_map(|o| match o {
            Operand::Tensor(t) => Some(t),
            Operand::Constant(_) => None,
        })
    }
}
