//! Convolutions of floats by precompiled tiles: the function of such a layer is the loops, a call for each tile, and the way from
//! the tile's sums, which lie on its stack, to the store.

use super::conv::{self, ConvCursor, ConvLoops, ConvStore, Lowering, Reduction, Tile, cheapest_tile};
use super::finish::{self, FinishArguments};
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::plan::forms::conv_shape;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::precompiled::FINISH_512;
use catc_kernels::precompiled::finish::FinishTile;
use catc_kernels::precompiled::float::{FloatTile, takes};
use catc_kernels::{FloatWeights, Implementation, KernelId, dot};
use catc_program::{Geometry, Op, Step};
use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::types::F32X4;
use std::mem::{offset_of, size_of};

/// Cursors: 0 input, 1 weights, 2 biases, then output and operands.
#[derive(Debug)]
struct FloatCode {
    symbol: &'static str,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    store: ConvStore,
    /// Slot of the epilogue as a program, if a kernel of the tier knows its steps.
    program: Option<usize>,
}

impl StepCode for FloatCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        let call = e.prepare(self.symbol, size_of::<FloatTile>());
        let sums = e.aligned_stack(self.loops.pixels * self.loops.vectors * 4 * self.loops.channels_per_vector);
        e.set(&call, offset_of!(FloatTile, sums), sums);
        e.set_int(&call, offset_of!(FloatTile, input_pixel), self.cursors[0].pixel);
        e.set_int(&call, offset_of!(FloatTile, rows), self.reduction.rows as i64);
        e.set_int(&call, offset_of!(FloatTile, row_bytes), self.reduction.row_bytes);
        e.set_int(&call, offset_of!(FloatTile, taps), self.reduction.taps as i64);
        e.set_int(&call, offset_of!(FloatTile, tap_bytes), self.reduction.tap_bytes);
        e.set_int(&call, offset_of!(FloatTile, steps), self.reduction.steps as i64);
        let finish = self.program.map(|slot| {
            let call = e.prepare(FINISH_512, size_of::<FinishTile>());
            let arguments = FinishArguments { call: &call, at: offset_of!(FinishTile, finish) };
            arguments.fix(e, slot, &self.cursors[self.store.first_cursor..]);
            e.set(&call, offset_of!(FinishTile, sums), sums);
            call
        });
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| {
            let pixel_sums = (tile.vectors * 4 * self.loops.channels_per_vector) as i64;
            e.set(&call, offset_of!(FloatTile, input), pointers[0]);
            e.set(&call, offset_of!(FloatTile, weights), pointers[1]);
            e.set(&call, offset_of!(FloatTile, start), pointers[2]);
            e.set_int(&call, offset_of!(FloatTile, sums_pixel), pixel_sums);
            e.set_int(&call, offset_of!(FloatTile, pixels), tile.pixels as i64);
            e.set_int(&call, offset_of!(FloatTile, vectors), tile.vectors as i64);
            e.call(&call);
            match &finish {
                Some(finish) => self.finish(e, finish, tile, pixel_sums, pointers),
                None => self.emitted(e, tile, (sums, pixel_sums), pointers),
            }
        });
    }
}

impl FloatCode {
    fn finish(&self, e: &mut Emitter<'_>, call: &Call, tile: Tile, pixel_sums: i64, pointers: &[Value]) {
        let arguments = FinishArguments { call, at: offset_of!(FinishTile, finish) };
        // Without a multiplier sums are taken as they are.
        let none = e.int(0);
        arguments.block(e, none, none, tile.channels);
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
                let vectors = (0..count.div_ceil(4)).map(|i| e.load(F32X4, moved[0], 4 * (channel + 4 * i) as i64));
                let values = vectors.collect();
                self.store.emit(e, &pointers, 0, channel, count, values);
            }
            vec![]
        });
    }
}

/// Lowers a convolution of floats for a precompiled kernel.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, kernel: KernelId) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let (Op::FloatConv { groups, weights, bias, .. }, Implementation::Precompiled(symbol)) =
        (&step.op, kernel.info().implementation)
    else {
        return Err(JitError::invalid(&step.name, "not a convolution of floats by a precompiled kernel"));
    };
    let shape = conv_shape(&step.name, p.program.constant(*weights), geometry, *groups)?;
    let values = p.floats(&step.name, *weights)?;
    let view = FloatWeights::new(shape, &values).map_err(failed)?;
    let mut low = conv::lower(p, step, geometry, shape, kernel, None)?;
    let lanes = kernel.info().channels_per_vector;
    let (pixels, vectors) = tile(&low, lanes);
    let layout = low.layout(lanes, 1, vectors);
    let packed = dot::pack_float(&view, &layout).map_err(failed)?;
    let bias = p.channel_floats(&step.name, *bias, shape.total_outputs())?;
    let weight_slot = low.slots.add(Slot::Constant(p.constants.push(&packed)));
    // Tiles read whole vectors: up to the end of a block.
    let mut padded = bias;
    padded.resize(padded.len() + vectors * lanes, 0.0);
    let bias_slot = low.slots.add(Slot::Constant(p.constants.push(&padded)));
    let mut cursors = vec![
        low.input_cursor,
        low.weight_cursor(weight_slot, &layout, kernel.info().vector_bytes),
        low.channel_cursor(bias_slot, 4, vectors * lanes),
    ];
    let loops = ConvLoops {
        groups: low.shape.groups,
        outputs: low.shape.outputs,
        channels_per_vector: lanes,
        width: low.width,
        pixels,
        vectors,
    };
    let (height, macs, reduction) = (low.height, low.macs, low.reduction);
    let (mut slots, store) = low.store(&mut cursors, vectors * lanes);
    let program = match kernel {
        KernelId::Float512 => finish::program(&store, &cursors, slots.as_slice()),
        _ => None,
    };
    let program = program.map(|program| slots.add(Slot::Constant(p.constants.push(&program.words()))));
    let code = FloatCode { symbol, loops, cursors, reduction, store, program };
    p.push(&step.name, slots, height, code).with_kernel(kernel, macs);
    Ok(())
}

/// Pixels and vectors of a tile: the cheapest by a count of cycles.
fn tile(low: &Lowering, lanes: usize) -> (usize, usize) {
    let vectors = low.shape.outputs.div_ceil(lanes);
    let steps = low.reduction.total() as f64;
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        // Half a cycle for each product, a latency of four, two loads a cycle; then the call and the epilogue.
        steps * (0.5 * p * v).max(4.0).max((p + v) * 0.5) + p * v * lanes as f64 * 0.25 + 40.0
    };
    cheapest_tile(low.width, vectors, &|p, v| takes(lanes, p, v), &tile_cost)
}
