//! Quantized operators, in reals: QuantizeLinear and DequantizeLinear (10, 13, 19, 21, ...), DynamicQuantizeLinear, QLinearConv,
//! QLinearMatMul, ConvInteger, MatMulInteger. What [`crate::quantized`] keeps as codes becomes quantize and dequantize nodes with real
//! operations between them. Elsewhere codes are whole numbers; sums of their products are exact in f32 up to 2^24.

use super::build::{Built, apply, cast, combine, matmul, real, reshape, small};
use crate::error::NodeProblem;
use crate::node::{NodeContext, Outputs, RuleResult, axis, one};
use crate::proto::tensor_proto::DataType;
use crate::quantized::{format, narrowed};
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, CastTo, Dequantize, Quantize, Reduce, Reduction, Unary};
use catc_ir::{Dim, Op, Operand, Quantizer, Shape};

/// The codes of a type, if it holds whole numbers.
fn range(t: DataType) -> Option<(f32, f32)> {
    Some(match t {
        DataType::Uint8 => (0.0, 255.0),
        DataType::Int8 => (-128.0, 127.0),
        DataType::Uint16 => (0.0, 65535.0),
        DataType::Int16 => (-32768.0, 32767.0),
        DataType::Uint4 => (0.0, 15.0),
        DataType::Int4 => (-8.0, 7.0),
        DataType::Uint2 => (0.0, 3.0),
        DataType::Int2 => (-2.0, 1.0),
        _ => return None,
    })
}

/// Scales or zero-points of an axis (or of blocks of it) under a shape that broadcasts to `x`.
fn along(cx: &mut NodeContext, x: &Value, scale: Value, axis_written: i64, block: usize) -> Built {
    let (shape, own) = (cx.shape(x), cx.shape(&scale));
    if own.volume() == Some((1, 0)) {
        return reshape(cx, &scale, Shape::default());
    }
    let at = axis(axis_written, shape.rank())?;
    if block == 0 {
        let Some(&[n]) = own.as_fixed().as_deref() else {
            return Err(NodeProblem::input(
                1,
                format!("has shape {own}, one number for each slice of an axis is needed"),
            ));
        };
        let mut dims = vec![1; shape.rank()];
        dims[at] = n;
        return reshape(cx, &scale, Shape::fixed(&dims));
    }
    // Each of the scales is repeated for its block.
    let Some(dims) = own.as_fixed().filter(|d| d.len() == shape.rank()) else {
        return Err(NodeProblem::input(1, format!("has shape {own}, which does not fit blocks of {shape}")));
    };
    let Dim::Fixed(size) = shape.dims()[at] else {
        return Err(NodeProblem::unsupported("its blocks are of the batch"));
    };
    let places: Vec<usize> = (0..size).map(|i| (i / block).min(dims[at].saturating_sub(1))).collect();
    super::build::pick(cx, &scale, at, &places)
}

/// The attributes that both directions share: axis and block.
fn blocks(cx: &mut NodeContext) -> Result<(i64, usize), NodeProblem> {
    let axis = cx.int("axis")?.unwrap_or(1);
    let block = cx.int("block_size")?.unwrap_or(0);
    let block = usize::try_from(block).map_err(|_| NodeProblem::attribute("block_size", "is negative"))?;
    Ok((axis, block))
}

fn data_type(number: Option<i64>) -> Option<DataType> {
    let t = DataType::try_from(i32::try_from(number?).ok()?).ok()?;
    (t != DataType::Undefined).then_some(t)
}

pub(super) fn quantize_linear(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    cx.ignore("saturate");
    cx.ignore("precision");
    let (axis, block) = blocks(cx)?;
    let asked = data_type(cx.int("output_dtype")?);
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    if cx.kept_output().is_some() {
        return one(keep(cx, &x)?);
    }
    if let Some(reason) = cx.kept_not() {
        cx.warn(format!("is evaluated in reals and not compiled to codes: {reason}"));
    }
    let given = if cx.has_input(2) { cx.input_type(2) } else { None };
    let to = asked.or(given).unwrap_or(DataType::Uint8);
    let bounds = bounds(to)?;
    let x = cast(cx, &x, CastTo::F32)?;
    let scale = along(cx, &x, scale, axis, block)?;
    let zero = match cx.has_input(2) {
        true => {
            let z = cx.input(2)?;
            let z = cast(cx, &z, CastTo::F32)?;
            along(cx, &x, z, axis, block)?
        }
        false => real(0.0),
    };
    one(quantized(cx, &x, &scale, &zero, bounds)?)
}

/// The codes of `x` that the first output is kept as.
pub(super) fn keep(cx: &mut NodeContext, x: &Value) -> Built {
    let Some(kept) = cx.kept_output() else {
        return Err(NodeProblem::unsupported("its codes are not kept"));
    };
    // The quantizer saturates where the clip does.
    let unclipped = cx.definition(x).filter(|n| kept.clips && matches!(n.op, Op::Unary(Unary::Clip { .. })));
    let operand = unclipped.map(|n| n.inputs[0]);
    let operand = match operand {
        Some(operand) => operand,
        None => cx.operand(0, x)?,
    };
    let quantizer = cx.quantizer(&kept.quantizer);
    cx.emit(Op::Quantize(Quantize { quantizer }), &[operand])
}

/// The reals of an input of codes, whose scale and zero-point follow it: of codes that are kept, a dequantize node.
pub(super) fn reals_of(cx: &mut NodeContext, index: usize, axis: i64, block: usize) -> Built {
    let x = cx.input(index)?;
    if cx.keeps_input(index) {
        return cx.emit_on(Op::Dequantize(Dequantize), &x);
    }
    if cx.keeps_codes()
        && block == 0
        && let Some(codes) = constant_codes(cx, index, &x, axis)?
    {
        return cx.emit(Op::Dequantize(Dequantize), &[codes]);
    }
    let scale = cx.input(index + 1)?;
    let scale = along(cx, &x, scale, axis, block)?;
    let zero = match zero_point(cx, index + 2)? {
        Some(z) => Some(along(cx, &x, z, axis, block)?),
        None => None,
    };
    let y = centered(cx, &x, zero.as_ref())?;
    combine(cx, Binary::Mul, &y, &scale)
}

/// `y` as codes, whose scale and zero-point are the inputs from `at` on.
pub(super) fn codes_of(cx: &mut NodeContext, y: &Value, at: usize) -> Built {
    if cx.kept_output().is_some() {
        return keep(cx, y);
    }
    if let Some(reason) = cx.kept_not() {
        cx.warn(format!("is evaluated in reals and not compiled to codes: {reason}"));
    }
    let bounds = bounds(cx.input_type(at + 1).unwrap_or(DataType::Uint8))?;
    let scale = cx.input(at)?;
    let scale = along(cx, y, scale, 1, 0)?;
    let zero = match zero_point(cx, at + 1)? {
        Some(z) => {
            let z = cast(cx, &z, CastTo::F32)?;
            along(cx, y, z, 1, 0)?
        }
        None => real(0.0),
    };
    quantized(cx, y, &scale, &zero, bounds)
}

/// The codes of a type, or that it has none.
fn bounds(to: DataType) -> Result<(f32, f32), NodeProblem> {
    let name = || to.as_str_name().to_ascii_lowercase();
    range(to).ok_or_else(|| NodeProblem::unsupported(format!("it quantizes to {}", name())))
}

/// A constant of 2 to 8 bits as codes of the graph, if its scale and zero-point, which follow it, are constant too.
fn constant_codes(
    cx: &mut NodeContext,
    index: usize,
    x: &Value,
    axis_written: i64,
) -> Result<Option<Operand>, NodeProblem> {
    let Some(format) = cx.input_type(index).and_then(format) else { return Ok(None) };
    let scale = cx.input(index + 1)?;
    let zero = zero_point(cx, index + 2)?;
    let (Value::Known(Known::Tensor(x)), Value::Known(scale)) = (x, &scale) else { return Ok(None) };
    let (Some(items), Some(scale)) = (x.as_i64(), scale.as_f32()) else { return Ok(None) };
    let zero_point = match &zero {
        None => Some(vec![0; scale.len()]),
        Some(Value::Known(Known::Tensor(z))) => {
            z.as_i64().and_then(|z| z.iter().map(|&z| i32::try_from(z).ok()).collect::<Option<Vec<i32>>>())
        }
        Some(_) => None,
    };
    let Some(zero_point) = zero_point.filter(|z| z.len() == scale.len()) else { return Ok(None) };
    let along = if scale.len() == 1 { None } else { Some(axis(axis_written, x.shape().len())?) };
    let fits = scale.iter().all(|s| s.is_normal() && *s > 0.0)
        && along.is_none_or(|a| x.shape()[a] == scale.len())
        && zero_point.iter().all(|z| (format.min()..=format.max()).contains(z))
        && items.iter().all(|&c| (i64::from(format.min())..=i64::from(format.max())).contains(&c));
    if !fits {
        return Ok(None);
    }
    let quantizer = Quantizer { format, axis: along, scale: scale.to_vec(), zero_point };
    let (codes, quantizer) = narrowed(items.iter().map(|&c| c as i16).collect(), x.shape(), quantizer);
    Ok(Some(cx.codes(x.shape(), codes, &quantizer)))
}

/// `saturate(round(x / scale) + zero)` as whole numbers.
fn quantized(cx: &mut NodeContext, x: &Value, scale: &Value, zero: &Value, (low, high): (f32, f32)) -> Built {
    let y = combine(cx, Binary::Div, x, scale)?;
    let y = apply(cx, Unary::Round, &y)?;
    let y = combine(cx, Binary::Add, &y, zero)?;
    let y = apply(cx, Unary::Clip { min: low, max: high }, &y)?;
    cast(cx, &y, CastTo::I64)
}

/// `x - zero` in reals.
fn centered(cx: &mut NodeContext, x: &Value, zero: Option<&Value>) -> Built {
    let x = cast(cx, x, CastTo::F32)?;
    match zero {
        None => Ok(x),
        Some(z) => {
            let z = cast(cx, z, CastTo::F32)?;
            combine(cx, Binary::Sub, &x, &z)
        }
    }
}

pub(super) fn dequantize_linear(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    cx.ignore("output_dtype");
    let (axis, block) = blocks(cx)?;
    one(reals_of(cx, 0, axis, block)?)
}

/// Codes, scale and zero-point by the range of the input, which holds 0.
pub(super) fn dynamic_quantize_linear(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let axes: Vec<usize> = (0..cx.shape(&x).rank()).collect();
    let bound = |cx: &mut NodeContext, kind, clip| {
        let y = cx.emit_on(Op::Reduce(Reduce { kind, axes: axes.clone(), keep_dims: false }), &x)?;
        apply(cx, clip, &y)
    };
    let high = bound(cx, Reduction::Max, Unary::Relu)?;
    let low = bound(cx, Reduction::Min, Unary::Clip { min: f32::NEG_INFINITY, max: 0.0 })?;
    let span = combine(cx, Binary::Sub, &high, &low)?;
    let scale = combine(cx, Binary::Div, &span, &real(255.0))?;
    let zero = combine(cx, Binary::Div, &low, &scale)?;
    let zero = combine(cx, Binary::Mul, &zero, &real(-1.0))?;
    let zero = apply(cx, Unary::Round, &zero)?;
    let zero = apply(cx, Unary::Clip { min: 0.0, max: 255.0 }, &zero)?;
    let y = quantized(cx, &x, &scale, &zero, (0.0, 255.0))?;
    let zero = cast(cx, &zero, CastTo::I64)?;
    Ok(Outputs::from_vec(vec![y, scale, zero]))
}

/// An optional zero-point.
fn zero_point(cx: &mut NodeContext, index: usize) -> Result<Option<Value>, NodeProblem> {
    cx.has_input(index).then(|| cx.input(index)).transpose()
}

/// Zero-points of the rows of a matrix stand in a column.
fn column(cx: &mut NodeContext, zero: Option<Value>) -> Result<Option<Value>, NodeProblem> {
    let Some(z) = zero else { return Ok(None) };
    match cx.shape(&z).as_fixed().as_deref() {
        Some(&[n]) if n > 1 => reshape(cx, &z, Shape::fixed(&[n, 1])).map(Some),
        Some(&[1]) => reshape(cx, &z, Shape::default()).map(Some),
        _ => Ok(Some(z)),
    }
}

pub(super) fn matmul_integer(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 4)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (za, zb) = (zero_point(cx, 2)?, zero_point(cx, 3)?);
    let za = column(cx, za)?;
    let a = centered(cx, &a, za.as_ref())?;
    let b = centered(cx, &b, zb.as_ref())?;
    let y = matmul(cx, &a, &b)?;
    one(cast(cx, &y, CastTo::I64)?)
}

pub(super) fn conv_integer(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 4)?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let (zx, zw) = (zero_point(cx, 2)?, zero_point(cx, 3)?);
    let y = centered_conv(cx, &x, zx, &w, zw)?;
    one(cast(cx, &y, CastTo::I64)?)
}

/// A convolution of codes less their zero-points.
fn centered_conv(cx: &mut NodeContext, x: &Value, zx: Option<Value>, w: &Value, zw: Option<Value>) -> Built {
    let x = centered(cx, x, zx.as_ref())?;
    let zw = match zw {
        Some(z) => {
            // One for each output channel.
            let rank = cx.shape(w).rank();
            let n = cx.shape(&z).as_fixed().map_or(1, |s| s.iter().product::<usize>());
            Some(reshape(cx, &z, Shape::fixed(&[&[n], &vec![1; rank - 1][..]].concat()))?)
        }
        None => None,
    };
    let w = centered(cx, w, zw.as_ref())?;
    super::conv::convolution(cx, x, w, None)
}

/// `scale` times the sums, quantized by the type of the output's zero-point.
fn requantized(
    cx: &mut NodeContext,
    sums: &Value,
    scales: [Value; 3],
    zero: usize,
    channel: Option<usize>,
) -> RuleResult {
    let to = cx.input_type(zero).unwrap_or(DataType::Uint8);
    let bounds = bounds(to)?;
    let [x, w, y] = scales;
    let product = combine(cx, Binary::Mul, &x, &w)?;
    let mut factor = combine(cx, Binary::Div, &product, &y)?;
    if let (Some(rank), Some(&[n])) = (channel, cx.shape(&factor).as_fixed().as_deref())
        && n > 1
    {
        factor = reshape(cx, &factor, Shape::fixed(&[&[n], &vec![1; rank - 2][..]].concat()))?;
    }
    let t = combine(cx, Binary::Mul, sums, &factor)?;
    let zero = cx.input(zero)?;
    let zero = cast(cx, &zero, CastTo::F32)?;
    let shape = Shape::default();
    let zero = if small(&zero).is_some_and(|z| z.len() == 1) { reshape(cx, &zero, shape)? } else { zero };
    one(quantized(cx, &t, &real(1.0), &zero, bounds)?)
}

pub(super) fn qlinear_matmul(cx: &mut NodeContext) -> RuleResult {
    cx.arity(8, 8)?;
    if cx.kept_output().is_some() {
        let a = reals_of(cx, 0, 0, 0)?;
        // Scales of the columns.
        let b = reals_of(cx, 3, 1, 0)?;
        let y = matmul(cx, &a, &b)?;
        return one(keep(cx, &y)?);
    }
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let za = cx.input(2)?;
    let za = column(cx, Some(za))?;
    let zb = cx.input(5)?;
    let x = centered(cx, &a, za.as_ref())?;
    let y = centered(cx, &b, Some(&zb))?;
    let sums = matmul(cx, &x, &y)?;
    let sa = cx.input(1)?;
    let sa = column(cx, Some(sa))?.unwrap_or(real(1.0));
    let scales = [sa, cx.input(4)?, cx.input(6)?];
    requantized(cx, &sums, scales, 7, None)
}

/// The reals of a bias, whose scale is that of the sums: the product of the scales that are these inputs.
pub(super) fn bias(cx: &mut NodeContext, index: usize, scales: [usize; 2]) -> Built {
    let (bias, sx, sw) = (cx.input(index)?, cx.input(scales[0])?, cx.input(scales[1])?);
    let bias = cast(cx, &bias, CastTo::F32)?;
    let scale = combine(cx, Binary::Mul, &sx, &sw)?;
    let shape = cx.shape(&bias);
    let bias = combine(cx, Binary::Mul, &bias, &scale)?;
    reshape(cx, &bias, shape)
}

pub(super) fn qlinear_conv(cx: &mut NodeContext) -> RuleResult {
    cx.arity(8, 9)?;
    if cx.kept_output().is_some() {
        let (x, w) = (reals_of(cx, 0, 0, 0)?, reals_of(cx, 3, 0, 0)?);
        let bias = cx.has_input(8).then(|| bias(cx, 8, [1, 4])).transpose()?;
        let y = super::conv::convolution(cx, x, w, bias)?;
        return one(keep(cx, &y)?);
    }
    let (x, w) = (cx.input(0)?, cx.input(3)?);
    let (zx, zw) = (cx.input(2)?, cx.input(5)?);
    let mut sums = centered_conv(cx, &x, Some(zx), &w, Some(zw))?;
    let rank = cx.shape(&sums).rank();
    if cx.has_input(8) {
        let bias = cx.input(8)?;
        let bias = cast(cx, &bias, CastTo::F32)?;
        let Dim::Fixed(n) = cx.shape(&bias).dims().first().copied().unwrap_or(Dim::Fixed(1)) else {
            return Err(NodeProblem::input(8, "depends on the batch"));
        };
        let bias = reshape(cx, &bias, Shape::fixed(&[&[n], &vec![1; rank - 2][..]].concat()))?;
        sums = combine(cx, Binary::Add, &sums, &bias)?;
    }
    let scales = [cx.input(1)?, cx.input(4)?, cx.input(6)?];
    requantized(cx, &sums, scales, 7, Some(rank))
}
