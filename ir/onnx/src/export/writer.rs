//! The names, initializers and nodes of the exported model.

use crate::message::{f32_tensor, i64_tensor, int, raw_tensor};
use crate::names::Names;
use crate::proto::tensor_proto::DataType;
use crate::proto::{AttributeProto, NodeProto, TensorProto};
use catc_ir::ops::Linear;
use catc_ir::{ConstId, Dim, Graph, Op, Operand, Quantizer, QuantizerId, Shape, TensorData, ValueId};
use std::collections::{HashMap, HashSet};

/// A model under construction.
pub(super) struct Writer<'g> {
    pub graph: &'g Graph,
    pub opset: i64,
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<TensorProto>,
    /// Dequantized weights that are written transposed, because they are the right operand of a product: a linear layer on more
    /// than two dimensions.
    pub transposed: HashSet<ValueId>,
    names: HashMap<ValueId, String>,
    constants: HashMap<(ConstId, bool), String>,
    parameters: HashMap<QuantizerId, [String; 2]>,
    taken: Names,
    node_names: Names,
}

/// The type in which the codes of a quantizer are stored.
pub(super) fn container(quantizer: &Quantizer) -> DataType {
    if quantizer.format.signed() { DataType::Int8 } else { DataType::Uint8 }
}

/// The bytes of codes.
pub(super) fn code_bytes(codes: impl IntoIterator<Item = i32>) -> Vec<u8> {
    codes.into_iter().map(|c| c as u8).collect()
}

fn sizes(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

impl<'g> Writer<'g> {
    /// An empty model for a graph. The inputs and outputs have their names.
    pub fn new(graph: &'g Graph, opset: i64) -> Self {
        let mut writer = Writer {
            graph,
            opset,
            nodes: vec![],
            initializers: vec![],
            transposed: transposed_weights(graph),
            names: HashMap::new(),
            constants: HashMap::new(),
            parameters: HashMap::new(),
            taken: graph.inputs.iter().map(|(_, n)| n).chain(graph.outputs.iter().map(|o| &o.name)).cloned().collect(),
            node_names: Names::from_iter([]),
        };
        writer.names.extend(graph.inputs.iter().map(|(v, name)| (*v, name.clone())));
        for output in &graph.outputs {
            writer.names.entry(output.value).or_insert_with(|| output.name.clone());
        }
        writer
    }

    /// Casts an input to the element type that the graph uses for it.
    pub fn cast_input(&mut self, value: ValueId, input: &str, to: DataType) {
        let name = self.fresh(&format!("{input}_whole"));
        self.node("Cast", "", &[input], &name, vec![int("to", to as i64)]);
        self.names.insert(value, name);
    }

    /// A new name that resembles this one.
    pub fn fresh(&mut self, like: &str) -> String {
        self.taken.fresh(like)
    }

    /// The name of a value.
    pub fn value(&mut self, v: ValueId) -> String {
        if let Some(name) = self.names.get(&v) {
            return name.clone();
        }
        let name = self.fresh(&v.to_string());
        self.names.insert(v, name.clone());
        name
    }

    /// The name of an operand. A constant becomes an initializer.
    pub fn operand(&mut self, operand: Operand) -> Result<String, String> {
        match operand {
            Operand::Value(v) => Ok(self.value(v)),
            Operand::Const(c) => self.constant(c, false),
        }
    }

    /// The name of a constant of f32, integers or booleans. A matrix can be transposed.
    pub fn constant(&mut self, c: ConstId, transpose: bool) -> Result<String, String> {
        if let Some(name) = self.constants.get(&(c, transpose)) {
            return Ok(name.clone());
        }
        let tensor = self.graph.constant(c).tensor.clone();
        let name = self.fresh(&if transpose { format!("{c}_transposed") } else { c.to_string() });
        let dims = sizes(tensor.shape());
        let proto = match tensor.data() {
            TensorData::F32(v) if transpose => {
                let [rows, columns] = tensor.shape() else { return Err(format!("{c} is no matrix")) };
                let items: Vec<f32> = (0..*columns).flat_map(|j| (0..*rows).map(move |i| v[i * columns + j])).collect();
                f32_tensor(&name, &[dims[1], dims[0]], &items)
            }
            TensorData::F32(v) => f32_tensor(&name, &dims, v),
            TensorData::I64(v) => i64_tensor(&name, &dims, v),
            TensorData::Bool(v) => raw_tensor(&name, DataType::Bool, &dims, v.iter().map(|&b| b.into()).collect()),
            TensorData::Code(_) => return Err(format!("{c} holds codes that are not dequantized")),
        };
        self.initializers.push(proto);
        self.constants.insert((c, transpose), name.clone());
        Ok(name)
    }

    /// Adds an f32 initializer.
    pub fn reals(&mut self, like: &str, shape: &[usize], items: &[f32]) -> String {
        let name = self.fresh(like);
        self.initializers.push(f32_tensor(&name, &sizes(shape), items));
        name
    }

    /// Adds an initializer with a list of integers.
    pub fn whole(&mut self, like: &str, items: &[i64]) -> String {
        let name = self.fresh(like);
        self.initializers.push(i64_tensor(&name, &[items.len() as i64], items));
        name
    }

    /// Adds an initializer with codes.
    pub fn codes(&mut self, like: &str, ty: DataType, shape: &[usize], bytes: Vec<u8>) -> String {
        let name = self.fresh(like);
        self.initializers.push(raw_tensor(&name, ty, &sizes(shape), bytes));
        name
    }

    /// The names of the scale and zero point of a per-tensor quantizer.
    pub fn parameters(&mut self, q: QuantizerId) -> [String; 2] {
        if let Some(names) = self.parameters.get(&q) {
            return names.clone();
        }
        let quantizer = self.graph.quantizer(q);
        let scale = self.reals(&format!("{q}_scale"), &[], &quantizer.scale[..1]);
        let zero = code_bytes(quantizer.zero_point[..1].iter().copied());
        let names = [scale, self.codes(&format!("{q}_zero_point"), container(quantizer), &[], zero)];
        self.parameters.insert(q, names.clone());
        names
    }

    /// Appends a node. A node without a name is named after its output. If a name is taken, a number is appended.
    pub fn node(&mut self, op: &str, name: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|n| n.to_string()).collect(),
            output: vec![output.into()],
            name: Some(self.node_names.fresh(if name.is_empty() { output } else { name })),
            op_type: Some(op.into()),
            attribute: attributes,
            ..Default::default()
        });
    }

    /// Appends a node whose output gets a new name, and returns that name.
    pub fn step(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh(&op.to_ascii_lowercase());
        self.node(op, "", inputs, &output, attributes);
        output
    }

    /// The sizes of a shape for `Reshape`, with -1 for the batch.
    pub fn reshape_sizes(&self, shape: &Shape) -> Result<Vec<i64>, String> {
        let sizes: Vec<i64> = shape.dims().iter().map(|d| d.fixed().map_or(-1, |n| n as i64)).collect();
        let batches = sizes.iter().filter(|n| **n == -1).count();
        if batches > 1 { Err(format!("the batch stands twice in {shape}")) } else { Ok(sizes) }
    }

    /// The name of a list with the sizes of a shape. If the shape contains the batch, the list is computed at run time.
    pub fn run_time_sizes(&mut self, shape: &Shape) -> Result<String, String> {
        if let Some(sizes) = shape.as_fixed() {
            return Ok(self.whole("shape", &sizes.iter().map(|&n| n as i64).collect::<Vec<_>>()));
        }
        let of_batch = |v: &ValueId| self.graph.value_type(*v).shape.dims().first() == Some(&Dim::N);
        let Some((_, input)) = self.graph.inputs.iter().find(|(v, _)| of_batch(v)).cloned() else {
            return Err("no input starts with the batch".into());
        };
        let whole = self.step("Shape", &[&input], vec![]);
        let (from, to) = (self.whole("start", &[0]), self.whole("end", &[1]));
        let batch = self.step("Slice", &[&whole, &from, &to], vec![]);
        let mut parts = vec![];
        for d in shape.dims() {
            parts.push(match *d {
                Dim::Fixed(n) => self.whole("size", &[n as i64]),
                Dim::Batch(1) => batch.clone(),
                Dim::Batch(k) => {
                    let times = self.whole("times", &[k as i64]);
                    self.step("Mul", &[&batch, &times], vec![])
                }
            });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.step("Concat", &parts, vec![crate::message::int("axis", 0)]))
    }

    /// Adds an `Identity` for each output whose value has a different name.
    pub fn finish_outputs(&mut self) {
        for output in &self.graph.outputs {
            let name = self.value(output.value);
            if name != output.name {
                self.node("Identity", "", &[&name], &output.name, vec![]);
            }
        }
    }
}

/// Finds the dequantized weights that only linear layers on more than two dimensions use.
fn transposed_weights(graph: &Graph) -> HashSet<ValueId> {
    let mut found = HashSet::new();
    let mut others: HashSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    for node in graph.nodes() {
        for (index, operand) in node.inputs.iter().enumerate() {
            let Some(v) = operand.value() else { continue };
            if index == 1 && node.op == Op::Linear(Linear) && graph.type_of(node.inputs[0]).shape.rank() != 2 {
                found.insert(v);
            } else {
                others.insert(v);
            }
        }
    }
    found.retain(|v| !others.contains(v));
    found
}
