//! Add, Sub, Mul, Div (6, 7, 13, 14), with numpy broadcasting, which opset 6 asked for by attributes. Between known
//! tensors they are worked out here.

use super::reshape::reshaped;
use crate::error::NodeProblem;
use crate::fold::{FOLD_ELEMENTS, zip, zip_sizes};
use crate::node::{NodeContext, RuleResult, axis, one};
use crate::size::Size;
use crate::value::{Known, Value};
use catc_ir::ops::Binary;
use catc_ir::{Dim, Element, Op, Shape, Tensor};

pub(super) fn add(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Add, Size::add)
}

pub(super) fn sub(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Sub, Size::sub)
}

pub(super) fn mul(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Mul, Size::mul)
}

pub(super) fn div(cx: &mut NodeContext) -> RuleResult {
    binary(cx, Binary::Div, Size::div)
}

fn binary(cx: &mut NodeContext, op: Binary, on_sizes: fn(Size, Size) -> Option<Size>) -> RuleResult {
    cx.arity(2, 2)?;
    let (a, mut b) = (cx.input(0)?, cx.input(1)?);
    if cx.opset < 7 {
        b = align(cx, &a, b)?;
    }
    if let (Value::Known(a), Value::Known(b)) = (&a, &b)
        && let Some(folded) = fold(a, b, op, on_sizes)?
    {
        return one(folded);
    }
    for (i, v) in [&a, &b].into_iter().enumerate() {
        match cx.element(v) {
            Element::F32 => {}
            Element::I64 => {
                return Err(NodeProblem::unsupported(format!("input {i} holds whole numbers computed from data")));
            }
            _ => return Err(NodeProblem::input(i, "holds no numbers")),
        }
    }
    let operands = [cx.operand(0, &a)?, cx.operand(1, &b)?];
    one(cx.emit(Op::Binary(op), &operands)?)
}

/// The second operand of opset 6 as numpy broadcasting needs it: its axes were aligned with those of the first from
/// `axis` on, where that was given, and from the end otherwise.
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

/// The result for small known tensors; large reals are left to the graph.
fn fold(
    a: &Known,
    b: &Known,
    op: Binary,
    on_sizes: fn(Size, Size) -> Option<Size>,
) -> Result<Option<Known>, NodeProblem> {
    let no_fit =
        || NodeProblem::input(1, format!("has shape {}, which does not broadcast with {}", b.ir_shape(), a.ir_shape()));
    let elements = a.ir_shape().broadcast(&b.ir_shape()).ok_or_else(no_fit)?.volume().map(|(n, _)| n);
    if elements.is_none_or(|n| n > FOLD_ELEMENTS) {
        return Ok(None);
    }
    if let (Some(x), Some(y)) = (a.as_f32(), b.as_f32()) {
        let (shape, items) = zip((a.shape(), x), (b.shape(), y), |p, q| op.apply(p, q)).ok_or_else(no_fit)?;
        return Ok(Some(Tensor::f32(&shape, items).into()));
    }
    match zip_sizes(a, b, on_sizes) {
        None => Ok(None),
        Some(result) => result.map(Some).map_err(|pair| {
            NodeProblem::unsupported(format!("its result for {pair} is no multiple of the batch size N nor a number"))
        }),
    }
}
