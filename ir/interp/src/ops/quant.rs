//! Quantization and dequantization. The results equal those of [`Quantizer::quantize`] and [`Quantizer::dequantize`].

use super::reduce::axis_parts;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::ops::{Dequantize, Quantize};
use catc_ir::quantizer::round_to_code;
use catc_ir::{QFormat, Quantizer, Tensor, TensorData};
use pulp::Arch;

/// Computes `code = round_to_code(f(x), zero_point, format)` for each element, without branches.
pub(crate) fn round_all(x: &[f32], out: &mut [i16], zero_point: i32, format: QFormat, f: impl Fn(f32) -> f32 + Copy) {
    // Adding 1.5 * 2^23 rounds a small number half to even and leaves the integer in the low bits. The result equals that of
    // `round_to_code`: the clamp may come before the rounding, because its bounds are integers.
    const MAGIC: f32 = 12_582_912.0;
    let lo = (format.min() - zero_point) as f32;
    let hi = (format.max() - zero_point) as f32;
    Arch::new().dispatch(|| {
        for (c, &x) in out.iter_mut().zip(x) {
            let t = f(x);
            let t = if t.is_nan() { 0.0 } else { t };
            let t = if t > lo { t } else { lo };
            let t = if t < hi { t } else { hi };
            let rounded = (t + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
            *c = (rounded + zero_point) as i16;
        }
    });
    debug_assert!(x.iter().zip(&*out).all(|(&x, &c)| round_to_code(f(x), zero_point, format) == i32::from(c)));
}

/// Calls `f(first, len, slice)` for each contiguous run of elements that share a scale.
pub(crate) fn slices(q: &Quantizer, shape: &[usize], mut f: impl FnMut(usize, usize, usize)) {
    match q.axis {
        None => f(0, shape.iter().product(), 0),
        Some(axis) => {
            let (outer, size, inner) = axis_parts(shape, axis);
            (0..outer * size).for_each(|i| f(i * inner, inner, i % size));
        }
    }
}

/// Computes `(g, terms) = f(g, x)` for each gradient. Returns the sums of the terms if `sums` is true, else zeros. Within a block
/// of [`SUM_BLOCK`] elements, sums use 16 lanes of f32. Blocks are summed in f64.
fn pull_and_sum<T: Copy>(
    grad: &mut [f32],
    x: &[T],
    sums: bool,
    f: impl Fn(f32, T) -> (f32, [f32; 2]) + Copy,
) -> [f32; 2] {
    const LANES: usize = 16;
    const SUM_BLOCK: usize = 64 * LANES;
    if !sums {
        Arch::new().dispatch(|| grad.iter_mut().zip(x).for_each(|(g, &x)| *g = f(*g, x).0));
        return [0.0; 2];
    }
    let mut total = [0f64; 2];
    for (grad, x) in grad.chunks_mut(SUM_BLOCK).zip(x.chunks(SUM_BLOCK)) {
        let mut lanes = [[0f32; LANES]; 2];
        Arch::new().dispatch(|| {
            let mut own = [[0f32; LANES]; 2];
            let (mut grads, mut xs) = (grad.chunks_exact_mut(LANES), x.chunks_exact(LANES));
            for (g, x) in (&mut grads).zip(&mut xs) {
                for i in 0..LANES {
                    let (pulled, terms) = f(g[i], x[i]);
                    g[i] = pulled;
                    own[0][i] += terms[0];
                    own[1][i] += terms[1];
                }
            }
            for (i, (g, &x)) in grads.into_remainder().iter_mut().zip(xs.remainder()).enumerate() {
                let (pulled, terms) = f(*g, x);
                *g = pulled;
                own[0][i] += terms[0];
                own[1][i] += terms[1];
            }
            lanes = own;
        });
        for (total, lanes) in total.iter_mut().zip(lanes) {
            *total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
    }
    total.map(|t| t as f32)
}

impl Rule for Quantize {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let x = call.f32(&inputs[0])?;
        let q = call.graph.quantizer(self.quantizer);
        let mut out = buffers.code(x.len());
        slices(q, call.shape, |first, len, slice| {
            let scale = q.scale[slice];
            let part = first..first + len;
            round_all(&x[part.clone()], &mut out[part], q.zero_point[slice], q.format, |x| x / scale);
        });
        Ok(Tensor::new(call.shape.to_vec(), TensorData::Code(out)))
    }

    /// Differentiates `q = x / s + z` if this rounds to a code of the format. Outside the range, `q` is constant.
    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let x = call.f32(reverse.inputs[0])?;
        let q = call.graph.quantizer(self.quantizer);
        let mut scales = vec![0.0; q.scale.len()];
        let mut zero_points = vec![0.0; q.scale.len()];
        slices(q, call.shape, |first, len, slice| {
            let (scale, zero_point) = (q.scale[slice], q.zero_point[slice]);
            let (lo, hi) = ((q.format.min() - zero_point) as f32, (q.format.max() - zero_point) as f32);
            let grad = &mut grad[first..][..len];
            let [d_scale, d_zero] = pull_and_sum(grad, &x[first..][..len], reverse.quantizer, |g, x| {
                let t = x / scale;
                let rounded = t.round_ties_even();
                let inside = rounded >= lo && rounded <= hi;
                let (g, own) = (if inside { g / scale } else { 0.0 }, if inside { g } else { 0.0 });
                (g, [-g * if inside { t } else { 0.0 }, own])
            });
            scales[slice] += d_scale;
            zero_points[slice] += d_zero;
        });
        Ok(Pullback { quantizer: Some((scales, zero_points)), ..Pullback::of([Some(grad)]) })
    }
}

impl Rule for Dequantize {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let codes = call.codes(&inputs[0])?;
        let q = call.quantizer(0).ok_or_else(|| call.element_error("code"))?;
        let mut out = buffers.f32(codes.len());
        slices(q, call.shape, |first, len, slice| {
            let (scale, zero_point) = (q.scale[slice], q.zero_point[slice]);
            let (codes, out) = (&codes[first..][..len], &mut out[first..][..len]);
            Arch::new().dispatch(|| {
                for (x, &c) in out.iter_mut().zip(codes) {
                    *x = scale * (i32::from(c) - zero_point) as f32;
                }
            });
        });
        Ok(call.output(out))
    }
    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let codes = call.codes(reverse.inputs[0])?;
        let q = call.quantizer(0).ok_or_else(|| call.element_error("code"))?;
        let mut scales = vec![0.0; q.scale.len()];
        let mut zero_points = vec![0.0; q.scale.len()];
        slices(q, call.shape, |first, len, slice| {
            let (scale, zero_point) = (q.scale[slice], q.zero_point[slice]);
            let grad = &mut grad[first..][..len];
            let [d_scale, d_zero] = pull_and_sum(grad, &codes[first..][..len], reverse.quantizer, |g, c| {
                (g * scale, [g * (i32::from(c) - zero_point) as f32, -(g * scale)])
            });
            scales[slice] += d_scale;
            zero_points[slice] += d_zero;
        });
        Ok(Pullback { quantizer: Some((scales, zero_points)), ..Pullback::of([Some(grad)]) })
    }
}
