//! ONNX models in and out: [`export()`] writes one, [`import()`] reads a model file and gives a [`catc_ir::Graph`] in the float phase.
//!
//! - Opsets [`OLDEST_OPSET`] to [`NEWEST_OPSET`]; newer ones are read with a warning. Each operator has a rule (in
//!   `ops`, one file a family) that follows the versions of its definition. Nodes that no output depends on are left
//!   out.
//! - Reals become f32, whole numbers i64. Weights are read from the mapped file when a node takes them, once.
//! - Calls of a model's own functions are replaced by what those are made of; so are `If` and `Loop` (`control`) where the
//!   condition or the number of rounds is known here.
//! - What a model computes from shapes (`Shape`, `Gather`, `Concat`, ... into a `Reshape`) is worked out here, with
//!   the batch as a symbol, and leaves no trace in the graph.
//! - **The batch.** A dynamic first dimension of an input is the symbolic batch `N`; no other dimension may be
//!   dynamic (sizes for it can be given: [`ImportOptions::shapes`]). A first dimension that the file fixes at `b` is
//!   taken as `N` too ([`BatchPolicy`]), for the first f32 input of two or more dimensions and all others that start
//!   with the same `b`. Shapes written as numbers then contain `b`: `Reshape` of `[N,512,1,1]` to `[1,512]` becomes
//!   `[N,512]`. The dimension that holds the batch is the one with as many elements before it as the batch had in the
//!   input, so that each image keeps its elements; with a batch of `b` the graph always computes what the file says.
//!   Where no dimension fits, or a node mixes images, the batch stays at `b`, and a warning says why.
//!
//! - **Quantized models.** A model that quantizes what it computes (`quantized`) gives a graph in the qdq phase. Where
//!   `QuantizeLinear`, `DequantizeLinear` and `QLinear` operators fit the codes of the IR, they become quantize and dequantize nodes with
//!   the scales of the file. Other ones are computed in f32, with a warning; what takes codes and works on numbers gets the numbers
//!   that they are in the file. Types of zero-points follow node by node (`types`).
//!
//! Nothing of ONNX leaves this crate. Files are not trusted: a broken or hostile one is an [`ImportError`].

mod budget;
mod control;
mod error;
mod export;
mod external;
mod file;
mod fold;
mod functions;
mod import;
mod interface;
mod message;
mod names;
mod node;
mod ops;
mod opset;
mod options;
mod order;
mod probe;
mod proto;
mod quantized;
mod size;
mod small;
mod support;
mod tensor;
#[cfg(test)]
mod tests;
mod translate;
mod types;
mod value;

pub use error::{ImportError, ImportErrorKind, NodeName, NodeProblem, TensorProblem, UnsupportedNode};
pub use export::{ExportError, export};
pub use external::external_files;
pub use import::{Imported, import, import_bytes};
pub use interface::WholeType;
pub use opset::{NEWEST_OPSET, OLDEST_OPSET};
pub use options::{BatchPolicy, ImportOptions};
pub use probe::{Outline, outline, read_tensor};
