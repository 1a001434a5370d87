//! Where the logits of a classifier are, and which images passes compare them on.

use catc_ir::ops::{Softmax, Unary};
use catc_ir::{Definition, Dim, Element, Graph, Op, Operand, ValueId};

/// The value that holds the logits `[N,classes]`: the only output, or what a softmax over the classes makes it of. Else
/// why there is none (a sentence fragment).
pub(crate) fn find_logits(graph: &Graph) -> Result<ValueId, String> {
    let [output] = &graph.outputs[..] else {
        return Err(format!("the graph has {} outputs, not one", graph.outputs.len()));
    };
    let ty = graph.value_type(output.value);
    let classes = match (ty.element, ty.shape.dims()) {
        (Element::F32, [Dim::Batch(1), Dim::Fixed(classes)]) => *classes,
        _ => return Err(format!("the output has shape {}, not [N,classes] in f32", ty.shape)),
    };
    if classes < 2 {
        return Err("the output has a single class".into());
    }
    match graph.definitions()[output.value] {
        Some(Definition::Node(i)) => {
            let node = &graph.nodes()[i];
            match (&node.op, node.inputs[0]) {
                (Op::Softmax(Softmax { axis: 1 }), Operand::Value(v)) => Ok(v),
                (Op::Softmax(_) | Op::Unary(Unary::Sigmoid | Unary::HardSigmoid { .. }), _) => {
                    Err(format!("{} makes the output, which is no distribution over classes", graph.label(node)))
                }
                _ => Ok(output.value),
            }
        }
        _ => Err("the output is an input of the graph".into()),
    }
}
