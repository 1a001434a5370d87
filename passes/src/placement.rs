//! Which layers of a float graph can be quantized, and which tensors need a quantizer for that.
//!
//! A layer is a `conv2d` or `linear` with constant weights and, if it has one, a constant bias. Every tensor that feeds
//! a layer gets one quantizer, shared by all that take the tensor, the skip connection of a residual block included.
//! The main branch of a residual block feeds no layer before its addition, so it is not quantized before it. A product of two computed
//! tensors, as in attention, needs a quantizer on both.

use catc_ir::{ConstId, Graph, Node, Op, ValueId};
use std::collections::{BTreeMap, HashSet};

/// A layer that can be quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its node, by index.
    pub node: usize,
    /// The tensor it takes.
    pub input: ValueId,
    /// Its weights, output channels along axis 0.
    pub weight: ConstId,
    /// Whether no other layer comes before it, or none after it, on any path.
    pub first_or_last: bool,
}

/// The layers of a graph, and those that stay in float.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// In the order of the nodes.
    pub layers: Vec<Layer>,
    /// Products of two computed tensors: the nodes, by index, and both tensors.
    pub products: Vec<(usize, [ValueId; 2])>,
    /// Label and reason of each product that cannot be quantized.
    pub float: Vec<(String, &'static str)>,
}

impl Placement {
    /// Finds the layers of a graph in the float phase.
    pub fn find(graph: &Graph) -> Self {
        let mut found = Placement::default();
        for (index, node) in graph.nodes().iter().enumerate() {
            if let (Op::MatMul(_), Some(a), Some(b)) = (&node.op, node.inputs.first(), node.inputs.get(1))
                && let (Some(a), Some(b)) = (a.value(), b.value())
            {
                found.products.push((index, [a, b]));
                continue;
            }
            match operands(graph, node) {
                None => {}
                Some(Ok((input, weight))) => {
                    found.layers.push(Layer { node: index, input, weight, first_or_last: false });
                }
                Some(Err(reason)) => found.float.push((graph.label(node), reason)),
            }
        }
        let after = reached(graph, &found.layers);
        let before = reaching(graph, &found.layers);
        for layer in &mut found.layers {
            let output = graph.nodes()[layer.node].output;
            layer.first_or_last = !after.contains(&layer.input) || !before.contains(&output);
        }
        found
    }

    /// The bits of each tensor that feeds a layer, in the order of the values: what `bits` says of the layer's node and of
    /// whether it is the first or last one; the largest where layers disagree. 32 is float, and such layers ask for no
    /// quantizer.
    pub fn tensors(&self, bits: impl Fn(usize, bool) -> u8) -> BTreeMap<ValueId, u8> {
        let layers = self.layers.iter().map(|l| (l.input, bits(l.node, l.first_or_last)));
        let products = self.products.iter().flat_map(|(node, inputs)| inputs.map(|v| (v, bits(*node, false))));
        let mut tensors = BTreeMap::new();
        for (v, wanted) in layers.chain(products).filter(|(_, wanted)| *wanted != 32) {
            tensors.entry(v).and_modify(|b: &mut u8| *b = wanted.max(*b)).or_insert(wanted);
        }
        tensors
    }
}

/// Input and weights of a product; `None` for other nodes, an error if it cannot be quantized.
fn operands(graph: &Graph, node: &Node) -> Option<Result<(ValueId, ConstId), &'static str>> {
    match node.op {
        Op::Conv2d(_) | Op::Linear(_) => {}
        Op::MatMul(_) => return Some(Err("one of its operands is a constant that is no matrix on the right")),
        _ => return None,
    }
    let (Some(input), Some(weight)) = (node.inputs[0].value(), node.inputs[1].constant()) else {
        return Some(Err("its weights are computed, or its input is constant"));
    };
    if node.inputs.get(2).is_some_and(|b| b.constant().is_none()) {
        return Some(Err("its bias is computed"));
    }
    if graph.constant(weight).tensor.is_empty() {
        return Some(Err("it has no weights"));
    }
    Some(Ok((input, weight)))
}

/// The values that depend on a layer.
fn reached(graph: &Graph, layers: &[Layer]) -> HashSet<ValueId> {
    let mut reached: HashSet<ValueId> = layers.iter().map(|l| graph.nodes()[l.node].output).collect();
    for node in graph.nodes() {
        if node.inputs.iter().filter_map(|o| o.value()).any(|v| reached.contains(&v)) {
            reached.insert(node.output);
        }
    }
    reached
}

/// The values that a layer depends on.
fn reaching(graph: &Graph, layers: &[Layer]) -> HashSet<ValueId> {
    let mut reaching: HashSet<ValueId> = layers.iter().map(|l| l.input).collect();
    for node in graph.nodes().iter().rev() {
        if reaching.contains(&node.output) {
            reaching.extend(node.inputs.iter().filter_map(|o| o.value()));
        }
    }
    reaching
}
