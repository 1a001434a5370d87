//! The scales and zero-points that a search moves, and how far they are from where they started.

use crate::work::node_work;
use catc_ir::{Element, Graph, Node, Op, Operand, Quantizer, QuantizerId, ValueId};
use std::collections::{HashMap, HashSet};

/// Quantizers of more bits than this are left alone: a step of theirs is too small to matter to the output.
pub(crate) const MAX_BITS: u8 = 6;

/// What a quantizer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A tensor that depends on the image: one scale and one zero-point.
    Activation,
    /// A constant: all its scales move by a common factor.
    Weight,
}

/// A quantizer that a search may move.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub id: QuantizerId,
    pub role: Role,
    /// The first node, by index, whose value depends on image and quantizer.
    pub start: usize,
    /// The quantizer as it was at first.
    pub initial: Quantizer,
    /// Where it is now.
    pub offset: Offset,
}

/// The distance of a quantizer from where it started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offset {
    /// Every scale is its first value times this.
    pub factor: f64,
    /// The zero-point is its first value plus this.
    pub shift: i32,
}

impl Offset {
    /// Where a search starts.
    pub const NONE: Offset = Offset { factor: 1.0, shift: 0 };
}

impl Parameter {
    /// The quantizer at an offset; `None` if that has no scale or zero-point of the format.
    pub fn at(&self, offset: Offset) -> Option<Quantizer> {
        let mut q = self.initial.clone();
        q.scale.iter_mut().for_each(|s| *s = (f64::from(*s) * offset.factor) as f32);
        q.zero_point.iter_mut().for_each(|z| *z += offset.shift);
        let codes = q.format.min()..=q.format.max();
        let sound = q.scale.iter().all(|s| s.is_normal()) && q.zero_point.iter().all(|z| codes.contains(z));
        sound.then_some(q)
    }

    /// The regularizer of equation 2, relative: `((δ - δ0)/δ0)² + ((z - z0)/(2^b - 1))²`.
    pub fn penalty(&self, offset: Offset) -> f64 {
        let steps = f64::from((1u32 << self.initial.format.bits()) - 1);
        (offset.factor - 1.0).powi(2) + (f64::from(offset.shift) / steps).powi(2)
    }
}

/// The graph's nodes as a search sees them.
pub(crate) struct Layout {
    /// Whether the target depends on the node.
    needed: Vec<bool>,
    /// Values that depend on constants alone.
    constant: HashSet<ValueId>,
    target: ValueId,
    /// `remaining[i]` is the cost for one image of the needed nodes from i on, in multiply-adds.
    pub remaining: Vec<u64>,
}

impl Layout {
    /// The layout of `graph` for a search on the value `target`.
    pub fn new(graph: &Graph, target: ValueId) -> Layout {
        let nodes = graph.nodes();
        let mut wanted: HashSet<ValueId> = [target].into();
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
        Layout { needed, constant, target, remaining }
    }

    /// Whether the target depends on a node.
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
            .chain([self.target])
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

    /// The quantizers of up to [`MAX_BITS`] bits that the target depends on, by the node from which on they matter.
    pub fn parameters(&self, graph: &Graph) -> Vec<Parameter> {
        let mut found: HashMap<QuantizerId, Parameter> = HashMap::new();
        // Constants that a weight quantizer made: it matters where something else takes them.
        let mut made_by: HashMap<ValueId, Vec<QuantizerId>> = HashMap::new();
        for (i, node) in graph.nodes().iter().enumerate().filter(|(i, _)| self.needed[*i]) {
            let constant = self.constant.contains(&node.output);
            let mut touching: Vec<(QuantizerId, Role)> = vec![];
            if !constant {
                touching.extend(own_quantizers(graph, node).into_iter().map(|q| (q, Role::Activation)));
            }
            let made = node.inputs.iter().filter_map(|o| made_by.get(&o.value()?)).flatten().copied();
            let made: Vec<QuantizerId> = made.collect();
            if constant {
                let all = made.into_iter().chain(own_quantizers(graph, node)).collect();
                made_by.insert(node.output, all);
            } else {
                touching.extend(made.into_iter().map(|q| (q, Role::Weight)));
            }
            for (id, role) in touching {
                let initial = graph.quantizer(id);
                if initial.format.bits() <= MAX_BITS {
                    let new = || Parameter { id, role, start: i, initial: initial.clone(), offset: Offset::NONE };
                    found.entry(id).or_insert_with(new);
                }
            }
        }
        let mut parameters: Vec<Parameter> = found.into_values().collect();
        parameters.sort_by_key(|p| (p.start, p.id));
        parameters
    }
}

/// The quantizers that a node itself applies.
fn own_quantizers(graph: &Graph, node: &Node) -> Vec<QuantizerId> {
    match (&node.op, node.inputs[0]) {
        (Op::Quantize(q), _) => vec![q.quantizer],
        (Op::Dequantize(_), Operand::Const(c)) => graph.constant(c).element.quantizer().into_iter().collect(),
        (Op::Dequantize(_), Operand::Value(v)) => graph.value_type(v).element.quantizer().into_iter().collect(),
        _ => vec![],
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
    fn parameters_stand_where_they_matter_first() {
        let graph = parse(TEXT, &NoBlobs).unwrap();
        let layout = Layout::new(&graph, graph.outputs[0].value);
        let found: Vec<_> = layout.parameters(&graph).iter().map(|p| (p.id.to_string(), p.role, p.start)).collect();
        let expected = [("q1", Role::Weight, 4), ("q2", Role::Activation, 5), ("q3", Role::Weight, 10)];
        assert_eq!(found, expected.map(|(id, role, start)| (id.to_string(), role, start)), "q0 has too many bits");
        let frontier = |cut| layout.frontier(&graph, cut).iter().map(|v| v.to_string()).collect::<Vec<_>>();
        assert_eq!(frontier(0), ["v0"]);
        assert_eq!(frontier(5), ["v2", "v5"]);
        assert_eq!(frontier(10), ["v9"]);
        assert_eq!(frontier(11), ["v11"]);
        assert_eq!(layout.frontier_bytes(&graph, 5), 2 * 32 * 4);
        assert!(layout.remaining[4] > layout.remaining[5] && layout.remaining[11] == 0);
    }

    #[test]
    fn offsets_keep_to_the_format() {
        let graph = parse(TEXT, &NoBlobs).unwrap();
        let layout = Layout::new(&graph, graph.outputs[0].value);
        let parameters = layout.parameters(&graph);
        let q2 = &parameters[1];
        assert_eq!(q2.at(Offset { factor: 1.5, shift: -1 }), Some(Quantizer::per_tensor(q2.initial.format, 0.75, 2)));
        assert_eq!(q2.at(Offset { factor: 1.0, shift: 1 }), None, "4 is no code of u2");
        assert_eq!(q2.at(Offset { factor: 1e-45, shift: 0 }), None);
        assert!((q2.penalty(Offset { factor: 1.5, shift: -1 }) - (0.25 + 1.0 / 9.0)).abs() < 1e-12);
        assert_eq!(parameters[0].at(Offset { factor: 2.0, shift: 0 }).unwrap().scale, [1.0, 0.5]);
    }
}
