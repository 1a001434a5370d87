//! Inference of the element types in the file, node by node. The graph does not have this information, because all integers are
//! i64 there. It is needed because the type of a zero point determines the format of a quantizer's codes.

use crate::node::input_name;
use crate::proto::NodeProto;
use crate::proto::tensor_proto::DataType;

/// The type of output `index` of a node. `known` gives the types of its inputs. `None` if the type cannot be inferred.
pub(crate) fn of_output(node: &NodeProto, index: usize, known: impl Fn(&str) -> Option<DataType>) -> Option<DataType> {
    let of_input = |i: usize| input_name(node, i).and_then(&known);
    let number = |name: &str| node.attribute.iter().find(|a| a.name() == name).map(|a| a.i());
    match node.op_type() {
        "Cast" => data_type(number("to")?),
        "CastLike" => of_input(1),
        "Constant" => constant(node),
        "ConstantOfShape" => tensor_attribute(node).or(Some(DataType::Float)),
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => number("dtype").map_or_else(|| of_input(0), data_type),
        "RandomNormal" | "RandomUniform" => number("dtype").map_or(Some(DataType::Float), data_type),
        "QuantizeLinear" => quantized(node, of_input(2)),
        "DequantizeLinear" => of_input(1),
        "DynamicQuantizeLinear" if index == 1 => Some(DataType::Float),
        "DynamicQuantizeLinear" => Some(DataType::Uint8),
        "ConvInteger" | "MatMulInteger" => Some(DataType::Int32),
        "QLinearConcat" => of_input(1),
        "QGemm" => {
            if input_name(node, 7).is_some() {
                of_input(8)
            } else {
                Some(DataType::Float)
            }
        }
        "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "QLinearMul" => of_input(7),
        op if op.starts_with("QLinear") => of_input(4),
        "Shape" | "Size" | "NonZero" | "ArgMax" | "ArgMin" => Some(DataType::Int64),
        "TopK" | "MaxPool" if index == 1 => Some(DataType::Int64),
        "Unique" if index > 0 => Some(DataType::Int64),
        "Dropout" if index == 1 => Some(DataType::Bool),
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN"
        | "IsInf" => Some(DataType::Bool),
        "Where" => of_input(1),
        "OneHot" => of_input(2),
        "If" | "Loop" | "Scan" => None,
        // For every other operator, the output has the type of the first input.
        _ => of_input(0),
    }
}

/// The output type of QuantizeLinear: the type of the zero point, or else the attribute, or else u8.
fn quantized(node: &NodeProto, zero_point: Option<DataType>) -> Option<DataType> {
    let asked = node.attribute.iter().find(|a| a.name() == "output_dtype").and_then(|a| data_type(a.i()));
    match input_name(node, 2) {
        Some(_) => zero_point,
        None => asked.or(Some(DataType::Uint8)),
    }
}

/// The type with this ONNX number.
pub(crate) fn data_type(number: i64) -> Option<DataType> {
    let t = DataType::try_from(i32::try_from(number).ok()?).ok()?;
    (t != DataType::Undefined).then_some(t)
}

/// The type of the tensor in the attribute `value`.
fn tensor_attribute(node: &NodeProto) -> Option<DataType> {
    let value = node.attribute.iter().find(|a| a.name() == "value")?;
    data_type(value.t.as_ref()?.data_type().into())
}

fn constant(node: &NodeProto) -> Option<DataType> {
    let has = |name: &str| node.attribute.iter().any(|a| a.name() == name);
    if has("value_float") || has("value_floats") {
        Some(DataType::Float)
    } else if has("value_int") || has("value_ints") {
        Some(DataType::Int64)
    } else {
        tensor_attribute(node)
    }
}
