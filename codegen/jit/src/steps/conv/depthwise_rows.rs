//! Depthwise convolutions by precompiled rows: a call does the output pixels of a row for up to 64 channels, epilogue included.

use super::epilogue::{self, EpilogueCall};
use super::layer::{Layer, Scaling};
use super::loops::{ConvCursor, ConvLoops};
use super::plan::ConvPlan;
use super::store::ConvStore;
use crate::builder::Builder;
use crate::builder::constants::Constants;
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::Slot;
use catc_kernels::depthwise::{BLOCK, DepthwiseRow, PairWeights, RowOperands, packing};
use catc_kernels::{Contract, FloatWeights, Function, PackError, QuantizedWeights};
use std::mem::{offset_of, size_of};

/// Cursors: 0 input, 1 weights, 2 initial sums, of codes 3 biases and 4 multipliers, then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DepthwiseRowCode {
    function: &'static Function,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    kernel: [usize; 2],
    row_bytes: i64,
    column_bytes: i64,
    /// Columns from pixel to pixel where they are shared, else 0.
    stride: usize,
    store: ConvStore,
    /// Whether there are biases and multipliers.
    scaled: bool,
    program_slot: usize,
}

impl StepCode for DepthwiseRowCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        let call = e.prepare(self.function, size_of::<DepthwiseRow>());
        let epilogue = EpilogueCall { call: &call, at: offset_of!(DepthwiseRow, epilogue) };
        epilogue.fix(e, self.program_slot, &self.cursors[self.store.first_cursor..]);
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
            // Without a multiplier sums are taken as they are.
            let (bias, multiplier) = if self.scaled { (pointers[3], pointers[4]) } else { (e.int(0), e.int(0)) };
            epilogue.block(e, multiplier, bias, tile.channels);
            epilogue.places(e, &pointers[self.store.first_cursor..]);
            e.call(&call);
        });
    }
}

/// Lowers a depthwise convolution of codes or floats.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>, row: &'static Function) -> Result<(), JitError> {
    let [height, width] = layer.geometry.kernel;
    let Contract::DepthwiseRow(operands) = *row.contract() else {
        return Err(JitError::invalid(&layer.step.name, "its kernel computes no rows"));
    };
    let block = operands.weight_bytes(BLOCK, height, width);
    let failed = |source| layer.failed(source);
    let pack: PackCodes = match operands {
        RowOperands::Columns => &|view, zero, constants| {
            let packed = packing::pack_columns(view, zero)?;
            Ok([constants.push(&packed.pairs), constants.push(&packed.constants)])
        },
        RowOperands::Pairs(format @ PairWeights::Bytes) => &move |view, zero, constants| {
            let packed = packing::pack_pairs::<i8>(view, zero, format)?;
            Ok([constants.push(&packed.pairs), constants.push(&packed.constants)])
        },
        RowOperands::Pairs(format @ PairWeights::Shorts) => &move |view, zero, constants| {
            let packed = packing::pack_pairs::<i16>(view, zero, format)?;
            Ok([constants.push(&packed.pairs), constants.push(&packed.constants)])
        },
        RowOperands::Floats { lanes } => {
            let (values, bias) = layer.floats(p)?;
            let view = FloatWeights::new(layer.shape, &values).map_err(failed)?;
            let plan = layer.plan(p, None)?;
            let packed = packing::pack_wide_float(&view, lanes).map_err(failed)?;
            let weights = p.constants.push(&packed);
            let channels = [p.constants.push(&bias)];
            return push(p, &layer, plan, row, (weights, block), &channels);
        }
    };
    let view = layer.view()?;
    let scaling = Scaling::of(p, &layer)?;
    let plan = layer.plan(p, scaling.bound)?;
    let zero = i32::from(plan.input.zero());
    let [weights, start] =
        p.packed(layer.packing(&plan, None), |constants| pack(&view, zero, constants).map_err(failed))?;
    let channels = [start, p.constants.push(&scaling.bias), p.constants.push(&scaling.multiplier)];
    push(p, &layer, plan, row, (weights, block), &channels)
}

/// Packs the codes of a layer whose activations have that zero-point: the places of the weights and of the initial sums.
type PackCodes<'a> = &'a dyn Fn(&QuantizedWeights<'_>, i32, &mut Constants) -> Result<[usize; 2], PackError>;

/// `weights` are their place and the bytes of a block; `channels` the places of what has four bytes for each channel: initial sums, then, of
/// codes, biases and multipliers.
fn push(
    p: &mut Builder<'_>,
    layer: &Layer<'_>,
    plan: ConvPlan,
    function: &'static Function,
    (weights, block_bytes): (usize, usize),
    channels: &[usize],
) -> Result<(), JitError> {
    let Layer { step, geometry, .. } = *layer;
    let (row, pixel) = (plan.input.stride(1), plan.input.stride(2));
    let [dilation_y, dilation_x] = geometry.dilations.map(|d| d as i64);
    let mut plan = plan.with_channels_as_outputs();
    let program = epilogue::program_of(&plan, BLOCK, &step.name)?;
    let mut add = |at: usize| plan.slots.add(Slot::Constant(at));
    let slot = add(weights);
    let channels: Vec<usize> = channels.iter().map(|&at| add(at)).collect();
    let program_slot = add(p.constants.push(&program.words()));
    let unit = plan.input.format.half_bytes() as i64 / 2;
    let mut cursors = vec![
        ConvCursor { block: BLOCK as i64 * unit, ..plan.input_cursor },
        ConvCursor { slot, origin: 0, group: 0, block: block_bytes as i64, unit: 0, pixel: 0 },
    ];
    cursors.extend(channels.iter().map(|&slot| plan.channel_cursor(slot, 4, BLOCK)));
    let loops = ConvLoops {
        groups: 1,
        outputs: plan.shape.outputs,
        channels_per_vector: BLOCK,
        pixels: plan.pixels,
        tile_pixels: plan.width.max(1),
        vectors: 1,
    };
    let (height, macs) = (plan.height, plan.macs);
    let (slots, store) = plan.store(&mut cursors, BLOCK);
    let code = DepthwiseRowCode {
        function,
        loops,
        cursors,
        kernel: geometry.kernel,
        row_bytes: dilation_y * row,
        column_bytes: dilation_x * pixel,
        stride: if dilation_x == 1 { geometry.strides[1] } else { 0 },
        store,
        scaled: channels.len() > 1,
        program_slot,
    };
    p.push(&step.name, slots, height, code).with_kernel(layer.choice, macs, None);
    Ok(())
}
