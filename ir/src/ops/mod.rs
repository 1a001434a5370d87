//! The operations, with one file for each family. An operation is a variant of [`Op`] with an attribute struct. Matches on [`Op`]
//! are exhaustive, so the compiler reports every place that must handle a new operation.
//!
//! To add an operation, add its struct to the file of its family (with `attrs`, `read` and `infer`), a variant of [`Op`], a line
//! in `each_op`, a line in [`Op::read`], and a rule in the evaluator. If it should compile, add it to the lowering as well. A
//! unary element-wise function only needs a row in the table of `catc-scalar`.

pub mod attrs;
pub mod cat;
pub mod choose;
pub mod conv;
pub mod elementwise;
pub mod epilogue;
pub mod fused;
pub mod index;
pub mod interpolate;
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
pub use interpolate::Interpolate;
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
    /// Weighted sums of a few slices of one axis.
    Interpolate(Interpolate),
    /// The same elements with another shape.
    Reshape(Reshape),
    /// A permutation of the axes.
    Transpose(Transpose),
    /// Concatenation along an axis.
    Concat(Concat),
    /// Constant padding.
    Pad(Pad),
    /// Every n-th slice of a range of one axis.
    Slice(Slice),
    /// Slices selected by index.
    Gather(Gather),
    /// The unchanged input.
    Identity(Identity),
    /// Quantization of f32 to codes.
    Quantize(Quantize),
    /// Dequantization of codes to f32.
    Dequantize(Dequantize),
    /// Squared distances to centroids.
    SquaredDistance(SquaredDistance),
    /// The index of the smallest element along an axis.
    ArgMin(ArgMin),
    /// `(1 - alpha) a + alpha b`.
    Blend(Blend),
    /// Layer normalization.
    LayerNorm(LayerNorm),
    /// A unary function that is evaluated only.
    UncompiledUnary(UncompiledUnary),
    /// A comparison, or a function of booleans.
    Compare(Compare),
    /// A selection between the elements of two tensors.
    Where(Where),
    /// Conversion to another element type.
    Cast(Cast),
    /// Sum, product, maximum or minimum over axes.
    Reduce(Reduce),
    /// Broadcast to a shape.
    Expand(Expand),
    /// Elements gathered by index.
    GatherElements(GatherElements),
    /// Elements scattered by index.
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
            Op::Interpolate($x) => $body,
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

/// The interface of attribute structs for the text form and for shape inference.
pub trait OpAttributes: Sized {
    /// The name in the text form.
    fn name(&self) -> &'static str;
    /// The attributes that differ from their defaults, in a fixed order.
    fn attrs(&self) -> Attrs;
    /// The type of the output, or why the inputs are not valid.
    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError>;
}

impl Op {
    /// The name in the text form: `conv2d`, `relu`, ...
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

    /// Builds the operation with this name and these attributes. Unknown names are errors. The caller checks for unread
    /// attributes with [`AttrReader::finish`].
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
            "interpolate" => Op::Interpolate(Interpolate::read(r)?),
            "reshape" => Op::Reshape(Reshape::read(r)?),
            "transpose" => Op::Transpose(Transpose::read(r)?),
            "concat" => Op::Concat(Concat::read(r)?),
            "pad" => Op::Pad(Pad::read(r)?),
            "slice" => Op::Slice(Slice::read(r)?),
            "gather" => Op::Gather(Gather::read(r)?),
            "identity" => Op::Identity(Identity),
            // The text form writes the quantizer as the last operand. The parser passes it as an attribute.
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
