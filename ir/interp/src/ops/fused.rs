//! Fused nodes of the integer phase. Sums of codes are exact integers, in any order of summation. Every f32 operation after them
//! is rounded separately.

use super::Plane;
use super::elementwise::{binary_in_place, unary_in_place};
use super::interpolate::Taps;
use super::pool::{average_windows, geometry};
use super::quant::round_all;
use super::reduce::Reduction;
use super::{Known, Prepared, Rule};
use crate::EvalError;
use crate::broadcast::runs;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use crate::gemm::{Matrix, gemm_f32};
use catc_ir::ops::{Body, EpilogueEnd, EpilogueStep, Fused};
use catc_ir::{Quantizer, Tensor, TensorData};
use pulp::Arch;
use std::ops::Range;
use std::sync::Arc;

/// f32 represents all integers up to this bound exactly, so sums of integers within it are exact in any order.
const EXACT: u64 = 1 << 24;

/// The weights of a fused node.
pub(crate) struct Weights {
    /// `w - zero_point` as f32, `[O,K]`.
    values: Vec<f32>,
    /// Parts of `0..K` for which every sum of products is exact in f32.
    parts: Vec<Range<usize>>,
}

/// The largest `|code - zero_point|` of a per-tensor quantizer.
fn reach(q: &Quantizer) -> u64 {
    let z = q.zero_point[0];
    q.format.max().abs_diff(z).max(q.format.min().abs_diff(z)) as u64
}

impl Weights {
    fn new(x: &Quantizer, w: &Quantizer, codes: &[i16], outputs: usize) -> Self {
        let depth = codes.len().checked_div(outputs).unwrap_or(0);
        let mut values = Vec::with_capacity(codes.len());
        for (o, row) in codes.chunks_exact(depth.max(1)).enumerate() {
            let zero_point = w.zero_point[if w.axis.is_some() { o } else { 0 }];
            values.extend(row.iter().map(|&c| (i32::from(c) - zero_point) as f32));
        }
        // A part ends where the sum of |w| of some output, times the reach of x, would exceed the bound.
        let reach = reach(x).max(1);
        let (mut parts, mut first) = (vec![], 0);
        let mut sums = vec![0u64; outputs];
        for k in 0..depth {
            let add = |sums: &mut [u64]| {
                sums.iter_mut().enumerate().fold(0, |top, (o, s)| {
                    *s += values[o * depth + k].abs() as u64;
                    top.max(*s)
                })
            };
            if add(&mut sums) * reach >= EXACT && k > first {
                parts.push(first..k);
                first = k;
                sums.fill(0);
                add(&mut sums);
            }
        }
        parts.push(first..depth);
        Weights { values, parts }
    }
}

/// `x - zero_point` as f32.
fn centered(x: &[i16], q: &Quantizer, buffers: &mut Buffers) -> Vec<f32> {
    let mut out = buffers.f32(x.len());
    let zero_point = q.zero_point[0];
    Arch::new().dispatch(|| out.iter_mut().zip(x).for_each(|(y, &c)| *y = (i32::from(c) - zero_point) as f32));
    out
}

/// Computes the sums of a convolution over one image.
fn conv_sums(p: &Plane, weights: &Weights, x: &[f32], out: &mut [f32], buffers: &mut Buffers) {
    let (positions, depth) = (p.geometry.positions(), p.depth());
    if p.is_depthwise() {
        p.each_depthwise(x, buffers, |o, channel, buffers| {
            let (weights_of, plane) = (&weights.values[o * depth..][..depth], &mut out[o * positions..][..positions]);
            add_parts(plane, &weights.parts, buffers, |part, plane| channel.sum(weights_of, part, 0.0, plane));
        });
        return;
    }
    let outputs = p.outputs / p.groups;
    p.column_blocks(x, buffers, |group, first, n, columns, buffers| {
        let a = &weights.values[group * outputs * depth..][..outputs * depth];
        let product = |part: Range<usize>, dst: &mut [f32], row: usize| {
            let (a, b) = (Matrix::rows(&a[part.start..], depth), columns.below(part.start));
            gemm_f32([outputs, n, part.len()], dst, row, false, a, b);
        };
        let start = group * outputs * positions + first;
        if let [all] = &weights.parts[..] {
            return product(all.clone(), &mut out[start..], positions);
        }
        let mut block = buffers.f32(outputs * n);
        add_parts(&mut block, &weights.parts, buffers, |part, dst| product(part, dst, n));
        for (o, row) in block.chunks_exact(n).enumerate() {
            out[start + o * positions..][..n].copy_from_slice(row);
        }
        buffers.give_f32(block);
    });
}

/// Adds the sums that `f` computes for each part, in i32, and rounds the totals to f32.
fn add_parts(
    out: &mut [f32],
    parts: &[Range<usize>],
    buffers: &mut Buffers,
    mut f: impl FnMut(Range<usize>, &mut [f32]),
) {
    if let [all] = parts {
        return f(all.clone(), out);
    }
    let mut sums = vec![0i32; out.len()];
    let mut partial = buffers.f32(out.len());
    for part in parts {
        f(part.clone(), &mut partial);
        let partial = &partial;
        let sums = &mut sums;
        Arch::new().dispatch(|| sums.iter_mut().zip(partial).for_each(|(s, p)| *s += *p as i32));
    }
    buffers.give_f32(partial);
    out.iter_mut().zip(&sums).for_each(|(o, s)| *o = *s as f32);
}

/// Computes `t = t * multiplier + bias` for rows of `len` elements. Row `i` uses the multiplier and the bias with index `i`,
/// modulo their number.
fn scale_rows(t: &mut [f32], len: usize, multiplier: &[f32], bias: &[f32]) {
    for (i, row) in t.chunks_exact_mut(len).enumerate() {
        let (m, b) = (multiplier[i % multiplier.len()], bias[i % bias.len()]);
        Arch::new().dispatch(|| row.iter_mut().for_each(|t| *t = *t * m + b));
    }
}

/// Computes the value of the body for each output element.
fn body_values(body: &Body, call: &Call, inputs: &[Input], buffers: &mut Buffers) -> Result<Vec<f32>, EvalError> {
    let needs_codes = || call.element_error("code");
    let volume: usize = call.shape.iter().product();
    let mut t = buffers.f32(volume);
    match body {
        Body::Conv2d(_) | Body::Linear => {
            let Prepared::Weights(weights) = call.prepared else { return Err(needs_codes()) };
            let q = call.quantizer(0).ok_or_else(needs_codes)?;
            let (multiplier, bias) = (call.f32(&inputs[2])?, call.f32(&inputs[3])?);
            let x = centered(call.codes(&inputs[0])?, q, buffers);
            if let Body::Conv2d(conv) = body {
                let p = Plane::new(conv, inputs[0].shape(), inputs[1].shape(), call.shape);
                for (i, image) in t.chunks_exact_mut(p.output_len()).enumerate() {
                    conv_sums(&p, weights, &x[i * p.input_len()..][..p.input_len()], image, buffers);
                }
                scale_rows(&mut t, p.geometry.positions(), multiplier, bias);
            } else {
                let [o, k] = [inputs[1].shape()[0], inputs[1].shape()[1]];
                let rows = volume / o;
                add_parts(&mut t, &weights.parts, buffers, |part, dst| {
                    let a = Matrix::rows(&x[part.start.min(x.len())..], k);
                    let b = Matrix::transposed(&weights.values[part.start.min(weights.values.len())..], k);
                    gemm_f32([rows, o, part.len()], dst, o, false, a, b);
                });
                for row in t.chunks_exact_mut(o) {
                    row.iter_mut().zip(multiplier).zip(bias).for_each(|((t, m), b)| *t = *t * m + b);
                }
            }
            buffers.give_f32(x);
        }
        Body::MatMul { scale } => {
            let (qa, qb) = (call.quantizer(0).ok_or_else(needs_codes)?, call.quantizer(1).ok_or_else(needs_codes)?);
            let a = centered(call.codes(&inputs[0])?, qa, buffers);
            let b = centered(call.codes(&inputs[1])?, qb, buffers);
            let (sa, sb) = (inputs[0].shape(), inputs[1].shape());
            let (la, lb) = (sa.len() - 2, sb.len() - 2);
            let [m, k, n] = [sa[la], sa[la + 1], sb[lb + 1]];
            // Parts whose sums are exact in f32.
            let most = (EXACT / (reach(qa) * reach(qb)).max(1)).max(1) as usize;
            let parts: Vec<Range<usize>> = (0..k.max(1)).step_by(most).map(|i| i..(i + most).min(k)).collect();
            runs(&call.shape[..call.shape.len() - 2], [&sa[..la], &sb[..lb]], |run| {
                for i in 0..run.len {
                    let at = |j: usize| run.offset[j] + if run.advances[j] { i } else { 0 };
                    let a = &a[at(0) * m * k..][..m * k];
                    let b = &b[at(1) * k * n..][..k * n];
                    let out = &mut t[(run.start + i) * m * n..][..m * n];
                    add_parts(out, &parts, buffers, |part, dst| {
                        let (a, b) = (Matrix::rows(&a[part.start..], k), Matrix::rows(&b[part.start * n..], n));
                        gemm_f32([m, n, part.len()], dst, n, false, a, b);
                    });
                }
            });
            Arch::new().dispatch(|| t.iter_mut().for_each(|t| *t *= scale));
            buffers.give_f32(a);
            buffers.give_f32(b);
        }
        Body::AvgPool { pool, scale } => {
            let (x, q) = (call.codes(&inputs[0])?, call.quantizer(0).ok_or_else(needs_codes)?);
            let zero_point = i64::from(q.zero_point[0]);
            let g = geometry(&pool.window, inputs[0].shape(), call.shape);
            let planes = volume / g.positions();
            average_windows(&g, pool.count_include_pad, |position, taps, count| {
                let factor = scale / count as f32;
                for plane in 0..planes {
                    let x = &x[plane * g.pixels()..][..g.pixels()];
                    let sum: i64 = taps.iter().map(|&t| i64::from(x[t]) - zero_point).sum();
                    t[plane * g.positions() + position] = sum as f32 * factor;
                }
            });
        }
        Body::Mean { mean, scale } => {
            let (x, q) = (call.codes(&inputs[0])?, call.quantizer(0).ok_or_else(needs_codes)?);
            let zero_point = i64::from(q.zero_point[0]);
            let r = Reduction::new(inputs[0].shape(), &mean.axes);
            let factor = scale / r.count() as f32;
            for (t, &base) in t.iter_mut().zip(&r.bases) {
                let sum: i64 = r.offsets.iter().map(|o| i64::from(x[base + o]) - zero_point).sum();
                *t = sum as f32 * factor;
            }
        }
        Body::Interpolate { interpolate, scale } => {
            let q = call.quantizer(0).ok_or_else(needs_codes)?;
            let x = centered(call.codes(&inputs[0])?, q, buffers);
            let taps = Taps::of(call, interpolate, [&inputs[0], &inputs[1], &inputs[2]])?;
            taps.sums(&x, &mut t);
            buffers.give_f32(x);
            Arch::new().dispatch(|| t.iter_mut().for_each(|t| *t *= scale));
        }
        Body::Map { scale } => operand_reals(call, inputs, 0, *scale, &mut t)?,
    }
    Ok(t)
}

/// Converts input `index` to the f32 operand of a map body or an epilogue step: `(code - zero_point) as f32 * scale`, or
/// `x * scale`.
fn operand_reals(call: &Call, inputs: &[Input], index: usize, scale: f32, out: &mut [f32]) -> Result<(), EvalError> {
    match inputs[index].data() {
        TensorData::F32(x) => {
            Arch::new().dispatch(|| out.iter_mut().zip(x).for_each(|(y, x)| *y = x * scale));
        }
        TensorData::Code(x) => {
            let q = call.quantizer(index).ok_or_else(|| call.element_error("code"))?;
            let zero_point = q.zero_point[0];
            Arch::new().dispatch(|| {
                out.iter_mut().zip(x).for_each(|(y, &c)| *y = (i32::from(c) - zero_point) as f32 * scale);
            });
        }
        _ => return Err(call.element_error("f32 or code")),
    }
    Ok(())
}

impl Rule for Fused {
    fn prepare(&self, known: &Known) -> Prepared {
        let (graph, node) = (known.graph, known.node);
        if self.body.inputs() != 4 {
            return Prepared::Nothing;
        }
        let quantizers = (graph.quantizer_of(node.inputs[0]), graph.quantizer_of(node.inputs[1]));
        let tensor = node.inputs[1].constant().map(|c| &graph.constant(c).tensor);
        let codes = tensor.and_then(|t| Some((t.as_codes()?, *t.shape().first()?)));
        match (quantizers, codes) {
            ((Some(x), Some(w)), Some((codes, outputs))) => {
                Prepared::Weights(Arc::new(Weights::new(x, w, codes, outputs)))
            }
            _ => Prepared::Nothing,
        }
    }

    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = body_values(&self.body, call, inputs, buffers)?;
        for step in &self.epilogue.steps {
            match *step {
                EpilogueStep::Binary { op, operand, scale } => {
                    let mut r = buffers.f32(inputs[operand].len());
                    operand_reals(call, inputs, operand, scale, &mut r)?;
                    binary_in_place(op.into(), &mut t, call.shape, &r, inputs[operand].shape());
                    buffers.give_f32(r);
                }
                EpilogueStep::Unary(f) => unary_in_place(f, &mut t),
                EpilogueStep::Scale(factor) => {
                    Arch::new().dispatch(|| t.iter_mut().for_each(|t| *t *= factor));
                }
            }
        }
        let Some(output) = self.output else { return Ok(call.output(t)) };
        let q = call.graph.quantizer(output);
        let mut codes = buffers.code(t.len());
        match self.epilogue.end {
            EpilogueEnd::Requantize => {
                let reciprocal = 1.0 / q.scale[0];
                round_all(&t, &mut codes, q.zero_point[0], q.format, |t| t * reciprocal);
            }
            EpilogueEnd::Round | EpilogueEnd::Real => round_all(&t, &mut codes, q.zero_point[0], q.format, |t| t),
        }
        buffers.give_f32(t);
        Ok(Tensor::new(call.shape.to_vec(), TensorData::Code(codes)))
    }
}
