//! Tests of the importer on models that are built in code.

mod batch;
mod control;
mod functions;
mod hostile;
mod layers;
mod models;
mod quantized;
mod refusals;
mod shapes;
mod tensors;
mod unary;

pub(super) use crate::message::{attribute, f32_tensor, float, i64_tensor, int, ints, raw_tensor, tensor, word};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use crate::{ImportOptions, Imported, import_bytes};
use bytes::Bytes;
use catc_ir::text::{Blobs, parse};
use catc_ir::{Graph, Tensor};
use prost::Message;

/// The large constants of a graph, for parsing its text form.
struct ConstantsOf<'a>(&'a Graph);

impl Blobs for ConstantsOf<'_> {
    fn blob(&self, index: u32) -> Option<Tensor> {
        Some(self.0.constants().nth(index as usize)?.1.tensor.as_ref().clone())
    }
}

/// A model under construction.
#[derive(Clone)]
pub(super) struct ModelBuilder {
    pub model: ModelProto,
}

/// An empty model for an opset.
pub(super) fn model(opset: i64) -> ModelBuilder {
    ModelBuilder {
        model: ModelProto {
            ir_version: Some(8),
            producer_name: Some("builder".into()),
            opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
            graph: Some(GraphProto { name: Some("test".into()), ..Default::default() }),
            ..Default::default()
        },
    }
}

/// The name and type of a tensor. Sizes are numbers, names, or `?`.
pub(super) fn info(name: &str, ty: DataType, dims: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| Dimension {
        value: match (*d, d.parse()) {
            ("?", _) => None,
            (_, Ok(n)) => Some(dimension::Value::DimValue(n)),
            (name, _) => Some(dimension::Value::DimParam(name.into())),
        },
        denotation: None,
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(ty as i32), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

impl ModelBuilder {
    pub fn graph(&mut self) -> &mut GraphProto {
        self.model.graph.get_or_insert_default()
    }

    /// Adds an f32 input.
    pub fn input(self, name: &str, dims: &[&str]) -> Self {
        self.typed_input(name, DataType::Float, dims)
    }

    pub fn typed_input(mut self, name: &str, ty: DataType, dims: &[&str]) -> Self {
        self.graph().input.push(info(name, ty, dims));
        self
    }

    /// Adds an output without a declared shape.
    pub fn output(mut self, name: &str) -> Self {
        self.graph().output.push(ValueInfoProto { name: Some(name.into()), ..Default::default() });
        self
    }

    pub fn initializer(mut self, t: TensorProto) -> Self {
        self.graph().initializer.push(t);
        self
    }

    /// Adds an f32 constant. The items repeat if there are fewer than elements.
    pub fn f32(self, name: &str, dims: &[i64], items: &[f32]) -> Self {
        let count = dims.iter().product::<i64>() as usize;
        let all: Vec<f32> = items.iter().copied().cycle().take(count).collect();
        self.initializer(f32_tensor(name, dims, &all))
    }

    /// Adds a constant list of integers.
    pub fn i64(self, name: &str, items: &[i64]) -> Self {
        self.initializer(i64_tensor(name, &[items.len() as i64], items))
    }

    /// Adds a node that is named after its first output. Inputs and outputs are separated by spaces, and `_` is an omitted one.
    pub fn node(mut self, op: &str, inputs: &str, outputs: &str, attributes: &[AttributeProto]) -> Self {
        let names = |s: &str| s.split_whitespace().map(|n| if n == "_" { "" } else { n }.to_string()).collect();
        let output: Vec<String> = names(outputs);
        self.graph().node.push(NodeProto {
            input: names(inputs),
            name: output.first().map(|o| format!("/{o}")),
            output,
            op_type: Some(op.into()),
            attribute: attributes.to_vec(),
            ..Default::default()
        });
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.model.encode_to_vec()
    }

    pub fn import(&self) -> Result<Imported, String> {
        self.import_with(&ImportOptions::default())
    }

    pub fn import_with(&self, options: &ImportOptions) -> Result<Imported, String> {
        import_bytes(&self.bytes(), None, options).map_err(|e| e.to_string())
    }

    /// The text form of the imported graph, followed by the warnings.
    pub fn text(&self) -> String {
        self.text_with(&ImportOptions::default())
    }

    pub fn text_with(&self, options: &ImportOptions) -> String {
        let imported = self.import_with(options).unwrap();
        let warnings: String = imported.warnings.iter().map(|w| format!("warning: {w}\n")).collect();
        let text = imported.graph.to_string();
        let again = parse(&text, &ConstantsOf(&imported.graph)).unwrap();
        assert_eq!(again.to_string(), text, "the text does not round-trip");
        text + &warnings
    }

    /// The error of the import.
    pub fn error(&self) -> String {
        self.import().err().unwrap()
    }
}

/// A model with one node on `x` of `[N,3,8,8]`.
pub(super) fn one_node(opset: i64, op: &str, more_inputs: &str, attributes: &[AttributeProto]) -> ModelBuilder {
    model(opset).input("x", &["N", "3", "8", "8"]).output("y").node(op, &format!("x {more_inputs}"), "y", attributes)
}
