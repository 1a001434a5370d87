//! MaxPool (1 to 22), AveragePool (1 to 22) and the global poolings.

use super::window::{WindowAttributes, lift, lower, picture, spatial_rank};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use catc_ir::Op;
use catc_ir::ops::{AvgPool, MaxPool, ReduceMean, Window};

/// A pooling whose operation is made from its window.
fn pool(cx: &mut NodeContext, what: &str, op: impl Fn(Window) -> Op) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let spatial = spatial_rank(&shape, what)?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let Some(kernel) = attributes.kernel else {
        return Err(NodeProblem::attribute("kernel_shape", "is missing"));
    };
    let window = attributes.window(kernel, picture(&shape)?, ceil_mode);
    let x = lift(cx, x)?;
    let y = cx.emit_on(op(window), &x)?;
    one(lower(cx, y, spatial)?)
}

pub(super) fn max_pool(cx: &mut NodeContext) -> RuleResult {
    // It orders the second output only, which is not computed.
    cx.ignore("storage_order");
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

pub(super) fn global_max_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let spatial = spatial_rank(&shape, "a pooling")?;
    let kernel = picture(&shape)?;
    let x = lift(cx, x)?;
    let window = Window { kernel, strides: [1, 1], pads: [0; 4], dilations: [1, 1], ceil_mode: false };
    let y = cx.emit_on(Op::MaxPool(MaxPool(window)), &x)?;
    one(lower(cx, y, spatial)?)
}
