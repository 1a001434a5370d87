//! Comparison, logic and selection: Equal, Less, Greater, And, Or, Xor, Not, Where, IsNaN, IsInf, CastLike.

use super::build::{apply, cast_like, choose, combine, compare, not, real};
use crate::node::{NodeContext, RuleResult, one};
use catc_ir::ops::{Binary, Compare, Unary};

fn pair(cx: &mut NodeContext, f: Compare) -> RuleResult {
    cx.arity(2, 2)?;
    if cx.opset < 7 {
        cx.ignore("broadcast");
        cx.ignore("axis");
    }
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    one(compare(cx, f, &a, &b)?)
}

macro_rules! rules {
    ($($name:ident: $f:expr;)*) => {
        $(pub(super) fn $name(cx: &mut NodeContext) -> RuleResult {
            pair(cx, $f)
        })*
    };
}

rules! {
    equal: Compare::Equal;
    less: Compare::Less;
    less_equal: Compare::LessEqual;
    greater: Compare::Greater;
    greater_equal: Compare::GreaterEqual;
    and: Compare::And;
    or: Compare::Or;
    xor: Compare::Xor;
}

pub(super) fn negate(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    one(not(cx, &x)?)
}

pub(super) fn select(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let (condition, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    one(choose(cx, &condition, &a, &b)?)
}

/// NaN is the only value that is not equal to itself.
pub(super) fn is_nan(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let same = compare(cx, Compare::Equal, &x, &x)?;
    one(not(cx, &same)?)
}

pub(super) fn is_inf(cx: &mut NodeContext) -> RuleResult {
    let (positive, negative) = (cx.flag("detect_positive", true)?, cx.flag("detect_negative", true)?);
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let x = match (positive, negative) {
        (true, true) => apply(cx, Unary::Abs, &x)?,
        (true, false) => x,
        (false, true) => combine(cx, Binary::Mul, &x, &real(-1.0))?,
        (false, false) => combine(cx, Binary::Mul, &x, &real(0.0))?,
    };
    one(compare(cx, Compare::Equal, &x, &real(f32::INFINITY))?)
}

pub(super) fn cast_to_like(cx: &mut NodeContext) -> RuleResult {
    cx.ignore("saturate");
    cx.ignore("round_mode");
    cx.arity(2, 2)?;
    if let Some(to) = cx.input_type(1) {
        return super::constant::cast_to(cx, to as i64);
    }
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let y = cast_like(cx, &x, &like)?;
    super::layout::same(cx, y)
}
