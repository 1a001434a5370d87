//! Depthwise convolutions: vector lanes are channels, the sum runs over taps alone.

use super::layer::{Layer, Scaling};
use super::loops::{ConvCursor, ConvLoops, Tile};
use super::plan::ConvPlan;
use super::store::{ConvStore, scale_sums};
use crate::builder::Builder;
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::{LaneAccess, LaneStep, Slot, StorageFormat};
use catc_kernels::FloatWeights;
use catc_kernels::depthwise::{DepthwiseProduct, packing};
use cranelift_codegen::ir::types::{F32X4, I8X16, I16X8, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Pixels done together, which share the loads of weights.
const PIXELS: usize = 2;

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers and 4 constants (not for floats), then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DepthwiseCode {
    product: DepthwiseProduct,
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
        let sums = match self.product {
            DepthwiseProduct::Bytes => Some(self.shorts(e, at, count, pointers)),
            DepthwiseProduct::Shorts => Some(self.ints(e, at, count, pointers)),
            DepthwiseProduct::Floats => None,
        };
        let values = if let Some(sums) = sums {
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
        } else {
            vec![self.float(e, at, count, pointers)]
        };
        self.store.emit(e, pointers, pixel, 0, count, values);
    }

    fn codes(&self, e: &mut Emitter<'_>, at: i64, count: usize, pointers: &[Value]) -> Value {
        let bytes = LaneAccess { format: StorageFormat::Byte, step: LaneStep::Unit };
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

/// Lowers a depthwise convolution.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>, product: DepthwiseProduct) -> Result<(), JitError> {
    if product == DepthwiseProduct::Floats {
        return lower_floats(p, layer);
    }
    let view = layer.view()?;
    let scaling = Scaling::of(p, &layer)?;
    let mut plan = layer.plan(p, scaling.bound)?;
    let zero = i32::from(plan.input.zero());
    let [weights, start] = p.packed(layer.packing(&plan, None), |constants| {
        let failed = |source| layer.failed(source);
        let (weights, start) = match product {
            DepthwiseProduct::Bytes => {
                let packed = packing::pack::<i8>(&view, zero).map_err(failed)?;
                (constants.push(&packed.pairs), packed.constants)
            }
            DepthwiseProduct::Shorts | DepthwiseProduct::Floats => {
                let packed = packing::pack::<i16>(&view, zero).map_err(failed)?;
                (constants.push(&packed.pairs), packed.constants)
            }
        };
        Ok([weights, constants.push(&start)])
    })?;
    let mut add = |at: usize| plan.slots.add(Slot::Constant(at));
    let weight_slot = add(weights);
    let bias_slot = add(p.constants.push(&scaling.bias));
    let multiplier_slot = add(p.constants.push(&scaling.multiplier));
    let constant_slot = add(start);
    push(p, &layer, plan, product, weight_slot, &[bias_slot, multiplier_slot, constant_slot]);
    Ok(())
}

fn lower_floats(p: &mut Builder<'_>, layer: Layer<'_>) -> Result<(), JitError> {
    let (values, bias) = layer.floats(p)?;
    let view = FloatWeights::new(layer.shape, &values).map_err(|source| layer.failed(source))?;
    let mut plan = layer.plan(p, None)?;
    let packed = packing::pack_float(&view).map_err(|source| layer.failed(source))?;
    let weight_slot = plan.slots.add(Slot::Constant(p.constants.push(&packed)));
    let bias_slot = plan.slots.add(Slot::Constant(p.constants.push(&bias)));
    push(p, &layer, plan, DepthwiseProduct::Floats, weight_slot, &[bias_slot]);
    Ok(())
}

/// `params` are the slots of what has four bytes for each channel.
fn push(
    p: &mut Builder<'_>,
    layer: &Layer<'_>,
    plan: ConvPlan,
    product: DepthwiseProduct,
    weight_slot: usize,
    params: &[usize],
) {
    let Layer { step, geometry, .. } = *layer;
    let info = layer.kernel().kernel().info();
    let block = info.channels_per_vector;
    let (row, pixel) = (plan.input.stride(1), plan.input.stride(2));
    let [dilation_y, dilation_x] = geometry.dilations.map(|d| d as i64);
    let taps: Vec<i64> = (0..geometry.kernel[0] as i64)
        .flat_map(|ky| (0..geometry.kernel[1] as i64).map(move |kx| ky * dilation_y * row + kx * dilation_x * pixel))
        .collect();
    // A vector holds the weights of two taps of codes, or of one of floats.
    let vectors = if product == DepthwiseProduct::Floats { taps.len() } else { taps.len().div_ceil(2) };
    let plan = plan.with_channels_as_outputs();
    let unit = plan.input.format.half_bytes() as i64 / 2;
    let block_bytes = (vectors * info.vector_bytes) as i64;
    let mut cursors = vec![
        ConvCursor { block: block as i64 * unit, ..plan.input_cursor },
        ConvCursor { slot: weight_slot, origin: 0, group: 0, block: block_bytes, unit: 0, pixel: 0 },
    ];
    cursors.extend(params.iter().map(|&slot| plan.channel_cursor(slot, 4, block)));
    let loops = ConvLoops {
        groups: 1,
        outputs: plan.shape.outputs,
        channels_per_vector: block,
        pixels: plan.pixels,
        tile_pixels: PIXELS.min(plan.width.max(1)),
        vectors: 1,
    };
    let (height, macs) = (plan.height, plan.macs);
    let (slots, store) = plan.store(&mut cursors, block);
    let code = DepthwiseCode { product, loops, cursors, taps, store };
    p.push(&step.name, slots, height, code).with_kernel(layer.choice, macs, None);
}
