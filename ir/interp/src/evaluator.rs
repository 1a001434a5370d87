//! What passes ask of an evaluator.

use crate::EvalError;
use catc_ir::{Graph, Tensor, ValueId};

/// Is shown values as they become known.
pub type Observer<'a> = dyn FnMut(ValueId, &Tensor) + 'a;

/// Computes values of a graph. Implementations are shared by threads and keep nothing from one call to the next.
///
/// Inputs carry their batch size: a value of shape `[N,3,32,32]` takes a tensor `[b,3,32,32]` for a batch of `b`
/// images, and all inputs must agree on `b`. A graph without a batch dimension is evaluated as it is.
pub trait Evaluator: Send + Sync {
    /// The graph.
    fn graph(&self) -> &Graph;

    /// Computes `wanted` (in that order, repetitions allowed) from `given` values, which may be graph inputs or values
    /// that nodes compute. Only the nodes between the two run: this is how the tail of a graph is run again and again.
    /// A wanted value that was given comes back as it is.
    ///
    /// # Errors
    /// If a given tensor does not have the type of its value, if the batch sizes disagree, if a graph input is needed and
    /// not given, if an index is out of range, or if the memory limit would be passed.
    fn run_from(&self, given: &[(ValueId, &Tensor)], wanted: &[ValueId]) -> Result<Vec<Tensor>, EvalError>;

    /// Computes the graph's outputs from its inputs, in order, and calls `observe` with each value once it is known:
    /// first the inputs, then what nodes compute, in the order of the nodes. Values that depend on constants alone are not
    /// shown. Nodes that no output needs run too.
    ///
    /// # Errors
    /// As [`Evaluator::run_from`], and if the number of inputs is not the graph's.
    fn run_observed(&self, inputs: &[Tensor], observe: &mut Observer) -> Result<Vec<Tensor>, EvalError>;

    /// Computes `wanted` from the graph's inputs, running only the nodes that are needed.
    ///
    /// # Errors
    /// As [`Evaluator::run_observed`].
    fn run_to(&self, inputs: &[Tensor], wanted: &[ValueId]) -> Result<Vec<Tensor>, EvalError> {
        let values = &self.graph().inputs;
        if values.len() != inputs.len() {
            return Err(EvalError::InputCount { expected: values.len(), found: inputs.len() });
        }
        let given: Vec<_> = values.iter().map(|(v, _)| *v).zip(inputs).collect();
        self.run_from(&given, wanted)
    }

    /// Computes the graph's outputs from its inputs, in order.
    ///
    /// # Errors
    /// As [`Evaluator::run_observed`].
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
        let wanted: Vec<_> = self.graph().outputs.iter().map(|o| o.value).collect();
        self.run_to(inputs, &wanted)
    }
}
