//! What a network's nodes are needed for, what they cost, and what is alive between them.

use crate::work::node_work;
use catc_ir::{Element, Graph, ValueId};
use std::collections::HashSet;

/// The graph's nodes, seen from some of its values.
pub(crate) struct NodeNeeds {
    /// Whether a target depends on the node.
    needed: Vec<bool>,
    /// Values that depend on constants alone.
    constant: HashSet<ValueId>,
    targets: Vec<ValueId>,
    /// `remaining[i]` is the cost for one image of the needed nodes from i on, in multiply-adds.
    pub remaining: Vec<u64>,
}

impl NodeNeeds {
    /// The needs of `graph` for what computes the values `targets`.
    pub fn new(graph: &Graph, targets: &[ValueId]) -> NodeNeeds {
        let nodes = graph.nodes();
        let mut wanted: HashSet<ValueId> = targets.iter().copied().collect();
        let mut needed = vec![false; nodes.len()];
        for (i, node) in nodes.iter().enumerate().rev() {
            if wanted.contains(&node.output) {
                needed[i] = true;
                wanted.extend(node.inputs.iter().filter_map(|o| o.value()));
            }
        }
        let mut constant = HashSet::new();
        for node in nodes {
            if node.inputs.iter().all(|o| o.value().is_none_or(|v| constant.contains(&v))) {
                constant.insert(node.output);
            }
        }
        let mut remaining = vec![0u64; nodes.len() + 1];
        for (i, node) in nodes.iter().enumerate().rev() {
            let counts = needed[i] && !constant.contains(&node.output);
            remaining[i] = remaining[i + 1].saturating_add(if counts { node_work(graph, node) } else { 0 });
        }
        NodeNeeds { needed, constant, targets: targets.to_vec(), remaining }
    }

    /// Whether a target depends on a node.
    pub fn is_needed(&self, node: usize) -> bool {
        self.needed[node]
    }

    /// The values computed before node `cut` that it or later nodes take, graph inputs included, in the order of their
    /// numbers.
    pub fn frontier(&self, graph: &Graph, cut: usize) -> Vec<ValueId> {
        let later: HashSet<ValueId> = graph.nodes()[cut..].iter().map(|n| n.output).collect();
        let taken = graph.nodes()[cut..].iter().zip(&self.needed[cut..]).filter(|(_, needed)| **needed);
        let mut kept: Vec<ValueId> = taken
            .flat_map(|(n, _)| n.inputs.iter().filter_map(|o| o.value()))
            .chain(self.targets.iter().copied())
            .filter(|v| !later.contains(v) && !self.constant.contains(v))
            .collect();
        kept.sort_unstable();
        kept.dedup();
        kept
    }

    /// Bytes of the frontier at a cut for one image.
    pub fn frontier_bytes(&self, graph: &Graph, cut: usize) -> usize {
        let bytes = |v: &ValueId| {
            let ty = graph.value_type(*v);
            let width = match ty.element {
                Element::F32 => 4usize,
                Element::I64 => 8,
                Element::Bool => 1,
                Element::Code(_) => 2,
            };
            ty.shape.at_batch(1).iter().fold(width, |n, d| n.saturating_mul(*d))
        };
        self.frontier(graph, cut).iter().map(bytes).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catc_ir::text::{NoBlobs, parse};

    const TEXT: &str = "graph @g qdq {
  q0 = quantizer u8 per_tensor scale [0.1] zero_point [3]
  q1 = quantizer i2 per_axis 0 scale [0.5, 0.25] zero_point [0, -1]
  q2 = quantizer u2 per_tensor scale [0.5] zero_point [3]
  q3 = quantizer i4 per_tensor scale [0.1] zero_point [0]
  c0 = const f32[2,2,1,1] [0.5, -0.25, 0.125, 0.75]
  c1 = const i4<q3>[2,2] [1, 2, 3, -4]
input(v0: f32[N,2,4,4] \"x\"):
  v1: u8<q0>[N,2,4,4] = quantize v0, q0
  v2: f32[N,2,4,4] = dequantize v1
  v3: i2<q1>[2,2,1,1] = quantize c0, q1
  v4: f32[2,2,1,1] = dequantize v3
  v5: f32[N,2,4,4] = conv2d v2, v4 {strides=[1,1], pads=[0,0,0,0]}
  v6: u2<q2>[N,2,4,4] = quantize v5, q2
  v7: f32[N,2,4,4] = dequantize v6
  v8: f32[N,2,4,4] = add v7, v2
  v9: f32[N,2] = reduce_mean v8 {axes=[2,3]}
  v10: f32[2,2] = dequantize c1
  v11: f32[N,2] = linear v9, v10
  output v11 \"y\"
}
";

    #[test]
    fn frontiers_hold_what_later_nodes_take() {
        let graph = parse(TEXT, &NoBlobs).unwrap();
        let needs = NodeNeeds::new(&graph, &[graph.outputs[0].value]);
        let frontier = |cut| needs.frontier(&graph, cut).iter().map(|v| v.to_string()).collect::<Vec<_>>();
        assert_eq!(frontier(0), ["v0"]);
        assert_eq!(frontier(5), ["v2", "v5"]);
        assert_eq!(frontier(10), ["v9"]);
        assert_eq!(frontier(11), ["v11"]);
        assert_eq!(needs.frontier_bytes(&graph, 5), 2 * 32 * 4);
        assert!(needs.remaining[4] > needs.remaining[5] && needs.remaining[11] == 0);
    }
}
