//! `insert-qdq`: puts quantizers on the weights of every layer and on every tensor that feeds one.
//!
//! - Before: float phase; for quantized activations, `calibrate` ran on this graph. After: qdq phase. Every layer of
//!   [`crate::placement`] takes what a `dequantize` gives, and so does everything else that took the same tensor: one quantizer a
//!   tensor, shared with the skip connection. The outputs of the graph stay as they are.
//! - Weights: per output channel, signed, asymmetric below 8 bits, symmetric at 8 bits. Activations: per tensor, unsigned, with
//!   the zero-point that their range asks for (0 where no value is negative).
//! - The first and the last layer (those with no layer before or after them) keep `first_last` bits for weights and input.
//! - `wbits=32` or `abits=32` leaves weights or activations in float.
//! - Other passes: after the folds, which change weights; before everything that refines scales, and before lowering.
//! - Example, with `wbits=2, abits=2`:
//!   ```text
//!   v1: f32[N,8,6,6] = conv2d v0, c0 {..}      -> v3: u2<q0>[N,4,8,8] = quantize v0, q0
//!                                                 v4: f32[N,4,8,8] = dequantize v3
//!                                                 v5: i2<q1>[8,4,3,3] = quantize c0, q1
//!                                                 v6: f32[8,4,3,3] = dequantize v5
//!                                                 v1: f32[N,8,6,6] = conv2d v4, v6 {..}
//!   ```
//! - Reference: arXiv 2509.26277, appendix A; ranges as in [`crate::range`].
//! - Rejected: signed activations for ranges around 0. Unsigned codes with a zero-point hold the same values, and kernels
//!   take one kind of activation.

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::placement::Placement;
use crate::range::{WeightMethod, weight_quantizer};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_ir::ops::{Dequantize, Quantize};
use catc_ir::{ConstId, Graph, Op, Operand, Phase, QFormat, Quantizer, ValueId};
use rayon::prelude::*;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// Puts quantizers on weights and activations.
#[derive(Clone, Copy, Debug)]
pub struct InsertQdq {
    /// Bits of weights, 2 to 8, or 32 for float.
    pub wbits: u8,
    /// Bits of activations, 2 to 8, or 32 for float.
    pub abits: u8,
    /// Least bits of weights and inputs of the first and the last layer.
    pub first_last: u8,
    /// How ranges of weights are chosen.
    pub weight_method: WeightMethod,
}

impl InsertQdq {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "insert-qdq",
        summary: "puts quantizers on the weights of every layer and on every tensor that feeds one",
        options: &[
            PassOption { name: "wbits", values: "2-8 or 32", default: "8", help: "bits of weights; 32 is float" },
            PassOption { name: "abits", values: "2-8 or 32", default: "8", help: "bits of activations; 32 is float" },
            PassOption {
                name: "first_last",
                values: "2-8",
                default: "8",
                help: "least bits of weights and inputs of the first and last layer",
            },
            PassOption {
                name: "weight_method",
                values: WeightMethod::NAMES,
                default: "mse",
                help: "how ranges of weights are chosen",
            },
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            Ok(Box::new(InsertQdq {
                wbits: o.bits("wbits", 8)?,
                abits: o.bits("abits", 8)?,
                first_last: o.number("first_last", 8, 2..=8)?,
                weight_method: o.take("weight_method", WeightMethod::parse)?.unwrap_or(WeightMethod::Mse),
            }))
        },
    };
}

impl Pass for InsertQdq {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float]
    }

    fn produces(&self) -> Option<Phase> {
        Some(Phase::Qdq)
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let placement = Placement::find(graph);
        for (label, reason) in &placement.float {
            cx.note(format!("{label} stays in float: {reason}"));
        }
        let tensors = self.tensor_quantizers(&placement, cx)?;
        let weights = self.weight_quantizers(graph, &placement)?;
        graph.phase = Phase::Qdq;
        insert(graph, &placement, tensors, weights)?;
        Ok(Changed::Yes)
    }
}

impl InsertQdq {
    fn tensor_quantizers(
        &self,
        placement: &Placement,
        cx: &PassContext,
    ) -> Result<BTreeMap<ValueId, Quantizer>, PassError> {
        if self.abits == 32 {
            return Ok(BTreeMap::new());
        }
        let wanted: Vec<(ValueId, u8)> =
            placement.tensors(self.first_last.max(self.abits), self.abits).into_iter().collect();
        let quantizer = |&(v, bits): &(ValueId, u8)| {
            let observed = cx.activations.get(&v).ok_or_else(|| {
                PassError::missing(self.name(), format!("the range of {v}: run `calibrate` right before it"))
            })?;
            Ok((v, observed.quantizer(format(false, bits))))
        };
        wanted.par_iter().map(quantizer).collect()
    }

    fn weight_quantizers(
        &self,
        graph: &Graph,
        placement: &Placement,
    ) -> Result<BTreeMap<ConstId, Quantizer>, PassError> {
        let mut wanted: BTreeMap<ConstId, (u8, usize)> = BTreeMap::new();
        for layer in placement.layers.iter().filter(|_| self.wbits != 32) {
            let bits = if layer.first_or_last { self.first_last.max(self.wbits) } else { self.wbits };
            // Weights shared by two layers get one quantizer, with the bits of the more careful layer.
            wanted.entry(layer.weight).and_modify(|(b, _)| *b = bits.max(*b)).or_insert((bits, layer.node));
        }
        let quantizer = |(&id, &(bits, node)): (&ConstId, &(u8, usize))| {
            let place = || graph.label(&graph.nodes()[node]);
            let tensor = &graph.constant(id).tensor;
            let weights =
                tensor.as_f32().ok_or_else(|| PassError::graph(self.name(), place(), "weights must be f32"))?;
            let quantizer = weight_quantizer(weights, tensor.shape()[0], bits, self.weight_method);
            let quantizer =
                quantizer.map_err(|e| PassError::graph(self.name(), place(), format!("its weights: {e}")))?;
            Ok((id, quantizer))
        };
        wanted.iter().map(quantizer).collect()
    }
}

/// A format of these bits.
fn format(signed: bool, bits: u8) -> QFormat {
    QFormat::new(signed, bits).expect("options hold bits to 2..=8")
}

fn insert(
    graph: &mut Graph,
    placement: &Placement,
    tensors: BTreeMap<ValueId, Quantizer>,
    weights: BTreeMap<ConstId, Quantizer>,
) -> Result<(), PassError> {
    let layers: HashMap<usize, ConstId> = placement.layers.iter().map(|l| (l.node, l.weight)).collect();
    let mut reals: HashMap<Operand, ValueId> = HashMap::new();
    let nodes = graph.take_nodes();
    let inputs: Vec<ValueId> = graph.inputs.iter().map(|(v, _)| *v).collect();
    for v in inputs {
        if let Some(q) = tensors.get(&v) {
            reals.insert(v.into(), through(graph, v.into(), q)?);
        }
    }
    for (index, mut node) in nodes.into_iter().enumerate() {
        if let Some(weight) = layers.get(&index)
            && let Some(q) = weights.get(weight)
        {
            let operand = Operand::Const(*weight);
            let dequantized = match reals.entry(operand) {
                Entry::Occupied(e) => *e.get(),
                Entry::Vacant(e) => *e.insert(through(graph, operand, q)?),
            };
            node.inputs[1] = dequantized.into();
        }
        for operand in node.inputs.iter_mut().filter(|o| o.value().is_some()) {
            *operand = reals.get(operand).map_or(*operand, |&v| v.into());
        }
        let (output, place) = (node.output, graph.label(&node));
        graph.append_node(node).map_err(PassError::infer(InsertQdq::ENTRY.name, place))?;
        if let Some(q) = tensors.get(&output) {
            reals.insert(output.into(), through(graph, output.into(), q)?);
        }
    }
    Ok(())
}

/// Appends quantize and dequantize; gives what comes out.
fn through(graph: &mut Graph, operand: Operand, quantizer: &Quantizer) -> Result<ValueId, PassError> {
    let place = || PassError::infer(InsertQdq::ENTRY.name, operand.to_string());
    let quantizer = graph.add_quantizer(quantizer.clone());
    let codes = graph.append(Op::Quantize(Quantize { quantizer }), [operand], "").map_err(place())?;
    graph.append(Op::Dequantize(Dequantize), [codes.into()], "").map_err(place())
}
