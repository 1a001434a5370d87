//! The fused nodes of the integer phase. A fused node has a body, which computes one f32 value for each output element, and an
//! [`Epilogue`], which processes that value.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::conv::Conv2d;
use super::epilogue::{Epilogue, EpilogueStep};
use super::interpolate::Interpolate;
use super::linear::{Linear, MatMul};
use super::pool::AvgPool;
use super::reduce::ReduceMean;
use crate::QuantizerId;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// The body of a fused node: what it computes before its epilogue. `zp` is the zero point of the operand's quantizer.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Convolution. The inputs are x (codes, quantized per tensor), w (constant codes, quantized per output channel or per
    /// tensor), and the f32 constants multiplier `[O]` and bias `[O]`. It computes
    /// `t = (Σ (x - zp_x)(w - zp_w)) as f32 * multiplier[o] + bias[o]`. The sum is exact in i32. Padding has the value
    /// `x = zp_x`.
    Conv2d(Conv2d),
    /// Fully connected layer: the same for rows, with x `[..,K]` and w `[O,K]`.
    Linear,
    /// Matrix product. The inputs are a `[..,M,K]` and b `[..,K,P]`, both codes that are quantized per tensor. Leading dimensions
    /// broadcast. It computes `t = (Σ (a - zp_a)(b - zp_b)) as f32 * scale`. The sum is exact in i32.
    MatMul {
        /// The factor. It is the product of both scales until scales are folded.
        scale: f32,
    },
    /// Average pooling. The input x holds codes. It computes `t = (Σ (x - zp)) as f32 * (scale / count as f32)` for each window,
    /// with `count` as in [`AvgPool`]. The quotient is rounded to f32.
    AvgPool {
        /// The pooling.
        pool: AvgPool,
        /// The factor. It is the scale of x until scales are folded.
        scale: f32,
    },
    /// Mean over axes. The input x holds codes. It computes `t = (Σ (x - zp)) as f32 * (scale / count as f32)` over the reduced
    /// axes.
    Mean {
        /// The reduction.
        mean: ReduceMean,
        /// The factor. It is the scale of x until scales are folded.
        scale: f32,
    },
    /// Interpolation along an axis. The inputs are x (codes), and the constant indices and weights of [`Interpolate`]. It computes
    /// `t = (Σ_t weights[i,t] * (x[indices[i,t]] - zp) as f32) * scale`. The sum is that of [`Interpolate`].
    Interpolate {
        /// The interpolation.
        interpolate: Interpolate,
        /// The factor. It is the scale of x until scales are folded.
        scale: f32,
    },
    /// Element-wise map of input x: `t = (x - zp) as f32 * scale` for codes, `t = x * scale` for f32.
    Map {
        /// The factor. It is the scale of x until scales are folded, and 1 for f32.
        scale: f32,
    },
}

/// A fused node. Its inputs are those of the body, followed by those of the epilogue's steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// The body.
    pub body: Body,
    /// The epilogue.
    pub epilogue: Epilogue,
    /// The quantizer of the output. It is present if and only if the epilogue quantizes. The text form writes it as the last
    /// operand.
    pub output: Option<QuantizerId>,
}

impl Body {
    /// The number of the node's inputs that belong to the body.
    pub fn inputs(&self) -> usize {
        match self {
            Body::Conv2d(_) | Body::Linear => 4,
            Body::MatMul { .. } => 2,
            Body::Interpolate { .. } => 3,
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
            Body::Interpolate { interpolate, .. } => {
                Body::codes(inputs, 0)?;
                interpolate.output_shape(inputs)
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
            "fused_interpolate" => Body::Interpolate { scale: scale(r)?, interpolate: Interpolate::read(r)? },
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
            Body::Interpolate { .. } => "fused_interpolate",
            Body::Map { .. } => "fused_map",
        }
    }

    fn attrs(&self) -> Attrs {
        let mut a = match &self.body {
            Body::Conv2d(conv) => conv.attrs(),
            Body::Linear | Body::MatMul { .. } => vec![],
            Body::AvgPool { pool, .. } => pool.attrs(),
            Body::Mean { mean, .. } => mean.attrs(),
            Body::Interpolate { interpolate, .. } => interpolate.attrs(),
            Body::Map { .. } => vec![],
        };
        match self.body {
            Body::MatMul { scale }
            | Body::AvgPool { scale, .. }
            | Body::Mean { scale, .. }
            | Body::Interpolate { scale, .. }
            | Body::Map { scale } => a.push(("scale", scale.into())),
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
