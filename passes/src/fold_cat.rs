//! `fold-cat`: makes the correction that `append-cat` appended cheap to run.
//!
//! - Before: float or qdq phase. After: no `blend` that `append-cat` made; one `linear`, an `argmin`, two `gather`, a `mul` and an
//!   `add` instead of nine nodes, or a `mul` and an `add` for a single cluster.
//! - Exact in real arithmetic; the tables are computed in f64. In f32 the corrected logits agree up to rounding, except where two centroids
//!   are so nearly equally far that rounding decides between them.
//! - The nearest centroid: with B the basis and m the mean, `|Bᵀ(z - m) - c|² / 2` is `-(B c)·z + (B c)·m + |c|²/2` and a term
//!   that all centroids share. The blend: `(1 - a) z + a (g z + b)` is `((1 - a) + a g) z + a b`.
//! - Other passes: right after `append-cat`; before lowering.
//! - Example:
//!   ```text
//!   v20: f32[N,10] = sub v9, c5 "cat_centre"                 -> v29: f32[N,4] = linear v9, c10, c11 "cat_distance"
//!   v21: f32[N,5] = matmul v20, c6 "cat_project"                v30: i64[N] = argmin v29 {axis=1} "cat_assign"
//!   v22: f32[N,4] = squared_distance v21, c7 "cat_distance"     v31: f32[N,10] = gather c12, v30 {axis=0} "cat_gamma"
//!   v23: i64[N] = argmin v22 {axis=1} "cat_assign"              v32: f32[N,10] = gather c13, v30 {axis=0} "cat_beta"
//!   ..                                                          v33: f32[N,10] = mul v9, v31 "cat_scale"
//!   v28: f32[N,10] = blend v9, v27 {alpha=0.4} "cat_blend"      v28: f32[N,10] = add v33, v32 "cat_blend"
//!   ```
//! - Reference: arXiv 2509.26277, algorithm 2.

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::remove_dead_nodes;
use catc_ir::ops::{ArgMin, Binary, Gather, Linear};
use catc_ir::{Graph, Node, Op, Operand, Phase, Tensor, ValueId};
use smallvec::smallvec;
use std::collections::HashMap;

/// Folds the correction of the logits.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldCat;

impl FoldCat {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "fold-cat",
        summary: "makes the correction of the logits one linear layer, a choice of table rows, a product and a sum",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(FoldCat)) },
    };
}

impl Pass for FoldCat {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float, Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        let found: HashMap<ValueId, Correction> =
            graph.nodes().iter().filter_map(|n| Some((n.output, Correction::find(graph, n)?))).collect();
        if found.is_empty() {
            return Ok(Changed::No("there is no correction as append-cat makes it".into()));
        }
        for node in graph.take_nodes() {
            match found.get(&node.output) {
                Some(correction) => correction.write(graph, node)?,
                None => append(graph, node)?,
            }
        }
        remove_dead_nodes(graph);
        Ok(Changed::Yes)
    }
}

/// A correction in its folded form.
struct Correction {
    logits: Operand,
    /// Weights and bias of the layer whose least output tells the cluster; `None` for a single cluster.
    scores: Option<(Tensor, Tensor)>,
    /// `(1 - alpha) + alpha gamma` and `alpha beta`.
    slope: Tensor,
    offset: Tensor,
}

/// The node that computes an operand.
fn definition(graph: &Graph, operand: Operand) -> Option<&Node> {
    let v = operand.value()?;
    graph.nodes().iter().find(|n| n.output == v)
}

/// Shape and elements of an f32 constant.
fn constant(graph: &Graph, operand: Operand) -> Option<(&[usize], Vec<f64>)> {
    let tensor = &graph.constant(operand.constant()?).tensor;
    Some((tensor.shape(), tensor.as_f32()?.iter().map(|&x| f64::from(x)).collect()))
}

impl Correction {
    /// The correction that `node` ends, if it is one.
    fn find(graph: &Graph, node: &Node) -> Option<Correction> {
        let Op::Blend(blend) = &node.op else { return None };
        let (logits, shift) = (node.inputs[0], definition(graph, node.inputs[1])?);
        let scale = definition(graph, shift.inputs[0])?;
        let right = matches!(shift.op, Op::Binary(Binary::Add)) && matches!(scale.op, Op::Binary(Binary::Mul));
        if !right || scale.inputs[0] != logits {
            return None;
        }
        let (gamma, beta) = (scale.inputs[1], shift.inputs[1]);
        let (scores, gamma, beta) = match (gamma, beta) {
            (Operand::Const(_), Operand::Const(_)) => (None, gamma, beta),
            _ => {
                let (gamma, beta) = (definition(graph, gamma)?, definition(graph, beta)?);
                let rows = |n: &Node| matches!(n.op, Op::Gather(Gather { axis: 0 }));
                if !rows(gamma) || !rows(beta) || gamma.inputs[1] != beta.inputs[1] {
                    return None;
                }
                (Some(scores(graph, logits, gamma.inputs[1])?), gamma.inputs[0], beta.inputs[0])
            }
        };
        let ((shape, gamma), (beta_shape, beta)) = (constant(graph, gamma)?, constant(graph, beta)?);
        if shape != beta_shape {
            return None;
        }
        let alpha = f64::from(blend.alpha);
        let slope = tensor(shape, gamma.iter().map(|g| (1.0 - alpha) + alpha * g))?;
        let offset = tensor(shape, beta.iter().map(|b| alpha * b))?;
        Some(Correction { logits, scores, slope, offset })
    }

    /// Appends the folded form; its last node takes the place of `end`.
    fn write(&self, graph: &mut Graph, end: Node) -> Result<(), PassError> {
        let slope = graph.add_constant(self.slope.clone());
        let offset = graph.add_constant(self.offset.clone());
        let layer = self.scores.as_ref().map(|(w, b)| (graph.add_constant(w.clone()), graph.add_constant(b.clone())));
        let mut node = |op: Op, inputs: &[Operand], name: &str| {
            let made = graph.append(op, inputs.iter().copied(), name);
            made.map(Operand::Value).map_err(PassError::infer(FoldCat::ENTRY.name, name))
        };
        let (slope, offset) = match layer {
            Some((weight, bias)) => {
                let inputs = [self.logits, weight.into(), bias.into()];
                let scores = node(Op::Linear(Linear), &inputs, "cat_distance")?;
                let cluster = node(Op::ArgMin(ArgMin { axis: 1 }), &[scores], "cat_assign")?;
                let rows = || Op::Gather(Gather { axis: 0 });
                let slope = node(rows(), &[slope.into(), cluster], "cat_gamma")?;
                (slope, node(rows(), &[offset.into(), cluster], "cat_beta")?)
            }
            None => (slope.into(), offset.into()),
        };
        let scaled = node(Op::Binary(Binary::Mul), &[self.logits, slope], "cat_scale")?;
        append(graph, Node { op: Op::Binary(Binary::Add), inputs: smallvec![scaled, offset], ..end })
    }
}

/// Weights `[K,C]` and bias `[K]` whose outputs are, up to a term common to all, half the squared distances that the index
/// `cluster` was chosen by.
fn scores(graph: &Graph, logits: Operand, cluster: Operand) -> Option<(Tensor, Tensor)> {
    let assign = definition(graph, cluster)?;
    let distance = definition(graph, assign.inputs[0])?;
    let project = definition(graph, distance.inputs[0])?;
    let centre = definition(graph, project.inputs[0])?;
    let right = matches!(assign.op, Op::ArgMin(ArgMin { axis: 1 }))
        && matches!(distance.op, Op::SquaredDistance(_))
        && matches!(project.op, Op::MatMul(_))
        && matches!(centre.op, Op::Binary(Binary::Sub));
    if !right || centre.inputs[0] != logits {
        return None;
    }
    let (_, mean) = constant(graph, centre.inputs[1])?;
    let (basis_shape, basis) = constant(graph, project.inputs[1])?;
    let (centroid_shape, centroids) = constant(graph, distance.inputs[1])?;
    let (&[classes, dims], &[clusters, _]) = (basis_shape, centroid_shape) else { return None };
    if mean.len() != classes {
        return None;
    }
    let mut weight = Vec::with_capacity(clusters * classes);
    let mut bias = Vec::with_capacity(clusters);
    for c in centroids.chunks_exact(dims.max(1)) {
        let direction = basis.chunks_exact(dims.max(1)).map(|row| row.iter().zip(c).map(|(b, c)| b * c).sum::<f64>());
        let direction: Vec<f64> = direction.collect();
        let shift: f64 = direction.iter().zip(&mean).map(|(d, m)| d * m).sum();
        bias.push(shift + 0.5 * c.iter().map(|c| c * c).sum::<f64>());
        weight.extend(direction.iter().map(|d| -d));
    }
    Some((tensor(&[clusters, classes], weight.into_iter())?, tensor(&[clusters], bias.into_iter())?))
}

/// `None` if the elements do not fill the shape or overflow f32.
fn tensor(shape: &[usize], data: impl Iterator<Item = f64>) -> Option<Tensor> {
    let data: Vec<f32> = data.map(|x| x as f32).collect();
    let fits = data.len() == shape.iter().product::<usize>() && data.iter().all(|x| x.is_finite());
    fits.then(|| Tensor::f32(shape, data))
}

fn append(graph: &mut Graph, node: Node) -> Result<(), PassError> {
    let place = graph.label(&node);
    graph.append_node(node).map_err(PassError::infer(FoldCat::ENTRY.name, place))
}
