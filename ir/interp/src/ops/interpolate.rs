//! Interpolation along one axis.

use super::reduce::axis_parts;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::Tensor;
use catc_ir::ops::Interpolate;
use pulp::Arch;

/// The taps of an interpolation of a tensor, in which slices of the axis have `inner` contiguous elements.
pub(super) struct Taps<'t> {
    indices: &'t [i64],
    weights: &'t [f32],
    /// Taps of a slice of the output.
    count: usize,
    size: usize,
    inner: usize,
}

impl<'t> Taps<'t> {
    /// The taps of a node for its inputs x, indices and weights, whose indices are checked.
    pub fn of(call: &Call, op: &Interpolate, [x, indices, weights]: [&'t Tensor; 3]) -> Result<Self, EvalError> {
        let (_, size, inner) = axis_parts(x.shape(), op.axis);
        let count = indices.shape().last().copied().unwrap_or(1);
        let indices = indices.as_i64().ok_or_else(|| call.element_error("i64"))?;
        if let Some(&index) = indices.iter().find(|i| !(0..size as i64).contains(*i)) {
            return Err(EvalError::Index { place: call.graph.label(call.node), index, size });
        }
        Ok(Taps { indices, weights: call.f32(weights)?, count, size, inner })
    }

    /// Calls `f` for each slice of the output of this many elements in order, with its range and the number of its row of taps.
    fn each(&self, elements: usize, mut f: impl FnMut(usize, usize, usize)) {
        let rows = self.indices.len() / self.count;
        for (number, start) in (0..elements).step_by(self.inner.max(1)).enumerate() {
            f(number / rows, number % rows, start);
        }
    }

    /// The place and weight of each tap of a row, in the part `outer` of the input.
    fn row(&self, outer: usize, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let taps = row * self.count..(row + 1) * self.count;
        let first = outer * self.size;
        let places = self.indices[taps.clone()].iter().map(move |&i| (first + i as usize) * self.inner);
        places.zip(self.weights[taps].iter().copied())
    }

    /// Writes the sum of each element of the output.
    pub fn sums(&self, x: &[f32], out: &mut [f32]) {
        let arch = Arch::new();
        self.each(out.len(), |outer, row, start| {
            let to = &mut out[start..][..self.inner];
            for (number, (place, weight)) in self.row(outer, row).enumerate() {
                let from = &x[place..][..self.inner];
                if self.inner == 1 {
                    to[0] = if number == 0 { weight * from[0] } else { to[0] + weight * from[0] };
                } else if number == 0 {
                    arch.dispatch(|| to.iter_mut().zip(from).for_each(|(y, x)| *y = weight * x));
                } else {
                    arch.dispatch(|| to.iter_mut().zip(from).for_each(|(y, x)| *y += weight * x));
                }
            }
        });
    }
}

impl Rule for Interpolate {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut out = buffers.f32(call.shape.iter().product());
        let taps = Taps::of(call, self, [&inputs[0], &inputs[1], &inputs[2]])?;
        taps.sums(call.f32(&inputs[0])?, &mut out);
        Ok(call.output(out))
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let taps = Taps::of(call, self, [reverse.inputs[0], reverse.inputs[1], reverse.inputs[2]])?;
        let dx = reverse.needs[0].then(|| {
            let mut dx = vec![0.0; reverse.inputs[0].len()];
            taps.each(grad.len(), |outer, row, start| {
                for (place, weight) in taps.row(outer, row) {
                    let g = &grad[start..][..taps.inner];
                    dx[place..][..taps.inner].iter_mut().zip(g).for_each(|(d, g)| *d += weight * g);
                }
            });
            dx
        });
        let mut dw = None;
        if reverse.needs[2] {
            let x = call.f32(reverse.inputs[0])?;
            let mut sums = vec![0.0; taps.weights.len()];
            taps.each(grad.len(), |outer, row, start| {
                let g = &grad[start..][..taps.inner];
                for (number, (place, _)) in taps.row(outer, row).enumerate() {
                    let products = x[place..][..taps.inner].iter().zip(g).map(|(x, g)| x * g);
                    sums[row * taps.count + number] += products.sum::<f32>();
                }
            });
            dw = Some(sums);
        }
        buffers.give_f32(grad);
        Ok(Pullback::of([dx, None, dw]))
    }
}
