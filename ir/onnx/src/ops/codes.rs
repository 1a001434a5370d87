//! Conversion between codes and f32 values. Quantizers become quantize and dequantize nodes if they have 2 to 8 bits and constant
//! positive scales, and a single scale for computed tensors. Other quantizers are computed in f32, which represents 16-bit
//! integers exactly. Their codes are i64 integers.

use super::build::{Built, apply, cast, combine, real, reals, reshape};
use crate::error::NodeProblem;
use crate::node::{NodeContext, axis};
use crate::proto::tensor_proto::DataType;
use crate::quantized::{Parameters, format};
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, CastTo, Dequantize, Quantize, Unary};
use catc_ir::quantizer::{narrowed, slice_along};
use catc_ir::{Dim, Op, Operand, QFormat, Quantizer, Shape, Tensor};

/// The inputs of a node that hold a scale and a zero point, and how these apply to the quantized tensor.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The index of the scale input. The zero point is the next input.
    pub scale: usize,
    /// The axis of several scales, as written in the file.
    pub axis: i64,
    /// The number of elements along the axis that share a scale, or 0 if each element has a scale.
    pub block: usize,
}

impl Place {
    /// The scale is input `scale`, and the zero point is the next input. There are no blocks.
    pub fn at(scale: usize, axis: i64) -> Self {
        Place { scale, axis, block: 0 }
    }
}

/// The smallest and largest code of a type, if it is an integer type of up to 16 bits.
fn range(t: DataType) -> Option<(i32, i32)> {
    Some(match t {
        DataType::Uint16 => (0, 65535),
        DataType::Int16 => (-32768, 32767),
        _ => format(t).map(|f| (f.min(), f.max()))?,
    })
}

/// The type of the codes. It is the type of the zero point if there is one, else `without`.
pub(super) fn code_type(
    cx: &mut NodeContext,
    place: Place,
    without: Option<DataType>,
) -> Result<Option<DataType>, NodeProblem> {
    if !cx.has_input(place.scale + 1) {
        return Ok(without);
    }
    let found = cx.input_type(place.scale + 1);
    let unknown = || {
        NodeProblem::input(
            place.scale + 1,
            "(the zero-point) is of a type that does not follow from the file; store it as a constant",
        )
    };
    found.ok_or_else(unknown).map(Some)
}

/// The quantizer given by the inputs at a place, for codes of a type. The inner error says why the graph cannot represent it.
fn parameters(
    cx: &mut NodeContext,
    place: Place,
    ty: Option<DataType>,
) -> Result<Result<Parameters, String>, NodeProblem> {
    let Some(ty) = ty else { return Ok(Err("the type of its codes is not known".into())) };
    let Some(format) = format(ty) else {
        let name = ty.as_str_name().to_lowercase();
        return Ok(Err(format!("its codes are of type {name}, and kernels take those of 2 to 8 bits")));
    };
    if place.block != 0 {
        return Ok(Err("it has a scale for each block of an axis".into()));
    }
    let scale = cx.input(place.scale)?;
    let Value::Known(scale) = scale else { return Ok(Err("its scale is computed".into())) };
    let Some(scale) = scale.as_f32().map(<[f32]>::to_vec) else {
        return Err(NodeProblem::input(place.scale, "(the scale) must hold reals"));
    };
    if scale.is_empty() || scale.iter().any(|s| !s.is_normal() || *s <= 0.0) {
        return Ok(Err("its scale is no positive number".into()));
    }
    let zero_point = match zero_point(cx, place)? {
        None => vec![0; scale.len()],
        Some(Value::Computed(_)) => return Ok(Err("its zero-point is computed".into())),
        Some(Value::Known(known)) => {
            let whole = |k: &Known| match k {
                Known::Tensor(t) => t.as_i64()?.iter().map(|&z| i32::try_from(z).ok()).collect::<Option<Vec<i32>>>(),
                Known::Sizes { .. } => None,
            };
            let zeros = whole(&known).filter(|z| z.iter().all(|z| (format.min()..=format.max()).contains(z)));
            let Some(zeros) = zeros else {
                let problem = format!("(the zero-point) must hold codes of type {}", ty.as_str_name().to_lowercase());
                return Err(NodeProblem::input(place.scale + 1, problem));
            };
            zeros
        }
    };
    if zero_point.len() != scale.len() {
        return Ok(Err("it has not as many zero-points as scales".into()));
    }
    Ok(Ok(Parameters { scale, zero_point, format, axis: place.axis }))
}

/// The quantizer given by the inputs at a place, for a computed tensor. The inner error says why the graph cannot represent it.
pub(super) fn of_computed(
    cx: &mut NodeContext,
    place: Place,
    ty: Option<DataType>,
) -> Result<Result<Parameters, String>, NodeProblem> {
    let found = parameters(cx, place, ty)?;
    Ok(found.and_then(|p| match p.scale.len() {
        1 => Ok(p),
        _ => Err("it has several scales for a computed tensor".into()),
    }))
}

/// The optional zero point at a place.
pub(super) fn zero_point(cx: &mut NodeContext, place: Place) -> Result<Option<Value>, NodeProblem> {
    cx.has_input(place.scale + 1).then(|| cx.input(place.scale + 1)).transpose()
}

/// Reshapes the scales or zero points at a place so that they broadcast to `x`.
fn along(cx: &mut NodeContext, x: &Value, scale: Value, place: Place) -> Built {
    let (shape, own) = (cx.shape(x), cx.shape(&scale));
    if own.volume() == Some((1, 0)) {
        return reshape(cx, &scale, Shape::default());
    }
    let at = axis(place.axis, shape.rank())?;
    if place.block == 0 {
        let Some(&[n]) = own.as_fixed().as_deref() else {
            let problem = format!("has shape {own}, one number for each slice of an axis is needed");
            return Err(NodeProblem::input(place.scale, problem));
        };
        let mut dims = vec![1; shape.rank()];
        dims[at] = n;
        return reshape(cx, &scale, Shape::fixed(&dims));
    }
    // Each scale is repeated for the elements of its block.
    let Some(dims) = own.as_fixed().filter(|d| d.len() == shape.rank()) else {
        let problem = format!("has shape {own}, which does not fit blocks of {shape}");
        return Err(NodeProblem::input(place.scale, problem));
    };
    let Dim::Fixed(size) = shape.dims()[at] else {
        return Err(NodeProblem::unsupported("its blocks are of the batch"));
    };
    let places: Vec<usize> = (0..size).map(|i| (i / place.block).min(dims[at].saturating_sub(1))).collect();
    super::build::pick(cx, &scale, at, &places)
}

/// Builds `x - zero` in f32.
pub(super) fn centered(cx: &mut NodeContext, x: &Value, zero: Option<&Value>) -> Built {
    let x = cast(cx, x, CastTo::F32)?;
    match zero {
        None => Ok(x),
        Some(z) => {
            let z = cast(cx, z, CastTo::F32)?;
            combine(cx, Binary::Sub, &x, &z)
        }
    }
}

/// Dequantizes the codes in input `index`, whose scale and zero point are at `place`.
pub(super) fn reals_of(cx: &mut NodeContext, index: usize, place: Place) -> Built {
    let ty = code_type(cx, place, cx.input_type(index))?;
    let x = cx.input_as_it_is(index)?;
    let file = parameters(cx, place, ty)?.ok();
    if let (Some(kept), Some(file)) = (cx.file_codes(&x), &file)
        && kept.agrees(file, cx.shape(&x).rank())
    {
        return cx.emit_on(Op::Dequantize(Dequantize), &x);
    }
    let x = cx.input(index)?;
    if cx.quantizes_data()
        && place.block == 0
        && let Some(codes) = constant_codes(cx, &x, place, ty)?
    {
        return cx.emit(Op::Dequantize(Dequantize), &[codes]);
    }
    let scale = cx.input(place.scale)?;
    let scale = along(cx, &x, scale, place)?;
    let zero = match zero_point(cx, place)? {
        Some(z) => Some(along(cx, &x, z, place)?),
        None => None,
    };
    let y = centered(cx, &x, zero.as_ref())?;
    let y = combine(cx, Binary::Mul, &y, &scale)?;
    match file {
        // Integers of a type of up to 8 bits are codes. Quantizing their f32 values gives exactly the same codes again.
        Some(file) if cx.quantizes_data() && file.scale.len() == 1 && matches!(y, Value::Computed(_)) => {
            let codes = keep(cx, &y, &file)?;
            cx.emit_on(Op::Dequantize(Dequantize), &codes)
        }
        _ => Ok(y),
    }
}

/// A constant of 2 to 8 bits as codes of the graph, if its scale and zero point are constant as well. For a negative scale, the
/// codes minus their zero points are negated. For a scale of 0, they become 0.
fn constant_codes(
    cx: &mut NodeContext,
    x: &Value,
    place: Place,
    ty: Option<DataType>,
) -> Result<Option<Operand>, NodeProblem> {
    let Some(format) = ty.and_then(format) else { return Ok(None) };
    let (scale, zero) = (cx.input(place.scale)?, zero_point(cx, place)?);
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
    let axis = if scale.len() == 1 { None } else { Some(axis(place.axis, x.shape().len())?) };
    let codes = format.min()..=format.max();
    let fits = scale.iter().all(|s| s.is_finite())
        && axis.is_none_or(|a| x.shape()[a] == scale.len())
        && zero_point.iter().all(|z| codes.contains(z))
        && items.iter().all(|&c| i32::try_from(c).is_ok_and(|c| codes.contains(&c)));
    if !fits {
        return Ok(None);
    }
    let signs: Vec<i32> = scale.iter().map(|&s| if s > 0.0 { 1 } else { -i32::from(s < 0.0) }).collect();
    let positive = scale.iter().map(|&s| if s == 0.0 { 1.0 } else { s.abs() }).collect();
    let quantizer = Quantizer { format, axis, scale: positive, zero_point };
    let slice = quantizer.slice_of(x.shape());
    let centered = items.iter().enumerate();
    let centered: Vec<i32> =
        centered.map(|(i, &c)| signs[slice(i)] * (c as i32 - quantizer.zero_point[slice(i)])).collect();
    Ok(narrowed(&centered, x.shape(), quantizer).map(|(codes, quantizer)| cx.codes(x.shape(), codes, &quantizer)))
}

/// Quantizes `y` with the scale and zero point at `place`. `without` is the type of the codes if there is no zero point.
pub(super) fn codes_of(cx: &mut NodeContext, y: &Value, place: Place, without: DataType) -> Built {
    let ty = code_type(cx, place, Some(without))?.unwrap_or(without);
    if let Value::Known(known) = y
        && let Some(codes) = known_codes(cx, known, place, ty)?
    {
        return Ok(codes);
    }
    if cx.quantizes_data() {
        match of_computed(cx, place, Some(ty))? {
            Ok(file) => return keep(cx, y, &file),
            Err(reason) => cx.warn(format!("its codes are computed in f32, not by integer kernels: {reason}")),
        }
    }
    let y = cast(cx, y, CastTo::F32)?;
    let scale = cx.input(place.scale)?;
    let scale = along(cx, &y, scale, place)?;
    let zero = match zero_point(cx, place)? {
        Some(z) => {
            let z = cast(cx, &z, CastTo::F32)?;
            along(cx, &y, z, place)?
        }
        None => real(0.0),
    };
    let t = combine(cx, Binary::Div, &y, &scale)?;
    rounded(cx, &t, &zero, ty)
}

/// Builds `saturate(round(t) + zero)` as integers of a type.
pub(super) fn rounded(cx: &mut NodeContext, t: &Value, zero: &Value, ty: DataType) -> Built {
    let Some((low, high)) = range(ty) else {
        let name = ty.as_str_name().to_ascii_lowercase();
        return Err(NodeProblem::unsupported(format!("it quantizes to {name}")));
    };
    let y = apply(cx, Unary::Round, t)?;
    let y = combine(cx, Binary::Add, &y, zero)?;
    let y = apply(cx, Unary::Clip { min: low as f32, max: high as f32 }, &y)?;
    cast(cx, &y, CastTo::I64)
}

/// Folds the quantization of a known tensor with known scales of any sign. The codes are integers. `None` if the quantization is
/// left to the graph.
fn known_codes(cx: &mut NodeContext, x: &Known, place: Place, ty: DataType) -> Result<Option<Value>, NodeProblem> {
    let (scale, zero) = (cx.input(place.scale)?, zero_point(cx, place)?);
    let (Some(items), Value::Known(scale), Some((low, high))) = (x.as_f32(), &scale, range(ty)) else {
        return Ok(None);
    };
    let zeros = match &zero {
        None => Some(vec![0; scale.len()]),
        Some(Value::Known(Known::Tensor(z))) => z.as_i64().map(<[i64]>::to_vec),
        Some(_) => None,
    };
    let (Some(scale), Some(zeros)) = (scale.as_f32(), zeros) else { return Ok(None) };
    let axis = if scale.len() == 1 { None } else { Some(axis(place.axis, x.shape().len())?) };
    let fits = place.block == 0 && zeros.len() == scale.len() && axis.is_none_or(|a| x.shape()[a] == scale.len());
    if !fits || !cx.folds(&Known::from(Tensor::i64(&[0], vec![])), x.len()) {
        return Ok(None);
    }
    let slice = slice_along(axis, x.shape());
    let bounds = Unary::Clip { min: low as f32, max: high as f32 };
    let code = |(i, &x): (usize, &f32)| {
        let t = Unary::Round.apply(x / scale[slice(i)]) + zeros[slice(i)] as f32;
        bounds.apply(t) as i64
    };
    let codes = items.iter().enumerate().map(code).collect();
    Ok(Some(Known::from(Tensor::i64(x.shape(), codes)).into()))
}

/// Quantizes `x` with a quantizer of the file that has one scale. If `x` was clipped before, the codes have only as many bits as
/// the range of the clip needs.
pub(super) fn keep(cx: &mut NodeContext, x: &Value, file: &Parameters) -> Built {
    let Some(whole) = file.quantizer(0) else { return Err(NodeProblem::unsupported("it has several scales")) };
    let (operand, quantizer) = match clipped(cx, x, &whole)? {
        Some(narrow) => narrow,
        None => (cx.operand(0, x)?, whole),
    };
    let quantizer = cx.quantizer(&quantizer);
    let codes = cx.emit(Op::Quantize(Quantize { quantizer }), &[operand])?;
    cx.note_file_codes(&codes, file);
    Ok(codes)
}

/// If `x` is clipped to a range whose number of levels fits a narrower format, returns the operand to quantize instead of `x` and
/// the narrower quantizer.
fn clipped(cx: &mut NodeContext, x: &Value, whole: &Quantizer) -> Result<Option<(Operand, Quantizer)>, NodeProblem> {
    let clip = cx.definition(x).map(|n| (n.op.clone(), n.inputs[0]));
    let Some((Op::Unary(Unary::Clip { min, max }), unclipped)) = clip else { return Ok(None) };
    let (low, high) = (whole.quantize(min, 0), whole.quantize(max, 0));
    let levels = high - low + 1;
    let zero_point = whole.zero_point[0] - low;
    let narrow = (2..8).filter(|&b| levels <= 1 << b).find_map(|b| QFormat::new(false, b));
    let Some(format) = narrow.filter(|f| levels >= 2 && (0..=f.max()).contains(&zero_point)) else { return Ok(None) };
    let quantizer = Quantizer::per_tensor(format, whole.scale[0], zero_point);
    if levels == 1 << format.bits() {
        // The narrower quantizer saturates at the bounds of the clip, so the clip is not needed.
        return Ok(Some((unclipped, quantizer)));
    }
    // The wider type may saturate inside the bounds of the clip.
    let bounds = Unary::Clip { min: whole.dequantize(low, 0), max: whole.dequantize(high, 0) };
    let clipped = cx.emit(Op::Unary(bounds), &[unclipped])?;
    Ok(Some((cx.operand(0, &clipped)?, quantizer)))
}

/// Clips codes of the graph to bounds given as integers of the file. The result is codes. `None` if the codes have several
/// scales.
pub(super) fn clipped_codes(cx: &mut NodeContext, x: &Value, min: f32, max: f32) -> Result<Option<Value>, NodeProblem> {
    let Some(file) = cx.file_codes(x).filter(|f| f.scale.len() == 1) else { return Ok(None) };
    let Some(whole) = file.quantizer(0) else { return Ok(None) };
    let (first, last) = (whole.format.min() as f32, whole.format.max() as f32);
    let bound = |t: f32| whole.dequantize(t.clamp(first, last) as i32, 0);
    let (min, max) = (bound(min.ceil()), bound(max.floor()));
    // The clip applies to the values before the quantization, or else to the dequantized codes.
    let quantized = cx.definition(x).filter(|n| matches!(n.op, Op::Quantize(_))).map(|n| n.inputs[0]);
    let operand = match quantized {
        Some(operand) => operand,
        None => {
            let reals = cx.emit_on(Op::Dequantize(Dequantize), x)?;
            cx.operand(0, &reals)?
        }
    };
    let clip = cx.emit(Op::Unary(Unary::Clip { min: min.min(max), max }), &[operand])?;
    keep(cx, &clip, &file).map(Some)
}

/// The integers that codes of the graph represent in the file. They are computed exactly by dequantization, division by the
/// scale, and rounding.
pub(crate) fn numbers(cx: &mut NodeContext, codes: &Value) -> Built {
    let (&Value::Computed(id), Some(file), Some(quantizer)) = (codes, cx.file_codes(codes), cx.quantizer_of(codes))
    else {
        return Err(NodeProblem::unsupported("it takes codes that have no quantizer"));
    };
    if let Some(numbers) = cx.noted_numbers(id) {
        return Ok(numbers);
    }
    let mut dims = vec![];
    if let Some(axis) = quantizer.axis {
        dims = vec![1; cx.shape(codes).rank()];
        dims[axis] = quantizer.scale.len();
    }
    let zero_point = file.zero_point.iter().map(|&z| z as f32).collect();
    let (scale, zero_point) = (reals(&dims, quantizer.scale), reals(&dims, zero_point));
    let y = cx.emit_on(Op::Dequantize(Dequantize), codes)?;
    let y = combine(cx, Binary::Div, &y, &scale)?;
    let y = apply(cx, Unary::Round, &y)?;
    let y = combine(cx, Binary::Add, &y, &zero_point)?;
    // The clip changes no value, but tells passes the range of the integers.
    let bounds = Unary::Clip { min: file.format.min() as f32, max: file.format.max() as f32 };
    let y = apply(cx, bounds, &y)?;
    let y = cast(cx, &y, CastTo::I64)?;
    cx.note_numbers(id, &y);
    Ok(y)
}
