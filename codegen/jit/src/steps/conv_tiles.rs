//! Convolutions of codes by precompiled tiles: the function of such a layer is the loops, a call for each tile, and the way from
//! the tile's sums, which lie on its stack, to the store: a call again, or emitted code where the epilogue is an unusual one.

use super::conv::{
    self, ConvCursor, ConvLoops, ConvStore, Lowering, Reduction, Scaling, Tile, cheapest_tile, scale_sums,
};
use super::finish::{self, FinishArguments};
use super::{conv_triples, conv_winograd};
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::plan::forms::ConvPlan;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::precompiled::dot::{DotTile, takes};
use catc_kernels::precompiled::finish::FinishTile;
use catc_kernels::precompiled::{DOT_VNNI_512, FINISH_512};
use catc_kernels::{KernelId, QuantizedWeights, dot};
use catc_program::{Geometry, Step};
use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::types::I32X4;
use std::mem::{offset_of, size_of};

/// Bytes of weights that may go by for each row, from the second-level cache.
const MOST_WEIGHTS: usize = 256 << 10;

/// Pixels of a row that are worth all weights.
const LEAST_WIDTH: usize = 14;

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers, 4 initial sums, then output and operands.
#[derive(Debug)]
struct TileCode {
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    store: ConvStore,
    /// Whether all blocks of output channels are done for a row before the next: weights that stay in the cache leave it to the
    /// output's lines, which blocks share.
    row_by_row: bool,
    /// Slot of the epilogue as a program, if the kernel knows its steps.
    program: Option<usize>,
}

impl StepCode for TileCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        let call = e.prepare(DOT_VNNI_512, size_of::<DotTile>());
        let sums = e.aligned_stack(self.loops.pixels * self.loops.vectors * 4 * self.loops.channels_per_vector);
        e.set(&call, offset_of!(DotTile, sums), sums);
        e.set_int(&call, offset_of!(DotTile, input_pixel), self.cursors[0].pixel);
        e.set_int(&call, offset_of!(DotTile, rows), self.reduction.rows as i64);
        e.set_int(&call, offset_of!(DotTile, row_bytes), self.reduction.row_bytes);
        e.set_int(&call, offset_of!(DotTile, taps), self.reduction.taps as i64);
        e.set_int(&call, offset_of!(DotTile, tap_bytes), self.reduction.tap_bytes);
        e.set_int(&call, offset_of!(DotTile, steps), self.reduction.steps as i64);
        let finish = self.program.map(|slot| {
            let call = e.prepare(FINISH_512, size_of::<FinishTile>());
            let arguments = FinishArguments { call: &call, at: offset_of!(FinishTile, finish) };
            arguments.fix(e, slot, &self.cursors[self.store.first_cursor..]);
            e.set(&call, offset_of!(FinishTile, sums), sums);
            call
        });
        if !self.row_by_row {
            return self.rows(e, &call, finish.as_ref(), sums);
        }
        e.range(first, last, &[], vec![], |e, row, _, _| {
            (e.first, e.last) = (row, e.offset(row, 1));
            self.rows(e, &call, finish.as_ref(), sums);
            vec![]
        });
    }
}

impl TileCode {
    /// The rows `first..last` of the emitter.
    fn rows(&self, e: &mut Emitter<'_>, call: &Call, finish: Option<&Call>, sums: Value) {
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| {
            let pixel_sums = (tile.vectors * 4 * self.loops.channels_per_vector) as i64;
            e.set(call, offset_of!(DotTile, input), pointers[0]);
            e.set(call, offset_of!(DotTile, weights), pointers[1]);
            e.set(call, offset_of!(DotTile, start), pointers[4]);
            e.set_int(call, offset_of!(DotTile, sums_pixel), pixel_sums);
            e.set_int(call, offset_of!(DotTile, pixels), tile.pixels as i64);
            e.set_int(call, offset_of!(DotTile, vectors), tile.vectors as i64);
            e.call(call);
            match finish {
                Some(finish) => self.finish(e, finish, tile, pixel_sums, pointers),
                None => self.emitted(e, tile, (sums, pixel_sums), pointers),
            }
        });
    }

    fn finish(&self, e: &mut Emitter<'_>, call: &Call, tile: Tile, pixel_sums: i64, pointers: &[Value]) {
        let arguments = FinishArguments { call, at: offset_of!(FinishTile, finish) };
        arguments.block(e, pointers[3], pointers[2], tile.channels);
        arguments.places(e, &pointers[self.store.first_cursor..]);
        e.set_int(call, offset_of!(FinishTile, sums_pixel), pixel_sums);
        e.set_int(call, offset_of!(FinishTile, pixels), tile.pixels as i64);
        e.call(call);
    }

    fn emitted(&self, e: &mut Emitter<'_>, tile: Tile, sums: (Value, i64), pointers: &[Value]) {
        // Output and operands move from pixel to pixel; what belongs to channels stays.
        let mut advances = vec![sums];
        advances.extend(pointers.iter().zip(&self.cursors).skip(self.store.first_cursor).map(|(&p, c)| (p, c.pixel)));
        e.repeat(tile.pixels, &advances, vec![], |e, moved, _| {
            let mut pointers = pointers.to_vec();
            pointers[self.store.first_cursor..].copy_from_slice(&moved[1..]);
            for channel in (0..tile.channels).step_by(16) {
                let count = (tile.channels - channel).min(16);
                let vectors = (0..count.div_ceil(4)).map(|i| e.load(I32X4, moved[0], 4 * (channel + 4 * i) as i64));
                let vectors = vectors.collect();
                let values = scale_sums(e, vectors, (pointers[3], pointers[2]), channel, count);
                self.store.emit(e, &pointers, 0, channel, count, values);
            }
            vec![]
        });
    }
}

/// Lowers a convolution of codes for precompiled kernels.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, plan: ConvPlan) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let kernel = plan.choice.kernel;
    let weights = plan.weights.ok_or_else(|| JitError::invalid(&step.name, "no weights"))?;
    let view = weights.view().map_err(failed)?;
    let scaling = Scaling::of(p, step, view.shape().total_outputs(), plan.choice.largest_result)?;
    // Whatever the kernel, the walk is that of the dot product, which takes what other kernels do not.
    let low = conv::lower(p, step, geometry, *view.shape(), KernelId::DotVnni512, scaling.bound)?;
    // What comes back has an epilogue that the kernel does not know.
    let left = match kernel {
        KernelId::Winograd512 => conv_winograd::lower(p, step, low, &view, &scaling)?,
        KernelId::Lookup512 => conv_triples::lower(p, step, geometry, low, &view, &scaling)?,
        _ => Some(low),
    };
    left.map_or(Ok(()), |low| direct(p, step, low, &view, &scaling))
}

fn direct(
    p: &mut Planner<'_>,
    step: &Step,
    mut low: Lowering,
    view: &QuantizedWeights<'_>,
    scaling: &Scaling,
) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let kernel = KernelId::DotVnni512;
    let info = kernel.info();
    let (pixels, vectors) = tile(&low, kernel);
    let layout = low.layout(info.channels_per_vector, info.units_per_step, vectors);
    let packed = dot::pack(view, &layout, i32::from(low.input.zero())).map_err(failed)?;
    let constants = &mut p.constants;
    let mut add = |at: usize| low.slots.add(Slot::Constant(at));
    let weight_slot = add(constants.push(&packed.bytes));
    let bias_slot = add(constants.push(&scaling.bias));
    let multiplier_slot = add(constants.push(&scaling.multiplier));
    let start_slot = add(constants.push(&packed.constants));
    let block = vectors * info.channels_per_vector;
    let mut cursors = vec![
        low.input_cursor,
        low.weight_cursor(weight_slot, &layout, info.vector_bytes),
        low.channel_cursor(bias_slot, 4, block),
        low.channel_cursor(multiplier_slot, 4, block),
        low.channel_cursor(start_slot, 4, block),
    ];
    let loops = ConvLoops {
        groups: low.shape.groups,
        outputs: low.shape.outputs,
        channels_per_vector: info.channels_per_vector,
        width: low.width,
        pixels,
        vectors,
    };
    let (height, width, macs, reduction) = (low.height, low.width, low.macs, low.reduction);
    let weight_bytes = packed.bytes.len();
    let (mut slots, store) = low.store(&mut cursors, block);
    let program = finish::program(&store, &cursors, slots.as_slice());
    let program = program.map(|program| slots.add(Slot::Constant(p.constants.push(&program.words()))));
    let row_by_row = loops.outputs > block && width >= LEAST_WIDTH && weight_bytes <= MOST_WEIGHTS;
    let code = TileCode { loops, cursors, reduction, store, row_by_row, program };
    p.push(&step.name, slots, height, code).with_kernel(kernel, macs);
    Ok(())
}

/// Pixels and vectors of a tile: the cheapest by a count of cycles.
fn tile(low: &Lowering, kernel: KernelId) -> (usize, usize) {
    let vectors = low.shape.outputs.div_ceil(kernel.info().channels_per_vector);
    let steps = low.reduction.total() as f64;
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        // Half a cycle for each product, a latency of five, and two loads a cycle; then the call and the epilogue.
        steps * (0.5 * p * v).max(5.0).max((p + v) * 0.5) + p * v * 5.0 + 40.0
    };
    cheapest_tile(low.width, vectors, &takes, &tile_cost)
}
