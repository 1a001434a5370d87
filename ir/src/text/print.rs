//! Printing. Unused constants and quantizers are omitted.

use super::INLINE_ELEMENTS;
use crate::TensorData;
use crate::graph::{Constant, Graph, Node};
use crate::ops::attrs::AttrValue;
use crate::types::{Element, TensorType};
use std::fmt::{self, Display, Write};

/// `[a, b, c]`.
fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(show).collect();
    format!("[{}]", items.join(", "))
}

/// A space and the name in quotes, with Rust's escape sequences. Empty if the name is empty.
fn quoted(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" {name:?}") }
}

impl Graph {
    /// The text of a type: `f32[N,4]`, `u2<q0>[N,64,56,56]`.
    pub fn type_text(&self, ty: &TensorType) -> String {
        let shape = &ty.shape;
        match ty.element {
            Element::F32 => format!("f32{shape}"),
            Element::I64 => format!("i64{shape}"),
            Element::Bool => format!("bool{shape}"),
            Element::Code(q) if self.has_quantizer(q) => {
                format!("{}<{q}>{shape}", self.quantizer(q).format)
            }
            Element::Code(q) => format!("?<{q}>{shape}"),
        }
    }

    fn constant_text(&self, index: usize, c: &Constant) -> String {
        let ty = self.type_text(&c.ty());
        if c.tensor.len() > INLINE_ELEMENTS {
            return format!("{ty} blob {index} #{:016x}", c.tensor.content_hash());
        }
        let items = match c.tensor.data() {
            TensorData::F32(v) => list(v, |x| format!("{x:?}")),
            TensorData::I64(v) => list(v, i64::to_string),
            TensorData::Bool(v) => list(v, bool::to_string),
            TensorData::Code(v) => list(v, i16::to_string),
        };
        format!("{ty} {items}")
    }

    fn node_text(&self, node: &Node) -> String {
        let mut text =
            format!("{}: {} = {}", node.output, self.type_text(self.value_type(node.output)), node.op.name());
        let attrs = node.op.attrs();
        let mut operands: Vec<String> = node.inputs.iter().map(|o| o.to_string()).collect();
        let mut shown = vec![];
        for (key, value) in &attrs {
            match value {
                AttrValue::Quantizer(q) => operands.push(q.to_string()),
                value => shown.push(format!("{key}={value}")),
            }
        }
        if !operands.is_empty() {
            text += &format!(" {}", operands.join(", "));
        }
        if !shown.is_empty() {
            text += &format!(" {{{}}}", shown.join(", "));
        }
        text + &quoted(&node.name)
    }
}

impl Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph @{} {} {{", self.name, self.phase.name())?;
        let used = self.used_quantizers();
        for (id, q) in self.quantizers().filter(|(id, _)| used.contains(id)) {
            let axis = q.axis.map_or("per_tensor".to_string(), |a| format!("per_axis {a}"));
            let scale = list(&q.scale, |s| format!("{s:?}"));
            let zero_point = list(&q.zero_point, i32::to_string);
            writeln!(f, "  {id} = quantizer {} {axis} scale {scale} zero_point {zero_point}", q.format)?;
        }
        let used = self.used_constants();
        for (i, (id, c)) in self.constants().enumerate().filter(|(_, (id, _))| used.contains(id)) {
            writeln!(f, "  {id} = const {}", self.constant_text(i, c))?;
        }
        let mut inputs = String::new();
        for (i, (v, name)) in self.inputs.iter().enumerate() {
            let sep = if i > 0 { ", " } else { "" };
            write!(inputs, "{sep}{v}: {}{}", self.type_text(self.value_type(*v)), quoted(name))?;
        }
        writeln!(f, "input({inputs}):")?;
        for node in self.nodes() {
            writeln!(f, "  {}", self.node_text(node))?;
        }
        for o in &self.outputs {
            writeln!(f, "  output {}{}", o.value, quoted(&o.name))?;
        }
        f.write_str("}\n")
    }
}
