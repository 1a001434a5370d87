//! Operators of ONNX Runtime's own domain, `com.microsoft`. Its quantizer writes them instead of QuantizeLinear and
//! DequantizeLinear around an operator (the format `QOperator`). Each becomes the f32 operation between dequantize and quantize
//! nodes. ONNX Runtime rounds sums of codes once, like catc.

use super::activation;
use super::build::{Built, apply, combine, concat, mean};
use super::codes::{Place, codes_of, reals_of};
use super::norm::soft_max;
use super::pool::pool_of;
use super::qlinear::bias;
use super::quant::{dequantize_linear, quantize_linear};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, axes, axis, one};
use crate::proto::tensor_proto::DataType;
use crate::value::Value;
use catc_ir::Op;
use catc_ir::ops::{AvgPool, Binary, Unary};

/// The rule of an operator.
pub(super) fn rule(op: &str) -> Option<fn(&mut NodeContext) -> RuleResult> {
    Some(match op {
        "DequantizeLinear" => dequantize_linear,
        "Gelu" => activation::gelu,
        "QGemm" => gemm,
        "QLinearAdd" => |cx| of_two(cx, Binary::Add),
        "QLinearAveragePool" => average_pool,
        "QLinearConcat" => concatenation,
        "QLinearGlobalAveragePool" => global_average_pool,
        "QLinearLeakyRelu" => leaky_relu,
        "QLinearMul" => |cx| of_two(cx, Binary::Mul),
        "QLinearReduceMean" => reduce_mean,
        "QLinearSigmoid" => |cx| of_one(cx, |cx, x| apply(cx, Unary::Sigmoid, x)),
        "QLinearSoftmax" => softmax,
        "QuantizeLinear" => quantize_linear,
        _ => return None,
    })
}

/// Quantizes `y` with the scale in input `at` and the zero point in the next input. Without a zero point the codes are u8.
fn codes(cx: &mut NodeContext, y: &Value, at: usize) -> Built {
    codes_of(cx, y, Place::at(at, 1), DataType::Uint8)
}

/// Applies a function to the dequantized first input, and quantizes the result.
fn of_one(cx: &mut NodeContext, f: impl FnOnce(&mut NodeContext, &Value) -> Built) -> RuleResult {
    cx.arity(4, 5)?;
    let x = reals_of(cx, 0, Place::at(1, 1))?;
    let y = f(cx, &x)?;
    one(codes(cx, &y, 3)?)
}

fn of_two(cx: &mut NodeContext, f: Binary) -> RuleResult {
    cx.arity(7, 8)?;
    let (a, b) = (reals_of(cx, 0, Place::at(1, 1))?, reals_of(cx, 3, Place::at(4, 1))?);
    let y = combine(cx, f, &a, &b)?;
    one(codes(cx, &y, 6)?)
}

fn leaky_relu(cx: &mut NodeContext) -> RuleResult {
    let alpha = cx.float("alpha")?.unwrap_or(0.01);
    of_one(cx, |cx, x| apply(cx, Unary::LeakyRelu { alpha }, x))
}

fn softmax(cx: &mut NodeContext) -> RuleResult {
    // The node has an attribute with the opset of the original softmax.
    let (written, opset) = (cx.int("axis")?, cx.int("opset")?.unwrap_or(cx.opset));
    of_one(cx, |cx, x| soft_max(cx, x, written, opset))
}

fn channels_first(cx: &mut NodeContext) -> Result<(), NodeProblem> {
    match cx.flag("channels_last", false)? {
        true => Err(NodeProblem::unsupported("its channels are the last axis (channels_last)")),
        false => Ok(()),
    }
}

fn average_pool(cx: &mut NodeContext) -> RuleResult {
    channels_first(cx)?;
    let count_include_pad = cx.flag("count_include_pad", false)?;
    let op = |window| Op::AvgPool(AvgPool { window, count_include_pad });
    of_one(cx, |cx, x| pool_of(cx, x.clone(), "a pooling", op))
}

fn global_average_pool(cx: &mut NodeContext) -> RuleResult {
    channels_first(cx)?;
    of_one(cx, |cx, x| {
        let rank = cx.shape(x).rank();
        mean(cx, x, (2..rank).collect(), true)
    })
}

fn reduce_mean(cx: &mut NodeContext) -> RuleResult {
    let (list, keep_dims) = (cx.ints("axes")?.unwrap_or_default(), cx.flag("keepdims", true)?);
    of_one(cx, |cx, x| {
        let rank = cx.shape(x).rank();
        let over = if list.is_empty() { (0..rank).collect() } else { axes(list, rank)? };
        mean(cx, x, over, keep_dims)
    })
}

/// The first two inputs are the scale and zero point of the output. Three inputs follow for each part.
fn concatenation(cx: &mut NodeContext) -> RuleResult {
    cx.arity(4, usize::MAX)?;
    let parts: Vec<Value> =
        (2..cx.input_count()).step_by(3).map(|i| reals_of(cx, i, Place::at(i + 1, 1))).collect::<Result<_, _>>()?;
    let Some(written) = cx.int("axis")? else { return Err(NodeProblem::attribute("axis", "is missing")) };
    let at = axis(written, cx.shape(&parts[0]).rank())?;
    let y = concat(cx, &parts, at)?;
    one(codes(cx, &y, 0)?)
}

/// A Gemm on codes. Without a scale of the output, the result is f32.
fn gemm(cx: &mut NodeContext) -> RuleResult {
    cx.arity(5, 9)?;
    let a = reals_of(cx, 0, Place::at(1, 1))?;
    // There is one scale for each output, along the axis of the outputs.
    let outputs = if cx.flag("transB", false)? { 0 } else { 1 };
    let b = reals_of(cx, 3, Place::at(4, outputs))?;
    let c = cx.has_input(6).then(|| bias(cx, 6, [1, 4])).transpose()?;
    if c.is_some() && cx.float("alpha")?.is_some_and(|alpha| alpha != 1.0) {
        return Err(NodeProblem::unsupported("its bias is scaled by `alpha`"));
    }
    let y = super::linear::product(cx, a, b, c)?;
    if !cx.has_input(7) {
        return Ok(y);
    }
    one(codes(cx, &y[0], 7)?)
}
