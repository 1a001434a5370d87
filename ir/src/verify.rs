//! The verifier. It runs after every pass and reports all violations at once.
//!
//! Rules of every phase:
//! 1. All operands exist. A value is defined exactly once, as an input or by a node, and before it is used.
//! 2. The recorded type of each node's output is the type that inference computes from its inputs.
//! 3. There is at least one output, and all outputs are defined. No two inputs and no two outputs have the same nonempty name.
//! 4. Quantizers have finite positive scales and zero points within their format. There is one zero point for each scale, and one
//!    of each if there is no axis. With an axis, a code tensor has one slice for each scale.
//! 5. Constant codes lie in the range of their format.
//!
//! Rules of a phase:
//! 6. `float`: there are no codes.
//! 7. `qdq`: quantize nodes produce codes, and only dequantize nodes, max pooling and shape operations accept them. There are no
//!    fused nodes.
//! 8. `integer`: only fused nodes, max pooling and shape operations accept codes. There are no quantize or dequantize nodes.
//!    Activations of fused nodes have per-tensor quantizers. No accumulator of a convolution, fully connected layer or matrix
//!    product can overflow i32.

use crate::graph::{Graph, Node, Operand, Phase};
use crate::infer::Inputs;
use crate::ops::{Body, Op};
use crate::types::{Element, TensorType};
use crate::{Quantizer, Shape};
use std::collections::HashSet;
use std::fmt;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The node, input, output, constant or quantizer that breaks the rule.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Checks all rules. The error lists every violation.
pub fn verify(graph: &Graph) -> Result<(), Vec<Violation>> {
    let mut v = Verifier { graph, violations: vec![] };
    v.quantizers();
    v.constants();
    v.interface();
    v.nodes();
    if v.violations.is_empty() { Ok(()) } else { Err(v.violations) }
}

struct Verifier<'g> {
    graph: &'g Graph,
    violations: Vec<Violation>,
}

impl Verifier<'_> {
    fn report(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.violations.push(Violation { place: place.into(), message: message.into() });
    }

    fn quantizers(&mut self) {
        for (id, q) in self.graph.quantizers() {
            if q.scale.is_empty() || q.scale.len() != q.zero_point.len() || (q.axis.is_none() && q.scale.len() != 1) {
                let counts = format!("{} scales and {} zero-points", q.scale.len(), q.zero_point.len());
                self.report(id.to_string(), counts);
            }
            if let Some(s) = q.scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
                self.report(id.to_string(), format!("scale {s:?} is not a positive number"));
            }
            if let Some(z) = q.zero_point.iter().find(|z| !(q.format.min()..=q.format.max()).contains(z)) {
                self.report(id.to_string(), format!("zero-point {z} is no code of {}", q.format));
            }
        }
    }

    fn codes_fit(&mut self, place: &str, ty: &TensorType) {
        let Element::Code(q) = ty.element else { return };
        if !self.graph.has_quantizer(q) {
            return self.report(place, format!("there is no {q}"));
        }
        let q = self.graph.quantizer(q);
        if let Some(axis) = q.axis
            && ty.shape.dims().get(axis).and_then(|d| d.fixed()) != Some(q.scale.len())
        {
            self.report(place, format!("{} scales do not fit axis {axis} of {}", q.scale.len(), ty.shape));
        }
        if self.graph.phase == Phase::Float {
            self.report(place, "codes in the float phase");
        }
    }

    fn constants(&mut self) {
        for (id, c) in self.graph.constants() {
            self.codes_fit(&id.to_string(), &c.ty());
            let (Some(codes), Some(q)) = (c.tensor.as_codes(), c.element.quantizer()) else {
                continue;
            };
            if self.graph.has_quantizer(q) {
                let f = self.graph.quantizer(q).format;
                if let Some(x) = codes.iter().find(|x| !(f.min()..=f.max()).contains(&i32::from(**x))) {
                    self.report(id.to_string(), format!("{x} is no code of {f}"));
                }
            }
        }
    }

    fn interface(&mut self) {
        let g = self.graph;
        if g.outputs.is_empty() {
            self.report(format!("@{}", g.name), "a graph needs at least one output");
        }
        for names in [
            g.inputs.iter().map(|(_, n)| n.as_str()).collect::<Vec<_>>(),
            g.outputs.iter().map(|o| o.name.as_str()).collect(),
        ] {
            let mut seen = HashSet::new();
            for n in names.into_iter().filter(|n| !n.is_empty()) {
                if !seen.insert(n) {
                    self.report(format!("@{}", g.name), format!("the name \"{n}\" stands twice"));
                }
            }
        }
        for (v, _) in &g.inputs {
            self.codes_fit(&v.to_string(), g.value_type(*v));
        }
    }

    fn nodes(&mut self) {
        let g = self.graph;
        let mut defined: HashSet<_> = g.inputs.iter().map(|(v, _)| *v).collect();
        for node in g.nodes() {
            let place = g.label(node);
            let missing = node.inputs.iter().find(|o| match o {
                Operand::Value(v) => !defined.contains(v),
                Operand::Const(c) => !g.has_constant(*c),
            });
            if let Some(o) = missing {
                self.report(&place, format!("takes {o}, which is not defined before it"));
            } else {
                self.node(&place, node);
            }
            if !defined.insert(node.output) {
                self.report(&place, format!("defines {} again", node.output));
            }
        }
        for o in &g.outputs {
            if !defined.contains(&o.value) {
                self.report(format!("output \"{}\"", o.name), format!("{} is not defined", o.value));
            }
        }
    }

    fn node(&mut self, place: &str, node: &Node) {
        let g = self.graph;
        let types: Vec<_> = node.inputs.iter().map(|&o| g.type_of(o)).collect();
        match node.op.infer(&Inputs(&types)) {
            Err(e) => return self.report(place, e.to_string()),
            Ok(ty) if ty != *g.value_type(node.output) => {
                return self.report(
                    place,
                    format!("recorded shape {}, inferred {}", g.value_type(node.output).shape, ty.shape),
                );
            }
            Ok(ty) => self.codes_fit(place, &ty),
        }
        let is_quant = matches!(node.op, Op::Quantize(_) | Op::Dequantize(_));
        match (&node.op, g.phase) {
            (Op::Fused(_), Phase::Float | Phase::Qdq) => self.report(place, "fused nodes belong to the integer phase"),
            (_, Phase::Float | Phase::Integer) if is_quant => {
                self.report(place, format!("quantize and dequantize do not belong to the {} phase", g.phase.name()));
            }
            (Op::Fused(fused), Phase::Integer) => self.fused(place, &fused.body, node, &types),
            _ => {}
        }
    }

    fn fused(&mut self, place: &str, body: &Body, node: &Node, types: &[TensorType]) {
        let g = self.graph;
        let quantizer = |i: usize| g.quantizer_of(node.inputs[i]);
        for (i, ty) in types.iter().enumerate() {
            let weight = i == 1 && body.inputs() == 4;
            if ty.element.quantizer().is_some() && !weight && quantizer(i).is_some_and(|q| q.axis.is_some()) {
                self.report(place, format!("input {i} must have a per-tensor quantizer"));
            }
        }
        if body.inputs() == 4 {
            if (1..4).any(|i| node.inputs[i].constant().is_none()) {
                return self.report(place, "weights, multiplier and bias must be constants");
            }
            let (Some(x), Some(w)) = (quantizer(0), quantizer(1)) else {
                return;
            };
            if w.axis.is_some_and(|a| a != 0) {
                self.report(place, "weights must be quantized per tensor or per output channel");
            }
            if !accumulator_fits(x, w, &types[1].shape) {
                self.report(place, "its accumulator may overflow i32");
            }
        }
        if let Body::Interpolate { .. } = body
            && (1..3).any(|i| node.inputs[i].constant().is_none())
        {
            return self.report(place, "indices and weights must be constants");
        }
        if let Body::MatMul { .. } = body
            && let (Some(a), Some(b)) = (quantizer(0), quantizer(1))
            && !product_fits(a, b, &types[0].shape)
        {
            self.report(place, "its accumulator may overflow i32");
        }
    }
}

/// Whether `Σ (a - zp_a)(b - zp_b)` over the last axis of `a` fits in i32 for all codes. The bound also covers partial sums of
/// raw codes.
pub fn product_fits(a: &Quantizer, b: &Quantizer, shape: &Shape) -> bool {
    let depth = shape.dims().last().and_then(|d| d.fixed());
    let span = |q: &Quantizer| (q.format.max() - q.format.min()) as u64;
    depth.is_some_and(|k| (k as u64).saturating_mul(span(a) * span(b)) <= i32::MAX as u64)
}

/// Whether `Σ (x - zp_x)(w - zp_w)` fits in i32 for all codes. The bound also covers the partial sums of raw codes that kernels
/// compute.
pub fn accumulator_fits(x: &Quantizer, w: &Quantizer, weights: &Shape) -> bool {
    let depth: Option<u64> = weights.dims()[1..].iter().try_fold(1u64, |n, d| n.checked_mul(d.fixed()? as u64));
    let span = |q: &Quantizer| (q.format.max() - q.format.min()) as u64;
    depth.is_some_and(|k| k.saturating_mul(span(x) * span(w)) <= i32::MAX as u64)
}
