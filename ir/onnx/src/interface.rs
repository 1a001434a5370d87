//! The inputs of the graph, and which of their dimensions are the batch.

use crate::error::ImportErrorKind;
use crate::options::{BatchPolicy, ImportOptions};
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{GraphProto, ValueInfoProto, type_proto};
use crate::tensor::{checked_dims, type_name};
use catc_ir::{Dim, Element, Shape, Tensor, TensorData, TensorType};
use std::collections::HashSet;

/// A dimension as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Declared {
    Fixed(usize),
    Named(String),
    Unknown,
}

/// An integer or boolean type of the file, with the range of its numbers. Booleans are 0 and 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeType {
    /// The name in ONNX.
    pub name: String,
    /// The smallest number.
    pub low: i64,
    /// The largest number.
    pub high: i64,
    pub(crate) data_type: DataType,
}

impl WholeType {
    /// The type with this ONNX number. `None` if it is neither an integer nor a boolean type.
    pub(crate) fn of(number: i32) -> Option<WholeType> {
        let data_type = DataType::try_from(number).ok()?;
        let (low, high) = match data_type {
            DataType::Bool => (0, 1),
            DataType::Int64 => (i64::MIN, i64::MAX),
            DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
            DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
            DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
            DataType::Int4 => (-8, 7),
            DataType::Int2 => (-2, 1),
            // The importer cannot represent numbers beyond int64.
            DataType::Uint64 => (0, i64::MAX),
            DataType::Uint32 => (0, u32::MAX.into()),
            DataType::Uint16 => (0, u16::MAX.into()),
            DataType::Uint8 => (0, u8::MAX.into()),
            DataType::Uint4 => (0, 15),
            DataType::Uint2 => (0, 3),
            _ => return None,
        };
        Some(WholeType { name: type_name(number), low, high, data_type })
    }
}

struct Input<'m> {
    name: &'m str,
    element: Element,
    whole: Option<WholeType>,
    dims: Vec<Declared>,
    /// The batch size that the caller gave.
    given_batch: Option<usize>,
    /// Whether the file declares any dimensions.
    has_shape: bool,
}

impl Input<'_> {
    /// The same input, with the batch size that the caller gave.
    fn at_given_batch(&self) -> Self {
        let mut dims = self.dims.clone();
        if let (Some(batch), Some(first)) = (self.given_batch, dims.first_mut()) {
            *first = Declared::Fixed(batch);
        }
        Input { dims, whole: self.whole.clone(), ..*self }
    }
}

/// The inputs of a graph with their final types.
#[derive(Debug)]
pub(crate) struct Interface<'m> {
    /// The names and types, in the order of the file.
    pub inputs: Vec<(&'m str, TensorType)>,
    /// The type of each input in the file, if it is an integer or boolean type.
    pub whole: Vec<Option<WholeType>>,
    /// The inputs with a value from the caller, and that value.
    pub values: Vec<(&'m str, Tensor)>,
    /// The size that the file fixes for the dimension that became the batch, if any. Constant shapes in the file contain it.
    pub file_batch: Option<usize>,
    /// The batch size for a network that does not work with every batch size. It is the size from the caller, else the size in
    /// the file.
    pub batch: Option<usize>,
    /// Warnings for the caller.
    pub warnings: Vec<String>,
}

fn fail<T>(name: &str, problem: impl Into<String>) -> Result<T, ImportErrorKind> {
    Err(ImportErrorKind::Input { name: name.into(), problem: problem.into() })
}

/// Decides the types of the inputs.
pub(crate) fn inputs<'m>(
    graph: &'m GraphProto,
    options: &ImportOptions,
    policy: BatchPolicy,
) -> Result<Interface<'m>, ImportErrorKind> {
    let initializers: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let mut warnings = vec![];
    let mut inputs = vec![];
    for info in graph.input.iter().filter(|i| !initializers.contains(i.name())) {
        inputs.push(declared(info, &mut warnings)?);
    }
    let values = fixed_values(&mut inputs, options)?;
    for (i, (name, sizes)) in options.shapes.iter().enumerate() {
        if options.shapes[..i].iter().any(|(other, _)| other == name) {
            return fail(name, "is given two shapes; give one");
        }
        let Some(input) = inputs.iter_mut().find(|x| x.name == name) else {
            let names: Vec<_> = inputs.iter().map(|x| format!("`{}`", x.name)).collect();
            return fail(name, format!("is given a shape, but the model has no such input: {}", names.join(", ")));
        };
        specialise(input, sizes)?;
    }
    if let Some(input) = inputs.iter().find(|i| !i.has_shape) {
        return fail(input.name, "has no declared shape; export the model with one, or give the input one");
    }
    let shapes = decide(&inputs, policy)?;
    let file_batch = shapes.1;
    let whole = inputs.iter().map(|i| i.whole.clone()).collect();
    let batch = inputs.iter().find_map(|i| i.given_batch).or(file_batch);
    let inputs = inputs.iter().zip(shapes.0).map(|(i, shape)| (i.name, TensorType::new(i.element, shape))).collect();
    Ok(Interface { inputs, whole, values, file_batch, batch, warnings })
}

/// Removes and returns the inputs that have a value from the caller.
fn fixed_values<'m>(
    inputs: &mut Vec<Input<'m>>,
    options: &ImportOptions,
) -> Result<Vec<(&'m str, Tensor)>, ImportErrorKind> {
    let mut values = vec![];
    for (name, value) in &options.values {
        let Some(i) = inputs.iter().position(|x| x.name == name) else {
            return fail(name, "is given a value, but the model has no such input, or it was given one already");
        };
        let input = inputs.remove(i);
        let element = match value.data() {
            TensorData::F32(_) => Element::F32,
            TensorData::I64(_) => Element::I64,
            TensorData::Bool(_) => Element::Bool,
            TensorData::Code(_) => return fail(name, "is given codes; give reals, whole numbers or truth values"),
        };
        let fits = |(d, &n): (&Declared, &usize)| !matches!(d, Declared::Fixed(m) if *m != n);
        let shape = value.shape();
        let fits = shape.len() == input.dims.len() && input.dims.iter().zip(shape).all(fits);
        if element != input.element || (input.has_shape && !fits) {
            return fail(name, format!("is given a value of another type or shape, {shape:?}"));
        }
        values.push((input.name, value.clone()));
    }
    Ok(values)
}

/// Reads an input as the file declares it.
fn declared<'m>(info: &'m ValueInfoProto, warnings: &mut Vec<String>) -> Result<Input<'m>, ImportErrorKind> {
    let name = info.name();
    let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t,
        Some(_) => return fail(name, "is a sequence, map, optional or sparse tensor; catc takes tensors only"),
        None => return fail(name, "has no type; export the model again"),
    };
    let element = match DataType::try_from(tensor.elem_type()) {
        Ok(
            DataType::Float
            | DataType::Float8e4m3fn
            | DataType::Float8e4m3fnuz
            | DataType::Float8e5m2
            | DataType::Float8e5m2fnuz
            | DataType::Float4e2m1,
        ) => Element::F32,
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Double) => {
            warnings.push(format!("input `{name}` is {} in the file and f32 here", type_name(tensor.elem_type())));
            Element::F32
        }
        Ok(
            DataType::Int64
            | DataType::Int32
            | DataType::Int16
            | DataType::Int8
            | DataType::Uint64
            | DataType::Uint32
            | DataType::Uint16
            | DataType::Uint8
            | DataType::Int4
            | DataType::Uint4
            | DataType::Int2
            | DataType::Uint2,
        ) => Element::I64,
        Ok(DataType::Bool) => Element::Bool,
        _ => {
            let ty = type_name(tensor.elem_type());
            return fail(name, format!("has elements of type {ty}; catc takes reals, whole numbers and truth values"));
        }
    };
    let dims = (tensor.shape.iter())
        .flat_map(|s| &s.dim)
        .map(|d| match &d.value {
            // Some exporters write 0 or -1 for an unknown size.
            Some(dimension::Value::DimValue(n)) => match usize::try_from(*n) {
                Ok(n) if n > 0 => Declared::Fixed(n),
                _ => Declared::Unknown,
            },
            Some(dimension::Value::DimParam(p)) if !p.is_empty() => Declared::Named(p.clone()),
            _ => Declared::Unknown,
        })
        .collect();
    let whole = WholeType::of(tensor.elem_type());
    Ok(Input { name, element, whole, dims, given_batch: None, has_shape: tensor.shape.is_some() })
}

/// Replaces the sizes of an input by those from the caller. The first one is the batch size. It is only used if the network does
/// not work with every batch size.
fn specialise(input: &mut Input, sizes: &[usize]) -> Result<(), ImportErrorKind> {
    let given = sizes.iter().map(|n| n.to_string()).collect::<Vec<_>>().join("x");
    if !input.has_shape {
        input.dims = vec![Declared::Unknown; sizes.len()];
        input.has_shape = true;
    }
    if sizes.len() != input.dims.len() {
        let rank = input.dims.len();
        return fail(input.name, format!("has {rank} dimensions, but is given the shape {given}"));
    }
    if sizes.contains(&0) {
        return fail(input.name, format!("is given the shape {given}; sizes start at 1"));
    }
    for (i, &size) in sizes.iter().enumerate() {
        match input.dims[i] {
            Declared::Named(_) | Declared::Unknown if i == 0 => input.given_batch = Some(size),
            // The constants of the model contain the batch size of the file, which becomes symbolic.
            Declared::Fixed(_) if i == 0 && sizes.len() > 1 => input.given_batch = Some(size),
            Declared::Fixed(_) | Declared::Named(_) | Declared::Unknown => input.dims[i] = Declared::Fixed(size),
        }
    }
    Ok(())
}

/// The shapes of all inputs, and the batch size that the file fixes, if it became `N`.
fn decide(inputs: &[Input], policy: BatchPolicy) -> Result<(Vec<Shape>, Option<usize>), ImportErrorKind> {
    if policy == BatchPolicy::AsDeclared && inputs.iter().any(|i| i.given_batch.is_some()) {
        let fixed: Vec<Input> = inputs.iter().map(Input::at_given_batch).collect();
        return decide_from(&fixed, policy);
    }
    decide_from(inputs, policy)
}

fn decide_from(inputs: &[Input], policy: BatchPolicy) -> Result<(Vec<Shape>, Option<usize>), ImportErrorKind> {
    let dynamic = inputs.iter().find(|i| matches!(i.dims.first(), Some(Declared::Named(_) | Declared::Unknown)));
    let batch_name = dynamic.and_then(|i| match &i.dims[0] {
        Declared::Named(n) => Some(n.as_str()),
        _ => None,
    });
    let file_batch = match (dynamic, policy) {
        (Some(_), _) | (None, BatchPolicy::AsDeclared) => None,
        (None, BatchPolicy::Auto | BatchPolicy::Symbolic) => {
            let first = inputs.iter().find(|i| i.element == Element::F32 && i.dims.len() >= 2);
            first.and_then(|i| match i.dims[0] {
                Declared::Fixed(n) => Some(n),
                _ => None,
            })
        }
    };
    let mut shapes = vec![];
    for input in inputs {
        let mut shape = Shape::default();
        for (i, d) in input.dims.iter().enumerate() {
            shape.0.push(match d {
                Declared::Fixed(n) if i == 0 && input.dims.len() >= 2 && file_batch == Some(*n) => Dim::N,
                Declared::Fixed(n) => Dim::Fixed(*n),
                Declared::Named(n) if batch_name == Some(n) => Dim::N,
                Declared::Named(n) if i == 0 => {
                    let batch = batch_name.unwrap_or("the unnamed batch of another input");
                    return fail(
                        input.name,
                        format!("has `{n}` as its first dimension, another batch than {batch}; one batch is supported"),
                    );
                }
                Declared::Unknown if i == 0 => Dim::N,
                Declared::Named(n) => return fail(input.name, open_dimension(input, i, &format!("`{n}`"))),
                Declared::Unknown => return fail(input.name, open_dimension(input, i, "without a name")),
            });
        }
        let sizes: Vec<i64> = shape.dims().iter().map(|d| i64::try_from(d.at_batch(1)).unwrap_or(i64::MAX)).collect();
        if checked_dims(&sizes).is_none() {
            return fail(input.name, format!("of shape {shape} is too large"));
        }
        shapes.push(shape);
    }
    Ok((shapes, file_batch))
}

/// The message for a dimension other than the batch that has no fixed size. It explains how to set the size.
fn open_dimension(input: &Input, index: usize, what: &str) -> String {
    let example: Vec<String> = (input.dims.iter().enumerate())
        .map(|(i, d)| match d {
            Declared::Fixed(n) => n.to_string(),
            _ if i == 0 => "1".into(),
            Declared::Named(n) => n.clone(),
            Declared::Unknown => format!("D{i}"),
        })
        .collect();
    format!(
        "has a dynamic dimension {index} ({what}); only the batch may be dynamic: export with fixed sizes, or give the \
         input a shape, `--shape {}={}` with numbers",
        input.name,
        example.join("x")
    )
}
