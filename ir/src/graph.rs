//! The graph: constants, quantizers and nodes in topological order.

use crate::infer::{InferError, Inputs};
use crate::ops::Op;
use crate::types::{Element, TensorType};
use crate::{ConstId, Quantizer, QuantizerId, Tensor, ValueId};
use cranelift_entity::{PrimaryMap, SecondaryMap};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How far a graph has been lowered. A graph never returns to an earlier phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The graph as imported. All computation is in f32.
    Float,
    /// The graph has quantize and dequantize nodes. All other nodes still compute in f32.
    Qdq,
    /// The graph has fused nodes on codes.
    Integer,
}

impl Phase {
    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Float => "float",
            Phase::Qdq => "qdq",
            Phase::Integer => "integer",
        }
    }

    /// The phase with this name.
    pub fn parse(word: &str) -> Option<Self> {
        [Phase::Float, Phase::Qdq, Phase::Integer].into_iter().find(|p| p.name() == word)
    }
}

/// An operand of a node: a value or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A graph input or the output of an earlier node.
    Value(ValueId),
    /// A constant.
    Const(ConstId),
}

impl Operand {
    /// The value, if the operand is one.
    pub fn value(self) -> Option<ValueId> {
        match self {
            Operand::Value(v) => Some(v),
            Operand::Const(_) => None,
        }
    }

    /// The constant, if the operand is one.
    pub fn constant(self) -> Option<ConstId> {
        match self {
            Operand::Const(c) => Some(c),
            Operand::Value(_) => None,
        }
    }
}

impl From<ValueId> for Operand {
    fn from(v: ValueId) -> Self {
        Operand::Value(v)
    }
}

impl From<ConstId> for Operand {
    fn from(c: ConstId) -> Self {
        Operand::Const(c)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Value(v) => write!(f, "{v}"),
            Operand::Const(c) => write!(f, "{c}"),
        }
    }
}

/// A constant. Copies of a graph share its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The element type. For codes it names their quantizer.
    pub element: Element,
    /// The elements.
    pub tensor: Arc<Tensor>,
}

impl Default for Constant {
    /// A scalar zero, which replaces constants that nothing uses.
    fn default() -> Self {
        Constant { element: Element::F32, tensor: Arc::new(Tensor::scalar(0.0)) }
    }
}

impl Constant {
    /// The type of the constant.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.element, crate::Shape::fixed(self.tensor.shape()))
    }
}

/// One operation applied to operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// The operands in order.
    pub inputs: SmallVec<[Operand; 4]>,
    /// The value that the node computes.
    pub output: ValueId,
    /// The name in the model file, for messages. Empty if the model has none.
    pub name: String,
}

/// An output of the graph: a value under the name it had in the model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphOutput {
    /// The value.
    pub value: ValueId,
    /// Its name.
    pub name: String,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The graph input with this index.
    Input(usize),
    /// The node with this index.
    Node(usize),
}

/// A single-block SSA graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The name of the graph. It is a single word.
    pub name: String,
    /// The current phase.
    pub phase: Phase,
    /// Inputs with their names.
    pub inputs: Vec<(ValueId, String)>,
    /// Outputs with their names.
    pub outputs: Vec<GraphOutput>,
    constants: PrimaryMap<ConstId, Constant>,
    quantizers: PrimaryMap<QuantizerId, Quantizer>,
    values: PrimaryMap<ValueId, TensorType>,
    nodes: Vec<Node>,
}

impl Graph {
    /// An empty graph in the float phase.
    pub fn new(name: impl Into<String>) -> Self {
        Graph {
            name: name.into(),
            phase: Phase::Float,
            inputs: vec![],
            outputs: vec![],
            constants: PrimaryMap::new(),
            quantizers: PrimaryMap::new(),
            values: PrimaryMap::new(),
            nodes: vec![],
        }
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> ValueId {
        let v = self.values.push(ty);
        self.inputs.push((v, name.into()));
        v
    }

    /// Adds a value as an output with a name.
    pub fn add_output(&mut self, name: impl Into<String>, value: ValueId) {
        self.outputs.push(GraphOutput { value, name: name.into() });
    }

    /// Adds a constant of f32 values, integers or booleans.
    ///
    /// # Panics
    /// Panics if the tensor holds codes. Use [`Graph::add_codes`] for codes.
    pub fn add_constant(&mut self, tensor: Tensor) -> ConstId {
        let element = match tensor.data() {
            crate::TensorData::F32(_) => Element::F32,
            crate::TensorData::I64(_) => Element::I64,
            crate::TensorData::Bool(_) => Element::Bool,
            crate::TensorData::Code(_) => panic!("codes need their quantizer: add_codes"),
        };
        self.constants.push(Constant { element, tensor: Arc::new(tensor) })
    }

    /// Adds a constant of codes of a quantizer.
    pub fn add_codes(&mut self, tensor: Tensor, quantizer: QuantizerId) -> ConstId {
        self.constants.push(Constant { element: Element::Code(quantizer), tensor: Arc::new(tensor) })
    }

    /// Adds a constant, for example one from another graph.
    pub fn push_constant(&mut self, constant: Constant) -> ConstId {
        self.constants.push(constant)
    }

    /// Replaces a constant. If nodes use the constant, the caller must keep its type.
    pub fn set_constant(&mut self, c: ConstId, constant: Constant) {
        self.constants[c] = constant;
    }

    /// Adds a quantizer.
    pub fn add_quantizer(&mut self, quantizer: Quantizer) -> QuantizerId {
        self.quantizers.push(quantizer)
    }

    /// Appends a node and infers the type of its output.
    pub fn append(
        &mut self,
        op: Op,
        inputs: impl IntoIterator<Item = Operand>,
        name: impl Into<String>,
    ) -> Result<ValueId, InferError> {
        let inputs: SmallVec<[Operand; 4]> = inputs.into_iter().collect();
        let types: Vec<TensorType> = inputs.iter().map(|&o| self.type_of(o)).collect();
        let output = self.values.push(op.infer(&Inputs(&types))?);
        self.nodes.push(Node { op, inputs, output, name: name.into() });
        Ok(output)
    }

    /// Appends a node whose output value exists already. The type of that value is inferred again.
    pub fn append_node(&mut self, node: Node) -> Result<(), InferError> {
        let types: Vec<TensorType> = node.inputs.iter().map(|&o| self.type_of(o)).collect();
        self.values[node.output] = node.op.infer(&Inputs(&types))?;
        self.nodes.push(node);
        Ok(())
    }

    /// Removes and returns all nodes. A pass that rebuilds the graph appends them again, changed or unchanged.
    pub fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.nodes)
    }

    /// The nodes in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes, for changes that keep their order and types.
    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// Sets the type of the value with this index. The value and all values before it are created if they do not exist. The
    /// parser uses this to keep the numbers of the text.
    pub(crate) fn declare_value(&mut self, index: u32, ty: TensorType) -> ValueId {
        let v = ValueId::from_u32(index);
        while !self.values.is_valid(v) {
            self.values.push(TensorType::f32(crate::Shape::default()));
        }
        self.values[v] = ty;
        v
    }

    /// Appends a node without type inference. The verifier checks its types later.
    pub(crate) fn push_node(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// Removes all nodes for which `keep` returns false.
    pub fn retain_nodes(&mut self, keep: impl FnMut(&Node) -> bool) {
        self.nodes.retain(keep);
    }

    /// The number of values ever created, whether used or not.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The type of a value.
    pub fn value_type(&self, v: ValueId) -> &TensorType {
        &self.values[v]
    }

    /// Whether the graph ever created this value.
    pub fn has_value(&self, v: ValueId) -> bool {
        self.values.is_valid(v)
    }

    /// A constant.
    pub fn constant(&self, c: ConstId) -> &Constant {
        &self.constants[c]
    }

    /// Whether the graph has this constant.
    pub fn has_constant(&self, c: ConstId) -> bool {
        self.constants.is_valid(c)
    }

    /// All constants in order.
    pub fn constants(&self) -> impl Iterator<Item = (ConstId, &Constant)> {
        self.constants.iter()
    }

    /// A quantizer.
    pub fn quantizer(&self, q: QuantizerId) -> &Quantizer {
        &self.quantizers[q]
    }

    /// A mutable reference to a quantizer.
    pub fn quantizer_mut(&mut self, q: QuantizerId) -> &mut Quantizer {
        &mut self.quantizers[q]
    }

    /// Whether the graph has this quantizer.
    pub fn has_quantizer(&self, q: QuantizerId) -> bool {
        self.quantizers.is_valid(q)
    }

    /// All quantizers in order.
    pub fn quantizers(&self) -> impl Iterator<Item = (QuantizerId, &Quantizer)> {
        self.quantizers.iter()
    }

    /// The type of an operand.
    pub fn type_of(&self, operand: Operand) -> TensorType {
        match operand {
            Operand::Value(v) => self.values[v].clone(),
            Operand::Const(c) => self.constants[c].ty(),
        }
    }

    /// The quantizer of an operand that holds codes.
    pub fn quantizer_of(&self, operand: Operand) -> Option<&Quantizer> {
        Some(&self.quantizers[self.type_of(operand).element.quantizer()?])
    }

    /// The constants that nodes use.
    pub fn used_constants(&self) -> BTreeSet<ConstId> {
        self.nodes.iter().flat_map(|n| n.inputs.iter().filter_map(|o| o.constant())).collect()
    }

    /// The quantizers that inputs, node outputs or used constants refer to through their types.
    pub fn used_quantizers(&self) -> BTreeSet<QuantizerId> {
        let types = self.inputs.iter().map(|(v, _)| *v).chain(self.nodes.iter().map(|n| n.output));
        let values = types.filter_map(|v| self.values[v].element.quantizer());
        let constants = self.used_constants().into_iter().filter_map(|c| self.constants[c].element.quantizer());
        values.chain(constants).collect()
    }

    /// Frees the elements of the constants that no node uses. Their ids remain valid.
    pub fn release_unused_constants(&mut self) {
        let used = self.used_constants();
        for (_, c) in self.constants.iter_mut().filter(|(id, _)| !used.contains(id)) {
            *c = Constant::default();
        }
    }

    /// The definition of each value. `None` for values that are neither inputs nor outputs of nodes any more.
    pub fn definitions(&self) -> SecondaryMap<ValueId, Option<Definition>> {
        let mut map = SecondaryMap::with_capacity(self.values.len());
        for (i, (v, _)) in self.inputs.iter().enumerate() {
            map[*v] = Some(Definition::Input(i));
        }
        for (i, node) in self.nodes.iter().enumerate() {
            map[node.output] = Some(Definition::Node(i));
        }
        map
    }

    /// The uses of each value as `(node, operand)` in order, with one entry for each operand.
    pub fn uses(&self) -> SecondaryMap<ValueId, Vec<(usize, usize)>> {
        let mut map: SecondaryMap<ValueId, Vec<(usize, usize)>> = SecondaryMap::with_capacity(self.values.len());
        for (n, node) in self.nodes.iter().enumerate() {
            for (i, operand) in node.inputs.iter().enumerate() {
                if let Operand::Value(v) = operand {
                    map[*v].push((n, i));
                }
            }
        }
        map
    }

    /// Replaces `from` by `to` in all operands and graph outputs. The caller must keep the nodes in topological order.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        for node in &mut self.nodes {
            for operand in &mut node.inputs {
                if *operand == Operand::Value(from) {
                    *operand = Operand::Value(to);
                }
            }
        }
        for output in &mut self.outputs {
            if output.value == from {
                output.value = to;
            }
        }
    }

    /// A label of a node for messages. It holds the node's name and operation, or the operation and output if the node has no
    /// name.
    pub fn label(&self, node: &Node) -> String {
        if node.name.is_empty() {
            format!("{} {}", node.op.name(), node.output)
        } else {
            format!("\"{}\" ({})", node.name, node.op.name())
        }
    }
}
