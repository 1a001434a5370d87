//! `fold-scales`: moves the scale of a fused node's output into its multipliers, so that the last step only rounds.
//!
//! - Before: integer phase. After: `requantize` is `round` wherever every step before it is positively homogeneous or
//!   linear; the codes stay the same, except for ties that the order of the multiplications decides (at most 0.1 %
//!   differ, by one).
//! - With `r = 1 / scale` of the output: multiplier and bias, the factors of averages and maps, and the factors of
//!   operands that are added or subtracted are multiplied by `r`; bounds of clips too; relu and leaky relu stay. A
//!   sigmoid, hard sigmoid or hard swish among the steps is not homogeneous: then `requantize` stays.
//! - A relu or clip right before `round` is removed if saturation has the same effect: both of its bounds round to codes at
//!   or beyond the ends of the format.
//! - Other passes: last of all; nothing that changes quantizers may follow, since their scales are now part of
//!   constants.
//! - Example, for an output scale of 0.5 and zero-point 0:
//!   ```text
//!   fused_conv2d v1, c0, c1, c2, v3, q2 {.., epilogue=[add(4, 0.25), relu, requantize]}
//!   -> fused_conv2d v1, c0, c4, c5, v3, q2 {.., epilogue=[add(4, 0.5), round]}     with c4 = 2 c1 and c5 = 2 c2
//!   ```
//! - Reference: arXiv 2509.26277, section 3.2: the scales of activations and weights fold into one factor a channel.

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use catc_ir::ops::{Body, Epilogue, EpilogueEnd, EpilogueStep, Fused, Unary};
use catc_ir::quantizer::round_to_code;
use catc_ir::{Graph, Node, Op, Operand, Phase, Quantizer, Tensor};
use catc_scalar::Binary;

/// Folds the scales of outputs into the fused nodes that compute them.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldScales;

impl FoldScales {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "fold-scales",
        summary: "moves the scale of each fused node's output into its multipliers",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(FoldScales)) },
    };
}

impl Pass for FoldScales {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Integer]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        let mut folded = 0;
        let nodes = graph.take_nodes();
        for mut node in nodes {
            folded += usize::from(fold(graph, &mut node).is_some());
            let place = graph.label(&node);
            graph.append_node(node).map_err(PassError::infer(Self::ENTRY.name, place))?;
        }
        graph.release_unused_constants();
        Ok(Changed::from_flag(folded > 0, "no fused node ends in a requantize whose scale can move"))
    }
}

/// Folds the scale of one node's output; `None`, and nothing changed, if that is not possible.
fn fold(graph: &mut Graph, node: &mut Node) -> Option<()> {
    let Op::Fused(fused) = &node.op else { return None };
    let EpilogueEnd::Requantize = fused.epilogue.end else { return None };
    let output = graph.quantizer(fused.output?).clone();
    let r = 1.0 / output.scale[0];
    let mut steps = fused.epilogue.steps.iter().map(|s| rescaled(s, r)).collect::<Option<Vec<_>>>()?;
    if matches!(steps.last(), Some(EpilogueStep::Unary(f)) if saturates(*f, &output)) {
        steps.pop();
    }
    let epilogue = Epilogue { steps, end: EpilogueEnd::Round };
    let body = match &fused.body {
        Body::Conv2d(_) | Body::Linear => fused.body.clone(),
        Body::MatMul { scale } => Body::MatMul { scale: finite(scale * r)? },
        Body::AvgPool { pool, scale } => Body::AvgPool { pool: pool.clone(), scale: finite(scale * r)? },
        Body::Mean { mean, scale } => Body::Mean { mean: mean.clone(), scale: finite(scale * r)? },
        Body::Interpolate { interpolate, scale } => {
            Body::Interpolate { interpolate: *interpolate, scale: finite(scale * r)? }
        }
        Body::Map { scale } => Body::Map { scale: finite(scale * r)? },
    };
    if body.inputs() == 4 {
        let multiplier = scaled(graph, node.inputs[2], r)?;
        let bias = scaled(graph, node.inputs[3], r)?;
        node.inputs[2] = graph.add_constant(multiplier).into();
        node.inputs[3] = graph.add_constant(bias).into();
    }
    node.op = Op::Fused(Fused { body, epilogue, output: fused.output });
    Some(())
}

/// The step that does to `r t` what `step` does to `t`, times `r`.
fn rescaled(step: &EpilogueStep, r: f32) -> Option<EpilogueStep> {
    Some(match *step {
        EpilogueStep::Binary { op, operand, scale } => {
            let scale = match op {
                Binary::Add | Binary::Sub => finite(scale * r)?,
                Binary::Mul | Binary::Div => scale,
            };
            EpilogueStep::Binary { op, operand, scale }
        }
        EpilogueStep::Unary(f) => EpilogueStep::Unary(f.rescaled(r)?),
        EpilogueStep::Scale(x) => EpilogueStep::Scale(x),
    })
}

/// Whether `t` and `f(t)` round to the same code for every `t`: all that `f` cuts off is
/// saturated anyway.
fn saturates(f: Unary, output: &Quantizer) -> bool {
    let (low, high) = match f {
        Unary::Relu => (0.0, f32::INFINITY),
        Unary::Clip { min, max } => (min, max),
        _ => return false,
    };
    let code = |t: f32| round_to_code(t, output.zero_point[0], output.format);
    code(low) == output.format.min() && code(high) == output.format.max()
}

fn finite(x: f32) -> Option<f32> {
    x.is_finite().then_some(x)
}

/// A constant times `r`, if all of it stays finite.
fn scaled(graph: &Graph, operand: Operand, r: f32) -> Option<Tensor> {
    let tensor = &graph.constant(operand.constant()?).tensor;
    let data = tensor.as_f32()?.iter().map(|x| finite(x * r)).collect::<Option<Vec<f32>>>()?;
    Some(Tensor::f32(tensor.shape(), data))
}
