//! Comparison, selection and conversion of element types.

use super::elementwise::zip;
use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::broadcast::runs;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::ops::{Cast, CastTo, Compare, Where};
use catc_ir::{Tensor, TensorData};
use pulp::Arch;

impl Rule for Compare {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let shapes = [inputs[0].shape(), inputs[1].shape()];
        let found = match (inputs[0].data(), inputs[1].data()) {
            (TensorData::F32(a), TensorData::F32(b)) => zip(call.shape, shapes, a, b, |a, b| self.apply(a, b, 0.0)),
            (TensorData::I64(a), TensorData::I64(b)) => zip(call.shape, shapes, a, b, |a, b| self.apply(a, b, 0)),
            (TensorData::Bool(a), TensorData::Bool(b)) => zip(call.shape, shapes, a, b, |a, b| self.apply(a, b, false)),
            _ => return Err(call.element_error("equal")),
        };
        Ok(Tensor::new(call.shape.to_vec(), TensorData::Bool(found)))
    }
}

/// Whether the three inputs have the same shape, so that no element is broadcast.
fn alike(inputs: [&[usize]; 3]) -> bool {
    inputs[0] == inputs[1] && inputs[1] == inputs[2]
}

/// Computes `condition ? a : b`, broadcast to the shape of the call.
fn choose<T: Copy>(call: &Call, inputs: &[Input], condition: &[bool], a: &[T], b: &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(call.shape.iter().product());
    runs(call.shape, [inputs[0].shape(), inputs[1].shape(), inputs[2].shape()], |run| {
        let at = |k: usize, i: usize| run.offset[k] + if run.advances[k] { i } else { 0 };
        out.extend((0..run.len).map(|i| if condition[at(0, i)] { a[at(1, i)] } else { b[at(2, i)] }));
    });
    out
}

impl Rule for Where {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let TensorData::Bool(condition) = inputs[0].data() else { return Err(call.element_error("bool")) };
        if let (TensorData::F32(a), TensorData::F32(b), true) =
            (inputs[1].data(), inputs[2].data(), alike([0, 1, 2].map(|i| inputs[i].shape())))
        {
            let mut out = buffers.f32(a.len());
            Arch::new().dispatch(|| {
                for (((out, c), a), b) in out.iter_mut().zip(condition).zip(a).zip(b) {
                    *out = if *c { *a } else { *b };
                }
            });
            return Ok(call.output(out));
        }
        let data = match (inputs[1].data(), inputs[2].data()) {
            (TensorData::F32(a), TensorData::F32(b)) => TensorData::F32(choose(call, inputs, condition, a, b)),
            (TensorData::I64(a), TensorData::I64(b)) => TensorData::I64(choose(call, inputs, condition, a, b)),
            (TensorData::Bool(a), TensorData::Bool(b)) => TensorData::Bool(choose(call, inputs, condition, a, b)),
            _ => return Err(call.element_error("equal")),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        mut grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let TensorData::Bool(condition) = reverse.inputs[0].data() else { return Err(call.element_error("bool")) };
        if alike([0, 1, 2].map(|i| reverse.inputs[i].shape())) {
            let mut a = buffers.f32(grad.len());
            Arch::new().dispatch(|| {
                for ((g, a), c) in grad.iter_mut().zip(&mut a).zip(condition) {
                    *a = if *c { *g } else { 0.0 };
                    *g = if *c { 0.0 } else { *g };
                }
            });
            return Ok(Pullback::of([None, Some(a), Some(grad)]));
        }
        let mut parts = [1, 2].map(|k| reverse.needs[k].then(|| vec![0.0; reverse.inputs[k].len()]));
        runs(call.shape, [0, 1, 2].map(|k| reverse.inputs[k].shape()), |run| {
            let at = |k: usize, i: usize| run.offset[k] + if run.advances[k] { i } else { 0 };
            for i in 0..run.len {
                let side = if condition[at(0, i)] { 0 } else { 1 };
                if let Some(part) = &mut parts[side] {
                    part[at(side + 1, i)] += grad[run.start + i];
                }
            }
        });
        buffers.give_f32(grad);
        let [a, b] = parts;
        Ok(Pullback::of([None, a, b]))
    }
}

impl Rule for Cast {
    fn forward(&self, call: &Call, inputs: &mut [Input], _: &mut Buffers) -> Result<Tensor, EvalError> {
        let data = match (inputs[0].data(), self.to) {
            (TensorData::F32(v), CastTo::F32) => TensorData::F32(v.clone()),
            (TensorData::F32(v), CastTo::I64) => TensorData::I64(v.iter().map(|&x| x as i64).collect()),
            (TensorData::F32(v), CastTo::Bool) => TensorData::Bool(v.iter().map(|&x| x != 0.0).collect()),
            (TensorData::I64(v), CastTo::F32) => TensorData::F32(v.iter().map(|&x| x as f32).collect()),
            (TensorData::I64(v), CastTo::I64) => TensorData::I64(v.clone()),
            (TensorData::I64(v), CastTo::Bool) => TensorData::Bool(v.iter().map(|&x| x != 0).collect()),
            (TensorData::Bool(v), CastTo::F32) => TensorData::F32(v.iter().map(|&x| f32::from(u8::from(x))).collect()),
            (TensorData::Bool(v), CastTo::I64) => TensorData::I64(v.iter().map(|&x| x.into()).collect()),
            (TensorData::Bool(v), CastTo::Bool) => TensorData::Bool(v.clone()),
            (TensorData::Code(_), _) => return Err(call.element_error("f32, i64 or bool")),
        };
        Ok(Tensor::new(call.shape.to_vec(), data))
    }
}
