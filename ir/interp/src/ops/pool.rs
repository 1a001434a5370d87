//! Pooling.

use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use crate::im2col::Geometry;
use catc_ir::ops::{AvgPool, MaxPool, Window};
use catc_ir::{Tensor, TensorData};

/// The geometry of a pooling of `[N,C,H,W]`.
pub(crate) fn geometry(window: &Window, input: &[usize], output: &[usize]) -> Geometry {
    Geometry { window: window.clone(), input: [input[2], input[3]], output: [output[2], output[3]] }
}

/// Computes the maximum over each window of one plane. A window that covers only padding gives `lowest`.
fn max_plane<T: Copy>(g: &Geometry, x: &[T], out: &mut [T], line: &mut Vec<T>, lowest: T, max: impl Fn(T, T) -> T) {
    let width = g.input[1];
    for (oy, row) in out.chunks_exact_mut(g.output[1]).enumerate() {
        line.clear();
        line.resize(width, lowest);
        for ky in 0..g.window.kernel[0] {
            let (top, bottom) = g.inside(0, ky);
            if (top..bottom).contains(&oy) {
                let source = &x[g.source(0, oy, ky) * width..][..width];
                line.iter_mut().zip(source).for_each(|(m, s)| *m = max(*s, *m));
            }
        }
        row.fill(lowest);
        for kx in 0..g.window.kernel[1] {
            let (left, right) = g.inside(1, kx);
            if left < right {
                let source = line[g.source(1, left, kx)..].iter().step_by(g.window.strides[1]);
                row[left..right].iter_mut().zip(source).for_each(|(m, s)| *m = max(*s, *m));
            }
        }
    }
}

impl Rule for MaxPool {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let g = geometry(&self.0, inputs[0].shape(), call.shape);
        let volume = call.shape.iter().product();
        let pixels = g.pixels();
        let data = match inputs[0].data() {
            TensorData::F32(x) => {
                let (mut out, mut line) = (buffers.f32(volume), vec![]);
                for (i, plane) in out.chunks_exact_mut(g.positions()).enumerate() {
                    max_plane(&g, &x[i * pixels..][..pixels], plane, &mut line, f32::NEG_INFINITY, catc_scalar::max);
                }
                TensorData::F32(out)
            }
            TensorData::Code(x) => {
                let lowest = call.quantizer(0).map_or(0, |q| q.format.min() as i16);
                let (mut out, mut line) = (buffers.code(volume), vec![]);
                for (i, plane) in out.chunks_exact_mut(g.positions()).enumerate() {
                    max_plane(&g, &x[i * pixels..][..pixels], plane, &mut line, lowest, i16::max);
                }
                TensorData::Code(out)
            }
            _ => return Err(call.element_error("f32 or code")),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    /// The gradient goes to the first of equal maxima.
    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let x = reverse.inputs[0];
        let g = geometry(&self.0, x.shape(), call.shape);
        let greater: Box<dyn Fn(usize, usize) -> bool> = match x.data() {
            TensorData::F32(x) => Box::new(|a, b| x[a] > x[b]),
            TensorData::Code(x) => Box::new(|a, b| x[a] > x[b]),
            _ => return Err(call.element_error("f32 or code")),
        };
        let mut dx = vec![0.0; x.len()];
        average_windows(&g, false, |position, taps, _| {
            for plane in 0..grad.len() / g.positions() {
                let place = |t: usize| plane * g.pixels() + t;
                let best = taps.iter().map(|&t| place(t)).reduce(|best, t| if greater(t, best) { t } else { best });
                if let Some(best) = best {
                    dx[best] += grad[plane * g.positions() + position];
                }
            }
        });
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}

/// Calls `f(position, taps, count)` for each output position of a plane in order. `taps` are the indices of the window's taps
/// inside the input, row by row. `count` is the divisor of their sum, at least 1.
pub(crate) fn average_windows(g: &Geometry, include_pad: bool, mut f: impl FnMut(usize, &[usize], usize)) {
    let w = &g.window;
    // The taps of output `o` along an axis that lie inside the input, and the number of taps inside the padded input.
    let along = |axis: usize, o: usize| {
        let start = o * w.strides[axis];
        let end = g.input[axis] + w.pads[axis];
        let places = (0..w.kernel[axis]).map(move |t| start + t * w.dilations[axis]);
        let padded = places.clone().filter(|&p| p < end + w.pads[axis + 2]).count();
        let inside: Vec<usize> = places.filter(|&p| p >= w.pads[axis] && p < end).map(|p| p - w.pads[axis]).collect();
        (inside, padded)
    };
    let columns: Vec<_> = (0..g.output[1]).map(|o| along(1, o)).collect();
    let mut taps = vec![];
    for oy in 0..g.output[0] {
        let (ys, padded_y) = along(0, oy);
        for (ox, (xs, padded_x)) in columns.iter().enumerate() {
            taps.clear();
            taps.extend(ys.iter().flat_map(|y| xs.iter().map(move |x| y * g.input[1] + x)));
            let count = if include_pad { padded_y * padded_x } else { taps.len() };
            f(oy * g.output[1] + ox, &taps, count.max(1));
        }
    }
}

impl Rule for AvgPool {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let x = call.f32(&inputs[0])?;
        let g = geometry(&self.window, inputs[0].shape(), call.shape);
        let mut out = buffers.f32(call.shape.iter().product());
        let planes = out.len() / g.positions();
        average_windows(&g, self.count_include_pad, |position, taps, count| {
            for plane in 0..planes {
                let x = &x[plane * g.pixels()..][..g.pixels()];
                let sum = taps.iter().fold(0.0, |sum, &t| sum + x[t]);
                out[plane * g.positions() + position] = sum / count as f32;
            }
        });
        Ok(call.output(out))
    }
    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let g = geometry(&self.window, reverse.inputs[0].shape(), call.shape);
        let mut dx = vec![0.0; reverse.inputs[0].len()];
        average_windows(&g, self.count_include_pad, |position, taps, count| {
            for plane in 0..grad.len() / g.positions() {
                let share = grad[plane * g.positions() + position] / count as f32;
                taps.iter().for_each(|t| dx[plane * g.pixels() + t] += share);
            }
        });
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}
