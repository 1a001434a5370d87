//! Poolings: windows over an image, lanes along channels. The taps inside the image are counted for each output pixel, so
//! padding is never read.

use crate::builder::{Builder, Need, Slots};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::halo::HaloFill;
use crate::emit::nest::Nest;
use crate::emit::walk::Walk;
use crate::emit::{F32Bits, StepCode};
use crate::error::JitError;
use crate::storage::image;
use crate::storage::{StorageFormat, lane_access};
use catc_program::{Format, Geometry, Step, TensorId};
use catc_scalar::Arithmetic;
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I32, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// What is made of the taps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Max,
    Average { scale: F32Bits, count_include_pad: bool },
}

/// One axis of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Axis {
    size: i64,
    kernel: i64,
    stride: i64,
    before: i64,
    after: i64,
    dilation: i64,
    /// Bytes in the input.
    bytes: i64,
}

/// Cursor 0 writes, cursor 1 stands at the channel in the input's first pixel, the others are operands of the epilogue.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PoolCode {
    kind: Kind,
    nest: Nest,
    axes: [Axis; 2],
    zero: i32,
    output: Output,
    epilogue: Epilogue,
    operand_zeros: Vec<i32>,
    halo: Option<HaloFill>,
}

/// The taps of an output position along an axis: bytes to the first inside, how many are inside, how many count.
#[derive(Clone, Copy)]
struct Taps {
    start: Value,
    inside: Value,
    counted: Value,
}

impl StepCode for PoolCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        let units = (e.first, e.last);
        if let Some(halo) = &self.halo {
            halo.emit(e, units.0, units.1);
        }
        e.nest_outer(&self.nest, units, &mut |e, pointers, indices| {
            let y = self.taps(e, self.axes[0], indices[0]);
            let x = self.taps(e, self.axes[1], indices[1]);
            let start = e.b.ins().iadd(y.start, x.start);
            let mut here = pointers.to_vec();
            here[1] = e.b.ins().iadd(pointers[1], start);
            let factor = self.factor(e, y, x);
            let widths: &[usize] = if self.is_max_of_codes() { &[64, 16, 4] } else { &[16, 4] };
            e.nest_lanes_by(&self.nest, widths, &here, &mut |e, pointers, count| {
                self.window(e, pointers, count, y.inside, x.inside, factor);
            });
        });
    }
}

impl PoolCode {
    /// Whether elements stay bytes throughout, so that sixteen fit a vector.
    fn is_max_of_codes(&self) -> bool {
        self.kind == Kind::Max && self.output.access.format != StorageFormat::Float
    }

    fn taps(&self, e: &mut Emitter<'_>, axis: Axis, index: Value) -> Taps {
        let at = e.times(index, axis.stride);
        let first = e.offset(at, -axis.before);
        // Taps below the image: ceil(-first / dilation), at least 0.
        let zero = e.int(0);
        let minus = e.b.ins().isub(zero, first);
        let below = self.divide_up(e, minus, axis.dilation);
        let below = e.b.ins().smax(below, zero);
        let end = |e: &mut Emitter<'_>, size: i64| {
            // Taps before position `size`: ceil((size - first) / dilation), at most all.
            let size = e.int(size);
            let room = e.b.ins().isub(size, first);
            let taps = self.divide_up(e, room, axis.dilation);
            let all = e.int(axis.kernel);
            let taps = e.b.ins().smin(taps, all);
            e.b.ins().smax(taps, zero)
        };
        let beyond = end(e, axis.size);
        let inside = e.b.ins().isub(beyond, below);
        let counted = match self.kind {
            Kind::Average { count_include_pad: true, .. } => end(e, axis.size + axis.after),
            _ => inside,
        };
        let skipped = e.times(below, axis.dilation);
        let start = e.b.ins().iadd(first, skipped);
        Taps { start: e.times(start, axis.bytes), inside, counted }
    }

    /// `ceil(value / divisor)` for a positive divisor and a value above `-2^31 * divisor`.
    fn divide_up(&self, e: &mut Emitter<'_>, value: Value, divisor: i64) -> Value {
        if divisor == 1 {
            return value;
        }
        // The division is one of positive numbers: a multiple of the divisor is added before, and its quotient subtracted after.
        const SHIFT: i64 = 1 << 31;
        let raised = e.offset(value, SHIFT * divisor + divisor - 1);
        let divisor = e.int(divisor);
        let quotient = e.b.ins().udiv(raised, divisor);
        e.offset(quotient, -SHIFT)
    }

    /// What sums are multiplied with (codes) or divided by (f32), four times; none for a maximum.
    fn factor(&self, e: &mut Emitter<'_>, y: Taps, x: Taps) -> Option<Value> {
        let Kind::Average { scale, .. } = self.kind else { return None };
        let count = e.b.ins().imul(y.counted, x.counted);
        let count = e.b.ins().ireduce(I32, count);
        let count = e.b.ins().fcvt_from_sint(F32, count);
        let factor = if self.nest.cursors[1].lanes.format == StorageFormat::Float {
            count
        } else {
            let scale = e.b.ins().f32const(scale.value());
            e.b.ins().fdiv(scale, count)
        };
        Some(e.b.ins().splat(F32X4, factor))
    }

    fn window(
        &self,
        e: &mut Emitter<'_>,
        pointers: &[Value],
        count: usize,
        rows: Value,
        columns: Value,
        factor: Option<Value>,
    ) {
        let from = self.nest.cursors[1].lanes;
        let start = match (self.kind, from.format) {
            (Kind::Max, StorageFormat::Float) => vec![e.floats(f32::NEG_INFINITY); count.div_ceil(4)],
            (Kind::Max, _) => vec![e.bytes(0); count.div_ceil(16)],
            (_, StorageFormat::Float) => vec![e.floats(0.0); count.div_ceil(4)],
            _ => vec![e.ints(0); count.div_ceil(4)],
        };
        let zero = e.int(0);
        let [down, right] = self.axes.map(|a| a.bytes * a.dilation);
        let found = e.range(zero, rows, &[(pointers[1], down)], start, |e, _, p, state| {
            let zero = e.int(0);
            e.range(zero, columns, &[(p[0], right)], state, |e, _, p, state| match (self.kind, from.format) {
                (Kind::Max, StorageFormat::Float) => {
                    let values = e.load_floats(from, p[0], 0, count, 0);
                    values.into_iter().zip(state).map(|(v, best)| e.max(v, best)).collect()
                }
                (Kind::Max, _) => {
                    let group = |(number, best): (usize, Value)| {
                        let first = 16 * number;
                        let codes = e.load_bytes(from, p[0], from.advance(first), (count - first).min(16));
                        e.b.ins().umax(codes, best)
                    };
                    state.into_iter().enumerate().map(group).collect()
                }
                (_, StorageFormat::Float) => {
                    let values = e.load_floats(from, p[0], 0, count, 0);
                    values.into_iter().zip(state).map(|(v, sum)| e.b.ins().fadd(sum, v)).collect()
                }
                _ => {
                    let zero = e.ints(self.zero);
                    let codes = e.load_codes(from, p[0], 0, count);
                    codes
                        .into_iter()
                        .zip(state)
                        .map(|(v, sum)| {
                            let v = e.b.ins().isub(v, zero);
                            e.b.ins().iadd(sum, v)
                        })
                        .collect()
                }
            })
        });
        let Some(factor) = factor else { return self.store_max(e, pointers[0], count, found) };
        let values = found
            .into_iter()
            .map(|sum| match from.format {
                StorageFormat::Float => e.b.ins().fdiv(sum, factor),
                _ => {
                    debug_assert_eq!(e.b.func.dfg.value_type(sum), I32X4);
                    let sum = e.b.ins().fcvt_from_sint(F32X4, sum);
                    e.b.ins().fmul(sum, factor)
                }
            })
            .collect();
        let values = e.apply(&self.epilogue, values, |e, number| {
            let access = self.nest.cursors[2 + number].lanes;
            e.load_floats(access, pointers[2 + number], 0, count, self.operand_zeros[number])
        });
        e.store_results(&self.output, &self.epilogue, pointers[0], 0, count, values);
    }

    fn store_max(&self, e: &mut Emitter<'_>, pointer: Value, count: usize, found: Vec<Value>) {
        let to = self.output.access;
        if to.format == StorageFormat::Float {
            e.store_words(to.step, pointer, 0, count, &found);
        } else {
            for (number, codes) in found.into_iter().enumerate() {
                let first = 16 * number;
                let codes = e.cast(I8X16, codes);
                e.store_bytes(to, pointer, to.advance(first), (count - first).min(16), codes);
            }
        }
    }
}

/// Lowers a maximum.
pub(crate) fn max(p: &mut Builder<'_>, step: &Step, geometry: &Geometry) -> Result<(), JitError> {
    pool(p, step, geometry, Kind::Max)
}

/// Lowers an average.
pub(crate) fn average(
    p: &mut Builder<'_>,
    step: &Step,
    geometry: &Geometry,
    count_include_pad: bool,
    scale: f32,
) -> Result<(), JitError> {
    pool(p, step, geometry, Kind::Average { scale: scale.into(), count_include_pad })
}

/// A bound on the magnitude of an average of codes. Averages of floats have none: rounding can make a sum larger than its terms allow.
pub(crate) fn average_bound(p: &Builder<'_>, input: TensorId, scale: f32) -> Option<f32> {
    let codes = matches!(p.program.tensor(input).format, Format::Codes { .. });
    p.bound(input).filter(|_| codes).map(|b| 1.01 * b * scale.abs())
}

fn pool(p: &mut Builder<'_>, step: &Step, geometry: &Geometry, kind: Kind) -> Result<(), JitError> {
    let (_, height, width) = image(p.program, step.inputs[0])?;
    image(p.program, step.output)?;
    let input = p.read(step.inputs[0], Need::ANY)?;
    let output = p.write(step.output)?;
    let mut slots = Slots::default();
    let (out, from) = (slots.add(output.slot), slots.add(input.slot));
    let bound = match kind {
        Kind::Average { scale, .. } => average_bound(p, step.inputs[0], scale.value()),
        Kind::Max => None,
    };
    let planned = p.epilogue(step, &mut slots, 0, true, bound)?;
    let (source, to) = (&input.buffer, &output.buffer);
    let walk = Walk::of(to);
    // The input's cursor moves along channels only; the window decides which pixel it points at.
    let channels = [source.strides[0], 0, 0];
    let mut cursors = vec![
        walk.cursor(out, to.format, to.origin, &to.strides),
        walk.cursor(from, source.format, source.origin, &channels),
    ];
    for (operand, strides) in &planned.operands {
        cursors.push(walk.cursor(operand.slot, operand.format, operand.origin, strides));
    }
    let axis = |i: usize, size: usize| Axis {
        size: size as i64,
        kernel: geometry.kernel[i] as i64,
        stride: geometry.strides[i] as i64,
        before: geometry.pads[i] as i64,
        after: geometry.pads[i + 2] as i64,
        dilation: geometry.dilations[i] as i64,
        bytes: source.stride(i + 1),
    };
    let nest = walk.nest(cursors);
    let units = nest.outer[0];
    let code = PoolCode {
        kind,
        nest,
        axes: [axis(0, height), axis(1, width)],
        zero: i32::from(source.zero()),
        output: Output { access: lane_access(to.format, to.strides[0]), codes: to.codes },
        epilogue: planned.code(),
        operand_zeros: planned.operands.iter().map(|(o, _)| o.zero).collect(),
        halo: output.halo_fill(out),
    };
    p.push(&step.name, slots, units, code);
    Ok(())
}
