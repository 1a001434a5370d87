//! The evaluation rules of the operations, with one file for each family as in [`catc_ir::ops`].
//!
//! To add an operation, implement [`Rule`] for its attribute struct in the file of its family, and add it to [`rule`].

mod cat;
mod choose;
mod conv;
mod elementwise;
mod fused;
mod index;
mod interpolate;
mod linear;
mod norm;
mod pool;
mod quant;
mod reduce;
mod shape;

pub(crate) use conv::Plane;

use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::{Graph, Node, Op, Tensor};
use smallvec::SmallVec;
use std::sync::Arc;

/// What a rule computes once from the constants of a node.
#[derive(Clone, Default)]
pub(crate) enum Prepared {
    /// Nothing.
    #[default]
    Nothing,
    /// The weights of a fused node as f32.
    Weights(Arc<fused::Weights>),
    /// The constant weights of a convolution, packed on first use.
    Kernels(Arc<conv::Kernels>),
}

/// What is known about a node before any evaluation.
pub(crate) struct Known<'a> {
    pub graph: &'a Graph,
    pub node: &'a Node,
    /// The inputs that are constants or depend only on constants.
    pub constants: &'a [Option<Arc<Tensor>>],
    /// What was prepared before the last change.
    pub before: &'a Prepared,
}

/// The gradients at the inputs of a node.
#[derive(Default)]
pub(crate) struct Pullback {
    /// The gradient of each input, with as many elements as the input. `None` if it is zero or not needed.
    pub inputs: SmallVec<[Option<Vec<f32>>; 4]>,
    /// For quantize and dequantize, the gradients of the scales and of the zero points.
    pub quantizer: Option<(Vec<f32>, Vec<f32>)>,
}

impl Pullback {
    /// The gradients of the inputs in order.
    pub fn of(inputs: impl IntoIterator<Item = Option<Vec<f32>>>) -> Self {
        Pullback { inputs: inputs.into_iter().collect(), quantizer: None }
    }
}

/// The context of a backward step: the recorded inputs and output of the node, and which gradients are needed.
pub(crate) struct Reverse<'a> {
    pub inputs: &'a [&'a Tensor],
    pub output: &'a Tensor,
    /// Whether the gradient of each input is needed.
    pub needs: &'a [bool],
    /// Whether the gradients of the node's quantizer are needed.
    pub quantizer: bool,
}

/// How an operation is evaluated.
pub(crate) trait Rule {
    /// Computes what can be computed once from the node's constants.
    fn prepare(&self, _known: &Known) -> Prepared {
        Prepared::Nothing
    }

    /// Computes the output. The output has at least one element, and the inputs have the types of the node's operands.
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError>;

    /// Computes the gradients of the inputs from the gradient of the output, which has at least one element. Codes are treated as
    /// real numbers, and rounding uses the straight-through estimator.
    fn vjp(
        &self,
        call: &Call,
        _reverse: &Reverse,
        _grad: Vec<f32>,
        _buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        Err(EvalError::NoGradient { place: call.graph.label(call.node), op: call.node.op.name() })
    }
}

/// The rule of an operation.
pub(crate) fn rule(op: &Op) -> &dyn Rule {
    match op {
        Op::Conv2d(x) => x,
        Op::Linear(x) => x,
        Op::MatMul(x) => x,
        Op::BatchNorm(x) => x,
        Op::Softmax(x) => x,
        Op::Unary(x) => x,
        Op::Binary(x) => x,
        Op::MaxPool(x) => x,
        Op::AvgPool(x) => x,
        Op::ReduceMean(x) => x,
        Op::Interpolate(x) => x,
        Op::Reshape(x) => x,
        Op::Transpose(x) => x,
        Op::Concat(x) => x,
        Op::Pad(x) => x,
        Op::Slice(x) => x,
        Op::Gather(x) => x,
        Op::Identity(x) => x,
        Op::Quantize(x) => x,
        Op::Dequantize(x) => x,
        Op::SquaredDistance(x) => x,
        Op::ArgMin(x) => x,
        Op::Blend(x) => x,
        Op::LayerNorm(x) => x,
        Op::UncompiledUnary(x) => x,
        Op::Compare(x) => x,
        Op::Where(x) => x,
        Op::Cast(x) => x,
        Op::Reduce(x) => x,
        Op::Expand(x) => x,
        Op::GatherElements(x) => x,
        Op::ScatterFlat(x) => x,
        Op::TopK(x) => x,
        Op::Cumulate(x) => x,
        Op::Fused(x) => x,
    }
}
