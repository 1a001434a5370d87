//! Convolutions: one file for each way in which code runs a kernel, and what all of them share.

mod affine;
mod depthwise;
mod depthwise_rows;
mod dot;
mod epilogue;
mod layer;
mod lookup_tiles;
mod loops;
mod pairs;
mod pixels;
mod plan;
pub(crate) mod product;
mod right_matrix;
mod store;
mod sum_tiles;
mod thresholds;
mod winograd;

use crate::assign::ConvAssignment;
use crate::builder::Builder;
use crate::error::JitError;
use catc_kernels::Execution;
use catc_program::{Geometry, Step};
use layer::Layer;

/// Lowers a convolution by the kernel that was chosen for it.
pub(crate) fn lower(
    p: &mut Builder<'_>,
    step: &Step,
    geometry: &Geometry,
    assigned: &ConvAssignment,
) -> Result<(), JitError> {
    let layer = Layer::of(p, step, geometry, assigned)?;
    match assigned.choice.kernel.execution() {
        Execution::EmittedDot(product) => dot::lower(p, layer, product),
        Execution::EmittedPairs => pairs::lower(p, layer),
        Execution::EmittedDepthwise(product) => depthwise::lower(p, layer, product),
        Execution::SumTiles(tiles) => sum_tiles::lower(p, layer, tiles),
        Execution::Winograd(tiles) => winograd::lower(p, layer, tiles),
        Execution::LookupTiles(tiles) => lookup_tiles::lower(p, layer, tiles),
        Execution::DepthwiseRows(row) => depthwise_rows::lower(p, layer, row),
    }
}
