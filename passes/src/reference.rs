//! The float graph behind a graph with quantize and dequantize nodes.

use catc_ir::{Graph, Op, Operand, Phase, ValueId};
use std::collections::HashMap;

/// A copy of `graph`, which is in the float or the qdq phase, without its quantize and dequantize nodes: whatever took
/// the reals of codes takes what was quantized. Shape operations that stand between the two then work on reals.
///
/// All other nodes keep their values' numbers, so that tensors of both graphs can be compared.
pub fn float_reference(graph: &Graph) -> Graph {
    let mut float = graph.clone();
    let nodes = float.take_nodes();
    let mut source: HashMap<ValueId, Operand> = HashMap::new();
    for mut node in nodes {
        for operand in &mut node.inputs {
            if let Operand::Value(v) = *operand {
                *operand = source.get(&v).copied().unwrap_or(*operand);
            }
        }
        match node.op {
            Op::Quantize(_) | Op::Dequantize(_) => {
                source.insert(node.output, node.inputs[0]);
            }
            _ => {
                // The same operation on reals of the same shapes: its inference cannot fail where it held for codes.
                let _ = float.append_node(node);
            }
        }
    }
    for output in &mut float.outputs {
        if let Some(Operand::Value(v)) = source.get(&output.value) {
            output.value = *v;
        }
    }
    float.phase = Phase::Float;
    float
}
