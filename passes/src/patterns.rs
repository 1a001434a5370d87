//! The forms of layer normalization, gelu, silu, mish and scaled attention that exporters spell out in simpler operations, for `canonicalize`.

use crate::rewrite::{Rewrite, Sweep};
use catc_ir::ops::{Binary, LayerNorm, MatMul, ReduceMean, Unary};
use catc_ir::{Node, Op, Operand, Tensor};
use smallvec::smallvec;

/// The operands of a binary node that defines `o`.
fn binary(sweep: &Sweep, o: Operand, op: Binary) -> Option<[Operand; 2]> {
    let node = sweep.definition(o)?;
    (node.op == Op::Binary(op)).then(|| [node.inputs[0], node.inputs[1]])
}

/// The operand of a unary node that defines `o`.
fn unary(sweep: &Sweep, o: Operand, f: Unary) -> Option<Operand> {
    let node = sweep.definition(o)?;
    (node.op == Op::Unary(f)).then(|| node.inputs[0])
}

/// The `x` of `erf(x / sqrt(2)) + 1`.
fn gate(sweep: &Sweep, o: Operand) -> Option<Operand> {
    let [e, one] = binary(sweep, o, Binary::Add)?;
    let inner = unary(sweep, e, Unary::Erf).filter(|_| sweep.scalar(one) == Some(1.0))?;
    let by = |op, to| binary(sweep, inner, op).filter(|[_, c]| near(sweep.scalar(*c), to)).map(|[x, _]| x);
    by(Binary::Div, std::f32::consts::SQRT_2).or_else(|| by(Binary::Mul, std::f32::consts::FRAC_1_SQRT_2))
}

/// Whether two numbers are equal but for their last digits, which exporters round in different ways.
fn near(x: Option<f32>, to: f32) -> bool {
    x.is_some_and(|x| (x / to - 1.0).abs() < 1e-6)
}

/// The `x` of `tanh((x + 0.044715 x^3) * sqrt(2 / pi)) + 1`.
fn tanh_gate(sweep: &Sweep, o: Operand) -> Option<Operand> {
    let [gate, one] = binary(sweep, o, Binary::Add)?;
    let inner = unary(sweep, gate, Unary::Tanh).filter(|_| sweep.scalar(one) == Some(1.0))?;
    let [sum, factor] = binary(sweep, inner, Binary::Mul)?;
    let [a, b] = binary(sweep, sum, Binary::Add).filter(|_| near(sweep.scalar(factor), 0.797_884_6))?;
    let scaled = |o: Operand| {
        let [cube, factor] = binary(sweep, o, Binary::Mul)?;
        near(sweep.scalar(factor), 0.044715).then_some(cube)
    };
    [(a, b), (b, a)].into_iter().find_map(|(x, o)| (cube_of(sweep, scaled(o)?) == Some(x)).then_some(x))
}

/// The `x` of `x^3`.
fn cube_of(sweep: &Sweep, o: Operand) -> Option<Operand> {
    if let Some([x, three]) = binary(sweep, o, Binary::Pow) {
        return (sweep.scalar(three) == Some(3.0)).then_some(x);
    }
    let [a, b] = binary(sweep, o, Binary::Mul)?;
    let square = |o: Operand| binary(sweep, o, Binary::Mul).filter(|[x, y]| x == y).map(|[x, _]| x);
    [(a, b), (b, a)].into_iter().find_map(|(x, o)| (square(o) == Some(x)).then_some(x))
}

/// `(x * 0.5) * (erf(x / sqrt(2)) + 1)` and its approximation by a hyperbolic tangent, in whatever order the three factors stand.
pub(crate) fn gelu(sweep: &Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    if op != Binary::Mul {
        return None;
    }
    let half =
        |o: Operand| binary(sweep, o, Binary::Mul).filter(|[_, c]| sweep.scalar(*c) == Some(0.5)).map(|[x, _]| x);
    let [a, b] = [node.inputs[0], node.inputs[1]];
    let found = |gate: fn(&Sweep, Operand) -> Option<Operand>| {
        let gated = |(x, g): (Operand, Operand)| (gate(sweep, g) == Some(x)).then_some(x);
        if sweep.scalar(b) == Some(0.5) {
            let [p, q] = binary(sweep, a, Binary::Mul)?;
            return [(p, q), (q, p)].into_iter().find_map(gated);
        }
        let halved = |(h, g): (Operand, Operand)| gated((half(h)?, g));
        // The half may also be a factor of the gate.
        [(a, b), (b, a)].into_iter().find_map(|(x, g)| halved((x, g)).or_else(|| gated((x, half(g)?))))
    };
    let (x, function) = found(gate).map(|x| (x, Unary::Gelu)).or_else(|| Some((found(tanh_gate)?, Unary::GeluTanh)))?;
    let shape = sweep.graph.type_of(x).shape;
    (shape == sweep.graph.value_type(node.output).shape).then(|| Rewrite::Replace(Op::Unary(function), smallvec![x]))
}

/// `x * sigmoid(x)` and `x * tanh(softplus(x))`, which are single functions with the same results.
pub(crate) fn self_gated(sweep: &Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    if op != Binary::Mul {
        return None;
    }
    let [a, b] = [node.inputs[0], node.inputs[1]];
    let function = |(x, g): (Operand, Operand)| {
        if unary(sweep, g, Unary::Sigmoid) == Some(x) {
            return Some((x, Unary::Silu));
        }
        let softplus = unary(sweep, g, Unary::Tanh)?;
        (unary(sweep, softplus, Unary::Softplus) == Some(x)).then_some((x, Unary::Mish))
    };
    let (x, function) = [(a, b), (b, a)].into_iter().find_map(function)?;
    let shape = sweep.graph.type_of(x).shape;
    (shape == sweep.graph.value_type(node.output).shape).then(|| Rewrite::Replace(Op::Unary(function), smallvec![x]))
}

/// What a node averages over its last axis, which stays as size 1.
fn mean_of_last(sweep: &Sweep, o: Operand) -> Option<Operand> {
    let node = sweep.definition(o)?;
    let Op::ReduceMean(ReduceMean { axes, keep_dims: true }) = &node.op else { return None };
    let last = sweep.graph.type_of(node.inputs[0]).shape.rank() - 1;
    (axes[..] == [last]).then(|| node.inputs[0])
}

/// `d / sqrt(mean(d * d) + eps)` with `d = x - mean(x)`, and the scale and bias that follow a layer normalization.
pub(crate) fn layer_norm(sweep: &mut Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    let [a, b] = [node.inputs[0], node.inputs[1]];
    if op == Binary::Div {
        let [sum, eps] = binary(sweep, unary(sweep, b, Unary::Sqrt)?, Binary::Add)?;
        let eps = sweep.scalar(eps)?;
        let square = binary(sweep, mean_of_last(sweep, sum)?, Binary::Mul)?;
        let [x, mean] = binary(sweep, a, Binary::Sub)?;
        let fits = square == [a, a] && mean_of_last(sweep, mean) == Some(x);
        return fits.then(|| Rewrite::Replace(Op::LayerNorm(LayerNorm { eps }), smallvec![x]));
    }
    let position = match op {
        Binary::Mul => 1,
        Binary::Add => 2,
        _ => return None,
    };
    let norm = sweep.definition(a)?;
    let (Op::LayerNorm(_), true) = (&norm.op, norm.inputs.len() == position && sweep.single_use(a.value()?)) else {
        return None;
    };
    let (op, inputs, name) = (norm.op.clone(), norm.inputs.clone(), norm.name.clone());
    let size = sweep.graph.type_of(a).shape.dims().last()?.fixed()?;
    let shape = sweep.graph.type_of(b).shape.as_fixed()?;
    let (_, data) = sweep.f32_constant(b)?;
    // One number for each element of the last axis, and nothing that makes the result larger.
    if data.len() != size || shape.last() != Some(&size) || shape.len() > sweep.graph.type_of(a).shape.rank() {
        return None;
    }
    let data = data.to_vec();
    let row = sweep.graph.add_constant(Tensor::f32(&[size], data));
    Some(Rewrite::TakeOver(name, op, inputs.into_iter().chain([row.into()]).collect()))
}

/// What a value is a multiple of, and by how much, where nothing else takes the multiple. A transpose of it is one of that.
fn multiple(sweep: &mut Sweep, o: Operand) -> Option<(Operand, f32)> {
    if !sweep.single_use(o.value()?) {
        return None;
    }
    let node = sweep.definition(o)?;
    let (op, inputs, name) = (node.op.clone(), node.inputs.clone(), node.name.clone());
    match op {
        Op::Transpose(_) => {
            let (x, factor) = multiple(sweep, inputs[0])?;
            Some((sweep.insert(op, &[x], &name)?, factor))
        }
        Op::Binary(f @ (Binary::Mul | Binary::Div)) => {
            let by = sweep.scalar(inputs[1]).filter(|s| (1e-10..1e10).contains(&s.abs()))?;
            let same = sweep.graph.type_of(inputs[0]).shape == sweep.graph.type_of(o).shape;
            same.then_some((inputs[0], if f == Binary::Mul { by } else { 1.0 / by }))
        }
        _ => None,
    }
}

/// `(q * s) k` and `(q * s) (k * t)` are `(q k) * (s * t)`: exporters scale queries, or both sides, before the product.
pub(crate) fn scaled_product(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let [a, b] = [node.inputs[0], node.inputs[1]];
    if a.constant().is_some() || b.constant().is_some() || a == b {
        return None;
    }
    let found = [multiple(sweep, a), multiple(sweep, b)];
    let factor = found.iter().flatten().map(|(_, s)| *s).product::<f32>();
    if found == [None, None] {
        return None;
    }
    let [a, b] = [found[0].map_or(a, |f| f.0), found[1].map_or(b, |f| f.0)];
    let factor = sweep.graph.add_constant(Tensor::scalar(factor));
    let then = Op::Binary(Binary::Mul);
    Some(Rewrite::Split { first: (Op::MatMul(MatMul), smallvec![a, b]), then, others: smallvec![factor.into()] })
}
