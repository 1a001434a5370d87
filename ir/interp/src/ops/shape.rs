//! Operations that move elements without computing anything.

use super::reduce::axis_parts;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::broadcast::runs;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::ops::{Concat, Expand, Gather, Identity, Pad, Reshape, Slice, Transpose};
use catc_ir::{Tensor, TensorData};

/// Builds a tensor with the call's shape from the elements of another tensor of any element type. `$body` turns the slice `$x`
/// into a vector.
macro_rules! moved {
    ($call:expr, $tensor:expr, $x:ident => $body:expr) => {{
        let data = match $tensor.data() {
            TensorData::F32($x) => TensorData::F32($body),
            TensorData::I64($x) => TensorData::I64($body),
            TensorData::Bool($x) => TensorData::Bool($body),
            TensorData::Code($x) => TensorData::Code($body),
        };
        Ok(Tensor::new($call.shape.to_vec(), data))
    }};
}

/// The elements of an input with the call's shape. There is no copy if this is the last use of the value.
fn renamed(call: &Call, input: &mut Input) -> Result<Tensor, EvalError> {
    match input {
        Input::Last(t) => {
            let data = std::mem::replace(t, Tensor::f32(&[0], vec![])).into_data();
            Ok(Tensor::new(call.shape.to_vec(), data))
        }
        Input::Shared(t) => moved!(call, t, x => x.clone()),
    }
}

impl Rule for Reshape {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        renamed(call, &mut inputs[0])
    }

    fn vjp(&self, _: &Call, _: &Reverse, grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        Ok(Pullback::of([Some(grad)]))
    }
}

impl Rule for Identity {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        renamed(call, &mut inputs[0])
    }

    fn vjp(&self, _: &Call, _: &Reverse, grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        Ok(Pullback::of([Some(grad)]))
    }
}

/// Appends the elements of a box of `sizes` in row-major order. They begin at `start` and are `strides[i]` apart along axis `i`.
fn strided<T: Copy>(x: &[T], start: usize, sizes: &[usize], strides: &[usize], out: &mut Vec<T>) {
    match (sizes, strides) {
        ([], _) | (_, []) => out.push(x[start]),
        (&[n], &[1]) => out.extend_from_slice(&x[start..][..n]),
        (&[n], &[s]) => out.extend((0..n).map(|i| x[start + i * s])),
        (&[n, ..], &[s, ..]) => (0..n).for_each(|i| strided(x, start + i * s, &sizes[1..], &strides[1..], out)),
    }
}

impl Rule for Transpose {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let shape = inputs[0].shape();
        let strides: Vec<usize> = self.perm.iter().map(|&i| shape[i + 1..].iter().product()).collect();
        moved!(call, inputs[0], x => {
            let mut out = Vec::with_capacity(x.len());
            strided(x, 0, call.shape, &strides, &mut out);
            out
        })
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let mut strides = vec![0; self.perm.len()];
        for (i, &axis) in self.perm.iter().enumerate() {
            strides[axis] = call.shape[i + 1..].iter().product();
        }
        let mut dx = Vec::with_capacity(grad.len());
        strided(&grad, 0, reverse.inputs[0].shape(), &strides, &mut dx);
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}

/// Copies one block of each part in turn, `outer` times. Each part comes with its block size.
fn interleave<T: Copy>(outer: usize, parts: &[(&[T], usize)]) -> Vec<T> {
    let mut out = Vec::with_capacity(parts.iter().map(|(x, _)| x.len()).sum());
    for i in 0..outer {
        for (x, block) in parts {
            out.extend_from_slice(&x[i * block..][..*block]);
        }
    }
    out
}

impl Rule for Concat {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let outer = call.shape[..self.axis].iter().product();
        let block = |t: &Tensor| t.shape()[self.axis..].iter().product::<usize>();
        macro_rules! parts {
            ($variant:ident) => {{
                let mut parts = vec![];
                for t in inputs.iter() {
                    match t.data() {
                        TensorData::$variant(x) => parts.push((&x[..], block(t))),
                        _ => return Err(call.element_error("equal")),
                    }
                }
                TensorData::$variant(interleave(outer, &parts))
            }};
        }
        let data = match inputs[0].data() {
            TensorData::F32(_) => parts!(F32),
            TensorData::I64(_) => parts!(I64),
            TensorData::Bool(_) => parts!(Bool),
            TensorData::Code(_) => parts!(Code),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    fn vjp(&self, _: &Call, reverse: &Reverse, grad: Vec<f32>, buffers: &mut Buffers) -> Result<Pullback, EvalError> {
        let blocks: Vec<usize> =
            reverse.inputs.iter().map(|t| t.shape()[self.axis..].iter().product::<usize>()).collect();
        let step: usize = blocks.iter().sum();
        let mut first = 0;
        let mut parts = vec![];
        for (&block, &needed) in blocks.iter().zip(reverse.needs) {
            let part = first..first + block;
            parts.push(needed.then(|| grad.chunks_exact(step).flat_map(|g| &g[part.clone()]).copied().collect()));
            first += block;
        }
        buffers.give_f32(grad);
        Ok(Pullback::of(parts))
    }
}

/// Copies `x` of shape `shape` into `out` of shape `padded`, at the offset `before[i]` along each axis `i`.
fn place<T: Copy>(x: &[T], shape: &[usize], out: &mut [T], padded: &[usize], before: &[usize]) {
    let (&[n, ref shape @ ..], &[m, ref padded @ ..], &[b, ref before @ ..]) = (shape, padded, before) else {
        if let (Some(o), Some(x)) = (out.first_mut(), x.first()) {
            *o = *x;
        }
        return;
    };
    let (from, to) = (x.len() / n.max(1), out.len() / m.max(1));
    if shape == padded {
        out[b * to..][..n * from].copy_from_slice(x);
        return;
    }
    for i in 0..n {
        place(&x[i * from..][..from], shape, &mut out[(b + i) * to..][..to], padded, before);
    }
}

impl Rule for Pad {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let volume: usize = call.shape.iter().product();
        let shape = inputs[0].shape();
        let data = match inputs[0].data() {
            TensorData::F32(x) => {
                let mut out = buffers.f32(volume);
                out.fill(self.value);
                place(x, shape, &mut out, call.shape, &self.before);
                TensorData::F32(out)
            }
            TensorData::Code(x) => {
                let q = call.quantizer(0).ok_or_else(|| call.element_error("code"))?;
                let mut out = buffers.code(volume);
                match q.axis {
                    None => out.fill(q.zero_point[0] as i16),
                    Some(axis) => {
                        let (_, size, inner) = axis_parts(call.shape, axis);
                        for (i, slice) in out.chunks_exact_mut(inner).enumerate() {
                            slice.fill(q.zero_point[i % size] as i16);
                        }
                    }
                }
                place(x, shape, &mut out, call.shape, &self.before);
                TensorData::Code(out)
            }
            _ => return Err(call.element_error("f32 or code")),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let strides: Vec<usize> = (0..call.shape.len()).map(|i| call.shape[i + 1..].iter().product()).collect();
        let start = self.before.iter().zip(&strides).map(|(b, s)| b * s).sum();
        let mut dx = Vec::with_capacity(reverse.inputs[0].len());
        if !reverse.inputs[0].is_empty() {
            strided(&grad, start, reverse.inputs[0].shape(), &strides, &mut dx);
        }
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}

impl Rule for Slice {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let (outer, size, inner) = axis_parts(inputs[0].shape(), self.axis);
        moved!(call, inputs[0], x => {
            let mut out = Vec::with_capacity(call.shape.iter().product());
            for o in 0..outer {
                for i in (self.start..self.end).step_by(self.step) {
                    out.extend_from_slice(&x[(o * size + i) * inner..][..inner]);
                }
            }
            out
        })
    }

    fn vjp(&self, _: &Call, reverse: &Reverse, grad: Vec<f32>, buffers: &mut Buffers) -> Result<Pullback, EvalError> {
        let (outer, size, inner) = axis_parts(reverse.inputs[0].shape(), self.axis);
        let mut dx = vec![0.0; reverse.inputs[0].len()];
        let places =
            (0..outer).flat_map(|o| (self.start..self.end).step_by(self.step).map(move |i| (o * size + i) * inner));
        for (place, g) in places.zip(grad.chunks_exact(inner)) {
            dx[place..][..inner].copy_from_slice(g);
        }
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}

/// Converts an index of an axis of this size to an index from 0. Negative indices count from the end.
fn from_start(index: i64, size: usize) -> usize {
    if index < 0 { (index + size as i64) as usize } else { index as usize }
}

impl Rule for Gather {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let (outer, size, inner) = axis_parts(inputs[0].shape(), self.axis);
        let indices = inputs[1].as_i64().ok_or_else(|| call.element_error("i64"))?;
        let all = -(size as i64)..size as i64;
        if let Some(&index) = indices.iter().find(|i| !all.contains(*i)) {
            return Err(EvalError::Index { place: call.graph.label(call.node), index, size });
        }
        moved!(call, inputs[0], x => {
            let mut out = Vec::with_capacity(call.shape.iter().product());
            for o in 0..outer {
                for &i in indices {
                    out.extend_from_slice(&x[(o * size + from_start(i, size)) * inner..][..inner]);
                }
            }
            out
        })
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let (outer, size, inner) = axis_parts(reverse.inputs[0].shape(), self.axis);
        let indices = reverse.inputs[1].as_i64().ok_or_else(|| call.element_error("i64"))?;
        let mut dx = vec![0.0; reverse.inputs[0].len()];
        let places = (0..outer).flat_map(|o| indices.iter().map(move |&i| (o * size + from_start(i, size)) * inner));
        for (place, g) in places.zip(grad.chunks_exact(inner)) {
            dx[place..][..inner].iter_mut().zip(g).for_each(|(d, g)| *d += g);
        }
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx), None]))
    }
}

impl Rule for Expand {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        moved!(call, inputs[0], x => {
            let mut out = Vec::with_capacity(call.shape.iter().product());
            runs(call.shape, [inputs[0].shape()], |run| {
                let x = &x[run.offset[0]..];
                if run.advances[0] {
                    out.extend_from_slice(&x[..run.len]);
                } else {
                    out.extend(std::iter::repeat_n(x[0], run.len));
                }
            });
            out
        })
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let mut dx = vec![0.0; reverse.inputs[0].len()];
        runs(call.shape, [reverse.inputs[0].shape()], |run| {
            let g = &grad[run.start..][..run.len];
            let dx = &mut dx[run.offset[0]..];
            if run.advances[0] {
                dx.iter_mut().zip(g).for_each(|(d, g)| *d += g);
            } else {
                dx[0] += g.iter().sum::<f32>();
            }
        });
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}
