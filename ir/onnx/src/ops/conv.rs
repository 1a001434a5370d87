//! Conv (1, 11, 22): in one and two dimensions.

use super::window::{WindowAttributes, lift, lower, picture, spatial_rank};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use catc_ir::Op;
use catc_ir::ops::Conv2d;

pub(super) fn conv(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let spatial = spatial_rank(&cx.shape(&x), "a convolution")?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let groups = match cx.int("group")?.map_or(Ok(1), usize::try_from) {
        Ok(n) if n > 0 => n,
        _ => return Err(NodeProblem::attribute("group", "must be at least 1")),
    };
    let weights = cx.shape(&w);
    if weights.rank() != spatial + 2 {
        return Err(NodeProblem::input(1, format!("has shape {weights}, {} dimensions are needed", spatial + 2)));
    }
    let input = picture(&cx.shape(&x))?;
    let kernel = picture(&weights).map_err(|_| NodeProblem::input(1, format!("has shape {weights}")))?;
    if attributes.kernel.is_some_and(|k| k != kernel) {
        return Err(NodeProblem::attribute("kernel_shape", format!("does not fit weights of shape {weights}")));
    }
    if kernel.contains(&0) {
        return Err(NodeProblem::input(1, format!("has shape {weights}, which is empty")));
    }
    let (x, w) = (lift(cx, x)?, lift(cx, w)?);
    let mut operands = vec![cx.operand(0, &x)?, cx.operand(1, &w)?];
    if cx.has_input(2) {
        operands.push(cx.input_operand(2)?);
    }
    let window = attributes.window(kernel, input, false);
    let op = Conv2d { strides: window.strides, pads: window.pads, dilations: window.dilations, groups };
    let y = cx.emit(Op::Conv2d(op), &operands)?;
    one(lower(cx, y, spatial)?)
}
