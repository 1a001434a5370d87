//! Normalizations, in the operations that [`catc_ir::math`] lists.

use super::Rule;
use super::reduce::axis_parts;
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::Tensor;
use catc_ir::math::{exp, max, sum4};
use catc_ir::ops::{BatchNorm, Softmax};
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
}

/// Softmax of one row.
fn softmax(row: &mut [f32]) {
    let top = row.iter().fold(f32::NEG_INFINITY, |m, &x| max(x, m));
    Arch::new().dispatch(|| row.iter_mut().for_each(|x| *x = exp(*x - top)));
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
}
