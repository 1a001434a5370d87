//! The interpreter of graphs.

use crate::batch_tape::BatchTape;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use crate::evaluator::Observer;
use crate::ops::{Known, Prepared, rule};
use crate::plan::{EvaluationPlan, sizes};
use crate::run::{Keep, run};
use crate::tape::Tape;
use crate::{EvalError, Evaluator};
use catc_ir::{
    ConstId, Constant, Element, Graph, Op, Operand, Quantizer, QuantizerId, Tensor, TensorData, TensorType, ValueId,
    verify,
};
use cranelift_entity::{EntitySet, SecondaryMap};
use std::borrow::Cow;
use std::sync::Arc;

/// Evaluates one graph. [`Interpreter::new`] checks the graph and computes all values that depend only on constants, such as
/// quantized weights. Clones share these values.
///
/// An evaluation needs memory for the values that are alive at the same time (4 bytes for each f32 element, 2 for each code), for
/// an f32 copy of the input of a convolution on codes, and a few MiB for temporary buffers. Each evaluated convolution keeps a
/// packed copy of its constant weights. If it was recorded with the Winograd algorithm, it also keeps transformed weights of up
/// to four times the size. An evaluation that would exceed the limit ([`Interpreter::with_memory_limit`]) fails before it starts.
/// The interpreter and its clones keep the memory for the next evaluation.
#[derive(Clone)]
pub struct Interpreter {
    graph: Arc<Graph>,
    /// The values that depend only on constants.
    constant: SecondaryMap<ValueId, Option<Arc<Tensor>>>,
    /// What the rule of each node prepared from its constants.
    prepared: Vec<Prepared>,
    memory_limit: usize,
    buffers: Buffers,
}

impl Interpreter {
    /// The default limit on the bytes of values that an evaluation may hold at once.
    pub const MEMORY_LIMIT: usize = 16 << 30;

    /// Creates an interpreter with a copy of `graph`. Constants are shared.
    ///
    /// # Errors
    /// Fails if the graph breaks a rule of the verifier, or if a value that depends only on constants cannot be computed.
    pub fn new(graph: &Graph) -> Result<Self, EvalError> {
        verify(graph).map_err(|violations| {
            let all: Vec<_> = violations.iter().map(|v| v.to_string()).collect();
            EvalError::Invalid(all.join("; "))
        })?;
        let mut this = Interpreter {
            graph: Arc::new(graph.clone()),
            constant: SecondaryMap::new(),
            prepared: vec![],
            memory_limit: Self::MEMORY_LIMIT,
            buffers: Buffers::default(),
        };
        this.prepare(|_| true)?;
        Ok(this)
    }

    /// Sets the limit on the bytes of values that are alive at once.
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// The peak size of the values, in bytes, for an evaluation of the whole graph on `batch` images.
    pub fn peak_bytes(&self, batch: usize) -> u128 {
        let outputs: Vec<_> = self.graph.outputs.iter().map(|o| o.value).collect();
        let mut known = EntitySet::new();
        self.graph.inputs.iter().map(|(v, _)| *v).chain(self.constant_values()).for_each(|v| {
            known.insert(v);
        });
        EvaluationPlan::new(&self.graph, &known, &outputs, true).map_or(0, |plan| plan.peak_bytes(&self.graph, batch))
    }

    /// Replaces a quantizer by one with the same axis and number of scales. Only the precomputed values that depend on it are
    /// computed again, which makes searches for scales cheap.
    ///
    /// # Errors
    /// Fails if the new quantizer does not fit. The interpreter is then unchanged.
    pub fn set_quantizer(&mut self, id: QuantizerId, quantizer: Quantizer) -> Result<(), EvalError> {
        let bad = |message: String| EvalError::Replacement { place: id.to_string(), message };
        if !self.graph.has_quantizer(id) {
            return Err(bad("there is no such quantizer".into()));
        }
        let old = self.graph.quantizer(id);
        if old.axis != quantizer.axis || old.scale.len() != quantizer.scale.len() || old.format != quantizer.format {
            return Err(bad("another format, axis or number of scales".into()));
        }
        let range = quantizer.format.min()..=quantizer.format.max();
        if quantizer.zero_point.len() != quantizer.scale.len()
            || !quantizer.scale.iter().all(|s| s.is_finite() && *s > 0.0)
            || !quantizer.zero_point.iter().all(|z| range.contains(z))
        {
            return Err(bad(
                "scales must be positive numbers and zero-points codes of the format, as many of both".into()
            ));
        }
        *Arc::make_mut(&mut self.graph).quantizer_mut(id) = quantizer;
        self.refresh(|graph, node| {
            let of = |ty: TensorType| ty.element.quantizer() == Some(id);
            of(graph.value_type(node.output).clone()) || node.inputs.iter().any(|&o| of(graph.type_of(o)))
        })
    }

    /// Replaces the elements of a constant by others of the same type. The precomputed values that depend on it are computed
    /// again.
    ///
    /// # Errors
    /// Fails if the shape or the element type differs, or if a code is outside its format. The interpreter is then unchanged.
    pub fn set_constant(&mut self, id: ConstId, tensor: Arc<Tensor>) -> Result<(), EvalError> {
        let bad = |message: String| EvalError::Replacement { place: id.to_string(), message };
        if !self.graph.has_constant(id) {
            return Err(bad("there is no such constant".into()));
        }
        let old = self.graph.constant(id);
        if old.tensor.shape() != tensor.shape()
            || std::mem::discriminant(old.tensor.data()) != std::mem::discriminant(tensor.data())
        {
            return Err(bad(format!("shape {:?} and its element are needed", old.tensor.shape())));
        }
        let element = old.element;
        if let (Element::Code(q), Some(codes)) = (element, tensor.as_codes()) {
            let f = self.graph.quantizer(q).format;
            if let Some(c) = codes.iter().find(|c| !(f.min()..=f.max()).contains(&i32::from(**c))) {
                return Err(bad(format!("{c} is no code of {f}")));
            }
        }
        Arc::make_mut(&mut self.graph).set_constant(id, Constant { element, tensor });
        self.refresh(|_, node| node.inputs.contains(&Operand::Const(id)))
    }

    /// Prepares again the nodes for which `touched` returns true, and the nodes that depend on them through constant values.
    fn refresh(&mut self, touched: impl Fn(&Graph, &catc_ir::Node) -> bool) -> Result<(), EvalError> {
        let graph = self.graph.clone();
        let mut stale: EntitySet<ValueId> = EntitySet::new();
        for node in graph.nodes() {
            if touched(&graph, node) || node.inputs.iter().filter_map(|o| o.value()).any(|v| stale.contains(v)) {
                stale.insert(node.output);
            }
        }
        self.prepare(|v| stale.contains(v))
    }

    fn prepare(&mut self, stale: impl Fn(ValueId) -> bool) -> Result<(), EvalError> {
        let graph = self.graph.clone();
        self.prepared.resize_with(graph.nodes().len(), Prepared::default);
        let mut held = 0u128;
        for (i, node) in graph.nodes().iter().enumerate() {
            if !stale(node.output) {
                continue;
            }
            let constant = |o: &Operand| match *o {
                Operand::Const(c) => Some(graph.constant(c).tensor.clone()),
                Operand::Value(v) => self.constant[v].clone(),
            };
            let constants: Vec<_> = node.inputs.iter().map(constant).collect();
            let known = Known { graph: &graph, node, constants: &constants, before: &self.prepared[i] };
            self.prepared[i] = rule(&node.op).prepare(&known);
            let known = |o: &Operand| o.value().is_none_or(|v| self.constant[v].is_some());
            let shape = &graph.value_type(node.output).shape;
            if matches!(node.op, Op::Fused(_)) || shape.as_fixed().is_none() || !node.inputs.iter().all(known) {
                continue;
            }
            held += shape.volume().map_or(u128::MAX >> 8, |(n, _)| n as u128 * 8);
            if held > self.memory_limit as u128 {
                return Err(EvalError::Memory { batch: 0, needed: held, limit: self.memory_limit });
            }
            let mut inputs: Vec<Input> = node.inputs.iter().filter_map(|&o| self.constant_input(o)).collect();
            let tensor = self.call(i, &mut inputs, 1, false, &mut Buffers::default())?;
            self.constant[node.output] = Some(Arc::new(tensor));
        }
        Ok(())
    }

    fn constant_input(&self, operand: Operand) -> Option<Input<'_>> {
        match operand {
            Operand::Const(c) => Some(Input::Shared(&self.graph.constant(c).tensor)),
            Operand::Value(v) => self.constant[v].as_deref().map(Input::Shared),
        }
    }

    /// Runs node `index`.
    pub(crate) fn call(
        &self,
        index: usize,
        inputs: &mut [Input],
        batch: usize,
        recorded: bool,
        buffers: &mut Buffers,
    ) -> Result<Tensor, EvalError> {
        let node = &self.graph.nodes()[index];
        let ty = self.graph.value_type(node.output);
        let too_large = EvalError::Memory { batch, needed: u128::MAX, limit: self.memory_limit };
        let (shape, volume) = sizes(&ty.shape, batch).ok_or(too_large)?;
        if volume == 0 {
            let data = match ty.element {
                Element::F32 => TensorData::F32(vec![]),
                Element::I64 => TensorData::I64(vec![]),
                Element::Bool => TensorData::Bool(vec![]),
                Element::Code(_) => TensorData::Code(vec![]),
            };
            return Ok(Tensor::new(shape, data));
        }
        let call = Call { graph: &self.graph, node, prepared: &self.prepared[index], batch, shape: &shape, recorded };
        rule(&node.op).forward(&call, inputs, buffers)
    }

    /// A value that depends only on constants.
    pub(crate) fn constant_value(&self, v: ValueId) -> Option<&Tensor> {
        self.constant[v].as_deref()
    }

    /// The values that depend only on constants.
    pub(crate) fn constant_values(&self) -> impl Iterator<Item = ValueId> {
        self.constant.iter().filter(|(_, t)| t.is_some()).map(|(v, _)| v)
    }

    /// What the rule of a node prepared from its constants.
    pub(crate) fn prepared(&self, node: usize) -> &Prepared {
        &self.prepared[node]
    }

    /// The buffers that are kept between evaluations.
    pub(crate) fn buffers(&self) -> Buffers {
        self.buffers.clone()
    }

    /// The limit on the bytes of values that an evaluation may hold at once.
    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// Evaluates and keeps every value for gradients ([`Tape::gradients`]). The arguments are those of [`Evaluator::run_from`].
    /// Convolutions with kernels of three rows use a faster algorithm here, which rounds differently. The results differ by at
    /// most 4e-6 of the largest value.
    ///
    /// # Errors
    /// As [`Evaluator::run_from`].
    pub fn record<'a>(&'a self, given: &[(ValueId, &'a Tensor)], wanted: &[ValueId]) -> Result<Tape<'a>, EvalError> {
        self.record_within(borrowed(given), wanted, self.memory_limit)
    }

    /// [`Interpreter::record`] for tensors that the tape may own, within `limit` bytes.
    pub(crate) fn record_within<'a>(
        &'a self,
        given: Vec<(ValueId, Cow<'a, Tensor>)>,
        wanted: &[ValueId],
        limit: usize,
    ) -> Result<Tape<'a>, EvalError> {
        let (batch, values) = run(self, given, wanted, limit, Keep::Everything)?;
        Ok(Tape::new(batch, values))
    }

    /// Like [`Interpreter::record`], but in parts of `images` images, each on a thread of the current rayon pool. The last part
    /// may be smaller, and 0 counts as 1. Tensors of the whole batch are split along their first dimension, and all other tensors
    /// are shared by the parts.
    ///
    /// Values and gradients are those of [`Interpreter::record`], except for the order of the sums over images
    /// ([`BatchTape::gradients`]). This order depends on `images`, but not on the number of threads. With about eight images, the
    /// values of a small network fit in the cache of one core, which pays off even on a single thread.
    ///
    /// # Errors
    /// As [`Evaluator::run_from`]. The parts share the memory limit.
    pub fn record_parts<'a>(
        &'a self,
        given: &[(ValueId, &'a Tensor)],
        wanted: &[ValueId],
        images: usize,
    ) -> Result<BatchTape<'a>, EvalError> {
        BatchTape::record(self, given, wanted, images)
    }
}

fn borrowed<'a>(given: &[(ValueId, &'a Tensor)]) -> Vec<(ValueId, Cow<'a, Tensor>)> {
    given.iter().map(|&(v, t)| (v, Cow::Borrowed(t))).collect()
}

impl Evaluator for Interpreter {
    fn graph(&self) -> &Graph {
        &self.graph
    }

    fn run_from(&self, given: &[(ValueId, &Tensor)], wanted: &[ValueId]) -> Result<Vec<Tensor>, EvalError> {
        run(self, borrowed(given), wanted, self.memory_limit, Keep::Wanted)
            .map(|(_, values)| values.into_wanted(wanted))?
    }

    fn run_observed(&self, inputs: &[Tensor], observe: &mut Observer) -> Result<Vec<Tensor>, EvalError> {
        if self.graph.inputs.len() != inputs.len() {
            return Err(EvalError::InputCount { expected: self.graph.inputs.len(), found: inputs.len() });
        }
        let given = self.graph.inputs.iter().map(|(v, _)| *v).zip(inputs.iter().map(Cow::Borrowed)).collect();
        let wanted: Vec<_> = self.graph.outputs.iter().map(|o| o.value).collect();
        run(self, given, &wanted, self.memory_limit, Keep::Observed(observe))
            .map(|(_, values)| values.into_wanted(&wanted))?
    }
}
