//! Depthwise convolutions: vector lanes are channels, the sum runs over taps alone.

use super::conv::{self, ConvCursor, ConvLoops, ConvStore, Lowering, Scaling, Tile, scale_sums};
use super::depthwise_wide;
use super::weights::PreparedWeights;
use crate::buffer::Form;
use crate::emit::emitter::Emitter;
use crate::emit::lanes::{LaneAccess, LaneStep};
use crate::error::JitError;
use crate::plan::forms::conv_shape;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::{Choice, FloatWeights, KernelId, depthwise};
use catc_program::{Geometry, Op, Step};
use cranelift_codegen::ir::types::{F32X4, I8X16, I16X8, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Pixels done together, which share the loads of weights.
const PIXELS: usize = 2;

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers and 4 constants (not for floats), then output and operands.
#[derive(Debug)]
struct DepthwiseCode {
    kernel: KernelId,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    /// Displacement of each tap.
    taps: Vec<i64>,
    store: ConvStore,
}

impl StepCode for DepthwiseCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| {
            for pixel in 0..tile.pixels {
                self.pixel(e, tile, pixel, pointers);
            }
        });
    }
}

impl DepthwiseCode {
    fn pixel(&self, e: &mut Emitter<'_>, tile: Tile, pixel: usize, pointers: &[Value]) {
        let at = pixel as i64 * self.cursors[0].pixel;
        let count = tile.channels;
        let values = if self.kernel == KernelId::DepthwiseFloat {
            vec![self.float(e, at, count, pointers)]
        } else {
            let sums = match self.kernel {
                KernelId::DepthwiseMaddubs => self.shorts(e, at, count, pointers),
                _ => self.ints(e, at, count, pointers),
            };
            let sums = sums
                .into_iter()
                .take(count.div_ceil(4))
                .enumerate()
                .map(|(i, sum)| {
                    let constant = e.load(I32X4, pointers[4], 16 * i as i64);
                    e.b.ins().iadd(sum, constant)
                })
                .collect();
            scale_sums(e, sums, (pointers[3], pointers[2]), 0, count)
        };
        self.store.emit(e, pointers, pixel, 0, count, values);
    }

    fn codes(&self, e: &mut Emitter<'_>, at: i64, count: usize, pointers: &[Value]) -> Value {
        let bytes = LaneAccess { form: Form::Byte, step: LaneStep::Unit };
        // Reading past the last channels does no harm: their lanes are not stored.
        let whole = if count > 8 { 16 } else { count.next_power_of_two().max(4) };
        e.load_bytes(bytes, pointers[0], at, whole)
    }

    /// The codes of two neighbouring taps, interleaved; those of a missing second one are 0.
    fn pair(&self, e: &mut Emitter<'_>, pair: usize, at: i64, count: usize, pointers: &[Value]) -> (Value, Value) {
        let first = self.codes(e, at + self.taps[2 * pair], count, pointers);
        let second = match self.taps.get(2 * pair + 1) {
            Some(tap) => self.codes(e, at + tap, count, pointers),
            None => e.bytes(0),
        };
        e.interleave_bytes(first, second)
    }

    /// Sums in 16 bits, widened at the end.
    fn shorts(&self, e: &mut Emitter<'_>, at: i64, count: usize, pointers: &[Value]) -> Vec<Value> {
        let halves = count.div_ceil(8);
        let mut sums: Vec<Option<Value>> = vec![None; halves];
        for pair in 0..self.taps.len().div_ceil(2) {
            let (low, high) = self.pair(e, pair, at, count, pointers);
            for (half, sum) in sums.iter_mut().enumerate() {
                let weights = e.load(I8X16, pointers[1], (32 * pair + 16 * half) as i64);
                let products = e.multiply_add_bytes(if half == 0 { low } else { high }, weights);
                *sum = Some(match *sum {
                    None => products,
                    Some(before) => e.b.ins().iadd(before, products),
                });
            }
        }
        sums.into_iter().flatten().flat_map(|sum| [e.b.ins().swiden_low(sum), e.b.ins().swiden_high(sum)]).collect()
    }

    /// Sums in 32 bits throughout.
    fn ints(&self, e: &mut Emitter<'_>, at: i64, count: usize, pointers: &[Value]) -> Vec<Value> {
        let quarters = count.div_ceil(4);
        let mut sums: Vec<Option<Value>> = vec![None; quarters];
        for pair in 0..self.taps.len().div_ceil(2) {
            let (low, high) = self.pair(e, pair, at, count, pointers);
            for (quarter, sum) in sums.iter_mut().enumerate() {
                let bytes = if quarter < 2 { low } else { high };
                let codes = if quarter % 2 == 0 { e.b.ins().uwiden_low(bytes) } else { e.b.ins().uwiden_high(bytes) };
                let weights = e.load(I16X8, pointers[1], (64 * pair + 16 * quarter) as i64);
                let products = e.multiply_add_shorts(codes, weights);
                *sum = Some(match *sum {
                    None => products,
                    Some(before) => e.b.ins().iadd(before, products),
                });
            }
        }
        sums.into_iter().flatten().collect()
    }

    fn float(&self, e: &mut Emitter<'_>, at: i64, count: usize, pointers: &[Value]) -> Value {
        let mut sum = e.load(F32X4, pointers[2], 0);
        for (number, tap) in self.taps.iter().enumerate() {
            let values = e.load_words(F32X4, LaneStep::Unit, pointers[0], at + tap, count)[0];
            let weights = e.load(F32X4, pointers[1], 16 * number as i64);
            sum = e.multiply_add(sum, values, weights);
        }
        sum
    }
}

/// Lowers a depthwise convolution of codes.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, choice: Choice) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let mut kernel = choice.kernel;
    let weights = PreparedWeights::of(p.program, step, p.kernels)?;
    let view = weights.view().map_err(failed)?;
    let scaling = Scaling::of(p, step, view.shape().groups, choice.largest_result)?;
    let mut low = conv::lower(p, step, geometry, *view.shape(), kernel, scaling.bound)?;
    let zero = i32::from(low.input.zero());
    if kernel == KernelId::Depthwise512 {
        match depthwise_wide::lower(p, step, low, geometry, &view, &scaling)? {
            None => return Ok(()),
            // The epilogue is not one that its kernel knows: the emitted one does without.
            Some(back) => (low, kernel) = (back, KernelId::DepthwiseMadd16),
        }
    }
    let (weight_at, constants) = if kernel == KernelId::DepthwiseMaddubs {
        let packed = depthwise::pack::<i8>(&view, zero).map_err(failed)?;
        (p.constants.push(&packed.pairs), packed.constants)
    } else {
        let packed = depthwise::pack::<i16>(&view, zero).map_err(failed)?;
        (p.constants.push(&packed.pairs), packed.constants)
    };
    let mut add = |at: usize| low.slots.add(Slot::Constant(at));
    let weight_slot = add(weight_at);
    let bias_slot = add(p.constants.push(&scaling.bias));
    let multiplier_slot = add(p.constants.push(&scaling.multiplier));
    let constant_slot = add(p.constants.push(&constants));
    let pair_bytes = kernel.info().vector_bytes;
    let params = [bias_slot, multiplier_slot, constant_slot];
    push(p, step, low, geometry, kernel, weight_slot, pair_bytes.div_ceil(2), &params);
    Ok(())
}

/// Lowers a depthwise convolution of floats.
pub(crate) fn lower_float(
    p: &mut Planner<'_>,
    step: &Step,
    geometry: &Geometry,
    kernel: KernelId,
) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let Op::FloatConv { groups, weights, bias, .. } = &step.op else {
        return Err(JitError::invalid(&step.name, "not a convolution of floats"));
    };
    let shape = conv_shape(&step.name, p.program.constant(*weights), geometry, *groups)?;
    let values = p.floats(&step.name, *weights)?;
    let view = FloatWeights::new(shape, &values).map_err(failed)?;
    let mut low = conv::lower(p, step, geometry, shape, KernelId::DepthwiseFloat, None)?;
    let bias = p.channel_floats(&step.name, *bias, shape.groups)?;
    if kernel == KernelId::DepthwiseFloat512 {
        match depthwise_wide::lower_float(p, step, low, geometry, &view, &bias)? {
            None => return Ok(()),
            Some(back) => low = back,
        }
    }
    let packed = depthwise::pack_float(&view).map_err(failed)?;
    let weight_slot = low.slots.add(Slot::Constant(p.constants.push(&packed)));
    let bias_slot = low.slots.add(Slot::Constant(p.constants.push(&bias)));
    push(p, step, low, geometry, KernelId::DepthwiseFloat, weight_slot, 16, &[bias_slot]);
    Ok(())
}

/// `tap_bytes` is what one tap's weights of a block take.
#[allow(clippy::too_many_arguments)]
fn push(
    p: &mut Planner<'_>,
    step: &Step,
    mut low: Lowering,
    geometry: &Geometry,
    kernel: KernelId,
    weight_slot: usize,
    tap_bytes: usize,
    params: &[usize],
) {
    let block = kernel.info().channels_per_vector;
    let (row, pixel) = (low.input.stride(1), low.input.stride(2));
    let [dilation_y, dilation_x] = geometry.dilations.map(|d| d as i64);
    let taps: Vec<i64> = (0..geometry.kernel[0] as i64)
        .flat_map(|ky| (0..geometry.kernel[1] as i64).map(move |kx| ky * dilation_y * row + kx * dilation_x * pixel))
        .collect();
    let paired = if kernel == KernelId::DepthwiseFloat { taps.len() } else { taps.len().next_multiple_of(2) };
    // All channels count as one group of outputs, and the input moves along with them.
    low.shape.outputs = low.shape.groups;
    low.shape.groups = 1;
    let unit = low.input.form.half_bytes() as i64 / 2;
    let mut cursors = vec![
        ConvCursor { block: block as i64 * unit, ..low.input_cursor },
        ConvCursor { slot: weight_slot, origin: 0, group: 0, block: (paired * tap_bytes) as i64, row: 0, pixel: 0 },
    ];
    cursors.extend(params.iter().map(|&slot| low.channel_cursor(slot, 4, block)));
    let loops = ConvLoops {
        groups: 1,
        outputs: low.shape.outputs,
        channels_per_vector: block,
        width: low.width,
        pixels: PIXELS.min(low.width.max(1)),
        vectors: 1,
    };
    let (height, macs) = (low.height, low.macs);
    let (slots, store) = low.store(&mut cursors, block);
    let code = DepthwiseCode { kernel, loops, cursors, taps, store };
    p.push(&step.name, slots, height, code).with_kernel(kernel, macs);
}
