//! The graph that a unit is learned in: its nodes alone, soft weights in the place of codes, and quantizers that can be left out
//! element by element.
//!
//! QDrop (arXiv 2203.05740, equation 7) replaces the quantized value d of some elements by what was quantized, x. Here that is
//! `m ? x : d` with a mask m, a further input of the graph, so that gradients follow from those of the operations.

use crate::learn::blocks::{Unit, is_batch_of_reals, unit_nodes};
use crate::learn::layers::Layer;
use crate::pass::PassError;
use catc_interp::Interpreter;
use catc_ir::ops::{Dequantize, Where};
use catc_ir::{ConstId, Element, Graph, Op, Operand, QuantizerId, Tensor, TensorType, ValueId};
use std::collections::HashMap;

/// A unit ready to be learned.
pub(crate) struct TrainingGraph {
    pub interpreter: Interpreter,
    /// The masks of the quantizers in the unit, each with its elements for one image; none without dropping.
    pub masks: Vec<Mask>,
    /// For each layer of the unit the constant that stands for its soft weights, if they are learned.
    pub weights: Vec<Option<ConstId>>,
    /// The quantizers of activations in the unit, in order.
    pub activations: Vec<QuantizerId>,
}

/// Where the quantizer of a tensor is left out.
pub(crate) struct Mask {
    pub value: ValueId,
    /// Sizes for one image.
    pub shape: Vec<usize>,
}

impl TrainingGraph {
    /// The graph of `unit`, a part of `graph`. `soft` holds the weights that layers of the unit start with, `None` where their codes
    /// stay.
    pub fn new(
        pass: &'static str,
        graph: &Graph,
        unit: &Unit,
        layers: &[Layer],
        soft: Vec<Option<Tensor>>,
        with_masks: bool,
    ) -> Result<TrainingGraph, PassError> {
        let mut made = graph.clone();
        made.take_nodes();
        made.inputs = unit.inputs.iter().enumerate().map(|(i, v)| (*v, format!("x{i}"))).collect();
        made.outputs.clear();
        made.add_output("y", unit.output);
        let mut weights: Vec<Option<ConstId>> = vec![];
        // What takes the place of a value: soft weights of dequantized codes, mixed tensors of quantized ones.
        let mut instead: HashMap<ValueId, Operand> = HashMap::new();
        for (&l, tensor) in unit.layers.iter().zip(soft) {
            let constant = tensor.map(|t| made.add_constant(t));
            if let (Some(c), Some(coded)) = (constant, layers[l].weights) {
                instead.insert(coded.dequantized, c.into());
            }
            weights.push(constant);
        }
        let (mut masks, mut activations) = (vec![], vec![]);
        let mut quantized: HashMap<ValueId, Operand> = HashMap::new();
        for index in unit_nodes(graph, unit) {
            let mut node = graph.nodes()[index].clone();
            if instead.contains_key(&node.output) {
                continue;
            }
            for operand in &mut node.inputs {
                *operand = operand.value().and_then(|v| instead.get(&v)).copied().unwrap_or(*operand);
            }
            if let (Op::Quantize(q), Operand::Value(_)) = (&node.op, node.inputs[0]) {
                quantized.insert(node.output, node.inputs[0]);
                if !activations.contains(&q.quantizer) {
                    activations.push(q.quantizer);
                }
            }
            let source = match (&node.op, node.inputs[0]) {
                (Op::Dequantize(Dequantize), Operand::Value(v))
                    if with_masks && is_batch_of_reals(graph, node.output) =>
                {
                    quantized.get(&v).copied()
                }
                _ => None,
            };
            let (output, place) = (node.output, graph.label(&node));
            made.append_node(node).map_err(PassError::infer(pass, place.clone()))?;
            if let Some(x) = source {
                let ty = made.value_type(output).clone();
                let shape = ty.shape.at_batch(1);
                let mask = made.add_input(format!("m{}", masks.len()), TensorType { element: Element::Bool, ..ty });
                masks.push(Mask { value: mask, shape });
                let choice = made.append(Op::Where(Where), [mask.into(), x, output.into()], "");
                let mixed = choice.map_err(PassError::infer(pass, place))?;
                instead.insert(output, mixed.into());
            }
        }
        let interpreter = Interpreter::new(&made).map_err(|e| PassError::evaluation(pass, e))?;
        Ok(TrainingGraph { interpreter, masks, weights, activations })
    }
}
