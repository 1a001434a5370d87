//! The operations of the cluster-wise affine correction, as [`catc_scalar`] defines them.

use super::reduce::axis_parts;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::Tensor;
use catc_ir::ops::{ArgMin, Blend, SquaredDistance};
use catc_scalar::sum4_of;
use pulp::Arch;

impl Rule for SquaredDistance {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let (x, c) = (call.f32(&inputs[0])?, call.f32(&inputs[1])?);
        let (k, p) = (inputs[1].shape()[0], inputs[1].shape()[1]);
        let mut out = buffers.f32(call.shape.iter().product());
        for (i, row) in out.chunks_exact_mut(k).enumerate() {
            for (j, y) in row.iter_mut().enumerate() {
                let pairs = x[i * p..][..p].iter().zip(&c[j * p..][..p]);
                *y = sum4_of(pairs.map(|(x, c)| (x - c) * (x - c)));
            }
        }
        Ok(call.output(out))
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let (x, c) = (call.f32(reverse.inputs[0])?, call.f32(reverse.inputs[1])?);
        let (k, p) = (reverse.inputs[1].shape()[0], reverse.inputs[1].shape()[1]);
        let (mut dx, mut dc) = (vec![0.0; x.len()], vec![0.0; c.len()]);
        for (i, row) in grad.chunks_exact(k).enumerate() {
            for (j, g) in row.iter().enumerate() {
                for e in 0..p {
                    let d = 2.0 * g * (x[i * p + e] - c[j * p + e]);
                    dx[i * p + e] += d;
                    dc[j * p + e] -= d;
                }
            }
        }
        buffers.give_f32(grad);
        Ok(Pullback::of([Some(dx), Some(dc)]))
    }
}

impl Rule for ArgMin {
    /// NaN never counts as smaller. If every element is NaN, the index is 0.
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let x = call.f32(&inputs[0])?;
        let (outer, size, inner) = axis_parts(inputs[0].shape(), self.axis);
        let mut out = Vec::with_capacity(outer * inner);
        for o in 0..outer {
            for i in 0..inner {
                let at = |j: usize| x[(o * size + j) * inner + i];
                let mut best = 0;
                for j in 1..size {
                    if at(j) < at(best) {
                        best = j;
                    }
                }
                out.push(best as i64);
            }
        }
        Ok(Tensor::i64(call.shape, out))
    }
}

impl Rule for Blend {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = call.take_f32(&mut inputs[0], buffers)?;
        let b = call.f32(&inputs[1])?;
        let (keep, alpha) = (1.0 - self.alpha, self.alpha);
        Arch::new().dispatch(|| t.iter_mut().zip(b).for_each(|(a, b)| *a = keep * *a + alpha * b));
        Ok(call.output(t))
    }
    fn vjp(
        &self,
        _: &Call,
        reverse: &Reverse,
        mut grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let alpha = self.alpha;
        let db = reverse.needs[1].then(|| {
            let mut db = buffers.f32(grad.len());
            db.iter_mut().zip(&grad).for_each(|(d, g)| *d = alpha * g);
            db
        });
        grad.iter_mut().for_each(|g| *g *= 1.0 - alpha);
        Ok(Pullback::of([Some(grad), db]))
    }
}
