//! `insert-qdq`: puts quantizers on the weights of every layer and on every tensor that feeds one.
//!
//! - Before: float phase; for quantized activations, `calibrate` ran on this graph. After: qdq phase. Every layer of
//!   [`crate::placement`] takes the output of a `dequantize`, and so does everything else that took the same tensor: each tensor has one
//!   quantizer, which the skip connection shares. The outputs of the graph stay as they are.
//! - Weights: per output channel, signed, asymmetric below 8 bits, symmetric at 8 bits. Activations: per tensor,
//!   unsigned, with the zero-point that follows from their range (0 if no value is negative).
//! - The first and the last layer (those with no layer before or after them) have `first_last` bits for weights and
//!   input.
//! - 32 bits are float: `wbits=32` leaves all weights as they are, `abits=32` all activations, `first_last=32` both for
//!   these layers.
//! - `layers` gives single layers bits of their own ([`crate::layer_bits`]), whatever the other options say. A product of two
//!   computed tensors has inputs only. A layer whose inputs are float by name takes the reals even where another layer
//!   asks for codes of the same tensor.
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
//! - Rejected: signed activations for ranges around 0. Unsigned codes with a zero-point hold the same values, and
//!   kernels take one kind of activation.

use crate::context::PassContext;
use crate::layer_bits::{LayerBits, placed_names, resolve};
use crate::pass::{Changed, Pass, PassError};
use crate::placement::{Layer, Placement};
use crate::range::{WeightMethod, weight_quantizer};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_ir::ops::{Dequantize, Quantize};
use catc_ir::{ConstId, Graph, Op, Operand, Phase, QFormat, Quantizer, ValueId};
use rayon::prelude::*;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Puts quantizers on weights and activations.
#[derive(Clone, Debug)]
pub struct InsertQdq {
    /// Bits of weights, 2 to 8, or 32 for float.
    pub wbits: u8,
    /// Bits of activations, 2 to 8, or 32 for float.
    pub abits: u8,
    /// Bits of weights and inputs of the first and the last layer, 2 to 8, or 32 for float.
    pub first_last: u8,
    /// How ranges of weights are chosen.
    pub weight_method: WeightMethod,
    /// Bits of single layers.
    pub layers: Vec<LayerBits>,
}

/// What single layers were given, by node: bits of weights and of inputs.
type Named = HashMap<usize, (u8, u8)>;

impl InsertQdq {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "insert-qdq",
        summary: "puts quantizers on the weights of every layer and on every tensor that feeds one",
        options: &[
            PassOption::new("wbits", "2-8 or 32", "8", "bits of weights; 32 is float"),
            PassOption::new("abits", "2-8 or 32", "8", "bits of activations; 32 is float"),
            PassOption::new("first_last", "2-8 or 32", "8", "bits of weights and inputs of the first and last layer"),
            PassOption::new("weight_method", WeightMethod::NAMES, "mse", "how ranges of weights are chosen"),
            PassOption::new(
                "layers",
                "\"NAME=W/A\", several one to a line (\\n)",
                "none",
                "bits of weights and inputs of layers named, or matched as a whole by an expression",
            ),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            Ok(Box::new(InsertQdq {
                wbits: o.bits("wbits", 8)?,
                abits: o.bits("abits", 8)?,
                first_last: o.bits("first_last", 8)?,
                weight_method: o.take("weight_method", WeightMethod::parse)?.unwrap_or(WeightMethod::Mse),
                layers: o.take("layers", |text| text.lines().map(|l| l.parse().ok()).collect())?.unwrap_or_default(),
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
        let named = self.named(graph, &placement)?;
        for (node, label) in graph.nodes().iter().enumerate().map(|(i, n)| (i, graph.label(n))) {
            match named.get(&node) {
                Some((32, 32)) => cx.note(format!("{label} stays in float, as asked")),
                Some((w, a)) => cx.note(format!("{label} has {w}/{a} bits, as asked")),
                None => {}
            }
        }
        let tensors = self.tensor_quantizers(&placement, &named, cx)?;
        let weights = self.weight_quantizers(graph, &placement, &named)?;
        graph.phase = Phase::Qdq;
        self.insert(graph, &placement, &named, &tensors, &weights)?;
        Ok(Changed::Yes)
    }
}

impl InsertQdq {
    /// The layers that have bits of their own.
    fn named(&self, graph: &Graph, placement: &Placement) -> Result<Named, PassError> {
        let fail =
            |e: crate::layer_bits::LayerBitsError| PassError::graph(self.name(), "its option `layers`", e.to_string());
        let by_name = resolve(&self.layers, placed_names(graph, placement)).map_err(fail)?;
        let nodes = placement.layers.iter().map(|l| l.node).chain(placement.products.iter().map(|(node, _)| *node));
        Ok(nodes.filter_map(|node| Some((node, *by_name.get(graph.nodes()[node].name.as_str())?))).collect())
    }

    fn tensor_quantizers(
        &self,
        placement: &Placement,
        named: &Named,
        cx: &PassContext,
    ) -> Result<BTreeMap<ValueId, Quantizer>, PassError> {
        let bits = |node: usize, first_or_last: bool| match (named.get(&node), self.abits, first_or_last) {
            (Some((_, a)), ..) => *a,
            (None, 32, _) => 32,
            (None, _, true) => self.first_last,
            (None, bits, false) => bits,
        };
        let wanted: Vec<(ValueId, u8)> = placement.tensors(bits).into_iter().collect();
        let quantizer = |&(v, bits): &(ValueId, u8)| {
            let observed = cx.activations.get(&v).ok_or_else(|| {
                PassError::missing(self.name(), format!("the range of {v}: run `calibrate` right before it"))
            })?;
            Ok((v, observed.quantizer(format(false, bits)?)))
        };
        wanted.par_iter().map(quantizer).collect()
    }

    /// Bits of the weights of a layer.
    fn weight_bits(&self, layer: &Layer, named: &Named) -> u8 {
        match (named.get(&layer.node), self.wbits, layer.first_or_last) {
            (Some((w, _)), ..) => *w,
            (None, 32, _) => 32,
            (None, _, true) => self.first_last,
            (None, bits, false) => bits,
        }
    }

    /// A quantizer for each pair of constant and number of bits; weights that layers share may have several.
    fn weight_quantizers(
        &self,
        graph: &Graph,
        placement: &Placement,
        named: &Named,
    ) -> Result<BTreeMap<Weights, Quantizer>, PassError> {
        let wanted: BTreeMap<Weights, usize> =
            placement.layers.iter().map(|l| ((l.weight, self.weight_bits(l, named)), l.node)).collect();
        let quantizer = |((id, bits), node): (Weights, usize)| {
            let fail = |message: String| PassError::graph(self.name(), graph.label(&graph.nodes()[node]), message);
            let tensor = &graph.constant(id).tensor;
            let weights = tensor.as_f32().ok_or_else(|| fail("its weights must be f32".into()))?;
            let quantizer = weight_quantizer(weights, tensor.shape()[0], format(true, bits)?, self.weight_method);
            Ok(((id, bits), quantizer.map_err(|e| fail(format!("its weights hold {}", e.0)))?))
        };
        wanted.into_iter().filter(|((_, bits), _)| *bits != 32).map(quantizer).collect()
    }

    fn insert(
        &self,
        graph: &mut Graph,
        placement: &Placement,
        named: &Named,
        tensors: &BTreeMap<ValueId, Quantizer>,
        weights: &BTreeMap<Weights, Quantizer>,
    ) -> Result<(), PassError> {
        let layers: HashMap<usize, Weights> =
            placement.layers.iter().map(|l| (l.node, (l.weight, self.weight_bits(l, named)))).collect();
        let takes_reals: HashSet<usize> =
            named.iter().filter(|(_, bits)| bits.1 == 32).map(|(node, _)| *node).collect();
        // What the dequantize of each tensor, and of each layer's weights, gives.
        let mut reals: HashMap<Operand, ValueId> = HashMap::new();
        let mut weight_reals: HashMap<Weights, ValueId> = HashMap::new();
        let nodes = graph.take_nodes();
        let inputs: Vec<ValueId> = graph.inputs.iter().map(|(v, _)| *v).collect();
        for v in inputs {
            if let Some(q) = tensors.get(&v) {
                reals.insert(v.into(), through(graph, v.into(), q)?);
            }
        }
        for (index, mut node) in nodes.into_iter().enumerate() {
            for operand in node.inputs.iter_mut().filter(|_| !takes_reals.contains(&index)) {
                *operand = reals.get(operand).map_or(*operand, |&v| v.into());
            }
            if let Some(&key) = layers.get(&index)
                && let Some(q) = weights.get(&key)
            {
                let v = match weight_reals.entry(key) {
                    Entry::Occupied(e) => *e.get(),
                    Entry::Vacant(e) => *e.insert(through(graph, key.0.into(), q)?),
                };
                node.inputs[1] = v.into();
            }
            let (output, place) = (node.output, graph.label(&node));
            graph.append_node(node).map_err(PassError::infer(self.name(), place))?;
            if let Some(q) = tensors.get(&output) {
                reals.insert(output.into(), through(graph, output.into(), q)?);
            }
        }
        Ok(())
    }
}

/// Weights and the bits they are quantized to.
type Weights = (ConstId, u8);

/// A format of these bits.
fn format(signed: bool, bits: u8) -> Result<QFormat, PassError> {
    let none =
        || PassError::graph(InsertQdq::ENTRY.name, "its options", format!("{bits} bits: 2 to 8 are possible, or 32"));
    QFormat::new(signed, bits).ok_or_else(none)
}

/// Appends quantize and dequantize; gives what comes out.
fn through(graph: &mut Graph, operand: Operand, quantizer: &Quantizer) -> Result<ValueId, PassError> {
    let place = || PassError::infer(InsertQdq::ENTRY.name, operand.to_string());
    let quantizer = graph.add_quantizer(quantizer.clone());
    let codes = graph.append(Op::Quantize(Quantize { quantizer }), [operand], "").map_err(place())?;
    graph.append(Op::Dequantize(Dequantize), [codes.into()], "").map_err(place())
}
