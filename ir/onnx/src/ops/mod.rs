//! The rules of the operators, with one file for each family.
//!
//! A rule reads the attributes and inputs of a node as its opset defines them, and appends nodes to the graph. To add a rule,
//! write a function in the file of its family and add a line in [`rule`]. A unary function only needs a line in the table of
//! [`unary`]. An unread attribute is an error, so a rule must read all attributes that its operator has in the supported opsets.

mod activation;
mod attention;
mod build;
mod choose;
mod codes;
mod constant;
mod contrib;
mod conv;
mod deconv;
mod einsum;
mod elementwise;
mod index;
mod layout;
mod linear;
mod norm;
mod phases;
mod pool;
mod qlinear;
mod quant;
mod rearrange;
mod reduce;
mod reshape;
mod resize;
mod scatter;
pub(crate) mod unary;
mod volume;
mod window;

pub(crate) use codes::numbers;
pub(crate) use layout::stacked;

use crate::node::{NodeContext, RuleResult};
use crate::opset;
use crate::proto::NodeProto;

/// How an operator is translated.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// The first opset of the standard domain that has the operator. It is 1 if all supported opsets have it.
    pub since: i64,
    /// The function that translates a node.
    pub translate: fn(&mut NodeContext) -> RuleResult,
}

/// The rule of an operator.
pub(crate) fn rule(node: &NodeProto) -> Option<Rule> {
    match opset::domain(node.domain()) {
        opset::STANDARD => standard(node.op_type()),
        opset::MICROSOFT => contrib::rule(node.op_type()).map(|translate| Rule { since: 1, translate }),
        _ => None,
    }
}

fn standard(op: &str) -> Option<Rule> {
    let (since, translate): (i64, fn(&mut NodeContext) -> RuleResult) = match op {
        "Add" => (1, elementwise::add),
        "And" => (1, choose::and),
        "ArgMax" => (1, reduce::arg_max),
        "ArgMin" => (1, reduce::arg_min),
        "Attention" => (23, attention::attention),
        "AveragePool" => (1, pool::average_pool),
        "BatchNormalization" => (1, norm::batch_normalization),
        "Cast" => (1, constant::cast),
        "CastLike" => (15, choose::cast_to_like),
        "CenterCropPad" => (18, rearrange::center_crop_pad),
        "Compress" => (9, scatter::compress),
        "Concat" => (1, layout::concat),
        "Constant" => (1, constant::constant),
        "ConstantOfShape" => (9, constant::constant_of_shape),
        "Conv" => (1, conv::conv),
        "ConvInteger" => (10, qlinear::conv_integer),
        "ConvTranspose" => (1, deconv::conv_transpose),
        "CumProd" => (26, reduce::cum_prod),
        "CumSum" => (11, reduce::cum_sum),
        "DepthToSpace" => (1, rearrange::depth_to_space),
        "DequantizeLinear" => (10, quant::dequantize_linear),
        "Div" => (1, elementwise::div),
        "Dropout" => (1, layout::dropout),
        "DynamicQuantizeLinear" => (11, quant::dynamic_quantize_linear),
        "Einsum" => (12, einsum::einsum),
        "Equal" => (1, choose::equal),
        "Expand" => (8, rearrange::expand_rule),
        "EyeLike" => (9, scatter::eye_like),
        "Flatten" => (1, reshape::flatten),
        "Gather" => (1, index::gather),
        "GatherElements" => (11, scatter::gather_elements),
        "GatherND" => (11, scatter::gather_nd),
        "Gemm" => (1, linear::gemm),
        "GlobalAveragePool" => (1, pool::global_average_pool),
        "GlobalMaxPool" => (1, pool::global_max_pool),
        "Greater" => (1, choose::greater),
        "GreaterOrEqual" => (12, choose::greater_equal),
        "GroupNormalization" => (18, norm::group_normalization),
        "Hardmax" => (1, reduce::hardmax),
        "Identity" => (1, layout::identity),
        "InstanceNormalization" => (1, norm::instance_normalization),
        "IsInf" => (10, choose::is_inf),
        "IsNaN" => (9, choose::is_nan),
        "LRN" => (1, norm::lrn),
        "LayerNormalization" => (17, norm::layer_normalization),
        "Less" => (1, choose::less),
        "LessOrEqual" => (12, choose::less_equal),
        "LogSoftmax" => (1, norm::log_softmax),
        "LpPool" => (2, pool::lp_pool),
        "LpNormalization" => (1, norm::lp_normalization),
        "MatMul" => (1, linear::matmul),
        "MatMulInteger" => (10, qlinear::matmul_integer),
        "Max" => (1, elementwise::max),
        "MaxPool" => (1, pool::max_pool),
        "Mean" => (1, elementwise::mean),
        "MeanVarianceNormalization" => (9, norm::mean_variance_normalization),
        "Min" => (1, elementwise::min),
        "Mod" => (10, elementwise::modulo),
        "Mul" => (1, elementwise::mul),
        "Neg" => (1, activation::neg),
        "NonZero" => (9, scatter::non_zero),
        "Not" => (1, choose::negate),
        "OneHot" => (9, scatter::one_hot),
        "Or" => (1, choose::or),
        "PRelu" => (1, elementwise::prelu),
        "Pad" => (1, layout::pad),
        "Pow" => (1, elementwise::pow),
        "QLinearConv" => (10, qlinear::qlinear_conv),
        "QLinearMatMul" => (10, qlinear::qlinear_matmul),
        "QuantizeLinear" => (10, quant::quantize_linear),
        "RMSNormalization" => (23, norm::rms_normalization),
        "Range" => (11, rearrange::range),
        "Reciprocal" => (1, activation::reciprocal),
        "ReduceL1" => (1, reduce::reduce_l1),
        "ReduceL2" => (1, reduce::reduce_l2),
        "ReduceLogSum" => (1, reduce::reduce_log_sum),
        "ReduceLogSumExp" => (1, reduce::reduce_log_sum_exp),
        "ReduceMax" => (1, reduce::reduce_max),
        "ReduceMean" => (1, reduce::reduce_mean),
        "ReduceMin" => (1, reduce::reduce_min),
        "ReduceProd" => (1, reduce::reduce_prod),
        "ReduceSum" => (1, reduce::reduce_sum),
        "ReduceSumSquare" => (1, reduce::reduce_sum_square),
        "Reshape" => (1, reshape::reshape),
        "Resize" => (10, resize::resize),
        "ReverseSequence" => (10, rearrange::reverse_sequence),
        "RotaryEmbedding" => (23, attention::rotary_embedding),
        "Scatter" => (9, scatter::scatter_elements),
        "ScatterElements" => (11, scatter::scatter_elements),
        "ScatterND" => (11, scatter::scatter_nd),
        "Shape" => (1, index::shape),
        "Shrink" => (9, activation::shrink),
        "Size" => (1, index::size),
        "Slice" => (1, index::slice),
        "Softmax" => (1, norm::softmax),
        "SpaceToDepth" => (1, rearrange::space_to_depth),
        "Split" => (1, index::split),
        "Squeeze" => (1, reshape::squeeze),
        "Sub" => (1, elementwise::sub),
        "Sum" => (1, elementwise::sum),
        "ThresholdedRelu" => (10, activation::thresholded_relu),
        "Tile" => (6, rearrange::tile),
        "TopK" => (1, reduce::top_k),
        "Transpose" => (1, layout::transpose),
        "Trilu" => (14, rearrange::trilu),
        "Unsqueeze" => (1, reshape::unsqueeze),
        "Upsample" => (1, resize::upsample),
        "Where" => (9, choose::select),
        "Xor" => (1, choose::xor),
        _ => return unary::rule(op),
    };
    Some(Rule { since, translate })
}
