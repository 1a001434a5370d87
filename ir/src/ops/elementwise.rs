//! Element-wise functions. [`Unary`] also serves as the activations of fused nodes.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, AttrValue, Attrs};
use crate::infer::{InferError, Inputs};
use crate::math::{max, min, sigmoid};
use crate::types::TensorType;

/// A function of one real.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// `x` where `x >= 0`, else `alpha x`.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `min(max(x, min), max)`.
    Clip {
        /// Lower bound, maybe -inf.
        min: f32,
        /// Upper bound, maybe inf.
        max: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `min(max(alpha x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x * min(max(x * (1/6) + 0.5, 0), 1)`, with 1/6 rounded to f32.
    HardSwish,
}

impl Unary {
    /// Its parameters in order, with their names.
    pub fn params(self) -> Vec<(&'static str, f32)> {
        match self {
            Unary::Relu | Unary::Sigmoid | Unary::HardSwish => vec![],
            Unary::LeakyRelu { alpha } => vec![("alpha", alpha)],
            Unary::Clip { min, max } => vec![("min", min), ("max", max)],
            Unary::HardSigmoid { alpha, beta } => vec![("alpha", alpha), ("beta", beta)],
        }
    }

    /// The function of this name, its parameters given by `param(name, position)`.
    pub fn build<E>(
        name: &str,
        mut param: impl FnMut(&'static str, usize) -> Result<f32, E>,
    ) -> Result<Option<Self>, E> {
        Ok(Some(match name {
            "relu" => Unary::Relu,
            "leaky_relu" => Unary::LeakyRelu { alpha: param("alpha", 0)? },
            "clip" => Unary::Clip { min: param("min", 0)?, max: param("max", 1)? },
            "sigmoid" => Unary::Sigmoid,
            "hard_sigmoid" => Unary::HardSigmoid { alpha: param("alpha", 0)?, beta: param("beta", 1)? },
            "hard_swish" => Unary::HardSwish,
            _ => return Ok(None),
        }))
    }

    /// The value at one real, in the operations and the order of the formulas above, `max` and `min` being those of
    /// [`crate::math`]: NaN gives 0 in relu, the lower bound in clip, 0 in hard sigmoid and NaN elsewhere.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Unary::Relu => max(x, 0.0),
            Unary::LeakyRelu { alpha } => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x
                }
            }
            Unary::Clip { min: lo, max: hi } => min(max(x, lo), hi),
            Unary::Sigmoid => sigmoid(x),
            Unary::HardSigmoid { alpha, beta } => min(max(alpha * x + beta, 0.0), 1.0),
            // As ONNX defines it, with alpha = 1/6: a product, which generated code has cheaper than a quotient.
            Unary::HardSwish => x * min(max(x * (1.0 / 6.0) + 0.5, 0.0), 1.0),
        }
    }

    pub(crate) fn read(name: &str, r: &mut AttrReader) -> Result<Option<Self>, AttrError> {
        Unary::build(name, |key, _| r.float(key)?.ok_or(AttrError::Missing(key)))
    }

    /// Whether `f(s x) = s f'(x)` for every `s > 0` and a function `f'` of the same kind, returned for `1 / s`.
    ///
    /// That lets a scale be moved across it: relu and leaky relu are their own `f'`, the bounds of a clip are scaled.
    pub fn rescaled(self, s: f32) -> Option<Unary> {
        match self {
            Unary::Relu | Unary::LeakyRelu { .. } => Some(self),
            Unary::Clip { min, max } => Some(Unary::Clip { min: min * s, max: max * s }),
            Unary::Sigmoid | Unary::HardSigmoid { .. } | Unary::HardSwish => None,
        }
    }
}

impl OpAttributes for Unary {
    fn name(&self) -> &'static str {
        match self {
            Unary::Relu => "relu",
            Unary::LeakyRelu { .. } => "leaky_relu",
            Unary::Clip { .. } => "clip",
            Unary::Sigmoid => "sigmoid",
            Unary::HardSigmoid { .. } => "hard_sigmoid",
            Unary::HardSwish => "hard_swish",
        }
    }

    fn attrs(&self) -> Attrs {
        self.params().into_iter().map(|(k, x)| (k, AttrValue::Float(x))).collect()
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        if let Unary::Clip { min, max } = *self {
            // A NaN bound fails this too.
            if min.partial_cmp(&max).is_none_or(|o| o.is_gt()) {
                return Err(InferError::Attribute(format!("clip bounds {min} and {max} are out of order")));
            }
        }
        Ok(TensorType::f32(inputs.f32(0)?.clone()))
    }
}

/// A function of two reals, with numpy broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

impl Binary {
    /// The function of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "add" => Binary::Add,
            "sub" => Binary::Sub,
            "mul" => Binary::Mul,
            "div" => Binary::Div,
            _ => return None,
        })
    }

    /// The value at one pair of reals.
    #[inline(always)]
    pub fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
        }
    }
}

impl OpAttributes for Binary {
    fn name(&self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        let (a, b) = (inputs.f32(0)?, inputs.f32(1)?);
        let shape = a.broadcast(b).ok_or_else(|| inputs.bad_shape(1, format!("one that broadcasts with {a}")))?;
        Ok(TensorType::f32(shape))
    }
}
