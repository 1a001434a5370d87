//! Estimates the memory that the messages of a file would take, before the file is decoded.
//!
//! An empty message takes two bytes in the file and hundreds of bytes in memory. Real models are far from this ratio. A file that
//! consists of such messages is rejected, because it would take a hundred times its size in memory.

use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
    TrainingInfoProto, TypeProto, ValueInfoProto, tensor_shape_proto,
};
use prost::encoding::{WireType, decode_key, decode_varint};

/// The bytes that decoded messages may always take, regardless of the size of the file.
const FREE: usize = 64 << 20;
/// The additional bytes that they may take for each byte of the file. This is several times what dense models need.
const PER_BYTE: usize = 32;
/// The largest nesting depth of messages. The decoder has the same limit.
const DEPTH: usize = 100;

/// The kinds of messages that contain other messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Function,
    Training,
    /// Any other message. Its fields are not inspected.
    Leaf,
}

impl Kind {
    /// The kind of message in a field, according to the field numbers of `onnx-ml.proto`.
    fn field(self, number: u32) -> Option<Kind> {
        use Kind::*;
        Some(match (self, number) {
            (Model, 7) | (Attribute, 6 | 11) | (Training, 1 | 2) => Graph,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Graph, 1) | (Function, 7) => Node,
            (Graph, 5) | (Attribute, 5 | 10) | (Sparse, 1 | 2) => Tensor,
            (Graph, 11..=13) | (Function, 12) => ValueInfo,
            (Graph, 15) | (Attribute, 22 | 23) => Sparse,
            (Node, 5) | (Function, 11) => Attribute,
            (Attribute, 14 | 15) | (ValueInfo, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            (Model, 8 | 14 | 26)
            | (Graph, 14 | 16)
            | (Node, 9 | 10)
            | (Tensor, 13 | 16)
            | (ValueInfo, 4)
            | (Function, 9 | 14)
            | (Training, 3 | 4)
            | (Shape, 1) => Leaf,
            _ => return None,
        })
    }

    /// The size in memory in bytes, without data behind pointers.
    fn size(self) -> usize {
        match self {
            Kind::Model => size_of::<ModelProto>(),
            Kind::Graph => size_of::<GraphProto>(),
            Kind::Node => size_of::<NodeProto>(),
            Kind::Attribute => size_of::<AttributeProto>(),
            Kind::Tensor => size_of::<TensorProto>(),
            Kind::Sparse => size_of::<SparseTensorProto>(),
            Kind::ValueInfo => size_of::<ValueInfoProto>(),
            Kind::Type | Kind::TensorType | Kind::Shape => size_of::<TypeProto>(),
            Kind::Function => size_of::<FunctionProto>(),
            Kind::Training => size_of::<TrainingInfoProto>(),
            Kind::Leaf => size_of::<tensor_shape_proto::Dimension>().max(2 * size_of::<String>()),
        }
    }
}

/// Whether the messages of a file stay within the budget. Malformed data is ignored here, because the decoder reports it.
pub(crate) fn within(file: &[u8]) -> bool {
    let mut left = FREE.saturating_add(file.len().saturating_mul(PER_BYTE));
    // The messages that remain to be inspected, with their nesting depth.
    let mut todo = vec![(Kind::Model, file, 0)];
    while let Some((kind, mut bytes, depth)) = todo.pop() {
        while let Some((number, content)) = next_field(&mut bytes) {
            let cost = match kind.field(number) {
                Some(child) => {
                    if depth < DEPTH && !matches!(child, Kind::Leaf) {
                        todo.push((child, content, depth + 1));
                    }
                    child.size()
                }
                None => size_of::<String>(),
            };
            match left.checked_sub(cost) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
    }
    true
}

/// The next length-delimited field and its content. Other fields are skipped. `None` at the end or at malformed data.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    loop {
        if bytes.is_empty() {
            return None;
        }
        let (number, wire) = decode_key(bytes).ok()?;
        match wire {
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
                let content = bytes.get(..length)?;
                *bytes = &bytes[length..];
                return Some((number, content));
            }
            WireType::Varint => {
                decode_varint(bytes).ok()?;
            }
            WireType::ThirtyTwoBit => *bytes = bytes.get(4..)?,
            WireType::SixtyFourBit => *bytes = bytes.get(8..)?,
            WireType::StartGroup | WireType::EndGroup => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a file with `size` bytes of empty messages in the nested fields `path`.
    fn stuffed(path: &[u8], size: usize) -> Vec<u8> {
        let (last, outer) = path.split_last().unwrap();
        let mut bytes = [last << 3 | 2, 0].repeat(size / 2);
        for number in outer.iter().rev() {
            let mut message = vec![number << 3 | 2];
            prost::encoding::encode_varint(bytes.len() as u64, &mut message);
            message.extend(bytes);
            bytes = message;
        }
        bytes
    }

    #[test]
    fn stuffed_files_are_refused() {
        // The paths are nodes, attributes, initializers and types of values.
        for path in [&[7, 1][..], &[7, 1, 5], &[7, 5], &[7, 13]] {
            assert!(within(&stuffed(path, 1 << 10)));
            assert!(!within(&stuffed(path, 16 << 20)), "{path:?}");
            let error = crate::import_bytes(&stuffed(path, 16 << 20), None, &Default::default()).unwrap_err();
            assert!(error.to_string().contains("more messages than"), "{error}");
        }
        // Raw data does not count.
        let mut weights = vec![9 << 3 | 2];
        prost::encoding::encode_varint(64 << 20, &mut weights);
        weights.resize(weights.len() + (64 << 20), 0);
        assert!(within(&weights));
    }
}
