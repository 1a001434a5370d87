//! Convolutions of codes by precompiled kernels: Winograd's, look-ups, or tiles of dot products, which take whatever the others do not.

use super::conv::{self, Lowering, Scaling};
use super::tile_sizes::Tiles;
use super::tiles::{self, TileConstants};
use super::weights::PreparedWeights;
use super::{affine, conv_lookup_tiles, conv_winograd, finish};
use crate::error::JitError;
use crate::plan::planner::Planner;
use crate::plan::wish::TileWish;
use catc_kernels::precompiled::dot::takes;
use catc_kernels::{Choice, KernelId, QuantizedWeights, Request, Tier, Window, choose_dot, dot, winograd};
use catc_program::{Geometry, Op, Step};

/// Lowers a convolution of codes for precompiled kernels.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, choice: Choice) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let kernel = choice.kernel;
    let weights = PreparedWeights::of(p.program, step, p.kernels)?;
    let view = weights.view().map_err(failed)?;
    let scaling = Scaling::of(p, step, view.shape().total_outputs(), choice.largest_result)?;
    // Whatever the kernel, the walk is that of the dot product, which takes what other kernels do not.
    let low = conv::lower(p, step, geometry, *view.shape(), KernelId::DotVnni512, scaling.bound)?;
    // What comes back has an epilogue that the kernel does not know.
    let left = match (winograd::Tile::of(kernel), kernel) {
        (Some(tile), _) => conv_winograd::lower(p, step, low, &view, &scaling, (choice, tile))?,
        (None, KernelId::Lookup512 | KernelId::Lookup256) => {
            conv_lookup_tiles::lower(p, step, geometry, low, &view, &scaling, choice)?
        }
        _ => return direct(p, step, low, &view, &scaling, choice),
    };
    let Some(low) = left else { return Ok(()) };
    let request = Request {
        weights: &view,
        weight_bits: weights.bits,
        activation_bits: low.input.codes.map_or(8, |codes| (u8::BITS - codes.levels.leading_zeros()) as u8),
        activation_zero_point: i32::from(low.input.zero()),
        window: Window { strides: geometry.strides, dilations: geometry.dilations, output: [low.height, low.width] },
        kernels: p.kernels,
    };
    let dot = choose_dot(&request);
    direct(p, step, low, &view, &scaling, dot)
}

fn direct(
    p: &mut Planner<'_>,
    step: &Step,
    mut low: Lowering,
    view: &QuantizedWeights<'_>,
    scaling: &Scaling,
    Choice { kernel, steps_per_drain, largest_result, .. }: Choice,
) -> Result<(), JitError> {
    let info = kernel.info();
    // A step is of as many codes, a byte each, as this kernel takes.
    low.reduction.step_bytes = info.units_per_step as i64;
    low.reduction.steps = low.layout(info.channels_per_vector, info.units_per_step, 1).steps_per_run();
    let (pixels, vectors) = tile(&low, kernel, p.tile);
    let layout = low.layout(info.channels_per_vector, info.units_per_step, vectors);
    let Op::Conv { weights: constant, .. } = step.op else {
        return Err(JitError::invalid(&step.name, "not a convolution of codes"));
    };
    let zero = i32::from(low.input.zero());
    let [weights, start] = p.packed(constant, (kernel, &layout, zero), |constants| {
        let packed =
            dot::pack(view, &layout, zero).map_err(|source| JitError::Weights { step: step.name.clone(), source })?;
        let bytes = match kernel {
            KernelId::DotMadd256 => constants.push(&packed.widened()),
            _ => constants.push(&packed.bytes),
        };
        Ok([bytes, constants.push(&packed.constants)])
    })?;
    let mut ends = Vec::new();
    let (slots, store) = low.clone().store(&mut ends, vectors * info.channels_per_vector);
    let program = finish::program(&store, &ends, slots.as_slice()).filter(|_| info.tier >= Tier::Avx512Vnni);
    let affine = program.and_then(|program| affine::of(&program, &store, scaling, largest_result, 1));
    let (bias, multiplier) =
        affine.as_ref().map_or((&scaling.bias, &scaling.multiplier), |affine| (&affine.bias, &affine.multiplier));
    let constants = TileConstants {
        weights,
        weight_bytes: layout.vector_count() * info.vector_bytes,
        start,
        scaling: Some((p.constants.push(bias), p.constants.push(multiplier))),
        program: affine.as_ref().map(|affine| affine.program),
    };
    tiles::push(p, &step.name, low, kernel, (pixels, &layout, steps_per_drain), &constants);
    Ok(())
}

/// Pixels and vectors of a tile.
fn tile(low: &Lowering, kernel: KernelId, wish: TileWish) -> (usize, usize) {
    let lanes = kernel.info().channels_per_vector;
    let vectors = low.shape.outputs.div_ceil(lanes);
    let steps = low.reduction.total() as f64;
    // Cycles of a step for each vector of sums and for each pixel, and of the epilogue for each vector.
    let (product, pixel, end) = match kernel {
        KernelId::DotMadd256 => (0.75, 0.37, 2.5),
        KernelId::DotMaddubs256 => (0.7, 0.0, 2.5),
        KernelId::DotVnni256 => (0.56, 0.0, 2.5),
        _ => (0.5, 0.0, 5.0),
    };
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        // A latency of five, and two loads a cycle; then the call and the epilogue.
        steps * ((product * v + pixel) * p).max(5.0).max((p + v) * 0.5) + p * (v * end + 4.0) + 40.0
    };
    Tiles { width: low.width, vectors, exists: &|p, v| takes(kernel, p, v), cost: &tile_cost }.choose(wish)
}
