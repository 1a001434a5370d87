//! Weights that are codes already, as in models that were quantized elsewhere: operations that move their elements are applied to the codes.

use crate::rewrite::{Rewrite, Sweep};
use catc_ir::ops::{Binary, Dequantize, Linear};
use catc_ir::{Node, Op, Operand, Quantizer, Tensor};
use smallvec::smallvec;

/// The codes behind a `dequantize` of a constant, or of the `quantize` of one, with their shape and quantizer.
pub(crate) fn constant_codes(sweep: &Sweep, operand: Operand) -> Option<(Vec<i16>, Vec<usize>, Quantizer)> {
    let dequantize = sweep.definition(operand)?;
    if !matches!(dequantize.op, Op::Dequantize(_)) {
        return None;
    }
    if let Operand::Const(c) = dequantize.inputs[0] {
        let constant = sweep.graph.constant(c);
        let quantizer = sweep.graph.quantizer(constant.element.quantizer()?).clone();
        return Some((constant.tensor.as_codes()?.to_vec(), constant.tensor.shape().to_vec(), quantizer));
    }
    let quantize = sweep.definition(dequantize.inputs[0])?;
    let Op::Quantize(q) = quantize.op else { return None };
    let (id, reals) = sweep.f32_constant(quantize.inputs[0])?;
    let (quantizer, shape) = (sweep.graph.quantizer(q.quantizer).clone(), sweep.graph.constant(id).tensor.shape());
    let slice = quantizer.slice_of(shape);
    let codes = reals.iter().enumerate().map(|(i, &x)| quantizer.quantize(x, slice(i)) as i16).collect();
    Some((codes, shape.to_vec(), quantizer))
}

/// The elements of a tensor with its axes in another order.
fn transposed(codes: &[i16], shape: &[usize], perm: &[usize]) -> Vec<i16> {
    let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
    let mut index = vec![0usize; perm.len()];
    let mut moved = Vec::with_capacity(codes.len());
    for _ in 0..codes.len() {
        moved.push(codes[index.iter().zip(perm).map(|(&i, &a)| i * strides[a]).sum::<usize>()]);
        for i in (0..perm.len()).rev() {
            index[i] += 1;
            if index[i] < shape[perm[i]] {
                break;
            }
            index[i] = 0;
        }
    }
    moved
}

pub(crate) fn add_codes(sweep: &mut Sweep, codes: Vec<i16>, shape: &[usize], quantizer: Quantizer) -> Operand {
    let q = sweep.graph.add_quantizer(quantizer);
    sweep.graph.add_codes(Tensor::codes(shape, codes), q).into()
}

/// `conv2d(x, dequantized weights) + c [1,C,1,1]` is the convolution with a bias.
pub(crate) fn bias_of_codes(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let sums = node.inputs[0].value()?;
    let (row, data) = sweep.f32_constant(*node.inputs.get(1)?)?;
    let layer = sweep.definition(sums.into())?;
    let dequantized = sweep.definition(*layer.inputs.get(1)?).is_some_and(|w| matches!(w.op, Op::Dequantize(_)));
    let fits = node.op == Op::Binary(Binary::Add) && matches!(layer.op, Op::Conv2d(_)) && layer.inputs.len() == 2;
    if !fits || !dequantized || !sweep.single_use(sums) {
        return None;
    }
    let channels = sweep.graph.value_type(sums).shape.dims()[1].fixed()?;
    let shape = sweep.graph.constant(row).tensor.shape();
    let along_channels = data.len() == channels && matches!(shape, [_, 1, 1] | [1, _, 1, 1]);
    if !along_channels || sweep.graph.value_type(sums) != sweep.graph.value_type(node.output) {
        return None;
    }
    let (name, op, inputs, data) = (layer.name.clone(), layer.op.clone(), layer.inputs.clone(), data.to_vec());
    let bias = sweep.graph.add_constant(Tensor::f32(&[channels], data));
    Some(Rewrite::TakeOver(name, op, inputs.into_iter().chain([bias.into()]).collect()))
}

/// `x [..,K] * w [K,P]` of dequantized constant codes is `linear` with the transposed codes.
pub(crate) fn product_of_codes(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let (codes, shape, mut quantizer) = constant_codes(sweep, node.inputs[1])?;
    let &[k, p] = shape.as_slice() else { return None };
    quantizer.axis = quantizer.axis.map(|axis| 1 - axis);
    let codes = add_codes(sweep, transposed(&codes, &shape, &[1, 0]), &[p, k], quantizer);
    let weights = sweep.insert(Op::Dequantize(Dequantize), &[codes], "")?;
    Some(Rewrite::Replace(Op::Linear(Linear), smallvec![node.inputs[0], weights]))
}

/// A bias of constant codes is one of reals.
pub(crate) fn bias_of_reals(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let (codes, shape, quantizer) = constant_codes(sweep, *node.inputs.get(2)?)?;
    let reals = dequantized(&codes, &shape, &quantizer);
    let mut inputs = node.inputs.clone();
    inputs[2] = sweep.graph.add_constant(Tensor::f32(&shape, reals)).into();
    Some(Rewrite::Replace(node.op.clone(), inputs))
}

/// The reals that codes stand for.
pub(crate) fn dequantized(codes: &[i16], shape: &[usize], quantizer: &Quantizer) -> Vec<f32> {
    let slice = quantizer.slice_of(shape);
    codes.iter().enumerate().map(|(i, &c)| quantizer.dequantize(c.into(), slice(i))).collect()
}
