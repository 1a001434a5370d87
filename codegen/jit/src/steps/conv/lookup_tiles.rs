//! 2-bit convolutions of one group by look-ups of two or three channels each, from three precompiled tiles: the packing of an input row
//! into offsets of table rows, the look-ups of some pixels and a few vectors of output channels, and the epilogue.
//!
//! A call takes its output rows in chunks: it packs the input rows that a chunk meets into scratch memory, then goes through the
//! blocks of output channels outside and the pixels inside. Where tiles go through all pixels as one sequence, its parts are the rows.

use super::affine::{self, Affine};
use super::epilogue::{self, EpilogueCall};
use super::layer::{Layer, Scaling};
use super::loops::ConvCursor;
use super::pixels::{PixelPointer, Pixels};
use super::plan::ConvPlan;
use super::store::ConvStore;
use crate::builder::Builder;
use crate::emit::StepCode;
use crate::emit::call::Call;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::{RowAccess, Slot};
use catc_kernels::byte_sums::{self, Order};
use catc_kernels::epilogue::{EpilogueProgram, EpilogueTile, function, store};
use catc_kernels::lookup_tile::{LookupResultsTile, LookupTile, LookupTiles, LookupWeights, PackTile};
use catc_kernels::{TileOverride, TileQuery};
use catc_program::Geometry;
use cranelift_codegen::ir::{InstBuilder, Value};
use std::mem::{offset_of, size_of};

/// The most bytes of packed input of a chunk.
const LARGEST_CHUNK: usize = 128 << 10;

/// Offsets that packing may write behind the last one; also the bytes of a cache line.
const SLACK: usize = 64;

/// Output channels that a call of the epilogue takes.
const EPILOGUE_CHANNELS: usize = 64;

/// The packed input of a chunk. All sizes are those of offsets, and of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Packed {
    channels: usize,
    /// Pairs or triples of a pixel, and bytes of the offset of one.
    units: usize,
    offset_bytes: usize,
    /// Bytes of a pixel's sums.
    sum_bytes: usize,
    /// Pixels of a packed row.
    pixels: usize,
    /// Packed rows of the largest chunk.
    rows: usize,
    /// Packed rows from an output row to the next.
    row_step: usize,
    /// Packed rows of the last output row beyond `row_step`; negative where windows skip rows.
    row_rest: isize,
    /// Packed pixels from an output pixel to the next.
    pixel_step: usize,
    /// Bytes of the input from one packed row, or pixel, to the next.
    input_row: i64,
    input_pixel: i64,
    /// Output rows of a chunk: work units.
    chunk: usize,
}

impl Packed {
    fn of(kind: &LookupTiles, low: &ConvPlan, geometry: &Geometry) -> Packed {
        let units = low.shape.inputs.div_ceil(kind.together);
        // The step of the input, the step of the packed input, and what the last output reads beyond that step. A window of one tap skips
        // pixels, and only the pixels that it reads are packed.
        let axis = |axis: usize| {
            let (kernel, stride, dilation) = (geometry.kernel[axis], geometry.strides[axis], geometry.dilations[axis]);
            let span = (kernel - 1) * dilation + 1;
            if kernel == 1 { (stride, 1, 0) } else { (1, stride, span as isize - stride as isize) }
        };
        let (skip_y, row_step, row_rest) = axis(0);
        let (skip_x, pixel_step, pixel_rest) = axis(1);
        let pixels = (low.pixels.unit() * pixel_step).saturating_add_signed(pixel_rest);
        let row_bytes = (kind.offset_bytes * pixels * units).max(1);
        let (input_row, input_pixel) = match low.pixels {
            Pixels::Rows { .. } => (skip_y as i64 * low.input.stride(1), skip_x as i64 * low.input.stride(2)),
            // A window of one tap, so that its cursor moves from each packed row, and pixel, to the next.
            Pixels::Sequence { .. } => (low.input_cursor.unit, low.input_cursor.pixel),
        };
        let most = (LARGEST_CHUNK / row_bytes).saturating_add_signed(-row_rest) / row_step;
        let chunk = most.clamp(1, low.units().max(1));
        Packed {
            channels: low.shape.inputs,
            units,
            offset_bytes: kind.offset_bytes,
            sum_bytes: kind.sum_bytes,
            pixels,
            rows: (chunk * row_step).saturating_add_signed(row_rest),
            row_step,
            row_rest,
            pixel_step,
            input_row,
            input_pixel,
            chunk,
        }
    }

    /// Bytes of the offsets of a pixel.
    fn pixel_bytes(&self) -> usize {
        self.offset_bytes * self.units
    }

    /// Bytes of the offsets of a row.
    fn row_bytes(&self) -> usize {
        self.pixels * self.pixel_bytes()
    }

    /// Where the sums lie in scratch memory, behind the offsets.
    fn sums_at(&self) -> usize {
        (self.rows * self.row_bytes() + 2 * SLACK).next_multiple_of(64)
    }

    fn scratch(&self) -> usize {
        self.sums_at() + self.rows * self.pixels * self.sum_bytes
    }
}

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers, 4 constants or where totals start, 5 zero-points or signs, then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LookupCode {
    tiles: &'static LookupTiles,
    packed: Packed,
    kernel: [usize; 2],
    dilations: [usize; 2],
    outputs: usize,
    pixels: Pixels,
    /// Pixels and vectors of a tile.
    tile: (usize, usize),
    cursors: Vec<ConvCursor>,
    store: ConvStore,
    table_slot: usize,
    share_slot: usize,
    scratch_slot: usize,
    program_slot: usize,
    /// Whether the tile of look-ups does the epilogue too, so that no call of an epilogue follows.
    results: bool,
    /// The zero-point of all weights, if they have the same and the kernel takes a single one. Else zero-points or signs lie at cursor 5.
    zero_point: Option<i32>,
    /// Parts of a run that the kernel's byte accumulators take.
    parts: usize,
}

/// What the loops of a function share.
struct Calls {
    lookup: Call,
    /// The call of the epilogue and the address of its sums, unless the tile of look-ups does the epilogue.
    epilogue: Option<(Call, Value)>,
}

/// Where the arguments of the epilogue lie in those of a tile that does look-ups and epilogue.
const FUSED: usize = offset_of!(LookupResultsTile, epilogue);

// Both tiles have the arguments of the look-ups at their start.
const _: () = assert!(offset_of!(LookupResultsTile, lookup) == 0);

impl StepCode for LookupCode {
    fn rows(&self) -> Option<RowAccess> {
        self.store.rows(&self.cursors)
    }

    fn emit(&self, e: &mut Emitter<'_>) {
        let packed = self.packed;
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        let bases: Vec<Value> = self
            .cursors
            .iter()
            .map(|c| {
                let base = e.slot(c.slot);
                e.offset(base, c.origin)
            })
            .collect();
        let offsets = e.slot(self.scratch_slot);
        let sums = e.offset(offsets, packed.sums_at() as i64);
        let pack = e.prepare(self.tiles.pack, size_of::<PackTile>());
        let shares = e.slot(self.share_slot);
        e.set(&pack, offset_of!(PackTile, shares), shares);
        e.set_int(&pack, offset_of!(PackTile, pixel_bytes), packed.input_pixel);
        if let Pixels::Rows { .. } = self.pixels {
            e.set_int(&pack, offset_of!(PackTile, pixels), packed.pixels as i64);
        }
        e.set_int(&pack, offset_of!(PackTile, channels), packed.channels as i64);
        e.set_int(&pack, offset_of!(PackTile, units), packed.units as i64);
        let calls = self.calls(e);
        // Chunks of output rows.
        let count = e.b.ins().isub(last, first);
        let raised = e.offset(count, packed.chunk as i64 - 1);
        let by = e.int(packed.chunk as i64);
        let chunks = e.b.ins().udiv(raised, by);
        let zero = e.int(0);
        e.range(zero, chunks, &[], vec![], |e, chunk, _, _| {
            let done = e.times(chunk, packed.chunk as i64);
            let start = e.b.ins().iadd(first, done);
            let left = e.b.ins().isub(last, start);
            let most = e.int(packed.chunk as i64);
            let rows = e.b.ins().smin(left, most);
            let end = e.b.ins().iadd(start, rows);
            let met = e.times(rows, packed.row_step as i64);
            let met = e.offset(met, packed.row_rest as i64);
            let from = e.index(bases[0], start, packed.row_step as i64 * packed.input_row);
            let moves = [
                (from, packed.input_row),
                (offsets, packed.row_bytes() as i64),
                (sums, (packed.pixels * packed.sum_bytes) as i64),
            ];
            let zero = e.int(0);
            e.range(zero, met, &moves, vec![], |e, row, pointers, _| {
                if let Pixels::Sequence { pixels, unit } = self.pixels {
                    let row = e.b.ins().iadd(start, row);
                    let (from, after) = (e.times(row, unit as i64), e.offset(row, 1));
                    let until = e.first_pixel(pixels, unit, after);
                    let count = e.b.ins().isub(until, from);
                    e.set(&pack, offset_of!(PackTile, pixels), count);
                }
                e.set(&pack, offset_of!(PackTile, input), pointers[0]);
                e.set(&pack, offset_of!(PackTile, offsets), pointers[1]);
                e.set(&pack, offset_of!(PackTile, sums), pointers[2]);
                e.call(&pack);
                vec![]
            });
            let advances: Vec<_> = bases.iter().zip(&self.cursors).map(|(&b, c)| (b, c.block)).collect();
            let block = self.tile.1 * self.tiles.lanes;
            let (full, rest) = (self.outputs / block, self.outputs % block);
            e.repeat(full, &advances, vec![], |e, pointers, _| {
                self.block(e, &calls, pointers, (offsets, sums), (start, end), block);
                vec![]
            });
            if rest > 0 {
                let pointers: Vec<_> = advances.iter().map(|&(p, b)| e.offset(p, b * full as i64)).collect();
                self.block(e, &calls, &pointers, (offsets, sums), (start, end), rest);
            }
            vec![]
        });
    }
}

impl LookupCode {
    /// Prepares the calls, with all that never changes.
    fn calls(&self, e: &mut Emitter<'_>) -> Calls {
        let packed = self.packed;
        let pixel = packed.pixel_bytes() as i64;
        let pixel_sums = packed.sum_bytes as i64;
        let [down, right] = self.dilations.map(|d| d as i64);
        let dense = self.dense();
        let lookup = match self.results {
            true => e.prepare(self.tiles.results, size_of::<LookupResultsTile>()),
            false => e.prepare(self.tiles.look_up, size_of::<LookupTile>()),
        };
        e.set_int(&lookup, offset_of!(LookupTile, pixel_bytes), packed.pixel_step as i64 * pixel);
        e.set_int(&lookup, offset_of!(LookupTile, rows), self.kernel[0] as i64);
        e.set_int(&lookup, offset_of!(LookupTile, row_bytes), down * packed.row_bytes() as i64);
        e.set_int(&lookup, offset_of!(LookupTile, taps), if dense { 1 } else { self.kernel[1] as i64 });
        e.set_int(&lookup, offset_of!(LookupTile, tap_bytes), right * pixel);
        let steps = packed.units * if dense { self.kernel[1] } else { 1 };
        e.set_int(&lookup, offset_of!(LookupTile, steps), steps as i64);
        e.set_int(&lookup, offset_of!(LookupTile, parts), self.parts as i64);
        let table = e.slot(self.table_slot);
        e.set(&lookup, offset_of!(LookupTile, table), table);
        e.set_int(&lookup, offset_of!(LookupTile, sums_pixel), packed.pixel_step as i64 * pixel_sums);
        e.set_int(&lookup, offset_of!(LookupTile, sums_row), down * packed.pixels as i64 * pixel_sums);
        e.set_int(&lookup, offset_of!(LookupTile, sums_tap), right * pixel_sums);
        e.set_int(&lookup, offset_of!(LookupTile, columns), self.kernel[1] as i64);
        e.set_int(&lookup, offset_of!(LookupTile, zero_points), 0);
        e.set_int(&lookup, offset_of!(LookupTile, zero_point), i64::from(self.zero_point.unwrap_or(0)));
        let ends = &self.cursors[self.store.first_cursor..];
        if self.results {
            EpilogueCall { call: &lookup, at: FUSED }.fix(e, self.program_slot, ends);
            return Calls { lookup, epilogue: None };
        }
        let results = e.aligned_stack(self.tile.0 * self.tile.1 * self.tiles.lanes * 4);
        e.set(&lookup, offset_of!(LookupTile, results), results);
        let epilogue = e.prepare(self.tiles.epilogue, size_of::<EpilogueTile>());
        EpilogueCall { call: &epilogue, at: offset_of!(EpilogueTile, epilogue) }.fix(e, self.program_slot, ends);
        Calls { lookup, epilogue: Some((epilogue, results)) }
    }

    fn dense(&self) -> bool {
        self.dilations[1] == 1
    }

    /// A block of `channels` output channels for the output rows `rows.0..rows.1`.
    fn block(
        &self,
        e: &mut Emitter<'_>,
        calls: &Calls,
        pointers: &[Value],
        (offsets, sums): (Value, Value),
        rows: (Value, Value),
        channels: usize,
    ) {
        let packed = self.packed;
        let vectors = channels.div_ceil(self.tiles.lanes);
        e.set(&calls.lookup, offset_of!(LookupTile, weights), pointers[1]);
        e.set_int(&calls.lookup, offset_of!(LookupTile, vectors), vectors as i64);
        if let Some((epilogue, _)) = &calls.epilogue {
            e.set(&calls.lookup, offset_of!(LookupTile, constants), pointers[4]);
            if self.zero_point.is_none() {
                e.set(&calls.lookup, offset_of!(LookupTile, zero_points), pointers[5]);
            }
            e.set_int(epilogue, offset_of!(EpilogueTile, sums_pixel), (4 * vectors * self.tiles.lanes) as i64);
        } else {
            e.set(&calls.lookup, offset_of!(LookupResultsTile, start), pointers[4]);
            e.set(&calls.lookup, offset_of!(LookupResultsTile, zero_points), pointers[5]);
            EpilogueCall { call: &calls.lookup, at: FUSED }.block(e, pointers[3], pointers[2], channels);
        }
        let ends = &self.cursors[self.store.first_cursor..];
        let (row_step, pixel_step) = (packed.row_step as i64, packed.pixel_step as i64);
        let sums_pixel = packed.sum_bytes as i64;
        let mut moving = vec![
            PixelPointer {
                start: offsets,
                unit: row_step * packed.row_bytes() as i64,
                pixel: pixel_step * packed.pixel_bytes() as i64,
            },
            PixelPointer {
                start: sums,
                unit: row_step * packed.pixels as i64 * sums_pixel,
                pixel: pixel_step * sums_pixel,
            },
        ];
        for (&pointer, cursor) in pointers[self.store.first_cursor..].iter().zip(ends) {
            let start = e.index(pointer, rows.0, cursor.unit);
            moving.push(PixelPointer { start, unit: cursor.unit, pixel: cursor.pixel });
        }
        e.pixel_tiles(self.pixels, self.tile.0, rows, &moving, &mut |e, pixels, moved| {
            self.tile(e, calls, pointers, moved, pixels, channels);
        });
    }

    /// A tile; `moved` points at its offsets, sums, output and operands.
    fn tile(
        &self,
        e: &mut Emitter<'_>,
        calls: &Calls,
        pointers: &[Value],
        moved: &[Value],
        pixels: usize,
        channels: usize,
    ) {
        e.set(&calls.lookup, offset_of!(LookupTile, offsets), moved[0]);
        e.set(&calls.lookup, offset_of!(LookupTile, sums), moved[1]);
        e.set_int(&calls.lookup, offset_of!(LookupTile, pixels), pixels as i64);
        let Some((epilogue, results)) = &calls.epilogue else {
            EpilogueCall { call: &calls.lookup, at: FUSED }.places(e, &moved[2..]);
            return e.call(&calls.lookup);
        };
        e.call(&calls.lookup);
        e.set_int(epilogue, offset_of!(EpilogueTile, pixels), pixels as i64);
        let arguments = EpilogueCall { call: epilogue, at: offset_of!(EpilogueTile, epilogue) };
        for at in (0..channels).step_by(EPILOGUE_CHANNELS) {
            let place = 4 * at as i64;
            let (results, multiplier) = (e.offset(*results, place), e.offset(pointers[3], place));
            let bias = e.offset(pointers[2], place);
            arguments.block(e, multiplier, bias, (channels - at).min(EPILOGUE_CHANNELS));
            e.set(epilogue, offset_of!(EpilogueTile, sums), results);
            // Cursors of the output and of its operands give the bytes of a block, from which the bytes of a channel follow.
            let block = (self.tile.1 * self.tiles.lanes) as i64;
            let ends = self.cursors[self.store.first_cursor..].iter().zip(&moved[2..]);
            let places: Vec<Value> = ends.map(|(c, &p)| e.offset(p, c.block * at as i64 / block)).collect();
            arguments.places(e, &places);
            e.call(epilogue);
        }
    }
}

/// Lowers a convolution.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>, tiles: &'static LookupTiles) -> Result<(), JitError> {
    let Layer { step, geometry, .. } = layer;
    let view = layer.view()?;
    let scaling = Scaling::of(p, &layer)?;
    let mut plan = layer.plan(p, scaling.bound)?;
    let lanes = tiles.lanes;
    let tile = tile(p, &layer, &mut plan, tiles);
    let block = tile.1 * lanes;
    let program = epilogue::program_of(&plan, block, &step.name)?;
    let (_, store) = plan.clone().store(&mut Vec::new(), block);
    let zero_points: Vec<i32> = (0..plan.shape.outputs).map(|output| view.zero_point(output)).collect();
    let common = zero_points.first().copied().filter(|first| zero_points.iter().all(|z| z == first));
    let zero_point = common.filter(|_| tiles.takes_common_zero_point);
    let ending = ending(tiles, &program, &store, &scaling, layer.choice.largest_result);
    let (order, results) = match &ending {
        Ending::Codes(_) => (Order::Bytes, true),
        Ending::Exact(_) => (Order::Quarters, true),
        Ending::Sums(_) => (Order::Quarters, false),
    };
    let packed = Packed::of(tiles, &plan, geometry);
    let layout = (tiles.layout)(view.shape(), geometry.dilations[1] == 1, tile.1);
    let weights =
        (tiles.weights)(&view, &layout, order, i32::from(plan.input.zero())).map_err(|source| layer.failed(source))?;
    let affine = ending.affine(&weights, lanes);
    let (slots, code_bytes) = push_constants(p, &mut plan, &weights, &affine, (order, results), &zero_points, lanes);
    let [weight_slot, bias_slot, multiplier_slot, start_slot, zero_slot, table_slot, share_slot, program_slot] = slots;
    let scratch_slot = plan.slots.add(Slot::Scratch);
    let mut cursors = vec![
        plan.input_cursor,
        plan.weight_cursor(weight_slot, &layout, lanes),
        plan.channel_cursor(bias_slot, 4, block),
        plan.channel_cursor(multiplier_slot, 4, block),
        plan.channel_cursor(start_slot, code_bytes, block),
        plan.channel_cursor(zero_slot, code_bytes, block),
    ];
    let (macs, pixels, units, outputs) = (plan.macs, plan.pixels, plan.units(), plan.shape.outputs);
    let (slots, store) = plan.store(&mut cursors, block);
    let code = LookupCode {
        tiles,
        packed,
        kernel: geometry.kernel,
        dilations: geometry.dilations,
        outputs,
        pixels,
        tile,
        cursors,
        store,
        table_slot,
        share_slot,
        scratch_slot,
        program_slot,
        results,
        zero_point,
        parts: weights.parts,
    };
    p.push(&step.name, slots, units, code).with_kernel(layer.choice, macs, Some(tile)).scratch = packed.scratch();
    Ok(())
}

/// Pixels and vectors of a tile: the cheapest.
fn tile(p: &Builder<'_>, layer: &Layer<'_>, plan: &mut ConvPlan, tiles: &LookupTiles) -> (usize, usize) {
    let taps = plan.shape.kernel_height * plan.shape.kernel_width;
    let rows = TileQuery {
        steps: plan.shape.inputs.div_ceil(tiles.together) * taps,
        ..plan.tiles(layer.kernel(), p.kernels.tier, [false; 2])
    };
    plan.choose_tile(layer.kernel(), rows, TileOverride::Cheapest)
}

/// Appends the constants of a layer and gives their slots: weights, biases, multipliers, where totals start or what is added, zero-points or
/// signs, table, shares, and program. Also the bytes of a channel's start and zero-point.
fn push_constants(
    p: &mut Builder<'_>,
    plan: &mut ConvPlan,
    weights: &LookupWeights,
    affine: &Affine,
    (order, results): (Order, bool),
    zero_points: &[i32],
    lanes: usize,
) -> ([usize; 8], i64) {
    let constants = &mut p.constants;
    let (start, zero_points, bytes) = if results {
        let start: Vec<i32> = weights.constants.iter().map(|&constant| -constant).collect();
        let mut push = |values: &[i32]| constants.push(&byte_sums::words(&padded(values, lanes), order, lanes));
        (push(&start), push(zero_points), 2)
    } else {
        let signs_or_zero_points = weights.signs.as_deref().unwrap_or(zero_points);
        (constants.push(&padded(&weights.constants, lanes)), constants.push(&padded(signs_or_zero_points, lanes)), 4)
    };
    let places = [
        constants.push(&weights.indices),
        constants.push(&padded(&affine.bias, lanes)),
        constants.push(&padded(&affine.multiplier, lanes)),
        start,
        zero_points,
        constants.push(&weights.table),
        constants.push(&weights.shares),
        constants.push(&affine.program.words()),
    ];
    (places.map(|at| plan.slots.add(Slot::Constant(at))), bytes)
}

/// How sums become what is stored.
enum Ending {
    /// By the tile of results, to codes.
    Codes(Affine),
    /// By the tile of results, with a factor of its own for each sum and nothing fused.
    Exact(Affine),
    /// By a tile of sums and one that follows it.
    Sums(Affine),
}

impl Ending {
    /// The program and its factors. For a tile of results, factors have the order of the weights and the signs of the tile's sums.
    fn affine(self, weights: &LookupWeights, lanes: usize) -> Affine {
        match self {
            Ending::Codes(Affine { program, multiplier, bias }) => Affine {
                program,
                multiplier: byte_sums::quarters(&padded(&weights.signed(multiplier), lanes), lanes),
                bias: byte_sums::quarters(&padded(&bias, lanes), lanes),
            },
            Ending::Exact(affine) => Affine { multiplier: weights.signed(affine.multiplier), ..affine },
            Ending::Sums(affine) => affine,
        }
    }
}

/// Whether the tile of results takes the codes that a program adds, if it adds any.
fn takes_codes(tiles: &LookupTiles, program: &EpilogueProgram, store: &ConvStore) -> bool {
    program.steps[..program.count as usize].iter().all(|step| {
        let operand = store.operands.get(step.operand as usize);
        step.function != function::ADD_SMALL_CODE || operand.is_some_and(|o| o.levels <= tiles.max_operand_levels)
    })
}

/// The shortest way that gives the program's results for all sums `-largest..=largest`.
fn ending(kind: &LookupTiles, program: &EpilogueProgram, store: &ConvStore, scaling: &Scaling, largest: u64) -> Ending {
    let codes = if takes_codes(kind, program, store) {
        affine::of(program, store, scaling, largest, kind.sum_scale)
    } else {
        None
    };
    if let Some(affine) = codes {
        return Ending::Codes(affine);
    }
    let exact = Affine { program: *program, multiplier: scaling.multiplier.clone(), bias: scaling.bias.clone() };
    let known = match (program.store, program.count, program.steps[0].function) {
        (store::FLOATS, 0, _) => true,
        (store::SMALL_CODES, 1, function) => function == function::ADD_FLOAT,
        _ => false,
    };
    // Division by a power of two is exact. It can change the sign of a zero only where the bias is a negative zero.
    let scale = kind.sum_scale as f32;
    let multiplier: Vec<f32> = exact.multiplier.iter().map(|&m| m / scale).collect();
    let same = multiplier.iter().zip(&exact.multiplier).all(|(&scaled, &m)| scaled * scale == m);
    let plain = exact.bias.iter().all(|bias| bias.to_bits() != (-0f32).to_bits());
    if known && same && plain && largest <= i16::MAX as u64 {
        return Ending::Exact(Affine { multiplier, ..exact });
    }
    let fused = if kind.fuses_after_sums { affine::of(program, store, scaling, largest, 1) } else { None };
    Ending::Sums(fused.unwrap_or(exact))
}

/// Values filled up to whole vectors of output channels, because the kernel reads whole vectors.
fn padded<T: Copy + Default>(values: &[T], lanes: usize) -> Vec<T> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(lanes), T::default());
    padded
}
