//! Graphs out: [`export()`] writes a graph in the float or qdq phase as a model that other runtimes read.
//!
//! - Quantizers become `QuantizeLinear` and `DequantizeLinear`. Widths that ONNX has no type for are u8 or i8 codes: what is quantized
//!   is clipped to their range first, which is where they saturate. So every real is the same.
//! - Weights are stored as i8 codes less their zero-points (per output channel where the quantizer is), biases as reals.
//! - The lowest opset that has the operators is declared, 13 at least.
//! - The batch is a dimension called `N`.

mod nodes;
mod pool;
mod writer;

use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use catc_ir::ops::Unary;
use catc_ir::{Dim, Element, Graph, Op, Phase, TensorType};
use prost::Message;
use writer::Writer;

/// Messages longer than this are not read by protobuf.
const LONGEST_MESSAGE: usize = i32::MAX as usize;

/// Why a graph cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Fused nodes have no counterpart.
    #[error("a graph of the integer phase has no form in ONNX; write it before `lower-integer`")]
    Phase,
    /// A node has no counterpart.
    #[error("{node} cannot be written as ONNX: {problem}")]
    Node {
        /// The node.
        node: String,
        /// Why.
        problem: String,
    },
    /// An input or output has no counterpart.
    #[error("\"{name}\" cannot be written as ONNX: {problem}")]
    Port {
        /// The input or output.
        name: String,
        /// Why.
        problem: String,
    },
    /// The file would be larger than its format allows.
    #[error("the model would take {0} bytes, and a file of this format holds 2 GiB")]
    Size(usize),
}

/// The bytes of a model file.
///
/// # Errors
/// If a node has no counterpart: those of the integer phase, and a few that are evaluated only.
pub fn export(graph: &Graph) -> Result<Vec<u8>, ExportError> {
    if graph.phase == Phase::Integer {
        return Err(ExportError::Phase);
    }
    let opset = graph.nodes().iter().map(|n| opset_of(&n.op)).fold(13, i64::max);
    let inputs = graph.inputs.iter().map(|(v, name)| port(name, graph.value_type(*v))).collect::<Result<_, _>>()?;
    let ports = graph.outputs.iter().map(|o| port(&o.name, graph.value_type(o.value)));
    let output = ports.collect::<Result<_, _>>()?;
    let mut writer = Writer::new(graph, opset);
    for node in graph.nodes() {
        nodes::write(&mut writer, node).map_err(|problem| ExportError::Node { node: graph.label(node), problem })?;
    }
    writer.finish_outputs();
    let model = ModelProto {
        ir_version: Some(if opset < 19 { 8 } else { 9 }),
        producer_name: Some("catc".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        graph: Some(GraphProto {
            name: Some(graph.name.clone()),
            node: writer.nodes,
            initializer: writer.initializers,
            input: inputs,
            output,
            ..Default::default()
        }),
        ..Default::default()
    };
    match model.encoded_len() {
        n if n > LONGEST_MESSAGE => Err(ExportError::Size(n)),
        _ => Ok(model.encode_to_vec()),
    }
}

/// The first opset that has the operator of a node.
fn opset_of(op: &Op) -> i64 {
    match op {
        Op::Unary(Unary::HardSwish) => 14,
        Op::LayerNorm(_) => 17,
        Op::AvgPool(p) if p.window.dilations != [1, 1] => 19,
        Op::Unary(Unary::Gelu) => 20,
        _ => 13,
    }
}

/// An input or output.
fn port(name: &str, ty: &TensorType) -> Result<ValueInfoProto, ExportError> {
    let element = match ty.element {
        Element::F32 => DataType::Float,
        Element::I64 => DataType::Int64,
        Element::Bool => DataType::Bool,
        Element::Code(_) => return Err(ExportError::Port { name: name.into(), problem: "it holds codes".into() }),
    };
    let dim = |d: &Dim| Dimension {
        value: Some(match d {
            Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
            Dim::Batch(1) => dimension::Value::DimParam("N".into()),
            Dim::Batch(k) => dimension::Value::DimParam(format!("{k}N")),
        }),
        denotation: None,
    };
    let shape = TensorShapeProto { dim: ty.shape.dims().iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element as i32), shape: Some(shape) };
    Ok(ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    })
}
