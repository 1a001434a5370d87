//! `fold-constants`: computes what depends on constants alone.
//!
//! - Before: float or qdq phase. After: no node has only constant operands, but for `quantize` and `dequantize` (and
//!   what depends on them), which stay so that weights can be searched, and for outputs of the graph. Exact.
//! - Other passes: first of all, so that later ones find the weights, shapes and scalars they look for as constants.
//! - Example:
//!   ```text
//!   v1: f32[4] = mul c0, c1        -> (gone)
//!   v2: f32[N,4] = add v0, v1      -> add v0, c2, with c2 = c0 * c1
//!   ```

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::{Rewrite, Sweep, remove_dead_nodes};
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Op, Operand, Phase, ValueId};
use std::collections::{BTreeMap, HashSet};

/// Computes what depends on constants alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldConstants;

impl FoldConstants {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "fold-constants",
        summary: "computes what depends on constants alone",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(FoldConstants)) },
    };
}

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float, Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let wanted = constant_values(graph);
        if wanted.is_empty() {
            return Ok(Changed::No("no node has only constant operands".into()));
        }
        let evaluation = |e| PassError::evaluation(Self::ENTRY.name, e);
        // A few bytes of a model can spell out gigabytes.
        let within = |i: Interpreter| i.with_memory_limit(cx.max_memory).run_from(&[], &wanted);
        let tensors = Interpreter::new(graph).and_then(within).map_err(evaluation)?;
        let constants: BTreeMap<ValueId, Operand> =
            wanted.into_iter().zip(tensors).map(|(v, t)| (v, graph.add_constant(t).into())).collect();
        Sweep::once(self.name(), graph, |_, node| constants.get(&node.output).map(|&c| Rewrite::Forward(c)))?;
        remove_dead_nodes(graph);
        Ok(Changed::Yes)
    }
}

/// The values to compute: those that depend on constants alone and that another node, or none, takes.
fn constant_values(graph: &Graph) -> Vec<ValueId> {
    let outputs: HashSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    let mut constant: HashSet<ValueId> = HashSet::new();
    let mut wanted = vec![];
    for node in graph.nodes() {
        let known = |o: &Operand| o.value().is_none_or(|v| constant.contains(&v));
        let stays = matches!(node.op, Op::Quantize(_) | Op::Dequantize(_) | Op::Fused(_));
        // A constant expanded to the batch is as large as the batch is.
        let fixed = graph.value_type(node.output).shape.as_fixed().is_some();
        if !stays && fixed && node.inputs.iter().all(known) && !outputs.contains(&node.output) {
            constant.insert(node.output);
        } else {
            wanted.extend(node.inputs.iter().filter_map(|o| o.value()).filter(|v| constant.contains(v)));
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}
