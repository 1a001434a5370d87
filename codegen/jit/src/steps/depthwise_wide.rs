//! Depthwise convolutions by precompiled rows: a call does the output pixels of a row for up to 64 channels, epilogue included.

use super::conv::{ConvCursor, ConvLoops, ConvStore, Lowering, Scaling};
use super::finish::{self, FinishArguments};
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::precompiled::depthwise::{BLOCK, COLUMN_TAPS, DepthwiseRow};
use catc_kernels::precompiled::finish::Program;
use catc_kernels::precompiled::{DEPTHWISE_512, DEPTHWISE_FLOAT_512};
use catc_kernels::{FloatWeights, KernelId, QuantizedWeights, depthwise};
use catc_program::{Geometry, Step};
use std::mem::{offset_of, size_of};

/// Cursors: 0 input, 1 weights, 2 initial sums, of codes 3 biases and 4 multipliers, then output and operands.
#[derive(Debug)]
struct RowCode {
    symbol: &'static str,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    kernel: [usize; 2],
    row_bytes: i64,
    column_bytes: i64,
    /// Columns from pixel to pixel where they are shared, else 0.
    stride: usize,
    store: ConvStore,
    program_slot: usize,
}

impl StepCode for RowCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        let call = e.prepare(self.symbol, size_of::<DepthwiseRow>());
        let finish = FinishArguments { call: &call, at: offset_of!(DepthwiseRow, finish) };
        finish.fix(e, self.program_slot, &self.cursors[self.store.first_cursor..]);
        e.set_int(&call, offset_of!(DepthwiseRow, pixel_bytes), self.cursors[0].pixel);
        e.set_int(&call, offset_of!(DepthwiseRow, rows), self.kernel[0] as i64);
        e.set_int(&call, offset_of!(DepthwiseRow, columns), self.kernel[1] as i64);
        e.set_int(&call, offset_of!(DepthwiseRow, row_bytes), self.row_bytes);
        e.set_int(&call, offset_of!(DepthwiseRow, column_bytes), self.column_bytes);
        e.set_int(&call, offset_of!(DepthwiseRow, stride), self.stride as i64);
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| {
            e.set(&call, offset_of!(DepthwiseRow, input), pointers[0]);
            e.set(&call, offset_of!(DepthwiseRow, weights), pointers[1]);
            e.set(&call, offset_of!(DepthwiseRow, start), pointers[2]);
            e.set_int(&call, offset_of!(DepthwiseRow, pixels), tile.pixels as i64);
            let (bias, multiplier) = match self.store.first_cursor {
                5 => (pointers[3], pointers[4]),
                _ => (e.int(0), e.int(0)),
            };
            finish.block(e, multiplier, bias, tile.channels);
            finish.places(e, &pointers[self.store.first_cursor..]);
            e.call(&call);
        });
    }
}

/// Lowers a depthwise convolution of codes, or gives it back if its epilogue is not one that the kernel knows.
pub(crate) fn lower(
    p: &mut Planner<'_>,
    step: &Step,
    mut low: Lowering,
    geometry: &Geometry,
    view: &QuantizedWeights<'_>,
    scaling: &Scaling,
) -> Result<Option<Lowering>, JitError> {
    let Some(program) = program(&low) else { return Ok(Some(low)) };
    let packed = depthwise::pack_columns(view, i32::from(low.input.zero()))
        .map_err(|source| JitError::Weights { step: step.name.clone(), source })?;
    let weight_slot = low.slots.add(Slot::Constant(p.constants.push(&packed.pairs)));
    let channels: Vec<usize> =
        [p.constants.push(&packed.constants), p.constants.push(&scaling.bias), p.constants.push(&scaling.multiplier)]
            .map(|at| low.slots.add(Slot::Constant(at)))
            .to_vec();
    let block = geometry.kernel[1] * geometry.kernel[0].div_ceil(COLUMN_TAPS) * COLUMN_TAPS * BLOCK;
    push(p, step, low, geometry, KernelId::Depthwise512, program, (weight_slot, block), &channels);
    Ok(None)
}

/// Lowers a depthwise convolution of floats, or gives it back if its epilogue is not one that the kernel knows.
pub(crate) fn lower_float(
    p: &mut Planner<'_>,
    step: &Step,
    mut low: Lowering,
    geometry: &Geometry,
    view: &FloatWeights<'_>,
    bias: &[f32],
) -> Result<Option<Lowering>, JitError> {
    let Some(program) = program(&low) else { return Ok(Some(low)) };
    let packed =
        depthwise::pack_wide_float(view).map_err(|source| JitError::Weights { step: step.name.clone(), source })?;
    let weight_slot = low.slots.add(Slot::Constant(p.constants.push(&packed)));
    let start = low.slots.add(Slot::Constant(p.constants.push(bias)));
    let block = geometry.kernel[0] * geometry.kernel[1] * 4 * BLOCK;
    push(p, step, low, geometry, KernelId::DepthwiseFloat512, program, (weight_slot, block), &[start]);
    Ok(None)
}

fn program(low: &Lowering) -> Option<Program> {
    let mut ends = Vec::new();
    let (slots, store) = low.clone().store(&mut ends, BLOCK);
    finish::program(&store, &ends, slots.as_slice())
}

/// `weights` are their slot and the bytes of a block; `channels` the slots of what has four bytes for each channel.
#[allow(clippy::too_many_arguments)]
fn push(
    p: &mut Planner<'_>,
    step: &Step,
    mut low: Lowering,
    geometry: &Geometry,
    kernel: KernelId,
    program: Program,
    weights: (usize, usize),
    channels: &[usize],
) {
    let program_slot = low.slots.add(Slot::Constant(p.constants.push(&program.words())));
    let (row, pixel) = (low.input.stride(1), low.input.stride(2));
    let [dilation_y, dilation_x] = geometry.dilations.map(|d| d as i64);
    // All channels count as one group of outputs, and the input moves along with them.
    low.shape.outputs = low.shape.groups;
    low.shape.groups = 1;
    let unit = low.input.form.half_bytes() as i64 / 2;
    let (slot, block) = weights;
    let mut cursors = vec![
        ConvCursor { block: BLOCK as i64 * unit, ..low.input_cursor },
        ConvCursor { slot, origin: 0, group: 0, block: block as i64, row: 0, pixel: 0 },
    ];
    cursors.extend(channels.iter().map(|&slot| low.channel_cursor(slot, 4, BLOCK)));
    let loops = ConvLoops {
        groups: 1,
        outputs: low.shape.outputs,
        channels_per_vector: BLOCK,
        width: low.width,
        pixels: low.width.max(1),
        vectors: 1,
    };
    let (height, macs) = (low.height, low.macs);
    let (slots, store) = low.store(&mut cursors, BLOCK);
    let code = RowCode {
        symbol: if kernel == KernelId::Depthwise512 { DEPTHWISE_512 } else { DEPTHWISE_FLOAT_512 },
        loops,
        cursors,
        kernel: geometry.kernel,
        row_bytes: dilation_y * row,
        column_bytes: dilation_x * pixel,
        stride: if dilation_x == 1 { geometry.strides[1] } else { 0 },
        store,
        program_slot,
    };
    p.push(&step.name, slots, height, code).with_kernel(kernel, macs);
}
