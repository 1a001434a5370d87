//! The steps of a program: one fused layer each.

use crate::epilogue::{Epilogue, Operand};
use crate::program::ConstantId;
use crate::tensor::TensorId;

/// The geometry of a sliding window over `[C,H,W]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Taps, `[y, x]`.
    pub kernel: [usize; 2],
    /// Steps, `[y, x]`.
    pub strides: [usize; 2],
    /// Padding `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// Distance of the taps, `[y, x]`.
    pub dilations: [usize; 2],
}

/// What a step computes. Output element `t` then goes through the step's [`Epilogue`] where it has one; `zp` is the zero-point of the
/// tensor read.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution of codes, input `[C,H,W]` channels-last, weights `[O,C/groups,KH,KW]` codes, output `[O,H',W']` channels-last:
    /// `t = (Σ (x - zp)(w - zp_w[o])) as f32 * multiplier[o] + bias[o]`, the sum exact in i32. Padding counts as `x = zp`.
    ///
    /// A fully connected layer on one row is the same with H = W = 1; on R rows, with H = R, W = 1.
    Conv {
        /// The window.
        geometry: Geometry,
        /// Channel groups.
        groups: usize,
        /// Codes; less their zero-point they fit a signed byte.
        weights: ConstantId,
        /// f32 `[O]`.
        multiplier: ConstantId,
        /// f32 `[O]`.
        bias: ConstantId,
    },
    /// Convolution of f32 (layouts as in `Conv`): `t = Σ x * w + bias[o]`, summed in any order. Weights are f32, or codes with scales
    /// that are dequantized when the program is loaded: `scale * (code - zero_point)`.
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
    /// Fully connected layer of f32: input `[..,K]` row-major, weights `[O,K]`, output `[..,O]`: `t = Σ x * w + bias[o]`, where the sum runs in
    /// four lanes: lane j adds the products of k = j, j+4, j+8, ... in order from 0.0, and the result is (l0+l1)+(l2+l3).
    FloatLinear {
        /// f32 or codes, as in `FloatConv`.
        weights: ConstantId,
        /// f32 `[O]`.
        bias: ConstantId,
    },
    /// Matrix product of `[..,M,K]` and `[..,K,P]` (inputs 0 and 1, equal leading dimensions, row-major). f32: four lanes as in
    /// `FloatLinear`. Codes: `t = (Σ (a - zp_a)(b - zp_b)) as f32 * scale`, the sum exact in i32.
    MatMul {
        /// Factor for codes.
        scale: f32,
    },
    /// Maximum over windows of codes or f32, `[C,H,W]` channels-last; NaN never wins, and a window of NaN alone gives -inf. Input and output
    /// have the same format, and there is no epilogue.
    MaxPool {
        /// The window. Where it sticks out, only the taps inside count; the output size is that of the output tensor.
        geometry: Geometry,
    },
    /// Average over windows, `[C,H,W]` channels-last. Codes: `t = (Σ (x - zp)) as f32 * (scale / count as f32)` with the quotient rounded to
    /// f32; f32: `t = (Σ x) / count as f32`, summed over taps in row-major order from 0.0.
    AvgPool {
        /// The window; the output size is that of the output tensor.
        geometry: Geometry,
        /// Whether taps in the padding count in `count` (those beyond the padding never do).
        count_include_pad: bool,
        /// Factor for codes.
        scale: f32,
    },
    /// Mean over axes of the input (which stay as size 1, or are dropped, in the output's dimensions). Codes: as in `AvgPool`. f32: `t = s / count as f32` with
    /// the sum `s` over the reduced elements in row-major order of the logical dimensions, in four lanes as in `FloatLinear`.
    Mean {
        /// Reduced axes of the input's `dims`, ascending.
        axes: Vec<usize>,
        /// Factor for codes.
        scale: f32,
    },
    /// Element by element, also between layouts: `t = (x - zp) as f32 * scale` for codes, `t = x as f32 * scale` for indices (rounded to
    /// nearest), `t = x * scale` for f32.
    Map {
        /// Factor.
        scale: f32,
    },
    /// Every output element is that of an f32 constant, which broadcasts to the output as an epilogue's operand does: `t = c`. No inputs. The
    /// way to `c / x` and to operands of which neither has the output's shape.
    Constant {
        /// f32.
        constant: ConstantId,
    },
    /// The same memory under other dimensions and layout: element `i` in the memory order of the input is element `i` in the
    /// memory order of the output. Both have one format and as many elements. No epilogue. Ports can be viewed and can be views.
    View,
    /// Inputs side by side along an axis; all of one format and layout. No epilogue.
    Concat {
        /// The axis of `dims`.
        axis: usize,
    },
    /// Axis `i` of the output is axis `perm[i]` of the input. Any format, no epilogue.
    Transpose {
        /// A permutation.
        perm: Vec<usize>,
    },
    /// Constant padding; codes are padded with their zero-point. No epilogue.
    Pad {
        /// Elements before each axis.
        before: Vec<usize>,
        /// What f32 padding holds.
        value: f32,
    },
    /// Every `step`-th slice of an axis from `start`; the count is that of the output. No epilogue.
    Slice {
        /// The axis.
        axis: usize,
        /// First index.
        start: usize,
        /// Distance.
        step: usize,
    },
    /// The slices of an axis at these indices, in their order; any format. No epilogue.
    Pick {
        /// The axis.
        axis: usize,
        /// Indices of the input's axis; as many as the output's axis is long.
        indices: Vec<usize>,
    },
    /// Softmax of f32 over one axis: `e = exp(x - max)`, `t = e / Σ e`, the sum in four lanes as in `FloatLinear`. No epilogue.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// `t[k] = Σ_p (x[p] - c[k,p])²` of f32, input `[P]`, constant `[K,P]`, in four lanes as in `FloatLinear` (the difference is rounded, then its
    /// square). No epilogue.
    SquaredDistance {
        /// f32 `[K,P]`.
        centroids: ConstantId,
    },
    /// Index of the smallest element of f32 along an axis, the lowest index among equals and NaN never smaller. Output format `Index`, no epilogue.
    ArgMin {
        /// The axis, which goes away.
        axis: usize,
    },
    /// For each element `i` of the `Index` input row `i` of an f32 table `[A,..]`, counted from the end where `i` is negative: the rows take
    /// the place of the elements. Indices lie in -A..A by construction of `ArgMin` and by the range of an input; code clamps them all the
    /// same. No epilogue.
    GatherRow {
        /// f32 table.
        table: ConstantId,
    },
}

/// One step: reads its inputs (and the operands of its epilogue), writes its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The layer's name in the model file, for reports; unique names are not guaranteed.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Activation inputs of the operation, without the operands of the epilogue.
    pub inputs: Vec<TensorId>,
    /// What happens to each output element.
    pub epilogue: Epilogue,
    /// What it writes. Every tensor but the program's inputs is written by exactly one step, before any step reads it.
    pub output: TensorId,
}

impl Op {
    /// Whether an epilogue follows each element. Without one the store is plain and the output has the format that the operation gives.
    pub fn has_epilogue(&self) -> bool {
        match self {
            Op::Conv { .. }
            | Op::FloatConv { .. }
            | Op::FloatLinear { .. }
            | Op::MatMul { .. }
            | Op::AvgPool { .. }
            | Op::Mean { .. }
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

    /// The constants it takes, in order of declaration.
    pub fn constants(&self) -> impl Iterator<Item = ConstantId> + use<> {
        let own = match *self {
            Op::Conv { weights, multiplier, bias, .. } => [Some(weights), Some(multiplier), Some(bias)],
            Op::FloatConv { weights, bias, .. } | Op::FloatLinear { weights, bias } => {
                [Some(weights), Some(bias), None]
            }
            Op::SquaredDistance { centroids: c } | Op::GatherRow { table: c } | Op::Constant { constant: c } => {
                [Some(c), None, None]
            }
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
    /// The tensors it reads: those of the operation, then those of the epilogue.
    pub fn reads(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.inputs.iter().copied().chain(self.epilogue.tensors())
    }

    /// The constants it takes: those of the operation, then those of the epilogue.
    pub fn constants(&self) -> impl Iterator<Item = ConstantId> + '_ {
        let operands = self.epilogue.operands().filter_map(|o| match o {
            Operand::Constant(c) => Some(c),
            Operand::Tensor(_) => None,
        });
        self.op.constants().chain(operands)
    }
}
