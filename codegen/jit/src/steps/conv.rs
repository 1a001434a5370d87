//! What all convolutions share: lowering, the loops over groups, blocks of output channels, rows and tiles of pixels, the walk
//! over the reduction, and the way from accumulators to the store.
//!
//! There is no im2col: a tile reads its input through one pointer, pixels of a row being a fixed distance apart. Output
//! channels are the outer loop, so that the weights of one block stay in the cache while all pixels go by.

use crate::buffer::{Buffer, Codes, Form, lane_access};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::halo::HaloFill;
use crate::emit::lanes::LaneAccess;
use crate::error::JitError;
use crate::plan::bands::{RowAccess, RowPlace};
use crate::plan::forms::{image, needed_halo};
use crate::plan::planner::{Need, PlannedEpilogue, Planner, Slots, largest};
use catc_kernels::{KernelId, Runs, WeightLayout, WeightShape};
use catc_program::{Geometry, Op, Step};
use cranelift_codegen::ir::{InstBuilder, Value};

/// A pointer that the loops carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConvCursor {
    pub slot: usize,
    /// Bytes from the slot to what the first output needs.
    pub origin: i64,
    /// Bytes from group to group.
    pub group: i64,
    /// Bytes from one block of output channels to the next.
    pub block: i64,
    /// Bytes from one output row to the next.
    pub row: i64,
    /// Bytes from one output pixel to the next.
    pub pixel: i64,
}

/// The loops around a tile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConvLoops {
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub channels_per_vector: usize,
    /// Output pixels in a row.
    pub width: usize,
    /// Pixels of a tile.
    pub pixels: usize,
    /// Vectors of output channels of a tile.
    pub vectors: usize,
}

/// A tile as it is emitted: the loops' tile, or what is left at an edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    pub pixels: usize,
    pub vectors: usize,
    /// Output channels that exist.
    pub channels: usize,
}

impl Emitter<'_> {
    /// Emits the loops for the rows `first..last`. `per_group` runs once a group with the pointers at its start.
    pub fn conv_loops(
        &mut self,
        loops: &ConvLoops,
        cursors: &[ConvCursor],
        per_group: &mut dyn FnMut(&mut Self, &[Value]),
        tile: &mut dyn FnMut(&mut Self, Tile, &[Value]),
    ) {
        let starts: Vec<_> = cursors
            .iter()
            .map(|c| {
                let base = self.slot(c.slot);
                (self.offset(base, c.origin), c.group)
            })
            .collect();
        let per_block = loops.vectors * loops.channels_per_vector;
        let (full, rest) = (loops.outputs / per_block, loops.outputs % per_block);
        self.repeat(loops.groups, &starts, vec![], |e, pointers, _| {
            per_group(e, pointers);
            let advances: Vec<_> = pointers.iter().zip(cursors).map(|(&p, c)| (p, c.block)).collect();
            if full > 0 {
                let shape = Tile { pixels: loops.pixels, vectors: loops.vectors, channels: per_block };
                e.repeat(full, &advances, vec![], |e, pointers, _| {
                    e.conv_rows(loops, cursors, pointers, shape, tile);
                    vec![]
                });
            }
            if rest > 0 {
                let vectors = rest.div_ceil(loops.channels_per_vector);
                let shape = Tile { pixels: loops.pixels, vectors, channels: rest };
                let pointers: Vec<_> = advances.iter().map(|&(p, b)| e.offset(p, b * full as i64)).collect();
                e.conv_rows(loops, cursors, &pointers, shape, tile);
            }
            vec![]
        });
    }

    fn conv_rows(
        &mut self,
        loops: &ConvLoops,
        cursors: &[ConvCursor],
        pointers: &[Value],
        shape: Tile,
        tile: &mut dyn FnMut(&mut Self, Tile, &[Value]),
    ) {
        let (first, last) = (self.first, self.last);
        let rows: Vec<_> = pointers.iter().zip(cursors).map(|(&p, c)| (self.index(p, first, c.row), c.row)).collect();
        let (full, rest) = (loops.width / shape.pixels, loops.width % shape.pixels);
        self.range(first, last, &rows, vec![], |e, _, pointers, _| {
            let step = shape.pixels as i64;
            let advances: Vec<_> = pointers.iter().zip(cursors).map(|(&p, c)| (p, c.pixel * step)).collect();
            e.repeat(full, &advances, vec![], |e, pointers, _| {
                tile(e, shape, pointers);
                vec![]
            });
            if rest > 0 {
                let pointers: Vec<_> = advances.iter().map(|&(p, b)| e.offset(p, b * full as i64)).collect();
                tile(e, Tile { pixels: rest, ..shape }, &pointers);
            }
            vec![]
        });
    }
}

/// The walk over one output's reduction: filter rows, taps of a row (one if a row is a single run), steps of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reduction {
    pub rows: usize,
    pub row_bytes: i64,
    pub taps: usize,
    pub tap_bytes: i64,
    pub steps: usize,
    pub step_bytes: i64,
}

/// A few steps in a row: displacements of activations and weights.
pub(crate) type Steps = Vec<(i64, i64)>;

impl Reduction {
    /// Steps in all.
    pub fn total(&self) -> usize {
        self.rows * self.taps * self.steps
    }

    /// Whether [`Emitter::reduce`] emits all steps as one list.
    pub fn is_single(&self, chunk: usize, unroll: usize) -> bool {
        self.total() <= unroll && self.total() <= chunk
    }

    fn list(&self, rows: usize, weight_bytes: i64) -> Steps {
        let mut list = Vec::new();
        for (row, tap, step) in
            (0..rows).flat_map(|r| (0..self.taps).flat_map(move |t| (0..self.steps).map(move |s| (r, t, s))))
        {
            let at = row as i64 * self.row_bytes + tap as i64 * self.tap_bytes + step as i64 * self.step_bytes;
            list.push((at, list.len() as i64 * weight_bytes));
        }
        list
    }
}

/// Work on a list of steps: activation and weight pointers, and the state handed from list to list.
pub(crate) type ReduceBody<'b, 'f> =
    &'b mut dyn FnMut(&mut Emitter<'f>, &[(i64, i64)], Value, Value, Vec<Value>) -> Vec<Value>;

impl<'f> Emitter<'f> {
    /// Emits the walk in lists of at most `chunk` steps, as equal as can be. Up to `unroll` steps are emitted without a loop.
    #[allow(clippy::too_many_arguments)]
    pub fn reduce(
        &mut self,
        reduction: &Reduction,
        weight_bytes: i64,
        chunk: usize,
        unroll: usize,
        (input, weights): (Value, Value),
        state: Vec<Value>,
        body: ReduceBody<'_, 'f>,
    ) -> Vec<Value> {
        if reduction.total() <= unroll {
            let list = reduction.list(reduction.rows, weight_bytes);
            return self.reduce_list(&list, chunk, input, weights, state, body);
        }
        let per_row = reduction.taps * reduction.steps;
        let rows = [(input, reduction.row_bytes), (weights, per_row as i64 * weight_bytes)];
        if per_row <= unroll {
            let list = reduction.list(1, weight_bytes);
            return self.repeat(reduction.rows, &rows, state, |e, p, state| {
                e.reduce_list(&list, chunk, p[0], p[1], state, body)
            });
        }
        self.repeat(reduction.rows, &rows, state, |e, p, state| {
            let taps = [(p[0], reduction.tap_bytes), (p[1], reduction.steps as i64 * weight_bytes)];
            e.repeat(reduction.taps, &taps, state, |e, p, mut state| {
                let (mut input, mut weights) = (p[0], p[1]);
                for (turns, size) in equal_parts(reduction.steps, chunk) {
                    let (step, weight) = (size as i64 * reduction.step_bytes, size as i64 * weight_bytes);
                    let list: Steps = (0..size as i64).map(|s| (s * reduction.step_bytes, s * weight_bytes)).collect();
                    state = e.repeat(turns, &[(input, step), (weights, weight)], state, |e, p, state| {
                        body(e, &list, p[0], p[1], state)
                    });
                    input = e.offset(input, step * turns as i64);
                    weights = e.offset(weights, weight * turns as i64);
                }
                state
            })
        })
    }

    fn reduce_list(
        &mut self,
        list: &[(i64, i64)],
        chunk: usize,
        input: Value,
        weights: Value,
        mut state: Vec<Value>,
        body: ReduceBody<'_, 'f>,
    ) -> Vec<Value> {
        let mut at = 0;
        for (turns, size) in equal_parts(list.len(), chunk) {
            for _ in 0..turns {
                state = body(self, &list[at..at + size], input, weights, state);
                at += size;
            }
        }
        state
    }
}

/// `count` cut into few parts of at most `most`: equal ones if that takes no more than a fifth more of them than the fewest, else of
/// two sizes. How many of which size.
fn equal_parts(count: usize, most: usize) -> Vec<(usize, usize)> {
    let fewest = count.div_ceil(most.max(1));
    if fewest == 0 {
        return vec![];
    }
    let parts = (fewest..=fewest + fewest / 5).find(|&parts| count.is_multiple_of(parts)).unwrap_or(fewest);
    let (size, longer) = (count / parts, count % parts);
    [(longer, size + 1), (parts - longer, size)].into_iter().filter(|&(turns, _)| turns > 0).collect()
}

/// An operand of the epilogue, as the loops of a convolution meet it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConvOperand {
    pub access: LaneAccess,
    /// Half bytes from channel to channel.
    pub channel: i64,
    pub pixel: i64,
    pub zero: i32,
    /// The highest code, of codes.
    pub levels: u8,
}

/// From values to the store: the cursors of output and operands are numbered from `first_cursor` on, output first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConvStore {
    pub first_cursor: usize,
    pub output: Output,
    pub channel: i64,
    pub pixel: i64,
    pub operands: Vec<ConvOperand>,
    pub epilogue: Epilogue,
    pub halo: Option<HaloFill>,
}

impl ConvStore {
    /// How a function of rows with these cursors reaches its tensors, cursor 0 being its input.
    pub fn rows(&self, cursors: &[ConvCursor]) -> Option<RowAccess> {
        let rows = |cursor: &ConvCursor| RowPlace { slot: cursor.slot, origin: cursor.origin, row: cursor.row };
        let mut ends = cursors[self.first_cursor..].iter().map(rows);
        Some(RowAccess { input: cursors[0].slot, output: ends.next()?, operands: ends.collect() })
    }

    /// Applies the epilogue to `count` values from channel `channel` of the tile on, at pixel `pixel` of the tile, and stores them.
    pub fn emit(
        &self,
        e: &mut Emitter<'_>,
        pointers: &[Value],
        pixel: usize,
        channel: usize,
        count: usize,
        values: Vec<Value>,
    ) {
        let place = |half: i64, bytes: i64| channel as i64 * half / 2 + pixel as i64 * bytes;
        let values = e.apply(&self.epilogue, values, |e, number| {
            let operand = &self.operands[number];
            let at = place(operand.channel, operand.pixel);
            e.load_floats(operand.access, pointers[self.first_cursor + 1 + number], at, count, operand.zero)
        });
        let at = place(self.channel, self.pixel);
        e.store_results(&self.output, &self.epilogue, pointers[self.first_cursor], at, count, values);
    }
}

impl ConvStore {
    /// Stores `count` codes, a byte each, of channels from `channel` of the tile on.
    pub fn emit_codes(
        &self,
        e: &mut Emitter<'_>,
        pointers: &[Value],
        pixel: usize,
        channel: usize,
        count: usize,
        codes: Value,
    ) {
        let at = channel as i64 * self.channel / 2 + pixel as i64 * self.pixel;
        e.store_bytes(self.output.access, pointers[self.first_cursor], at, count, codes);
    }
}

/// A convolution on the way to its code.
#[derive(Clone)]
pub(crate) struct Lowering {
    pub slots: Slots,
    pub shape: WeightShape,
    pub height: usize,
    pub width: usize,
    pub input: Buffer,
    pub input_cursor: ConvCursor,
    pub reduction: Reduction,
    pub runs: Runs,
    pub output_slot: usize,
    output: Buffer,
    halo: Option<HaloFill>,
    planned: PlannedEpilogue,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// What all convolutions do before they pack weights. `bound` bounds the magnitude of results before the epilogue.
pub(crate) fn lower(
    p: &mut Planner<'_>,
    step: &Step,
    geometry: &Geometry,
    shape: WeightShape,
    kernel: KernelId,
    bound: Option<f32>,
) -> Result<Lowering, JitError> {
    let (channels, ..) = image(p.program, step.inputs[0])?;
    let (outputs, height, width) = image(p.program, step.output)?;
    if channels != shape.groups * shape.inputs || outputs != shape.total_outputs() {
        return Err(JitError::invalid(&step.name, "the weights contradict the channels of input or output"));
    }
    let form = match kernel.info().form {
        catc_kernels::ActivationForm::Float => Form::Float,
        catc_kernels::ActivationForm::Byte => Form::Byte,
        catc_kernels::ActivationForm::RowOffset => Form::RowOffset,
    };
    let halo = needed_halo(p.program, step, geometry)?;
    let source = p.read(step.inputs[0], Need { form: Some(form), halo, reads_past: true })?;
    let output = p.write(step.output)?;
    let mut slots = Slots::default();
    let output_slot = slots.add(output.slot);
    let input_slot = slots.add(source.slot);
    let pairs_align = shape.groups == 1 || shape.is_depthwise() || shape.outputs.is_multiple_of(2);
    let planned = p.epilogue(step, &mut slots, 0, pairs_align, bound)?;
    let input = source.buffer;
    // Storage units of one group at one pixel, and of a whole pixel.
    let (group_units, pixel_units) = match form {
        Form::RowOffset => (shape.inputs.div_ceil(2), channels.div_ceil(2)),
        _ => (shape.inputs, channels),
    };
    let unit_bytes = form.half_bytes().max(2) as i64 / 2;
    let (row, pixel) = (input.stride(1), input.stride(2));
    let [stride_y, stride_x] = geometry.strides.map(|s| s as i64);
    let [dilation_y, dilation_x] = geometry.dilations.map(|d| d as i64);
    let above = geometry.pads[0] as i64 * row + geometry.pads[1] as i64 * pixel;
    let input_cursor = ConvCursor {
        slot: input_slot,
        origin: input.origin - above,
        group: group_units as i64 * unit_bytes,
        block: 0,
        row: stride_y * row,
        pixel: stride_x * pixel,
    };
    let whole_rows = shape.groups == 1 && dilation_x == 1 && shape.kernel_width > 1;
    let runs = if whole_rows { Runs::Row { pixel_stride: pixel_units } } else { Runs::Tap };
    let per_step = kernel.info().units_per_step;
    let units = if whole_rows { (shape.kernel_width - 1) * pixel_units + group_units } else { group_units };
    let reduction = Reduction {
        rows: shape.kernel_height,
        row_bytes: dilation_y * row,
        taps: if whole_rows { 1 } else { shape.kernel_width },
        tap_bytes: dilation_x * pixel,
        steps: units.div_ceil(per_step),
        step_bytes: per_step as i64 * unit_bytes,
    };
    // Of the groups as they are, joined or not.
    let (Op::Conv { weights, .. } | Op::FloatConv { weights, .. }) = &step.op else {
        return Err(JitError::invalid(&step.name, "not a convolution"));
    };
    let macs = p.program.constant(*weights).data.len() as u64 * (height * width) as u64;
    let halo = output.halo_fill(output_slot);
    Ok(Lowering {
        slots,
        shape,
        height,
        width,
        input,
        input_cursor,
        reduction,
        runs,
        output_slot,
        output: output.buffer,
        halo,
        planned,
        macs,
    })
}

impl Lowering {
    /// What follows the sums.
    pub fn epilogue(&self) -> &Epilogue {
        &self.planned.epilogue
    }

    /// Leaves out the epilogue, which the sums have been given by other means.
    pub fn forget_epilogue(&mut self) {
        self.planned.epilogue = Epilogue::default();
    }

    /// The codes of the output, if it holds codes.
    pub fn codes(&self) -> Option<Codes> {
        self.output.codes
    }

    /// The order of weights whose units are those of the input's storage.
    pub fn layout(&self, channels_per_vector: usize, units_per_step: usize, vectors: usize) -> WeightLayout {
        let inputs = if self.input.form == Form::RowOffset { self.shape.inputs.div_ceil(2) } else { self.shape.inputs };
        WeightLayout {
            shape: WeightShape { inputs, ..self.shape },
            runs: self.runs,
            channels_per_vector,
            units_per_step,
            vectors_per_block: vectors,
        }
    }

    /// The cursor of an array with `bytes` bytes for each output channel.
    pub fn channel_cursor(&self, slot: usize, bytes: i64, block_channels: usize) -> ConvCursor {
        let group = self.shape.outputs as i64 * bytes;
        ConvCursor { slot, origin: 0, group, block: block_channels as i64 * bytes, row: 0, pixel: 0 }
    }

    /// The cursor of packed weights.
    pub fn weight_cursor(&self, slot: usize, layout: &WeightLayout, vector_bytes: usize) -> ConvCursor {
        let vector = (layout.steps() * vector_bytes) as i64;
        let block = vector * layout.vectors_per_block as i64;
        ConvCursor { slot, origin: 0, group: vector * layout.vectors() as i64, block, row: 0, pixel: 0 }
    }

    /// Appends the cursors of output and operands, and describes the way to the store.
    pub fn store(self, cursors: &mut Vec<ConvCursor>, block_channels: usize) -> (Slots, ConvStore) {
        let outputs = self.shape.outputs as i64;
        let mut cursor = |slot, origin, strides: &[i64]| {
            let channel = strides[0];
            cursors.push(ConvCursor {
                slot,
                origin,
                group: outputs * channel / 2,
                block: block_channels as i64 * channel / 2,
                row: strides[1] / 2,
                pixel: strides[2] / 2,
            });
        };
        let to = &self.output;
        cursor(self.output_slot, to.origin, &to.strides);
        let mut operands = Vec::new();
        for (walk, strides) in &self.planned.operands {
            cursor(walk.slot, walk.origin, strides);
            operands.push(ConvOperand {
                access: lane_access(walk.form, strides[0]),
                channel: strides[0],
                pixel: strides[2] / 2,
                zero: walk.zero,
                levels: walk.levels,
            });
        }
        let store = ConvStore {
            first_cursor: cursors.len() - 1 - operands.len(),
            output: Output { access: to.lanes(0), codes: to.codes },
            channel: to.strides[0],
            pixel: to.stride(2),
            operands,
            epilogue: self.planned.epilogue,
            halo: self.halo,
        };
        (self.slots, store)
    }
}

/// Multipliers and biases of a convolution of codes, and a bound on `sum as f32 * multiplier + bias`.
pub(crate) struct Scaling {
    pub multiplier: Vec<f32>,
    pub bias: Vec<f32>,
    pub bound: Option<f32>,
}

impl Scaling {
    /// Those of a step with that many output channels; `largest_sum` bounds the magnitude of sums.
    pub fn of(p: &Planner<'_>, step: &Step, outputs: usize, largest_sum: u64) -> Result<Scaling, JitError> {
        let Op::Conv { multiplier, bias, .. } = &step.op else {
            return Err(JitError::invalid(&step.name, "not a convolution of codes"));
        };
        let multiplier = p.channel_floats(&step.name, *multiplier, outputs)?;
        let bias = p.channel_floats(&step.name, *bias, outputs)?;
        let bound = (1.001 * largest_sum as f32 * largest(&multiplier) + largest(&bias)) * 1.001;
        Ok(Scaling { multiplier, bias, bound: bound.is_finite().then_some(bound) })
    }
}

/// Loads the parameters of `count` channels from an f32 array, four to a vector; arrays are padded, so whole vectors are read.
pub(crate) fn channel_vectors(e: &mut Emitter<'_>, pointer: Value, channel: usize, count: usize) -> Vec<Value> {
    let ty = cranelift_codegen::ir::types::F32X4;
    (0..count.div_ceil(4)).map(|i| e.load(ty, pointer, (channel + 4 * i) as i64 * 4)).collect()
}

/// `sum as f32 * multiplier + bias` for `count` channels from `channel` of the tile on.
pub(crate) fn scale_sums(
    e: &mut Emitter<'_>,
    sums: Vec<Value>,
    (multiplier, bias): (Value, Value),
    channel: usize,
    count: usize,
) -> Vec<Value> {
    let factors = channel_vectors(e, multiplier, channel, count);
    let terms = channel_vectors(e, bias, channel, count);
    sums.into_iter()
        .zip(factors.into_iter().zip(terms))
        .map(|(sum, (factor, term))| scale(e, sum, factor, term))
        .collect()
}

/// The same for the four channels from `channel` on, one vector for each pixel.
pub(crate) fn scale_pixels(
    e: &mut Emitter<'_>,
    sums: Vec<Value>,
    (multiplier, bias): (Value, Value),
    channel: usize,
) -> Vec<Value> {
    let (factor, term) = (channel_vectors(e, multiplier, channel, 4)[0], channel_vectors(e, bias, channel, 4)[0]);
    sums.into_iter().map(|sum| scale(e, sum, factor, term)).collect()
}

fn scale(e: &mut Emitter<'_>, sum: Value, factor: Value, term: Value) -> Value {
    let sum = e.b.ins().fcvt_from_sint(cranelift_codegen::ir::types::F32X4, sum);
    let scaled = e.b.ins().fmul(sum, factor);
    e.b.ins().fadd(scaled, term)
}

#[cfg(test)]
mod tests {
    use super::equal_parts;

    #[test]
    fn parts_cover_the_whole() {
        for count in 0..200 {
            for most in 1..40 {
                let parts = equal_parts(count, most);
                assert_eq!(parts.iter().map(|(n, size)| n * size).sum::<usize>(), count);
                assert!(parts.iter().all(|&(_, size)| size <= most && size > 0));
                assert!(parts.iter().map(|(n, _)| n).sum::<usize>() <= count.div_ceil(most) * 6 / 5);
            }
        }
    }
}
