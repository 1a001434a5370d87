//! The operations, one file a family. An operation is a variant of [`Op`] with an attribute struct; matches over it are
//! exhaustive, so a new operation names every place that must learn it.
//!
//! To add one: its struct in the file of its family (with `attrs`, `read` and `infer`), a variant of [`Op`], its line in `each_op`
//! and its line in [`Op::read`], a rule in the evaluator, and where it should compile, in the lowering. An element-wise function
//! of one real is a row of the table in `catc-scalar` instead.

pub mod attrs;
pub mod cat;
pub mod choose;
pub mod conv;
pub mod elementwise;
pub mod epilogue;
pub mod fused;
pub mod index;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod quant;
pub mod reduce;
pub mod shape;

pub use cat::{ArgMin, Blend, SquaredDistance};
pub use catc_scalar::{Unary, UncompiledUnary};
pub use choose::{Cast, CastTo, Compare, Where};
pub use conv::Conv2d;
pub use elementwise::Binary;
pub use epilogue::{Epilogue, EpilogueEnd, EpilogueStep};
pub use fused::{Body, Fused};
pub use index::{Cumulate, GatherElements, Scatter, ScatterFlat, TopK};
pub use linear::{Linear, MatMul};
pub use norm::{BatchNorm, LayerNorm, Softmax};
pub use pool::{AvgPool, MaxPool, Window};
pub use quant::{Dequantize, Quantize};
pub use reduce::{Reduce, ReduceMean, Reduction};
pub use shape::{Concat, Expand, Gather, Identity, Pad, Reshape, Slice, Transpose};

use crate::infer::{InferError, Inputs};
use crate::types::TensorType;
use attrs::{AttrError, AttrReader, Attrs};

/// An operation with its attributes. Every operation has one output.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// 2-D convolution, NCHW.
    Conv2d(Conv2d),
    /// Fully connected layer.
    Linear(Linear),
    /// Matrix product with numpy broadcasting.
    MatMul(MatMul),
    /// Batch normalization with constant statistics.
    BatchNorm(BatchNorm),
    /// Softmax over one axis.
    Softmax(Softmax),
    /// An element-wise function of one tensor.
    Unary(Unary),
    /// An element-wise function of two tensors, with broadcasting.
    Binary(Binary),
    /// Maximum over windows.
    MaxPool(MaxPool),
    /// Average over windows.
    AvgPool(AvgPool),
    /// Mean over axes.
    ReduceMean(ReduceMean),
    /// The same elements under another shape.
    Reshape(Reshape),
    /// Permutation of the axes.
    Transpose(Transpose),
    /// Tensors side by side along an axis.
    Concat(Concat),
    /// Constant padding.
    Pad(Pad),
    /// A strided part of one axis.
    Slice(Slice),
    /// Slices picked by index.
    Gather(Gather),
    /// Its input.
    Identity(Identity),
    /// Reals to codes.
    Quantize(Quantize),
    /// Codes to reals.
    Dequantize(Dequantize),
    /// Squared distances to centroids.
    SquaredDistance(SquaredDistance),
    /// Index of the smallest element along an axis.
    ArgMin(ArgMin),
    /// `(1 - alpha) a + alpha b`.
    Blend(Blend),
    /// Layer normalization.
    LayerNorm(LayerNorm),
    /// A function of one real that is evaluated only.
    UncompiledUnary(UncompiledUnary),
    /// A comparison, or a function of truth values.
    Compare(Compare),
    /// A choice between two tensors.
    Where(Where),
    /// Another kind of element.
    Cast(Cast),
    /// Sum, product, maximum or minimum over axes.
    Reduce(Reduce),
    /// Broadcast to a shape.
    Expand(Expand),
    /// Elements picked by index.
    GatherElements(GatherElements),
    /// Elements placed by index.
    ScatterFlat(ScatterFlat),
    /// The largest or smallest elements.
    TopK(TopK),
    /// Running sums or products.
    Cumulate(Cumulate),
    /// A fused node of the integer phase.
    Fused(Fused),
}

/// Runs `$body` with `$x` bound to the attribute struct of any operation.
macro_rules! each_op {
    ($op:expr, $x:ident => $body:expr) => {
        match $op {
            Op::Conv2d($x) => $body,
            Op::Linear($x) => $body,
            Op::MatMul($x) => $body,
            Op::BatchNorm($x) => $body,
            Op::Softmax($x) => $body,
            Op::Unary($x) => $body,
            Op::Binary($x) => $body,
            Op::MaxPool($x) => $body,
            Op::AvgPool($x) => $body,
            Op::ReduceMean($x) => $body,
            Op::Reshape($x) => $body,
            Op::Transpose($x) => $body,
            Op::Concat($x) => $body,
            Op::Pad($x) => $body,
            Op::Slice($x) => $body,
            Op::Gather($x) => $body,
            Op::Identity($x) => $body,
            Op::Quantize($x) => $body,
            Op::Dequantize($x) => $body,
            Op::SquaredDistance($x) => $body,
            Op::ArgMin($x) => $body,
            Op::Blend($x) => $body,
            Op::LayerNorm($x) => $body,
            Op::UncompiledUnary($x) => $body,
            Op::Compare($x) => $body,
            Op::Where($x) => $body,
            Op::Cast($x) => $body,
            Op::Reduce($x) => $body,
            Op::Expand($x) => $body,
            Op::GatherElements($x) => $body,
            Op::ScatterFlat($x) => $body,
            Op::TopK($x) => $body,
            Op::Cumulate($x) => $body,
            Op::Fused($x) => $body,
        }
    };
}

/// What every attribute struct offers to the text form and to shape inference.
pub trait OpAttributes: Sized {
    /// The word of the text form.
    fn name(&self) -> &'static str;
    /// The attributes that differ from their defaults, in a fixed order.
    fn attrs(&self) -> Attrs;
    /// The type of the output, or why the inputs do not fit.
    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError>;
}

impl Op {
    /// The word of the text form: `conv2d`, `relu`, ...
    pub fn name(&self) -> &'static str {
        each_op!(self, x => x.name())
    }

    /// The attributes that differ from their defaults, in a fixed order.
    pub fn attrs(&self) -> Attrs {
        each_op!(self, x => x.attrs())
    }

    /// The type of the output for inputs of these types.
    pub fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        each_op!(self, x => x.infer(inputs))
    }

    /// The operation of this name with these attributes. Unknown names and attributes are errors.
    pub fn read(name: &str, r: &mut AttrReader) -> Result<Op, AttrError> {
        Ok(match name {
            "conv2d" => Op::Conv2d(Conv2d::read(r)?),
            "linear" => Op::Linear(Linear),
            "matmul" => Op::MatMul(MatMul),
            "batch_norm" => Op::BatchNorm(BatchNorm::read(r)?),
            "softmax" => Op::Softmax(Softmax::read(r)?),
            "max_pool" => Op::MaxPool(MaxPool::read(r)?),
            "avg_pool" => Op::AvgPool(AvgPool::read(r)?),
            "reduce_mean" => Op::ReduceMean(ReduceMean::read(r)?),
            "reshape" => Op::Reshape(Reshape::read(r)?),
            "transpose" => Op::Transpose(Transpose::read(r)?),
            "concat" => Op::Concat(Concat::read(r)?),
            "pad" => Op::Pad(Pad::read(r)?),
            "slice" => Op::Slice(Slice::read(r)?),
            "gather" => Op::Gather(Gather::read(r)?),
            "identity" => Op::Identity(Identity),
            // The quantizer is written as the last operand and handed over by the parser.
            "quantize" => Op::Quantize(Quantize { quantizer: r.quantizer("quantizer")? }),
            "dequantize" => Op::Dequantize(Dequantize),
            "squared_distance" => Op::SquaredDistance(SquaredDistance),
            "argmin" => Op::ArgMin(ArgMin::read(r)?),
            "blend" => Op::Blend(Blend::read(r)?),
            "layer_norm" => Op::LayerNorm(LayerNorm::read(r)?),
            "where" => Op::Where(Where),
            "expand" => Op::Expand(Expand::read(r)?),
            "gather_elements" => Op::GatherElements(GatherElements::read(r)?),
            "top_k" => Op::TopK(TopK::read(r)?),
            "cumulate" => Op::Cumulate(Cumulate::read(r)?),
            _ => {
                if let Some(unary) = elementwise::read_unary(name, r)? {
                    Op::Unary(unary)
                } else if let Some(binary) = Binary::parse(name) {
                    Op::Binary(binary)
                } else if let Some(function) = UncompiledUnary::parse(name) {
                    Op::UncompiledUnary(function)
                } else if let Some(compare) = Compare::parse(name) {
                    Op::Compare(compare)
                } else if let Some(cast) = Cast::parse(name) {
                    Op::Cast(cast)
                } else if let Some(scatter) = ScatterFlat::parse(name) {
                    Op::ScatterFlat(scatter)
                } else if let Some(reduce) = Reduce::read(name, r)? {
                    Op::Reduce(reduce)
                } else if let Some(fused) = Fused::read(name, r)? {
                    Op::Fused(fused)
                } else {
                    return Err(AttrError::UnknownOp(name.to_string()));
                }
            }
        })
    }
}
