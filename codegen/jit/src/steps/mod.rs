//! One file per kind of step: how it is lowered, and the code it becomes.

mod conv;
mod copy;
mod epilogue_program;
mod interpolate;
mod linear;
mod map;
mod matmul;
mod mean;
mod pick;
mod planes;
mod pool;
mod select;
mod softmax;
mod wide_map;

use crate::assign::ConvAssignment;
use crate::builder::Builder;
use crate::error::JitError;
use catc_program::{Op, Step};

/// Lowers one step. `conv` is what was decided for it, if it is a convolution.
pub(crate) fn lower(p: &mut Builder<'_>, step: &Step, conv: Option<ConvAssignment>) -> Result<(), JitError> {
    match &step.op {
        Op::Conv { geometry, .. } | Op::FloatConv { geometry, .. } => {
            let conv = conv.ok_or_else(|| JitError::invalid(&step.name, "no kernel was chosen"))?;
            conv::lower(p, step, geometry, &conv)
        }
        Op::Map { scale } => map::map(p, step, *scale),
        Op::Constant { constant } => map::constant(p, step, *constant),
        Op::View => p.view(step.inputs[0], step.output),
        Op::Concat { axis } => copy::concat(p, step, *axis),
        Op::Transpose { perm } => copy::transpose(p, step, perm),
        Op::Pad { before, value } => copy::pad(p, step, before, *value),
        Op::Slice { axis, start, step: distance } => copy::slice(p, step, *axis, *start, *distance),
        Op::Pick { axis, indices } => pick::pick(p, step, *axis, indices),
        Op::FloatLinear { weights, bias } => linear::linear(p, step, *weights, *bias),
        Op::SquaredDistance { centroids } => linear::squared_distance(p, step, *centroids),
        Op::MatMul { scale } => matmul::matmul(p, step, *scale),
        Op::MaxPool { geometry } => pool::max(p, step, geometry),
        Op::AvgPool { geometry, count_include_pad, scale } => {
            pool::average(p, step, geometry, *count_include_pad, *scale)
        }
        Op::Mean { axes, scale } => mean::mean(p, step, axes, *scale),
        Op::Interpolate { axis, indices, weights, scale } => {
            interpolate::interpolate(p, step, *axis, indices, *weights, *scale)
        }
        Op::Softmax { axis } => softmax::softmax(p, step, *axis),
        Op::ArgMin { axis } => select::argmin(p, step, *axis),
        Op::GatherRow { table } => select::gather_row(p, step, *table),
    }
}
