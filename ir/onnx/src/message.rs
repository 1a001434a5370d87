//! Constructors of ONNX messages.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::{AttributeProto, TensorProto};
use bytes::Bytes;

/// A tensor with raw data, little-endian.
pub(crate) fn raw_tensor(name: &str, ty: DataType, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(ty as i32),
        dims: dims.to_vec(),
        raw_data: Some(Bytes::from(raw)),
        ..Default::default()
    }
}

/// A tensor of f32.
pub(crate) fn f32_tensor(name: &str, dims: &[i64], items: &[f32]) -> TensorProto {
    raw_tensor(name, DataType::Float, dims, items.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A tensor of i64.
pub(crate) fn i64_tensor(name: &str, dims: &[i64], items: &[i64]) -> TensorProto {
    raw_tensor(name, DataType::Int64, dims, items.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// An attribute with a type but without a value.
pub(crate) fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(ty as i32), ..Default::default() }
}

/// An integer attribute.
pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::Int) }
}

/// An attribute with a list of integers.
pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// An f32 attribute.
pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::Float) }
}

/// A string attribute.
pub(crate) fn word(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: Some(s.into()), ..attribute(name, AttributeType::String) }
}

/// A tensor attribute.
#[cfg(test)]
pub(crate) fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(Box::new(t)), ..attribute(name, AttributeType::Tensor) }
}
