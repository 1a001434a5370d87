//! `fold-batch-norm`: folds batch normalization, and constants multiplied or added per channel, into the layer before.
//!
//! - Before: float phase. After: no `batch_norm`; no per-channel `mul`, `add`, `sub` or `div` by a constant right after
//!   a `conv2d` or `linear` with constant weights whose output nothing else takes. Computed in f64; 1e-5 relative.
//! - Where there is no such layer before it, batch normalization becomes one `mul` and one `add` with constants of
//!   shape `[C,1,..]`.
//! - Other passes: after `canonicalize`, which makes linear layers; before `calibrate`, since weights and ranges
//!   change.
//! - Example, with `g = scale / sqrt(variance + eps)`:
//!   ```text
//!   v1: f32[N,8,6,6] = conv2d v0, c0, c1 {..}                      -> conv2d v0, c6, c7 {..} with c6[o] = c0[o] g[o]
//!   v2: f32[N,8,6,6] = batch_norm v1, c2, c3, c4, c5 {eps=1e-5}    -> (gone)               and c7 = (c1 - mean) g + bias
//!   ```
//! - Reference: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
//!   Inference", 2018, section 3.2.

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::{Rewrite, Sweep, remove_dead_nodes};
use catc_ir::ops::{BatchNorm, Binary};
use catc_ir::{Dim, Graph, Node, Op, Phase, Tensor, ValueId};
use smallvec::smallvec;

/// Folds per-channel scales and offsets into the layer before them.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldBatchNorm;

impl FoldBatchNorm {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "fold-batch-norm",
        summary: "folds batch normalization and per-channel constants into the layer before",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(FoldBatchNorm)) },
    };
}

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        let fired = Sweep::to_fixpoint(self.name(), graph, rule)?;
        remove_dead_nodes(graph);
        Ok(Changed::from_flag(fired > 0, "no batch_norm, and no constants to fold into the layer before them"))
    }
}

/// `x * gain[c] + offset[c]` over the channels.
struct Affine {
    gain: Vec<f64>,
    offset: Vec<f64>,
}

fn rule(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let affine = match &node.op {
        Op::BatchNorm(bn) => batch_norm(sweep, node, bn),
        Op::Binary(op) => per_channel(sweep, node, *op),
        _ => None,
    }?;
    fold_into_layer(sweep, node, &affine).or_else(|| match node.op {
        Op::BatchNorm(_) => Some(mul_and_add(sweep, node, &affine)),
        _ => None,
    })
}

fn batch_norm(sweep: &Sweep, node: &Node, bn: &BatchNorm) -> Option<Affine> {
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| sweep.f32_constant(node.inputs[i]).map(|(_, v)| v));
    let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
    let gain: Vec<f64> =
        scale.iter().zip(variance).map(|(&s, &v)| f64::from(s) / (f64::from(v) + f64::from(bn.eps)).sqrt()).collect();
    let offset = (0..gain.len()).map(|c| f64::from(bias[c]) - f64::from(mean[c]) * gain[c]).collect();
    Some(Affine { gain, offset })
}

/// The channels of a value: `(axis, size)`. Axis 1, but the last one of what a linear layer computes.
fn channels(sweep: &Sweep, v: ValueId) -> Option<(usize, usize)> {
    let shape = &sweep.graph.value_type(v).shape;
    let axis = match sweep.definition(v.into())?.op {
        Op::Linear(_) => shape.rank() - 1,
        _ => 1,
    };
    Some((axis, shape.dims().get(axis)?.fixed()?))
}

/// A constant on the right whose elements differ along the channels only.
fn per_channel(sweep: &Sweep, node: &Node, op: Binary) -> Option<Affine> {
    let x = node.inputs[0].value()?;
    let (axis, count) = channels(sweep, x)?;
    let (_, data) = sweep.f32_constant(node.inputs[1])?;
    let rank = sweep.graph.value_type(x).shape.rank();
    let constant = sweep.graph.type_of(node.inputs[1]).shape;
    if sweep.graph.value_type(node.output).shape != sweep.graph.value_type(x).shape || constant.rank() > rank {
        return None;
    }
    let lead = rank - constant.rank();
    let only_channels = constant.dims().iter().enumerate().all(|(i, d)| i + lead == axis || *d == Dim::Fixed(1));
    if !only_channels {
        return None;
    }
    let values: Vec<f64> = (0..count).map(|c| f64::from(if data.len() == 1 { data[0] } else { data[c] })).collect();
    let ones = vec![1.0; count];
    let zeros = vec![0.0; count];
    Some(match op {
        Binary::Add => Affine { gain: ones, offset: values },
        Binary::Sub => Affine { gain: ones, offset: values.iter().map(|x| -x).collect() },
        Binary::Mul => Affine { gain: values, offset: zeros },
        Binary::Div => Affine { gain: values.iter().map(|x| 1.0 / x).collect(), offset: zeros },
        _ => return None,
    })
}

fn fold_into_layer(sweep: &mut Sweep, node: &Node, affine: &Affine) -> Option<Rewrite> {
    let x = node.inputs[0].value()?;
    let layer = sweep.definition(x.into())?;
    if !matches!(layer.op, Op::Conv2d(_) | Op::Linear(_)) || !sweep.single_use(x) {
        return None;
    }
    // Batch normalization takes axis 1, which is the channel axis of a linear layer only at rank 2.
    let (axis, count) = channels(sweep, x)?;
    if matches!(node.op, Op::BatchNorm(_)) && axis != 1 {
        return None;
    }
    let (id, weight) = sweep.f32_constant(layer.inputs[1])?;
    let shape = sweep.graph.constant(id).tensor.shape().to_vec();
    let bias = match layer.inputs.get(2) {
        Some(&b) => sweep.f32_constant(b)?.1.to_vec(),
        None => vec![0.0; count],
    };
    let per_channel = weight.len() / count.max(1);
    let weight: Vec<f32> =
        weight.iter().enumerate().map(|(i, &w)| (f64::from(w) * affine.gain[i / per_channel]) as f32).collect();
    let bias: Vec<f32> = (0..count).map(|c| (f64::from(bias[c]) * affine.gain[c] + affine.offset[c]) as f32).collect();
    if weight.iter().chain(&bias).any(|x| !x.is_finite()) {
        return None;
    }
    let (name, op, input) = (layer.name.clone(), layer.op.clone(), layer.inputs[0]);
    let weight = sweep.graph.add_constant(Tensor::f32(&shape, weight));
    let bias = sweep.graph.add_constant(Tensor::f32(&[count], bias));
    Some(Rewrite::TakeOver(name, op, smallvec![input, weight.into(), bias.into()]))
}

fn mul_and_add(sweep: &mut Sweep, node: &Node, affine: &Affine) -> Rewrite {
    let rank = sweep.graph.value_type(node.output).shape.rank();
    let mut shape = vec![1; rank - 1];
    shape[0] = affine.gain.len();
    let mut constant = |v: &[f64]| {
        let data = v.iter().map(|&x| x as f32).collect();
        sweep.graph.add_constant(Tensor::f32(&shape, data))
    };
    let (gain, offset) = (constant(&affine.gain), constant(&affine.offset));
    Rewrite::Split {
        first: (Op::Binary(Binary::Mul), smallvec![node.inputs[0], gain.into()]),
        then: Op::Binary(Binary::Add),
        others: smallvec![offset.into()],
    }
}
