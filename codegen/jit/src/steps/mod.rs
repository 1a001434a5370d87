//! One file per kind of layer: how it is lowered, and the code it becomes.

mod affine;
pub(crate) mod conv;
pub(crate) mod conv_dot;
pub(crate) mod conv_float;
pub(crate) mod conv_lookup;
pub(crate) mod conv_lookup_tiles;
pub(crate) mod conv_tiles;
pub(crate) mod conv_winograd;
pub(crate) mod copy;
pub(crate) mod depthwise;
pub(crate) mod depthwise_wide;
pub(crate) mod finish;
pub(crate) mod linear;
mod lookup_kinds;
pub(crate) mod map;
pub(crate) mod matmul;
pub(crate) mod mean;
pub(crate) mod pick;
pub(crate) mod planes;
mod pool;
pub(crate) mod select;
pub(crate) mod softmax;
pub(crate) mod thresholds;
pub(crate) mod tile_sizes;
pub(crate) mod tiles;
pub(crate) mod walk;
pub(crate) mod weights;

use crate::error::JitError;
use crate::plan::planner::Planner;
use catc_kernels::{Choice, Implementation, KernelId};
use catc_program::{Op, Step};

/// Lowers one step.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, conv: Option<Choice>) -> Result<(), JitError> {
    match &step.op {
        Op::Conv { geometry, .. } => {
            let choice = conv.ok_or_else(|| JitError::invalid(&step.name, "no kernel was chosen"))?;
            match choice.kernel {
                KernelId::Lookup => conv_lookup::lower(p, step, geometry, choice),
                KernelId::DepthwiseMaddubs | KernelId::DepthwiseMadd16 | KernelId::Depthwise512 => {
                    depthwise::lower(p, step, geometry, choice)
                }
                kernel if matches!(kernel.info().implementation, Implementation::Precompiled(_)) => {
                    conv_tiles::lower(p, step, geometry, choice)
                }
                _ => conv_dot::lower(p, step, geometry, choice),
            }
        }
        Op::FloatConv { geometry, .. } => {
            let choice = conv.ok_or_else(|| JitError::invalid(&step.name, "no kernel was chosen"))?;
            match choice.kernel {
                KernelId::DepthwiseFloat | KernelId::DepthwiseFloat512 => {
                    depthwise::lower_float(p, step, geometry, choice.kernel)
                }
                KernelId::FloatDot => conv_dot::lower_float(p, step, geometry, KernelId::FloatDot),
                kernel => conv_float::lower(p, step, geometry, kernel),
            }
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
        Op::Softmax { axis } => softmax::softmax(p, step, *axis),
        Op::ArgMin { axis } => select::argmin(p, step, *axis),
        Op::GatherRow { table } => select::gather_row(p, step, *table),
    }
}
