//! The steps of a program. Each step is one fused layer.

use crate::epilogue::{Epilogue, Operand};
use crate::program::ConstantId;
use crate::tensor::TensorId;

/// The geometry of a sliding window over `[C,H,W]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The number of taps, `[y, x]`.
    pub kernel: [usize; 2],
    /// The strides, `[y, x]`.
    pub strides: [usize; 2],
    /// Padding `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// The distance between taps, `[y, x]`.
    pub dilations: [usize; 2],
}

/// The operation of a step. It computes `t` for each output element. If the operation allows an [`Epilogue`], `t` then passes
/// through the epilogue of the step. `zp` is the zero point of the input tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution of codes. The input is `[C,H,W]` channels-last, the weights are codes `[O,C/groups,KH,KW]`, and the output is
    /// `[O,H',W']` channels-last. It computes `t = (Σ (x - zp)(w - zp_w[o])) as f32 * multiplier[o] + bias[o]`, where the sum is
    /// exact in i32. Padding has the value `x = zp`.
    ///
    /// A fully connected layer is a convolution as well: one row is an image with H = W = 1, and R rows are an image with H = R
    /// and W = 1.
    Conv {
        /// The window.
        geometry: Geometry,
        /// Channel groups.
        groups: usize,
        /// The weights, as codes. A code minus its zero point must fit in a signed byte.
        weights: ConstantId,
        /// f32 `[O]`.
        multiplier: ConstantId,
        /// f32 `[O]`.
        bias: ConstantId,
    },
    /// Convolution of f32 with the layouts of `Conv`. It computes `t = Σ x * w + bias[o]`, and the order of summation is not
    /// specified. The weights are f32, or codes that are dequantized as `scale * (code - zero_point)` when the program is loaded.
    FloatConv {
        /// The window.
        geometry: Geometry,
        /// Channel groups.
        groups: usize,
        /// f32 or codes.
        weights: ConstantId,
        /// f32 `[O]`.
        bias: ConstantId,
    },
    /// Fully connected layer of f32. The input is `[..,K]` row-major, the weights are `[O,K]`, and the output is `[..,O]`. It
    /// computes `t = Σ x * w + bias[o]`. The sum uses four lanes: lane j starts at 0.0 and adds the products of k = j, j+4, j+8,
    /// ... in order. The result is (l0+l1)+(l2+l3).
    FloatLinear {
        /// f32 or codes, as in `FloatConv`.
        weights: ConstantId,
        /// f32 `[O]`.
        bias: ConstantId,
    },
    /// Matrix product of `[..,M,K]` and `[..,K,P]`, which are inputs 0 and 1. Both are row-major with equal leading dimensions.
    /// For f32, the sum uses four lanes as in `FloatLinear`. For codes, `t = (Σ (a - zp_a)(b - zp_b)) as f32 * scale`, where the
    /// sum is exact in i32.
    MatMul {
        /// Factor for codes.
        scale: f32,
    },
    /// Maximum over windows of codes or f32, `[C,H,W]` channels-last. NaN is ignored, and a window that holds only NaN gives
    /// -inf. Input and output have the same format. No epilogue.
    MaxPool {
        /// The window. Only taps inside the image count. The output tensor defines the output size.
        geometry: Geometry,
    },
    /// Average over windows, `[C,H,W]` channels-last. For codes, `t = (Σ (x - zp)) as f32 * (scale / count as f32)`, where the
    /// quotient is rounded to f32. For f32, `t = (Σ x) / count as f32`, where the sum starts at 0.0 and runs over the taps in
    /// row-major order.
    AvgPool {
        /// The window. The output tensor defines the output size.
        geometry: Geometry,
        /// Whether `count` includes the taps in the padding. Taps beyond the padding never count.
        count_include_pad: bool,
        /// Factor for codes.
        scale: f32,
    },
    /// Mean over axes of the input. The output's dimensions either keep these axes with size 1 or drop them. Codes are computed
    /// as in `AvgPool`. For f32, `t = s / count as f32`. The sum `s` uses four lanes as in `FloatLinear` and takes the reduced
    /// elements in row-major order of the logical dimensions.
    Mean {
        /// The reduced axes of the input's `dims`, in ascending order.
        axes: Vec<usize>,
        /// Factor for codes.
        scale: f32,
    },
    /// Element-wise map, which may also change the layout. It computes `t = (x - zp) as f32 * scale` for codes,
    /// `t = x as f32 * scale` for indices (where the conversion rounds to nearest), and `t = x * scale` for f32.
    Map {
        /// Factor.
        scale: f32,
    },
    /// An f32 constant, which broadcasts to the output as an epilogue's operand does: `t = c`. There are no inputs. This step
    /// expresses `c / x`, and functions of two operands if neither has the shape of the output.
    Constant {
        /// f32.
        constant: ConstantId,
    },
    /// The input's memory with other dimensions or another layout. Element `i` in the memory order of the input is element `i` in
    /// the memory order of the output. Both have the same format and the same number of elements. The input or the output may be
    /// a port. No epilogue.
    View,
    /// Concatenation of the inputs along an axis. All have the same format and layout. No epilogue.
    Concat {
        /// The axis of `dims`.
        axis: usize,
    },
    /// Axis `i` of the output is axis `perm[i]` of the input. Any format, no epilogue.
    Transpose {
        /// A permutation.
        perm: Vec<usize>,
    },
    /// Constant padding. Codes are padded with their zero point. No epilogue.
    Pad {
        /// The number of padding elements before each axis.
        before: Vec<usize>,
        /// The padding value for f32.
        value: f32,
    },
    /// Every `step`-th slice of an axis from `start` on. The output tensor defines the number of slices. No epilogue.
    Slice {
        /// The axis.
        axis: usize,
        /// The first index.
        start: usize,
        /// The distance between indices.
        step: usize,
    },
    /// The slices of an axis at these indices, in the order of the indices. Any format, no epilogue.
    Pick {
        /// The axis.
        axis: usize,
        /// Indices into the input's axis. Their number is the size of the output's axis.
        indices: Vec<usize>,
    },
    /// Weighted sums of a few slices of an axis: slice `i` of the output is `t = (Σ_j weights[i,j] * x[indices[i,j]]) * scale`, where
    /// codes are `(x - zp) as f32`. The sum starts with the product `j = 0` and adds the others in order. Every product and every
    /// sum is rounded to f32. The weights are finite.
    Interpolate {
        /// The axis.
        axis: usize,
        /// Indices into the input's axis, as many as weights, in the same order.
        indices: Vec<usize>,
        /// f32 `[I,T]` with the size `I` of the output's axis and `T` taps, at least 1.
        weights: ConstantId,
        /// Factor.
        scale: f32,
    },
    /// Softmax of f32 over one axis: `e = exp(x - max)`, `t = e / Σ e`. The sum uses four lanes as in `FloatLinear`. No epilogue.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// Squared distance of f32: `t[k] = Σ_p (x[p] - c[k,p])²`. The input is `[P]` and the constant is `[K,P]`. The difference is
    /// rounded, and then its square. The sum uses four lanes as in `FloatLinear`. No epilogue.
    SquaredDistance {
        /// f32 `[K,P]`.
        centroids: ConstantId,
    },
    /// The index of the smallest f32 element along an axis. Of equal elements the lowest index wins. NaN never counts as smaller.
    /// The output format is `Index`. No epilogue.
    ArgMin {
        /// The axis, which the output does not have.
        axis: usize,
    },
    /// Replaces each element `i` of the `Index` input by row `i` of an f32 table `[A,..]`. A negative `i` counts from the end.
    /// Indices lie in -A..A, either because `ArgMin` computes them or because the range of an input bounds them. The generated
    /// code clamps them anyway. No epilogue.
    GatherRow {
        /// The f32 table.
        table: ConstantId,
    },
}

/// One step of a program. It reads its inputs and the operands of its epilogue, and it writes its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The layer's name in the model file, for reports. Names need not be unique.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// Activation inputs of the operation, without the operands of the epilogue.
    pub inputs: Vec<TensorId>,
    /// The epilogue, which is applied to each output element.
    pub epilogue: Epilogue,
    /// The output tensor. Exactly one step writes each tensor except the inputs of the program, and it does so before any step
    /// reads the tensor.
    pub output: TensorId,
}

impl Op {
    /// Whether the operation allows an epilogue. If not, each element is stored as it is, and the operation determines the format
    /// of the output.
    pub fn has_epilogue(&self) -> bool {
        match self {
            Op::Conv { .. }
            | Op::FloatConv { .. }
            | Op::FloatLinear { .. }
            | Op::MatMul { .. }
            | Op::AvgPool { .. }
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::Map { .. }
            | Op::Constant { .. } => true,
            Op::MaxPool { .. }
            | Op::View
            | Op::Concat { .. }
            | Op::Transpose { .. }
            | Op::Pad { .. }
            | Op::Slice { .. }
            | Op::Pick { .. }
            | Op::Softmax { .. }
            | Op::SquaredDistance { .. }
            | Op::ArgMin { .. }
            | Op::GatherRow { .. } => false,
        }
    }

    /// The constants that the operation reads, in order of declaration.
    pub fn constants(&self) -> impl Iterator<Item = ConstantId> + use<> {
        let own = match *self {
            Op::Conv { weights, multiplier, bias, .. } => [Some(weights), Some(multiplier), Some(bias)],
            Op::FloatConv { weights, bias, .. } | Op::FloatLinear { weights, bias } => {
                [Some(weights), Some(bias), None]
            }
            Op::SquaredDistance { centroids: c }
            | Op::GatherRow { table: c }
            | Op::Interpolate { weights: c, .. }
            | Op::Constant { constant: c } => [Some(c), None, None],
            Op::MatMul { .. }
            | Op::MaxPool { .. }
            | Op::AvgPool { .. }
            | Op::Mean { .. }
            | Op::Map { .. }
            | Op::View
            | Op::Concat { .. }
            | Op::Transpose { .. }
            | Op::Pad { .. }
            | Op::Slice { .. }
            | Op::Pick { .. }
            | Op::Softmax { .. }
            | Op::ArgMin { .. } => [None; 3],
        };
        own.into_iter().flatten()
    }
}

impl Step {
    /// The tensors that the step reads: first those of the operation, then those of the epilogue.
    pub fn reads(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.inputs.iter().copied().chain(self.epilogue.tensors())
    }

    /// The constants that the step reads: first those of the operation, then those of the epilogue.
    pub fn constants(&self) -> impl Iterator<Item = ConstantId> + '_ {
        let operands = self.epilogue.operands().filter_map(|o| match o {
            Operand::Constant(c) => Some(c),
            Operand::Tensor(_) => None,
        });
        self.op.constants().chain(operands)
    }
}
