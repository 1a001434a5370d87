//! Moves conversions through operations that only move or compare elements, which then work on codes.
//!
//! Exact: quantization is monotonic, so it commutes with a maximum over windows (padding never wins); it acts on each
//! element alone, so it commutes with what moves elements; and 0, the padding of `pad`, is a code of every quantizer.

use super::{Dataflow, NAME};
use crate::pass::PassError;
use catc_ir::ops::{Dequantize, Quantize};
use catc_ir::{Graph, Node, Op, Operand, QuantizerId, ValueId};
use smallvec::{SmallVec, smallvec};
use std::collections::HashMap;

/// Whether an operation on codes gives the codes of the same operation on reals. The codes are all inputs of a concatenation, and the
/// first input of other operations.
fn works_on_codes(op: &Op) -> bool {
    match op {
        Op::MaxPool(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Slice(_) | Op::Gather(_) => true,
        Op::Identity(_) => true,
        Op::Pad(pad) => pad.value == 0.0,
        _ => false,
    }
}

/// The inputs that hold what is moved.
fn moved_inputs(node: &Node) -> &[Operand] {
    if matches!(node.op, Op::Concat(_)) { &node.inputs } else { &node.inputs[..1] }
}

fn append(graph: &mut Graph, op: Op, inputs: SmallVec<[Operand; 4]>, name: &str) -> Result<ValueId, PassError> {
    graph.append(op, inputs, name).map_err(PassError::infer(NAME, name))
}

fn push(graph: &mut Graph, node: Node) -> Result<(), PassError> {
    let place = graph.label(&node);
    graph.append_node(node).map_err(PassError::infer(NAME, place))
}

/// `op(dequantize(x))` becomes `dequantize(op(x))` where `op` can take codes, and `quantize(dequantize(x))` by one
/// quantizer becomes `x`.
pub(super) fn sink_dequantize(graph: &mut Graph) -> Result<(), PassError> {
    let mut flow = Dataflow::take(graph);
    let mut same: HashMap<ValueId, Operand> = HashMap::new();
    for index in 0..flow.nodes.len() {
        let mut node = flow.nodes[index].clone();
        for operand in &mut node.inputs {
            *operand = operand.value().and_then(|v| same.get(&v).copied()).unwrap_or(*operand);
        }
        flow.nodes[index].inputs = node.inputs.clone();
        if let Op::Quantize(q) = node.op
            && let Some((codes, from)) = flow.activation_codes(graph, node.inputs[0])
            && graph.quantizer(from) == graph.quantizer(q.quantizer)
            && from == q.quantizer
        {
            same.insert(node.output, codes.into());
            continue;
        }
        let codes: Option<Vec<_>> =
            moved_inputs_if(&node, works_on_codes(&node.op)).iter().map(|&o| flow.activation_codes(graph, o)).collect();
        match codes {
            Some(codes) if !codes.is_empty() && codes.iter().all(|(_, q)| *q == codes[0].1) => {
                let mut inputs = node.inputs.clone();
                inputs.iter_mut().zip(&codes).for_each(|(o, (c, _))| *o = (*c).into());
                let moved = append(graph, node.op.clone(), inputs, &node.name)?;
                // Later nodes find the dequantize where the operation was.
                let dequantize = Node { op: Op::Dequantize(Dequantize), inputs: smallvec![moved.into()], ..node };
                flow.nodes[index] = dequantize.clone();
                push(graph, dequantize)?;
            }
            _ => push(graph, node)?,
        }
    }
    Ok(())
}

fn moved_inputs_if(node: &Node, condition: bool) -> &[Operand] {
    if condition { moved_inputs(node) } else { &[] }
}

/// `quantize(op(x))` becomes `op(quantize(x))` where `op` can take codes and nothing else takes what `op` computes, nor
/// what it takes.
pub(super) fn raise_quantize(graph: &mut Graph) -> Result<(), PassError> {
    let flow = Dataflow::take(graph);
    // The values to compute as codes, of which quantizer, and under which number if there is one already.
    let mut as_codes: HashMap<ValueId, (QuantizerId, Option<ValueId>)> = HashMap::new();
    let mut raised: Vec<bool> = vec![false; flow.nodes.len()];
    for (index, node) in flow.nodes.iter().enumerate().rev() {
        if let (Op::Quantize(q), Some(v)) = (&node.op, node.inputs[0].value())
            && can_rise_through(graph, &flow, v)
        {
            as_codes.insert(v, (q.quantizer, Some(node.output)));
            raised[index] = true;
        } else if let Some(&(q, _)) = as_codes.get(&node.output) {
            for v in moved_inputs(node).iter().filter_map(|o| o.value()) {
                if can_rise_through(graph, &flow, v) {
                    as_codes.insert(v, (q, None));
                }
            }
        }
    }
    let mut codes: HashMap<ValueId, ValueId> = HashMap::new();
    for (index, node) in flow.nodes.iter().enumerate() {
        if raised[index] {
            continue;
        }
        let Some(&(q, number)) = as_codes.get(&node.output) else {
            push(graph, node.clone())?;
            continue;
        };
        let mut inputs = node.inputs.clone();
        for i in 0..moved_inputs(node).len() {
            inputs[i] = match (inputs[i].value().and_then(|v| codes.get(&v)), flow.activation_codes(graph, inputs[i])) {
                (Some(&c), _) => c.into(),
                (None, Some((c, from))) if from == q => c.into(),
                (None, _) => append(graph, Op::Quantize(Quantize { quantizer: q }), smallvec![inputs[i]], "")?.into(),
            };
        }
        let output = match number {
            Some(output) => {
                push(graph, Node { output, inputs, ..node.clone() })?;
                output
            }
            None => append(graph, node.op.clone(), inputs, &node.name)?,
        };
        codes.insert(node.output, output);
    }
    Ok(())
}

/// Whether a quantize of `v` can move before the node that computes it: only the quantize takes `v`, and what the node
/// takes is either dequantized from codes or taken by nothing else.
fn can_rise_through(graph: &Graph, flow: &Dataflow, v: ValueId) -> bool {
    let Some(node) = flow.definition(v.into()) else { return false };
    let movable = |o: &Operand| match o {
        Operand::Value(u) => flow.single_use(*u) || flow.activation_codes(graph, *o).is_some(),
        Operand::Const(_) => false,
    };
    // Where a slice or gather gives less than half of the elements that it takes, quantizing before it would be wasted work.
    let elements = |o: Operand| graph.type_of(o).shape.at_batch(1).iter().product::<usize>();
    let fewer = matches!(node.op, Op::Slice(_) | Op::Gather(_)) && 2 * elements(v.into()) < elements(node.inputs[0]);
    works_on_codes(&node.op) && !fewer && flow.single_use(v) && moved_inputs(node).iter().all(movable)
}
