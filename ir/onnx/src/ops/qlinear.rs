//! Layers on codes: QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger. If the graph can represent the codes, the layer
//! becomes an f32 layer between dequantize and quantize nodes. Otherwise codes are integers, whose sums of products are exact in
//! f32 up to 2^24.

use super::build::{Built, cast, combine, matmul, reshape, small};
use super::codes::{Place, centered, code_type, keep, of_computed, reals_of, rounded, zero_point};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::proto::tensor_proto::DataType;
use crate::quantized::Parameters;
use crate::value::Value;
use catc_ir::ops::{Binary, CastTo};
use catc_ir::{Dim, Shape};

/// Reshapes the zero points of the rows of a matrix to a column.
fn column(cx: &mut NodeContext, zero: Option<Value>) -> Result<Option<Value>, NodeProblem> {
    let Some(z) = zero else { return Ok(None) };
    match cx.shape(&z).as_fixed().as_deref() {
        Some(&[n]) if n > 1 => reshape(cx, &z, Shape::fixed(&[n, 1])).map(Some),
        Some(&[1]) => reshape(cx, &z, Shape::default()).map(Some),
        _ => Ok(Some(z)),
    }
}

/// Reshapes a vector with one element for each channel to `rank` axes, of which the first is the channels.
fn of_channels(cx: &mut NodeContext, index: usize, x: &Value, rank: usize) -> Built {
    let Some(n) = cx.shape(x).volume().filter(|&(_, batches)| batches == 0).map(|(n, _)| n) else {
        return Err(NodeProblem::input(index, "depends on the batch"));
    };
    reshape(cx, x, Shape::new((0..rank).map(|i| Dim::Fixed(if i == 0 { n } else { 1 }))))
}

pub(super) fn matmul_integer(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 4)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let za = zero_at(cx, 2)?;
    let (za, zb) = (column(cx, za)?, zero_at(cx, 3)?);
    let a = centered(cx, &a, za.as_ref())?;
    let b = centered(cx, &b, zb.as_ref())?;
    let y = matmul(cx, &a, &b)?;
    one(cast(cx, &y, CastTo::I64)?)
}

/// An optional zero point.
fn zero_at(cx: &mut NodeContext, index: usize) -> Result<Option<Value>, NodeProblem> {
    cx.has_input(index).then(|| cx.input(index)).transpose()
}

pub(super) fn conv_integer(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 4)?;
    let y = centered_conv(cx, [0, 2], [1, 3])?;
    one(cast(cx, &y, CastTo::I64)?)
}

/// Builds a convolution of codes minus their zero points. The arguments are the input indices of the data and its zero point, and
/// of the weights and their zero point.
fn centered_conv(cx: &mut NodeContext, [x, zx]: [usize; 2], [w, zw]: [usize; 2]) -> Built {
    let (data, weights) = (cx.input(x)?, cx.input(w)?);
    let (shape, rank) = (cx.shape(&weights), cx.shape(&data).rank());
    if shape.rank() != rank {
        return Err(NodeProblem::input(w, format!("has shape {shape}, {rank} dimensions are needed")));
    }
    let zero = zero_at(cx, zx)?;
    let data = centered(cx, &data, zero.as_ref())?;
    let zero = match zero_at(cx, zw)? {
        Some(z) => Some(of_channels(cx, zw, &z, rank)?),
        None => None,
    };
    let weights = centered(cx, &weights, zero.as_ref())?;
    super::conv::convolution(cx, data, weights, None)
}

/// The quantizer of the output, if the graph can represent all codes of the layer. The data and the output must have a single
/// scale each.
fn layer_of_codes(cx: &mut NodeContext, weights: i64) -> Result<Option<Parameters>, NodeProblem> {
    let [x, w, y] = [Place::at(1, 0), Place::at(4, weights), Place::at(6, 0)];
    let known_weights = matches!(cx.moved_input(3)?, Value::Known(_));
    let (tx, tw, ty) = (code_type(cx, x, None)?, code_type(cx, w, None)?, code_type(cx, y, None)?);
    let fits = of_computed(cx, x, tx)?.is_ok() && (known_weights || of_computed(cx, w, tw)?.is_ok());
    Ok(of_computed(cx, y, ty)?.ok().filter(|_| fits && cx.quantizes_data()))
}

/// Multiplies the sums by the scales, and quantizes them to the type of the output's zero point.
fn requantized(cx: &mut NodeContext, sums: &Value, scales: [Value; 3], channel: Option<usize>) -> RuleResult {
    let place = Place::at(6, 0);
    let ty = code_type(cx, place, None)?.unwrap_or(DataType::Uint8);
    let [x, w, y] = scales;
    let product = combine(cx, Binary::Mul, &x, &w)?;
    let mut factor = combine(cx, Binary::Div, &product, &y)?;
    if let (Some(rank), Some(&[n])) = (channel, cx.shape(&factor).as_fixed().as_deref())
        && n > 1
    {
        factor = of_channels(cx, 4, &factor, rank.saturating_sub(1))?;
    }
    let t = combine(cx, Binary::Mul, sums, &factor)?;
    let zero = zero_point(cx, place)?.ok_or_else(|| NodeProblem::input(7, "is missing"))?;
    let zero = cast(cx, &zero, CastTo::F32)?;
    let one_number = small(&zero).is_some_and(|z| z.len() == 1);
    let zero = if one_number { reshape(cx, &zero, Shape::default())? } else { zero };
    one(rounded(cx, &t, &zero, ty)?)
}

pub(super) fn qlinear_matmul(cx: &mut NodeContext) -> RuleResult {
    cx.arity(8, 8)?;
    // The scales belong to the columns.
    if let Some(output) = layer_of_codes(cx, 1)? {
        let (a, b) = (reals_of(cx, 0, Place::at(1, 0))?, reals_of(cx, 3, Place::at(4, 1))?);
        let y = matmul(cx, &a, &b)?;
        return one(keep(cx, &y, &output)?);
    }
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let za = cx.input(2)?;
    let za = column(cx, Some(za))?;
    let zb = cx.input(5)?;
    let x = centered(cx, &a, za.as_ref())?;
    let y = centered(cx, &b, Some(&zb))?;
    let sums = matmul(cx, &x, &y)?;
    let sa = cx.input(1)?;
    let sa = column(cx, Some(sa))?.ok_or_else(|| NodeProblem::input(1, "is missing"))?;
    let scales = [sa, cx.input(4)?, cx.input(6)?];
    requantized(cx, &sums, scales, None)
}

/// Dequantizes a bias. Its scale is that of the sums: the product of the scales in these two inputs.
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
    if let Some(output) = layer_of_codes(cx, 0)? {
        let (x, w) = (reals_of(cx, 0, Place::at(1, 0))?, reals_of(cx, 3, Place::at(4, 0))?);
        let bias = cx.has_input(8).then(|| bias(cx, 8, [1, 4])).transpose()?;
        let y = super::conv::convolution(cx, x, w, bias)?;
        return one(keep(cx, &y, &output)?);
    }
    let mut sums = centered_conv(cx, [0, 2], [3, 5])?;
    let rank = cx.shape(&sums).rank();
    if cx.has_input(8) {
        let bias = cx.input(8)?;
        let bias = cast(cx, &bias, CastTo::F32)?;
        let bias = of_channels(cx, 8, &bias, rank.saturating_sub(1))?;
        sums = combine(cx, Binary::Add, &sums, &bias)?;
    }
    let scales = [cx.input(1)?, cx.input(4)?, cx.input(6)?];
    requantized(cx, &sums, scales, Some(rank))
}
