//! Export: [`export()`] writes a graph of the float or qdq phase as a model for other runtimes.
//!
//! - Quantizers become `QuantizeLinear` and `DequantizeLinear`. Codes of fewer than 8 bits are stored as u8 or i8. A `Clip`
//!   before the quantization then limits the values to the range of the narrower format, so the results do not change.
//! - Weights are stored as i8 codes minus their zero points, per output channel if the quantizer is. Biases are stored as f32.
//! - The model declares the lowest opset that has all its operators, but at least 13.
//! - The batch is a dimension called `N`.
//! - Integer and boolean inputs have the type of the original file. A `Cast` to the graph's type follows them.

mod nodes;
mod pool;
mod writer;

use crate::interface::WholeType;
use crate::ops::unary;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use catc_ir::ops::Unary;
use catc_ir::{Dim, Element, Graph, Op, Phase, TensorType};
use prost::Message;
use writer::Writer;

/// The length of the longest message that protobuf implementations can read.
const LONGEST_MESSAGE: usize = i32::MAX as usize;

/// Why a graph cannot be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The graph is in the integer phase, whose fused nodes have no counterpart in ONNX.
    #[error("a graph of the integer phase has no form in ONNX; write it before `lower-integer`")]
    Phase,
    /// A node has no counterpart in ONNX.
    #[error("{node} cannot be written as ONNX: {problem}")]
    Node {
        /// The node.
        node: String,
        /// Why.
        problem: String,
    },
    /// An input or output has no counterpart in ONNX.
    #[error("\"{name}\" cannot be written as ONNX: {problem}")]
    Port {
        /// The input or output.
        name: String,
        /// Why.
        problem: String,
    },
    /// The file would be larger than the format allows.
    #[error("the model would take {0} bytes, and a file of this format holds 2 GiB")]
    Size(usize),
}

/// Encodes a graph as the bytes of a model file. `whole` holds the types of the inputs in the original file, as in
/// [`crate::Imported::whole`]. Inputs without an entry have the types of the graph.
///
/// # Errors
/// Fails if a node has no counterpart in ONNX. This includes all nodes of the integer phase, and a few operations that compiled
/// networks do not contain.
pub fn export(graph: &Graph, whole: &[Option<WholeType>]) -> Result<Vec<u8>, ExportError> {
    if graph.phase == Phase::Integer {
        return Err(ExportError::Phase);
    }
    let opset = graph.nodes().iter().map(|n| opset_of(&n.op)).fold(13, i64::max);
    let mut inputs = Vec::with_capacity(graph.inputs.len());
    let mut writer = Writer::new(graph, opset);
    for (i, (value, name)) in graph.inputs.iter().enumerate() {
        let ty = graph.value_type(*value);
        let element = data_type(name, ty)?;
        let of_file = whole.get(i).and_then(Option::as_ref).and_then(file_type).unwrap_or(element);
        if of_file != element {
            writer.cast_input(*value, name, element);
        }
        inputs.push(port(name, ty, of_file));
    }
    let mut output = Vec::with_capacity(graph.outputs.len());
    for o in &graph.outputs {
        let ty = graph.value_type(o.value);
        output.push(port(&o.name, ty, data_type(&o.name, ty)?));
    }
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

/// The lowest opset that supports a node. For unary functions it may be below 13, which is the lowest opset that [`export()`]
/// declares.
fn opset_of(op: &Op) -> i64 {
    match op {
        // Written as a sigmoid and a product.
        Op::Unary(Unary::Silu) => unary::since(Unary::Sigmoid),
        Op::Unary(f) => unary::since(*f),
        Op::LayerNorm(_) => 17,
        Op::AvgPool(p) if p.window.dilations != [1, 1] => 19,
        _ => 13,
    }
}

/// The element type of an input or output.
fn data_type(name: &str, ty: &TensorType) -> Result<DataType, ExportError> {
    match ty.element {
        Element::F32 => Ok(DataType::Float),
        Element::I64 => Ok(DataType::Int64),
        Element::Bool => Ok(DataType::Bool),
        Element::Code(_) => Err(ExportError::Port { name: name.into(), problem: "it holds codes".into() }),
    }
}

/// The type of an input in the original file. `None` for types of 2 and 4 bits, because few runtimes support them.
fn file_type(whole: &WholeType) -> Option<DataType> {
    use DataType::{Int2, Int4, Uint2, Uint4};
    (!matches!(whole.data_type, Int2 | Int4 | Uint2 | Uint4)).then_some(whole.data_type)
}

/// Builds an input or output.
fn port(name: &str, ty: &TensorType, element: DataType) -> ValueInfoProto {
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
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
