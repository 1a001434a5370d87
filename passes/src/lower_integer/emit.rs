//! Writes the fused nodes, and the reals that nodes left in f32 take.

use super::chains::{Chain, Chains, Start, Weights, weights_of};
use super::{Dataflow, NAME, scale_of};
use crate::pass::PassError;
use catc_ir::ops::{Body, Epilogue, EpilogueEnd, Fused};
use catc_ir::{ConstId, Graph, Node, Op, Operand, Quantizer, QuantizerId, Tensor, TensorData, ValueId};
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, HashSet};

/// Appends the nodes of the integer phase to the graph, whose nodes are taken out.
pub(super) fn emit(graph: &mut Graph, found: Chains) -> Result<(), PassError> {
    let Chains { flow, chains, chain_of, .. } = found;
    let mut emitter =
        Emitter { graph, flow: &flow, reals: HashSet::new(), codes: BTreeMap::new(), dequantized: BTreeMap::new() };
    for (index, node) in flow.nodes.iter().enumerate() {
        match chain_of[index] {
            Some(c) if chains[c].last == index => emitter.chain(&chains[c], node.output)?,
            Some(_) => {}
            // Conversions appear where something needs what they give.
            None if matches!(node.op, Op::Dequantize(_) | Op::Quantize(_)) => {}
            None => emitter.plain(node)?,
        }
    }
    for i in 0..emitter.graph.outputs.len() {
        let v = emitter.graph.outputs[i].value;
        emitter.real(v.into())?;
    }
    Ok(())
}

struct Emitter<'g> {
    graph: &'g mut Graph,
    flow: &'g Dataflow,
    /// Values that were dequantized because a node in f32 takes them.
    reals: HashSet<ValueId>,
    /// Weights as codes.
    codes: BTreeMap<(ConstId, QuantizerId), ConstId>,
    /// Weights as the reals that their codes stand for.
    dequantized: BTreeMap<(ConstId, QuantizerId), ConstId>,
}

impl Emitter<'_> {
    fn push(&mut self, node: Node) -> Result<(), PassError> {
        let place = self.graph.label(&node);
        self.graph.append_node(node).map_err(PassError::infer(NAME, place))
    }

    /// A node that stays, over reals.
    fn plain(&mut self, node: &Node) -> Result<(), PassError> {
        let mut node = node.clone();
        for operand in &mut node.inputs {
            *operand = self.real(*operand)?;
        }
        self.push(node)
    }

    /// The operand as reals: dequantizes it if that was not done yet, weights to a constant.
    fn real(&mut self, operand: Operand) -> Result<Operand, PassError> {
        let (Some(v), Some((codes, q))) = (operand.value(), self.flow.codes_of(self.graph, operand)) else {
            return Ok(operand);
        };
        if let Some((codes, q)) = self.flow.activation_codes(self.graph, operand) {
            if self.reals.insert(v) {
                let scale = scale_of(self.graph.quantizer(q));
                let fused = Fused { body: Body::Map { scale }, epilogue: Epilogue::default(), output: None };
                self.push(Node {
                    op: Op::Fused(fused),
                    inputs: smallvec![codes.into()],
                    output: v,
                    name: String::new(),
                })?;
            }
            return Ok(operand);
        }
        match weights_of(self.graph, self.flow, operand) {
            Some(weights) => Ok(self.weight_reals(weights)?.into()),
            None => {
                let message = format!("its codes {codes} of {q} have several scales and are computed");
                Err(PassError::graph(NAME, v.to_string(), message))
            }
        }
    }

    fn chain(&mut self, chain: &Chain, output: ValueId) -> Result<(), PassError> {
        let (body, mut inputs): (Body, SmallVec<[Operand; 4]>) = match &chain.start {
            Start::Product { body, inputs: [a, b] } => (body.clone(), smallvec![(*a).into(), (*b).into()]),
            Start::Map { body, input } => (body.clone(), smallvec![self.real(*input)?]),
            Start::Taps { body, input, constants: [indices, weights] } => {
                (body.clone(), smallvec![(*input).into(), (*indices).into(), (*weights).into()])
            }
            Start::Layer { body, input, weights, bias } => {
                let multiplier = self.multiplier(*input, *weights, &chain.name)?;
                let bias = match bias {
                    Some(c) => *c,
                    None => {
                        let channels = self.graph.constant(weights.tensor).tensor.shape()[0];
                        self.graph.add_constant(Tensor::f32(&[channels], vec![0.0; channels]))
                    }
                };
                let codes = self.weight_codes(*weights)?;
                (body.clone(), smallvec![(*input).into(), codes.into(), multiplier.into(), bias.into()])
            }
        };
        let mut steps = Vec::with_capacity(chain.steps.len());
        for &step in &chain.steps {
            steps.push(step.try_map_operand(|operand| {
                inputs.push(self.real(operand)?);
                Ok::<_, PassError>(inputs.len() - 1)
            })?);
        }
        let end = if chain.output.is_some() { EpilogueEnd::Requantize } else { EpilogueEnd::Real };
        let fused = Fused { body, epilogue: Epilogue { steps, end }, output: chain.output };
        self.push(Node { op: Op::Fused(fused), inputs, output, name: chain.name.clone() })
    }

    /// Scale of the input times scale of the weights, for each output channel.
    fn multiplier(&mut self, input: ValueId, weights: Weights, name: &str) -> Result<ConstId, PassError> {
        let x = self.graph.quantizer_of(input.into()).map_or(1.0, scale_of);
        let channels = self.graph.constant(weights.tensor).tensor.shape()[0];
        let w = self.graph.quantizer(weights.quantizer);
        let product: Vec<f32> = (0..channels).map(|o| x * w.scale[slice(w, o)]).collect();
        if let Some(m) = product.iter().find(|m| !m.is_finite()) {
            let message = format!("the product of the scales of its input and weights is {m}");
            return Err(PassError::graph(NAME, name, message));
        }
        Ok(self.graph.add_constant(Tensor::f32(&[channels], product)))
    }

    fn weight_codes(&mut self, weights: Weights) -> Result<ConstId, PassError> {
        let Weights { tensor, quantizer } = weights;
        if let Some(&c) = self.codes.get(&(tensor, quantizer)) {
            return Ok(c);
        }
        let constant = self.graph.constant(tensor);
        let codes = match constant.tensor.data() {
            TensorData::Code(_) => tensor,
            _ => {
                let q = self.graph.quantizer(quantizer);
                let shape = constant.tensor.shape().to_vec();
                let reals = self.f32(tensor)?;
                let row = reals.len() / shape[0].max(1);
                let codes = reals.iter().enumerate().map(|(i, &x)| q.quantize(x, slice(q, i / row)) as i16).collect();
                self.graph.add_codes(Tensor::codes(&shape, codes), quantizer)
            }
        };
        self.codes.insert((tensor, quantizer), codes);
        Ok(codes)
    }

    fn weight_reals(&mut self, weights: Weights) -> Result<ConstId, PassError> {
        let Weights { tensor, quantizer } = weights;
        if let Some(&c) = self.dequantized.get(&(tensor, quantizer)) {
            return Ok(c);
        }
        let constant = self.graph.constant(tensor);
        let q = self.graph.quantizer(quantizer);
        let shape = constant.tensor.shape().to_vec();
        let of = q.slice_of(&shape);
        let reals: Vec<f32> = match constant.tensor.data() {
            TensorData::Code(codes) => codes.iter().enumerate().map(|(i, &c)| q.dequantize(c.into(), of(i))).collect(),
            _ => {
                let reals = self.f32(tensor)?.iter().enumerate();
                reals.map(|(i, &x)| q.dequantize(q.quantize(x, of(i)), of(i))).collect()
            }
        };
        let reals = self.graph.add_constant(Tensor::f32(&shape, reals));
        self.dequantized.insert((tensor, quantizer), reals);
        Ok(reals)
    }

    fn f32(&self, tensor: ConstId) -> Result<&[f32], PassError> {
        let found = self.graph.constant(tensor).tensor.as_f32();
        found.ok_or_else(|| PassError::graph(NAME, tensor.to_string(), "quantized weights must be f32"))
    }
}

/// The scale of output channel `o`, by index.
fn slice(q: &Quantizer, o: usize) -> usize {
    if q.axis.is_some() { o } else { 0 }
}
