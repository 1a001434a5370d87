//! Gemm (6, 7, 9, 11, 13) and MatMul (1, 9, 13).

use super::layout::transposed;
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, Linear, MatMul, Reshape, Transpose};
use catc_ir::{Dim, Op, Shape, Tensor};

pub(super) fn gemm(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let c = if cx.has_input(2) { Some(cx.input(2)?) } else { None };
    product(cx, a, b, c)
}

/// Builds `alpha * a * b + beta * c` with the attributes of the node.
pub(super) fn product(cx: &mut NodeContext, mut a: Value, b: Value, c: Option<Value>) -> RuleResult {
    let (alpha, beta) = (cx.float("alpha")?.unwrap_or(1.0), cx.float("beta")?.unwrap_or(1.0));
    let (trans_a, trans_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    if cx.opset < 7 {
        // The shapes determine the broadcast.
        cx.ignore("broadcast");
    }
    for (i, v) in [&a, &b].into_iter().enumerate() {
        let shape = cx.shape(v);
        if shape.rank() != 2 {
            return Err(NodeProblem::input(i, format!("has shape {shape}, two dimensions are needed")));
        }
    }
    if trans_a {
        a = cx.emit_on(Op::Transpose(Transpose { perm: vec![1, 0] }), &a)?;
    }
    let c = c.filter(|_| beta != 0.0);

    if let Value::Known(Known::Tensor(weights)) = &b
        && weights.as_f32().is_some()
    {
        let weights: Value = match (trans_b, alpha == 1.0) {
            (true, true) => b.clone(),
            _ => Known::from(scaled(weights, !trans_b, alpha)).into(),
        };
        let outputs = cx.shape(&weights).dims()[0].at_batch(1);
        let mut operands = vec![cx.operand(0, &a)?, cx.operand(1, &weights)?];
        // A file for one image may merge the rows of a sequence with the batch. The symbolic batch then ends up in the columns,
        // so the three dimensions are separated again.
        let joined = match (cx.shape(&a).dims(), cx.shape(&weights).dims().get(1)) {
            (&[rows @ Dim::Fixed(_), Dim::Batch(k)], Some(&Dim::Fixed(inputs))) if k == inputs => Some((rows, inputs)),
            _ => None,
        };
        if let Some((rows, inputs)) = joined {
            let shape = Shape::new([rows, Dim::N, Dim::Fixed(inputs)]);
            let parted = cx.emit_on(Op::Reshape(Reshape { shape }), &a)?;
            operands[0] = cx.operand(0, &parted)?;
        }
        // A single row is a bias. Anything larger is added afterwards.
        let bias = match &c {
            Some(Value::Known(Known::Tensor(t))) => row(t, outputs, beta),
            _ => None,
        };
        let rest = if bias.is_some() { None } else { c };
        if let Some(bias) = bias {
            operands.push(cx.constant(&[outputs], bias));
        }
        let mut y = cx.emit(Op::Linear(Linear), &operands)?;
        if let Some((rows, _)) = joined {
            let shape = Shape::new([rows, Dim::Batch(outputs)]);
            y = cx.emit_on(Op::Reshape(Reshape { shape }), &y)?;
        }
        return plus(cx, y, rest, beta);
    }

    let b = if trans_b { cx.emit_on(Op::Transpose(Transpose { perm: vec![1, 0] }), &b)? } else { b };
    let operands = [cx.operand(0, &a)?, cx.operand(1, &b)?];
    let product = cx.emit(Op::MatMul(MatMul), &operands)?;
    let product = times(cx, product, alpha)?;
    plus(cx, product, c, beta)
}

/// The matrix `factor * w`, transposed if requested.
fn scaled(w: &Tensor, transpose: bool, factor: f32) -> Tensor {
    let (data, shape) = (w.as_f32().unwrap_or_default(), w.shape());
    let (mut items, mut sizes) = (data.to_vec(), shape.to_vec());
    if transpose {
        items = transposed(data, shape[0], shape[1]);
        sizes.reverse();
    }
    if factor != 1.0 {
        items.iter_mut().for_each(|x| *x *= factor);
    }
    Tensor::f32(&sizes, items)
}

/// `factor * c` as one row of `outputs` numbers, if `c` is a row or a single number.
fn row(c: &Tensor, outputs: usize, factor: f32) -> Option<Vec<f32>> {
    let items = c.as_f32()?;
    let columns = match c.shape() {
        [] | [1, 1] => 1,
        [n] | [1, n] => *n,
        _ => return None,
    };
    if columns == outputs {
        Some(items.iter().map(|x| x * factor).collect())
    } else if columns == 1 {
        Some(vec![items[0] * factor; outputs])
    } else {
        None
    }
}

/// Builds `factor * value`.
fn times(cx: &mut NodeContext, value: Value, factor: f32) -> Result<Value, NodeProblem> {
    if factor == 1.0 {
        return Ok(value);
    }
    let operands = [cx.operand(0, &value)?, cx.constant(&[], vec![factor])];
    cx.emit(Op::Binary(Binary::Mul), &operands)
}

/// Builds `y + beta * c`. `c` must broadcast to the shape of `y`.
fn plus(cx: &mut NodeContext, y: Value, c: Option<Value>, beta: f32) -> RuleResult {
    let Some(c) = c else { return one(y) };
    let (result, addend) = (cx.shape(&y), cx.shape(&c));
    if result.broadcast(&addend).as_ref() != Some(&result) {
        return Err(NodeProblem::input(2, format!("has shape {addend}, which does not broadcast to {result}")));
    }
    let c = times(cx, c, beta)?;
    let operands = [cx.operand(0, &y)?, cx.operand(2, &c)?];
    one(cx.emit(Op::Binary(Binary::Add), &operands)?)
}

pub(super) fn matmul(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let (mut a, mut b) = (cx.input(0)?, cx.input(1)?);
    // A vector is a row on the left and a column on the right. The result does not have its extra axis.
    let (row, column) = (cx.shape(&a).rank() == 1, cx.shape(&b).rank() == 1);
    if row {
        let shape = Shape::new([Dim::Fixed(1), cx.shape(&a).dims()[0]]);
        a = cx.emit_on(Op::Reshape(Reshape { shape }), &a)?;
    }
    if column {
        let shape = Shape::new([cx.shape(&b).dims()[0], Dim::Fixed(1)]);
        b = cx.emit_on(Op::Reshape(Reshape { shape }), &b)?;
    }
    let operands = [cx.operand(0, &a)?, cx.operand(1, &b)?];
    let y = cx.emit(Op::MatMul(MatMul), &operands)?;
    if !row && !column {
        return one(y);
    }
    let mut dims = cx.shape(&y).dims().to_vec();
    if column {
        dims.pop();
    }
    if row {
        dims.remove(dims.len() - if column { 1 } else { 2 });
    }
    one(cx.emit_on(Op::Reshape(Reshape { shape: Shape::new(dims) }), &y)?)
}
