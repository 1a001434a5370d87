//! Translation of the nodes to a graph.

use crate::control;
use crate::error::{ImportErrorKind, NodeProblem, TensorProblem};
use crate::external::ExternalData;
use crate::interface::{self, WholeType};
use crate::node::{NodeContext, Outputs, node_name};
use crate::ops;
use crate::opset::STANDARD;
use crate::options::{BatchPolicy, ImportOptions};
use crate::order::{label, takes};
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::quantized::Parameters;
use crate::tensor;
use crate::types;
use crate::value::{Known, Value};
use catc_ir::ops::Identity;
use catc_ir::{
    ConstId, Constant, Dim, Graph, Op, Operand, Phase, Quantizer, QuantizerId, Shape, Tensor, ValueId, verify,
};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// The tensors of the file. They are read on first use, and kept in case of a second attempt.
pub(crate) struct Tensors<'m> {
    initializers: HashMap<&'m str, &'m TensorProto>,
    read: HashMap<&'m str, Arc<Tensor>>,
    external: ExternalData,
}

impl<'m> Tensors<'m> {
    /// The tensors of a graph. External data is read from `folder`.
    pub fn new(graph: &'m GraphProto, folder: Option<&Path>) -> Self {
        let initializers = graph.initializer.iter().map(|t| (t.name(), t)).collect();
        Tensors { initializers, read: HashMap::new(), external: ExternalData::new(folder) }
    }

    /// The message of an initializer.
    pub fn proto(&self, name: &str) -> Option<&'m TensorProto> {
        self.initializers.get(name).copied()
    }

    /// An initializer.
    pub fn initializer(&mut self, name: &'m str) -> Result<Arc<Tensor>, LookupProblem> {
        if let Some(tensor) = self.read.get(name) {
            return Ok(tensor.clone());
        }
        let Some(proto) = self.initializers.get(name) else {
            return Err(LookupProblem::Other("is not defined".into()));
        };
        let tensor = Arc::new(tensor::read(proto, &mut self.external).map_err(LookupProblem::Tensor)?);
        self.read.insert(name, tensor.clone());
        Ok(tensor)
    }
}

/// The meaning of a name.
enum Binding {
    Value(Value),
    /// An output that the rule of its node does not compute, with the operator and the index of the output.
    NotComputed(String, usize),
}

/// The result of an attempt to translate a model.
pub(crate) struct Translated {
    pub graph: Graph,
    pub operators: HashMap<String, String>,
    pub whole: Vec<Option<WholeType>>,
    pub file_batch: Option<usize>,
    pub warnings: Vec<String>,
}

/// An attempt to translate a model.
pub(crate) struct Importer<'a, 'm> {
    proto: &'m GraphProto,
    tensors: &'a mut Tensors<'m>,
    /// The graph so far.
    pub graph: Graph,
    /// The operators of the nodes so far, by the names of the nodes.
    operators: HashMap<String, String>,
    /// Whether the caller gave sizes. If so, the sizes that the file declares are not valid.
    reshaped: bool,
    /// The types of the integer and boolean inputs in the file.
    whole: Vec<Option<WholeType>>,
    /// The batch size that the file fixes, if it became `N`.
    pub file_batch: Option<usize>,
    /// The batch size for a network that does not work with every batch size.
    pub batch: Option<usize>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    bindings: HashMap<&'m str, Binding>,
    /// The constants of the graph, by the address of their tensor. The graph keeps the tensors alive, so addresses are not
    /// reused.
    constants: HashMap<*const Tensor, ConstId>,
    /// Whether the model quantizes its activations. If so, codes stay codes.
    pub quantizes_data: bool,
    /// The quantizers that codes have in the file, if their integers differ from those of the graph.
    pub file_codes: HashMap<ValueId, Parameters>,
    /// The integers that were computed for codes, for nodes that use them as integers.
    pub numbers: HashMap<ValueId, Value>,
    /// The element types of the outputs of nodes so far.
    types: HashMap<&'m str, DataType>,
    /// The quantizers of the graph, without duplicates.
    quantizers: Vec<QuantizerId>,
    /// The subgraphs that are currently translated, with the innermost last.
    pub inside: Vec<&'m GraphProto>,
    /// The number of nodes in such subgraphs so far.
    pub nodes_inside: usize,
    /// The number of elements so far in tensors that the file describes without containing their data.
    pub filled: usize,
    /// The limit on their memory in bytes.
    pub memory: usize,
    /// The number of integer elements so far that were moved or computed at import.
    pub moved: usize,
}

impl<'a, 'm> Importer<'a, 'm> {
    /// Starts an attempt. `policy` determines how a batch size that the file fixes is treated.
    pub fn new(
        proto: &'m GraphProto,
        options: &ImportOptions,
        policy: BatchPolicy,
        tensors: &'a mut Tensors<'m>,
        quantizes_data: bool,
    ) -> Result<Self, ImportErrorKind> {
        let interface = interface::inputs(proto, options, policy)?;
        let mut graph = Graph::new(graph_word(proto.name()));
        if quantizes_data {
            graph.phase = Phase::Qdq;
        }
        let mut bindings = HashMap::new();
        for (name, ty) in interface.inputs {
            let v = graph.add_input(name, ty);
            bindings.insert(name, Binding::Value(Value::Computed(v)));
        }
        for (name, tensor) in interface.values {
            bindings.insert(name, Binding::Value(Value::Known(tensor.into())));
        }
        Ok(Importer {
            proto,
            tensors,
            graph,
            operators: HashMap::new(),
            memory: options.memory,
            reshaped: !options.shapes.is_empty(),
            whole: interface.whole,
            file_batch: interface.file_batch,
            batch: interface.batch,
            warnings: interface.warnings,
            bindings,
            constants: HashMap::new(),
            quantizes_data,
            file_codes: HashMap::new(),
            numbers: HashMap::new(),
            types: HashMap::new(),
            quantizers: vec![],
            inside: vec![],
            nodes_inside: 0,
            filled: 0,
            moved: 0,
        })
    }

    /// The id of a quantizer in the graph. Equal quantizers share an id, so codes with equal quantizers have the same type.
    pub fn quantizer(&mut self, quantizer: &Quantizer) -> QuantizerId {
        if let Some(&q) = self.quantizers.iter().find(|&&q| self.graph.quantizer(q) == quantizer) {
            return q;
        }
        let q = self.graph.add_quantizer(quantizer.clone());
        self.quantizers.push(q);
        q
    }

    /// Translates all nodes and the outputs. The nodes are in topological order and all have rules.
    pub fn run(
        mut self,
        nodes: &[&'m NodeProto],
        versions: &BTreeMap<String, i64>,
    ) -> Result<Translated, ImportErrorKind> {
        self.nodes(nodes, versions)?;
        let proto = self.proto;
        proto.output.iter().try_for_each(|o| self.output(o, versions[STANDARD]))?;
        verify(&self.graph).map_err(ImportErrorKind::Invalid)?;
        Ok(Translated {
            graph: self.graph,
            operators: self.operators,
            whole: self.whole,
            file_batch: self.file_batch,
            warnings: self.warnings,
        })
    }

    /// Translates nodes in topological order.
    pub fn nodes(&mut self, nodes: &[&'m NodeProto], versions: &BTreeMap<String, i64>) -> Result<(), ImportErrorKind> {
        for node in nodes {
            self.operators.entry(label(node).into()).or_insert_with(|| node.op_type().into());
            let outputs = if control::written_out(node) {
                self.control(node, versions)?
            } else {
                self.node(node, versions[STANDARD]).map_err(|problem| at_node(node, versions, problem))?
            };
            let mut outputs = outputs.into_iter();
            for (i, name) in node.output.iter().enumerate() {
                let not_computed = || Binding::NotComputed(node.op_type().to_string(), i);
                let binding = outputs.next().map_or_else(not_computed, Binding::Value);
                self.bindings.insert(name, binding);
                if !control::written_out(node)
                    && let Some(ty) = types::of_output(node, i, |n| self.type_of(n))
                {
                    self.types.insert(name, ty);
                }
            }
        }
        Ok(())
    }

    /// Binds a name of a subgraph to a value.
    pub fn bind(&mut self, name: &'m str, value: Value) {
        self.bindings.insert(name, Binding::Value(value));
    }

    /// Removes the binding of a name.
    pub fn unbind(&mut self, name: &str) {
        self.bindings.remove(name);
        self.types.remove(name);
    }

    /// Copies the element type of one name to another.
    pub fn pass_type(&mut self, from: &str, to: &'m str) {
        if let Some(ty) = self.type_of(from) {
            self.types.insert(to, ty);
        }
    }

    /// Whether a name is defined.
    pub fn knows(&self, name: &str) -> bool {
        self.bindings.contains_key(name) || self.tensors.proto(name).is_some()
    }

    /// Whether a node uses a name, or whether it is an output of the graph.
    pub fn is_taken(&self, name: &str) -> bool {
        let graphs = self.inside.iter().chain([&self.proto]);
        let mut taken = graphs.flat_map(|g| g.node.iter().flat_map(takes).chain(g.output.iter().map(|o| o.name())));
        taken.any(|n| n == name)
    }

    fn node(&mut self, node: &'m NodeProto, opset: i64) -> Result<Outputs, NodeProblem> {
        let Some(rule) = ops::rule(node) else {
            return Err(NodeProblem::unsupported("an operator without a rule"));
        };
        let mut cx = NodeContext::new(self, node, opset);
        let outputs = (rule.translate)(&mut cx)?;
        cx.check_attributes()?;
        self.pass_file_codes(node, &outputs);
        Ok(outputs)
    }

    /// Records that the codes that a node outputs have the same quantizer in the file as its input codes.
    fn pass_file_codes(&mut self, node: &NodeProto, outputs: &Outputs) {
        let taken = node.input.iter().find_map(|name| match self.bindings.get(name.as_str()) {
            Some(Binding::Value(Value::Computed(v))) => self.file_codes.get(v).cloned(),
            _ => None,
        });
        let Some(file) = taken else { return };
        for output in outputs {
            if let Value::Computed(v) = output
                && self.graph.value_type(*v).element.quantizer().is_some()
            {
                self.file_codes.entry(*v).or_insert_with(|| file.clone());
            }
        }
    }

    fn output(&mut self, info: &'m ValueInfoProto, opset: i64) -> Result<(), ImportErrorKind> {
        let name = info.name();
        let fail = |problem: String| ImportErrorKind::Graph(format!("has an output `{name}` {problem}"));
        if self.graph.outputs.iter().any(|o| o.name == name) {
            return Err(fail("that is listed twice; remove one of them from the outputs of the model".into()));
        }
        let value = self.lookup(name).map_err(|problem| match problem {
            LookupProblem::Tensor(problem) => ImportErrorKind::Tensor { name: name.into(), problem },
            LookupProblem::Other(problem) => fail(format!("that {problem}")),
        })?;
        let value = match value {
            Value::Computed(v) if self.graph.value_type(v).element.quantizer().is_some() => {
                let given = self.numbers_of_output(name, v, opset);
                given.map_err(|problem| fail(format!("that cannot be given: {problem}")))?
            }
            Value::Computed(v) => v,
            known => {
                let operand = self.operand(&known).map_err(|problem| fail(format!("that {problem}")))?;
                let identity = self.graph.append(Op::Identity(Identity), [operand], name);
                identity.map_err(|e| fail(format!("that cannot be given: {e}")))?
            }
        };
        let found = &self.graph.value_type(value).shape;
        if let Some(declared) = contradiction(info, found, self.file_batch, self.reshaped) {
            let problem = format!("declared as {declared} that comes out as {found}");
            if self.file_batch.is_some() {
                return Err(fail(problem));
            }
            self.warnings.push(format!("output `{name}` is {problem}"));
        }
        self.graph.add_output(name, value);
        Ok(())
    }

    /// The integers of codes that are an output of the graph. The new nodes get the name of the node that computes the output.
    fn numbers_of_output(&mut self, name: &str, codes: ValueId, opset: i64) -> Result<ValueId, NodeProblem> {
        let Some(node) = self.proto.node.iter().find(|n| n.output.iter().any(|o| o == name)) else {
            return Err(NodeProblem::invalid("is given by no node"));
        };
        match ops::numbers(&mut NodeContext::new(self, node, opset), &Value::Computed(codes))? {
            Value::Computed(v) => Ok(v),
            Value::Known(_) => Err(NodeProblem::invalid("is known")),
        }
    }

    /// The value of a name. Every name that a live node uses is defined.
    fn lookup(&mut self, name: &'m str) -> Result<Value, LookupProblem> {
        match self.bindings.get(name) {
            Some(Binding::Value(v)) => Ok(v.clone()),
            Some(Binding::NotComputed(op, output)) => {
                Err(LookupProblem::Other(format!("is output {output} of {op}, which catc does not compute")))
            }
            None => self.tensors.initializer(name).map(|t| Value::Known(Known::Tensor(t))),
        }
    }

    /// The value of input `index` of a node.
    pub fn value(&mut self, name: &'m str, index: usize) -> Result<Value, NodeProblem> {
        self.lookup(name).map_err(|problem| match problem {
            LookupProblem::Tensor(problem) => NodeProblem::Tensor { name: name.into(), problem },
            LookupProblem::Other(problem) => NodeProblem::input(index, problem),
        })
    }

    /// Reads the tensor of an attribute.
    pub fn read_tensor(&mut self, proto: &TensorProto) -> Result<Tensor, TensorProblem> {
        tensor::read(proto, &mut self.tensors.external)
    }

    /// The element type of a name in the file. For initializers and inputs it is the declared type. For other names it is
    /// inferred from the node that computes them. If it cannot be inferred, the type that the file declares is used.
    pub fn type_of(&self, name: &str) -> Option<DataType> {
        let followed = self.types.get(name).copied();
        followed.or_else(|| self.inside.iter().rev().chain([&self.proto]).find_map(|graph| declared_type(graph, name)))
    }

    /// A value as an operand of the graph. A known tensor becomes a constant, which is added only once.
    pub fn operand(&mut self, value: &Value) -> Result<Operand, String> {
        match value {
            Value::Computed(v) => Ok((*v).into()),
            Value::Known(Known::Sizes { .. }) => Err("holds the batch size, which is no data of the network".into()),
            Value::Known(known @ Known::Tensor(t)) => {
                let graph = &mut self.graph;
                let push = || graph.push_constant(Constant { element: known.element(), tensor: t.clone() });
                Ok((*self.constants.entry(Arc::as_ptr(t)).or_insert_with(push)).into())
            }
        }
    }
}

/// Why a name has no value.
#[derive(Debug)]
pub(crate) enum LookupProblem {
    /// The tensor cannot be read.
    Tensor(TensorProblem),
    /// Any other reason, as a message.
    Other(String),
}

/// The element type that a graph declares for a name.
fn declared_type(graph: &GraphProto, name: &str) -> Option<DataType> {
    let initial = graph.initializer.iter().find(|t| t.name() == name).map(|t| t.data_type());
    let info = graph.input.iter().chain(&graph.value_info).chain(&graph.output);
    let declared = || {
        let info = info.filter(|i| i.name() == name).find_map(|i| i.r#type.as_ref()?.value.as_ref());
        match info {
            Some(type_proto::Value::TensorType(t)) => Some(t.elem_type()),
            _ => None,
        }
    };
    types::data_type(initial.or_else(declared)?.into())
}

/// Converts a problem of a node to an error of the import.
pub(crate) fn at_node(node: &NodeProto, versions: &BTreeMap<String, i64>, problem: NodeProblem) -> ImportErrorKind {
    match problem {
        // The tensor is at fault, not the node.
        NodeProblem::Tensor { name, problem } => ImportErrorKind::Tensor { name, problem },
        problem => ImportErrorKind::Node { node: Box::new(node_name(node, versions)), problem },
    }
}

/// Converts the name of a graph to a word of the text form.
fn graph_word(name: &str) -> String {
    let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match word.chars().next() {
        None => "graph".into(),
        Some(c) if c.is_ascii_digit() => format!("_{word}"),
        Some(_) => word,
    }
}

/// The shape that the file declares for an output, if it contradicts the inferred shape. If the network was `reshaped`, only the
/// batch is compared.
fn contradiction(info: &ValueInfoProto, found: &Shape, file_batch: Option<usize>, reshaped: bool) -> Option<String> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else {
        return None;
    };
    let dims = &tensor.shape.as_ref()?.dim;
    let agrees = |(declared, found): (&crate::proto::tensor_shape_proto::Dimension, &Dim)| {
        let Some(dimension::Value::DimValue(n)) = declared.value else {
            return true;
        };
        let size = match (found, file_batch) {
            (Dim::Fixed(_), _) if reshaped => return true,
            (Dim::Fixed(m), _) => *m,
            (Dim::Batch(_), None) => return true,
            (d, Some(b)) => d.at_batch(b),
        };
        n <= 0 || i64::try_from(size) == Ok(n)
    };
    if dims.len() == found.rank() && dims.iter().zip(found.dims()).all(agrees) {
        return None;
    }
    let text = |d: &crate::proto::tensor_shape_proto::Dimension| match &d.value {
        Some(dimension::Value::DimValue(n)) => n.to_string(),
        Some(dimension::Value::DimParam(p)) => p.clone(),
        None => "?".into(),
    };
    Some(format!("[{}]", dims.iter().map(text).collect::<Vec<_>>().join(",")))
}
