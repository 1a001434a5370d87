//! Finds which nodes become one fused node: a body and the steps after it.

use super::{Dataflow, NAME, scale_of};
use crate::pass::PassError;
use catc_ir::ops::{Binary, Body, Interpolate};
use catc_ir::verify::{accumulator_fits, product_fits};
use catc_ir::{ConstId, Dim, Element, Graph, Node, Op, Operand, QuantizerId, ValueId};
use catc_scalar::EpilogueStep;
use std::collections::HashMap;

/// What a fused node will be made of.
pub(super) struct Chain {
    /// What comes first.
    pub(super) start: Start,
    /// What follows, before the output is quantized if it is.
    pub(super) steps: Vec<ChainStep>,
    /// The last node, by index: where the fused node will stand.
    pub(super) last: usize,
    /// The quantizer of the output, if it is codes.
    pub(super) output: Option<QuantizerId>,
    /// The name of the first node that has one.
    pub(super) name: String,
}

/// The body of a chain.
pub(super) enum Start {
    /// A layer over codes.
    Layer { body: Body, input: ValueId, weights: Weights, bias: Option<ConstId> },
    /// A product of two tensors of codes.
    Product { body: Body, inputs: [ValueId; 2] },
    /// An interpolation of codes, with its indices and weights.
    Taps { body: Body, input: ValueId, constants: [ConstId; 2] },
    /// A body with one input.
    Map { body: Body, input: Operand },
}

/// Weights as codes, or to be made into codes.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// The reals or codes.
    pub(super) tensor: ConstId,
    /// Their quantizer.
    pub(super) quantizer: QuantizerId,
}

/// One step, its operand still by name.
pub(super) type ChainStep = EpilogueStep<Operand>;

/// What becomes of each node.
pub(super) struct Chains {
    pub(super) flow: Dataflow,
    pub(super) chains: Vec<Chain>,
    /// The chain that each node belongs to; `None` for nodes that stay, conversions included.
    pub(super) chain_of: Vec<Option<usize>>,
    /// Label and reason of each quantized layer that computes in f32.
    pub(super) float: Vec<(String, &'static str)>,
}

/// Takes the nodes out of the graph and groups them.
pub(super) fn find(graph: &mut Graph) -> Result<Chains, PassError> {
    let flow = Dataflow::take(graph);
    let count = flow.nodes.len();
    let mut finder = Finder {
        graph,
        open: HashMap::new(),
        found: Chains { flow, chains: vec![], chain_of: vec![None; count], float: vec![] },
    };
    for index in 0..count {
        finder.node(index)?;
    }
    Ok(finder.found)
}

struct Finder<'g> {
    graph: &'g Graph,
    /// Chains that end in f32 so far, by the value they end with.
    open: HashMap<ValueId, usize>,
    found: Chains,
}

impl Finder<'_> {
    fn node(&mut self, index: usize) -> Result<(), PassError> {
        let node = self.found.flow.nodes[index].clone();
        match &node.op {
            Op::Conv2d(_) | Op::Linear(_) => {
                if let Some(start) = self.layer(&node) {
                    self.start(index, start, vec![]);
                }
            }
            Op::MatMul(_) => {
                if let Some(start) = self.product(&node) {
                    self.start(index, start, vec![]);
                }
            }
            Op::AvgPool(_) | Op::ReduceMean(_) => {
                if let Some(start) = self.average(&node) {
                    self.start(index, start, vec![]);
                }
            }
            Op::Interpolate(interpolate) => {
                if let Some(start) = self.taps(&node, *interpolate) {
                    self.start(index, start, vec![]);
                }
            }
            Op::Unary(unary) => self.follow(index, node.inputs[0], Some(ChainStep::Unary(*unary))),
            Op::Binary(op) => self.binary(index, &node, *op),
            Op::Quantize(_) if self.quantizes_weights(&node) => {}
            Op::Quantize(q) => {
                if self.graph.quantizer(q.quantizer).axis.is_some() {
                    let message = "activations need one scale for the whole tensor: make the quantizer per_tensor";
                    return Err(PassError::graph(NAME, self.graph.label(&node), message));
                }
                self.follow(index, node.inputs[0], None);
                let chain = self.found.chain_of[index].map(|c| &mut self.found.chains[c]);
                chain.into_iter().for_each(|c| c.output = Some(q.quantizer));
                self.open.remove(&node.output);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the node quantizes a constant for nothing but a dequantize.
    fn quantizes_weights(&self, node: &Node) -> bool {
        let takes = |n: &&Node| n.inputs.contains(&node.output.into());
        let mut users = self.found.flow.nodes.iter().filter(takes);
        node.inputs[0].constant().is_some() && users.all(|n| matches!(n.op, Op::Dequantize(_)))
    }

    /// Begins a chain with node `index`.
    fn start(&mut self, index: usize, start: Start, steps: Vec<ChainStep>) {
        let node = &self.found.flow.nodes[index];
        self.open.insert(node.output, self.found.chains.len());
        self.found.chain_of[index] = Some(self.found.chains.len());
        self.found.chains.push(Chain { start, steps, last: index, output: None, name: node.name.clone() });
    }

    /// The open chain that ends with `operand`, if nothing else takes that.
    fn tail(&self, operand: Operand) -> Option<usize> {
        let v = operand.value()?;
        self.open.get(&v).copied().filter(|_| self.found.flow.single_use(v))
    }

    /// Adds node `index` to `chain`, as a step if it is one and not the quantizer at its end.
    fn join(&mut self, index: usize, chain: usize, step: Option<ChainStep>) {
        let nodes = &self.found.flow.nodes;
        let target = &mut self.found.chains[chain];
        self.open.remove(&nodes[target.last].output);
        self.open.insert(nodes[index].output, chain);
        target.steps.extend(step);
        target.last = index;
        if target.name.is_empty() {
            target.name = nodes[index].name.clone();
        }
        self.found.chain_of[index] = Some(chain);
    }

    /// Adds node `index` to the chain that ends with its input, or begins a map with it.
    fn follow(&mut self, index: usize, input: Operand, step: Option<ChainStep>) {
        match self.tail(input) {
            Some(chain) => self.join(index, chain, step),
            None => self.start(index, self.map(input), step.into_iter().collect()),
        }
    }

    /// A map body over the codes that `input` is dequantized from, or over its reals.
    fn map(&self, input: Operand) -> Start {
        let (input, scale) = self.as_operand(input);
        Start::Map { body: Body::Map { scale }, input }
    }

    /// What a fused node takes for `operand` and its factor: codes with their scale, or reals with 1.
    fn as_operand(&self, operand: Operand) -> (Operand, f32) {
        match self.found.flow.activation_codes(self.graph, operand) {
            Some((codes, q)) => (codes.into(), scale_of(self.graph.quantizer(q))),
            None => (operand, 1.0),
        }
    }

    fn binary(&mut self, index: usize, node: &Node, op: Binary) {
        let Some(op) = op.compiled().filter(|_| self.graph.value_type(node.output).element == Element::F32) else {
            return;
        };
        let shape = &self.graph.value_type(node.output).shape;
        let fits = |o: Operand| o.value().is_some() && self.graph.type_of(o).shape == *shape;
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let swaps = matches!(op, catc_scalar::Binary::Add | catc_scalar::Binary::Mul);
        // The running value must be the left operand, and of the shape of the result.
        let left = fits(a).then_some((a, b));
        let right = (swaps && fits(b)).then_some((b, a));
        let chains = [left, right].into_iter().flatten().filter_map(|(t, r)| Some((self.tail(t)?, r)));
        // Of two chains the one that is complete later takes the node: the other is then there to be its operand.
        if let Some((chain, r)) = chains.max_by_key(|(c, _)| self.found.chains[*c].last) {
            let (operand, scale) = self.as_operand(r);
            self.join(index, chain, Some(ChainStep::Binary { op, operand, scale }));
        } else if let Some((t, r)) = left.or(right) {
            let (operand, scale) = self.as_operand(r);
            self.start(index, self.map(t), vec![ChainStep::Binary { op, operand, scale }]);
        }
    }

    /// The body of a layer whose input and weights are codes. Notes why a layer with one of the two computes in f32.
    fn layer(&mut self, node: &Node) -> Option<Start> {
        let input = self.found.flow.activation_codes(self.graph, node.inputs[0]);
        let weights = weights_of(self.graph, &self.found.flow, node.inputs[1]);
        let mut float = |reason| {
            self.found.float.push((self.graph.label(node), reason));
            None
        };
        let (input, input_quantizer, weights) = match (input, weights) {
            (Some((input, q)), Some(weights)) => (input, q, weights),
            (Some(_), None) => return float("computes in f32, since only its input is quantized"),
            (None, Some(_)) => return float("computes in f32, since only its weights are quantized"),
            (None, None) => return None,
        };
        let bias = match node.inputs.get(2) {
            None => None,
            Some(Operand::Const(c)) => Some(*c),
            Some(Operand::Value(_)) => return float("computes in f32, since its bias is computed"),
        };
        let (x, w) = (self.graph.quantizer(input_quantizer), self.graph.quantizer(weights.quantizer));
        if w.axis.is_some_and(|a| a != 0) {
            return float("computes in f32, since its weights have scales along another axis than the output channels");
        }
        let fits_byte = |z: &i32| w.format.min() - z >= -128 && w.format.max() - z <= 127;
        if !w.zero_point.iter().all(fits_byte) {
            return float(
                "computes in f32, since its weights less their zero-points do not fit a byte: make them i8 around 0",
            );
        }
        if !accumulator_fits(x, w, &self.graph.type_of(node.inputs[1]).shape) {
            return float("computes in f32, since its sums could leave 32 bits; give it fewer bits");
        }
        let body = match &node.op {
            Op::Conv2d(conv) => Body::Conv2d(conv.clone()),
            _ => Body::Linear,
        };
        Some(Start::Layer { body, input, weights, bias })
    }

    /// The body of a product of two tensors of codes. Notes why one with quantized operands computes in f32.
    fn product(&mut self, node: &Node) -> Option<Start> {
        let codes = |o: Operand| self.found.flow.activation_codes(self.graph, o);
        let (a, b) = (codes(node.inputs[0]), codes(node.inputs[1]));
        let mut float = |reason| {
            self.found.float.push((self.graph.label(node), reason));
            None
        };
        let ((a, qa), (b, qb)) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (None, None) => return None,
            _ => return float("computes in f32, since only one of its operands is quantized"),
        };
        let (qa, qb) = (self.graph.quantizer(qa), self.graph.quantizer(qb));
        if !product_fits(qa, qb, &self.graph.type_of(node.inputs[0]).shape) {
            return float("computes in f32, since its sums could leave 32 bits; give it fewer bits");
        }
        let scale = scale_of(qa) * scale_of(qb);
        if !scale.is_normal() {
            return float("computes in f32, since the product of its scales is too small or too large");
        }
        Some(Start::Product { body: Body::MatMul { scale }, inputs: [a, b] })
    }

    /// The body of an interpolation of codes.
    fn taps(&self, node: &Node, interpolate: Interpolate) -> Option<Start> {
        let (input, q) = self.found.flow.activation_codes(self.graph, node.inputs[0])?;
        let constants = [node.inputs[1].constant()?, node.inputs[2].constant()?];
        let scale = scale_of(self.graph.quantizer(q));
        Some(Start::Taps { body: Body::Interpolate { interpolate, scale }, input, constants })
    }

    /// The body of an average over codes whose sums stay in i32.
    fn average(&self, node: &Node) -> Option<Start> {
        let (input, q) = self.found.flow.activation_codes(self.graph, node.inputs[0])?;
        let quantizer = self.graph.quantizer(q);
        let scale = scale_of(quantizer);
        let (body, count) = match &node.op {
            Op::AvgPool(pool) => {
                let [h, w] = pool.window.kernel;
                (Body::AvgPool { pool: pool.clone(), scale }, h.checked_mul(w)?)
            }
            Op::ReduceMean(mean) => {
                let shape = &self.graph.value_type(input).shape;
                let mut sizes = mean.axes.iter().map(|&a| match shape.dims()[a] {
                    Dim::Fixed(n) => Some(n),
                    Dim::Batch(_) => None,
                });
                let count = sizes.try_fold(1usize, |n, d| n.checked_mul(d?))?;
                (Body::Mean { mean: mean.clone(), scale }, count)
            }
            _ => return None,
        };
        let span = (quantizer.format.max() - quantizer.format.min()) as usize;
        (count.checked_mul(span)? <= i32::MAX as usize).then(|| Start::Map { body, input: input.into() })
    }
}

/// The weights behind a dequantize: codes, or a constant that is quantized.
pub(super) fn weights_of(graph: &Graph, flow: &Dataflow, operand: Operand) -> Option<Weights> {
    let (codes, quantizer) = flow.codes_of(graph, operand)?;
    let tensor = match codes {
        Operand::Const(c) => c,
        Operand::Value(_) => flow.definition(codes)?.inputs[0].constant()?,
    };
    let element = graph.constant(tensor).element;
    matches!(element, Element::F32 | Element::Code(_)).then_some(Weights { tensor, quantizer })
}
