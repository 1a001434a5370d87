//! MaxPool (1 to 22), AveragePool (1 to 22), LpPool (2 to 22) and the global poolings.

use super::build::{Built, apply, combine, real};
use super::volume;
use super::window::{WindowAttributes, lift, lower, picture, spatial_rank};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::value::Value;
use catc_ir::ops::{AvgPool, Binary, CastTo, MaxPool, Reduce, ReduceMean, Reduction, Unary, Window};
use catc_ir::{Dim, Op};

/// A pooling whose operation is made from its window.
fn pool(cx: &mut NodeContext, what: &str, op: impl Fn(Window) -> Op) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    one(pool_of(cx, x, what, op)?)
}

/// The same of a value other than the input.
fn pool_of(cx: &mut NodeContext, x: Value, what: &str, op: impl Fn(Window) -> Op) -> Built {
    let shape = cx.shape(&x);
    if let &[_, _, Dim::Fixed(d), Dim::Fixed(h), Dim::Fixed(w)] = shape.dims() {
        let ceil_mode = cx.flag("ceil_mode", false)?;
        let window = volume::window(cx, None, [d, h, w], ceil_mode)?;
        return volume::pool(cx, &x, &window, op);
    }
    let spatial = spatial_rank(&shape, what)?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let Some(kernel) = attributes.kernel else {
        return Err(NodeProblem::attribute("kernel_shape", "is missing"));
    };
    let window = attributes.window(kernel, picture(&shape)?, ceil_mode);
    let x = lift(cx, x)?;
    let y = cx.emit_on(op(window), &x)?;
    lower(cx, y, spatial)
}

/// `(sum of |x|^p over the window)^(1/p)`: an average that counts the padding, times the size of the window.
pub(super) fn lp_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    // Opset 1 had a real here.
    let p = cx.int("p")?.unwrap_or(2);
    if p < 1 {
        return Err(NodeProblem::attribute("p", "must be at least 1"));
    }
    if cx.flag("ceil_mode", false)? {
        return Err(NodeProblem::unsupported("its last windows may stick out (ceil_mode)"));
    }
    let size: i64 = cx.ints("kernel_shape")?.unwrap_or_default().iter().product();
    let x = cx.input(0)?;
    let x = apply(cx, Unary::Abs, &x)?;
    let powers = match p {
        1 => x,
        2 => combine(cx, Binary::Mul, &x, &x)?,
        p => combine(cx, Binary::Pow, &x, &real(p as f32))?,
    };
    let mean = |window| Op::AvgPool(AvgPool { window, count_include_pad: true });
    let mean = pool_of(cx, powers, "a pooling", mean)?;
    let sum = combine(cx, Binary::Mul, &mean, &real(size as f32))?;
    one(match p {
        1 => sum,
        2 => apply(cx, Unary::Sqrt, &sum)?,
        p => combine(cx, Binary::Pow, &sum, &real(1.0 / p as f32))?,
    })
}

pub(super) fn max_pool(cx: &mut NodeContext) -> RuleResult {
    // It orders the second output only, which is not computed.
    cx.ignore("storage_order");
    if let Ok(x) = cx.input(0)
        && cx.element(&x) == catc_ir::Element::I64
    {
        return whole_numbers(cx, x);
    }
    pool(cx, "a pooling", |w| Op::MaxPool(MaxPool(w)))
}

pub(super) fn average_pool(cx: &mut NodeContext) -> RuleResult {
    let count_include_pad = cx.flag("count_include_pad", false)?;
    pool(cx, "a pooling", |window| Op::AvgPool(AvgPool { window, count_include_pad }))
}

pub(super) fn global_average_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    if shape.rank() < 3 {
        return Err(NodeProblem::input(0, format!("has shape {shape}, [N,C,..] is needed")));
    }
    one(cx.emit_on(Op::ReduceMean(ReduceMean { axes: (2..shape.rank()).collect(), keep_dims: true }), &x)?)
}

/// The maximum over windows of whole numbers, by way of reals.
fn whole_numbers(cx: &mut NodeContext, x: Value) -> RuleResult {
    let spatial = spatial_rank(&cx.shape(&x), "a pooling")?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let Some(kernel) = attributes.kernel else {
        return Err(NodeProblem::attribute("kernel_shape", "is missing"));
    };
    let window = attributes.window(kernel, picture(&cx.shape(&x))?, ceil_mode);
    let real = super::build::cast(cx, &x, CastTo::F32)?;
    let real = lift(cx, real)?;
    let y = cx.emit_on(Op::MaxPool(MaxPool(window)), &real)?;
    let y = lower(cx, y, spatial)?;
    one(super::build::cast(cx, &y, CastTo::I64)?)
}

pub(super) fn global_max_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    if shape.rank() > 4 {
        let axes = (2..shape.rank()).collect();
        let max = Reduce { kind: Reduction::Max, axes, keep_dims: true };
        return one(cx.emit_on(Op::Reduce(max), &x)?);
    }
    let spatial = spatial_rank(&shape, "a pooling")?;
    let kernel = picture(&shape)?;
    let x = lift(cx, x)?;
    let window = Window { kernel, strides: [1, 1], pads: [0; 4], dilations: [1, 1], ceil_mode: false };
    let y = cx.emit_on(Op::MaxPool(MaxPool(window)), &x)?;
    one(lower(cx, y, spatial)?)
}
