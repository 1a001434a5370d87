//! Matrix products. In the integer phase each element is one [`dot4`]. In the other phases the GEMM crate computes the product of
//! each image.

use super::{Pullback, Reverse, Rule};
use crate::EvalError;
use crate::broadcast::runs;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use crate::gemm::{Matrix, gemm_f32};
use catc_ir::Tensor;
use catc_ir::ops::{Linear, MatMul};
use catc_scalar::dot4;

impl Rule for Linear {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let (x, w) = (call.f32(&inputs[0])?, call.f32(&inputs[1])?);
        let bias = inputs.get(2).map(|b| call.f32(b)).transpose()?;
        let [o, k] = [inputs[1].shape()[0], inputs[1].shape()[1]];
        let mut out = buffers.f32(call.shape.iter().product());
        if call.exact() {
            for (i, row) in out.chunks_exact_mut(o).enumerate() {
                let x = &x[i * k..][..k];
                for (j, y) in row.iter_mut().enumerate() {
                    let dot = dot4(x, &w[j * k..][..k]);
                    *y = bias.map_or(dot, |b| dot + b[j]);
                }
            }
            return Ok(call.output(out));
        }
        for row in out.chunks_exact_mut(o) {
            match bias {
                Some(b) => row.copy_from_slice(b),
                None => row.fill(0.0),
            }
        }
        let rows = out.len() / o / call.images(0);
        for (i, image) in out.chunks_exact_mut(rows * o).enumerate() {
            let x = &x[i * rows * k..][..rows * k];
            gemm_f32([rows, o, k], image, o, true, Matrix::rows(x, k), Matrix::transposed(w, k));
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
        let (x, w) = (call.f32(reverse.inputs[0])?, call.f32(reverse.inputs[1])?);
        let [o, k] = [reverse.inputs[1].shape()[0], reverse.inputs[1].shape()[1]];
        let rows = grad.len() / o;
        let dy = Matrix::rows(&grad, o);
        let dx = reverse.needs[0].then(|| {
            let mut dx = buffers.f32(x.len());
            gemm_f32([rows, k, o], &mut dx, k, false, dy, Matrix::rows(w, k));
            dx
        });
        let dw = reverse.needs[1].then(|| {
            let mut dw = buffers.f32(w.len());
            gemm_f32([o, k, rows], &mut dw, k, false, dy.transpose(), Matrix::rows(x, k));
            dw
        });
        let db = reverse.needs.get(2).is_some_and(|&n| n).then(|| {
            let mut db = vec![0.0; o];
            grad.chunks_exact(o).for_each(|row| db.iter_mut().zip(row).for_each(|(d, g)| *d += g));
            db
        });
        buffers.give_f32(grad);
        Ok(Pullback::of([dx, dw, db]))
    }
}

impl Rule for MatMul {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let (a, b) = (call.f32(&inputs[0])?, call.f32(&inputs[1])?);
        let (sa, sb) = (inputs[0].shape(), inputs[1].shape());
        let (la, lb) = (sa.len() - 2, sb.len() - 2);
        let [m, k, n] = [sa[la], sa[la + 1], sb[lb + 1]];
        let mut out = buffers.f32(call.shape.iter().product());
        let mut column = vec![];
        let lead = &call.shape[..call.shape.len() - 2];
        // If the rows of a rank-2 matrix are images, each image gets a separate product, so its result does not depend on the
        // batch.
        let parts = if la == 0 { call.images(0) } else { 1 };
        runs(lead, [&sa[..la], &sb[..lb]], |run| {
            for i in 0..run.len {
                let at = |j: usize| run.offset[j] + if run.advances[j] { i } else { 0 };
                let a = &a[at(0) * m * k..][..m * k];
                let b = &b[at(1) * k * n..][..k * n];
                let out = &mut out[(run.start + i) * m * n..][..m * n];
                if call.exact() {
                    for j in 0..n {
                        column.clear();
                        column.extend(b.iter().skip(j).step_by(n).take(k));
                        (0..m).for_each(|r| out[r * n + j] = dot4(&a[r * k..][..k], &column));
                    }
                } else {
                    let rows = m / parts;
                    for (p, out) in out.chunks_exact_mut(rows * n).enumerate() {
                        let a = &a[p * rows * k..][..rows * k];
                        gemm_f32([rows, n, k], out, n, false, Matrix::rows(a, k), Matrix::rows(b, n));
                    }
                }
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
        let (a, b) = (call.f32(reverse.inputs[0])?, call.f32(reverse.inputs[1])?);
        let (sa, sb) = (reverse.inputs[0].shape(), reverse.inputs[1].shape());
        let (la, lb) = (sa.len() - 2, sb.len() - 2);
        let [m, k, n] = [sa[la], sa[la + 1], sb[lb + 1]];
        let mut da = reverse.needs[0].then(|| vec![0.0; a.len()]);
        let mut db = reverse.needs[1].then(|| vec![0.0; b.len()]);
        runs(&call.shape[..call.shape.len() - 2], [&sa[..la], &sb[..lb]], |run| {
            for i in 0..run.len {
                let at = |j: usize| run.offset[j] + if run.advances[j] { i } else { 0 };
                let (pa, pb) = (at(0) * m * k, at(1) * k * n);
                let dy = Matrix::rows(&grad[(run.start + i) * m * n..][..m * n], n);
                if let Some(da) = &mut da {
                    let b = Matrix::transposed(&b[pb..][..k * n], n);
                    gemm_f32([m, k, n], &mut da[pa..][..m * k], k, true, dy, b);
                }
                if let Some(db) = &mut db {
                    let a = Matrix::transposed(&a[pa..][..m * k], k);
                    gemm_f32([k, n, m], &mut db[pb..][..k * n], n, true, a, dy);
                }
            }
        });
        buffers.give_f32(grad);
        Ok(Pullback::of([da, db]))
    }
}
