//! `lower-integer`: turns a graph of quantize and dequantize nodes into fused nodes over codes.
//!
//! - Before: qdq phase, activations quantized per tensor, weights per tensor or per output channel. After: integer
//!   phase, no quantize or dequantize. At most 0.1 % of the output codes of a layer differ from the qdq graph's for the
//!   same input codes, none by more than one: sums are exact, and the steps after them are the same up to the order of
//!   two multiplications.
//! - Other passes: everything that searches scales or weights runs before it; `fold-scales` runs after it.
//! - What it does, in order:
//!   1. `motion`: `dequantize` sinks through pooling by maximum and through shape operations, `quantize` rises
//!      through them, where that is exact; so they work on codes.
//!   2. `chains`: every convolution or linear layer whose input and weights are codes starts a chain, and so do
//!      averages of codes. A chain takes up the element-wise nodes that follow, each of which must be the only user of
//!      what it takes, and ends with a `quantize`. An addition that two chains reach joins the chain that is complete later; the other
//!      chain ends in f32 and becomes its operand. Element-wise nodes and conversions that join no chain start a `fused_map` of their own.
//!   3. `emit`: each chain becomes one fused node where its last node stood.
//! - Example:
//!   ```text
//!   v4: f32[N,8,6,6] = dequantize v3
//!   v5: i2<q1>[8,8,3,3] = quantize c0, q1
//!   v6: f32[8,8,3,3] = dequantize v5
//!   v7: f32[N,8,6,6] = conv2d v4, v6, c1 {..}     -> v10: u2<q2>[N,8,6,6] = fused_conv2d v3, c2, c3, c1, v3, q2
//!   v8: f32[N,8,6,6] = add v7, v4                          {.., epilogue=[add(4, 0.41), relu, requantize]}
//!   v9: f32[N,8,6,6] = relu v8                       with the codes c2 of c0 and c3 = scale of q0 * scales of q1
//!   v10: u2<q2>[N,8,6,6] = quantize v9, q2
//!   ```
//! - A layer with only its weights or only its activations quantized computes in f32: weight codes become the f32 constants that they
//!   stand for, and a `fused_map` dequantizes the activations. So does a layer whose sums could overflow i32. Each is noted.
//! - Rejected: a fused convolution of f32 activations and weight codes. A kernel would have to dequantize the codes first, and the result
//!   is the constant that the layer has now.

mod chains;
mod emit;
mod motion;

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use catc_ir::{Element, Graph, Node, Op, Operand, Phase, Quantizer, QuantizerId, ValueId};
use std::collections::{BTreeMap, HashMap};

/// Turns quantize and dequantize nodes and what stands between them into fused nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct LowerInteger;

impl LowerInteger {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "lower-integer",
        summary: "turns quantized layers and what follows them into fused nodes over codes",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(LowerInteger)) },
    };
}

const NAME: &str = LowerInteger::ENTRY.name;

impl Pass for LowerInteger {
    fn name(&self) -> &'static str {
        NAME
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn produces(&self) -> Option<Phase> {
        Some(Phase::Integer)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        motion::sink_dequantize(graph)?;
        motion::raise_quantize(graph)?;
        let found = chains::find(graph)?;
        for (reason, labels) in by_reason(&found.float) {
            cx.note(format!("{}: {reason}", list(&labels)));
        }
        emit::emit(graph, found)?;
        graph.phase = Phase::Integer;
        graph.release_unused_constants();
        Ok(Changed::Yes)
    }
}

fn by_reason<'f>(float: &'f [(String, &'static str)]) -> BTreeMap<&'static str, Vec<&'f str>> {
    let mut reasons: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    for (label, reason) in float {
        reasons.entry(reason).or_default().push(label);
    }
    reasons
}

fn list(labels: &[&str]) -> String {
    match labels {
        [first, second, _, _, ..] => format!("{first}, {second} and {} more layers", labels.len() - 2),
        few => few.join(", "),
    }
}

/// Where the values of a list of nodes come from, and how often they are used.
struct Dataflow {
    nodes: Vec<Node>,
    defined_by: HashMap<ValueId, usize>,
    uses: HashMap<ValueId, usize>,
}

impl Dataflow {
    /// Takes the nodes out of the graph. An output of the graph counts as two uses, so that it is never a single one.
    fn take(graph: &mut Graph) -> Self {
        let nodes = graph.take_nodes();
        let defined_by = nodes.iter().enumerate().map(|(i, n)| (n.output, i)).collect();
        let mut uses: HashMap<ValueId, usize> = HashMap::new();
        for v in nodes.iter().flat_map(|n| &n.inputs).filter_map(|o| o.value()) {
            *uses.entry(v).or_default() += 1;
        }
        for o in &graph.outputs {
            *uses.entry(o.value).or_default() += 2;
        }
        Dataflow { nodes, defined_by, uses }
    }

    fn definition(&self, operand: Operand) -> Option<&Node> {
        self.defined_by.get(&operand.value()?).map(|&i| &self.nodes[i])
    }

    fn single_use(&self, v: ValueId) -> bool {
        self.uses.get(&v) == Some(&1)
    }

    /// The codes that an operand is dequantized from, with their quantizer.
    fn codes_of(&self, graph: &Graph, operand: Operand) -> Option<(Operand, QuantizerId)> {
        let node = self.definition(operand)?;
        if !matches!(node.op, Op::Dequantize(_)) {
            return None;
        }
        match graph.type_of(node.inputs[0]).element {
            Element::Code(q) => Some((node.inputs[0], q)),
            _ => None,
        }
    }

    /// As [`Dataflow::codes_of`], for codes that are computed and have one scale.
    fn activation_codes(&self, graph: &Graph, operand: Operand) -> Option<(ValueId, QuantizerId)> {
        let (codes, q) = self.codes_of(graph, operand)?;
        let (value, quantizer) = (codes.value()?, graph.quantizer(q));
        // Codes of a quantized constant are weights.
        let constant = self.definition(codes).is_some_and(|n| n.inputs.iter().all(|o| o.constant().is_some()));
        (quantizer.axis.is_none() && !constant).then_some((value, q))
    }
}

/// The scale of a per-tensor quantizer.
fn scale_of(quantizer: &Quantizer) -> f32 {
    quantizer.scale[0]
}
