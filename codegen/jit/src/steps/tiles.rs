//! Layers by precompiled tiles of sums: the function of such a layer is the loops, a call for each tile, and the way from the tile's
//! sums, which lie on its stack, to the store: a call again, or emitted code where the epilogue is an unusual one.

use super::conv::{ConvCursor, ConvLoops, ConvStore, Lowering, Reduction, Tile, scale_sums};
use super::finish::{self, FinishArguments};
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::plan::bands::RowAccess;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::precompiled::dot::DotTile;
use catc_kernels::precompiled::finish::{FinishTile, Program};
use catc_kernels::precompiled::finish_symbol;
use catc_kernels::{Implementation, KernelId, WeightLayout};
use cranelift_codegen::ir::Value;
use cranelift_codegen::ir::types::{F32X4, I32X4};
use std::mem::{offset_of, size_of};

/// Bytes of weights that may go by for each row, from the second-level cache.
const MOST_WEIGHTS: usize = 256 << 10;

/// Pixels of a row that are worth all weights.
const LEAST_WIDTH: usize = 14;

/// Cursors: 0 input, 1 weights, 2 initial sums, of codes 3 biases and 4 multipliers, then output and operands.
#[derive(Debug)]
struct TileCode {
    symbol: &'static str,
    finish: &'static str,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    /// Steps after which 16-bit sums must be widened.
    drain: usize,
    store: ConvStore,
    /// Whether all blocks of output channels are done for a row before the next: weights that stay in the cache leave it to the
    /// output's lines, which blocks share.
    row_by_row: bool,
    /// Slot of the epilogue as a program, if the kernel knows its steps.
    program: Option<usize>,
}

impl StepCode for TileCode {
    fn rows(&self) -> Option<RowAccess> {
        self.store.rows(&self.cursors)
    }

    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        // Tiles of codes and of floats have one block of arguments.
        let call = e.prepare(self.symbol, size_of::<DotTile>());
        let sums = e.aligned_stack(self.loops.pixels * self.loops.vectors * 4 * self.loops.channels_per_vector);
        e.set(&call, offset_of!(DotTile, sums), sums);
        e.set_int(&call, offset_of!(DotTile, input_pixel), self.cursors[0].pixel);
        e.set_int(&call, offset_of!(DotTile, rows), self.reduction.rows as i64);
        e.set_int(&call, offset_of!(DotTile, row_bytes), self.reduction.row_bytes);
        e.set_int(&call, offset_of!(DotTile, taps), self.reduction.taps as i64);
        e.set_int(&call, offset_of!(DotTile, tap_bytes), self.reduction.tap_bytes);
        e.set_int(&call, offset_of!(DotTile, steps), self.reduction.steps as i64);
        e.set_int(&call, offset_of!(DotTile, drain), self.drain as i64);
        let finish = self.program.map(|slot| {
            let call = e.prepare(self.finish, size_of::<FinishTile>());
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
    /// Biases and multipliers of the sums, where they are codes.
    fn scaling(&self, pointers: &[Value]) -> Option<(Value, Value)> {
        (self.store.first_cursor == 5).then(|| (pointers[3], pointers[4]))
    }

    /// The rows `first..last` of the emitter.
    fn rows(&self, e: &mut Emitter<'_>, call: &Call, finish: Option<&Call>, sums: Value) {
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| {
            let pixel_sums = (tile.vectors * 4 * self.loops.channels_per_vector) as i64;
            e.set(call, offset_of!(DotTile, input), pointers[0]);
            e.set(call, offset_of!(DotTile, weights), pointers[1]);
            e.set(call, offset_of!(DotTile, start), pointers[2]);
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
        // Without a multiplier sums are taken as they are.
        let (bias, multiplier) = self.scaling(pointers).unwrap_or_else(|| (e.int(0), e.int(0)));
        arguments.block(e, multiplier, bias, tile.channels);
        arguments.places(e, &pointers[self.store.first_cursor..]);
        e.set_int(call, offset_of!(FinishTile, sums_pixel), pixel_sums);
        e.set_int(call, offset_of!(FinishTile, pixels), tile.pixels as i64);
        e.call(call);
    }

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
pub(crate) struct TileConstants {
    pub weights: usize,
    pub weight_bytes: usize,
    /// Initial sums of each channel, in whole vectors.
    pub start: usize,
    /// Biases and multipliers, of codes.
    pub scaling: Option<(usize, usize)>,
    /// The epilogue, if it is another than that of the layer's steps.
    pub program: Option<Program>,
}

/// Appends the function of a layer whose weights are packed in the order of `layout`. `drain` as in
/// [`catc_kernels::Choice::steps_per_drain`].
pub(crate) fn push(
    p: &mut Planner<'_>,
    name: &str,
    mut low: Lowering,
    kernel: KernelId,
    (pixels, layout, drain): (usize, &WeightLayout, usize),
    constants: &TileConstants,
) {
    let info = kernel.info();
    let Implementation::Precompiled(symbol) = info.implementation else {
        unreachable!("`{}` is an emitted kernel", info.name);
    };
    let vectors = layout.vectors_per_block;
    let block = vectors * info.channels_per_vector;
    let mut slot = |at: usize| low.slots.add(Slot::Constant(at));
    let (weights, start) = (slot(constants.weights), slot(constants.start));
    let scaling = constants.scaling.map(|(bias, multiplier)| [slot(bias), slot(multiplier)]);
    let mut cursors = vec![
        low.input_cursor,
        low.weight_cursor(weights, layout, info.vector_bytes),
        low.channel_cursor(start, 4, block),
    ];
    cursors.extend(scaling.into_iter().flatten().map(|slot| low.channel_cursor(slot, 4, block)));
    let loops = ConvLoops {
        groups: low.shape.groups,
        outputs: low.shape.outputs,
        channels_per_vector: info.channels_per_vector,
        width: low.width,
        pixels,
        vectors,
    };
    let (height, width, macs, reduction) = (low.height, low.width, low.macs, low.reduction);
    let (mut slots, store) = low.store(&mut cursors, block);
    let program = constants.program.or_else(|| finish::program(&store, &cursors, slots.as_slice()));
    let program = program.map(|program| slots.add(Slot::Constant(p.constants.push(&program.words()))));
    let row_by_row = loops.outputs > block && width >= LEAST_WIDTH && constants.weight_bytes <= MOST_WEIGHTS;
    let finish = finish_symbol(info.tier);
    let code = TileCode { symbol, finish, loops, cursors, reduction, drain, store, row_by_row, program };
    p.push(name, slots, height, code).with_kernel(kernel, macs).tile = Some((pixels, vectors));
}
