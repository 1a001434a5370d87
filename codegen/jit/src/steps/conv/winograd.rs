//! 3x3 convolutions of stride 1 by Winograd's algorithm in integers, from three precompiled tiles: the input transform of a row of
//! tiles, the products of some tiles with a block of output channels, and the output transform with the epilogue.
//!
//! A work unit is a row of tiles, which is two or three rows of the output. Where the weights do not fit the cache of a core, it is a block
//! of output channels, so that each thread fetches weights of its own. A call takes its units in chunks. It transforms the input of a chunk
//! into scratch memory. Then an outer loop over the blocks of output channels and an inner loop over the tiles fetch each weight once for
//! each chunk.

use super::affine::{self, Affine};
use super::epilogue::{self, EpilogueCall};
use super::layer::{Layer, Scaling};
use super::loops::ConvCursor;
use super::store::ConvStore;
use crate::builder::Builder;
use crate::emit::StepCode;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::Slot;
use catc_kernels::winograd::{
    BLOCK, Form, InputTile, MAX_TILES, OutputTile, ProductTile, WinogradTiles, pack, sums_bytes,
};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use std::mem::{offset_of, size_of};

/// Tiles of a chunk, if the weights of the layer stay in the second-level cache: so few that their transformed input stays there too.
const CHUNK_TILES: usize = 56;

/// Bytes of weights from which on each weight should be fetched once only.
const LARGE_WEIGHTS: usize = 512 << 10;

/// The most bytes of transformed input.
const LARGEST_CHUNK: usize = 768 << 10;

/// Tiles of two vectors of sums that fit the registers.
const PART_TILES: usize = 14;

/// How an image is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tiling {
    form: Form,
    /// Outputs of a tile.
    tile_height: usize,
    tile_width: usize,
    height: usize,
    width: usize,
    /// Channels of a transformed tile, a multiple of four.
    channels: usize,
    /// Tiles of a row.
    row_tiles: usize,
    /// Rows of tiles in a chunk.
    chunk_rows: usize,
    /// Rows of tiles in one call of the product; 1 if a row is cut into parts.
    call_rows: usize,
    /// Calls for a row; 1 if a call takes several rows.
    parts: usize,
    /// Bytes from position to position of the transformed input.
    position_bytes: usize,
    /// Whether work units are blocks of output channels; then all rows are one chunk.
    by_blocks: bool,
}

impl Tiling {
    fn of(form: Form, height: usize, width: usize, channels: usize, weight_bytes: usize) -> Tiling {
        let channels = channels.next_multiple_of(4);
        let [tile_height, tile_width] = form.outputs();
        let [rows, row_tiles] = form.count([height, width]);
        let parts = if row_tiles <= MAX_TILES { 1 } else { row_tiles.div_ceil(PART_TILES) };
        // Calls are of about the same size.
        let call_rows = rows.div_ceil(rows.div_ceil((MAX_TILES / row_tiles).max(1)));
        let row_bytes = form.positions() * row_tiles * channels;
        let most = if weight_bytes > LARGE_WEIGHTS { rows } else { CHUNK_TILES.div_ceil(row_tiles) };
        let fitting = most.min(LARGEST_CHUNK / row_bytes).clamp(1, rows);
        let chunk_rows = (fitting / call_rows * call_rows).max(call_rows);
        // An odd number of cache lines, so that the positions of a tile do not share a set of the cache.
        let lines = (chunk_rows * row_tiles * channels).div_ceil(64) + 1;
        let position_bytes = 64 * (lines | 1);
        Tiling {
            form,
            tile_height,
            tile_width,
            height,
            width,
            channels,
            row_tiles,
            chunk_rows,
            call_rows,
            parts,
            position_bytes,
            by_blocks: weight_bytes > LARGE_WEIGHTS && chunk_rows >= rows,
        }
    }

    /// First tile and tiles of each part of a row.
    fn part_list(&self) -> Vec<(usize, usize)> {
        let ends: Vec<usize> = (0..=self.parts).map(|part| part * self.row_tiles / self.parts).collect();
        ends.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect()
    }

    /// Where the sums lie in scratch memory, behind the transformed input.
    fn sums_at(&self) -> usize {
        self.form.positions() * self.position_bytes
    }

    fn scratch(&self) -> usize {
        self.sums_at() + self.form.positions() * sums_bytes(MAX_TILES)
    }
}

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers, 4 initial sums, then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WinogradCode {
    tiles: WinogradTiles,
    /// Steps after which 16-bit sums of products must be widened.
    drain: usize,
    tiling: Tiling,
    outputs: usize,
    offset: i32,
    input_pixel: i64,
    input_row: i64,
    cursors: Vec<ConvCursor>,
    store: ConvStore,
    program_slot: usize,
    scratch_slot: usize,
}

impl StepCode for WinogradCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let t = self.tiling;
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            let height = e.int(t.height as i64);
            if t.by_blocks {
                let zero = e.int(0);
                let whole = e.b.ins().icmp_imm_s(IntCC::Equal, first, 0);
                e.when(whole, |e| halo.emit(e, zero, height));
            } else {
                let start = e.times(first, t.tile_height as i64);
                let end = e.times(last, t.tile_height as i64);
                let end = e.b.ins().smin(end, height);
                halo.emit(e, start, end);
            }
        }
        let bases: Vec<Value> = self
            .cursors
            .iter()
            .map(|c| {
                let base = e.slot(c.slot);
                e.offset(base, c.origin)
            })
            .collect();
        let transformed = e.slot(self.scratch_slot);
        let input = e.prepare(self.tiles.input, size_of::<InputTile>());
        e.set_int(&input, offset_of!(InputTile, pixel_bytes), self.input_pixel);
        e.set_int(&input, offset_of!(InputTile, row_bytes), self.input_row);
        e.set_int(&input, offset_of!(InputTile, channels), t.channels as i64);
        e.set_int(&input, offset_of!(InputTile, tiles), t.row_tiles as i64);
        e.set_int(&input, offset_of!(InputTile, position_bytes), t.position_bytes as i64);
        e.set_int(&input, offset_of!(InputTile, offset), i64::from(self.offset));
        e.set_int(&input, offset_of!(InputTile, tile_height), t.tile_height as i64);
        e.set_int(&input, offset_of!(InputTile, tile_width), t.tile_width as i64);
        let all = self.outputs.div_ceil(BLOCK);
        let zero = e.int(0);
        if t.by_blocks {
            let rows = e.int(t.height.div_ceil(t.tile_height) as i64);
            self.transform(e, &input, (bases[0], transformed), zero, rows);
            return self.blocks(e, &bases, transformed, (zero, rows), (first, last));
        }
        // Chunks of rows of tiles.
        let count = e.b.ins().isub(last, first);
        let chunks = self.divide(e, count, t.chunk_rows);
        e.range(zero, chunks, &[], vec![], |e, chunk, _, _| {
            let done = e.times(chunk, t.chunk_rows as i64);
            let start = e.b.ins().iadd(first, done);
            let left = e.b.ins().isub(last, start);
            let most = e.int(t.chunk_rows as i64);
            let rows = e.b.ins().smin(left, most);
            self.transform(e, &input, (bases[0], transformed), start, rows);
            let all = (e.int(0), e.int(all as i64));
            self.blocks(e, &bases, transformed, (start, rows), all);
            vec![]
        });
    }
}

impl WinogradCode {
    /// `count / by`, rounded up.
    fn divide(&self, e: &mut Emitter<'_>, count: Value, by: usize) -> Value {
        let raised = e.offset(count, by as i64 - 1);
        let by = e.int(by as i64);
        e.b.ins().udiv(raised, by)
    }

    /// Transforms the input of `rows` rows of tiles from `start` on.
    fn transform(
        &self,
        e: &mut Emitter<'_>,
        call: &Call,
        (input, transformed): (Value, Value),
        start: Value,
        rows: Value,
    ) {
        let t = self.tiling;
        let down = t.tile_height as i64 * self.input_row;
        let from = e.index(input, start, down);
        let moves = [(from, down), (transformed, (t.row_tiles * t.channels) as i64)];
        let zero = e.int(0);
        e.range(zero, rows, &moves, vec![], |e, _, pointers, _| {
            e.set(call, offset_of!(InputTile, input), pointers[0]);
            e.set(call, offset_of!(InputTile, transformed), pointers[1]);
            e.call(call);
            vec![]
        });
    }

    /// The blocks `first..last` of output channels for a chunk of rows of tiles, given as the first and how many.
    fn blocks(
        &self,
        e: &mut Emitter<'_>,
        bases: &[Value],
        transformed: Value,
        rows: (Value, Value),
        (first, last): (Value, Value),
    ) {
        let (full, rest) = (self.outputs / BLOCK, self.outputs % BLOCK);
        let at = |e: &mut Emitter<'_>, block: Value| -> Vec<_> {
            bases.iter().zip(&self.cursors).map(|(&b, c)| (e.index(b, block, c.block), c.block)).collect()
        };
        let whole = e.int(full as i64);
        let end = e.b.ins().smin(last, whole);
        let advances = at(e, first);
        e.range(first, end, &advances, vec![], |e, _, pointers, _| {
            self.block(e, pointers, transformed, rows, BLOCK);
            vec![]
        });
        if rest > 0 {
            let met = e.b.ins().icmp(IntCC::SignedGreaterThan, last, whole);
            e.when(met, |e| {
                let pointers: Vec<Value> = at(e, whole).into_iter().map(|(pointer, _)| pointer).collect();
                self.block(e, &pointers, transformed, rows, rest);
            });
        }
    }

    fn block(
        &self,
        e: &mut Emitter<'_>,
        pointers: &[Value],
        transformed: Value,
        (start, rows): (Value, Value),
        channels: usize,
    ) {
        let t = self.tiling;
        let sums = e.offset(transformed, t.sums_at() as i64);
        let product = e.prepare(self.tiles.product, size_of::<ProductTile>());
        e.set_int(&product, offset_of!(ProductTile, position_bytes), t.position_bytes as i64);
        e.set_int(&product, offset_of!(ProductTile, channels), t.channels as i64);
        e.set(&product, offset_of!(ProductTile, weights), pointers[1]);
        e.set(&product, offset_of!(ProductTile, start), pointers[4]);
        e.set(&product, offset_of!(ProductTile, sums), sums);
        e.set_int(&product, offset_of!(ProductTile, drain), self.drain as i64);
        e.set_int(&product, offset_of!(ProductTile, positions), t.form.positions() as i64);
        let output = e.prepare(self.tiles.output, size_of::<OutputTile>());
        e.set_int(&output, offset_of!(OutputTile, tile_height), t.tile_height as i64);
        e.set_int(&output, offset_of!(OutputTile, tile_width), t.tile_width as i64);
        let epilogue = EpilogueCall { call: &output, at: offset_of!(OutputTile, epilogue) };
        let ends = &self.cursors[self.store.first_cursor..];
        epilogue.fix(e, self.program_slot, ends);
        epilogue.block(e, pointers[3], pointers[2], channels);
        let calls = self.divide(e, rows, t.call_rows);
        let tile_bytes = t.channels as i64;
        let from = [(transformed, (t.call_rows * t.row_tiles) as i64 * tile_bytes)];
        let zero = e.int(0);
        e.range(zero, calls, &from, vec![], |e, call, from, _| {
            let done = e.times(call, t.call_rows as i64);
            let left = e.b.ins().isub(rows, done);
            let most = e.int(t.call_rows as i64);
            let here = e.b.ins().smin(left, most);
            let row = e.b.ins().iadd(start, done);
            for (at, tiles) in t.part_list() {
                let part = e.offset(from[0], at as i64 * tile_bytes);
                let all = e.times(here, tiles as i64);
                let position_sums = e.times(all, (sums_bytes(1) - sums_bytes(0)) as i64);
                let position_sums = e.offset(position_sums, sums_bytes(0) as i64);
                e.set(&product, offset_of!(ProductTile, transformed), part);
                e.set(&product, offset_of!(ProductTile, tiles), all);
                e.call(&product);
                e.set(&output, offset_of!(OutputTile, position_bytes), position_sums);
                e.set_int(&output, offset_of!(OutputTile, tiles), tiles as i64);
                let pixels = (t.tile_width * tiles).min(t.width - t.tile_width * at);
                e.set_int(&output, offset_of!(OutputTile, pixels), pixels as i64);
                let mut moves = vec![(sums, (tiles * 4 * BLOCK) as i64)];
                for (&pointer, cursor) in pointers[self.store.first_cursor..].iter().zip(ends) {
                    let down = t.tile_height as i64 * cursor.unit;
                    let place = e.index(pointer, row, down);
                    moves.push((e.offset(place, (t.tile_width * at) as i64 * cursor.pixel), down));
                }
                let zero = e.int(0);
                e.range(zero, here, &moves, vec![], |e, index, moved, _| {
                    let number = e.b.ins().iadd(row, index);
                    let above = e.times(number, t.tile_height as i64);
                    let height = e.int(t.height as i64);
                    let left = e.b.ins().isub(height, above);
                    let most = e.int(t.tile_height as i64);
                    let height = e.b.ins().smin(left, most);
                    e.set(&output, offset_of!(OutputTile, rows), height);
                    e.set(&output, offset_of!(OutputTile, sums), moved[0]);
                    epilogue.places(e, &moved[1..]);
                    e.call(&output);
                    vec![]
                });
            }
            vec![]
        });
    }
}

/// Lowers a convolution.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>, tiles: WinogradTiles) -> Result<(), JitError> {
    let (step, choice, form) = (layer.step, layer.choice, tiles.form);
    let view = layer.view()?;
    let scaling = Scaling::of(p, &layer)?;
    let mut plan = layer.plan(p, scaling.bound)?;
    let program = epilogue::program_of(&plan, BLOCK, &step.name)?;
    let (_, store) = plan.clone().store(&mut Vec::new(), BLOCK);
    // Sums are those of the convolution times a power of two. Dividing the multipliers by it is exact.
    let scale = form.left_scale() as f32;
    let levels = plan.input.codes.map_or(0, |codes| codes.levels);
    let zero = i32::from(plan.input.zero());
    let [weights, start] = p.packed(layer.packing(&plan, None), |constants| {
        let packed = pack(&view, form, levels, zero).map_err(|source| layer.failed(source))?;
        Ok([constants.push(&packed.bytes), constants.push(&packed.start)])
    })?;
    let bytes = p.constants.entry(weights).unwrap_or(0);
    let affine =
        if tiles.fuses { affine::of(&program, &store, &scaling, choice.largest_result, form.scale()) } else { None };
    let affine = affine.unwrap_or_else(|| {
        let multiplier = scaling.multiplier.iter().map(|m| m / scale).collect();
        Affine { program, multiplier, bias: scaling.bias.clone() }
    });
    let tiling = Tiling::of(form, plan.height, plan.width, plan.shape.inputs, bytes);
    let constants = &mut p.constants;
    let mut add = |at: usize| plan.slots.add(Slot::Constant(at));
    let weight_slot = add(weights);
    let bias_slot = add(constants.push(&affine.bias));
    let multiplier_slot = add(constants.push(&affine.multiplier));
    let start_slot = add(start);
    let program_slot = add(constants.push(&affine.program.words()));
    let scratch_slot = plan.slots.add(Slot::Scratch);
    let positions = (form.positions() * BLOCK) as i64;
    let block = |slot, block| ConvCursor { slot, origin: 0, group: 0, block, unit: 0, pixel: 0 };
    let mut cursors = vec![
        plan.input_cursor,
        block(weight_slot, positions * tiling.channels as i64),
        plan.channel_cursor(bias_slot, 4, BLOCK),
        plan.channel_cursor(multiplier_slot, 4, BLOCK),
        block(start_slot, 4 * positions),
    ];
    let (macs, outputs, offset) = (plan.macs, plan.shape.outputs, form.offset(levels));
    let (input_pixel, input_row) = (plan.input.stride(2), plan.input.stride(1));
    let (slots, store) = plan.store(&mut cursors, BLOCK);
    let rows = tiling.height.div_ceil(tiling.tile_height);
    let units = if tiling.by_blocks { outputs.div_ceil(BLOCK) } else { rows };
    let code = WinogradCode {
        tiles,
        drain: choice.steps_per_drain,
        tiling,
        outputs,
        offset,
        input_pixel,
        input_row,
        cursors,
        store,
        program_slot,
        scratch_slot,
    };
    p.push(&step.name, slots, units, code).with_kernel(choice, macs, None).scratch = tiling.scratch();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_calls_that_the_kernels_take() {
        let heights = [1, 2, 3, 7, 14, 28, 57];
        for form in Form::ALL {
            for (width, height) in (1..150).flat_map(|width| heights.map(|height| (width, height))) {
                for channels in [1, 3, 64, 512] {
                    let t = Tiling::of(form, height, width, channels, 16 * channels * channels);
                    let parts = t.part_list();
                    assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), t.row_tiles);
                    assert!(parts.iter().all(|&(_, tiles)| tiles > 0 && t.call_rows * tiles <= MAX_TILES));
                    assert!(t.parts == 1 || t.call_rows == 1);
                    assert!(t.chunk_rows * t.row_tiles * t.channels + 63 < t.position_bytes);
                }
            }
        }
    }
}
