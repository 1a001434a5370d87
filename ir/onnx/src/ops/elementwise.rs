//! Binary functions: Add, Sub, Mul, Div (6, 7, 13, 14) with numpy broadcasting, which opset 6 enables with attributes; Max, Min,
//! Sum and Mean of any number of inputs; Pow, Mod, PRelu. Operations on small known tensors are folded.

use super::build::{apply, cast_like, combine, real};
use super::reshape::reshaped;
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, axis, one};
use crate::value::Value;
use catc_ir::ops::{Binary, Unary};
use catc_ir::{Dim, Element, Shape};

pub(super) fn add(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Add)
}

pub(super) fn sub(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Sub)
}

pub(super) fn mul(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Mul)
}

pub(super) fn div(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Div)
}

fn operands(cx: &mut NodeContext) -> Result<(Value, Value), NodeProblem> {
    cx.arity(2, 2)?;
    let (a, mut b) = (cx.input(0)?, cx.input(1)?);
    if cx.opset < 7 {
        b = align(cx, &a, b)?;
    }
    Ok((a, b))
}

fn binary(cx: &mut NodeContext, op: Binary) -> RuleResult {
    let (a, b) = operands(cx)?;
    one(combine(cx, op, &a, &b)?)
}

/// Reshapes the second operand of opset 6 for numpy broadcasting. In opset 6 its axes are aligned with those of the first operand
/// from `axis` on, or from the end if `axis` is missing.
fn align(cx: &mut NodeContext, a: &Value, b: Value) -> Result<Value, NodeProblem> {
    let broadcast = cx.flag("broadcast", false)?;
    let (left, right) = (cx.shape(a), cx.shape(&b));
    let Some(first) = cx.int("axis")? else {
        return Ok(b);
    };
    let first = axis(first, left.rank())?;
    let trailing = left.rank().checked_sub(first + right.rank());
    let (true, Some(trailing)) = (broadcast, trailing) else {
        return Err(NodeProblem::attribute("axis", format!("does not align {right} with {left}")));
    };
    let shape = Shape::new(right.dims().iter().copied().chain(std::iter::repeat_n(Dim::Fixed(1), trailing)));
    reshaped(cx, &b, shape)
}

/// Applies a function to all inputs, one after the other.
fn chain(cx: &mut NodeContext, op: Binary) -> Result<Value, NodeProblem> {
    cx.arity(1, usize::MAX)?;
    let mut sum = cx.input(0)?;
    for i in 1..cx.input_count() {
        let next = cx.input(i)?;
        sum = bounded(cx, op, &sum, &next)?;
    }
    Ok(sum)
}

/// Like `combine`, but a maximum or minimum with a single known number becomes a clip.
fn bounded(cx: &mut NodeContext, op: Binary, a: &Value, b: &Value) -> Result<Value, NodeProblem> {
    for (x, bound) in [(a, b), (b, a)] {
        if let (Value::Computed(_), Value::Known(known)) = (x, bound)
            && let Some(&[limit]) = known.as_f32()
            && !limit.is_nan()
            && known.shape().len() <= cx.shape(x).rank()
        {
            let clip = match op {
                Binary::Max => Unary::Clip { min: limit, max: f32::INFINITY },
                Binary::Min => Unary::Clip { min: f32::NEG_INFINITY, max: limit },
                _ => break,
            };
            return apply(cx, clip, x);
        }
    }
    combine(cx, op, a, b)
}

/// Returns the result. With a single input, the result is the input.
fn finished(cx: &mut NodeContext, y: Value) -> RuleResult {
    match cx.input_count() {
        1 => super::layout::same(cx, y),
        _ => one(y),
    }
}

pub(super) fn max(cx: &mut NodeContext) -> RuleResult {
    let y = chain(cx, Binary::Max)?;
    finished(cx, y)
}

pub(super) fn min(cx: &mut NodeContext) -> RuleResult {
    let y = chain(cx, Binary::Min)?;
    finished(cx, y)
}

pub(super) fn sum(cx: &mut NodeContext) -> RuleResult {
    let y = chain(cx, Binary::Add)?;
    finished(cx, y)
}

pub(super) fn mean(cx: &mut NodeContext) -> RuleResult {
    let y = chain(cx, Binary::Add)?;
    let count = real(cx.input_count() as f32);
    one(combine(cx, Binary::Div, &y, &count)?)
}

/// Powers that can be expressed with a few products or a square root are translated to these.
pub(super) fn pow(cx: &mut NodeContext) -> RuleResult {
    let (a, b) = operands(cx)?;
    let exponent = match &b {
        Value::Known(k) if k.len() == 1 && k.shape().len() <= cx.shape(&a).rank() => match k.as_f32() {
            Some(&[x]) => Some(x),
            _ => k.as_sizes().and_then(|s| s[0].fixed()).map(|n| n as f32),
        },
        _ => None,
    };
    if cx.element(&a) == Element::F32
        && let Some(x) = exponent
    {
        if x == 1.0 {
            return super::layout::same(cx, a);
        } else if x == 2.0 {
            return one(combine(cx, Binary::Mul, &a, &a)?);
        } else if x == 3.0 {
            let square = combine(cx, Binary::Mul, &a, &a)?;
            return one(combine(cx, Binary::Mul, &square, &a)?);
        } else if x == 0.5 {
            return one(apply(cx, Unary::Sqrt, &a)?);
        } else if x == -1.0 {
            return one(combine(cx, Binary::Div, &real(1.0), &a)?);
        } else if x == -0.5 {
            let root = apply(cx, Unary::Sqrt, &a)?;
            return one(combine(cx, Binary::Div, &real(1.0), &root)?);
        }
    }
    if cx.element(&a) == Element::I64 && cx.element(&b) == Element::F32 {
        let x = super::build::cast(cx, &a, catc_ir::ops::CastTo::F32)?;
        let y = combine(cx, Binary::Pow, &x, &b)?;
        return one(cast_like(cx, &y, &a)?);
    }
    let b = cast_like(cx, &b, &a)?;
    one(combine(cx, Binary::Pow, &a, &b)?)
}

pub(super) fn modulo(cx: &mut NodeContext) -> RuleResult {
    let fmod = cx.flag("fmod", false)?;
    let (a, b) = operands(cx)?;
    one(combine(cx, if fmod { Binary::Fmod } else { Binary::Mod }, &a, &b)?)
}

/// `max(x, 0) + slope * min(x, 0)`.
pub(super) fn prelu(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let (x, mut slope) = (cx.input(0)?, cx.input(1)?);
    if cx.opset < 9 && cx.shape(&slope).rank() == 1 && cx.shape(&x).rank() > 1 {
        // In these opsets the slopes belong to the channels, which are axis 1.
        let trailing = cx.shape(&x).rank().saturating_sub(2);
        let shape = Shape::new(cx.shape(&slope).dims().iter().copied().chain(vec![Dim::Fixed(1); trailing]));
        slope = reshaped(cx, &slope, shape)?;
    }
    let above = apply(cx, Unary::Relu, &x)?;
    let below = apply(cx, Unary::Clip { min: f32::NEG_INFINITY, max: 0.0 }, &x)?;
    let below = combine(cx, Binary::Mul, &below, &slope)?;
    one(combine(cx, Binary::Add, &above, &below)?)
}
