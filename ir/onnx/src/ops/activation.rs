//! Functions of one real: Relu, LeakyRelu, Clip (6, 11, 12, 13), Sigmoid, HardSigmoid, HardSwish.

use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use catc_ir::Op;
use catc_ir::ops::{Identity, Unary};

fn unary(cx: &mut NodeContext, op: Unary) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    one(cx.emit_on(Op::Unary(op), &x)?)
}

pub(super) fn relu(cx: &mut NodeContext) -> RuleResult {
    unary(cx, Unary::Relu)
}

pub(super) fn leaky_relu(cx: &mut NodeContext) -> RuleResult {
    let alpha = cx.float("alpha")?.unwrap_or(0.01);
    unary(cx, Unary::LeakyRelu { alpha })
}

pub(super) fn sigmoid(cx: &mut NodeContext) -> RuleResult {
    unary(cx, Unary::Sigmoid)
}

pub(super) fn hard_sigmoid(cx: &mut NodeContext) -> RuleResult {
    let (alpha, beta) = (cx.float("alpha")?.unwrap_or(0.2), cx.float("beta")?.unwrap_or(0.5));
    unary(cx, Unary::HardSigmoid { alpha, beta })
}

pub(super) fn hard_swish(cx: &mut NodeContext) -> RuleResult {
    unary(cx, Unary::HardSwish)
}

pub(super) fn clip(cx: &mut NodeContext) -> RuleResult {
    // Bounds became inputs in opset 11; the largest numbers stood for none before.
    let (min, max) = if cx.opset < 11 {
        cx.arity(1, 1)?;
        (cx.float("min")?.filter(|x| *x > f32::MIN), cx.float("max")?.filter(|x| *x < f32::MAX))
    } else {
        cx.arity(1, 3)?;
        let mut bound = |i, what| cx.has_input(i).then(|| cx.scalar(i, what)).transpose();
        (bound(1, "min")?, bound(2, "max")?)
    };
    let (min, max) = (min.unwrap_or(f32::NEG_INFINITY), max.unwrap_or(f32::INFINITY));
    if min.is_nan() || max.is_nan() {
        return Err(NodeProblem::invalid(format!("its bounds are {min} and {max}")));
    }
    let x = cx.input(0)?;
    if min == f32::NEG_INFINITY && max == f32::INFINITY {
        return one(cx.emit_on(Op::Identity(Identity), &x)?);
    }
    // The definition lets the upper bound win where they are out of order.
    one(cx.emit_on(Op::Unary(Unary::Clip { min: min.min(max), max }), &x)?)
}
