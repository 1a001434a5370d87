//! Finds the integer inputs that index a table, and the length of the table.

use crate::ValueId;
use crate::graph::{Graph, Operand};
use crate::ops::Op;
use crate::types::Dim;
use std::collections::HashMap;

/// The lengths of the axes that the elements of an integer input index, through [`crate::ops::Gather`] or
/// [`crate::ops::GatherElements`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// The length of the shortest axis that every element of the input indexes.
    pub every: Option<usize>,
    /// The length of the shortest axis that at least some elements of the input index.
    pub some: Option<usize>,
}

impl Indexed {
    fn least(a: Option<usize>, b: Option<usize>) -> Option<usize> {
        a.into_iter().chain(b).min()
    }

    fn join(&mut self, other: Indexed) {
        self.every = Indexed::least(self.every, other.every);
        self.some = Indexed::least(self.some, other.some);
    }
}

/// Finds for each graph input what its elements index. The search looks through operations that only move elements.
pub fn indexed_inputs(graph: &Graph) -> Vec<Indexed> {
    let mut found: HashMap<ValueId, Indexed> = HashMap::new();
    for node in graph.nodes().iter().rev() {
        let axis = match &node.op {
            Op::Gather(op) => Some(op.axis),
            Op::GatherElements(op) => Some(op.axis),
            _ => None,
        };
        let length =
            axis.and_then(|axis| graph.type_of(node.inputs[0]).shape.dims().get(axis).copied()).and_then(Dim::fixed);
        if let (Some(length), Some(&Operand::Value(index))) = (length, node.inputs.get(1)) {
            found.entry(index).or_default().join(Indexed { every: Some(length), some: Some(length) });
        }
        let Some(&of_output) = found.get(&node.output) else { continue };
        let (moved, all) = match &node.op {
            Op::Identity(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Expand(_) | Op::Concat(_) => {
                (&node.inputs[..], true)
            }
            Op::Slice(_) | Op::Gather(_) | Op::GatherElements(_) => (&node.inputs[..1], false),
            _ => (&[][..], false),
        };
        for value in moved.iter().filter_map(|o| o.value()) {
            let every = of_output.every.filter(|_| all);
            found.entry(value).or_default().join(Indexed { every, some: of_output.some });
        }
    }
    graph.inputs.iter().map(|(v, _)| found.get(v).copied().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{NoBlobs, parse};

    fn of(nodes: &str, output: &str) -> Indexed {
        let text = format!(
            "graph @g float {{\n  c0 = const f32[10,2] random(1, normal, 0.1)\ninput(v0: i64[N,3] \"ids\"):\n{nodes}\n  output {output} \"y\"\n}}\n"
        );
        let graph = parse(&text, &NoBlobs).unwrap_or_else(|e| panic!("{e}: {text}"));
        indexed_inputs(&graph)[0]
    }

    #[test]
    fn ids_of_a_table_are_bounded_by_its_rows() {
        let found = of("  v1: f32[N,3,2] = gather c0, v0 {axis=0}", "v1");
        assert_eq!(found, Indexed { every: Some(10), some: Some(10) });
        let part =
            "  v1: i64[N,1] = slice v0 {axis=1, start=0, end=1, step=1}\n  v2: f32[N,1,2] = gather c0, v1 {axis=0}";
        assert_eq!(of(part, "v2"), Indexed { every: None, some: Some(10) });
        assert_eq!(of("  v1: f32[N,3] = cast_f32 v0", "v1"), Indexed::default());
    }
}
