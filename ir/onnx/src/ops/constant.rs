//! Known tensors: Constant (1, 9, 11, 12, ...), ConstantOfShape (9, ...), and Cast (6, 9, 13, ...). Casts of known tensors are
//! folded, and casts between floating-point types do nothing.

use super::build::{combine, whole};
use super::layout::same;
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::proto::tensor_proto::DataType;
use crate::size::Size;
use crate::tensor::type_name;
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, CastTo};
use catc_ir::{Element, Tensor, TensorData};
use half::{bf16, f16};

pub(super) fn constant(cx: &mut NodeContext) -> RuleResult {
    cx.arity(0, 0)?;
    for name in ["sparse_value", "value_string", "value_strings"] {
        if cx.has_attribute(name) {
            return Err(NodeProblem::unsupported(format!("attribute `{name}` gives no dense tensor of numbers")));
        }
    }
    let mut given: Vec<Known> = vec![];
    given.extend(cx.tensor("value")?.map(Known::from));
    if cx.opset >= 12 {
        given.extend(cx.float("value_float")?.map(|x| Tensor::scalar(x).into()));
        given.extend(cx.floats("value_floats")?.map(|v| Tensor::f32(&[v.len()], v.to_vec()).into()));
        given.extend(cx.int("value_int")?.map(|n| Tensor::i64(&[], vec![n]).into()));
        given.extend(cx.ints("value_ints")?.map(|v| Tensor::i64(&[v.len()], v.to_vec()).into()));
    }
    match given.pop() {
        Some(value) if given.is_empty() => one(value),
        _ => Err(NodeProblem::invalid("must have one value")),
    }
}

pub(super) fn constant_of_shape(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let sizes = cx.fixed_sizes(0, "the shape")?;
    let value = cx.tensor("value")?.unwrap_or_else(|| Tensor::f32(&[1], vec![0.0]));
    let wrong = || NodeProblem::input(0, format!("holds the shape {sizes:?}, which is negative"));
    let shape: Option<Vec<usize>> = sizes.iter().map(|&d| usize::try_from(d).ok()).collect();
    let shape = shape.ok_or_else(wrong)?;
    cx.fill(&shape)?;
    let count = shape.iter().product();
    let one_element = || NodeProblem::attribute("value", "must hold one element");
    let data = match value.data() {
        TensorData::F32(v) => TensorData::F32(vec![*v.first().ok_or_else(one_element)?; count]),
        TensorData::I64(v) => TensorData::I64(vec![*v.first().ok_or_else(one_element)?; count]),
        TensorData::Bool(v) => TensorData::Bool(vec![*v.first().ok_or_else(one_element)?; count]),
        TensorData::Code(_) => return Err(one_element()),
    };
    if value.len() != 1 {
        return Err(one_element());
    }
    one(Known::from(Tensor::new(shape, data)))
}

pub(super) fn cast(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    // These attributes only affect 8-bit floats.
    cx.ignore("saturate");
    cx.ignore("round_mode");
    match cx.int("to")? {
        Some(to) => cast_to(cx, to),
        None => Err(NodeProblem::attribute("to", "is missing")),
    }
}

/// Casts the first input to a type, which is given by its ONNX number.
pub(super) fn cast_to(cx: &mut NodeContext, to: i64) -> RuleResult {
    let to_type = i32::try_from(to).ok().and_then(|t| DataType::try_from(t).ok()).unwrap_or(DataType::Undefined);
    use DataType::*;
    let element = match to_type {
        Float | Double | Float16 | Bfloat16 => Element::F32,
        Int64 | Int32 | Int16 | Int8 | Uint64 | Uint32 | Uint16 | Uint8 | Int4 | Uint4 | Int2 | Uint2 => Element::I64,
        Bool => Element::Bool,
        _ => {
            let name = type_name(i32::try_from(to).unwrap_or(0));
            return Err(NodeProblem::unsupported(format!("it casts to {name}")));
        }
    };
    let x = cx.input(0)?;
    let from = cx.element(&x);
    if from == Element::F32 && matches!((&x, to_type), (Value::Computed(_), Float16 | Bfloat16)) {
        cx.warn(format!("the cast to {} is left out; catc computes in f32", type_name(to_type as i32)));
    }
    if let Some(y) = narrowed(cx, &x, to_type)? {
        return one(y);
    }
    let Value::Known(known) = x else {
        if from == element && matches!(to_type, Float | Double | Float16 | Bfloat16 | Int64 | Int32 | Bool) {
            return same(cx, x);
        }
        let to = match element {
            Element::I64 => CastTo::I64,
            Element::Bool => CastTo::Bool,
            _ => CastTo::F32,
        };
        let y = super::build::cast(cx, &x, to)?;
        return super::layout::same(cx, y);
    };
    one(convert(&known, to_type, element)?)
}

/// Casts to a narrow integer type. As in the ONNX definition, values wrap around. `None` for other types.
fn narrowed(cx: &mut NodeContext, x: &Value, to: DataType) -> Result<Option<Value>, NodeProblem> {
    let (bits, signed) = match to {
        DataType::Int2 => (2, true),
        DataType::Uint2 => (2, false),
        DataType::Int4 => (4, true),
        DataType::Uint4 => (4, false),
        _ => return Ok(None),
    };
    let least = if signed { -(1i64 << (bits - 1)) } else { 0 };
    let y = super::build::cast(cx, x, CastTo::I64)?;
    let y = combine(cx, Binary::Sub, &y, &whole(least))?;
    let y = combine(cx, Binary::Mod, &y, &whole(1 << bits))?;
    combine(cx, Binary::Add, &y, &whole(least)).map(Some)
}

/// The smallest and largest number of integer types below 64 bits.
fn integer_range(t: DataType) -> Option<(i64, i64)> {
    use DataType::*;
    Some(match t {
        Int32 => (i32::MIN.into(), i32::MAX.into()),
        Int16 => (i16::MIN.into(), i16::MAX.into()),
        Int8 => (i8::MIN.into(), i8::MAX.into()),
        Uint32 => (0, u32::MAX.into()),
        Uint16 => (0, u16::MAX.into()),
        Uint8 => (0, u8::MAX.into()),
        Uint64 => (0, i64::MAX),
        _ => return None,
    })
}

fn convert(known: &Known, to: DataType, element: Element) -> Result<Known, NodeProblem> {
    let range = |n: i64| match integer_range(to) {
        Some((min, max)) if !(min..=max).contains(&n) => {
            Err(NodeProblem::invalid(format!("{n} does not fit in {}", type_name(to as i32))))
        }
        _ => Ok(n),
    };
    let round = |x: f32| match to {
        DataType::Float16 => f16::from_f32(x).to_f32(),
        DataType::Bfloat16 => bf16::from_f32(x).to_f32(),
        _ => x,
    };
    let symbolic = |s: &Size| NodeProblem::unsupported(format!("it turns the size {s} into a real or a truth value"));
    let Known::Tensor(t) = known else {
        // Multiples of the batch can only be cast to integer types.
        return match (known.as_sizes(), element) {
            (Some(_), Element::I64) => Ok(known.clone()),
            (sizes, _) => Err(symbolic(&sizes.and_then(|s| s.first().copied()).unwrap_or(Size::Fixed(0)))),
        };
    };
    let data = match (t.data(), element) {
        (TensorData::I64(v), Element::I64) => TensorData::I64(v.iter().map(|&n| range(n)).collect::<Result<_, _>>()?),
        (TensorData::I64(v), Element::F32) => TensorData::F32(v.iter().map(|&n| round(n as f32)).collect()),
        (TensorData::F32(v), Element::F32) => TensorData::F32(v.iter().map(|&x| round(x)).collect()),
        (TensorData::I64(v), Element::Bool) => TensorData::Bool(v.iter().map(|&n| n != 0).collect()),
        (TensorData::F32(v), Element::I64) => {
            let whole = |&x: &f32| {
                if x.is_finite() && x.abs() < i64::MAX as f32 {
                    range(x.trunc() as i64)
                } else {
                    Err(NodeProblem::invalid(format!("{x} does not fit in {}", type_name(to as i32))))
                }
            };
            TensorData::I64(v.iter().map(whole).collect::<Result<_, _>>()?)
        }
        (TensorData::F32(v), Element::Bool) => TensorData::Bool(v.iter().map(|&x| x != 0.0).collect()),
        (TensorData::Bool(v), Element::F32) => TensorData::F32(v.iter().map(|&b| f32::from(u8::from(b))).collect()),
        (TensorData::Bool(v), Element::I64) => TensorData::I64(v.iter().map(|&b| b.into()).collect()),
        (data, _) => data.clone(),
    };
    Ok(Tensor::new(t.shape().to_vec(), data).into())
}
