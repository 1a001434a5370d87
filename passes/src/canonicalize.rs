//! `canonicalize`: brings a float graph into the few forms that later passes look for.
//!
//! - Before: float or qdq phase; best after `fold-constants`, so that operands that can be constants are.
//! - After: no `identity`, `pad` before a convolution, `matmul` by a constant matrix, chain of reshapes, of transposes
//!   or of clips; constant operands of `add` and `mul` stand on the right; layer normalization, gelu, silu and mish that are
//!   spelled out are one node each; the scale of attention follows the product of queries and keys, so that lowering can fuse it into that
//!   product. Exact, except that gelu, hard sigmoid, hard swish and that scale round differently (1e-6 relative). Operations that move or
//!   scale dequantized constants are applied to their codes, so that a layer takes the output of a `dequantize`; other operations on
//!   them are evaluated to constants. Element-wise functions, batch normalization and constants of channels come right after a convolution
//!   whose rearranged output they would take. A `matmul` by a dequantized matrix becomes a `linear` too, and a constant added to each channel of a
//!   convolution with dequantized weights becomes its bias.
//! - Other passes: `fold-batch-norm` looks for `linear` and `conv2d`, lowering for `linear` and constants on the right.
//! - Example:
//!   ```text
//!   v1: f32[N,4,6,6] = pad v0 {before=[0,0,1,1], after=[0,0,1,1]}      -> (gone)
//!   v2: f32[N,8,4,4] = conv2d v1, c0 {strides=[1,1], pads=[0,0,0,0]}   -> conv2d v0, c0 {.., pads=[1,1,1,1]}
//!   v3: f32[N,8,4,4] = clip v2 {min=0.0, max=inf}                      -> relu v2
//!   ```
//! - Left alone: a `softmax` at the end, which belongs to the model's contract; padding before pooling, where the
//!   padded elements count differently.

use crate::constant_codes::fold_codes;
use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::patterns::{gelu, layer_norm, scaled_product, self_gated};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::{Rewrite, Sweep, remove_dead_nodes};
use crate::rise::rise;
use crate::weight_codes::{bias_of_codes, bias_of_reals, product_of_codes};
use catc_ir::ops::{Binary, Conv2d, Linear, Pad, Reshape, Transpose, Unary};
use catc_ir::{Dim, Graph, Node, Op, Operand, Phase, Shape, Tensor};
use smallvec::smallvec;

/// Brings a float graph into canonical form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Canonicalize;

impl Canonicalize {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "canonicalize",
        summary: "removes identities, merges chains, turns constant products into linear layers and padding into convolutions",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(Canonicalize)) },
    };
}

impl Pass for Canonicalize {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float, Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        let dead = remove_dead_nodes(graph);
        let fired = Sweep::to_fixpoint(self.name(), graph, rule)?;
        Ok(Changed::from_flag(dead + fired > 0, "every node is in canonical form"))
    }
}

fn rule(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    local(sweep, node).or_else(|| rise(sweep, node)).or_else(|| fold_codes(sweep, node))
}

fn local(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    match &node.op {
        Op::Identity(_) => forward(sweep, node, node.inputs[0]),
        Op::Reshape(reshape) => merge_reshape(sweep, node, reshape),
        Op::Transpose(transpose) => merge_transpose(sweep, node, transpose),
        Op::Concat(_) if node.inputs.len() == 1 => forward(sweep, node, node.inputs[0]),
        Op::Slice(s)
            if s.step == 1
                && sweep.graph.type_of(node.inputs[0]).shape.dims()[s.axis] == Dim::Fixed(s.end - s.start) =>
        {
            forward(sweep, node, node.inputs[0])
        }
        Op::Pad(p) if p.before.iter().chain(&p.after).all(|&n| n == 0) => forward(sweep, node, node.inputs[0]),
        Op::Conv2d(conv) => absorb_padding(sweep, node, conv).or_else(|| bias_of_reals(sweep, node)),
        Op::Linear(_) => bias_of_reals(sweep, node),
        Op::MatMul(_) => matmul_to_linear(sweep, node)
            .or_else(|| product_of_codes(sweep, node))
            .or_else(|| scaled_product(sweep, node)),
        Op::Unary(unary) => merge_clips(sweep, node, *unary),
        Op::Binary(binary) => binary_forms(sweep, node, *binary).or_else(|| bias_of_codes(sweep, node)),
        _ => None,
    }
}

/// Lets the consumers of `node` take `to` instead, unless `to` is a constant and the node's output is an output of the graph.
fn forward(sweep: &Sweep, node: &Node, to: Operand) -> Option<Rewrite> {
    (to.value().is_some() || !sweep.is_output(node.output)).then_some(Rewrite::Forward(to))
}

fn merge_reshape(sweep: &Sweep, node: &Node, reshape: &Reshape) -> Option<Rewrite> {
    if sweep.graph.type_of(node.inputs[0]).shape == reshape.shape {
        return forward(sweep, node, node.inputs[0]);
    }
    let inner = sweep.definition(node.inputs[0])?;
    matches!(inner.op, Op::Reshape(_)).then(|| Rewrite::Replace(node.op.clone(), inner.inputs.clone()))
}

fn merge_transpose(sweep: &Sweep, node: &Node, transpose: &Transpose) -> Option<Rewrite> {
    if transpose.perm.iter().copied().eq(0..transpose.perm.len()) {
        return forward(sweep, node, node.inputs[0]);
    }
    let inner = sweep.definition(node.inputs[0])?;
    let Op::Transpose(first) = &inner.op else { return None };
    let perm = transpose.perm.iter().map(|&i| first.perm[i]).collect();
    Some(Rewrite::Replace(Op::Transpose(Transpose { perm }), inner.inputs.clone()))
}

/// Zero padding of the last two axes becomes padding of the convolution.
fn absorb_padding(sweep: &Sweep, node: &Node, conv: &Conv2d) -> Option<Rewrite> {
    let inner = sweep.definition(node.inputs[0])?;
    let Op::Pad(Pad { before, after, value }) = &inner.op else { return None };
    let (&[0, 0, top, left], &[0, 0, bottom, right]) = (&before[..], &after[..]) else { return None };
    if *value != 0.0 {
        return None;
    }
    let mut conv = conv.clone();
    for (pad, more) in conv.pads.iter_mut().zip([top, left, bottom, right]) {
        *pad = pad.checked_add(more)?;
    }
    let mut inputs = node.inputs.clone();
    inputs[0] = inner.inputs[0];
    Some(Rewrite::Replace(Op::Conv2d(conv), inputs))
}

/// `x [..,K] * c [K,P]` is `linear` with the transposed constant.
fn matmul_to_linear(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let (id, data) = sweep.f32_constant(node.inputs[1])?;
    let &[k, p] = sweep.graph.constant(id).tensor.shape() else { return None };
    let transposed: Vec<f32> = (0..p).flat_map(|o| (0..k).map(move |i| data[i * p + o])).collect();
    let weight = sweep.graph.add_constant(Tensor::f32(&[p, k], transposed));
    Some(Rewrite::Replace(Op::Linear(Linear), smallvec![node.inputs[0], weight.into()]))
}

/// Bounds of a function that only clips.
fn bounds(op: &Op) -> Option<(f32, f32)> {
    match op {
        Op::Unary(Unary::Relu) => Some((0.0, f32::INFINITY)),
        Op::Unary(Unary::Clip { min, max }) => Some((*min, *max)),
        _ => None,
    }
}

/// The plainest function with these bounds; `None` for no bounds at all.
fn clip(min: f32, max: f32) -> Option<Unary> {
    match (min, max) {
        (f32::NEG_INFINITY, f32::INFINITY) => None,
        (0.0, f32::INFINITY) => Some(Unary::Relu),
        _ => Some(Unary::Clip { min, max }),
    }
}

fn merge_clips(sweep: &Sweep, node: &Node, unary: Unary) -> Option<Rewrite> {
    let (min, max) = bounds(&node.op)?;
    if let Some(inner) = sweep.definition(node.inputs[0])
        && let Some((low, high)) = bounds(&inner.op)
    {
        let merged = (low.clamp(min, max), high.clamp(min, max));
        if merged == (low, high) {
            return forward(sweep, node, node.inputs[0]);
        }
        return match clip(merged.0, merged.1) {
            Some(plain) => Some(Rewrite::Replace(Op::Unary(plain), inner.inputs.clone())),
            None => forward(sweep, node, inner.inputs[0]),
        };
    }
    match clip(min, max) {
        None => forward(sweep, node, node.inputs[0]),
        Some(plain) if plain != unary => Some(Rewrite::Replace(Op::Unary(plain), node.inputs.clone())),
        Some(_) => None,
    }
}

fn binary_forms(sweep: &mut Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let commutes = matches!(op, Binary::Add | Binary::Mul);
    if commutes && a.constant().is_some() && b.constant().is_none() {
        return Some(Rewrite::Replace(Op::Binary(op), smallvec![b, a]));
    }
    if let Some((_, data)) = sweep.f32_constant(b).filter(|_| op.compiled().is_some()) {
        let neutral = if matches!(op, Binary::Add | Binary::Sub) { 0.0 } else { 1.0 };
        let same_shape = sweep.graph.type_of(a).shape == sweep.graph.value_type(node.output).shape;
        if same_shape && data.iter().all(|&x| x == neutral) {
            return forward(sweep, node, a);
        }
    }
    linear_bias(sweep, node, op)
        .or_else(|| layer_norm(sweep, node, op))
        .or_else(|| hard_sigmoid(sweep, node, op))
        .or_else(|| hard_swish(sweep, node, op))
        .or_else(|| gelu(sweep, node, op))
        .or_else(|| self_gated(sweep, node, op))
}

/// A constant added to a linear layer without a bias becomes its bias.
fn linear_bias(sweep: &mut Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    let x = node.inputs[0].value()?;
    let (_, data) = sweep.f32_constant(node.inputs[1])?;
    let linear = sweep.definition(x.into())?;
    let shape = &sweep.graph.value_type(x).shape;
    if op != Binary::Add || !matches!(linear.op, Op::Linear(_)) || linear.inputs.len() != 2 || !sweep.single_use(x) {
        return None;
    }
    let Dim::Fixed(channels) = *shape.dims().last()? else { return None };
    // One element each channel, along the last axis, and nothing that makes the result larger.
    let constant = sweep.graph.type_of(node.inputs[1]).shape;
    let along_last = data.len() == channels && constant.dims().last() == Some(&Dim::Fixed(channels));
    if !along_last || *shape != sweep.graph.value_type(node.output).shape {
        return None;
    }
    let (name, inputs, data) = (linear.name.clone(), linear.inputs.clone(), data.to_vec());
    let bias = sweep.graph.add_constant(Tensor::f32(&[channels], data));
    Some(Rewrite::TakeOver(name, Op::Linear(Linear), inputs.into_iter().chain([bias.into()]).collect()))
}

/// The `x` of `clip(x + 3, 0, 6)`.
fn relu6_of_x_plus_3(sweep: &Sweep, operand: Operand) -> Option<Operand> {
    let clip = sweep.definition(operand)?;
    let add = sweep.definition(clip.inputs[0])?;
    let fits = bounds(&clip.op) == Some((0.0, 6.0)) && add.op == Op::Binary(Binary::Add);
    (fits && sweep.scalar(add.inputs[1]) == Some(3.0)).then(|| add.inputs[0])
}

/// The operand that `node` divides by 6, or multiplies by the f32 nearest to 1/6.
fn sixth_of(sweep: &Sweep, node: &Node, op: Binary) -> Option<Operand> {
    let divisor = match op {
        Binary::Div => 6.0,
        Binary::Mul => 1.0 / 6.0,
        _ => return None,
    };
    (sweep.scalar(node.inputs[1])? == divisor).then(|| node.inputs[0])
}

const SIXTH: Unary = Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 };

/// Whether a rewrite that yields the shape of `x` fits where `node` stands.
fn keeps_shape(sweep: &Sweep, node: &Node, x: Operand) -> bool {
    let shape: Shape = sweep.graph.type_of(x).shape;
    shape == sweep.graph.value_type(node.output).shape
}

/// `clip(x + 3, 0, 6) / 6` is a hard sigmoid.
fn hard_sigmoid(sweep: &Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    let x = relu6_of_x_plus_3(sweep, sixth_of(sweep, node, op)?)?;
    keeps_shape(sweep, node, x).then(|| Rewrite::Replace(Op::Unary(SIXTH), smallvec![x]))
}

/// `x * hard_sigmoid(x)` and `x * clip(x + 3, 0, 6) / 6` are hard swish.
fn hard_swish(sweep: &Sweep, node: &Node, op: Binary) -> Option<Rewrite> {
    let found =
        |x: Operand| keeps_shape(sweep, node, x).then(|| Rewrite::Replace(Op::Unary(Unary::HardSwish), smallvec![x]));
    if op == Binary::Mul {
        for (x, gate) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
            if sweep.definition(gate).is_some_and(|g| g.inputs[0] == x && is_sixth(&g.op)) {
                return found(x);
            }
        }
    }
    let product = sweep.definition(sixth_of(sweep, node, op)?)?;
    if product.op != Op::Binary(Binary::Mul) {
        return None;
    }
    for (x, gate) in [(product.inputs[0], product.inputs[1]), (product.inputs[1], product.inputs[0])] {
        if relu6_of_x_plus_3(sweep, gate) == Some(x) {
            return found(x);
        }
    }
    None
}

/// A hard sigmoid with the slope of hard swish; exporters round 1/6 in different ways.
fn is_sixth(op: &Op) -> bool {
    matches!(op, Op::Unary(Unary::HardSigmoid { alpha, beta }) if (alpha - 1.0 / 6.0).abs() < 1e-6 && *beta == 0.5)
}
