//! Reverse-mode gradients: a recorded evaluation, and the backward pass through it.

use crate::buffers::Buffers;
use crate::call::Call;
use crate::ops::{Reverse, rule};
use crate::run::Values;
use crate::{EvalError, Evaluator};
use catc_ir::{ConstId, Element, Graph, Node, Op, Operand, QuantizerId, Tensor, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};
use std::collections::BTreeMap;

/// The tensor with respect to which a gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrt {
    /// A value that is given, computed, or depends only on constants. Codes are treated as real numbers.
    Value(ValueId),
    /// The elements of a constant.
    Constant(ConstId),
    /// The scales of a quantizer.
    ///
    /// Rounding uses the straight-through estimator. For `x' = s (q - z)` the gradient is therefore that of LSQ (arXiv
    /// 1902.08153, equation 3): `q - z - x / s` inside the range, and `q - z` if the code is saturated.
    Scale(QuantizerId),
    /// The zero points of a quantizer, treated as real numbers. The gradient is `-s` if the code is saturated, else 0.
    ZeroPoint(QuantizerId),
}

/// A set of gradients. Each has the shape of the tensor with respect to which it is computed. Gradients of scales and zero points
/// have one dimension.
#[derive(Clone, Debug, Default)]
pub struct Gradients(pub(crate) BTreeMap<Wrt, Tensor>);

impl Gradients {
    /// A requested gradient, or `None` if it was not requested. It is zero if the seeds do not depend on `wrt`.
    pub fn get(&self, wrt: Wrt) -> Option<&Tensor> {
        self.0.get(&wrt)
    }

    /// Removes and returns a gradient.
    pub fn take(&mut self, wrt: Wrt) -> Option<Tensor> {
        self.0.remove(&wrt)
    }
}

/// A recorded evaluation, which keeps its values for gradients. It holds every value between the given and the wanted values. The
/// backward pass also holds the gradients that are alive at once.
pub struct Tape<'a> {
    batch: usize,
    values: Values<'a>,
}

impl<'a> Tape<'a> {
    pub(crate) fn new(batch: usize, values: Values<'a>) -> Self {
        Tape { batch, values }
    }

    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    pub(crate) fn graph(&self) -> &Graph {
        self.values.interpreter.graph()
    }

    /// A value of the evaluation, or a value that depends only on constants.
    pub fn value(&self, v: ValueId) -> Option<&Tensor> {
        if self.graph().has_value(v) { self.values.get(v) } else { None }
    }

    /// The values through which gradients must flow to reach `wrt`.
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
            if leads_on(graph, node, &leading, wrt) {
                leading.insert(node.output);
            }
        }
        leading
    }

    /// The gradients of `Σ seed · value` over all seeds with respect to everything in `wrt`. A seed is thus the derivative of the
    /// loss with respect to its value. Sums are computed in a fixed order on the calling thread.
    ///
    /// # Errors
    /// Fails if a seed is not an f32 tensor of its value's shape, if a value of `seeds` or `wrt` was not computed, if the graph
    /// has no such constant or quantizer, or if a gradient would flow through an operation without a gradient, such as a fused
    /// node.
    pub fn gradients(&self, seeds: &[(ValueId, Tensor)], wrt: &[Wrt]) -> Result<Gradients, EvalError> {
        for (v, seed) in seeds {
            let bad = |message: String| EvalError::Gradient { place: v.to_string(), message };
            let value = self.value(*v).ok_or_else(|| bad("this value was not computed".into()))?;
            if seed.shape() != value.shape() || seed.as_f32().is_none() {
                return Err(bad(format!("its gradient must be f32 {:?}", value.shape())));
            }
        }
        let seeds: Vec<_> = seeds.iter().filter_map(|(v, seed)| Some((*v, seed.as_f32()?))).collect();
        self.pull(&seeds, wrt)
    }

    /// [`Tape::gradients`] for seeds that are known to fit their values.
    pub(crate) fn pull(&self, seeds: &[(ValueId, &[f32])], wrt: &[Wrt]) -> Result<Gradients, EvalError> {
        let graph = self.graph();
        let shapes = self.shapes(wrt)?;
        let leading = self.leading(wrt);
        let mut sums: BTreeMap<Wrt, Vec<f32>> = BTreeMap::new();
        let mut grads: SecondaryMap<ValueId, Option<Vec<f32>>> = SecondaryMap::new();
        let mut buffers = self.values.interpreter.buffers();
        let _lease = buffers.lease(self.values.needed());
        for &(v, seed) in seeds.iter().filter(|(v, _)| leading.contains(*v)) {
            let mut copy = buffers.f32(seed.len());
            copy.copy_from_slice(seed);
            add(&mut grads[v], copy, &mut buffers);
        }
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            let Some(grad) = grads[node.output].take() else { continue };
            let wanted = Wrt::Value(node.output);
            if self.values.given[node.output].is_some() || grad.is_empty() || !leads_on(graph, node, &leading, wrt) {
                // The backward pass ends at this node.
                collect(&mut sums, &shapes, wanted, grad, &mut buffers);
                continue;
            }
            if shapes.contains_key(&wanted) {
                let mut copy = buffers.f32(grad.len());
                copy.copy_from_slice(&grad);
                collect(&mut sums, &shapes, wanted, copy, &mut buffers);
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
                    Operand::Const(c) => shapes.contains_key(&Wrt::Constant(c)),
                })
                .collect();
            let quantizer = quantizer_of(graph, node);
            let call = Call {
                graph,
                node,
                prepared: self.values.interpreter.prepared(i),
                batch: self.batch,
                shape: output.shape(),
                recorded: true,
            };
            let steps = quantizer
                .is_some_and(|q| shapes.contains_key(&Wrt::Scale(q)) || shapes.contains_key(&Wrt::ZeroPoint(q)));
            let reverse = Reverse { inputs: &inputs, output, needs: &needs, quantizer: steps };
            let pullback = rule(&node.op).vjp(&call, &reverse, grad, &mut buffers)?;
            for ((&o, g), need) in node.inputs.iter().zip(pullback.inputs).zip(&needs) {
                match (o, g) {
                    (Operand::Value(v), Some(g)) if *need => add(&mut grads[v], g, &mut buffers),
                    (Operand::Const(c), Some(g)) => collect(&mut sums, &shapes, Wrt::Constant(c), g, &mut buffers),
                    (_, Some(g)) => buffers.give_f32(g),
                    (_, None) => {}
                }
            }
            if let (Some((scale, zero_point)), Some(q)) = (pullback.quantizer, quantizer) {
                collect(&mut sums, &shapes, Wrt::Scale(q), scale, &mut buffers);
                collect(&mut sums, &shapes, Wrt::ZeroPoint(q), zero_point, &mut buffers);
            }
        }
        // The remaining gradients belong to inputs of the graph.
        for w in wrt {
            if let Wrt::Value(v) = *w
                && let Some(g) = grads[v].take()
            {
                collect(&mut sums, &shapes, *w, g, &mut buffers);
            }
        }
        let all = shapes.into_iter().map(|(w, shape)| {
            let data = sums.remove(&w).unwrap_or_else(|| vec![0.0; shape.iter().product()]);
            (w, Tensor::f32(&shape, data))
        });
        Ok(Gradients(all.collect()))
    }

    /// The shape of every gradient.
    fn shapes(&self, wrt: &[Wrt]) -> Result<BTreeMap<Wrt, Vec<usize>>, EvalError> {
        let graph = self.graph();
        let shape = |w: Wrt| {
            let bad = |place: String, message: &str| EvalError::Gradient { place, message: message.into() };
            Ok(match w {
                Wrt::Value(v) => {
                    self.value(v).ok_or_else(|| bad(v.to_string(), "this value was not computed"))?.shape().to_vec()
                }
                Wrt::Constant(c) if graph.has_constant(c) => graph.constant(c).tensor.shape().to_vec(),
                Wrt::Constant(c) => return Err(bad(c.to_string(), "there is no such constant")),
                Wrt::Scale(q) | Wrt::ZeroPoint(q) if graph.has_quantizer(q) => vec![graph.quantizer(q).scale.len()],
                Wrt::Scale(q) | Wrt::ZeroPoint(q) => return Err(bad(q.to_string(), "there is no such quantizer")),
            })
        };
        wrt.iter().map(|&w| Ok((w, shape(w)?))).collect()
    }
}

/// Whether a gradient at the output of a node contributes to a requested gradient.
fn leads_on(graph: &Graph, node: &Node, leading: &EntitySet<ValueId>, wrt: &[Wrt]) -> bool {
    let by_operand = node.inputs.iter().any(|o| match *o {
        Operand::Value(v) => leading.contains(v),
        Operand::Const(c) => wrt.contains(&Wrt::Constant(c)),
    });
    let quantizer = quantizer_of(graph, node);
    by_operand || quantizer.is_some_and(|q| wrt.contains(&Wrt::Scale(q)) || wrt.contains(&Wrt::ZeroPoint(q)))
}

/// The quantizer whose scales a node uses.
fn quantizer_of(graph: &Graph, node: &Node) -> Option<QuantizerId> {
    match node.op {
        Op::Quantize(op) => Some(op.quantizer),
        Op::Dequantize(_) => graph.type_of(node.inputs[0]).element.quantizer(),
        _ => None,
    }
}

/// Adds a gradient to a sum, which may be empty.
fn add(sum: &mut Option<Vec<f32>>, g: Vec<f32>, buffers: &mut Buffers) {
    match sum {
        None => *sum = Some(g),
        Some(sum) => {
            pulp::Arch::new().dispatch(|| sum.iter_mut().zip(&g).for_each(|(s, g)| *s += g));
            buffers.give_f32(g);
        }
    }
}

/// Adds a gradient to its result, if it was requested.
fn collect(
    sums: &mut BTreeMap<Wrt, Vec<f32>>,
    shapes: &BTreeMap<Wrt, Vec<usize>>,
    wrt: Wrt,
    g: Vec<f32>,
    buffers: &mut Buffers,
) {
    if !shapes.contains_key(&wrt) {
        return buffers.give_f32(g);
    }
    let mut sum = sums.remove(&wrt);
    add(&mut sum, g, buffers);
    sum.into_iter().for_each(|s| drop(sums.insert(wrt, s)));
}
