//! Conversion between f32 values and codes.

use super::OpAttributes;
use super::attrs::{AttrValue, Attrs};
use crate::QuantizerId;
use crate::infer::{InferError, Inputs};
use crate::types::{Element, TensorType};

/// Quantization of f32 to the codes of a quantizer (ONNX QuantizeLinear). The text form writes the quantizer as the last operand:
/// `quantize v0, q0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantize {
    /// The quantizer.
    pub quantizer: QuantizerId,
}

impl OpAttributes for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn attrs(&self) -> Attrs {
        vec![("quantizer", AttrValue::Quantizer(self.quantizer))]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        Ok(TensorType::new(Element::Code(self.quantizer), inputs.f32(0)?.clone()))
    }
}

/// Dequantization of codes to f32 (ONNX DequantizeLinear).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dequantize;

impl OpAttributes for Dequantize {
    fn name(&self) -> &'static str {
        "dequantize"
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        match inputs.ty(0).element {
            Element::Code(_) => Ok(TensorType::f32(inputs.shape(0).clone())),
            _ => Err(InferError::Element { index: 0, expected: "codes" }),
        }
    }
}
