//! QuantizeLinear and DequantizeLinear (10, 13, 19, 21, ...), DynamicQuantizeLinear.

use super::build::{apply, cast, combine, real};
use super::codes::{Place, codes_of, reals_of, rounded};
use crate::error::NodeProblem;
use crate::node::{NodeContext, Outputs, RuleResult, one};
use crate::proto::tensor_proto::DataType;
use crate::types::data_type;
use catc_ir::Op;
use catc_ir::ops::{Binary, CastTo, Reduce, Reduction, Unary};

/// The scale and zero point of QuantizeLinear or DequantizeLinear, according to the attributes for the axis and the block size.
fn place(cx: &mut NodeContext) -> Result<Place, NodeProblem> {
    let axis = cx.int("axis")?.unwrap_or(1);
    let block = cx.int("block_size")?.unwrap_or(0);
    let block = usize::try_from(block).map_err(|_| NodeProblem::attribute("block_size", "is negative"))?;
    Ok(Place { scale: 1, axis, block })
}

pub(super) fn quantize_linear(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    cx.ignore("saturate");
    cx.ignore("precision");
    let place = place(cx)?;
    let asked = cx.int("output_dtype")?.and_then(data_type);
    let x = cx.input(0)?;
    one(codes_of(cx, &x, place, asked.unwrap_or(DataType::Uint8))?)
}

pub(super) fn dequantize_linear(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    cx.ignore("output_dtype");
    let place = place(cx)?;
    one(reals_of(cx, 0, place)?)
}

/// Computes the codes, the scale and the zero point from the range of the input. The range is extended to include 0.
pub(super) fn dynamic_quantize_linear(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    if shape.as_fixed().is_none() {
        return Err(NodeProblem::invalid(
            "finds its scale in each input, over the whole batch, which must have a fixed size then: take the network it was made from, \
             which is in float, or one quantized with fixed scales (static quantization)",
        ));
    }
    let axes: Vec<usize> = (0..shape.rank()).collect();
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
    let t = combine(cx, Binary::Div, &x, &scale)?;
    let y = rounded(cx, &t, &zero, DataType::Uint8)?;
    let zero = cast(cx, &zero, CastTo::I64)?;
    Ok(Outputs::from_vec(vec![y, scale, zero]))
}
