//! The context in which a rule evaluates a node.

use crate::EvalError;
use crate::buffers::Buffers;
use crate::ops::Prepared;
use catc_ir::{Graph, Node, Operand, Phase, Quantizer, Tensor, TensorData};
use std::ops::Deref;

/// One evaluation of one node.
pub(crate) struct Call<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The node.
    pub node: &'a Node,
    /// The result of [`crate::ops::Rule::prepare`] for the node.
    pub prepared: &'a Prepared,
    /// The batch size.
    pub batch: usize,
    /// The sizes of the output.
    pub shape: &'a [usize],
    /// Whether the call belongs to a recorded evaluation. Its sums of products may be rounded differently from the reference.
    pub recorded: bool,
}

/// An input of a node. A shared value is still needed elsewhere. A last value is not used again, so the node may take its memory.
pub(crate) enum Input<'a> {
    Shared(&'a Tensor),
    Last(Tensor),
}

impl Deref for Input<'_> {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        match self {
            Input::Shared(t) => t,
            Input::Last(t) => t,
        }
    }
}

impl Call<'_> {
    /// Whether f32 results must agree with [`catc_scalar`] bit for bit.
    pub fn exact(&self) -> bool {
        self.graph.phase == Phase::Integer
    }

    /// The quantizer of input `index`, if the input holds codes.
    pub fn quantizer(&self, index: usize) -> Option<&Quantizer> {
        self.graph.quantizer_of(self.node.inputs[index])
    }

    /// The number of images along the outermost dimension of input `index`. It is 1 if the input does not depend on the batch.
    pub fn images(&self, index: usize) -> usize {
        match self.node.inputs[index] {
            Operand::Value(v) => match self.graph.value_type(v).shape.dims().first() {
                Some(catc_ir::Dim::Batch(_)) => self.batch.max(1),
                _ => 1,
            },
            Operand::Const(_) => 1,
        }
    }

    /// An error that names the node.
    pub fn element_error(&self, expected: &'static str) -> EvalError {
        EvalError::Element { place: self.graph.label(self.node), expected }
    }

    /// The elements of an f32 input.
    pub fn f32<'t>(&self, tensor: &'t Tensor) -> Result<&'t [f32], EvalError> {
        tensor.as_f32().ok_or_else(|| self.element_error("f32"))
    }

    /// The codes of a quantized input.
    pub fn codes<'t>(&self, tensor: &'t Tensor) -> Result<&'t [i16], EvalError> {
        tensor.as_codes().ok_or_else(|| self.element_error("code"))
    }

    /// The elements of an f32 input as a writable vector. It takes over the memory of a last value and copies a shared one.
    pub fn take_f32(&self, input: &mut Input, buffers: &mut Buffers) -> Result<Vec<f32>, EvalError> {
        match input {
            Input::Last(t) => {
                let empty = Tensor::f32(&[0], vec![]);
                match std::mem::replace(t, empty).into_data() {
                    TensorData::F32(v) => Ok(v),
                    _ => Err(self.element_error("f32")),
                }
            }
            Input::Shared(t) => {
                let x = self.f32(t)?;
                let mut v = buffers.f32(x.len());
                v.copy_from_slice(x);
                Ok(v)
            }
        }
    }

    /// The output tensor with these elements.
    pub fn output(&self, data: Vec<f32>) -> Tensor {
        Tensor::f32(self.shape, data)
    }
}
