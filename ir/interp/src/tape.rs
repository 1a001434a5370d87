//! Reverse-mode gradients: an evaluation that keeps its values, and the way back through it.

use crate::buffers::Buffers;
use crate::call::Call;
use crate::ops::{Reverse, rule};
use crate::run::Values;
use crate::{EvalError, Evaluator};
use catc_ir::{ConstId, Element, Graph, Node, Op, Operand, QuantizerId, Tensor, TensorData, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};
use std::collections::BTreeMap;

/// What a gradient is taken with respect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrt {
    /// A value: given, computed, or depending on constants alone. Of a code tensor the codes, as reals.
    Value(ValueId),
    /// The elements of a constant.
    Constant(ConstId),
    /// The scales of a quantizer.
    ///
    /// Rounding is passed straight through, so that for `x' = s (q - z)` the gradient is that of LSQ (arXiv 1902.08153,
    /// equation 3): `q - z - x / s` inside the range, `q - z` where the code is saturated.
    Scale(QuantizerId),
    /// The zero-points of a quantizer, as reals: `-s` where the code is saturated, else 0.
    ZeroPoint(QuantizerId),
}

/// Gradients, each of the shape of what it is taken with respect to (scales and zero-points: one dimension).
#[derive(Clone, Debug, Default)]
pub struct Gradients(BTreeMap<Wrt, Tensor>);

impl Gradients {
    /// The gradient with respect to one of the things asked for; zeros where the seeds do not depend on it.
    pub fn get(&self, wrt: Wrt) -> Option<&Tensor> {
        self.0.get(&wrt)
    }

    /// Takes a gradient out.
    pub fn take(&mut self, wrt: Wrt) -> Option<Tensor> {
        self.0.remove(&wrt)
    }
}

/// A recorded evaluation: all of its values, for gradients. Memory: every value between what was given and what was wanted, and on
/// the way back the gradients alive at once.
pub struct Tape<'a> {
    batch: usize,
    values: Values<'a>,
}

impl<'a> Tape<'a> {
    pub(crate) fn new(batch: usize, values: Values<'a>) -> Self {
        Tape { batch, values }
    }

    fn graph(&self) -> &Graph {
        self.values.interpreter.graph()
    }

    /// A value of the evaluation, or one that depends on constants alone.
    pub fn value(&self, v: ValueId) -> Option<&Tensor> {
        if self.graph().has_value(v) { self.values.get(v) } else { None }
    }

    /// The values whose gradients lead to something in `wrt`.
    fn leading(&self, wrt: &[Wrt]) -> EntitySet<ValueId> {
        let graph = self.graph();
        let mut leading = EntitySet::new();
        for w in wrt {
            if let Wrt::Value(v) = w {
                leading.insert(*v);
            }
        }
        for node in graph.nodes() {
            if self.values.given[node.output].is_some()
                || matches!(graph.value_type(node.output).element, Element::I64 | Element::Bool)
            {
                continue;
            }
            let by_operand = node.inputs.iter().any(|o| match *o {
                Operand::Value(v) => leading.contains(v),
                Operand::Const(c) => wrt.contains(&Wrt::Constant(c)),
            });
            let quantizer = quantizer_of(graph, node);
            let by_quantizer =
                quantizer.is_some_and(|q| wrt.contains(&Wrt::Scale(q)) || wrt.contains(&Wrt::ZeroPoint(q)));
            if by_operand || by_quantizer {
                leading.insert(node.output);
            }
        }
        leading
    }

    /// The gradients of `Σ seed · value` over all seeds (a loss whose derivative at each value is its seed) with respect to
    /// everything in `wrt`. Sums run in a fixed order, on this thread.
    ///
    /// # Errors
    /// If a seed is not an f32 tensor of its value's shape, if a value of `seeds` or `wrt` was not computed, if the
    /// graph has no such constant or quantizer, or if the way leads through an operation without gradient (a fused node).
    pub fn gradients(&self, seeds: &[(ValueId, Tensor)], wrt: &[Wrt]) -> Result<Gradients, EvalError> {
        let graph = self.graph();
        let mut result = self.zeros(wrt)?;
        let leading = self.leading(wrt);
        let mut grads: SecondaryMap<ValueId, Option<Vec<f32>>> = SecondaryMap::new();
        let spare = self.values.interpreter.spare();
        let mut buffers = spare.take();
        for (v, seed) in seeds {
            let bad = |message: String| EvalError::Gradient { place: v.to_string(), message };
            let value = self.value(*v).ok_or_else(|| bad("this value was not computed".into()))?;
            match seed.as_f32() {
                Some(g) if seed.shape() == value.shape() => add(&mut grads[*v], g.to_vec(), &mut buffers),
                _ => return Err(bad(format!("its gradient must be f32 {:?}", value.shape()))),
            }
        }
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            let grad = match grads[node.output].take() {
                Some(g) if leading.contains(node.output) => g,
                Some(g) => {
                    buffers.give_f32(g);
                    continue;
                }
                None => continue,
            };
            collect(&mut result, Wrt::Value(node.output), &grad);
            if self.values.given[node.output].is_some() || grad.is_empty() {
                continue;
            }
            let (Some(output), Some(inputs)) = (
                self.value(node.output),
                node.inputs.iter().map(|&o| self.values.operand(o)).collect::<Option<Vec<_>>>(),
            ) else {
                continue;
            };
            let needs: Vec<bool> = (node.inputs.iter())
                .map(|o| match *o {
                    Operand::Value(v) => leading.contains(v),
                    Operand::Const(c) => wrt.contains(&Wrt::Constant(c)),
                })
                .collect();
            let call = Call {
                graph,
                node,
                prepared: self.values.interpreter.prepared(i),
                batch: self.batch,
                shape: output.shape(),
            };
            let reverse = Reverse { inputs: &inputs, output, needs: &needs };
            let pullback = rule(&node.op).vjp(&call, &reverse, grad, &mut buffers)?;
            for (&o, g) in node.inputs.iter().zip(pullback.inputs) {
                match (o, g) {
                    (Operand::Value(v), Some(g)) => add(&mut grads[v], g, &mut buffers),
                    (Operand::Const(c), Some(g)) => {
                        collect(&mut result, Wrt::Constant(c), &g);
                        buffers.give_f32(g);
                    }
                    (_, None) => {}
                }
            }
            if let (Some((scale, zero_point)), Some(q)) = (pullback.quantizer, quantizer_of(graph, node)) {
                collect(&mut result, Wrt::Scale(q), &scale);
                collect(&mut result, Wrt::ZeroPoint(q), &zero_point);
            }
        }
        // What is left belongs to inputs of the graph.
        for w in wrt {
            if let Wrt::Value(v) = *w
                && let Some(g) = grads[v].take()
            {
                collect(&mut result, *w, &g);
                buffers.give_f32(g);
            }
        }
        spare.give(buffers, self.values.needed());
        Ok(result)
    }

    fn zeros(&self, wrt: &[Wrt]) -> Result<Gradients, EvalError> {
        let graph = self.graph();
        let mut result = Gradients::default();
        for &w in wrt {
            let bad = |place: String, message: &str| EvalError::Gradient { place, message: message.into() };
            let shape = match w {
                Wrt::Value(v) => {
                    self.value(v).ok_or_else(|| bad(v.to_string(), "this value was not computed"))?.shape().to_vec()
                }
                Wrt::Constant(c) if graph.has_constant(c) => graph.constant(c).tensor.shape().to_vec(),
                Wrt::Constant(c) => return Err(bad(c.to_string(), "there is no such constant")),
                Wrt::Scale(q) | Wrt::ZeroPoint(q) if graph.has_quantizer(q) => vec![graph.quantizer(q).scale.len()],
                Wrt::Scale(q) | Wrt::ZeroPoint(q) => return Err(bad(q.to_string(), "there is no such quantizer")),
            };
            let n = shape.iter().product();
            result.0.insert(w, Tensor::f32(&shape, vec![0.0; n]));
        }
        Ok(result)
    }
}

/// The quantizer whose scales a node computes with.
fn quantizer_of(graph: &Graph, node: &Node) -> Option<QuantizerId> {
    match node.op {
        Op::Quantize(op) => Some(op.quantizer),
        Op::Dequantize(_) => graph.type_of(node.inputs[0]).element.quantizer(),
        _ => None,
    }
}

/// Adds a gradient to what is there.
fn add(sum: &mut Option<Vec<f32>>, g: Vec<f32>, buffers: &mut Buffers) {
    match sum {
        None => *sum = Some(g),
        Some(sum) => {
            pulp::Arch::new().dispatch(|| sum.iter_mut().zip(&g).for_each(|(s, g)| *s += g));
            buffers.give_f32(g);
        }
    }
}

/// Adds a gradient to one of the results, if it was asked for.
fn collect(result: &mut Gradients, wrt: Wrt, g: &[f32]) {
    if let Some(TensorData::F32(sum)) = result.0.get_mut(&wrt).map(|t| t.data_mut()) {
        sum.iter_mut().zip(g).for_each(|(s, g)| *s += g);
    }
}
