//! The context in which the rules of operators translate a node: its attributes, its inputs, and the graph under construction.

use crate::error::{NodeName, NodeProblem};
use crate::fold::FOLD_ELEMENTS;
use crate::opset;
use crate::order::label;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use crate::quantized::Parameters;
use crate::size::Size;
use crate::tensor::MAX_ELEMENTS;
use crate::translate::Importer;
use crate::value::{Known, Value};
use catc_ir::{Element, Node, Op, Operand, Quantizer, QuantizerId, Shape, Tensor, ValueId};
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, BTreeSet};

/// The bytes that each element counts in tensors that the file describes without containing their data. They cover all f32 copies
/// that the evaluation makes.
const FILLED_BYTES: usize = 32;

/// The largest number of integer elements that are moved or computed at import: 1 GiB of i64.
const MAX_MOVED: usize = 1 << 27;

/// The result of a rule: the values of the node's first outputs. Further outputs are not computed.
pub(crate) type Outputs = SmallVec<[Value; 1]>;

/// The result of a rule, or an error.
pub(crate) type RuleResult = Result<Outputs, NodeProblem>;

/// A result with a single output.
pub(crate) fn one(value: impl Into<Value>) -> RuleResult {
    Ok(smallvec![value.into()])
}

/// The description of a node for error messages.
pub(crate) fn node_name(node: &NodeProto, versions: &BTreeMap<String, i64>) -> NodeName {
    let domain = opset::domain(node.domain());
    NodeName {
        name: label(node).into(),
        op: node.op_type().into(),
        domain: domain.into(),
        opset: versions.get(domain).copied(),
    }
}

/// The name of input `index` of a node, if the input is present.
pub(crate) fn input_name(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|n| !n.is_empty())
}

/// A node during its translation.
pub(crate) struct NodeContext<'i, 'a, 'm> {
    importer: &'i mut Importer<'a, 'm>,
    node: &'m NodeProto,
    /// The version of the standard operator set.
    pub opset: i64,
    read: BTreeSet<&'static str>,
}

impl<'i, 'a, 'm> NodeContext<'i, 'a, 'm> {
    /// The context of a node whose attributes have not been read yet.
    pub fn new(importer: &'i mut Importer<'a, 'm>, node: &'m NodeProto, opset: i64) -> Self {
        NodeContext { importer, node, opset, read: BTreeSet::new() }
    }

    /// Returns an error if an attribute was not read, or if the node has an attribute twice.
    pub fn check_attributes(&self) -> Result<(), NodeProblem> {
        let mut seen = BTreeSet::new();
        for a in &self.node.attribute {
            if !seen.insert(a.name()) {
                return Err(NodeProblem::attribute(a.name(), "stands twice"));
            }
            if !self.read.contains(a.name()) {
                return Err(NodeProblem::attribute(a.name(), "is not one of this operator in this opset"));
            }
        }
        Ok(())
    }

    // ---- attributes

    fn attribute(&mut self, name: &'static str, ty: AttributeType) -> Result<Option<&'m AttributeProto>, NodeProblem> {
        self.read.insert(name);
        let Some(a) = self.node.attribute.iter().find(|a| a.name() == name) else {
            return Ok(None);
        };
        if !a.ref_attr_name().is_empty() {
            return Err(NodeProblem::attribute(
                name,
                "refers to an attribute of a function; export with functions inlined",
            ));
        }
        // Files of the first IR versions omit the type.
        if a.r#type.is_some() && a.r#type() != ty {
            let (is, should) = (a.r#type().as_str_name(), ty.as_str_name());
            return Err(NodeProblem::attribute(name, format!("is of type {is} and must be {should}")));
        }
        Ok(Some(a))
    }

    /// Reads an integer attribute.
    pub fn int(&mut self, name: &'static str) -> Result<Option<i64>, NodeProblem> {
        Ok(self.attribute(name, AttributeType::Int)?.map(|a| a.i()))
    }

    /// Reads a boolean attribute, which is stored as an integer.
    pub fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, NodeProblem> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    /// Reads an f32 attribute.
    pub fn float(&mut self, name: &'static str) -> Result<Option<f32>, NodeProblem> {
        Ok(self.attribute(name, AttributeType::Float)?.map(|a| a.f()))
    }

    /// Reads an attribute with a list of integers.
    pub fn ints(&mut self, name: &'static str) -> Result<Option<&'m [i64]>, NodeProblem> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    /// Reads an attribute with a list of f32.
    pub fn floats(&mut self, name: &'static str) -> Result<Option<&'m [f32]>, NodeProblem> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|a| a.floats.as_slice()))
    }

    /// Reads a string attribute.
    pub fn word(&mut self, name: &'static str) -> Result<Option<&'m str>, NodeProblem> {
        self.attribute(name, AttributeType::String)?
            .map(|a| std::str::from_utf8(a.s()).map_err(|_| NodeProblem::attribute(name, "is not UTF-8")))
            .transpose()
    }

    /// Reads a tensor attribute.
    pub fn tensor(&mut self, name: &'static str) -> Result<Option<Tensor>, NodeProblem> {
        let Some(a) = self.attribute(name, AttributeType::Tensor)? else {
            return Ok(None);
        };
        let proto: &TensorProto = a.t.as_deref().ok_or_else(|| NodeProblem::attribute(name, "holds no tensor"))?;
        let tensor = self.importer.read_tensor(proto);
        tensor.map(Some).map_err(|problem| NodeProblem::Tensor { name: label(self.node).into(), problem })
    }

    /// Marks an attribute as read that does not affect inference.
    pub fn ignore(&mut self, name: &'static str) {
        self.read.insert(name);
    }

    /// Whether the node has an attribute. This does not mark it as read.
    pub fn has_attribute(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|a| a.name() == name)
    }

    // ---- inputs

    /// The number of inputs, including omitted ones in the middle.
    pub fn input_count(&self) -> usize {
        self.node.input.len()
    }

    /// The number of outputs of the node.
    pub fn output_count(&self) -> usize {
        self.node.output.len()
    }

    /// Returns an error unless the node has at most `max` inputs and the first `min` are present.
    pub fn arity(&self, min: usize, max: usize) -> Result<(), NodeProblem> {
        let count = self.input_count();
        if count > max {
            return Err(NodeProblem::invalid(format!("has {count} inputs where this opset allows {max}")));
        }
        match (0..min).find(|&i| !self.has_input(i)) {
            Some(i) => Err(NodeProblem::input(i, "is missing")),
            None => Ok(()),
        }
    }

    /// Whether an input is present.
    pub fn has_input(&self, index: usize) -> bool {
        self.node.input.get(index).is_some_and(|n| !n.is_empty())
    }

    /// A required input. Codes are converted to the integers of the file.
    pub fn input(&mut self, index: usize) -> Result<Value, NodeProblem> {
        let value = self.input_as_it_is(index)?;
        match self.element(&value) {
            Element::Code(_) => crate::ops::numbers(self, &value),
            _ => Ok(value),
        }
    }

    /// A required input, for rules that only move or compare elements. Codes with a single scale stay codes.
    pub fn moved_input(&mut self, index: usize) -> Result<Value, NodeProblem> {
        let value = self.input_as_it_is(index)?;
        match self.quantizer_of(&value) {
            Some(Quantizer { axis: Some(_), .. }) => crate::ops::numbers(self, &value),
            _ => Ok(value),
        }
    }

    /// A required input. Codes stay codes.
    pub fn input_as_it_is(&mut self, index: usize) -> Result<Value, NodeProblem> {
        match input_name(self.node, index) {
            Some(name) => self.importer.value(name, index),
            None => Err(NodeProblem::input(index, "is missing")),
        }
    }

    /// A required input as an operand of the graph. A known tensor becomes a constant.
    pub fn input_operand(&mut self, index: usize) -> Result<Operand, NodeProblem> {
        let value = self.input(index)?;
        self.operand(index, &value)
    }

    /// The value of input `index` as an operand of the graph.
    pub fn operand(&mut self, index: usize, value: &Value) -> Result<Operand, NodeProblem> {
        self.importer.operand(value).map_err(|problem| NodeProblem::input(index, problem))
    }

    /// The element type of an input in the file. Rules need it for integers, which are all i64 in the graph.
    pub fn input_type(&self, index: usize) -> Option<DataType> {
        self.importer.type_of(input_name(self.node, index)?)
    }

    /// The shape of a value.
    pub fn shape(&self, value: &Value) -> Shape {
        match value {
            Value::Computed(v) => self.importer.graph.value_type(*v).shape.clone(),
            Value::Known(k) => k.ir_shape(),
        }
    }

    /// The element type of a value.
    pub fn element(&self, value: &Value) -> Element {
        match value {
            Value::Computed(v) => self.importer.graph.value_type(*v).element,
            Value::Known(k) => k.element(),
        }
    }

    /// A required input that must be known at import.
    pub fn known(&mut self, index: usize, what: &str) -> Result<Known, NodeProblem> {
        match self.input(index)? {
            Value::Known(k) => Ok(k),
            Value::Computed(_) => Err(NodeProblem::computed(index, what)),
        }
    }

    /// A required integer input with at most one axis that must be known at import.
    pub fn sizes(&mut self, index: usize, what: &str) -> Result<Vec<Size>, NodeProblem> {
        let known = self.known(index, what)?;
        if known.shape().len() > 1 {
            return Err(NodeProblem::input(index, format!("({what}) must be a list")));
        }
        known.as_sizes().ok_or_else(|| NodeProblem::input(index, format!("({what}) must hold whole numbers")))
    }

    /// A required integer input that must be known at import and must not depend on the batch.
    pub fn fixed_sizes(&mut self, index: usize, what: &str) -> Result<Vec<i64>, NodeProblem> {
        let sizes = self.sizes(index, what)?;
        let fixed = sizes.iter().map(|s| s.fixed()).collect::<Option<_>>();
        fixed.ok_or_else(|| NodeProblem::input(index, format!("({what}) depends on the batch size")))
    }

    /// A required input with a single number that must be known at import.
    pub fn scalar(&mut self, index: usize, what: &str) -> Result<f32, NodeProblem> {
        let known = self.known(index, what)?;
        match (known.as_f32(), known.as_sizes().as_deref()) {
            (Some(&[x]), _) => Ok(x),
            (_, Some(&[Size::Fixed(n)])) => Ok(n as f32),
            _ => Err(NodeProblem::input(index, format!("({what}) must be one number"))),
        }
    }

    /// The batch size that the file fixes, if it became `N`.
    pub fn file_batch(&self) -> Option<usize> {
        self.importer.file_batch
    }

    /// Counts the elements of a tensor that the file describes without containing its data. Rules must call this before they
    /// allocate the memory.
    pub fn fill(&mut self, sizes: &[usize]) -> Result<(), NodeProblem> {
        let elements = sizes.iter().fold(1usize, |n, &size| n.saturating_mul(size.max(1)));
        self.importer.filled = self.importer.filled.saturating_add(elements);
        let (needed, limit) = (self.importer.filled.saturating_mul(FILLED_BYTES), self.importer.memory);
        if needed > limit {
            let problem = format!(
                "what it and nodes before it spell out takes {needed} bytes that the file does not hold, more than the limit of {limit}; \
                 raise the limit (`--max-memory`) if the model is to be trusted"
            );
            return Err(NodeProblem::Limit(problem));
        }
        Ok(())
    }

    /// Whether an operation that moves the elements of a known tensor is folded at import instead of being added to the graph.
    /// `elements` is the size of the result. Small tensors are always folded. Larger integer tensors, which may be codes of
    /// weights, are folded until their total exceeds the size of a large model.
    pub fn folds(&mut self, known: &Known, elements: usize) -> bool {
        if known.len().max(elements) <= FOLD_ELEMENTS {
            return true;
        }
        let moved = self.importer.moved.saturating_add(elements);
        let folds = known.element() == Element::I64 && moved <= MAX_MOVED;
        if folds {
            self.importer.moved = moved;
        }
        folds
    }

    /// Whether an output is used.
    pub fn output_is_taken(&self, index: usize) -> bool {
        self.node.output.get(index).is_some_and(|name| !name.is_empty() && self.importer.is_taken(name))
    }

    // ---- codes

    /// Whether the model quantizes its activations. If so, codes stay codes.
    pub fn quantizes_data(&self) -> bool {
        self.importer.quantizes_data
    }

    /// The quantizer of codes in the file. Its codes may be different integers from those of the graph.
    pub fn file_codes(&self, codes: &Value) -> Option<Parameters> {
        let Value::Computed(v) = codes else { return None };
        let q = self.importer.graph.value_type(*v).element.quantizer()?;
        let noted = self.importer.file_codes.get(v).cloned();
        Some(noted.unwrap_or_else(|| Parameters::of(self.importer.graph.quantizer(q))))
    }

    /// Records the quantizer that codes have in the file.
    pub fn note_file_codes(&mut self, codes: &Value, file: &Parameters) {
        if let Value::Computed(v) = codes {
            self.importer.file_codes.insert(*v, file.clone());
        }
    }

    /// The quantizer of codes in the graph.
    pub fn quantizer_of(&self, codes: &Value) -> Option<Quantizer> {
        Some(self.importer.graph.quantizer(self.element(codes).quantizer()?).clone())
    }

    /// The integers that were already computed for codes, if any.
    pub fn noted_numbers(&self, codes: ValueId) -> Option<Value> {
        self.importer.numbers.get(&codes).cloned()
    }

    /// Records the integers that were computed for codes.
    pub fn note_numbers(&mut self, codes: ValueId, numbers: &Value) {
        self.importer.numbers.insert(codes, numbers.clone());
    }

    /// The id of a quantizer in the graph.
    pub fn quantizer(&mut self, quantizer: &Quantizer) -> QuantizerId {
        self.importer.quantizer(quantizer)
    }

    /// Adds a constant of codes.
    pub fn codes(&mut self, shape: &[usize], codes: Vec<i16>, quantizer: &Quantizer) -> Operand {
        let q = self.quantizer(quantizer);
        self.importer.graph.add_codes(Tensor::codes(shape, codes), q).into()
    }

    /// The node of the graph that computes a value.
    pub fn definition(&self, value: &Value) -> Option<&Node> {
        let Value::Computed(v) = value else { return None };
        self.importer.graph.nodes().iter().rev().find(|n| n.output == *v)
    }

    // ---- the graph

    /// Appends a node with this node's name to the graph.
    pub fn emit(&mut self, op: Op, inputs: &[Operand]) -> Result<Value, NodeProblem> {
        let graph = &mut self.importer.graph;
        let v = graph.append(op, inputs.iter().copied(), label(self.node))?;
        let shape = &graph.value_type(v).shape;
        let volume = shape.dims().iter().try_fold(1usize, |n, d| n.checked_mul(d.at_batch(1)));
        match volume {
            Some(0) => Err(NodeProblem::unsupported(format!("its output is an empty tensor {shape}"))),
            Some(n) if n <= MAX_ELEMENTS => Ok(Value::Computed(v)),
            _ => Err(NodeProblem::invalid(format!("its output {shape} is too large"))),
        }
    }

    /// Appends a node with a single operand.
    pub fn emit_on(&mut self, op: Op, value: &Value) -> Result<Value, NodeProblem> {
        let operand = self.operand(0, value)?;
        self.emit(op, &[operand])
    }

    /// Adds a constant of f32.
    pub fn constant(&mut self, shape: &[usize], items: Vec<f32>) -> Operand {
        self.importer.graph.add_constant(Tensor::f32(shape, items)).into()
    }

    /// Adds a warning that names this node.
    pub fn warn(&mut self, message: impl std::fmt::Display) {
        let name = label(self.node);
        self.importer.warnings.push(format!("node {name:?} ({}): {message}", self.node.op_type()));
    }
}

/// Converts an axis to an index from 0. A negative axis counts from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, NodeProblem> {
    let from_zero = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_zero
        .and_then(|a| usize::try_from(a).ok())
        .filter(|&a| a < rank)
        .ok_or_else(|| NodeProblem::invalid(format!("has no axis {axis}, the tensor has {rank} dimensions")))
}

/// Converts axes to ascending indices from 0. Negative axes count from the end. An axis may not occur twice.
pub(crate) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, NodeProblem> {
    let mut axes = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|w| w[0] == w[1]) {
        return Err(NodeProblem::invalid(format!("names an axis twice: {list:?}")));
    }
    Ok(axes)
}
