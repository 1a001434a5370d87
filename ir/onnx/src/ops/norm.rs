//! BatchNormalization (6, 7, 9, 14, 15) and Softmax (1, 11, 13).

use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, axis, one};
use catc_ir::ops::{BatchNorm, Reshape, Softmax};
use catc_ir::{Dim, Op, Shape};

pub(super) fn batch_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(5, 5)?;
    let eps = cx.float("epsilon")?.unwrap_or(1e-5);
    // The weight of the running mean in training.
    cx.ignore("momentum");
    if cx.opset < 7 && !cx.flag("is_test", false)? {
        return Err(NodeProblem::unsupported(
            "attribute `is_test` is 0: statistics of the batch (export for inference)",
        ));
    }
    if cx.opset < 9 && !cx.flag("spatial", true)? {
        return Err(NodeProblem::unsupported("attribute `spatial` is 0: one mean for each pixel"));
    }
    if cx.opset >= 14 && cx.flag("training_mode", false)? {
        return Err(NodeProblem::unsupported(
            "attribute `training_mode` is 1: statistics of the batch (export for inference)",
        ));
    }
    let operands = (0..5).map(|i| cx.input_operand(i)).collect::<Result<Vec<_>, _>>()?;
    one(cx.emit(Op::BatchNorm(BatchNorm { eps }), &operands)?)
}

pub(super) fn softmax(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let written = cx.int("axis")?.unwrap_or(if cx.opset < 13 { 1 } else { -1 });
    let first = axis(written, shape.rank())?;
    let after = &shape.dims()[first + 1..];
    if cx.opset >= 13 || after.iter().all(|d| *d == Dim::Fixed(1)) {
        return one(cx.emit_on(Op::Softmax(Softmax { axis: first }), &x)?);
    }
    // Before opset 13 it runs over all axes from `axis` on as if they were one.
    let Some((rest, 0)) = Shape::new(shape.dims()[first..].iter().copied()).volume() else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    let joined = Shape::new(shape.dims()[..first].iter().copied().chain([Dim::Fixed(rest)]));
    let flat = cx.emit_on(Op::Reshape(Reshape { shape: joined }), &x)?;
    let flat = cx.emit_on(Op::Softmax(Softmax { axis: first }), &flat)?;
    one(cx.emit_on(Op::Reshape(Reshape { shape }), &flat)?)
}
