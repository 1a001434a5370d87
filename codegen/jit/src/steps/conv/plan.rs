//! What all convolutions do before they pack weights: tensors read and written, the walk over the input, the cursors of the loops, and
//! whether tiles go through rows or through all pixels as one sequence.

use super::loops::{ConvCursor, Reduction};
use super::pixels::{Pixels, distance};
use super::store::{ConvOperand, ConvStore};
use crate::builder::{Builder, Need, PlannedEpilogue, Slots};
use crate::emit::epilogue::Output;
use crate::emit::halo::HaloFill;
use crate::error::JitError;
use crate::storage::{Buffer, Codes, Halo, StorageFormat, image, lane_access, needed_halo};
use catc_kernels::{
    ActivationFormat, KernelInfo, KernelRef, Runs, Tier, TileOverride, TileQuery, WeightLayout, WeightShape,
};
use catc_program::{ConstantId, Geometry, Step};

/// What a sequence must gain by the estimated cycles: rows can be joined with those of the layer before ([`crate::row_fusion`]), of which the
/// estimate knows nothing.
const SEQUENCE_GAIN: f64 = 0.97;

/// A convolution on the way to its code.
#[derive(Clone)]
pub(crate) struct ConvPlan {
    pub slots: Slots,
    pub shape: WeightShape,
    /// Pixels of the output.
    pub height: usize,
    pub width: usize,
    /// How tiles go through them: by rows until [`ConvPlan::choose_tile`] says otherwise.
    pub pixels: Pixels,
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
pub(crate) fn plan(
    p: &mut Builder<'_>,
    (step, geometry): (&Step, &Geometry),
    (weights, shape): (ConstantId, WeightShape),
    kernel: &KernelInfo,
    bound: Option<f32>,
) -> Result<ConvPlan, JitError> {
    let (channels, ..) = image(p.program, step.inputs[0])?;
    let (outputs, height, width) = image(p.program, step.output)?;
    if channels != shape.groups * shape.inputs || outputs != shape.total_outputs() {
        return Err(JitError::invalid(&step.name, "the weights contradict the channels of input or output"));
    }
    let format = match kernel.activations {
        ActivationFormat::Float => StorageFormat::Float,
        ActivationFormat::Byte => StorageFormat::Byte,
        ActivationFormat::RowOffset => StorageFormat::RowOffset,
    };
    let halo = needed_halo(p.program, step, geometry)?;
    let source = p.read(step.inputs[0], Need { format: Some(format), halo, reads_past: true })?;
    let output = p.write(step.output)?;
    let mut slots = Slots::default();
    let output_slot = slots.add(output.slot);
    let input_slot = slots.add(source.slot);
    let pairs_align = shape.groups == 1 || shape.is_depthwise() || shape.outputs.is_multiple_of(2);
    let planned = p.epilogue(step, &mut slots, 0, pairs_align, bound)?;
    let input = source.buffer;
    // Storage units of one group at one pixel, and of a whole pixel.
    let (group_units, pixel_units) = match format {
        StorageFormat::RowOffset => (shape.inputs.div_ceil(2), channels.div_ceil(2)),
        _ => (shape.inputs, channels),
    };
    let unit_bytes = format.half_bytes().max(2) as i64 / 2;
    let (row, pixel) = (input.stride(1), input.stride(2));
    let [stride_y, stride_x] = geometry.strides.map(|s| s as i64);
    let [dilation_y, dilation_x] = geometry.dilations.map(|d| d as i64);
    let above = geometry.pads[0] as i64 * row + geometry.pads[1] as i64 * pixel;
    let input_cursor = ConvCursor {
        slot: input_slot,
        origin: input.origin - above,
        group: group_units as i64 * unit_bytes,
        block: 0,
        unit: stride_y * row,
        pixel: stride_x * pixel,
    };
    let whole_rows = shape.groups == 1 && dilation_x == 1 && shape.kernel_width > 1;
    let runs = if whole_rows { Runs::Row { pixel_stride: pixel_units } } else { Runs::Tap };
    let units = if whole_rows { (shape.kernel_width - 1) * pixel_units + group_units } else { group_units };
    let units_per_step = kernel.units_per_step;
    let reduction = Reduction {
        rows: shape.kernel_height,
        row_bytes: dilation_y * row,
        taps: if whole_rows { 1 } else { shape.kernel_width },
        tap_bytes: dilation_x * pixel,
        steps: units.div_ceil(units_per_step),
        step_bytes: units_per_step as i64 * unit_bytes,
    };
    // The products of the layer's own weights. Zeros that joined groups add are not counted.
    let macs = p.program.constant(weights).data.len() as u64 * (height * width) as u64;
    let halo = output.halo_fill(output_slot);
    Ok(ConvPlan {
        slots,
        shape,
        height,
        width,
        pixels: Pixels::Rows { width },
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

impl ConvPlan {
    /// What follows the sums.
    pub fn epilogue(&self) -> &PlannedEpilogue {
        &self.planned
    }

    /// Leaves out the steps of the epilogue, because the kernel applies them in another way.
    pub fn forget_epilogue(&mut self) {
        self.planned.forget_steps();
    }

    /// The plan of a depthwise layer whose channels count as one group of outputs, and whose input moves along with them.
    pub fn with_channels_as_outputs(mut self) -> ConvPlan {
        (self.shape.outputs, self.shape.groups) = (self.shape.groups, 1);
        self
    }

    /// The codes of the output, if it holds codes.
    pub fn codes(&self) -> Option<Codes> {
        self.output.codes
    }

    /// The order of weights whose units are those of the input's storage.
    pub fn layout(&self, channels_per_vector: usize, units_per_step: usize, vectors: usize) -> WeightLayout {
        let inputs = if self.input.format == StorageFormat::RowOffset {
            self.shape.inputs.div_ceil(2)
        } else {
            self.shape.inputs
        };
        WeightLayout {
            shape: WeightShape { inputs, ..self.shape },
            runs: self.runs,
            channels_per_vector,
            units_per_step,
            vectors_per_block: vectors,
        }
    }

    /// Whether all pixels lie at one distance, in the input, the output and every operand of the epilogue.
    fn is_sequence(&self) -> bool {
        let size = [self.height, self.width];
        let along = |strides: &[i64]| distance(size, strides[1] / 2, strides[2] / 2).is_some();
        size.iter().product::<usize>() > 1
            && [self.shape.kernel_height, self.shape.kernel_width] == [1, 1]
            && self.output.halo == Halo::NONE
            && distance(size, self.input_cursor.unit, self.input_cursor.pixel).is_some()
            && along(&self.output.strides)
            && self.planned.operands.iter().all(|(_, strides)| along(strides))
    }

    /// Bytes from one work unit, and from one pixel, to the next, of what moves by so many bytes along rows and pixels.
    fn moves(&self, row: i64, pixel: i64) -> (i64, i64) {
        let sequence = |unit: usize| {
            let distance = distance([self.height, self.width], row, pixel)?;
            Some((unit as i64 * distance, distance))
        };
        match self.pixels {
            Pixels::Rows { .. } => (row, pixel),
            // Not chosen unless there is a distance.
            Pixels::Sequence { unit, .. } => sequence(unit).unwrap_or((row, pixel)),
        }
    }

    /// Pixels and vectors of the tile of a kernel that has several: the requested one, or the cheapest. Tiles are cut from all pixels as one
    /// sequence where that is possible, and cheaper than from several rows and columns. `rows` is the query of [`ConvPlan::tiles`]. Cursors
    /// are made after the choice.
    pub fn choose_tile(&mut self, kernel: KernelRef, rows: TileQuery, asked: TileOverride) -> (usize, usize) {
        let pixels = self.height * self.width;
        let all = TileQuery { width: pixels, ..rows };
        // One row or column has nothing to lose.
        let line = self.height == 1 || self.width == 1;
        let cheaper = || all.pixel_cycles(kernel) < SEQUENCE_GAIN * rows.pixel_cycles(kernel);
        if !(self.is_sequence() && (line || cheaper())) {
            return rows.choose(kernel, asked);
        }
        let tile = all.choose(kernel, asked);
        self.pixels = Pixels::sequence(pixels, tile.0);
        let (unit, pixel) = self.moves(self.input_cursor.unit, self.input_cursor.pixel);
        self.input_cursor = ConvCursor { unit, pixel, ..self.input_cursor };
        tile
    }

    /// The number of work units.
    pub fn units(&self) -> usize {
        self.pixels.units(self.height)
    }

    /// What the cost of the tiles of a kernel depends on, where these are cut from rows. `operands` say whether activations are below 128, and
    /// whether sums of two products fit 16 bits.
    pub fn tiles(&self, kernel: KernelRef, tier: Tier, [small_activations, pairs_fit]: [bool; 2]) -> TileQuery {
        TileQuery {
            width: self.width,
            vectors: self.shape.outputs.div_ceil(kernel.info().channels_per_vector),
            steps: self.reduction.total(),
            tier,
            small_activations,
            pairs_fit,
        }
    }

    /// The cursor of an array with `bytes` bytes for each output channel.
    pub fn channel_cursor(&self, slot: usize, bytes: i64, block_channels: usize) -> ConvCursor {
        let group = self.shape.outputs as i64 * bytes;
        ConvCursor { slot, origin: 0, group, block: block_channels as i64 * bytes, unit: 0, pixel: 0 }
    }

    /// The cursor of packed weights.
    pub fn weight_cursor(&self, slot: usize, layout: &WeightLayout, vector_bytes: usize) -> ConvCursor {
        let vector = (layout.steps() * vector_bytes) as i64;
        let block = vector * layout.vectors_per_block as i64;
        ConvCursor { slot, origin: 0, group: vector * layout.vectors() as i64, block, unit: 0, pixel: 0 }
    }

    /// Appends the cursors of output and operands, and describes the way to the store.
    pub fn store(self, cursors: &mut Vec<ConvCursor>, block_channels: usize) -> (Slots, ConvStore) {
        let outputs = self.shape.outputs as i64;
        let mut cursor = |slot, origin, strides: &[i64]| {
            let channel = strides[0];
            let (unit, pixel) = self.moves(strides[1] / 2, strides[2] / 2);
            cursors.push(ConvCursor {
                slot,
                origin,
                group: outputs * channel / 2,
                block: block_channels as i64 * channel / 2,
                unit,
                pixel,
            });
            pixel
        };
        let to = &self.output;
        let pixel = cursor(self.output_slot, to.origin, &to.strides);
        let mut operands = Vec::new();
        for (walk, strides) in &self.planned.operands {
            let pixel = cursor(walk.slot, walk.origin, strides);
            operands.push(ConvOperand {
                access: lane_access(walk.format, strides[0]),
                channel: strides[0],
                pixel,
                zero: walk.zero,
                levels: walk.levels,
            });
        }
        let store = ConvStore {
            first_cursor: cursors.len() - 1 - operands.len(),
            output: Output { access: to.lanes(0), codes: to.codes },
            channel: to.strides[0],
            pixel,
            operands,
            epilogue: self.planned.code(),
            halo: self.halo,
        };
        (self.slots, store)
    }
}
