//! The 2-bit convolution: every product is a table look-up (`pshufb`, `tbl`), sums are bytes ([`catc_kernels::pairs::rows`]).
//!
//! The inner loop fetches, for each pixel of the tile, the row offset of two channels, loads that row of the table, shuffles it by
//! the weight-index vectors and adds bytes. After at most 28 steps the bytes are added to 16-bit halves on the stack. The terms that
//! the table leaves out depend on the pixel alone (window sums, which are computed before) or on the channel alone (constants).

use super::layer::{Layer, Scaling};
use super::loops::{ConvCursor, ConvLoops, Reduction, Tile};
use super::pixels::Pixels;
use super::store::{ConvStore, scale_sums};
use super::thresholds;
use crate::builder::Builder;
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::Slot;
use catc_kernels::TileOverride;
use catc_kernels::pairs::rows;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I16X8, I32, I32X4, I64};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Steps emitted without a loop.
const UNROLL: usize = 60;

/// Window sums: for each output pixel of a row range, `sum G` and `sum a` of [`rows`] over its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct WindowSums {
    scratch_slot: usize,
    share_slot: usize,
    /// Bytes of one group at one input pixel, and between input pixels and rows.
    bytes: usize,
    input_pixel: i64,
    input_row: i64,
    /// Input pixels per row that windows touch.
    columns: usize,
    strides: [usize; 2],
    dilations: [usize; 2],
    kernel: [usize; 2],
    /// The output pixels. Each pixel of a sequence counts as a row of its own here.
    pixels: Pixels,
    /// Where the sums of the input pixels start in scratch.
    pixels_at: i64,
    /// Whether sums are stored as two equal 16-bit halves.
    halves: bool,
}

/// Cursors: 0 input, 1 weights, 2 constants, 3 zero-points, 4 multipliers or thresholds, 5 biases, 6 window sums, then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PairsCode {
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    table_slot: usize,
    sums: WindowSums,
    /// Whether sums are kept in 16 bits up to the conversion to f32.
    narrow: bool,
    store: ConvStore,
    /// Number of thresholds and bytes from one to the next, where sums become codes by comparison.
    thresholds: Option<(usize, i64)>,
}

impl StepCode for PairsCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        let table = e.slot(self.table_slot);
        let halves = e.stack(self.loops.tile_pixels * self.loops.vectors * 32);
        e.conv_loops(
            &self.loops,
            &self.cursors,
            &mut |e, pointers| self.sums.emit(e, pointers[0]),
            &mut |e, tile, pointers| self.tile(e, tile, pointers, table, halves),
        );
    }
}

impl PairsCode {
    fn tile(&self, e: &mut Emitter<'_>, tile: Tile, pointers: &[Value], table: Value, halves: Value) {
        let Tile { pixels, vectors, channels } = tile;
        let cells = pixels * vectors;
        let single = self.reduction.is_single(rows::STEPS_PER_DRAIN, UNROLL);
        if !single {
            let zero = e.bytes(0);
            for cell in 0..cells as i64 * 2 {
                e.store(zero, halves, 16 * cell);
            }
        }
        let bytes = e.reduce(
            &self.reduction,
            16 * vectors as i64,
            rows::STEPS_PER_DRAIN,
            UNROLL,
            (pointers[0], pointers[1]),
            vec![],
            &mut |e, steps, input, weights, _| {
                let sums = self.look_up(e, tile, steps, input, weights, table);
                if single {
                    return sums;
                }
                for (cell, sum) in sums.into_iter().enumerate() {
                    drain(e, sum, halves, 32 * cell as i64);
                }
                vec![]
            },
        );
        for pixel in 0..pixels {
            for vector in 0..vectors {
                let cell = pixel * vectors + vector;
                let (low, high) = match bytes.get(cell) {
                    Some(&sum) => e.split_shorts(sum),
                    None => {
                        let total = e.load(I16X8, halves, 32 * cell as i64);
                        let high = e.load(I16X8, halves, 32 * cell as i64 + 16);
                        let shifted = e.b.ins().ishl_imm_u(high, 8);
                        (e.b.ins().isub(total, shifted), high)
                    }
                };
                let channel = vector * rows::CHANNELS;
                let count = (channels - channel).min(rows::CHANNELS);
                if let Some(thresholds) = self.thresholds {
                    let sums = self.complete_shorts(e, [low, high], pointers, pixel, channel);
                    let codes = compare(e, sums, pointers[4], channel, thresholds);
                    self.store.emit_codes(e, pointers, pixel, channel, count, codes);
                    continue;
                }
                let sums = self.complete(e, [low, high], pointers, pixel, channel, count);
                let values = scale_sums(e, sums, (pointers[4], pointers[5]), channel, count);
                self.store.emit(e, pointers, pixel, channel, count, values);
            }
        }
    }

    /// The inner loop's body: byte sums of a few steps, one vector for each pixel and weight vector.
    fn look_up(
        &self,
        e: &mut Emitter<'_>,
        tile: Tile,
        steps: &[(i64, i64)],
        input: Value,
        weights: Value,
        table: Value,
    ) -> Vec<Value> {
        let pixel_bytes = self.cursors[0].pixel;
        let mut sums: Vec<Option<Value>> = vec![None; tile.pixels * tile.vectors];
        for &(at, weight_at) in steps {
            let indices: Vec<Value> =
                (0..tile.vectors as i64).map(|v| e.load(I8X16, weights, weight_at + 16 * v)).collect();
            for pixel in 0..tile.pixels {
                let offset = e.load_byte(input, at + pixel as i64 * pixel_bytes);
                let row = e.b.ins().iadd(table, offset);
                let row = e.load(I8X16, row, 0);
                for (vector, &index) in indices.iter().enumerate() {
                    let entries = e.lookup(row, index);
                    let sum = &mut sums[pixel * tile.vectors + vector];
                    *sum = Some(match *sum {
                        None => entries,
                        Some(before) => e.b.ins().iadd(before, entries),
                    });
                }
            }
        }
        sums.into_iter().flatten().collect()
    }

    /// `sum G` and `sum a` of a pixel's window, the same in every lane.
    fn window(&self, e: &mut Emitter<'_>, pointers: &[Value], pixel: usize) -> (Value, Value) {
        let mut at = |displacement: i64| {
            // As a float, so that the broadcast comes straight from memory.
            let word = e.load(F32, pointers[6], 8 * pixel as i64 + displacement);
            e.b.ins().splat(F32X4, word)
        };
        (at(0), at(4))
    }

    /// `-sum T + sum G - zw * sum a + constant` as i16, channels 0 to 7 and 8 to 15.
    fn complete_shorts(
        &self,
        e: &mut Emitter<'_>,
        parts: [Value; 2],
        pointers: &[Value],
        pixel: usize,
        channel: usize,
    ) -> [Value; 2] {
        let (share, codes) = self.window(e, pointers, pixel);
        let (share, codes) = (e.cast(I16X8, share), e.cast(I16X8, codes));
        let mut half = 0;
        parts.map(|part| {
            let place = 2 * (channel + 8 * half) as i64;
            half += 1;
            let zero = e.load(I16X8, pointers[3], place);
            let constant = e.load(I16X8, pointers[2], place);
            let product = e.b.ins().imul(codes, zero);
            let fixed = e.b.ins().isub(constant, product);
            let looked_up = e.b.ins().isub(share, part);
            e.b.ins().iadd(looked_up, fixed)
        })
    }

    /// The same as i32 for `count` channels, four to a vector.
    fn complete(
        &self,
        e: &mut Emitter<'_>,
        parts: [Value; 2],
        pointers: &[Value],
        pixel: usize,
        channel: usize,
        count: usize,
    ) -> Vec<Value> {
        let mut vectors = Vec::new();
        if self.narrow {
            for sum in self.complete_shorts(e, parts, pointers, pixel, channel) {
                vectors.push(e.b.ins().swiden_low(sum));
                vectors.push(e.b.ins().swiden_high(sum));
            }
        } else {
            let (share, codes) = self.window(e, pointers, pixel);
            let (share, codes) = (e.cast(I32X4, share), e.cast(I32X4, codes));
            for (half, &part) in parts.iter().enumerate() {
                for quarter in 0..2 {
                    let place = 4 * (channel + 8 * half + 4 * quarter) as i64;
                    let zero = e.load(I32X4, pointers[3], place);
                    let constant = e.load(I32X4, pointers[2], place);
                    let part = if quarter == 0 { e.b.ins().uwiden_low(part) } else { e.b.ins().uwiden_high(part) };
                    let product = e.b.ins().imul(codes, zero);
                    let fixed = e.b.ins().isub(constant, product);
                    let looked_up = e.b.ins().isub(share, part);
                    vectors.push(e.b.ins().iadd(looked_up, fixed));
                }
            }
        }
        vectors.truncate(count.div_ceil(4));
        vectors
    }
}

/// Codes of sixteen channels, a byte each: how many thresholds each sum is beyond.
fn compare(
    e: &mut Emitter<'_>,
    sums: [Value; 2],
    thresholds: Value,
    channel: usize,
    (levels, level_bytes): (usize, i64),
) -> Value {
    let mut half = 0;
    let [low, high] = sums.map(|sum| {
        let place = 2 * (channel + 8 * half) as i64;
        half += 1;
        // Each comparison gives 0 or -1.
        let mut beyond: Option<Value> = None;
        for level in 0..levels as i64 {
            let threshold = e.load(I16X8, thresholds, place + level * level_bytes);
            let greater = e.b.ins().icmp(IntCC::SignedGreaterThan, sum, threshold);
            beyond = Some(match beyond {
                None => greater,
                Some(before) => e.b.ins().iadd(before, greater),
            });
        }
        beyond.unwrap_or(sum)
    });
    let minus = e.b.ins().snarrow(low, high);
    let zero = e.bytes(0);
    e.b.ins().isub(zero, minus)
}

/// Adds byte sums to the 16-bit totals at `at` (of the bytes taken in pairs as they lie) and behind it (of the odd bytes).
fn drain(e: &mut Emitter<'_>, bytes: Value, halves: Value, at: i64) {
    let shorts = e.cast(I16X8, bytes);
    let total = e.load(I16X8, halves, at);
    let total = e.b.ins().iadd(shorts, total);
    e.store(total, halves, at);
    let high = e.b.ins().ushr_imm_u(shorts, 8);
    let before = e.load(I16X8, halves, at + 16);
    let high = e.b.ins().iadd(high, before);
    e.store(high, halves, at + 16);
}

impl WindowSums {
    /// Bytes of scratch for `height` output rows.
    fn scratch(&self, height: usize) -> usize {
        let rows = (height - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] + 1;
        self.pixels_at as usize + rows * self.columns * 8
    }

    /// First the sums over each input pixel that the work units `first..last` touch, then over windows.
    fn emit(&self, e: &mut Emitter<'_>, input: Value) {
        let (first, last, width) = match self.pixels {
            Pixels::Rows { width } => (e.first, e.last, width),
            Pixels::Sequence { pixels, unit } => {
                (e.first_pixel(pixels, unit, e.first), e.first_pixel(pixels, unit, e.last), 1)
            }
        };
        let scratch = e.slot(self.scratch_slot);
        let shares = e.slot(self.share_slot);
        let pixel_sums = e.offset(scratch, self.pixels_at);
        let reach = (self.kernel[0] - 1) * self.dilations[0] + 1;
        let from = e.times(first, self.strides[0] as i64);
        // `last` is beyond the range; its predecessor's window ends at this row.
        let until = e.times(last, self.strides[0] as i64);
        let until = e.offset(until, reach as i64 - self.strides[0] as i64);
        let row_bytes = 8 * self.columns as i64;
        let start =
            [(e.index(input, from, self.input_row), self.input_row), (e.index(pixel_sums, from, row_bytes), row_bytes)];
        e.range(from, until, &start, vec![], |e, _, p, _| {
            e.repeat(self.columns, &[(p[0], self.input_pixel), (p[1], 8)], vec![], |e, p, _| {
                let (share, codes) = self.pixel(e, p[0], shares);
                e.store(share, p[1], 0);
                e.store(codes, p[1], 4);
                vec![]
            });
            vec![]
        });
        let stride_row = row_bytes * self.strides[0] as i64;
        let start = [
            (e.index(pixel_sums, first, stride_row), stride_row),
            (e.index(scratch, first, 8 * width as i64), 8 * width as i64),
        ];
        e.range(first, last, &start, vec![], |e, _, p, _| {
            let pixels = [(p[0], 8 * self.strides[1] as i64), (p[1], 8)];
            e.repeat(width, &pixels, vec![], |e, p, _| {
                let sum = self.window(e, p[0], row_bytes);
                let share = e.b.ins().ireduce(I32, sum);
                let codes = e.b.ins().ushr_imm_u(sum, 32);
                let codes = e.b.ins().ireduce(I32, codes);
                for (part, at) in [(share, 0), (codes, 4)] {
                    let part = if self.halves {
                        let low = e.b.ins().band_imm_u(part, 0xffff);
                        let high = e.b.ins().ishl_imm_u(low, 16);
                        e.b.ins().bor(low, high)
                    } else {
                        part
                    };
                    e.store(part, p[1], at);
                }
                vec![]
            });
            vec![]
        });
    }

    /// The sums over one window: both in one 64-bit integer, neither overflows into the other.
    fn window(&self, e: &mut Emitter<'_>, pixels: Value, row_bytes: i64) -> Value {
        let [height, width] = self.kernel;
        let down = row_bytes * self.dilations[0] as i64;
        let right = 8 * self.dilations[1] as i64;
        let zero = e.int(0);
        let sum = e.repeat(height, &[(pixels, down)], vec![zero], |e, p, state| {
            if width <= 16 {
                let mut sum = state[0];
                for x in 0..width as i64 {
                    let pixel = e.load(I64, p[0], x * right);
                    sum = e.b.ins().iadd(sum, pixel);
                }
                return vec![sum];
            }
            e.repeat(width, &[(p[0], right)], state, |e, p, state| {
                let pixel = e.load(I64, p[0], 0);
                vec![e.b.ins().iadd(state[0], pixel)]
            })
        });
        sum[0]
    }

    /// `sum G` and `sum a` over the channels of one pixel.
    fn pixel(&self, e: &mut Emitter<'_>, pointer: Value, shares: Value) -> (Value, Value) {
        let zero = e.ints(0);
        let turns = self.bytes / 16;
        let mut state = e.repeat(turns, &[(pointer, 16)], vec![zero, zero], |e, p, state| {
            let offsets = e.load(I8X16, p[0], 0);
            self.add_pairs(e, offsets, shares, state)
        });
        if !self.bytes.is_multiple_of(16) {
            let offsets = e.load_contiguous(pointer, 16 * turns as i64, self.bytes % 16);
            state = self.add_pairs(e, offsets, shares, state);
        }
        let sum = |e: &mut Emitter<'_>, v: Value| {
            let v = e.b.ins().iadd_pairwise(v, v);
            let v = e.b.ins().iadd_pairwise(v, v);
            e.b.ins().extractlane(v, 0)
        };
        (sum(e, state[0]), sum(e, state[1]))
    }

    fn add_pairs(&self, e: &mut Emitter<'_>, offsets: Value, shares: Value, state: Vec<Value>) -> Vec<Value> {
        let shorts = e.cast(I16X8, offsets);
        let shifted = e.b.ins().ushr_imm_u(shorts, 4);
        let mask = e.bytes(0x0f);
        let shifted = e.cast(I8X16, shifted);
        let pairs = e.b.ins().band(shifted, mask);
        let ones = e.bytes(1);
        (0..2)
            .map(|which| {
                let table = e.load(I8X16, shares, 16 * which);
                let entries = e.lookup(table, pairs);
                let sums = e.multiply_add_small(entries, ones);
                let sums = e.add_neighbours(sums);
                e.b.ins().iadd(state[which as usize], sums)
            })
            .collect()
    }
}

/// Lowers a 2-bit convolution.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>) -> Result<(), JitError> {
    let Layer { step, geometry, choice, .. } = layer;
    let (weights, view) = (layer.codes()?, layer.view()?);
    let scaling = Scaling::of(p, &layer)?;
    let narrow = choice.fits_i16();
    let mut low = layer.plan(p, scaling.bound)?;
    let (tile_pixels, vectors) = {
        let rows = low.tiles(layer.kernel(), p.kernels.tier, [false; 2]);
        low.choose_tile(layer.kernel(), rows, TileOverride::Cheapest)
    };
    let layout = low.layout(rows::CHANNELS, 1, vectors);
    let packed = rows::pack(&view, &layout, i32::from(low.input.zero())).map_err(|source| layer.failed(source))?;
    let thresholds =
        if narrow { thresholds::of(low.epilogue(), low.codes(), &scaling, choice.largest_result) } else { None };
    let constants = &mut p.constants;
    let shorts = |values: &[i32]| values.iter().map(|&v| v as i16).collect::<Vec<i16>>();
    let mut add = |at: usize| low.slots.add(Slot::Constant(at));
    let weight_slot = add(constants.push(&packed.indices));
    let (constant_slot, zero_slot) = if narrow {
        (add(constants.push(&shorts(&packed.constants))), add(constants.push(&shorts(weights.zero_points()))))
    } else {
        (add(constants.push(&packed.constants)), add(constants.push(weights.zero_points())))
    };
    // Where there are thresholds, the cursor of the multipliers points at them, and biases are not read.
    let (multiplier_slot, per_channel, bias_slot) = match &thresholds {
        Some(table) => (add(constants.push(&table.values)), 2, weight_slot),
        None => (add(constants.push(&scaling.multiplier)), 4, add(constants.push(&scaling.bias))),
    };
    let table_slot = add(constants.push(&rows::table()));
    let pair_sums = |share: fn(u8) -> u8| (0..16).map(move |pair: u8| share(pair % 4 + pair / 4));
    let shares: Vec<u8> = pair_sums(rows::activation_share).chain(pair_sums(|sum| sum)).collect();
    let share_slot = add(constants.push(&shares));
    let scratch_slot = low.slots.add(Slot::Scratch);
    let (units, macs) = (low.units(), low.macs);
    let block = vectors * rows::CHANNELS;
    let wide = if narrow { 2 } else { 4 };
    let mut cursors = vec![
        low.input_cursor,
        low.weight_cursor(weight_slot, &layout, 16),
        low.channel_cursor(constant_slot, wide, block),
        low.channel_cursor(zero_slot, wide, block),
        low.channel_cursor(multiplier_slot, per_channel, block),
        low.channel_cursor(bias_slot, 4, block),
        ConvCursor { slot: scratch_slot, origin: 0, group: 0, block: 0, unit: 8 * low.pixels.unit() as i64, pixel: 8 },
    ];
    // A window of one tap skips pixels of the input, and only the pixels that it reads are summed.
    let skips = geometry.kernel == [1, 1];
    let strides = if skips { [1, 1] } else { geometry.strides };
    let [skip_y, skip_x] = if skips { geometry.strides.map(|s| s as i64) } else { [1, 1] };
    // Rows and pixels in a row. A sequence, whose windows have one tap, is taken as rows of one pixel.
    let (height, width, input_row) = match low.pixels {
        Pixels::Rows { width } => (low.height, width, skip_y * low.input.stride(1)),
        Pixels::Sequence { pixels, .. } => (pixels, 1, low.input_cursor.pixel),
    };
    let sums = WindowSums {
        scratch_slot,
        share_slot,
        bytes: layout.shape.inputs,
        input_pixel: skip_x * low.input.stride(2),
        input_row,
        columns: (width.max(1) - 1) * strides[1] + (geometry.kernel[1] - 1) * geometry.dilations[1] + 1,
        strides,
        dilations: geometry.dilations,
        kernel: geometry.kernel,
        pixels: low.pixels,
        pixels_at: (8 * width * height).next_multiple_of(64) as i64,
        halves: narrow,
    };
    let loops = ConvLoops {
        groups: low.shape.groups,
        outputs: low.shape.outputs,
        channels_per_vector: rows::CHANNELS,
        pixels: low.pixels,
        tile_pixels,
        vectors,
    };
    let reduction = low.reduction;
    let thresholds = thresholds.map(|t| (t.levels, t.level_bytes));
    if thresholds.is_some() {
        low.forget_epilogue();
    }
    let (slots, store) = low.store(&mut cursors, block);
    let code = PairsCode { loops, cursors, reduction, table_slot, sums, narrow, store, thresholds };
    let scratch = sums.scratch(height.max(1));
    let pushed = p.push(&step.name, slots, units, code).with_kernel(choice, macs, None);
    pushed.scratch = scratch;
    Ok(())
}
