//! Normalizations: Batch (6, 7, 9, 14, 15), Layer, RMS, Instance, Group, LRN, Lp, MeanVariance; Softmax (1, 11, 13) and
//! LogSoftmax.

use super::build::{Built, apply, combine, mean, real, reshape};
use crate::error::NodeProblem;
use crate::node::{NodeContext, Outputs, RuleResult, axis, one};
use crate::value::{Known, Value};
use catc_ir::ops::{AvgPool, BatchNorm, Binary, LayerNorm, ReduceMean, Reshape, Softmax, Unary, Window};
use catc_ir::{Dim, Op, Shape};

pub(super) fn batch_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(5, 5)?;
    let eps = cx.float("epsilon")?.unwrap_or(1e-5);
    let momentum = cx.float("momentum")?.unwrap_or(0.9);
    if cx.opset < 7 && !cx.flag("is_test", false)? {
        return Err(NodeProblem::unsupported(
            "attribute `is_test` is 0: statistics of the batch (export for inference)",
        ));
    }
    if cx.opset < 9 && !cx.flag("spatial", true)? {
        return Err(NodeProblem::unsupported("attribute `spatial` is 0: one mean for each pixel"));
    }
    if cx.opset >= 14 && cx.flag("training_mode", false)? {
        return in_training(cx, eps, momentum);
    }
    let operands = (0..5).map(|i| cx.input_operand(i)).collect::<Result<Vec<_>, _>>()?;
    one(cx.emit(Op::BatchNorm(BatchNorm { eps }), &operands)?)
}

/// Batch normalization in training mode. It uses the statistics of the batch, whose size must be fixed, and also outputs the
/// running mean and variance.
fn in_training(cx: &mut NodeContext, eps: f32, momentum: f32) -> RuleResult {
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let (n, c, _) = channels(&shape)?;
    if n.fixed().is_none() {
        return Err(NodeProblem::unsupported(
            "attribute `training_mode` is 1: statistics of the batch (export for inference)",
        ));
    }
    let axes: Vec<usize> = (0..shape.rank()).filter(|&a| a != 1).collect();
    let average = mean(cx, &x, axes.clone(), true)?;
    let distance = combine(cx, Binary::Sub, &x, &average)?;
    let square = combine(cx, Binary::Mul, &distance, &distance)?;
    let variance = mean(cx, &square, axes, true)?;
    let steadied = combine(cx, Binary::Add, &variance, &real(eps))?;
    let deviation = apply(cx, Unary::Sqrt, &steadied)?;
    let y = combine(cx, Binary::Div, &distance, &deviation)?;
    let (scale, bias) = (cx.input(1)?, cx.input(2)?);
    let mut outputs = Outputs::from_vec(vec![per_channel(cx, y, scale, bias)?]);
    for (i, found) in [(3, average), (4, variance)] {
        let found = reshape(cx, &found, Shape::fixed(&[c]))?;
        let found = combine(cx, Binary::Mul, &found, &real(1.0 - momentum))?;
        let before = cx.input(i)?;
        let before = combine(cx, Binary::Mul, &before, &real(momentum))?;
        outputs.push(combine(cx, Binary::Add, &before, &found)?);
    }
    Ok(outputs)
}

pub(super) fn softmax(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let axis = cx.int("axis")?;
    one(soft_max(cx, &x, axis, cx.opset)?)
}

/// `(x - max) - log(sum(exp(x - max)))`. Unlike the logarithm of a softmax, this does not lose small probabilities.
pub(super) fn log_softmax(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let written = cx.int("axis")?.unwrap_or(if cx.opset < 13 { 1 } else { -1 });
    let first = axis(written, shape.rank())?;
    let axes: Vec<usize> = if cx.opset < 13 { (first..shape.rank()).collect() } else { vec![first] };
    let count = axes.iter().try_fold(1usize, |n, &a| n.checked_mul(shape.dims()[a].fixed()?));
    let Some(count) = count else { return Err(NodeProblem::unsupported("it runs over the batch")) };
    let top = super::reduce::largest(cx, &x, &axes, true)?;
    let x = combine(cx, Binary::Sub, &x, &top)?;
    let e = apply(cx, Unary::Exp, &x)?;
    let sum = mean(cx, &e, axes, true)?;
    let sum = combine(cx, Binary::Mul, &sum, &real(count as f32))?;
    let log = apply(cx, Unary::Log, &sum)?;
    one(combine(cx, Binary::Sub, &x, &log)?)
}

/// Builds the softmax as an opset defines it.
pub(super) fn soft_max(cx: &mut NodeContext, x: &Value, written: Option<i64>, opset: i64) -> Built {
    let shape = cx.shape(x);
    let first = axis(written.unwrap_or(if opset < 13 { 1 } else { -1 }), shape.rank())?;
    let after = &shape.dims()[first + 1..];
    if opset >= 13 || after.iter().all(|d| *d == Dim::Fixed(1)) {
        return cx.emit_on(Op::Softmax(Softmax { axis: first }), x);
    }
    // Before opset 13, softmax runs over all axes from `axis` on as if they were one.
    let Some((rest, 0)) = Shape::new(shape.dims()[first..].iter().copied()).volume() else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    let joined = Shape::new(shape.dims()[..first].iter().copied().chain([Dim::Fixed(rest)]));
    let flat = cx.emit_on(Op::Reshape(Reshape { shape: joined }), x)?;
    let flat = cx.emit_on(Op::Softmax(Softmax { axis: first }), &flat)?;
    cx.emit_on(Op::Reshape(Reshape { shape }), &flat)
}

/// The value, if it is a constant f32 row with one element for each element of the last axis.
fn row(cx: &NodeContext, value: &Value, size: usize) -> Option<Value> {
    let Value::Known(Known::Tensor(t)) = value else { return None };
    let lead = t.shape().iter().rev().skip(1).all(|n| *n == 1);
    (t.as_f32().is_some() && t.len() == size && lead && cx.shape(value).rank() > 0).then(|| value.clone())
}

pub(super) fn layer_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    let (written, eps) = (cx.int("axis")?.unwrap_or(-1), cx.float("epsilon")?.unwrap_or(1e-5));
    // This is the type of the mean, which is always f32 here.
    cx.ignore("stash_type");
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let bias = if cx.has_input(2) { Some(cx.input(2)?) } else { None };
    let shape = cx.shape(&x);
    let first = axis(written, shape.rank())?;
    let Some((size, 0)) = Shape::new(shape.dims()[first..].iter().copied()).volume() else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    let flat = Shape::new(shape.dims()[..first].iter().copied().chain([Dim::Fixed(size)]));
    let single = first + 1 == shape.rank();
    let rows =
        [Some(&scale), bias.as_ref()].into_iter().flatten().map(|v| row(cx, v, size)).collect::<Option<Vec<_>>>();
    let flattened = reshape(cx, &x, flat)?;
    let y = match rows.filter(|_| single) {
        Some(rows) => {
            let mut operands = vec![cx.operand(0, &flattened)?];
            for r in rows {
                let r = reshape(cx, &r, Shape::fixed(&[size]))?;
                operands.push(cx.operand(1, &r)?);
            }
            cx.emit(Op::LayerNorm(LayerNorm { eps }), &operands)?
        }
        None => {
            let y = cx.emit_on(Op::LayerNorm(LayerNorm { eps }), &flattened)?;
            let y = reshape(cx, &y, shape.clone())?;
            let y = combine(cx, Binary::Mul, &y, &scale)?;
            match bias {
                Some(b) => combine(cx, Binary::Add, &y, &b)?,
                None => y,
            }
        }
    };
    if cx.output_count() < 2 {
        return one(y);
    }
    // The mean and the inverse deviation are outputs for training.
    let axes: Vec<usize> = (first..shape.rank()).collect();
    let average = mean(cx, &x, axes.clone(), true)?;
    let distance = combine(cx, Binary::Sub, &x, &average)?;
    let square = combine(cx, Binary::Mul, &distance, &distance)?;
    let variance = mean(cx, &square, axes, true)?;
    let variance = combine(cx, Binary::Add, &variance, &real(eps))?;
    let deviation = apply(cx, Unary::Sqrt, &variance)?;
    let inverse = combine(cx, Binary::Div, &real(1.0), &deviation)?;
    Ok(Outputs::from_vec(vec![y, average, inverse]))
}

/// `x / sqrt(mean(x^2) + eps) * scale` over all axes from `axis` on.
pub(super) fn rms_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let (written, eps) = (cx.int("axis")?.unwrap_or(-1), cx.float("epsilon")?.unwrap_or(1e-5));
    cx.ignore("stash_type");
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.shape(&x).rank();
    let axes: Vec<usize> = (axis(written, rank)?..rank).collect();
    let square = combine(cx, Binary::Mul, &x, &x)?;
    let square = mean(cx, &square, axes, true)?;
    let square = combine(cx, Binary::Add, &square, &real(eps))?;
    let root = apply(cx, Unary::Sqrt, &square)?;
    let y = combine(cx, Binary::Div, &x, &root)?;
    one(combine(cx, Binary::Mul, &y, &scale)?)
}

/// The sizes of an image `[N,C,..]`: the batch, the channels, and the number of elements of a channel.
fn channels(shape: &Shape) -> Result<(Dim, usize, usize), NodeProblem> {
    let bad = || NodeProblem::input(0, format!("has shape {shape}, [N,C,..] with fixed sizes behind N is needed"));
    let [n, Dim::Fixed(c), rest @ ..] = shape.dims() else { return Err(bad()) };
    let (rest, 0) = Shape::new(rest.iter().copied()).volume().ok_or_else(bad)? else { return Err(bad()) };
    Ok((*n, *c, rest))
}

/// Normalizes each of `groups` groups of channels separately, without scale and bias.
fn grouped(cx: &mut NodeContext, x: &Value, groups: usize, eps: f32) -> Built {
    let shape = cx.shape(x);
    let (n, c, rest) = channels(&shape)?;
    if groups == 0 || c % groups != 0 {
        return Err(NodeProblem::invalid(format!("{groups} groups do not divide {c} channels")));
    }
    let flat = Shape::new([n, Dim::Fixed(groups), Dim::Fixed(c / groups * rest)]);
    let y = reshape(cx, x, flat)?;
    let y = cx.emit_on(Op::LayerNorm(LayerNorm { eps }), &y)?;
    reshape(cx, &y, shape)
}

/// Builds `y * scale + bias` with one scale and one bias for each channel.
fn per_channel(cx: &mut NodeContext, y: Value, scale: Value, bias: Value) -> Built {
    let shape = cx.shape(&y);
    let (_, c, _) = channels(&shape)?;
    let mut y = y;
    for (op, v) in [(Binary::Mul, scale), (Binary::Add, bias)] {
        let dims = [c].into_iter().chain(vec![1; shape.rank() - 2]).collect::<Vec<_>>();
        let v = reshape(cx, &v, Shape::fixed(&dims))?;
        y = combine(cx, op, &y, &v)?;
    }
    Ok(y)
}

pub(super) fn instance_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let eps = cx.float("epsilon")?.unwrap_or(1e-5);
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (_, c, _) = channels(&cx.shape(&x))?;
    let y = grouped(cx, &x, c, eps)?;
    one(per_channel(cx, y, scale, bias)?)
}

pub(super) fn group_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let eps = cx.float("epsilon")?.unwrap_or(1e-5);
    cx.ignore("stash_type");
    let groups = cx.int("num_groups")?.and_then(|g| usize::try_from(g).ok()).unwrap_or(0);
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (_, c, _) = channels(&cx.shape(&x))?;
    let y = grouped(cx, &x, groups, eps)?;
    // Before opset 21, there is one number for each group.
    let mut wide = vec![];
    for v in [scale, bias] {
        wide.push(match cx.shape(&v).as_fixed().as_deref() {
            Some(&[g]) if g == groups && g != c => {
                let column = reshape(cx, &v, Shape::fixed(&[g, 1]))?;
                let all = super::build::expand(cx, &column, Shape::fixed(&[g, c / g]))?;
                reshape(cx, &all, Shape::fixed(&[c]))?
            }
            _ => v,
        });
    }
    let (bias, scale) = (wide.pop(), wide.pop());
    match (scale, bias) {
        (Some(scale), Some(bias)) => one(per_channel(cx, y, scale, bias)?),
        _ => one(y),
    }
}

/// `(x - mean) / (sqrt(variance) + 1e-9)` over the given axes.
pub(super) fn mean_variance_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let list = cx.ints("axes")?.map_or_else(|| vec![0, 2, 3], |v| v.to_vec());
    let x = cx.input(0)?;
    let axes = crate::node::axes(&list, cx.shape(&x).rank())?;
    let average = mean(cx, &x, axes.clone(), true)?;
    let distance = combine(cx, Binary::Sub, &x, &average)?;
    let square = combine(cx, Binary::Mul, &distance, &distance)?;
    let variance = mean(cx, &square, axes, true)?;
    let deviation = apply(cx, Unary::Sqrt, &variance)?;
    let deviation = combine(cx, Binary::Add, &deviation, &real(1e-9))?;
    one(combine(cx, Binary::Div, &distance, &deviation)?)
}

/// `x / (bias + alpha / size * sum of squares over a window of channels)^beta`, with the power computed as `exp(beta log(..))`.
pub(super) fn lrn(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let (alpha, beta, bias) =
        (cx.float("alpha")?.unwrap_or(1e-4), cx.float("beta")?.unwrap_or(0.75), cx.float("bias")?.unwrap_or(1.0));
    let Some(size) = cx.int("size")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0) else {
        return Err(NodeProblem::attribute("size", "is missing or not positive"));
    };
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let (n, c, rest) = channels(&shape)?;
    let square = combine(cx, Binary::Mul, &x, &x)?;
    let columns = reshape(cx, &square, Shape::new([n, Dim::Fixed(1), Dim::Fixed(c), Dim::Fixed(rest)]))?;
    let pads = [(size - 1) / 2, 0, size - 1 - (size - 1) / 2, 0];
    let window = Window { kernel: [size, 1], strides: [1, 1], pads, dilations: [1, 1], ceil_mode: false };
    let average = cx.emit_on(Op::AvgPool(AvgPool { window, count_include_pad: true }), &columns)?;
    let average = reshape(cx, &average, shape)?;
    let sum = combine(cx, Binary::Mul, &average, &real(alpha))?;
    let sum = combine(cx, Binary::Add, &sum, &real(bias))?;
    let log = apply(cx, Unary::Log, &sum)?;
    let log = combine(cx, Binary::Mul, &log, &real(beta))?;
    let power = apply(cx, Unary::Exp, &log)?;
    one(combine(cx, Binary::Div, &x, &power)?)
}

/// `x / (sum |x|^p)^(1/p)` along an axis, where p is 1 or 2. The result is 0 if the sum is 0.
pub(super) fn lp_normalization(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let (written, p) = (cx.int("axis")?.unwrap_or(-1), cx.int("p")?.unwrap_or(2));
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let axis = axis(written, shape.rank())?;
    let Dim::Fixed(count) = shape.dims()[axis] else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    let powers = if p == 1 { apply(cx, Unary::Abs, &x)? } else { combine(cx, Binary::Mul, &x, &x)? };
    let sum = cx.emit_on(Op::ReduceMean(ReduceMean { axes: vec![axis], keep_dims: true }), &powers)?;
    let sum = combine(cx, Binary::Mul, &sum, &real(count as f32))?;
    let norm = if p == 1 { sum } else { apply(cx, Unary::Sqrt, &sum)? };
    // The lower bound avoids a division by 0. Zeros divided by it are still zeros.
    let norm = apply(cx, Unary::Clip { min: f32::MIN_POSITIVE, max: f32::INFINITY }, &norm)?;
    one(combine(cx, Binary::Div, &x, &norm)?)
}
