//! The walk over the graph. It finds the live nodes and the uses of each value, lowers the nodes, and creates the ports.

use crate::CodegenError;
use crate::builder::Builder;
use crate::layers::interpolates_pixels;
use crate::materialization::{Materializations, Order};
use catc_ir::ops::{Body, Op};
use catc_ir::{
    Dim, Element, Graph, GraphOutput, Indexed, Node, Operand, Phase, Shape, ValueId, indexed_inputs, verify,
};
use catc_program::{
    BuildInfo, Epilogue, Format, Layout, Op as StepOp, Port, Program, Range, Step, TensorDecl, TensorId,
};
use cranelift_entity::SecondaryMap;
use std::collections::HashSet;

/// The result of lowering a part of the graph.
pub(crate) type Lowered<T> = Result<T, CodegenError>;

/// Lowers a graph of the integer phase to a valid program. The result is deterministic.
///
/// # Errors
/// Fails if the graph is in another phase or breaks a rule of the IR. Fails if nodes have no counterpart among the steps of a
/// program; the error names all of them with the reasons. Fails if a size exceeds the limits of a program.
pub fn lower(graph: &Graph, info: BuildInfo) -> Result<Program, CodegenError> {
    let (lowering, inputs, outputs) = walk(graph)?;
    let program = lowering.builder.finish(graph.name.clone(), info, inputs, outputs);
    program.validate()?;
    Ok(program)
}

/// Checks whether a graph of the integer phase can be lowered, like [`lower`] but without building the program. A network can
/// thus be rejected before its scales are computed, because a layer that can be lowered in f32 can also be lowered on codes.
pub fn check(graph: &Graph) -> Result<(), CodegenError> {
    walk(graph).map(|_| ())
}

/// Lowers every live node and collects the errors.
fn walk(graph: &Graph) -> Result<(Lowering<'_>, Vec<Port>, Vec<Port>), CodegenError> {
    if graph.phase != Phase::Integer {
        return Err(CodegenError::Phase(graph.phase));
    }
    verify(graph).map_err(CodegenError::Unverified)?;
    let mut lowering = Lowering::new(graph);
    lowering.find_uses();
    let inputs = lowering.inputs();
    for (i, node) in graph.nodes().iter().enumerate() {
        if !lowering.live[i] {
            continue;
        }
        // A node whose input could not be lowered is skipped without an error of its own.
        if node.inputs.iter().filter_map(|o| o.value()).any(|v| lowering.refused.contains(&lowering.resolve(v))) {
            lowering.refused.insert(node.output);
            continue;
        }
        lowering.node = Some(node);
        lowering.step_name =
            if node.name.is_empty() { format!("{} {}", node.op.name(), node.output) } else { node.name.clone() };
        if let Err(error) = lowering.lower_node(node) {
            lowering.errors.push(error);
            lowering.refused.insert(node.output);
        }
    }
    let outputs = lowering.outputs();
    CodegenError::all(std::mem::take(&mut lowering.errors))?;
    Ok((lowering, inputs, outputs))
}

/// The state of lowering one graph.
pub(crate) struct Lowering<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) builder: Builder,
    pub(crate) materializations: SecondaryMap<ValueId, Materializations>,
    /// The value that each value equals, if nodes that change nothing produce it. `None` means the value itself.
    equals: SecondaryMap<ValueId, Option<ValueId>>,
    /// The indices of the nodes that use each value, once for each operand. Graph outputs are counted in `output_uses`.
    users: SecondaryMap<ValueId, Vec<usize>>,
    output_uses: SecondaryMap<ValueId, usize>,
    live: Vec<bool>,
    /// The name of the steps that are currently emitted.
    pub(crate) step_name: String,
    /// The node that is currently lowered, for error messages.
    node: Option<&'g Node>,
    /// The errors so far.
    errors: Vec<CodegenError>,
    /// The values that no step computes because of these errors.
    refused: HashSet<ValueId>,
}

impl<'g> Lowering<'g> {
    fn new(graph: &'g Graph) -> Self {
        Lowering {
            graph,
            builder: Builder::default(),
            materializations: SecondaryMap::new(),
            equals: SecondaryMap::new(),
            users: SecondaryMap::new(),
            output_uses: SecondaryMap::new(),
            live: vec![false; graph.nodes().len()],
            step_name: String::new(),
            node: None,
            errors: vec![],
            refused: HashSet::new(),
        }
    }

    /// An error at the node that is currently lowered.
    pub(crate) fn reject(&self, reason: impl Into<String>) -> CodegenError {
        let (name, operator) = match self.node {
            Some(node) => (self.step_name.clone(), node.op.name().to_string()),
            None => (self.step_name.clone(), "output".to_string()),
        };
        CodegenError::Node { name, operator, reason: reason.into() }
    }

    /// An error for a node that only the evaluator can compute.
    pub(crate) fn evaluated_only(&self) -> CodegenError {
        self.reject(
            "a compiled network has no step for it where it depends on an input; cut the model before it and compute the rest in the \
             program that calls the network, or run the ONNX file itself with `catc run`",
        )
    }

    /// An error for a node whose inputs are all constants.
    pub(crate) fn constant_only(&self) -> CodegenError {
        self.reject(
            "it takes constants alone and gives the same for every input; export the model with constant folding, so that the file \
             holds its result",
        )
    }

    /// The value that this one equals.
    pub(crate) fn resolve(&self, value: ValueId) -> ValueId {
        self.equals[value].unwrap_or(value)
    }

    /// The value of an operand, which must not be a constant.
    pub(crate) fn value(&self, operand: Operand) -> Lowered<ValueId> {
        match operand {
            Operand::Value(v) => Ok(self.resolve(v)),
            Operand::Const(_) => Err(self.constant_only()),
        }
    }

    /// Finds the nodes that reach an output, the values that nodes pass on unchanged, and the uses of each value.
    fn find_uses(&mut self) {
        let graph = self.graph;
        let mut needed: HashSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            self.live[i] = needed.contains(&node.output);
            if self.live[i] {
                needed.extend(node.inputs.iter().filter_map(|o| o.value()));
            }
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            if let Some(Operand::Value(v)) = passed_on(graph, node) {
                self.equals[node.output] = Some(self.resolve(v));
                self.live[i] = false;
            }
            if self.live[i] {
                for v in node.inputs.iter().filter_map(|o| o.value()) {
                    let v = self.resolve(v);
                    self.users[v].push(i);
                }
            }
        }
        for output in &graph.outputs {
            let v = self.resolve(output.value);
            self.output_uses[v] += 1;
        }
    }

    /// Whether the value is used exactly once, by a node's operand or by a graph output.
    pub(crate) fn used_once(&self, value: ValueId) -> bool {
        self.users[value].len() + self.output_uses[value] == 1
    }

    /// The dimensions of a value for one image.
    pub(crate) fn dims(&self, value: ValueId) -> Lowered<Vec<usize>> {
        image_dims(&self.graph.value_type(value).shape).map_err(|e| self.reject(format!("a tensor of it {e}")))
    }

    /// The format of the tensors of a value.
    pub(crate) fn format(&self, value: ValueId) -> Lowered<Format> {
        match self.graph.value_type(value).element {
            Element::F32 => Ok(Format::F32),
            // Booleans are stored as 0 and 1.
            Element::I64 | Element::Bool => Ok(Format::Index),
            Element::Code(q) => {
                let q = self.graph.quantizer(q);
                if q.axis.is_some() {
                    return Err(
                        self.reject("its codes have a scale for each slice of an axis: activations need one scale")
                    );
                }
                let (scale, zero_point) = (q.scale[0], q.zero_point[0]);
                Ok(Format::Codes { signed: q.format.signed(), bits: q.format.bits(), scale, zero_point })
            }
        }
    }

    /// The declaration of a tensor that has the dimensions of a value.
    pub(crate) fn declare(&self, value: ValueId, layout: Layout) -> Lowered<TensorDecl> {
        Ok(TensorDecl { name: value.to_string(), format: self.format(value)?, dims: self.dims(value)?, layout })
    }

    /// The layout that the users of a value prefer. If they have no preference, `otherwise`.
    pub(crate) fn wished_layout(&self, value: ValueId, otherwise: Layout) -> Lowered<Layout> {
        // Only maps can change the layout, and no map produces integers. Only values of rank 3 can be channels-last.
        let dims = self.dims(value)?;
        if dims.len() != 3 || self.format(value)? == Format::Index {
            return Ok(Layout::RowMajor);
        }
        let mut rows = self.output_uses[value] > 0;
        for &user in &self.users[value] {
            match &self.graph.nodes()[user].op {
                Op::Conv2d(_) | Op::MaxPool(_) | Op::AvgPool(_) => return Ok(Layout::ChannelsLast),
                Op::Fused(f) if matches!(f.body, Body::Conv2d(_) | Body::AvgPool { .. }) => {
                    return Ok(Layout::ChannelsLast);
                }
                op if interpolates_pixels(op, &dims) => return Ok(Layout::ChannelsLast),
                Op::Linear(_) | Op::MatMul(_) | Op::Reshape(_) | Op::ArgMin(_) => rows = true,
                _ => {}
            }
        }
        Ok(if rows { Layout::RowMajor } else { otherwise })
    }

    fn inputs(&mut self) -> Vec<Port> {
        let mut ports = vec![];
        for ((v, name), indexed) in self.graph.inputs.iter().zip(indexed_inputs(self.graph)) {
            match self.input(*v, name, indexed) {
                Ok(port) => ports.push(port),
                Err(error) => {
                    self.errors.push(error);
                    self.refused.insert(*v);
                }
            }
        }
        ports
    }

    fn input(&mut self, v: ValueId, name: &str, indexed: Indexed) -> Lowered<Port> {
        let reject = |reason: String| CodegenError::Port { port: format!("input {name:?}"), reason };
        let ty = self.graph.value_type(v);
        let dims = image_dims(&ty.shape).map_err(reject)?;
        let (format, range) = match ty.element {
            Element::F32 => (Format::F32, None),
            Element::I64 => (Format::Index, Some(index_range(indexed))),
            Element::Bool => (Format::Index, Some(Range { low: 0, high: 1 })),
            Element::Code(_) => {
                return Err(reject("a compiled network takes reals or whole numbers; quantize it in the graph".into()));
            }
        };
        let declared = TensorDecl { name: v.to_string(), format, dims, layout: Layout::RowMajor };
        let tensor = self.builder.add_tensor(declared);
        self.define(v, tensor, Order::Rows);
        Ok(Port { name: name.into(), tensor, range })
    }

    /// Creates the output ports. Every output is a separate row-major tensor that a step writes.
    fn outputs(&mut self) -> Vec<Port> {
        let mut ports: Vec<Port> = vec![];
        self.node = None;
        for output in &self.graph.outputs {
            if self.refused.contains(&self.resolve(output.value)) {
                continue;
            }
            match self.output(output, &ports) {
                Ok(port) => ports.push(port),
                Err(error) => self.errors.push(error),
            }
        }
        ports
    }

    fn output(&mut self, output: &GraphOutput, ports: &[Port]) -> Lowered<Port> {
        let reject = |reason: String| CodegenError::Port { port: format!("output {:?}", output.name), reason };
        self.step_name = format!("output {:?}", output.name);
        let value = self.resolve(output.value);
        let ty = self.graph.value_type(value);
        image_dims(&ty.shape).map_err(reject)?;
        if !matches!(ty.element, Element::F32 | Element::I64) {
            return Err(reject("a compiled network gives f32 or indices: dequantize it in the graph".into()));
        }
        let mut tensor = self.in_layout(value, Layout::RowMajor)?;
        let taken = ports.iter().any(|p| p.tensor == tensor);
        if taken || self.builder.writer(tensor).is_none() {
            tensor = self.duplicate(tensor);
        }
        Ok(Port::new(&*output.name, tensor))
    }

    /// Creates a tensor with the same contents.
    fn duplicate(&mut self, source: TensorId) -> TensorId {
        let declared = self.builder.tensor(source).clone();
        match declared.format {
            Format::Index => self.view(source, &declared.dims, declared.layout),
            _ => self.copy(source, declared.layout),
        }
    }

    /// Pushes a step without an epilogue that computes a value in this layout.
    pub(crate) fn push_step(
        &mut self,
        op: StepOp,
        inputs: Vec<TensorId>,
        value: ValueId,
        layout: Layout,
    ) -> Lowered<()> {
        let declared = self.declare(value, layout)?;
        let output = self.builder.add_tensor(declared);
        let name = self.step_name.clone();
        self.builder.push(Step { name, op, inputs, epilogue: Epilogue::default(), output });
        self.define(value, output, layout.into());
        Ok(())
    }

    fn lower_node(&mut self, node: &Node) -> Lowered<()> {
        match &node.op {
            Op::Fused(fused) => self.fused(node, fused),
            Op::Conv2d(conv) => self.float_conv(node, conv),
            Op::Linear(_) => self.float_linear(node),
            Op::MatMul(_) => self.matmul(node),
            Op::BatchNorm(norm) => self.batch_norm(node, norm.eps),
            Op::Softmax(softmax) => self.softmax(node, softmax.axis),
            Op::Unary(f) => self.unary(node, *f),
            Op::Binary(f) => self.binary(node, *f),
            Op::Blend(blend) => self.blend(node, blend.alpha),
            Op::MaxPool(pool) => self.max_pool(node, &pool.0),
            Op::AvgPool(pool) => self.avg_pool(node, pool, 1.0, Default::default()),
            Op::ReduceMean(mean) => self.mean(node, mean, 1.0, Default::default()),
            Op::Interpolate(i) => self.interpolate(node, *i, 1.0, Default::default()),
            Op::Reshape(_) => self.reshape(node),
            Op::Transpose(t) => self.transpose(node, &t.perm),
            Op::Concat(concat) => self.concat(node, concat.axis),
            Op::Pad(pad) => self.pad(node, &pad.before, pad.value),
            Op::Slice(s) => self.slice(node, s.axis, s.start, s.step),
            Op::Gather(gather) => self.gather(node, gather.axis),
            Op::SquaredDistance(_) => self.squared_distance(node),
            Op::ArgMin(argmin) => self.argmin(node, argmin.axis),
            // An identity of a value was resolved before the walk, so the input here is a constant.
            Op::Identity(_) => Err(self.reject(
                "it gives a constant, the same for every input; remove that from the outputs of the model, and take it from the file",
            )),
            Op::Expand(_) => self.expand(node),
            Op::LayerNorm(norm) => self.layer_norm(node, norm.eps),
            Op::Cast(cast) => self.cast(node, cast.to),
            Op::UncompiledUnary(_)
            | Op::Compare(_)
            | Op::Where(_)
            | Op::Reduce(_)
            | Op::GatherElements(_)
            | Op::ScatterFlat(_)
            | Op::TopK(_)
            | Op::Cumulate(_) => Err(self.evaluated_only()),
            Op::Quantize(_) | Op::Dequantize(_) => {
                Err(self.reject("it quantizes outside of a layer, which the pass lower-integer should have joined"))
            }
        }
    }
}

/// The allowed range of an input of integers. Runs reject numbers outside it, so that no index lies outside its table.
fn index_range(indexed: Indexed) -> Range {
    match indexed.every.and_then(|length| i32::try_from(length).ok()) {
        Some(length) => Range { low: -length, high: length - 1 },
        None => Range::ALL,
    }
}

/// The input that a node passes on unchanged, if it does nothing else.
fn passed_on(graph: &Graph, node: &Node) -> Option<Operand> {
    let input = *node.inputs.first()?;
    let ty = graph.type_of(input);
    let unchanged = match &node.op {
        Op::Identity(_) => true,
        Op::Reshape(_) => ty.shape == graph.value_type(node.output).shape,
        Op::Transpose(t) => t.perm.iter().copied().eq(0..t.perm.len()),
        Op::Concat(_) => node.inputs.len() == 1,
        Op::Pad(p) => p.before.iter().chain(&p.after).all(|&n| n == 0),
        Op::Expand(_) => ty.shape == graph.value_type(node.output).shape,
        Op::Slice(s) => s.step == 1 && ty.shape == graph.value_type(node.output).shape,
        Op::Fused(f) => {
            matches!(f.body, Body::Map { scale: 1.0 }) && f.epilogue.is_empty() && ty.element == Element::F32
        }
        _ => false,
    };
    unchanged.then_some(input)
}

/// The dimensions for one image. The leading dimension must be the batch `N`, which is dropped. No other dimension may depend on
/// the batch.
fn image_dims(shape: &Shape) -> Result<Vec<usize>, String> {
    let Some((Dim::Batch(1), rest)) = shape.dims().split_first() else {
        return Err(format!(
            "has shape {shape}: a compiled network works image by image, so every tensor must start with the batch dimension N; \
             export the model with a batch size that may vary, and with the batch as the first dimension of every tensor"
        ));
    };
    rest.iter().map(|d| d.fixed()).collect::<Option<Vec<_>>>().ok_or_else(|| {
        format!("has shape {shape}: a compiled network works image by image, so N can only be the first dimension")
    })
}
