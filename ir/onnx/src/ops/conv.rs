//! Conv (1, 11, 22) in one, two and three dimensions.

use super::build::Built;
use super::volume;
use super::window::{WindowAttributes, lift, lower, picture, spatial_rank};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::value::Value;
use catc_ir::ops::Conv2d;
use catc_ir::{Dim, Op};

pub(super) fn conv(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let bias = if cx.has_input(2) { Some(cx.input(2)?) } else { None };
    one(convolution(cx, x, w, bias)?)
}

/// Builds the convolution of two values with the attributes of the node.
pub(super) fn convolution(cx: &mut NodeContext, x: Value, w: Value, bias: Option<Value>) -> Built {
    let shape = cx.shape(&x);
    let groups = match cx.int("group")?.map_or(Ok(1), usize::try_from) {
        Ok(n) if n > 0 => n,
        _ => return Err(NodeProblem::attribute("group", "must be at least 1")),
    };
    let weights = cx.shape(&w);
    if weights.rank() != shape.rank() {
        let rank = shape.rank();
        return Err(NodeProblem::input(1, format!("has shape {weights}, {rank} dimensions are needed")));
    }
    if let &[_, _, Dim::Fixed(d), Dim::Fixed(h), Dim::Fixed(width)] = shape.dims() {
        let Some(&[_, _, kd, kh, kw]) = weights.as_fixed().as_deref() else {
            return Err(NodeProblem::input(1, format!("has shape {weights}")));
        };
        let window = volume::window(cx, Some([kd, kh, kw]), [d, h, width], false)?;
        return volume::conv(cx, &x, &w, bias, &window, groups);
    }
    let spatial = spatial_rank(&shape, "a convolution")?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let input = picture(&shape)?;
    let kernel = picture(&weights).map_err(|_| NodeProblem::input(1, format!("has shape {weights}")))?;
    if attributes.kernel.is_some_and(|k| k != kernel) {
        return Err(NodeProblem::attribute("kernel_shape", format!("does not fit weights of shape {weights}")));
    }
    if kernel.contains(&0) {
        return Err(NodeProblem::input(1, format!("has shape {weights}, which is empty")));
    }
    let (x, w) = (lift(cx, x)?, lift(cx, w)?);
    let mut operands = vec![cx.operand(0, &x)?, cx.operand(1, &w)?];
    if let Some(bias) = bias {
        operands.push(cx.operand(2, &bias)?);
    }
    let window = attributes.window(kernel, input, false);
    let op = Conv2d { strides: window.strides, pads: window.pads, dilations: window.dilations, groups };
    let y = cx.emit(Op::Conv2d(op), &operands)?;
    lower(cx, y, spatial)
}
