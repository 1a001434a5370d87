//! One evaluation, from given values to wanted values.

use crate::buffers::Lease;
use crate::call::Input;
use crate::evaluator::Observer;
use crate::plan::{EvaluationPlan, Unreached};
use crate::{EvalError, Evaluator, Interpreter};
use catc_ir::{Dim, Element, Graph, Operand, Tensor, TensorData, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};
use std::borrow::Cow;

/// Which values an evaluation computes and keeps.
pub(crate) enum Keep<'k, 'f> {
    /// The wanted values.
    Wanted,
    /// The wanted values. An observer is shown every value of the graph.
    Observed(&'k mut Observer<'f>),
    /// All values from which the wanted values are computed.
    Everything,
}

/// The values of an evaluation.
pub(crate) struct Values<'a> {
    pub interpreter: &'a Interpreter,
    pub given: SecondaryMap<ValueId, Option<Cow<'a, Tensor>>>,
    computed: SecondaryMap<ValueId, Option<Tensor>>,
    /// Values that depend on constants and on given values. Their precomputed values are not valid.
    stale: EntitySet<ValueId>,
    /// The bytes that the evaluation needs at once.
    needed: usize,
    lease: Option<Lease>,
}

impl Drop for Values<'_> {
    fn drop(&mut self) {
        let mut buffers = self.interpreter.buffers();
        self.computed.values_mut().filter_map(|t| t.take()).for_each(|t| buffers.give(t));
    }
}

impl<'a> Values<'a> {
    fn new(interpreter: &'a Interpreter, given: Vec<(ValueId, Cow<'a, Tensor>)>) -> Self {
        let mut map: SecondaryMap<_, Option<Cow<'a, Tensor>>> = SecondaryMap::new();
        let over = given.iter().any(|(v, _)| interpreter.constant_value(*v).is_some());
        given.into_iter().for_each(|(v, t)| map[v] = Some(t));
        let mut stale = EntitySet::new();
        if over {
            for node in interpreter.graph().nodes() {
                let mut inputs = node.inputs.iter().filter_map(|o| o.value());
                if inputs.any(|v| map[v].is_some() || stale.contains(v)) {
                    stale.insert(node.output);
                }
            }
        }
        Values { interpreter, given: map, computed: SecondaryMap::new(), stale, needed: 0, lease: None }
    }

    /// A value, if it is known.
    pub fn get(&self, v: ValueId) -> Option<&Tensor> {
        let constant = || if self.stale.contains(v) { None } else { self.interpreter.constant_value(v) };
        self.given[v].as_deref().or(self.computed[v].as_ref()).or_else(constant)
    }

    /// An operand, if it is known.
    pub fn operand(&self, o: Operand) -> Option<&Tensor> {
        match o {
            Operand::Value(v) => self.get(v),
            Operand::Const(c) => Some(&self.interpreter.graph().constant(c).tensor),
        }
    }

    /// Returns the wanted values. A value is copied only if it is wanted again or if the evaluation does not own it.
    pub fn into_wanted(mut self, wanted: &[ValueId]) -> Result<Vec<Tensor>, EvalError> {
        let mut results = Vec::with_capacity(wanted.len());
        for (i, &v) in wanted.iter().enumerate() {
            let again = wanted[i + 1..].contains(&v);
            results.push(match self.computed[v].take_if(|_| !again) {
                Some(t) => t,
                None => self.get(v).ok_or(EvalError::NotGiven(v))?.clone(),
            });
        }
        Ok(results)
    }

    /// The bytes that the evaluation needs at once.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// The values that are known before any node runs.
    fn known(&self) -> EntitySet<ValueId> {
        let mut known = EntitySet::new();
        let constants = self.interpreter.constant_values().filter(|&v| !self.stale.contains(v));
        let given = self.given.iter().filter(|(_, t)| t.is_some()).map(|(v, _)| v);
        constants.chain(given).for_each(|v| {
            known.insert(v);
        });
        known
    }
}

/// Computes the `wanted` values from the `given` ones within `limit` bytes. Returns the batch size and the values.
pub(crate) fn run<'a>(
    interpreter: &'a Interpreter,
    given: Vec<(ValueId, Cow<'a, Tensor>)>,
    wanted: &[ValueId],
    limit: usize,
    mut keep: Keep,
) -> Result<(usize, Values<'a>), EvalError> {
    let graph = interpreter.graph();
    if let Some(&v) = wanted.iter().find(|v| !graph.has_value(**v)) {
        return Err(EvalError::Unknown(v));
    }
    let batch = check_given(graph, &given)?;
    let mut values = Values::new(interpreter, given);
    let mut plan = EvaluationPlan::new(graph, &values.known(), wanted, matches!(keep, Keep::Observed(_)))
        .map_err(|Unreached(v)| EvalError::NotGiven(v))?;
    let recorded = matches!(keep, Keep::Everything);
    if recorded {
        plan.steps.iter_mut().for_each(|s| s.ends.clear());
    }
    let needed = plan.peak_bytes(graph, batch);
    if needed > limit as u128 {
        return Err(EvalError::Memory { batch, needed, limit });
    }
    if let Keep::Observed(observe) = &mut keep {
        graph.inputs.iter().for_each(|(v, _)| {
            if let Some(t) = values.given[*v].as_deref() {
                observe(*v, t);
            }
        });
    }
    values.needed = needed as usize;
    let mut buffers = interpreter.buffers();
    values.lease = Some(buffers.lease(values.needed));
    for step in &plan.steps {
        let node = &graph.nodes()[step.node];
        // The node takes ownership of values that end here, unless it uses them twice.
        let times = |v: ValueId| node.inputs.iter().filter(|o| o.value() == Some(v)).count();
        let mut last: Vec<(ValueId, Option<Tensor>)> = vec![];
        for &v in step.ends.iter().filter(|&&v| times(v) == 1) {
            last.push((v, values.computed[v].take()));
        }
        let mut inputs: Vec<Input> = Vec::with_capacity(node.inputs.len());
        for &o in &node.inputs {
            let ending = o.value().and_then(|v| last.iter_mut().find(|(l, _)| *l == v)?.1.take());
            inputs.push(match (ending, o) {
                (Some(t), _) => Input::Last(t),
                (None, Operand::Value(v)) => Input::Shared(values.get(v).ok_or(EvalError::NotGiven(v))?),
                (None, Operand::Const(c)) => Input::Shared(&graph.constant(c).tensor),
            });
        }
        let result = interpreter.call(step.node, &mut inputs, batch, recorded, &mut buffers);
        for input in inputs {
            if let Input::Last(t) = input {
                buffers.give(t);
            }
        }
        let tensor = values.computed[node.output].insert(result?);
        if let Keep::Observed(observe) = &mut keep {
            observe(node.output, tensor);
        }
        for &v in &step.ends {
            if let Some(t) = values.computed[v].take() {
                buffers.give(t);
            }
        }
    }
    Ok((batch, values))
}

/// Checks the given tensors against the types of their values, and returns the common batch size.
fn check_given(graph: &Graph, given: &[(ValueId, Cow<Tensor>)]) -> Result<usize, EvalError> {
    let mut batch: Option<usize> = None;
    for (value, tensor) in given {
        let value = *value;
        if !graph.has_value(value) {
            return Err(EvalError::Unknown(value));
        }
        let ty = graph.value_type(value);
        let mismatch = || EvalError::Shape { value, expected: ty.shape.clone(), found: tensor.shape().to_vec() };
        if ty.shape.rank() != tensor.shape().len() {
            return Err(mismatch());
        }
        for (d, &n) in ty.shape.dims().iter().zip(tensor.shape()) {
            match *d {
                Dim::Fixed(k) if k == n => {}
                Dim::Batch(k) if k > 0 && n % k == 0 => {
                    let found = n / k;
                    let expected = *batch.get_or_insert(found);
                    if found != expected {
                        return Err(EvalError::Batch { value, expected, found });
                    }
                }
                _ => return Err(mismatch()),
            }
        }
        let element = |expected| EvalError::Element { place: value.to_string(), expected };
        match (ty.element, tensor.data()) {
            (Element::F32, TensorData::F32(_))
            | (Element::I64, TensorData::I64(_))
            | (Element::Bool, TensorData::Bool(_)) => {}
            (Element::Code(q), TensorData::Code(codes)) => {
                let format = graph.quantizer(q).format;
                let (lo, hi) = (format.min() as i16, format.max() as i16);
                if let Some(&code) = codes.iter().find(|c| **c < lo || **c > hi) {
                    return Err(EvalError::Code { value, code, format });
                }
            }
            (Element::F32, _) => return Err(element("f32")),
            (Element::I64, _) => return Err(element("i64")),
            (Element::Bool, _) => return Err(element("bool")),
            (Element::Code(_), _) => return Err(element("code")),
        }
    }
    Ok(batch.unwrap_or(1))
}
