//! The intermediate representation of catc: a single-block SSA graph of tensor operations.
//!
//! A [`Graph`] goes through three [`Phase`]s and never back: `float` (what a model file says), `qdq` (the same graph
//! with quantize and dequantize nodes, still computed in f32) and `integer` (fused nodes over low-bit codes). Each
//! phase has a text form ([`text`]) that prints, parses and round-trips, and rules that the verifier ([`verify()`])
//! checks.
//!
//! The types of quantized tensors refer to quantizers of the graph (`u2<q0>[N,64,56,56]`), so a refined scale changes
//! one line of the text and no use of it. The batch is a symbolic dimension, `N`, from import to run time.

pub mod entity;
pub mod graph;
pub mod indexed;
pub mod infer;
pub mod ops;
pub mod quantizer;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use entity::{ConstId, QuantizerId, ValueId};
pub use graph::{Constant, Definition, Graph, GraphOutput, Node, Operand, Phase};
pub use indexed::{Indexed, indexed_inputs};
pub use infer::InferError;
pub use ops::Op;
pub use quantizer::{QFormat, Quantizer};
pub use tensor::{Tensor, TensorData};
pub use types::{Dim, Element, Shape, TensorType};
pub use verify::{Violation, verify};
