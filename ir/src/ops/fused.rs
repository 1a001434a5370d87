//! The fused nodes of the integer phase: a body that ends in one f32 value for each output element, and an
//! [`Epilogue`] over it.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::conv::Conv2d;
use super::epilogue::{Epilogue, EpilogueStep};
use super::linear::{Linear, MatMul};
use super::pool::AvgPool;
use super::reduce::ReduceMean;
use crate::QuantizerId;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// What a fused node computes before its epilogue. `zp` is the zero-point of the operand's quantizer.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Inputs x (codes, per tensor), w (codes, per output channel or per tensor, constant), multiplier `[O]` and bias `[O]` (f32, constant):
    /// `t = (Σ (x - zp_x)(w - zp_w)) as f32 * multiplier[o] + bias[o]`, the sum in i32, padding counting as `x = zp_x`.
    Conv2d(Conv2d),
    /// The same over rows: x `[..,K]`, w `[O,K]`.
    Linear,
    /// Inputs a `[..,M,K]` and b `[..,K,P]` (codes, per tensor, both computed; leading dimensions broadcast):
    /// `t = (Σ (a - zp_a)(b - zp_b)) as f32 * scale`, the sum in i32.
    MatMul {
        /// The factor; the product of both scales until scales are folded.
        scale: f32,
    },
    /// Input x (codes): `t = (Σ (x - zp)) as f32 * (scale / count as f32)` over each window, `count` as in
    /// [`AvgPool`], the quotient rounded to f32.
    AvgPool {
        /// The pooling.
        pool: AvgPool,
        /// The factor; the scale of x until scales are folded.
        scale: f32,
    },
    /// Input x (codes): `t = (Σ (x - zp)) as f32 * (scale / count as f32)` over the reduced axes.
    Mean {
        /// The reduction.
        mean: ReduceMean,
        /// The factor; the scale of x until scales are folded.
        scale: f32,
    },
    /// Input x: `t = (x - zp) as f32 * scale` for codes, `t = x * scale` for f32.
    Map {
        /// The factor; the scale of x until scales are folded, 1 for f32.
        scale: f32,
    },
}

/// A fused node: the inputs of the body, then those of the epilogue's steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// What is computed.
    pub body: Body,
    /// What follows on each element.
    pub epilogue: Epilogue,
    /// The quantizer of the output; there exactly if the epilogue quantizes. Written as the last operand.
    pub output: Option<QuantizerId>,
}

impl Body {
    /// How many of the node's inputs belong to the body.
    pub fn inputs(&self) -> usize {
        match self {
            Body::Conv2d(_) | Body::Linear => 4,
            Body::MatMul { .. } => 2,
            Body::AvgPool { .. } | Body::Mean { .. } | Body::Map { .. } => 1,
        }
    }

    fn codes(inputs: &Inputs, index: usize) -> Result<(), InferError> {
        match inputs.ty(index).element {
            Element::Code(_) => Ok(()),
            _ => Err(InferError::Element { index, expected: "codes" }),
        }
    }

    fn output_shape(&self, inputs: &Inputs) -> Result<Shape, InferError> {
        if inputs.len() < self.inputs() {
            return Err(InferError::Arity { expected: "the inputs of its body", found: inputs.len() });
        }
        let weighted = |shape: Shape, channel: usize| {
            Body::codes(inputs, 0)?;
            Body::codes(inputs, 1)?;
            for i in [2, 3] {
                inputs.f32(i)?;
                inputs.expect_shape(i, &Shape::new([shape.dims()[channel]]))?;
            }
            Ok(shape)
        };
        match self {
            Body::Conv2d(conv) => weighted(conv.output_shape(inputs)?, 1),
            Body::Linear => {
                let shape = Linear::output_shape(inputs)?;
                let last = shape.rank() - 1;
                weighted(shape, last)
            }
            Body::MatMul { .. } => {
                Body::codes(inputs, 0)?;
                Body::codes(inputs, 1)?;
                MatMul::output_shape(inputs)
            }
            Body::AvgPool { pool, .. } => {
                Body::codes(inputs, 0)?;
                let (n, c, h, w) = inputs.nchw(0)?;
                let [h, w] = pool.window.output([h, w]).map_err(InferError::Attribute)?;
                Ok(Shape::new([n, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)]))
            }
            Body::Mean { mean, .. } => {
                Body::codes(inputs, 0)?;
                mean.output_shape(inputs.shape(0))
            }
            Body::Map { .. } => match inputs.ty(0).element {
                Element::F32 | Element::Code(_) => Ok(inputs.shape(0).clone()),
                _ => Err(InferError::Element { index: 0, expected: "f32 or codes" }),
            },
        }
    }
}

impl Fused {
    pub(crate) fn read(name: &str, r: &mut AttrReader) -> Result<Option<Self>, AttrError> {
        let scale = |r: &mut AttrReader| r.float("scale")?.ok_or(AttrError::Missing("scale"));
        let body = match name {
            "fused_conv2d" => Body::Conv2d(Conv2d::read(r)?),
            "fused_linear" => Body::Linear,
            "fused_matmul" => Body::MatMul { scale: scale(r)? },
            "fused_avg_pool" => Body::AvgPool { scale: scale(r)?, pool: AvgPool::read(r)? },
            "fused_mean" => Body::Mean { scale: scale(r)?, mean: ReduceMean::read(r)? },
            "fused_map" => Body::Map { scale: scale(r)? },
            _ => return Ok(None),
        };
        let output = r.optional_quantizer("quantizer")?;
        let epilogue = Epilogue::read(r, output.is_some())?;
        Ok(Some(Fused { body, epilogue, output }))
    }
}

impl OpAttributes for Fused {
    fn name(&self) -> &'static str {
        match self.body {
            Body::Conv2d(_) => "fused_conv2d",
            Body::Linear => "fused_linear",
            Body::MatMul { .. } => "fused_matmul",
            Body::AvgPool { .. } => "fused_avg_pool",
            Body::Mean { .. } => "fused_mean",
            Body::Map { .. } => "fused_map",
        }
    }

    fn attrs(&self) -> Attrs {
        let mut a = match &self.body {
            Body::Conv2d(conv) => conv.attrs(),
            Body::Linear | Body::MatMul { .. } => vec![],
            Body::AvgPool { pool, .. } => pool.attrs(),
            Body::Mean { mean, .. } => mean.attrs(),
            Body::Map { .. } => vec![],
        };
        match self.body {
            Body::MatMul { scale } | Body::AvgPool { scale, .. } | Body::Mean { scale, .. } | Body::Map { scale } => {
                a.push(("scale", scale.into()))
            }
            Body::Conv2d(_) | Body::Linear => {}
        }
        if !self.epilogue.is_empty() {
            a.push(("epilogue", self.epilogue.attr()));
        }
        if let Some(q) = self.output {
            a.push(("quantizer", super::attrs::AttrValue::Quantizer(q)));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        let shape = self.body.output_shape(inputs)?;
        self.epilogue.check(self.body.inputs(), inputs.len()).map_err(InferError::Attribute)?;
        for &operand in self.epilogue.steps.iter().filter_map(EpilogueStep::operand) {
            match inputs.ty(operand).element {
                Element::F32 | Element::Code(_) => {}
                _ => {
                    return Err(InferError::Element { index: operand, expected: "f32 or codes" });
                }
            }
            if shape.broadcast(inputs.shape(operand)).as_ref() != Some(&shape) {
                return Err(inputs.bad_shape(operand, format!("one that broadcasts to {shape}")));
            }
        }
        match (self.epilogue.quantizes(), self.output) {
            (true, Some(q)) => Ok(TensorType::new(Element::Code(q), shape)),
            (false, None) => Ok(TensorType::f32(shape)),
            _ => Err(InferError::Attribute("an output quantizer and a quantizing epilogue go together".into())),
        }
    }
}
