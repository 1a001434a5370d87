//! Unary functions: the import of the functions in the table (`unary`), and of functions that are composed of others.

use super::build::{Built, apply, choose, combine, compare, real};
use super::codes::clipped_codes;
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, Compare, Identity, Unary, UncompiledUnary};
use catc_ir::{Element, Op, Tensor};

fn only_input(cx: &mut NodeContext) -> Built {
    cx.arity(1, 1)?;
    cx.input(0)
}

/// Translates a function that can be compiled.
pub(super) fn unary(cx: &mut NodeContext, f: Unary) -> RuleResult {
    if cx.opset < 6 {
        cx.ignore("consumed_inputs");
    }
    let x = only_input(cx)?;
    one(apply(cx, f, &x)?)
}

/// Translates a function that is evaluated only.
pub(super) fn evaluated(cx: &mut NodeContext, f: UncompiledUnary) -> RuleResult {
    let x = only_input(cx)?;
    if let Some(known) = super::build::small(&x)
        && let Some(items) = known.as_f32()
    {
        return one(super::build::reals(known.shape(), items.iter().map(|&x| f.apply(x)).collect()));
    }
    let real = super::build::cast(cx, &x, catc_ir::ops::CastTo::F32)?;
    let y = cx.emit_on(Op::UncompiledUnary(f), &real)?;
    one(super::build::cast_like(cx, &y, &x)?)
}

pub(super) fn neg(cx: &mut NodeContext) -> RuleResult {
    let x = only_input(cx)?;
    let minus = if cx.element(&x) == Element::I64 { super::build::whole(-1) } else { real(-1.0) };
    one(combine(cx, Binary::Mul, &x, &minus)?)
}

pub(super) fn reciprocal(cx: &mut NodeContext) -> RuleResult {
    let x = only_input(cx)?;
    one(combine(cx, Binary::Div, &real(1.0), &x)?)
}

pub(super) fn gelu(cx: &mut NodeContext) -> RuleResult {
    let tanh = match cx.word("approximate")?.unwrap_or("none") {
        "none" => false,
        "tanh" => true,
        other => return Err(NodeProblem::attribute("approximate", format!("is {other:?}, which is not defined"))),
    };
    let x = only_input(cx)?;
    one(apply(cx, if tanh { Unary::GeluTanh } else { Unary::Gelu }, &x)?)
}

/// `x * sigmoid(alpha x)`.
pub(super) fn swish(cx: &mut NodeContext) -> RuleResult {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let x = only_input(cx)?;
    if alpha == 1.0 {
        return one(apply(cx, Unary::Silu, &x)?);
    }
    let inner = combine(cx, Binary::Mul, &x, &real(alpha))?;
    let gate = apply(cx, Unary::Sigmoid, &inner)?;
    one(combine(cx, Binary::Mul, &x, &gate)?)
}

pub(super) fn thresholded_relu(cx: &mut NodeContext) -> RuleResult {
    let alpha = cx.float("alpha")?.unwrap_or(1.0);
    let x = only_input(cx)?;
    let above = compare(cx, Compare::Greater, &x, &real(alpha))?;
    one(choose(cx, &above, &x, &real(0.0))?)
}

pub(super) fn shrink(cx: &mut NodeContext) -> RuleResult {
    let (lambd, bias) = (cx.float("lambd")?.unwrap_or(0.5), cx.float("bias")?.unwrap_or(0.0));
    let x = only_input(cx)?;
    let (high, low) = (combine(cx, Binary::Sub, &x, &real(bias))?, combine(cx, Binary::Add, &x, &real(bias))?);
    let above = compare(cx, Compare::Greater, &x, &real(lambd))?;
    let below = compare(cx, Compare::Less, &x, &real(-lambd))?;
    let rest = choose(cx, &below, &low, &real(0.0))?;
    one(choose(cx, &above, &high, &rest)?)
}

pub(super) fn clip(cx: &mut NodeContext) -> RuleResult {
    // The bounds became inputs in opset 11. Before, the largest and smallest f32 meant that there is no bound.
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
    let x = cx.moved_input(0)?;
    if cx.file_codes(&x).is_some()
        && let Some(codes) = clipped_codes(cx, &x, min, max)?
    {
        return one(codes);
    }
    let x = cx.input(0)?;
    if let Value::Known(Known::Tensor(tensor)) = &x
        && let Some(items) = tensor.as_i64()
        && cx.folds(&Known::Tensor(tensor.clone()), items.len())
    {
        // For integer data the bounds are integers. f32 represents them exactly if the type is a type of codes.
        let clipped = items.iter().map(|&n| n.max(min as i64).min(max as i64)).collect();
        return one(Known::from(Tensor::i64(tensor.shape(), clipped)));
    }
    if min == f32::NEG_INFINITY && max == f32::INFINITY {
        return one(cx.emit_on(Op::Identity(Identity), &x)?);
    }
    // If the bounds are out of order, the ONNX definition uses the upper bound.
    one(apply(cx, Unary::Clip { min: min.min(max), max }, &x)?)
}
