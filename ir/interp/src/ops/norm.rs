//! Normalizations, as [`catc_scalar`] defines them.

use super::reduce::axis_parts;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::Tensor;
use catc_ir::ops::{BatchNorm, LayerNorm, Softmax};
use catc_scalar::functions::Exp;
use catc_scalar::{UnaryFunction, max, sum4, sum4_of};
use pulp::Arch;

impl Rule for BatchNorm {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = call.take_f32(&mut inputs[0], buffers)?;
        let channels = call.shape[1];
        let len = call.shape[2..].iter().product::<usize>();
        let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| call.f32(&inputs[i]));
        let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
        for (i, plane) in t.chunks_exact_mut(len).enumerate() {
            let c = i % channels;
            let (scale, bias, mean) = (scale[c], bias[c], mean[c]);
            let deviation = (variance[c] + self.eps).sqrt();
            Arch::new().dispatch(|| plane.iter_mut().for_each(|x| *x = ((*x - mean) / deviation) * scale + bias));
        }
        Ok(call.output(t))
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let channels = call.shape[1];
        let len = call.shape[2..].iter().product::<usize>();
        let [x, scale, _, mean, variance] = [0, 1, 2, 3, 4].map(|i| call.f32(reverse.inputs[i]));
        let (x, scale, mean, variance) = (x?, scale?, mean?, variance?);
        // Sums of g and of g (x - mean) over each channel.
        let mut sums = vec![[0f64; 2]; channels];
        for (i, (g, x)) in grad.chunks_exact_mut(len).zip(x.chunks_exact(len)).enumerate() {
            let c = i % channels;
            let deviation = (variance[c] + self.eps).sqrt();
            for (g, x) in g.iter_mut().zip(x) {
                sums[c][0] += f64::from(*g);
                sums[c][1] += f64::from(*g) * f64::from(x - mean[c]);
                *g = *g / deviation * scale[c];
            }
        }
        let for_each = |i: usize, f: &dyn Fn(f64, f64, f64, f64) -> f64| {
            reverse.needs[i].then(|| {
                let one = |c: usize| {
                    let deviation = f64::from(variance[c] + self.eps).sqrt();
                    f(sums[c][0], sums[c][1], f64::from(scale[c]), deviation) as f32
                };
                (0..channels).map(one).collect::<Vec<f32>>()
            })
        };
        let d_scale = for_each(1, &|_, gx, _, dev| gx / dev);
        let d_bias = for_each(2, &|g, _, _, _| g);
        let d_mean = for_each(3, &|g, _, scale, dev| -g * scale / dev);
        let d_variance = for_each(4, &|_, gx, scale, dev| -0.5 * gx * scale / (dev * dev * dev));
        Ok(Pullback::of([Some(grad), d_scale, d_bias, d_mean, d_variance]))
    }
}

/// Softmax of one row, in place.
fn softmax(row: &mut [f32]) {
    let top = row.iter().fold(f32::NEG_INFINITY, |m, &x| max(x, m));
    Arch::new().dispatch(|| row.iter_mut().for_each(|x| *x = Exp.at(*x - top)));
    let sum = sum4(row);
    row.iter_mut().for_each(|x| *x /= sum);
}

impl Rule for Softmax {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = call.take_f32(&mut inputs[0], buffers)?;
        let (_, size, inner) = axis_parts(call.shape, self.axis);
        if inner == 1 {
            t.chunks_exact_mut(size).for_each(softmax);
            return Ok(call.output(t));
        }
        let mut row = vec![0.0; size];
        for block in t.chunks_exact_mut(size * inner) {
            for i in 0..inner {
                row.iter_mut().zip(block[i..].iter().step_by(inner)).for_each(|(r, x)| *r = *x);
                softmax(&mut row);
                block[i..].iter_mut().step_by(inner).zip(&row).for_each(|(x, r)| *x = *r);
            }
        }
        Ok(call.output(t))
    }
    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let y = call.f32(reverse.output)?;
        let (outer, size, inner) = axis_parts(call.shape, self.axis);
        for first in (0..outer).flat_map(|o| (0..inner).map(move |i| o * size * inner + i)) {
            let places = || (0..size).map(|j| first + j * inner);
            let sum = sum4_of(places().map(|p| grad[p] * y[p]));
            places().for_each(|p| grad[p] = y[p] * (grad[p] - sum));
        }
        Ok(Pullback::of([Some(grad)]))
    }
}

/// Subtracts the mean from a row in place. Returns `sqrt(mean square + eps)` of the result.
fn center(row: &mut [f32], squares: &mut Vec<f32>, eps: f32) -> f32 {
    let count = row.len() as f32;
    let mean = sum4(row) / count;
    row.iter_mut().for_each(|x| *x -= mean);
    squares.clear();
    squares.extend(row.iter().map(|d| d * d));
    (sum4(squares) / count + eps).sqrt()
}

impl Rule for LayerNorm {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = call.take_f32(&mut inputs[0], buffers)?;
        let size = call.shape[call.shape.len() - 1];
        let scale = inputs.get(1).map(|s| call.f32(s)).transpose()?;
        let bias = inputs.get(2).map(|b| call.f32(b)).transpose()?;
        let mut squares = vec![];
        for row in t.chunks_exact_mut(size) {
            let deviation = center(row, &mut squares, self.eps);
            row.iter_mut().for_each(|x| *x /= deviation);
            if let Some(scale) = scale {
                row.iter_mut().zip(scale).for_each(|(x, s)| *x *= s);
            }
            if let Some(bias) = bias {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        }
        Ok(call.output(t))
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let size = call.shape[call.shape.len() - 1];
        let x = call.f32(reverse.inputs[0])?;
        let scale = reverse.inputs.get(1).map(|s| call.f32(s)).transpose()?;
        let needs = |i: usize| reverse.needs.get(i).is_some_and(|&n| n);
        let mut d_scale = needs(1).then(|| vec![0.0; size]);
        let mut d_bias = needs(2).then(|| vec![0.0; size]);
        let (mut row, mut squares) = (vec![0.0; size], vec![]);
        for (g, x) in grad.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
            row.copy_from_slice(x);
            let deviation = center(&mut row, &mut squares, self.eps);
            row.iter_mut().for_each(|d| *d /= deviation);
            if let Some(d) = &mut d_bias {
                d.iter_mut().zip(g.iter()).for_each(|(d, g)| *d += g);
            }
            if let Some(d) = &mut d_scale {
                d.iter_mut().zip(g.iter().zip(&row)).for_each(|(d, (g, n))| *d += g * n);
            }
            if let Some(scale) = scale {
                g.iter_mut().zip(scale).for_each(|(g, s)| *g *= s);
            }
            let count = size as f32;
            let mean = sum4(g) / count;
            let along = sum4_of(g.iter().zip(&row).map(|(g, n)| g * n)) / count;
            g.iter_mut().zip(&row).for_each(|(g, n)| *g = (*g - mean - n * along) / deviation);
        }
        Ok(Pullback::of([Some(grad), d_scale, d_bias]))
    }
}
