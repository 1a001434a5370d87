//! Which tensors of a model that is quantized already can be kept as codes, and the quantizer of each.
//!
//! A tensor can be if `QuantizeLinear` or a `QLinear` operator makes it with one constant scale, or a constant scale for each
//! slice of constant data, its type has 2 to 8 bits, and everything that takes it dequantizes it by the same scale and
//! zero-point, is a `QLinear` operator that does, or only moves elements and gives such a tensor itself. All others are
//! evaluated in reals.

use crate::order::{captured, inside};
use crate::proto::tensor_proto::DataType;
use crate::proto::{GraphProto, NodeProto};
use crate::translate::Tensors;
use catc_ir::{QFormat, Quantizer, TensorData};
use std::collections::{BTreeMap, HashMap};

/// Scale, zero-point and type as the file has them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    scale: Vec<f32>,
    zero_point: Vec<i64>,
    format: QFormat,
    /// The axis that several scales are along, as the file counts it.
    axis: i64,
}

/// A tensor that is kept as codes.
#[derive(Clone, Debug)]
pub(crate) struct CodeTensor {
    file: Parameters,
    /// The quantizer: that of the file, or one of fewer bits for the same reals where they are clipped.
    pub quantizer: Quantizer,
    /// Whether the quantizer saturates where the clip before it does, which is then not needed.
    pub clips: bool,
}

/// The tensors that are kept as codes, and why others are not.
#[derive(Debug, Default)]
pub(crate) struct Quantized<'m> {
    tensors: HashMap<&'m str, CodeTensor>,
    reasons: BTreeMap<&'m str, String>,
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

impl CodeTensor {
    /// The scale of the file, of a computed tensor.
    pub fn scale(&self) -> f32 {
        self.file.scale[0]
    }

    /// The zero-point of the file, of a computed tensor.
    pub fn zero_point(&self) -> f32 {
        self.file.zero_point[0] as f32
    }
}

impl Parameters {
    /// The quantizer of a tensor of this rank.
    pub fn quantizer(&self, rank: usize) -> Option<Quantizer> {
        let axis = match self.scale.len() {
            1 => None,
            _ => Some(crate::node::axis(self.axis, rank).ok()?),
        };
        let zero_point = self.zero_point.iter().map(|&z| i32::try_from(z)).collect::<Result<_, _>>().ok()?;
        Some(Quantizer { format: self.format, axis, scale: self.scale.clone(), zero_point })
    }
}

/// Operators that move elements or compare them, and so work on codes; their first input is what they move.
fn moves(node: &NodeProto) -> bool {
    match node.op_type() {
        "Flatten" | "Identity" | "MaxPool" | "Reshape" | "Slice" | "Squeeze" | "Transpose" | "Unsqueeze" => {
            node.output.len() == 1
        }
        "DepthToSpace" | "Pad" | "SpaceToDepth" | "Split" => true,
        "Resize" => {
            let word = |name| node.attribute.iter().find(|a| a.name() == name).map(|a| a.s());
            let crops = word("coordinate_transformation_mode") == Some(b"tf_crop_and_resize");
            word("mode").is_none_or(|m| m == b"nearest") && !crops
        }
        _ => false,
    }
}

/// Where an operator on codes has them.
struct QLinear {
    /// The inputs that hold data, each followed by scale and zero-point.
    data: Vec<usize>,
    /// The first of the output's two, if it gives codes.
    output: Option<usize>,
}

/// A `QLinear` operator, of the standard or of ONNX Runtime's domain.
fn qlinear(node: &NodeProto) -> Option<QLinear> {
    let (data, output) = match node.op_type() {
        "QLinearConv" | "QLinearMatMul" => (vec![0, 3], 6),
        "QLinearAdd" | "QLinearMul" => (vec![0, 3], 6),
        "QGemm" => (vec![0, 3], 7),
        "QLinearConcat" => ((2..node.input.len()).step_by(3).collect(), 0),
        "QLinearAveragePool"
        | "QLinearGlobalAveragePool"
        | "QLinearLeakyRelu"
        | "QLinearReduceMean"
        | "QLinearSigmoid"
        | "QLinearSoftmax" => (vec![0], 3),
        _ => return None,
    };
    Some(QLinear { data, output: input(node, output).map(|_| output) })
}

fn attribute(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name() == name).map(|a| a.i())
}

fn input(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|n| !n.is_empty())
}

/// The outputs that a node names.
fn outputs(node: &NodeProto) -> impl Iterator<Item = &str> {
    node.output.iter().map(String::as_str).filter(|o| !o.is_empty())
}

struct Finder<'f, 'm> {
    graph: &'m GraphProto,
    tensors: &'f mut Tensors<'m>,
    makers: HashMap<&'m str, &'m NodeProto>,
    found: Quantized<'m>,
}

impl<'m> Quantized<'m> {
    /// Finds them. `nodes` are in topological order.
    pub fn find(graph: &'m GraphProto, nodes: &[&'m NodeProto], tensors: &'_ mut Tensors<'m>) -> Self {
        let outputs = nodes.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), *n)));
        let makers = outputs.collect();
        let mut finder = Finder { graph, tensors, makers, found: Quantized::default() };
        nodes.iter().for_each(|n| finder.made_by(n));
        finder.drop_outputs();
        // What is dropped passes on against the order of the nodes, then along it.
        loop {
            let against = nodes.iter().rev().filter(|n| finder.drop_misused(n)).count();
            let along = nodes.iter().filter(|n| finder.drop_unfounded(n)).count();
            if against + along == 0 {
                break;
            }
        }
        let mut found = finder.found;
        // Codes of constants alone leave a float network.
        if !nodes.iter().any(|n| {
            let dequantizes = n.op_type() == "DequantizeLinear" || qlinear(n).is_some();
            dequantizes && n.input.iter().any(|i| found.tensors.contains_key(i.as_str()))
        }) {
            found.tensors.clear();
        }
        found
    }

    /// What a tensor is kept as.
    pub fn get(&self, name: &str) -> Option<&CodeTensor> {
        self.tensors.get(name)
    }

    /// Whether any tensor is kept as codes.
    pub fn any(&self) -> bool {
        !self.tensors.is_empty()
    }

    /// Why a tensor is not.
    pub fn reason(&self, name: &str) -> Option<&str> {
        self.reasons.get(name).map(String::as_str)
    }
}

impl<'m> Finder<'_, 'm> {
    /// Notes what the output of a node could be kept as.
    fn made_by(&mut self, node: &'m NodeProto) {
        let Some(output) = node.output.first().map(String::as_str) else { return };
        if node.op_type() == "QuantizeLinear" {
            match self.quantize(node) {
                Ok(tensor) => {
                    self.found.tensors.insert(output, tensor);
                }
                Err(reason) => {
                    self.found.reasons.insert(output, reason);
                }
            }
        } else if let Some(QLinear { output: at, .. }) = qlinear(node) {
            let Some(at) = at else { return };
            let file = self.parameters(node, at, None).and_then(|file| match file.quantizer(0) {
                Some(quantizer) if file.scale.len() == 1 => Ok(CodeTensor { file, quantizer, clips: false }),
                _ => Err("it has several scales for a computed tensor".into()),
            });
            match file {
                Ok(tensor) => {
                    self.found.tensors.insert(output, tensor);
                }
                Err(reason) => {
                    self.found.reasons.insert(output, reason);
                }
            }
        } else if moves(node)
            && let Some(tensor) = input(node, 0).and_then(|n| self.found.tensors.get(n))
            && tensor.file.scale.len() == 1
        {
            let tensor = CodeTensor { clips: false, ..tensor.clone() };
            for output in outputs(node) {
                self.found.tensors.insert(output, tensor.clone());
            }
        }
    }

    fn quantize(&mut self, node: &'m NodeProto) -> Result<CodeTensor, String> {
        let file = self.parameters(node, 1, attribute(node, "output_dtype"))?;
        let constant = input(node, 0).is_some_and(|n| self.constant(n).is_some());
        if file.scale.len() > 1 && !constant {
            return Err("it has several scales for a computed tensor".into());
        }
        let rank = match input(node, 0).and_then(|n| self.constant(n)) {
            Some((_, shape, _)) => shape.len(),
            None => 0,
        };
        let quantizer = file.quantizer(rank).ok_or("its axis does not exist")?;
        let whole = CodeTensor { quantizer, file, clips: false };
        Ok(if constant { whole } else { self.clipped(node, &whole).unwrap_or(whole) })
    }

    /// The same reals in fewer bits, where what is quantized is clipped to a range of that many codes.
    fn clipped(&mut self, node: &'m NodeProto, whole: &CodeTensor) -> Option<CodeTensor> {
        let clip = *self.makers.get(input(node, 0)?)?;
        if clip.op_type() != "Clip" || clip.input.len() != 3 {
            return None;
        }
        let mut bound = |index| match self.constant(input(clip, index)?)? {
            (_, _, TensorData::F32(v)) if v.len() == 1 => Some(whole.quantizer.quantize(v[0], 0)),
            _ => None,
        };
        let (low, high) = (bound(1)?, bound(2)?);
        let levels = high - low + 1;
        let zero_point = whole.quantizer.zero_point[0] - low;
        let bits = (2..8).find(|&b| levels <= 1 << b)?;
        let format = QFormat::new(false, bits)?;
        if levels < 2 || !(0..=format.max()).contains(&zero_point) {
            return None;
        }
        let quantizer = Quantizer::per_tensor(format, whole.quantizer.scale[0], zero_point);
        Some(CodeTensor { file: whole.file.clone(), quantizer, clips: levels == 1 << bits })
    }

    /// Scale and zero-point from input `at` of a node on.
    fn parameters(&mut self, node: &'m NodeProto, at: usize, ty: Option<i64>) -> Result<Parameters, String> {
        if attribute(node, "block_size").is_some_and(|n| n != 0) {
            return Err("it has a scale for each block of an axis".into());
        }
        let scale = match input(node, at).and_then(|n| self.constant(n)) {
            Some((DataType::Float | DataType::Float16 | DataType::Bfloat16, _, TensorData::F32(v))) => v,
            _ => return Err("its scale is computed".into()),
        };
        if scale.is_empty() || scale.iter().any(|s| !s.is_normal() || *s <= 0.0) {
            return Err("its scale is no positive number".into());
        }
        let (given, zero_point) = match input(node, at + 1) {
            None => (DataType::Uint8, vec![0; scale.len()]),
            Some(name) => match self.constant(name) {
                Some((ty, _, TensorData::I64(v))) if v.len() == scale.len() => (ty, v),
                Some((ty, ..)) if format(ty).is_none() => (ty, vec![]),
                _ => return Err("its zero-point is computed, or of another size than the scale".into()),
            },
        };
        let asked = ty.and_then(|n| DataType::try_from(i32::try_from(n).ok()?).ok());
        let ty = asked.filter(|t| *t != DataType::Undefined && input(node, at + 1).is_none()).unwrap_or(given);
        let Some(format) = format(ty) else {
            return Err(format!(
                "its codes are of type {}; those of 2 to 8 bits compile",
                ty.as_str_name().to_lowercase()
            ));
        };
        Ok(Parameters { scale, zero_point, format, axis: attribute(node, "axis").unwrap_or(1) })
    }

    /// Type, shape and elements of an initializer, or of what `Constant` gives.
    fn constant(&mut self, name: &'m str) -> Option<(DataType, Vec<usize>, TensorData)> {
        let mut name = name;
        while let Some(node) = self.makers.get(name).filter(|n| n.op_type() == "Identity") {
            name = input(node, 0)?;
        }
        let (ty, tensor) = match self.makers.get(name) {
            Some(node) if node.op_type() == "Constant" => {
                let proto = node.attribute.iter().find(|a| a.name() == "value")?.t.as_deref()?;
                (proto.data_type(), self.tensors.read(proto).ok()?)
            }
            Some(_) => return None,
            None => (self.tensors.proto(name)?.data_type(), self.tensors.initializer(name).ok()?),
        };
        Some((DataType::try_from(ty).ok()?, tensor.shape().to_vec(), tensor.data().clone()))
    }

    fn drop(&mut self, name: &str, reason: impl FnOnce() -> String) -> bool {
        let Some((name, _)) = self.found.tensors.remove_entry(name) else { return false };
        self.found.reasons.entry(name).or_insert_with(reason);
        true
    }

    /// Drops the outputs of the model: they are whole numbers there.
    fn drop_outputs(&mut self) {
        for output in &self.graph.output {
            self.drop(output.name(), || "its codes are an output of the model".into());
        }
    }

    /// Drops tensors that a node takes which cannot take codes; tells whether there was one.
    fn drop_misused(&mut self, node: &'m NodeProto) -> bool {
        let mut any = false;
        for name in inside(node).flat_map(captured) {
            any |= self.drop(name, || format!("a graph inside {} {:?} takes its codes", node.op_type(), node.name()));
        }
        for (index, name) in node.input.iter().enumerate() {
            let Some(file) = self.found.tensors.get(name.as_str()).map(|t| t.file.clone()) else { continue };
            if !self.takes(node, index, &file) {
                any |= self.drop(name, || format!("{} {:?} takes its codes", node.op_type(), node.name()));
            }
        }
        any
    }

    /// Drops the outputs of a node that would be made of codes but are not; tells whether there was one.
    fn drop_unfounded(&mut self, node: &'m NodeProto) -> bool {
        let kept = |found: &Quantized, name: &str| found.tensors.contains_key(name);
        let founded = match qlinear(node) {
            Some(QLinear { data, .. }) => data.iter().all(|&index| {
                input(node, index).is_some_and(|n| kept(&self.found, n) || self.tensors.proto(n).is_some())
            }),
            None if moves(node) => {
                input(node, 0).is_some_and(|n| kept(&self.found, n))
                    && outputs(node).all(|name| kept(&self.found, name))
            }
            None => return false,
        };
        let reason = || "it is made of codes that are evaluated in reals".into();
        !founded && outputs(node).filter(|name| self.drop(name, reason)).count() > 0
    }

    /// Whether a node can take codes as its input `index`.
    fn takes(&mut self, node: &'m NodeProto, index: usize, file: &Parameters) -> bool {
        let kept = |found: &Quantized| outputs(node).all(|o| found.tensors.contains_key(o));
        let same = |found: Result<Parameters, String>| {
            found.is_ok_and(|p| {
                let axis = file.scale.len() == 1 || p.axis == file.axis;
                (&p.scale, &p.zero_point, p.format, axis) == (&file.scale, &file.zero_point, file.format, true)
            })
        };
        if node.op_type() == "DequantizeLinear" {
            // Without a zero-point the type is that of the codes.
            let ty = if node.input.len() < 3 { data_type(file.format).map(|t| t as i64) } else { None };
            return index == 0 && same(self.parameters(node, 1, ty));
        }
        if let Some(QLinear { data, output }) = qlinear(node) {
            let made = output.is_none() || kept(&self.found);
            return data.contains(&index) && made && same(self.parameters(node, index + 1, None));
        }
        moves(node) && index == 0 && kept(&self.found)
    }
}

/// The type that holds a format of the file.
fn data_type(format: QFormat) -> Option<DataType> {
    Some(match (format.signed(), format.bits()) {
        (false, 8) => DataType::Uint8,
        (true, 8) => DataType::Int8,
        (false, 4) => DataType::Uint4,
        (true, 4) => DataType::Int4,
        (false, 2) => DataType::Uint2,
        (true, 2) => DataType::Int2,
        _ => return None,
    })
}

/// The slice of a quantizer that an element of a tensor is in, by the element's place, and the number of slices.
pub(crate) fn slice_of(quantizer: &Quantizer, shape: &[usize]) -> (impl Fn(usize) -> usize + use<>, usize) {
    let (run, slices) = match quantizer.axis {
        None => (1, 1),
        Some(axis) => (shape[axis + 1..].iter().product::<usize>().max(1), shape[axis].max(1)),
    };
    (move |i| i / run % slices, slices)
}

/// Codes of a constant as signed ones, in 2 to 4 bits or 8: what kernels take. The same reals; the codes are given back
/// unchanged where no signed format holds them.
pub(crate) fn narrowed(codes: Vec<i16>, shape: &[usize], quantizer: Quantizer) -> (Vec<i16>, Quantizer) {
    let (slice, slices) = slice_of(&quantizer, shape);
    let centered: Vec<i32> =
        codes.iter().enumerate().map(|(i, &c)| i32::from(c) - quantizer.zero_point[slice(i)]).collect();
    let mut bounds = vec![(0i32, 0i32); slices];
    for (i, &c) in centered.iter().enumerate() {
        let (low, high) = &mut bounds[slice(i)];
        (*low, *high) = ((*low).min(c), (*high).max(c));
    }
    for bits in [2, 3, 4, 8] {
        let Some(format) = QFormat::new(true, bits) else { continue };
        let zero = |&(low, high): &(i32, i32)| {
            // Kernels take 8-bit weights around 0 only.
            let (least, most) = if bits == 8 { (0, 0) } else { (format.min(), format.max()) };
            let (from, to) = ((format.min() - low).max(least), (format.max() - high).min(most));
            (from <= to).then(|| 0.clamp(from, to))
        };
        if let Some(zero_point) = bounds.iter().map(zero).collect::<Option<Vec<i32>>>() {
            let codes = centered.iter().enumerate().map(|(i, c)| (c + zero_point[slice(i)]) as i16).collect();
            return (codes, Quantizer { format, zero_point, ..quantizer });
        }
    }
    (codes, quantizer)
}
