//! Convolutions by multiply and add: codes of up to 8 bits, or f32.
//!
//! A step of the inner loop broadcasts four codes (two where they are widened to 16 bits, or one float) of each pixel of the tile and
//! multiplies them with the weight vectors. Accumulators stay in registers from the first step to the last.

use super::conv::{
    self, ConvCursor, ConvLoops, ConvStore, Lowering, Reduction, Scaling, Tile, channel_vectors, scale_pixels,
};
use super::tile_sizes::Tiles;
use super::weights::PreparedWeights;
use crate::emit::emitter::Emitter;
use crate::emit::target::fuses;
use crate::error::JitError;
use crate::plan::forms::conv_shape;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::{Architecture, Choice, FloatWeights, KernelId, Tier, dot};
use catc_program::{Geometry, Op, Step};
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I16X8, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Steps emitted without a loop, and steps of one turn of a loop.
const UNROLL: usize = 12;
const TURN: usize = 8;

/// Steps whose activations AArch64 loads together.
const FOUR: usize = 4;

/// Bytes that steps of two codes load together. Some are not theirs where fewer steps lie together: behind every array there is room.
const SHARED_BYTES: i64 = 16;

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers and 4 constants (not for floats), then output and operands.
#[derive(Debug)]
struct DotCode {
    kernel: KernelId,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    operands: Operands,
    /// Steps of one list: for 16-bit accumulators no more than they take.
    chunk: usize,
    store: ConvStore,
}

/// What the values of the operands allow.
#[derive(Clone, Copy, Debug, Default)]
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
        let vector_bytes = self.kernel.info().vector_bytes as i64;
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
                // Those of all pixels together.
                let sums = (0..tile.pixels).map(|pixel| sums[pixel * tile.vectors + vector]).collect();
                match self.kernel {
                    KernelId::FloatDot => sums,
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
        let row = match self.kernel {
            KernelId::FloatDot => channel_vectors(e, pointers[2], 0, count),
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
            // The smaller side waits in registers, the other streams by.
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
        let at = at + (vector * self.kernel.info().vector_bytes) as i64;
        let kind = match self.kernel {
            KernelId::FloatDot => F32X4,
            KernelId::DotMadd16 => I16X8,
            _ => I8X16,
        };
        e.load(kind, weights, at)
    }

    /// The activations of a step in every channel's lanes. AArch64 cannot broadcast from memory at a displacement: where `lane` says so,
    /// the step takes its part of a vector that four steps share. So do steps of two codes, which a shuffle widens.
    fn broadcast(
        &self,
        e: &mut Emitter<'_>,
        input: Value,
        at: i64,
        (pixel, lane): (usize, Option<usize>),
        load: &mut Shared,
    ) -> Value {
        let at = at + pixel as i64 * self.cursors[0].pixel;
        if self.kernel == KernelId::DotMadd16 {
            let (start, vector) = match *load {
                // Both codes of the step lie in it.
                Some((start, vector)) if (start..start + SHARED_BYTES - 1).contains(&at) => (start, vector),
                _ => (at, e.load(I8X16, input, at)),
            };
            *load = Some((start, vector));
            return e.widened_pair(vector, (at - start) as usize);
        }
        let Some(lane) = lane else {
            let word = e.load(F32, input, at);
            let words = e.b.ins().splat(F32X4, word);
            if self.kernel == KernelId::FloatDot {
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
        if self.kernel == KernelId::FloatDot { e.cast(F32X4, words) } else { words }
    }

    /// Codes of 8 bits less 128, for the kernel of signed bytes.
    fn centre(&self, e: &mut Emitter<'_>, codes: Value) -> Value {
        if self.kernel != KernelId::DotSigned || self.operands.small {
            return codes;
        }
        let half = e.bytes(0x80);
        e.b.ins().bxor(codes, half)
    }

    fn step(&self, e: &mut Emitter<'_>, sum: &mut Value, short: &mut Option<Value>, codes: Value, weights: Value) {
        match self.kernel {
            KernelId::FloatDot => *sum = e.multiply_add(*sum, codes, weights),
            KernelId::DotVnni | KernelId::DotUsdot => *sum = e.dot(*sum, codes, weights),
            KernelId::DotSigned if self.operands.pairs_fit => *sum = e.dot_signed_pairs(*sum, codes, weights),
            KernelId::DotSigned => *sum = e.dot_signed(*sum, codes, weights),
            KernelId::DotMadd16 => {
                // The first operand is overwritten: weights are not needed again, or are fewer to copy.
                let products = e.multiply_add_shorts(weights, codes);
                *sum = e.b.ins().iadd(*sum, products);
            }
            _ => {
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

/// For each step its place among four whose activations lie together, `None` for what is left between such groups.
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

/// Lowers a convolution of codes.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, choice: Choice) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let kernel = choice.kernel;
    let weights = PreparedWeights::of(p.program, step, p.kernels)?;
    let view = weights.view().map_err(failed)?;
    let scaling = Scaling::of(p, step, view.shape().total_outputs(), choice.largest_result)?;
    let mut low = conv::lower(p, step, geometry, *view.shape(), kernel, scaling.bound)?;
    let info = kernel.info();
    let small = low.input.codes.is_some_and(|codes| codes.levels < 128);
    // Activations are -128 to 127: only two products of 128 * 128 go beyond 16 bits.
    let operands = Operands { small, pairs_fit: kernel == KernelId::DotSigned && view.largest_absolute() < 128 };
    let (pixels, vectors) = tile(&low, kernel, p.kernels.tier, operands);
    let layout = low.layout(info.channels_per_vector, info.units_per_step, vectors);
    // Signed codes are less by 128, and so is what stands for 0.
    let shift = if kernel == KernelId::DotSigned && !small { 128 } else { 0 };
    let Op::Conv { weights: constant, .. } = step.op else {
        return Err(JitError::invalid(&step.name, "not a convolution of codes"));
    };
    let zero = i32::from(low.input.zero()) - shift;
    let [weights, start] = p.packed(constant, (kernel, &layout, zero), |constants| {
        let packed = dot::pack(&view, &layout, zero).map_err(failed)?;
        let bytes = match kernel {
            KernelId::DotMadd16 => constants.push(&packed.widened()),
            _ => constants.push(&packed.bytes),
        };
        Ok([bytes, constants.push(&packed.constants)])
    })?;
    let constants = &mut p.constants;
    let bias = constants.push(&scaling.bias);
    let [weight_slot, bias_slot] = [weights, bias].map(|at| low.slots.add(Slot::Constant(at)));
    let mut add = |at: usize| low.slots.add(Slot::Constant(at));
    let multiplier_slot = add(constants.push(&scaling.multiplier));
    let constant_slot = add(start);
    let block = vectors * info.channels_per_vector;
    let cursors = vec![
        low.input_cursor,
        low.weight_cursor(weight_slot, &layout, info.vector_bytes),
        low.channel_cursor(bias_slot, 4, block),
        low.channel_cursor(multiplier_slot, 4, block),
        low.channel_cursor(constant_slot, 4, block),
    ];
    let chunk = if kernel == KernelId::DotMaddubs { choice.steps_per_drain.min(24) } else { turn(p.kernels.tier) };
    push(p, step, low, kernel, operands, (pixels, vectors), cursors, chunk);
    Ok(())
}

/// Lowers a convolution of floats.
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
    let mut low = conv::lower(p, step, geometry, shape, kernel, None)?;
    let operands = Operands::default();
    let (pixels, vectors) = tile(&low, kernel, p.kernels.tier, operands);
    let layout = low.layout(dot::CHANNELS, 1, vectors);
    let packed = dot::pack_float(&view, &layout).map_err(failed)?;
    let bias = p.channel_floats(&step.name, *bias, shape.total_outputs())?;
    let weight_slot = low.slots.add(Slot::Constant(p.constants.push(&packed)));
    let bias_slot = low.slots.add(Slot::Constant(p.constants.push(&bias)));
    let cursors = vec![
        low.input_cursor,
        low.weight_cursor(weight_slot, &layout, 16),
        low.channel_cursor(bias_slot, 4, vectors * dot::CHANNELS),
    ];
    let chunk = turn(p.kernels.tier);
    push(p, step, low, kernel, operands, (pixels, vectors), cursors, chunk);
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn push(
    p: &mut Planner<'_>,
    step: &Step,
    low: Lowering,
    kernel: KernelId,
    operands: Operands,
    (pixels, vectors): (usize, usize),
    mut cursors: Vec<ConvCursor>,
    chunk: usize,
) {
    let channels_per_vector = kernel.info().channels_per_vector;
    let loops = ConvLoops {
        groups: low.shape.groups,
        outputs: low.shape.outputs,
        channels_per_vector,
        width: low.width,
        pixels,
        vectors,
    };
    let (height, macs, reduction) = (low.height, low.macs, low.reduction);
    let (slots, store) = low.store(&mut cursors, vectors * channels_per_vector);
    let code = DotCode { kernel, loops, cursors, reduction, operands, chunk, store };
    p.push(&step.name, slots, height, code).with_kernel(kernel, macs);
}

/// Steps of one turn of a loop, whole fours where these are loaded together.
fn turn(tier: Tier) -> usize {
    if tier.architecture() == Architecture::Aarch64 { 3 * FOUR } else { TURN }
}

/// Pixels and vectors of a tile: the cheapest within the vector registers.
fn tile(low: &Lowering, kernel: KernelId, tier: Tier, operands: Operands) -> (usize, usize) {
    if tier.architecture() == Architecture::Aarch64 {
        return arm_tile(low, kernel, tier, operands);
    }
    let vectors = low.shape.outputs.div_ceil(kernel.info().channels_per_vector);
    // Cycles of one cell's step, the latency of its accumulator, and registers beside accumulators and the waiting side.
    let (cycles, latency, spare) = match kernel {
        KernelId::DotVnni => (0.5, 5.0, 1),
        KernelId::DotMaddubs => (0.7, 1.0, 2),
        KernelId::DotMadd16 => (0.67, 1.0, 3),
        _ if fuses(tier) => (0.5, 4.0, 1),
        _ => (1.0, 3.0, 2),
    };
    // Codes of a pixel take a shuffle to be widened.
    let pixel = if kernel == KernelId::DotMadd16 { 0.37 } else { 0.0 };
    let steps = low.reduction.total() as f64;
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        let stores = (v / 4.0).ceil();
        steps * ((cycles * v + pixel) * p).max(latency).max((p + v) * 0.4) + p * (2.5 * v + 4.0 * stores) + 20.0
    };
    let allowed = |p: usize, v: usize| {
        let waiting = if p == 1 && kernel == KernelId::DotVnni { 0 } else { p.min(v) };
        p * v + waiting + spare <= 16
    };
    Tiles { width: low.width, vectors, exists: &allowed, cost: &tile_cost }.cheapest()
}

/// The same on AArch64, by a count of instructions: its CPUs differ, and what they have in common are two to four instructions a cycle.
fn arm_tile(low: &Lowering, kernel: KernelId, tier: Tier, operands: Operands) -> (usize, usize) {
    let vectors = low.shape.outputs.div_ceil(kernel.info().channels_per_vector);
    // Instructions of one cell's step, registers they need, and what 8-bit codes take more.
    let (cell, temporary, centred) = match kernel {
        KernelId::FloatDot | KernelId::DotUsdot => (1.0, 0, false),
        KernelId::DotSigned if tier.includes(Tier::Aarch64Dotprod) => (1.0, 0, !operands.small),
        KernelId::DotSigned => (if operands.pairs_fit { 5.0 } else { 6.0 }, 2, !operands.small),
        _ => (4.0, 2, false),
    };
    // A load serves four steps. Floats are multiplied by a lane of it, bytes by a copy of the lane.
    let (copies, copy) = if kernel == KernelId::FloatDot { (0.0, 0) } else { (1.0, 1) };
    let broadcast = 0.25 + copies + if centred { 0.25 } else { 0.0 };
    let steps = low.reduction.total() as f64;
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        let stores = (v / 4.0).ceil();
        // Accumulators must be as many as their latency takes.
        let cells = (cell * p * v).max(8.0);
        steps * (cells + broadcast * p + v) + p * (5.0 * v + 4.0 * stores) + 20.0
    };
    let allowed = |p: usize, v: usize| {
        let waiting = if v <= p { v + copy } else { p * copy + 1 };
        p * v + p + waiting + temporary + usize::from(centred) <= 31
    };
    Tiles { width: low.width, vectors, exists: &allowed, cost: &tile_cost }.cheapest()
}
