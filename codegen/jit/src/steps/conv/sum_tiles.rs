//! Layers by precompiled tiles of sums. The function of such a layer has the loops and calls the kernel for each tile, whose sums lie on the
//! function's stack. The epilogue of a tile is a second call, or emitted code where the precompiled epilogue does not have the steps.

use super::affine;
use super::epilogue::{self, EpilogueCall};
use super::layer::{Layer, Scaling};
use super::loops::{ConvCursor, ConvLoops, Reduction, Tile};
use super::pixels::UNIT_PIXELS;
use super::plan::ConvPlan;
use super::right_matrix::RightMatrix;
use super::store::{ConvStore, scale_sums};
use crate::builder::Builder;
use crate::emit::StepCode;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::{RowAccess, Slot};
use catc_kernels::dot::{DotTile, packing};
use catc_kernels::epilogue::{EpilogueProgram, EpilogueTile};
use catc_kernels::{FloatWeights, Function, SumTiles, TileWeights, WeightLayout};
use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::types::{F32X4, I32X4};
use std::mem::{offset_of, size_of};

/// The most bytes of weights that are read again for each work unit, from the second-level cache.
const MAX_WEIGHTS: usize = 256 << 10;

/// The fewest pixels of a work unit for which reading all weights is worth it.
const MIN_UNIT: usize = UNIT_PIXELS;

/// Cursors: 0 input, 1 weights, 2 initial sums, of codes 3 biases and 4 multipliers, then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SumTileCode {
    pub(super) tile: &'static Function,
    pub(super) epilogue: &'static Function,
    pub(super) loops: ConvLoops,
    pub(super) cursors: Vec<ConvCursor>,
    pub(super) reduction: Reduction,
    /// Steps after which 16-bit sums must be widened.
    pub(super) drain: usize,
    pub(super) store: ConvStore,
    /// Whether there are biases and multipliers.
    pub(super) scaled: bool,
    /// Whether a work unit is finished, with all blocks of output channels, before the next one. Blocks share cache lines of the output, which
    /// stay in the cache that way; the weights must fit the second-level cache.
    pub(super) unit_by_unit: bool,
    /// Weights that are packed at the start of each work unit, if they are no constants. Only where units are finished one by one.
    pub(super) packed: Option<RightMatrix>,
    /// Slot of the epilogue as a program, if the kernel knows its steps.
    pub(super) program: Option<usize>,
}

impl StepCode for SumTileCode {
    fn rows(&self) -> Option<RowAccess> {
        self.store.rows(&self.cursors)
    }

    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        // Tiles of codes and of floats have one block of arguments.
        let call = e.prepare(self.tile, size_of::<DotTile>());
        let sums = e.aligned_stack(self.loops.tile_pixels * self.loops.vectors * 4 * self.loops.channels_per_vector);
        e.set(&call, offset_of!(DotTile, sums), sums);
        e.set_int(&call, offset_of!(DotTile, input_pixel), self.cursors[0].pixel);
        e.set_int(&call, offset_of!(DotTile, rows), self.reduction.rows as i64);
        e.set_int(&call, offset_of!(DotTile, row_bytes), self.reduction.row_bytes);
        e.set_int(&call, offset_of!(DotTile, taps), self.reduction.taps as i64);
        e.set_int(&call, offset_of!(DotTile, tap_bytes), self.reduction.tap_bytes);
        e.set_int(&call, offset_of!(DotTile, steps), self.reduction.steps as i64);
        e.set_int(&call, offset_of!(DotTile, drain), self.drain as i64);
        let epilogue = self.program.map(|slot| {
            let call = e.prepare(self.epilogue, size_of::<EpilogueTile>());
            let arguments = EpilogueCall { call: &call, at: offset_of!(EpilogueTile, epilogue) };
            arguments.fix(e, slot, &self.cursors[self.store.first_cursor..]);
            e.set(&call, offset_of!(EpilogueTile, sums), sums);
            call
        });
        if !self.unit_by_unit {
            return self.units(e, &call, epilogue.as_ref(), sums);
        }
        e.range(first, last, &[], vec![], |e, unit, _, _| {
            if let Some(matrix) = &self.packed {
                matrix.emit(e, unit);
            }
            (e.first, e.last) = (unit, e.offset(unit, 1));
            self.units(e, &call, epilogue.as_ref(), sums);
            vec![]
        });
    }
}

impl SumTileCode {
    /// Biases and multipliers of the sums, where they are codes.
    fn scaling(&self, pointers: &[Value]) -> Option<(Value, Value)> {
        self.scaled.then(|| (pointers[3], pointers[4]))
    }

    /// The work units `first..last` of the emitter.
    fn units(&self, e: &mut Emitter<'_>, call: &Call, epilogue: Option<&Call>, sums: Value) {
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| {
            let pixel_sums = (tile.vectors * 4 * self.loops.channels_per_vector) as i64;
            e.set(call, offset_of!(DotTile, input), pointers[0]);
            e.set(call, offset_of!(DotTile, weights), pointers[1]);
            e.set(call, offset_of!(DotTile, start), pointers[2]);
            e.set_int(call, offset_of!(DotTile, sums_pixel), pixel_sums);
            e.set_int(call, offset_of!(DotTile, pixels), tile.pixels as i64);
            e.set_int(call, offset_of!(DotTile, vectors), tile.vectors as i64);
            e.call(call);
            match epilogue {
                Some(epilogue) => self.finish(e, epilogue, tile, pixel_sums, pointers),
                None => self.emitted(e, tile, (sums, pixel_sums), pointers),
            }
        });
    }

    /// The epilogue of a tile by its function.
    fn finish(&self, e: &mut Emitter<'_>, call: &Call, tile: Tile, pixel_sums: i64, pointers: &[Value]) {
        let arguments = EpilogueCall { call, at: offset_of!(EpilogueTile, epilogue) };
        // Without a multiplier sums are taken as they are.
        let (bias, multiplier) = self.scaling(pointers).unwrap_or_else(|| (e.int(0), e.int(0)));
        arguments.block(e, multiplier, bias, tile.channels);
        arguments.places(e, &pointers[self.store.first_cursor..]);
        e.set_int(call, offset_of!(EpilogueTile, sums_pixel), pixel_sums);
        e.set_int(call, offset_of!(EpilogueTile, pixels), tile.pixels as i64);
        e.call(call);
    }

    /// The same by emitted code.
    fn emitted(&self, e: &mut Emitter<'_>, tile: Tile, sums: (Value, i64), pointers: &[Value]) {
        // Output and operands move from pixel to pixel; what belongs to channels stays.
        let mut advances = vec![sums];
        advances.extend(pointers.iter().zip(&self.cursors).skip(self.store.first_cursor).map(|(&p, c)| (p, c.pixel)));
        let scaling = self.scaling(pointers);
        e.repeat(tile.pixels, &advances, vec![], |e, moved, _| {
            let mut pointers = pointers.to_vec();
            pointers[self.store.first_cursor..].copy_from_slice(&moved[1..]);
            for channel in (0..tile.channels).step_by(16) {
                let count = (tile.channels - channel).min(16);
                let ty = if scaling.is_some() { I32X4 } else { F32X4 };
                let vectors = (0..count.div_ceil(4)).map(|i| e.load(ty, moved[0], 4 * (channel + 4 * i) as i64));
                let mut values: Vec<Value> = vectors.collect();
                if let Some((bias, multiplier)) = scaling {
                    values = scale_sums(e, values, (multiplier, bias), channel, count);
                }
                self.store.emit(e, &pointers, 0, channel, count, values);
            }
            vec![]
        });
    }
}

/// What a layer's tiles read beside the input, as places in the constants.
struct TileConstants {
    weights: usize,
    /// Initial sums of each channel, in whole vectors.
    start: usize,
    /// Biases and multipliers, of codes.
    scaling: Option<(usize, usize)>,
    /// The epilogue, if it is another than that of the layer's steps.
    program: Option<EpilogueProgram>,
}

/// Lowers a convolution of codes or floats.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>, tiles: SumTiles) -> Result<(), JitError> {
    match tiles.weights {
        TileWeights::Floats => lower_floats(p, layer, tiles),
        TileWeights::Bytes | TileWeights::Shorts => lower_codes(p, layer, tiles),
    }
}

fn lower_floats(p: &mut Builder<'_>, layer: Layer<'_>, tiles: SumTiles) -> Result<(), JitError> {
    let (values, bias) = layer.floats(p)?;
    let mut plan = layer.plan(p, None)?;
    let (tile, layout) = tile(p, &layer, &mut plan);
    let view = FloatWeights::new(layer.shape, &values).map_err(|source| layer.failed(source))?;
    let packed = packing::pack_float(&view, &layout).map_err(|source| layer.failed(source))?;
    let weights = p.constants.push(&packed);
    let constants = TileConstants { weights, start: p.constants.push(&bias), scaling: None, program: None };
    push(p, &layer, plan, tiles, (tile, &layout), &constants);
    Ok(())
}

fn lower_codes(p: &mut Builder<'_>, layer: Layer<'_>, tiles: SumTiles) -> Result<(), JitError> {
    let view = layer.view()?;
    let scaling = Scaling::of(p, &layer)?;
    let mut plan = layer.plan(p, scaling.bound)?;
    let (tile, layout) = tile(p, &layer, &mut plan);
    let zero = i32::from(plan.input.zero());
    let [weights, start] = p.packed(layer.packing(&plan, Some(layout)), |constants| {
        let packed = packing::pack(&view, &layout, zero).map_err(|source| layer.failed(source))?;
        let bytes = match tiles.weights {
            TileWeights::Shorts => constants.push(&packed.widened()),
            TileWeights::Bytes | TileWeights::Floats => constants.push(&packed.bytes),
        };
        Ok([bytes, constants.push(&packed.constants)])
    })?;
    let mut ends = Vec::new();
    let (slots, store) = plan.clone().store(&mut ends, layout.vectors_per_block * layout.channels_per_vector);
    let program = epilogue::program(plan.epilogue(), &store, &ends, slots.as_slice()).ok().filter(|_| tiles.fuses);
    let affine = program.and_then(|program| affine::of(&program, &store, &scaling, layer.choice.largest_result, 1));
    let (bias, multiplier) =
        affine.as_ref().map_or((&scaling.bias, &scaling.multiplier), |affine| (&affine.bias, &affine.multiplier));
    let constants = TileConstants {
        weights,
        start,
        scaling: Some((p.constants.push(bias), p.constants.push(multiplier))),
        program: affine.as_ref().map(|affine| affine.program),
    };
    push(p, &layer, plan, tiles, (tile, &layout), &constants);
    Ok(())
}

/// Pixels and vectors of a layer's tile, and the order of its weights.
fn tile(p: &Builder<'_>, layer: &Layer<'_>, plan: &mut ConvPlan) -> ((usize, usize), WeightLayout) {
    let info = layer.kernel().kernel().info();
    let rows = plan.tiles(layer.kernel(), p.kernels.tier, [false; 2]);
    let tile = plan.choose_tile(layer.kernel(), rows, p.tile);
    (tile, plan.layout(info.channels_per_vector, info.units_per_step, tile.1))
}

/// Appends the function of a layer whose weights are packed in the order of `layout`.
fn push(
    p: &mut Builder<'_>,
    layer: &Layer<'_>,
    mut plan: ConvPlan,
    tiles: SumTiles,
    (tile, layout): ((usize, usize), &WeightLayout),
    constants: &TileConstants,
) {
    let info = layer.kernel().kernel().info();
    let (tile_pixels, vectors) = tile;
    let block = vectors * info.channels_per_vector;
    let mut slot = |at: usize| plan.slots.add(Slot::Constant(at));
    let (weights, start) = (slot(constants.weights), slot(constants.start));
    let scaling = constants.scaling.map(|(bias, multiplier)| [slot(bias), slot(multiplier)]);
    let mut cursors = vec![
        plan.input_cursor,
        plan.weight_cursor(weights, layout, info.vector_bytes),
        plan.channel_cursor(start, 4, block),
    ];
    cursors.extend(scaling.into_iter().flatten().map(|slot| plan.channel_cursor(slot, 4, block)));
    let loops = ConvLoops {
        groups: plan.shape.groups,
        outputs: plan.shape.outputs,
        channels_per_vector: info.channels_per_vector,
        pixels: plan.pixels,
        tile_pixels,
        vectors,
    };
    let (units, macs, reduction) = (plan.units(), plan.macs, plan.reduction);
    let planned = plan.epilogue().clone();
    let (mut slots, store) = plan.store(&mut cursors, block);
    let program = constants.program.or_else(|| epilogue::program(&planned, &store, &cursors, slots.as_slice()).ok());
    let program = program.map(|program| slots.add(Slot::Constant(p.constants.push(&program.words()))));
    let weight_bytes = layout.vector_count() * info.vector_bytes;
    let code = SumTileCode {
        tile: tiles.tile,
        epilogue: tiles.epilogue,
        unit_by_unit: loops.outputs > block && loops.pixels.unit() >= MIN_UNIT && weight_bytes <= MAX_WEIGHTS,
        loops,
        cursors,
        reduction,
        drain: layer.choice.steps_per_drain,
        store,
        scaled: scaling.is_some(),
        packed: None,
        program,
    };
    p.push(&layer.step.name, slots, units, code).with_kernel(layer.choice, macs, Some(tile));
}
