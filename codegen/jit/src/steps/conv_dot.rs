//! Convolutions by multiply and add: codes of up to 8 bits, or f32.
//!
//! A step of the inner loop broadcasts four codes (or one float) of each pixel of the tile and multiplies them with the weight
//! vectors. Accumulators stay in registers from the first step to the last.

use super::conv::{
    self, ConvCursor, ConvLoops, ConvStore, Lowering, Reduction, Scaling, Tile, channel_vectors, cheapest_tile,
    scale_sums,
};
use super::weights::PreparedWeights;
use crate::emit::emitter::{Emitter, flags};
use crate::error::JitError;
use crate::plan::forms::conv_shape;
use crate::plan::planner::Planner;
use crate::plan::{Slot, StepCode};
use catc_kernels::{Choice, FloatWeights, KernelId, dot};
use catc_program::{Geometry, Op, Step};
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Steps emitted without a loop, and steps of one turn of a loop.
const UNROLL: usize = 12;
const TURN: usize = 8;

/// Cursors: 0 input, 1 weights, 2 biases, 3 multipliers and 4 constants (not for floats), then output and operands.
#[derive(Debug)]
struct DotCode {
    kernel: KernelId,
    loops: ConvLoops,
    cursors: Vec<ConvCursor>,
    reduction: Reduction,
    /// Whether codes are below 128, so that they are signed bytes too.
    small: bool,
    /// Steps of one list: for 16-bit accumulators no more than they take.
    chunk: usize,
    store: ConvStore,
}

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
        // Vectors of four channels in each pixel, whatever the kernel's own.
        let per_vector = self.loops.channels_per_vector;
        for pixel in 0..tile.pixels {
            let own = &sums[pixel * tile.vectors..][..tile.vectors];
            let fours: Vec<Value> = if self.kernel == KernelId::DotMadd16 {
                own.chunks(2).map(|pair| e.b.ins().iadd_pairwise(pair[0], pair[pair.len() - 1])).collect()
            } else {
                own.to_vec()
            };
            for (group, fours) in fours.chunks(4).enumerate() {
                let channel = 16 * group;
                let count = (tile.channels - channel).min(16).min(4 * fours.len());
                let values = match self.kernel {
                    KernelId::FloatDot => fours.to_vec(),
                    KernelId::DotMadd16 => {
                        let constants = self.constants(e, pointers, channel, count);
                        let sums = fours.iter().zip(constants).map(|(&s, c)| e.b.ins().iadd(s, c)).collect();
                        scale_sums(e, sums, (pointers[3], pointers[2]), channel, count)
                    }
                    _ => scale_sums(e, fours.to_vec(), (pointers[3], pointers[2]), channel, count),
                };
                self.store.emit(e, pointers, pixel, channel, count, values);
            }
        }
        debug_assert!(tile.channels <= tile.vectors * per_vector);
    }

    fn constants(&self, e: &mut Emitter<'_>, pointers: &[Value], channel: usize, count: usize) -> Vec<Value> {
        (0..count.div_ceil(4)).map(|i| e.load(I32X4, pointers[4], 4 * (channel + 4 * i) as i64)).collect()
    }

    /// What accumulators start from: the bias in float, the constants in codes where a vector is four channels, else 0.
    fn start(&self, e: &mut Emitter<'_>, tile: Tile, pointers: &[Value]) -> Vec<Value> {
        let count = 4 * tile.vectors;
        let row = match self.kernel {
            KernelId::FloatDot => channel_vectors(e, pointers[2], 0, count),
            KernelId::DotMadd16 => vec![e.ints(0); tile.vectors],
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
        for &(at, weight_at) in steps {
            // The smaller side waits in registers, the other streams by.
            if tile.vectors <= tile.pixels {
                let vectors: Vec<Value> = (0..tile.vectors).map(|v| self.weight(e, weights, weight_at, v)).collect();
                for pixel in 0..tile.pixels {
                    let codes = self.broadcast(e, input, at, pixel);
                    for (v, &vector) in vectors.iter().enumerate() {
                        let cell = pixel * tile.vectors + v;
                        self.step(e, &mut sums[cell], &mut shorts[cell], codes, vector);
                    }
                }
            } else {
                let pixels: Vec<Value> = (0..tile.pixels).map(|p| self.broadcast(e, input, at, p)).collect();
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
        match self.kernel {
            KernelId::FloatDot => e.load(F32X4, weights, at),
            KernelId::DotMadd16 => e.load_signed_bytes(weights, at),
            _ => e.load(I8X16, weights, at),
        }
    }

    fn broadcast(&self, e: &mut Emitter<'_>, input: Value, at: i64, pixel: usize) -> Value {
        let word = e.load(F32, input, at + pixel as i64 * self.cursors[0].pixel);
        let words = e.b.ins().splat(F32X4, word);
        match self.kernel {
            KernelId::FloatDot => words,
            KernelId::DotMadd16 => {
                let bytes = e.cast(I8X16, words);
                e.b.ins().uwiden_low(bytes)
            }
            KernelId::DotSigned if !self.small => {
                let bytes = e.cast(I8X16, words);
                let half = e.bytes(0x80);
                e.b.ins().bxor(bytes, half)
            }
            _ => e.cast(I8X16, words),
        }
    }

    fn step(&self, e: &mut Emitter<'_>, sum: &mut Value, short: &mut Option<Value>, codes: Value, weights: Value) {
        match self.kernel {
            KernelId::FloatDot => {
                let product = e.b.ins().fmul(codes, weights);
                *sum = e.b.ins().fadd(*sum, product);
            }
            KernelId::DotVnni | KernelId::DotUsdot => *sum = e.dot(*sum, codes, weights),
            KernelId::DotSigned => *sum = e.dot_signed(*sum, codes, weights),
            KernelId::DotMadd16 => {
                let products = e.multiply_add_shorts(codes, weights);
                *sum = e.b.ins().iadd(*sum, products);
            }
            _ => {
                let products = match self.small {
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

impl Emitter<'_> {
    /// Eight signed bytes as i16x8, in one instruction.
    fn load_signed_bytes(&mut self, pointer: Value, displacement: i64) -> Value {
        let (pointer, displacement) = self.reach(pointer, displacement);
        self.b.ins().sload8x8(flags(), pointer, displacement)
    }
}

/// Lowers a convolution of codes.
pub(crate) fn lower(p: &mut Planner<'_>, step: &Step, geometry: &Geometry, choice: Choice) -> Result<(), JitError> {
    let failed = |source| JitError::Weights { step: step.name.clone(), source };
    let kernel = choice.kernel;
    let weights = PreparedWeights::of(p.program, step)?;
    let view = weights.view().map_err(failed)?;
    let scaling = Scaling::of(p, step, view.shape().total_outputs(), choice.largest_result)?;
    let mut low = conv::lower(p, step, geometry, *view.shape(), kernel, scaling.bound)?;
    let info = kernel.info();
    let (pixels, vectors) = tile(&low, kernel);
    let layout = low.layout(info.channels_per_vector, info.units_per_step, vectors);
    let small = low.input.codes.is_some_and(|codes| codes.levels < 128);
    // Signed codes are less by 128, and so is what stands for 0.
    let shift = if kernel == KernelId::DotSigned && !small { 128 } else { 0 };
    let packed = dot::pack(&view, &layout, i32::from(low.input.zero()) - shift).map_err(failed)?;
    let constants = &mut p.constants;
    let mut add = |at: usize| low.slots.add(Slot::Constant(at));
    let weight_slot = add(constants.push(&packed.bytes));
    let bias_slot = add(constants.push(&scaling.bias));
    let multiplier_slot = add(constants.push(&scaling.multiplier));
    let constant_slot = add(constants.push(&packed.constants));
    let block = vectors * info.channels_per_vector;
    let cursors = vec![
        low.input_cursor,
        low.weight_cursor(weight_slot, &layout, info.vector_bytes),
        low.channel_cursor(bias_slot, 4, block),
        low.channel_cursor(multiplier_slot, 4, block),
        low.channel_cursor(constant_slot, 4, block),
    ];
    let chunk = if kernel == KernelId::DotMaddubs { choice.steps_per_drain.min(24) } else { TURN };
    push(p, step, low, kernel, small, (pixels, vectors), cursors, chunk);
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
    let (pixels, vectors) = tile(&low, kernel);
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
    push(p, step, low, kernel, false, (pixels, vectors), cursors, TURN);
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn push(
    p: &mut Planner<'_>,
    step: &Step,
    low: Lowering,
    kernel: KernelId,
    small: bool,
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
    let code = DotCode { kernel, loops, cursors, reduction, small, chunk, store };
    p.push(&step.name, slots, height, code).with_kernel(kernel, macs);
}

/// Pixels and vectors of a tile: the cheapest by a count of cycles, within the vector registers.
fn tile(low: &Lowering, kernel: KernelId) -> (usize, usize) {
    let vectors = low.shape.outputs.div_ceil(kernel.info().channels_per_vector);
    // Cycles of one cell's step, the latency of its accumulator, and registers beside accumulators and the waiting side.
    let (cycles, latency, spare) = match kernel {
        KernelId::DotVnni => (0.5, 5.0, 1),
        KernelId::DotUsdot | KernelId::DotSigned => (0.5, 3.0, 2),
        KernelId::DotMaddubs => (0.7, 1.0, 2),
        KernelId::DotMadd16 => (0.8, 1.0, 2),
        _ => (1.0, 3.0, 2),
    };
    // A block of 16-bit sums ends on whole vectors of four channels.
    let grain = if kernel == KernelId::DotMadd16 { 2 } else { 1 };
    let steps = low.reduction.total() as f64;
    let tile_cost = |p: usize, v: usize| {
        let (p, v) = (p as f64, v as f64);
        let stores = (v / 4.0).ceil();
        steps * (cycles * p * v).max(latency).max((p + v) * 0.4) + p * (2.5 * v + 4.0 * stores) + 20.0
    };
    let registers = if matches!(kernel, KernelId::DotUsdot | KernelId::DotSigned) { 30 } else { 16 };
    let allowed = |p: usize, v: usize| {
        let waiting = if p == 1 && kernel == KernelId::DotVnni { 0 } else { p.min(v) };
        p * v + waiting + spare <= registers && (v.is_multiple_of(grain) || v == vectors)
    };
    cheapest_tile(low.width, vectors, &allowed, &tile_cost)
}
