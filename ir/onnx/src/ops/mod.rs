//! The rules of the operators, one file a family.
//!
//! A rule reads the attributes and inputs of a node as its opset defines them and appends to the graph. To add one: a
//! function in the file of its family and a line in [`rule`]. An attribute that no rule reads is an error, so a rule
//! reads all that its operator ever had in the opsets it covers.

mod activation;
mod constant;
mod conv;
mod elementwise;
mod index;
mod layout;
mod linear;
mod norm;
mod pool;
mod reduce;
mod reshape;
mod window;

use crate::node::{NodeContext, RuleResult};

/// How an operator of the standard domain is translated.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// The first opset that has the operator, 1 if all that are read have it.
    pub since: i64,
    /// The translation.
    pub translate: fn(&mut NodeContext) -> RuleResult,
}

/// The rule of an operator.
pub(crate) fn rule(op: &str) -> Option<Rule> {
    let (since, translate): (i64, fn(&mut NodeContext) -> RuleResult) = match op {
        "Add" => (1, elementwise::add),
        "AveragePool" => (1, pool::average_pool),
        "BatchNormalization" => (1, norm::batch_normalization),
        "Cast" => (1, constant::cast),
        "Clip" => (1, activation::clip),
        "Concat" => (1, layout::concat),
        "Constant" => (1, constant::constant),
        "ConstantOfShape" => (9, constant::constant_of_shape),
        "Conv" => (1, conv::conv),
        "Div" => (1, elementwise::div),
        "Dropout" => (1, layout::dropout),
        "Flatten" => (1, reshape::flatten),
        "Gather" => (1, index::gather),
        "Gemm" => (1, linear::gemm),
        "GlobalAveragePool" => (1, pool::global_average_pool),
        "GlobalMaxPool" => (1, pool::global_max_pool),
        "HardSigmoid" => (1, activation::hard_sigmoid),
        "HardSwish" => (14, activation::hard_swish),
        "Identity" => (1, layout::identity),
        "LeakyRelu" => (1, activation::leaky_relu),
        "MatMul" => (1, linear::matmul),
        "MaxPool" => (1, pool::max_pool),
        "Mul" => (1, elementwise::mul),
        "Pad" => (1, layout::pad),
        "ReduceMean" => (1, reduce::reduce_mean),
        "Relu" => (1, activation::relu),
        "Reshape" => (1, reshape::reshape),
        "Shape" => (1, index::shape),
        "Sigmoid" => (1, activation::sigmoid),
        "Size" => (1, index::size),
        "Slice" => (1, index::slice),
        "Softmax" => (1, norm::softmax),
        "Split" => (1, index::split),
        "Squeeze" => (1, reshape::squeeze),
        "Sub" => (1, elementwise::sub),
        "Transpose" => (1, layout::transpose),
        "Unsqueeze" => (1, reshape::unsqueeze),
        _ => return None,
    };
    Some(Rule { since, translate })
}
