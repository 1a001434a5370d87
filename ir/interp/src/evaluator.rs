//! The interface of evaluators.

use crate::EvalError;
use catc_ir::{Graph, Tensor, ValueId};

/// A callback that is called with each value as soon as it is known.
pub type Observer<'a> = dyn FnMut(ValueId, &Tensor) + 'a;

/// Computes values of a graph. Threads share implementations. Results do not depend on earlier calls.
///
/// The given tensors determine the batch size: a value of shape `[N,3,32,32]` takes a tensor `[b,3,32,32]` for a batch of `b`
/// images. All tensors must agree on `b`.
pub trait Evaluator: Send + Sync {
    /// The graph.
    fn graph(&self) -> &Graph;

    /// Computes the values `wanted`, in this order and with repetitions allowed. The `given` values may be graph inputs or
    /// outputs of nodes. Only the nodes between the given and the wanted values run, so the tail of a graph can be evaluated
    /// repeatedly. A wanted value that was given is returned unchanged.
    ///
    /// # Errors
    /// Fails if a given tensor does not have the type of its value, if the batch sizes disagree, if a needed graph input is not
    /// given, if an index is out of range, or if the memory limit would be exceeded.
    fn run_from(&self, given: &[(ValueId, &Tensor)], wanted: &[ValueId]) -> Result<Vec<Tensor>, EvalError>;

    /// Computes the graph's outputs from its inputs, in order. It calls `observe` with each value once it is known: first the
    /// inputs, then the outputs of the nodes in order. Nodes that no output needs run as well. Values that depend only on
    /// constants are not shown.
    ///
    /// # Errors
    /// As [`Evaluator::run_from`]. Also fails if the number of inputs is wrong.
    fn run_observed(&self, inputs: &[Tensor], observe: &mut Observer) -> Result<Vec<Tensor>, EvalError>;

    /// Computes `wanted` from the graph's inputs. Only the needed nodes run.
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
