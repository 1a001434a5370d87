//! Element-wise functions.

use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::broadcast::{Run, runs};
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use catc_ir::ops::Binary;
use catc_ir::{Tensor, TensorData};
use catc_scalar::{Unary, UnaryFunction, UncompiledUnary, Visitor, sum4};
use pulp::Arch;

/// Applies a function to each element. It is a visitor, so the compiler generates a separate vectorized loop for each function.
struct InPlace<'a>(&'a mut [f32]);

impl Visitor for InPlace<'_> {
    type Output = ();

    fn visit<F: UnaryFunction>(self, f: F) {
        Arch::new().dispatch(|| self.0.iter_mut().for_each(|x| *x = f.at(*x)));
    }
}

/// Computes `t = f(t)` for each element.
pub(crate) fn unary_in_place(f: Unary, t: &mut [f32]) {
    f.visit(InPlace(t));
}

/// Multiplies gradients by the derivatives of a function.
struct Slopes<'a> {
    grad: &'a mut [f32],
    x: &'a [f32],
    y: &'a [f32],
}

impl Visitor for Slopes<'_> {
    type Output = ();

    fn visit<F: UnaryFunction>(self, f: F) {
        let points = self.x.iter().zip(self.y);
        Arch::new().dispatch(|| self.grad.iter_mut().zip(points).for_each(|(g, (&x, &y))| *g *= f.slope(x, y)));
    }
}

/// Runs `$body` with `$op` bound to the function as a constant, so that the function is selected outside the loops.
macro_rules! each_binary {
    ($f:expr, $op:ident => $body:expr) => {
        match $f {
            Binary::Add => {
                const $op: Binary = Binary::Add;
                $body
            }
            Binary::Sub => {
                const $op: Binary = Binary::Sub;
                $body
            }
            Binary::Mul => {
                const $op: Binary = Binary::Mul;
                $body
            }
            Binary::Div => {
                const $op: Binary = Binary::Div;
                $body
            }
            Binary::Max => {
                const $op: Binary = Binary::Max;
                $body
            }
            Binary::Min => {
                const $op: Binary = Binary::Min;
                $body
            }
            Binary::Pow => {
                const $op: Binary = Binary::Pow;
                $body
            }
            Binary::Mod => {
                const $op: Binary = Binary::Mod;
                $body
            }
            Binary::Fmod => {
                const $op: Binary = Binary::Fmod;
                $body
            }
        }
    };
}

/// Computes `t = t op r`, where `r` of shape `r_shape` broadcasts to the shape of `t`.
pub(crate) fn binary_in_place(f: Binary, t: &mut [f32], shape: &[usize], r: &[f32], r_shape: &[usize]) {
    runs(shape, [r_shape], |run| {
        let t = &mut t[run.start..][..run.len];
        each_binary!(f, OP => if run.advances[0] {
            let r = &r[run.offset[0]..][..run.len];
            Arch::new().dispatch(|| t.iter_mut().zip(r).for_each(|(t, r)| *t = OP.apply(*t, *r)));
        } else {
            let r = r[run.offset[0]];
            Arch::new().dispatch(|| t.iter_mut().for_each(|t| *t = OP.apply(*t, r)));
        });
    });
}

/// Applies `f` to each pair of elements of two tensors that broadcast to `shape`.
pub(crate) fn zip<A: Copy, B>(
    shape: &[usize],
    shapes: [&[usize]; 2],
    a: &[A],
    b: &[A],
    mut f: impl FnMut(A, A) -> B,
) -> Vec<B> {
    let mut out = Vec::with_capacity(shape.iter().product());
    runs(shape, shapes, |run| {
        let at = |k: usize, i: usize| run.offset[k] + if run.advances[k] { i } else { 0 };
        out.extend((0..run.len).map(|i| f(a[at(0, i)], b[at(1, i)])));
    });
    out
}

impl Rule for UncompiledUnary {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = call.take_f32(&mut inputs[0], buffers)?;
        t.iter_mut().for_each(|x| *x = self.apply(*x));
        Ok(call.output(t))
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let x = call.f32(reverse.inputs[0])?;
        grad.iter_mut().zip(x).for_each(|(g, &x)| *g *= self.slope(x));
        Ok(Pullback::of([Some(grad)]))
    }
}

impl Rule for Unary {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let mut t = call.take_f32(&mut inputs[0], buffers)?;
        unary_in_place(*self, &mut t);
        Ok(call.output(t))
    }

    fn vjp(&self, call: &Call, reverse: &Reverse, mut grad: Vec<f32>, _: &mut Buffers) -> Result<Pullback, EvalError> {
        let (x, y) = (call.f32(reverse.inputs[0])?, call.f32(reverse.output)?);
        self.visit(Slopes { grad: &mut grad, x, y });
        Ok(Pullback::of([Some(grad)]))
    }
}

impl Rule for Binary {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        if let (TensorData::I64(a), TensorData::I64(b)) = (inputs[0].data(), inputs[1].data()) {
            let shapes = [inputs[0].shape(), inputs[1].shape()];
            return Ok(Tensor::i64(call.shape, zip(call.shape, shapes, a, b, |a, b| self.apply_whole(a, b))));
        }
        if inputs[0].shape() == call.shape {
            let mut t = call.take_f32(&mut inputs[0], buffers)?;
            binary_in_place(*self, &mut t, call.shape, call.f32(&inputs[1])?, inputs[1].shape());
            return Ok(call.output(t));
        }
        let (a, b) = (call.f32(&inputs[0])?, call.f32(&inputs[1])?);
        let mut out = buffers.f32(call.shape.iter().product());
        runs(call.shape, [inputs[0].shape(), inputs[1].shape()], |run| {
            let out = &mut out[run.start..][..run.len];
            let at = |k: usize, i: usize| run.offset[k] + if run.advances[k] { i } else { 0 };
            for (i, o) in out.iter_mut().enumerate() {
                *o = self.apply(a[at(0, i)], b[at(1, i)]);
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
        if matches!(self, Binary::Mod | Binary::Fmod) {
            return Err(EvalError::NoGradient { place: call.graph.label(call.node), op: call.node.op.name() });
        }
        let (a, b) = (call.f32(reverse.inputs[0])?, call.f32(reverse.inputs[1])?);
        let shapes = [reverse.inputs[0].shape(), reverse.inputs[1].shape()];
        let mut pulled = [None, None];
        // The last side reuses the memory of the gradient.
        let mut grad = Some(grad);
        for side in (0..2).filter(|&side| reverse.needs[side]) {
            let mut terms = match grad.take() {
                Some(g) if side == 0 && reverse.needs[1] => {
                    let mut copy = buffers.f32(g.len());
                    copy.copy_from_slice(&g);
                    grad = Some(g);
                    copy
                }
                Some(g) => g,
                None => continue,
            };
            if !matches!((self, side), (Binary::Add, _) | (Binary::Sub, 0)) {
                runs(call.shape, shapes, |run| slopes(*self, side, &mut terms, [a, b], &run));
            }
            if shapes[side] == call.shape {
                pulled[side] = Some(terms);
                continue;
            }
            let mut sums = buffers.zeros(reverse.inputs[side].len());
            runs(call.shape, shapes, |run| {
                let (terms, sums) = (&terms[run.start..][..run.len], &mut sums[run.offset[side]..]);
                if run.advances[side] {
                    Arch::new().dispatch(|| sums.iter_mut().zip(terms).for_each(|(s, t)| *s += t));
                } else {
                    sums[0] += sum4(terms);
                }
            });
            buffers.give_f32(terms);
            pulled[side] = Some(sums);
        }
        grad.into_iter().for_each(|g| buffers.give_f32(g));
        Ok(Pullback::of(pulled))
    }
}

/// Multiplies the gradients `t` of a run by the partial derivatives of `f` with respect to one side.
fn slopes(f: Binary, side: usize, t: &mut [f32], inputs: [&[f32]; 2], run: &Run<2>) {
    let t = &mut t[run.start..][..run.len];
    let part = |k: usize| &inputs[k][run.offset[k]..][..if run.advances[k] { run.len } else { 1 }];
    let (a, b) = (part(0), part(1));
    let arch = Arch::new();
    match (f, side) {
        (Binary::Add, _) | (Binary::Sub, 0) => {}
        (Binary::Sub, _) => arch.dispatch(|| t.iter_mut().for_each(|t| *t = -*t)),
        (Binary::Mul, side) => match if side == 0 { b } else { a } {
            &[other] => arch.dispatch(|| t.iter_mut().for_each(|t| *t *= other)),
            other => arch.dispatch(|| t.iter_mut().zip(other).for_each(|(t, o)| *t *= o)),
        },
        (Binary::Div, 0) => match b {
            &[b] => arch.dispatch(|| t.iter_mut().for_each(|t| *t /= b)),
            b => arch.dispatch(|| t.iter_mut().zip(b).for_each(|(t, b)| *t /= b)),
        },
        (Binary::Div, _) => {
            let (a, b) = (a.iter().cycle(), b.iter().cycle());
            t.iter_mut().zip(a.zip(b)).for_each(|(t, (a, b))| *t *= -(a / b) / b);
        }
        (Binary::Max | Binary::Min | Binary::Pow | Binary::Mod | Binary::Fmod, side) => {
            let (a, b) = (a.iter().cycle(), b.iter().cycle());
            t.iter_mut().zip(a.zip(b)).for_each(|(t, (&a, &b))| *t *= slope(f, side, a, b));
        }
    }
}

/// The partial derivative of `f` with respect to one side at one pair, for functions without a specialized loop.
fn slope(f: Binary, side: usize, a: f32, b: f32) -> f32 {
    match (f, side) {
        // If both are equal, the gradient goes to the first.
        (Binary::Max, 0) => f32::from(u8::from(a >= b)),
        (Binary::Max, _) => f32::from(u8::from(b > a)),
        (Binary::Min, 0) => f32::from(u8::from(a <= b)),
        (Binary::Min, _) => f32::from(u8::from(b < a)),
        (Binary::Pow, 0) => b * Binary::Pow.apply(a, b - 1.0),
        (Binary::Pow, _) => Binary::Pow.apply(a, b) * a.ln(),
        // The other functions have specialized loops or no gradient.
        _ => 0.0,
    }
}
