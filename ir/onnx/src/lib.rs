//! Import and export of ONNX models. [`import()`] reads a model file as a [`catc_ir::Graph`] in the float or qdq phase, and
//! [`export()`] writes one.
//!
//! - Opsets [`OLDEST_OPSET`] to [`NEWEST_OPSET`] are supported, and newer ones are read with a warning. Each operator has a rule
//!   (in `ops`, with one file for each family) that handles the versions of its definition. Nodes that no output depends on are
//!   skipped.
//! - Floating-point types become f32, and integer types become i64. Weights are read once from the mapped file, when a node first
//!   uses them.
//! - Calls of a model's own functions are inlined. `If` and `Loop` (`control`) are expanded if the condition or the number of
//!   iterations is known at import.
//! - Computations on shapes (`Shape`, `Gather`, `Concat`, ... into a `Reshape`) are folded at import, with the batch as a symbol.
//!   They do not appear in the graph.
//! - **The batch.** A dynamic first dimension of an input is the symbolic batch `N`. No other dimension may be dynamic, but the
//!   caller can fix its size with [`ImportOptions::shapes`]. A first dimension that the file fixes at `b` becomes `N` as well
//!   ([`BatchPolicy`]). This applies to the first f32 input with two or more dimensions, and to all other inputs that start with
//!   the same `b`. Constant shapes in the file then contain `b`: `Reshape` of `[N,512,1,1]` to `[1,512]` becomes `[N,512]`. The
//!   dimension that becomes the batch is the one with as many elements before it as the batch had in the input, so each image
//!   keeps its elements. With a batch of `b`, the graph always computes what the file specifies. If no dimension fits, or if a
//!   node mixes images, the batch stays at `b` and a warning explains why.
//!
//! - **Quantized models.** A model that quantizes its activations (`quantized`) becomes a graph in the qdq phase.
//!   `QuantizeLinear`, `DequantizeLinear` and `QLinear` operators become quantize and dequantize nodes with the scales of the
//!   file, if their codes fit the IR. Otherwise they are computed in f32, with a warning. Operators that compute with codes as
//!   integers get the integers of the file. The types of zero points are inferred node by node (`types`).
//!
//! No ONNX message types are public. Files are not trusted: a broken or hostile file gives an [`ImportError`].

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
