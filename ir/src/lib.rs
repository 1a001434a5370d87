//! The intermediate representation of catc: a single-block SSA graph of tensor operations.
//!
//! A [`Graph`] goes through three [`Phase`]s and never returns to an earlier one. In the `float` phase it is the network as
//! imported. In the `qdq` phase it has quantize and dequantize nodes as well, but still computes in f32. In the `integer` phase
//! it has fused nodes on low-bit codes. Every phase has a text form ([`text`]) that can be printed and parsed without loss. The
//! verifier ([`verify()`]) checks the rules of each phase.
//!
//! The types of quantized tensors refer to quantizers of the graph (`u2<q0>[N,64,56,56]`). A changed scale therefore changes only
//! one line of the text. The batch is a symbolic dimension, `N`, from import to run time.

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
