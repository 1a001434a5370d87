//! The quantizers of files, and the check whether a model quantizes its activations.

use crate::node::input_name;
use crate::order::{inside, takes};
use crate::proto::tensor_proto::DataType;
use crate::proto::{GraphProto, NodeProto};
use catc_ir::{QFormat, Quantizer};
use std::collections::HashSet;

/// The scale, the zero point and the type of a quantizer in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    /// One positive scale, or one for each slice.
    pub scale: Vec<f32>,
    /// One zero point for each scale.
    pub zero_point: Vec<i32>,
    /// The format of the codes in the file.
    pub format: QFormat,
    /// The axis of several scales, as written in the file.
    pub axis: i64,
}

/// The format of a type of 2 to 8 bits.
pub(crate) fn format(ty: DataType) -> Option<QFormat> {
    let (signed, bits) = match ty {
        DataType::Uint8 => (false, 8),
        DataType::Int8 => (true, 8),
        DataType::Uint4 => (false, 4),
        DataType::Int4 => (true, 4),
        DataType::Uint2 => (false, 2),
        DataType::Int2 => (true, 2),
        _ => return None,
    };
    QFormat::new(signed, bits)
}

impl Parameters {
    /// The parameters of a quantizer of the graph.
    pub fn of(quantizer: &Quantizer) -> Self {
        Parameters {
            scale: quantizer.scale.clone(),
            zero_point: quantizer.zero_point.clone(),
            format: quantizer.format,
            axis: quantizer.axis.unwrap_or(0) as i64,
        }
    }

    /// The quantizer of a tensor of this rank. `None` if the axis does not exist.
    pub fn quantizer(&self, rank: usize) -> Option<Quantizer> {
        let axis = match self.scale.len() {
            1 => None,
            _ => Some(crate::node::axis(self.axis, rank).ok()?),
        };
        Some(Quantizer { format: self.format, axis, scale: self.scale.clone(), zero_point: self.zero_point.clone() })
    }

    /// Whether both quantizers are the same for tensors of this rank.
    pub fn agrees(&self, other: &Parameters, rank: usize) -> bool {
        self.quantizer(rank).is_some_and(|q| Some(q) == other.quantizer(rank))
    }
}

/// Whether an operator produces codes or sums of codes from its first input.
fn quantizes(node: &NodeProto) -> bool {
    matches!(node.op_type(), "QuantizeLinear" | "DynamicQuantizeLinear" | "ConvInteger" | "MatMulInteger" | "QGemm")
        || node.op_type().starts_with("QLinear")
}

/// Whether a model quantizes activations. A model that only quantizes constants is imported as a float network. `nodes` are in
/// topological order.
pub(crate) fn quantizes_data(graph: &GraphProto, nodes: &[&NodeProto]) -> bool {
    let given: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let mut computed: HashSet<&str> = graph.input.iter().map(|i| i.name()).filter(|n| !given.contains(n)).collect();
    for node in nodes {
        if !takes(node).any(|name| computed.contains(name)) {
            continue;
        }
        let of_data = node.op_type() != "QuantizeLinear" || input_name(node, 0).is_some_and(|n| computed.contains(n));
        if of_data && (quantizes(node) || inside(node).any(quantizes_inside)) {
            return true;
        }
        computed.extend(node.output.iter().map(String::as_str));
    }
    false
}

/// Whether a subgraph quantizes.
fn quantizes_inside(graph: &GraphProto) -> bool {
    graph.node.iter().any(|n| quantizes(n) || inside(n).any(quantizes_inside))
}
