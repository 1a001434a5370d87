//! Convolutions of floats by precompiled tiles.

use super::conv::{self, Lowering};
use super::tile_sizes::Tiles;
use super::tiles::{self, TileConstants};
use crate::error::JitError;
use crate::plan::forms::conv_shape;
use crate::plan::planner::Planner;
use crate::plan::wish::TileWish;
use catc_kernels::precompiled::float::takes;
use catc_kernels::{FloatWeights, KernelId, dot};
use catc_program::{Geometry, Op, Step};

/// Lowers a convolution of floats for a precompiled kernel.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, kernel: KernelId) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let Op::FloatConv { groups, weights, bias, .. } = &step.op else {
        return Err(JitError::invalid(&step.name, "not a convolution of floats"));
    };
    let shape = conv_shape(&step.name, p.program.constant(*weights), geometry, *groups)?;
    let low = conv::lower(p, step, geometry, shape, kernel, None)?;
    let lanes = kernel.info().channels_per_vector;
    let (pixels, vectors) = tile(&low, lanes, p.tile);
    let layout = low.layout(lanes, 1, vectors);
    let values = p.floats(&step.name, *weights)?;
    let view = FloatWeights::new(shape, &values).map_err(failed)?;
    let packed = dot::pack_float(&view, &layout).map_err(failed)?;
    let bias = p.channel_floats(&step.name, *bias, shape.total_outputs())?;
    let constants = TileConstants {
        weights: p.constants.push(&packed),
        weight_bytes: 4 * packed.len(),
        start: p.constants.push(&bias),
        scaling: None,
        program: None,
    };
    tiles::push(p, &step.name, low, kernel, (pixels, &layout, 0), &constants);
    Ok(())
}

/// Pixels and vectors of a tile.
fn tile(low: &Lowering, lanes: usize, wish: TileWish) -> (usize, usize) {
    let vectors = low.shape.outputs.div_ceil(lanes);
    let steps = low.reduction.total() as f64;
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        // Half a cycle for each product, a latency of four, two loads a cycle; then the call and the epilogue.
        steps * (0.5 * p * v).max(4.0).max((p + v) * 0.5) + p * v * lanes as f64 * 0.25 + 40.0
    };
    Tiles { width: low.width, vectors, exists: &|p, v| takes(lanes, p, v), cost: &tile_cost }.choose(wish)
}
