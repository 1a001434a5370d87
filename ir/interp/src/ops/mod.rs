//! The rules of the operations, one file a family, as in [`catc_ir::ops`].
//!
//! To add an operation: implement [`Rule`] for its attribute struct in the file of its family, and name it in [`rule`].

mod cat;
mod conv;
mod elementwise;
mod fused;
mod linear;
mod norm;
mod pool;
mod quant;
mod reduce;
mod shape;

use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::{Graph, Node, Op, Tensor};
use std::sync::Arc;

/// What a rule computes once from the constants of a node.
#[derive(Clone, Default)]
pub(crate) enum Prepared {
    /// Nothing.
    #[default]
    Nothing,
    /// Weights of a fused node as reals.
    Weights(Arc<fused::Weights>),
}

/// How an operation is evaluated.
pub(crate) trait Rule {
    /// What can be computed once from the node's constants.
    fn prepare(&self, _graph: &Graph, _node: &Node) -> Prepared {
        Prepared::Nothing
    }

    /// Computes the output, which has at least one element, from inputs that have the types of the node's operands.
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError>;
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
        Op::Fused(x) => x,
    }
}
