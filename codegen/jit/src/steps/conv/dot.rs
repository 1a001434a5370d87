//! Convolutions by multiply and add: codes of up to 8 bits, or f32.
//!
//! A step of the inner loop broadcasts four codes (two where they are widened to 16 bits, or one float) of each pixel of the tile and
//! multiplies them with the weight vectors. Accumulators stay in registers from the first step to the last.

use super::layer::{Layer, Scaling};
use super::loops::{ConvCursor, ConvLoops, Reduction, Tile};
use super::plan::ConvPlan;
use super::store::{ConvStore, channel_vectors, scale_pixels};
use crate::builder::Builder;
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::storage::Slot;
use catc_kernels::dot::{DotProduct, packing};
use catc_kernels::{Architecture, FloatWeights, Tier, TileOverride};
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I16X8, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Steps emitted without a loop, and steps of one turn of a loop.
const UNROLL: usize = 12;
const TURN: usize = 8;

/// The most steps between drains of 16-bit sums.
const MAX_CHUNK: usize = 24;

/// Steps whose activations AArch64 loads together.
const FOUR: usize = 4;

/// Bytes that steps of two codes load together. A load may reach past the last step that shares it; every array has room behind it for that.
const SHARED_BYTES: i64 = 16;

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers and 4 constants (not for floats), then output and operands.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DotCode {
    product: DotProduct,
    /// Bytes of a weight vector.
    vector_bytes: usize,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    operands: Operands,
    /// Steps of one list. For 16-bit accumulators these are no more than can be summed without overflow.
    chunk: usize,
    store: ConvStore,
}

/// What the values of the operands allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Operands {
    /// Whether codes are below 128, so that they are signed bytes too.
    small: bool,
    /// Whether the sum of two products of signed bytes fits 16 bits.
    pairs_fit: bool,
}

/// Activations of a pixel for the steps that share a load, and where they start.
type Shared = Option<(i64, Value)>;

impl StepCode for DotCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        if let Some(halo) = &self.store.halo {
            halo.emit(e, first, last);
        }
        e.conv_loops(&self.loops, &self.cursors, &mut |_, _| {}, &mut |e, tile, pointers| self.tile(e, tile, pointers));
    }
}

impl DotCode {
    fn tile(&self, e: &mut Emitter<'_>, tile: Tile, pointers: &[Value]) {
        let vector_bytes = self.vector_bytes as i64;
        let start = self.start(e, tile, pointers);
        let sums = e.reduce(
            &self.reduction,
            vector_bytes * tile.vectors as i64,
            self.chunk,
            UNROLL,
            (pointers[0], pointers[1]),
            start,
            &mut |e, steps, input, weights, sums| self.accumulate(e, tile, steps, input, weights, sums),
        );
        let columns: Vec<Vec<Value>> = (0..tile.channels.div_ceil(4))
            .map(|vector| {
                // The vectors of all pixels share the loads of multipliers and biases.
                let sums = (0..tile.pixels).map(|pixel| sums[pixel * tile.vectors + vector]).collect();
                match self.product {
                    DotProduct::Floats => sums,
                    _ => scale_pixels(e, sums, (pointers[3], pointers[2]), 4 * vector),
                }
            })
            .collect();
        for pixel in 0..tile.pixels {
            for (group, columns) in columns.chunks(4).enumerate() {
                let count = (tile.channels - 16 * group).min(16);
                let values = columns.iter().map(|column| column[pixel]).collect();
                self.store.emit(e, pointers, pixel, 16 * group, count, values);
            }
        }
        debug_assert!(tile.channels <= tile.vectors * self.loops.channels_per_vector);
    }

    fn constants(&self, e: &mut Emitter<'_>, pointers: &[Value], channel: usize, count: usize) -> Vec<Value> {
        (0..count.div_ceil(4)).map(|i| e.load(I32X4, pointers[4], 4 * (channel + 4 * i) as i64)).collect()
    }

    /// What accumulators start from: the bias in float, the constants in codes.
    fn start(&self, e: &mut Emitter<'_>, tile: Tile, pointers: &[Value]) -> Vec<Value> {
        let count = 4 * tile.vectors;
        let row = match self.product {
            DotProduct::Floats => channel_vectors(e, pointers[2], 0, count),
            _ => self.constants(e, pointers, 0, count),
        };
        row.iter().copied().cycle().take(tile.pixels * tile.vectors).collect()
    }

    fn accumulate(
        &self,
        e: &mut Emitter<'_>,
        tile: Tile,
        steps: &[(i64, i64)],
        input: Value,
        weights: Value,
        mut sums: Vec<Value>,
    ) -> Vec<Value> {
        let mut shorts: Vec<Option<Value>> = vec![None; sums.len()];
        let lanes = if e.is_arm() { fours(steps) } else { vec![None; steps.len()] };
        let mut loads: Vec<Shared> = vec![None; tile.pixels];
        for (&(at, weight_at), lane) in steps.iter().zip(lanes) {
            // Keep the smaller operand in registers; stream the other.
            if tile.vectors <= tile.pixels {
                let vectors: Vec<Value> = (0..tile.vectors).map(|v| self.weight(e, weights, weight_at, v)).collect();
                for (pixel, load) in loads.iter_mut().enumerate() {
                    let codes = self.broadcast(e, input, at, (pixel, lane), load);
                    for (v, &vector) in vectors.iter().enumerate() {
                        let cell = pixel * tile.vectors + v;
                        self.step(e, &mut sums[cell], &mut shorts[cell], codes, vector);
                    }
                }
            } else {
                let pixels = loads.iter_mut().enumerate();
                let pixels: Vec<Value> =
                    pixels.map(|(p, load)| self.broadcast(e, input, at, (p, lane), load)).collect();
                for v in 0..tile.vectors {
                    let vector = self.weight(e, weights, weight_at, v);
                    for (p, &codes) in pixels.iter().enumerate() {
                        let cell = p * tile.vectors + v;
                        self.step(e, &mut sums[cell], &mut shorts[cell], codes, vector);
                    }
                }
            }
        }
        for (sum, short) in sums.iter_mut().zip(shorts) {
            if let Some(short) = short {
                let wide = e.add_neighbours(short);
                *sum = e.b.ins().iadd(*sum, wide);
            }
        }
        sums
    }

    fn weight(&self, e: &mut Emitter<'_>, weights: Value, at: i64, vector: usize) -> Value {
        let at = at + (vector * self.vector_bytes) as i64;
        let kind = match self.product {
            DotProduct::Floats => F32X4,
            DotProduct::WidePairs => I16X8,
            DotProduct::Fours | DotProduct::SignedFours | DotProduct::Pairs => I8X16,
        };
        e.load(kind, weights, at)
    }

    /// The activations of a step in every channel's lanes. AArch64 cannot broadcast from memory at a displacement, so with a `lane` the step
    /// takes that lane of a vector that four steps share. Steps of two codes share a vector too, and a shuffle widens their codes.
    fn broadcast(
        &self,
        e: &mut Emitter<'_>,
        input: Value,
        at: i64,
        (pixel, lane): (usize, Option<usize>),
        load: &mut Shared,
    ) -> Value {
        let at = at + pixel as i64 * self.cursors[0].pixel;
        if self.product == DotProduct::WidePairs {
            let (start, vector) = match *load {
                // The loaded vector holds both codes of the step.
                Some((start, vector)) if (start..start + SHARED_BYTES - 1).contains(&at) => (start, vector),
                _ => (at, e.load(I8X16, input, at)),
            };
            *load = Some((start, vector));
            return e.widened_pair(vector, (at - start) as usize);
        }
        let Some(lane) = lane else {
            let word = e.load(F32, input, at);
            let words = e.b.ins().splat(F32X4, word);
            if self.product == DotProduct::Floats {
                return words;
            }
            let bytes = e.cast(I8X16, words);
            return self.centre(e, bytes);
        };
        let vector = match *load {
            Some((_, vector)) if lane > 0 => vector,
            _ => {
                let vector = e.load(I8X16, input, at);
                self.centre(e, vector)
            }
        };
        *load = Some((at, vector));
        let words = e.broadcast_word(vector, lane);
        if self.product == DotProduct::Floats { e.cast(F32X4, words) } else { words }
    }

    /// Codes of 8 bits less 128, for the kernel of signed bytes.
    fn centre(&self, e: &mut Emitter<'_>, codes: Value) -> Value {
        if self.product != DotProduct::SignedFours || self.operands.small {
            return codes;
        }
        let half = e.bytes(0x80);
        e.b.ins().bxor(codes, half)
    }

    fn step(&self, e: &mut Emitter<'_>, sum: &mut Value, short: &mut Option<Value>, codes: Value, weights: Value) {
        match self.product {
            DotProduct::Floats => *sum = e.multiply_add(*sum, codes, weights),
            DotProduct::Fours => *sum = e.dot(*sum, codes, weights),
            DotProduct::SignedFours if self.operands.pairs_fit => *sum = e.dot_signed_pairs(*sum, codes, weights),
            DotProduct::SignedFours => *sum = e.dot_signed(*sum, codes, weights),
            DotProduct::WidePairs => {
                // The instruction overwrites its first operand. Weights come first: they are not needed again, or fewer to copy.
                let products = e.multiply_add_shorts(weights, codes);
                *sum = e.b.ins().iadd(*sum, products);
            }
            DotProduct::Pairs => {
                let products = match self.operands.small {
                    true => e.multiply_add_small(codes, weights),
                    false => e.multiply_add_bytes(codes, weights),
                };
                *short = Some(match *short {
                    None => products,
                    Some(before) => e.b.ins().iadd(before, products),
                });
            }
        }
    }
}

/// The position of each step in a group of four steps whose activations lie together; `None` for steps in no such group.
fn fours(steps: &[(i64, i64)]) -> Vec<Option<usize>> {
    let mut places = vec![None; steps.len()];
    let mut first = 0;
    while let Some(group) = steps.get(first..first + FOUR) {
        if (1..FOUR).all(|i| group[i].0 == group[0].0 + 4 * i as i64) {
            (0..FOUR).for_each(|i| places[first + i] = Some(i));
            first += FOUR;
        } else {
            first += 1;
        }
    }
    places
}

/// Lowers a convolution.
pub(crate) fn lower(p: &mut Builder<'_>, layer: Layer<'_>, product: DotProduct) -> Result<(), JitError> {
    match product {
        DotProduct::Floats => lower_floats(p, layer),
        DotProduct::Fours | DotProduct::SignedFours | DotProduct::Pairs | DotProduct::WidePairs => {
            lower_codes(p, layer, product)
        }
    }
}

fn lower_codes(p: &mut Builder<'_>, layer: Layer<'_>, product: DotProduct) -> Result<(), JitError> {
    let view = layer.view()?;
    let scaling = Scaling::of(p, &layer)?;
    let mut plan = layer.plan(p, scaling.bound)?;
    let info = layer.kernel().kernel().info();
    let small = plan.input.codes.is_some_and(|codes| codes.levels < 128);
    let signed = product == DotProduct::SignedFours;
    // Activations are -128 to 127, so only the sum of two products of -128 and -128 does not fit 16 bits.
    let operands = Operands { small, pairs_fit: signed && view.largest_absolute() < 128 };
    let (pixels, vectors) = tile(p, &layer, &mut plan, operands);
    let layout = plan.layout(info.channels_per_vector, info.units_per_step, vectors);
    // The kernel of signed bytes takes codes less 128, so the zero-point is less by 128 too.
    let shift = if signed && !small { 128 } else { 0 };
    let zero = i32::from(plan.input.zero()) - shift;
    let [weights, start] = p.packed(layer.packing(&plan, Some(layout)), |constants| {
        let packed = packing::pack(&view, &layout, zero).map_err(|source| layer.failed(source))?;
        let bytes = match product {
            DotProduct::WidePairs => constants.push(&packed.widened()),
            _ => constants.push(&packed.bytes),
        };
        Ok([bytes, constants.push(&packed.constants)])
    })?;
    let constants = &mut p.constants;
    let bias = constants.push(&scaling.bias);
    let [weight_slot, bias_slot] = [weights, bias].map(|at| plan.slots.add(Slot::Constant(at)));
    let mut add = |at: usize| plan.slots.add(Slot::Constant(at));
    let multiplier_slot = add(constants.push(&scaling.multiplier));
    let constant_slot = add(start);
    let block = vectors * info.channels_per_vector;
    let cursors = vec![
        plan.input_cursor,
        plan.weight_cursor(weight_slot, &layout, info.vector_bytes),
        plan.channel_cursor(bias_slot, 4, block),
        plan.channel_cursor(multiplier_slot, 4, block),
        plan.channel_cursor(constant_slot, 4, block),
    ];
    let chunk = match product {
        DotProduct::Pairs => layer.choice.steps_per_drain.min(MAX_CHUNK),
        _ => turn(p.kernels.tier),
    };
    push(p, &layer, plan, (product, operands), (pixels, vectors), cursors, chunk);
    Ok(())
}

fn lower_floats(p: &mut Builder<'_>, layer: Layer<'_>) -> Result<(), JitError> {
    let (values, bias) = layer.floats(p)?;
    let view = FloatWeights::new(layer.shape, &values).map_err(|source| layer.failed(source))?;
    let mut plan = layer.plan(p, None)?;
    let operands = Operands::default();
    let (pixels, vectors) = tile(p, &layer, &mut plan, operands);
    let layout = plan.layout(packing::CHANNELS, 1, vectors);
    let packed = packing::pack_float(&view, &layout).map_err(|source| layer.failed(source))?;
    let weight_slot = plan.slots.add(Slot::Constant(p.constants.push(&packed)));
    let bias_slot = plan.slots.add(Slot::Constant(p.constants.push(&bias)));
    let cursors = vec![
        plan.input_cursor,
        plan.weight_cursor(weight_slot, &layout, 16),
        plan.channel_cursor(bias_slot, 4, vectors * packing::CHANNELS),
    ];
    let chunk = turn(p.kernels.tier);
    push(p, &layer, plan, (DotProduct::Floats, operands), (pixels, vectors), cursors, chunk);
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn push(
    p: &mut Builder<'_>,
    layer: &Layer<'_>,
    plan: ConvPlan,
    (product, operands): (DotProduct, Operands),
    (tile_pixels, vectors): (usize, usize),
    mut cursors: Vec<ConvCursor>,
    chunk: usize,
) {
    let info = layer.kernel().kernel().info();
    let channels_per_vector = info.channels_per_vector;
    let loops = ConvLoops {
        groups: plan.shape.groups,
        outputs: plan.shape.outputs,
        channels_per_vector,
        pixels: plan.pixels,
        tile_pixels,
        vectors,
    };
    let (units, macs, reduction) = (plan.units(), plan.macs, plan.reduction);
    let (slots, store) = plan.store(&mut cursors, vectors * channels_per_vector);
    let vector_bytes = info.vector_bytes;
    let code = DotCode { product, vector_bytes, loops, cursors, reduction, operands, chunk, store };
    p.push(&layer.step.name, slots, units, code).with_kernel(layer.choice, macs, None);
}

/// Steps of one turn of a loop, whole fours where these are loaded together.
fn turn(tier: Tier) -> usize {
    if tier.architecture() == Architecture::Aarch64 { 3 * FOUR } else { TURN }
}

/// Pixels and vectors of a tile: the cheapest within the vector registers.
fn tile(p: &Builder<'_>, layer: &Layer<'_>, plan: &mut ConvPlan, operands: Operands) -> (usize, usize) {
    let rows = plan.tiles(layer.kernel(), p.kernels.tier, [operands.small, operands.pairs_fit]);
    plan.choose_tile(layer.kernel(), rows, TileOverride::Cheapest)
}
