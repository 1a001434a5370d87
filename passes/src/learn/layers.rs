//! The layers of a quantized graph as passes that correct or learn them see them: weights as codes, a bias of their own.

use crate::pass::PassError;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{ConstId, Definition, Graph, Node, Op, Operand, QuantizerId, ValueId};
use catc_ir::{Tensor, ops::Dequantize};
use std::collections::HashMap;

/// A layer that the float graph has too.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Its node, by index, here and in the float graph.
    pub node: usize,
    pub reference_node: usize,
    pub output: ValueId,
    /// Its bias, which no other layer has.
    pub bias: ConstId,
    /// The quantizer of its weights, if it is theirs alone and has a scale for each output channel.
    pub scales: Option<QuantizerId>,
    /// Its weights, if they stand as codes and it has `scales`.
    pub weights: Option<CodedWeights>,
    pub channels: usize,
    /// Elements of a channel's plane in the output of one image; of a linear layer 1.
    pub positions: usize,
    /// Whether channels are the innermost dimension of the output.
    pub innermost: bool,
}

/// Weights that stand as codes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodedWeights {
    pub codes: ConstId,
    /// The weights that were rounded to these codes, unless an earlier pass chose the codes itself.
    pub float: Option<ConstId>,
    /// What the codes stand for.
    pub dequantized: ValueId,
}

/// A copy of the graph in which weights stand as codes and every layer has a bias of its own, and its layers in the order of
/// the nodes.
pub(crate) fn prepare(pass: &'static str, graph: &Graph, reference: &Graph) -> Result<(Graph, Vec<Layer>), PassError> {
    let interpreter = Interpreter::new(graph).map_err(|e| PassError::evaluation(pass, e))?;
    let mut made = graph.clone();
    // The codes of each constant that was quantized, and the constant.
    let mut codes: HashMap<ValueId, (ConstId, ConstId)> = HashMap::new();
    for node in graph.nodes() {
        if let (Op::Quantize(q), Operand::Const(float)) = (&node.op, node.inputs[0]) {
            let tensor =
                interpreter.run_from(&[], &[node.output]).map_err(|e| PassError::evaluation(pass, e))?.remove(0);
            codes.insert(node.output, (made.add_codes(tensor, q.quantizer), float));
        }
    }
    let floats: HashMap<ConstId, ConstId> = codes.values().copied().collect();
    let in_reference = reference.definitions();
    let mut layers = vec![];
    for mut node in made.take_nodes() {
        for operand in &mut node.inputs {
            if let Operand::Value(v) = *operand {
                *operand = codes.get(&v).map_or(*operand, |&(c, _)| c.into());
            }
        }
        if codes.contains_key(&node.output) {
            continue;
        }
        if let (Op::Conv2d(_) | Op::Linear(_), true) = (&node.op, reference.has_value(node.output))
            && let Some(Definition::Node(reference_node)) = in_reference[node.output]
            && let Some(bias) = own_bias(&mut made, &node)
        {
            let channels = made.constant(bias).tensor.len();
            let sizes = graph.value_type(node.output).shape.at_batch(1);
            let innermost = matches!(node.op, Op::Linear(_));
            node.inputs.truncate(2);
            node.inputs.push(bias.into());
            let scales = own_scales(graph, &made, node.inputs[1]);
            let coded = |(dequantized, codes): (ValueId, ConstId)| CodedWeights {
                codes,
                float: floats.get(&codes).copied(),
                dequantized,
            };
            layers.push(Layer {
                node: made.nodes().len(),
                reference_node,
                output: node.output,
                bias,
                scales,
                weights: scales.and(dequantized_codes(&made, node.inputs[1])).map(coded),
                channels,
                positions: if innermost { 1 } else { sizes[2.min(sizes.len())..].iter().product() },
                innermost,
            });
        }
        let place = made.label(&node);
        made.append_node(node).map_err(PassError::infer(pass, place))?;
    }
    Ok((made, layers))
}

/// A new constant with the bias of a layer, zeros if it has none; `None` if it is computed.
fn own_bias(graph: &mut Graph, node: &Node) -> Option<ConstId> {
    let bias = match node.inputs.get(2) {
        Some(operand) => graph.constant(operand.constant()?).tensor.as_f32()?.to_vec(),
        None => vec![0.0; graph.type_of(node.inputs[1]).shape.dims().first()?.fixed()?],
    };
    Some(graph.add_constant(Tensor::f32(&[bias.len()], bias)))
}

/// The dequantize that makes weights of constant codes: its output and the codes.
fn dequantized_codes(graph: &Graph, weight: Operand) -> Option<(ValueId, ConstId)> {
    let v = weight.value()?;
    let dequantize = graph.nodes().iter().find(|n| n.output == v && n.op == Op::Dequantize(Dequantize))?;
    Some((v, dequantize.inputs[0].constant()?))
}

/// The quantizer behind a layer's weights, if they are codes that nothing else takes, with a scale for each output channel.
fn own_scales(before: &Graph, graph: &Graph, weight: Operand) -> Option<QuantizerId> {
    let (v, codes) = dequantized_codes(graph, weight)?;
    let id = graph.constant(codes).element.quantizer()?;
    let takers = before.uses()[v].len();
    let applied = before.nodes().iter().filter(|n| match (&n.op, n.inputs[0]) {
        (Op::Quantize(q), _) => q.quantizer == id,
        (Op::Dequantize(_), Operand::Const(c)) => before.constant(c).element.quantizer() == Some(id),
        _ => false,
    });
    (takers == 1 && applied.count() == 1 && graph.quantizer(id).axis == Some(0)).then_some(id)
}
