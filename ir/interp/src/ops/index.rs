//! Gathering and scattering of elements by computed index, sorting, and running sums.

use super::reduce::axis_parts;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::ops::{Cumulate, GatherElements, Scatter, ScatterFlat, TopK};
use catc_ir::{Tensor, TensorData};
use std::cmp::Ordering;

/// Checks that all indices lie in `0..size`. The error names the first that does not.
fn indices<'t>(call: &Call, tensor: &'t Tensor, size: usize) -> Result<&'t [i64], EvalError> {
    let indices = tensor.as_i64().ok_or_else(|| call.element_error("i64"))?;
    match indices.iter().find(|i| !(0..size as i64).contains(*i)) {
        Some(&index) => Err(EvalError::Index { place: call.graph.label(call.node), index, size }),
        None => Ok(indices),
    }
}

/// The row-major position in the data for each index.
fn places(indices: &[i64], data: &[usize], shape: &[usize], axis: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    let mut found = Vec::with_capacity(indices.len());
    for &index in indices {
        let coordinate = |i: usize| if i == axis { index as usize } else { at[i] };
        found.push((0..data.len()).fold(0, |place, i| place * data[i] + coordinate(i)));
        for i in (0..shape.len()).rev() {
            at[i] += 1;
            if at[i] < shape[i] {
                break;
            }
            at[i] = 0;
        }
    }
    found
}

impl Rule for GatherElements {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let (data, shape) = (inputs[0].shape(), inputs[1].shape());
        let places = places(indices(call, &inputs[1], data[self.axis])?, data, shape, self.axis);
        macro_rules! take {
            ($v:expr) => {
                places.iter().map(|&p| $v[p]).collect()
            };
        }
        let data = match inputs[0].data() {
            TensorData::F32(v) => TensorData::F32(take!(v)),
            TensorData::I64(v) => TensorData::I64(take!(v)),
            TensorData::Bool(v) => TensorData::Bool(take!(v)),
            TensorData::Code(v) => TensorData::Code(take!(v)),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let (data, shape) = (reverse.inputs[0].shape(), reverse.inputs[1].shape());
        let places = places(indices(call, reverse.inputs[1], data[self.axis])?, data, shape, self.axis);
        let mut dx = vec![0.0; reverse.inputs[0].len()];
        places.iter().zip(&grad).for_each(|(&p, g)| dx[p] += g);
        Ok(Pullback::of([Some(dx), None]))
    }
}

fn scatter<T: Copy>(data: &[T], indices: &[i64], updates: &[T], join: impl Fn(T, T) -> T) -> Vec<T> {
    let mut out = data.to_vec();
    indices.iter().zip(updates).for_each(|(&i, &u)| out[i as usize] = join(out[i as usize], u));
    out
}

impl Rule for ScatterFlat {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let indices = indices(call, &inputs[1], inputs[0].len())?;
        let data = match (inputs[0].data(), inputs[2].data()) {
            (TensorData::F32(d), TensorData::F32(u)) => TensorData::F32(match self.join {
                Scatter::Replace => scatter(d, indices, u, |_, u| u),
                Scatter::Add => scatter(d, indices, u, |d, u| d + u),
                Scatter::Mul => scatter(d, indices, u, |d, u| d * u),
                Scatter::Max => scatter(d, indices, u, f32::max),
                Scatter::Min => scatter(d, indices, u, f32::min),
            }),
            (TensorData::I64(d), TensorData::I64(u)) => TensorData::I64(match self.join {
                Scatter::Replace => scatter(d, indices, u, |_, u| u),
                Scatter::Add => scatter(d, indices, u, i64::wrapping_add),
                Scatter::Mul => scatter(d, indices, u, i64::wrapping_mul),
                Scatter::Max => scatter(d, indices, u, i64::max),
                Scatter::Min => scatter(d, indices, u, i64::min),
            }),
            (TensorData::Bool(d), TensorData::Bool(u)) if self.join == Scatter::Replace => {
                TensorData::Bool(scatter(d, indices, u, |_, u| u))
            }
            _ => return Err(call.element_error("equal")),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let places = indices(call, reverse.inputs[1], grad.len())?;
        let updates = match self.join {
            Scatter::Add => places.iter().map(|&i| grad[i as usize]).collect(),
            Scatter::Replace => {
                // If several updates have the same position, only the last one counts.
                let mut taken = vec![false; grad.len()];
                let mut updates = vec![0.0; places.len()];
                for (u, &i) in updates.iter_mut().zip(places).rev() {
                    if !std::mem::replace(&mut taken[i as usize], true) {
                        *u = grad[i as usize];
                    }
                }
                grad.iter_mut().zip(taken).for_each(|(g, t)| *g = if t { 0.0 } else { *g });
                updates
            }
            _ => return Err(EvalError::NoGradient { place: call.graph.label(call.node), op: call.node.op.name() }),
        };
        Ok(Pullback::of([Some(grad), None, Some(updates)]))
    }
}

/// Finds the first `k` elements of each row along an axis, in the order of `before`. Calls `each` with their position in the
/// input and their index along the axis.
fn ranked<T: Copy>(
    op: &TopK,
    x: &[T],
    shape: &[usize],
    before: impl Fn(T, T) -> Ordering,
    mut each: impl FnMut(usize, usize),
) {
    let (outer, size, inner) = axis_parts(shape, op.axis);
    let mut order: Vec<usize> = vec![];
    for first in (0..outer).flat_map(|o| (0..inner).map(move |i| o * size * inner + i)) {
        order.clear();
        order.extend(0..size);
        let at = |j: usize| x[first + j * inner];
        // The sort is stable, so equal elements stay in the order of their indices.
        order.sort_by(|&a, &b| if op.largest { before(at(b), at(a)) } else { before(at(a), at(b)) });
        order.iter().take(op.k).for_each(|&j| each(first + j * inner, j));
    }
}

/// Rearranges results that were found row by row into the order of the output.
fn arranged<T: Copy + Default>(found: Vec<T>, shape: &[usize], axis: usize) -> Vec<T> {
    let (_, k, inner) = axis_parts(shape, axis);
    let mut out = vec![T::default(); found.len()];
    for (n, x) in found.into_iter().enumerate() {
        let (row, j) = (n / k, n % k);
        out[(row / inner * k + j) * inner + row % inner] = x;
    }
    out
}

impl Rule for TopK {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let shape = inputs[0].shape();
        let mut found: Vec<(usize, usize)> = vec![];
        let mut each = |place, index| found.push((place, index));
        match inputs[0].data() {
            TensorData::F32(x) => ranked(self, x, shape, |a, b| a.total_cmp(&b), &mut each),
            TensorData::I64(x) => ranked(self, x, shape, |a, b| a.cmp(&b), &mut each),
            _ => return Err(call.element_error("f32 or i64")),
        }
        let data = match (inputs[0].data(), self.indices) {
            (_, true) => TensorData::I64(found.iter().map(|&(_, i)| i as i64).collect()),
            (TensorData::F32(x), _) => TensorData::F32(found.iter().map(|&(p, _)| x[p]).collect()),
            (TensorData::I64(x), _) => TensorData::I64(found.iter().map(|&(p, _)| x[p]).collect()),
            _ => return Err(call.element_error("f32 or i64")),
        };
        let data = match data {
            TensorData::F32(v) => TensorData::F32(arranged(v, call.shape, self.axis)),
            TensorData::I64(v) => TensorData::I64(arranged(v, call.shape, self.axis)),
            other => other,
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }
}

/// Accumulates along an axis: each output element combines the elements before it with `join`. It includes the element at its own
/// position, unless the operation is exclusive.
fn cumulate<T: Copy>(op: &Cumulate, x: &[T], shape: &[usize], start: T, join: impl Fn(T, T) -> T) -> Vec<T> {
    let (outer, size, inner) = axis_parts(shape, op.axis);
    let mut out = x.to_vec();
    for first in (0..outer).flat_map(|o| (0..inner).map(move |i| o * size * inner + i)) {
        let mut sum = start;
        for step in 0..size {
            let place = first + if op.reverse { size - 1 - step } else { step } * inner;
            let next = join(sum, x[place]);
            out[place] = if op.exclusive { sum } else { next };
            sum = next;
        }
    }
    out
}

impl Rule for Cumulate {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let data = match inputs[0].data() {
            TensorData::F32(x) if self.product => TensorData::F32(cumulate(self, x, call.shape, 1.0, |a, b| a * b)),
            TensorData::F32(x) => TensorData::F32(cumulate(self, x, call.shape, 0.0, |a, b| a + b)),
            TensorData::I64(x) if self.product => TensorData::I64(cumulate(self, x, call.shape, 1, i64::wrapping_mul)),
            TensorData::I64(x) => TensorData::I64(cumulate(self, x, call.shape, 0, i64::wrapping_add)),
            _ => return Err(call.element_error("f32 or i64")),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    fn vjp(&self, call: &Call, _: &Reverse, grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        if self.product {
            return Err(EvalError::NoGradient { place: call.graph.label(call.node), op: call.node.op.name() });
        }
        let back = Cumulate { reverse: !self.reverse, ..*self };
        Ok(Pullback::of([Some(cumulate(&back, &grad, call.shape, 0.0, |a, b| a + b))]))
    }
}
