//! Reductions over axes.

use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::ops::{self, Reduce, ReduceMean};
use catc_ir::{Tensor, TensorData};
use catc_scalar::{sum4, sum4_of};

/// A shape as `(outer, size, inner)` around an axis.
pub(crate) fn axis_parts(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// The positions of the elements of a reduction.
pub(crate) struct Reduction {
    /// The position of the first element for each output, in order.
    pub bases: Vec<usize>,
    /// The offsets of the elements of each sum from its first element, in row-major order.
    pub offsets: Vec<usize>,
}

impl Reduction {
    /// The reduction of `shape` over `axes`.
    pub fn new(shape: &[usize], axes: &[usize]) -> Self {
        let walk = |reduced: bool| {
            let mut places = vec![0];
            let mut stride: usize = shape.iter().product();
            for (i, &n) in shape.iter().enumerate() {
                stride /= n.max(1);
                if axes.contains(&i) == reduced {
                    places = places.iter().flat_map(|&p| (0..n).map(move |j| p + j * stride)).collect();
                }
            }
            places
        };
        Reduction { bases: walk(false), offsets: walk(true) }
    }

    /// The number of terms in each sum.
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Whether the terms of a sum are contiguous.
    pub fn is_contiguous(&self) -> bool {
        self.offsets.last().is_none_or(|&last| last + 1 == self.offsets.len())
    }
}

impl Rule for ReduceMean {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let x = call.f32(&inputs[0])?;
        let r = Reduction::new(inputs[0].shape(), &self.axes);
        let mut out = buffers.f32(r.bases.len());
        let count = r.count() as f32;
        for (y, &base) in out.iter_mut().zip(&r.bases) {
            let sum = if r.is_contiguous() {
                sum4(&x[base..][..r.count()])
            } else {
                sum4_of(r.offsets.iter().map(|o| x[base + o]))
            };
            *y = sum / count;
        }
        Ok(call.output(out))
    }
    fn vjp(&self, _: &Call, reverse: &Reverse, grad: Vec<f32>, buffers: &mut Buffers) -> Result<Pullback, EvalError> {
        let r = Reduction::new(reverse.inputs[0].shape(), &self.axes);
        let mut dx = buffers.f32(reverse.inputs[0].len());
        let count = r.count() as f32;
        for (g, &base) in grad.iter().zip(&r.bases) {
            r.offsets.iter().for_each(|o| dx[base + o] = g / count);
        }
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx)]))
    }
}

impl Rule for Reduce {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        use ops::Reduction::{Max, Min, Prod, Sum};
        let r = Reduction::new(inputs[0].shape(), &self.axes);
        match inputs[0].data() {
            TensorData::F32(x) => {
                let mut out = buffers.f32(r.bases.len());
                for (y, &base) in out.iter_mut().zip(&r.bases) {
                    let items = r.offsets.iter().map(|o| x[base + o]);
                    *y = match self.kind {
                        Sum => sum4_of(items),
                        Prod => items.product(),
                        Max => items.reduce(|a, b| ops::Binary::Max.apply(a, b)).unwrap_or(f32::NEG_INFINITY),
                        Min => items.reduce(|a, b| ops::Binary::Min.apply(a, b)).unwrap_or(f32::INFINITY),
                    };
                }
                Ok(call.output(out))
            }
            TensorData::I64(x) => {
                let one = |&base: &usize| {
                    let items = r.offsets.iter().map(|o| x[base + o]);
                    match self.kind {
                        Sum => items.fold(0, i64::wrapping_add),
                        Prod => items.fold(1, i64::wrapping_mul),
                        Max => items.max().unwrap_or(i64::MIN),
                        Min => items.min().unwrap_or(i64::MAX),
                    }
                };
                Ok(Tensor::i64(call.shape, r.bases.iter().map(one).collect()))
            }
            _ => Err(call.element_error("f32 or i64")),
        }
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let (x, y) = (call.f32(reverse.inputs[0])?, call.f32(reverse.output)?);
        let r = Reduction::new(reverse.inputs[0].shape(), &self.axes);
        let mut dx = vec![0.0; x.len()];
        for ((g, y), &base) in grad.iter().zip(y).zip(&r.bases) {
            match self.kind {
                ops::Reduction::Sum => r.offsets.iter().for_each(|o| dx[base + o] = *g),
                ops::Reduction::Prod => r.offsets.iter().for_each(|o| {
                    let others = r.offsets.iter().filter(|p| *p != o).map(|p| x[base + p]);
                    dx[base + o] = g * others.product::<f32>();
                }),
                // The gradient goes to the first of equal elements.
                ops::Reduction::Max | ops::Reduction::Min => {
                    if let Some(o) = r.offsets.iter().find(|o| x[base + **o] == *y) {
                        dx[base + o] = *g;
                    }
                }
            }
        }
        Ok(Pullback::of([Some(dx)]))
    }
}
