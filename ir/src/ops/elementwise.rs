//! Element-wise functions. [`Unary`] also serves as the activations of fused nodes.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, AttrValue, Attrs};
use crate::infer::{InferError, Inputs};
use crate::math::{erf, exp, gelu, log, max, min, sigmoid, tanh};
use crate::types::{Element, TensorType};

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
    /// `e^x`.
    Exp,
    /// The natural logarithm.
    Log,
    /// The square root; NaN below 0.
    Sqrt,
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// `(x * 0.5) * (1 + erf(x * sqrt(1/2)))`.
    Gelu,
    /// `|x|`.
    Abs,
    /// The largest whole number that is not above `x`.
    Floor,
    /// The smallest whole number that is not below `x`.
    Ceil,
    /// The nearest whole number, halves to even.
    Round,
}

impl Unary {
    /// Its parameters in order, with their names.
    pub fn params(self) -> Vec<(&'static str, f32)> {
        match self {
            Unary::LeakyRelu { alpha } => vec![("alpha", alpha)],
            Unary::Clip { min, max } => vec![("min", min), ("max", max)],
            Unary::HardSigmoid { alpha, beta } => vec![("alpha", alpha), ("beta", beta)],
            _ => vec![],
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
            "exp" => Unary::Exp,
            "log" => Unary::Log,
            "sqrt" => Unary::Sqrt,
            "tanh" => Unary::Tanh,
            "erf" => Unary::Erf,
            "gelu" => Unary::Gelu,
            "abs" => Unary::Abs,
            "floor" => Unary::Floor,
            "ceil" => Unary::Ceil,
            "round" => Unary::Round,
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
            Unary::Exp => exp(x),
            Unary::Log => log(x),
            Unary::Sqrt => x.sqrt(),
            Unary::Tanh => tanh(x),
            Unary::Erf => erf(x),
            Unary::Gelu => gelu(x),
            Unary::Abs => x.abs(),
            Unary::Floor => x.floor(),
            Unary::Ceil => x.ceil(),
            Unary::Round => x.round_ties_even(),
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
            Unary::Relu | Unary::LeakyRelu { .. } | Unary::Abs => Some(self),
            Unary::Clip { min, max } => Some(Unary::Clip { min: min * s, max: max * s }),
            _ => None,
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
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Tanh => "tanh",
            Unary::Erf => "erf",
            Unary::Gelu => "gelu",
            Unary::Abs => "abs",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
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

/// A function of two numbers, with numpy broadcasting: reals, or whole numbers (i64, evaluated only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`; of whole numbers rounded towards zero, and 0 where `b` is 0.
    Div,
    /// The larger one, NaN where one is NaN.
    Max,
    /// The smaller one, NaN where one is NaN.
    Min,
    /// `a^b`.
    Pow,
    /// The remainder with the sign of `b`, as Python's `%`.
    Mod,
    /// The remainder with the sign of `a`, as C's `fmod`.
    Fmod,
}

impl Binary {
    const NAMES: [(Binary, &str); 9] = [
        (Binary::Add, "add"),
        (Binary::Sub, "sub"),
        (Binary::Mul, "mul"),
        (Binary::Div, "div"),
        (Binary::Max, "max"),
        (Binary::Min, "min"),
        (Binary::Pow, "pow"),
        (Binary::Mod, "mod"),
        (Binary::Fmod, "fmod"),
    ];

    /// The function of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Binary::NAMES.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }

    /// Whether it is one of the four that epilogues hold and programs compute: sum, difference, product, quotient.
    pub fn is_compiled(self) -> bool {
        matches!(self, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div)
    }

    /// The value at one pair of reals.
    #[inline(always)]
    pub fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Max if a.is_nan() => a,
            Binary::Max => max(a, b),
            Binary::Min if a.is_nan() => a,
            Binary::Min => min(a, b),
            Binary::Pow => f64::from(a).powf(f64::from(b)) as f32,
            Binary::Mod => {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            Binary::Fmod => a % b,
        }
    }

    /// The value at one pair of whole numbers; what overflows wraps.
    pub fn apply_whole(self, a: i64, b: i64) -> i64 {
        match self {
            Binary::Add => a.wrapping_add(b),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::Div if b == 0 => 0,
            Binary::Div => a.wrapping_div(b),
            Binary::Max => a.max(b),
            Binary::Min => a.min(b),
            Binary::Pow => u32::try_from(b).map_or(0, |b| a.wrapping_pow(b)),
            Binary::Mod | Binary::Fmod if b == 0 => 0,
            Binary::Mod => {
                let rest = a.wrapping_rem(b);
                if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
            }
            Binary::Fmod => a.wrapping_rem(b),
        }
    }
}

impl OpAttributes for Binary {
    fn name(&self) -> &'static str {
        Binary::NAMES.iter().find(|(op, _)| op == self).map_or("binary", |(_, n)| n)
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        let element = inputs.ty(0).element;
        if element != Element::I64 {
            inputs.all_f32()?;
        } else if inputs.ty(1).element != element {
            return Err(InferError::Element { index: 1, expected: "the same as input 0" });
        }
        Ok(TensorType::new(element, inputs.broadcast(0, 1)?))
    }
}

/// Functions of one real that are evaluated only: no network that compiles holds them between its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// -1, 0 or 1.
    Sign,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
}

impl Function {
    const NAMES: [(Function, &str); 12] = [
        (Function::Sign, "sign"),
        (Function::Sin, "sin"),
        (Function::Cos, "cos"),
        (Function::Tan, "tan"),
        (Function::Asin, "asin"),
        (Function::Acos, "acos"),
        (Function::Atan, "atan"),
        (Function::Sinh, "sinh"),
        (Function::Cosh, "cosh"),
        (Function::Asinh, "asinh"),
        (Function::Acosh, "acosh"),
        (Function::Atanh, "atanh"),
    ];

    /// The function of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Function::NAMES.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }

    /// The value at one real, worked out in f64 and rounded.
    pub fn apply(self, x: f32) -> f32 {
        let x = f64::from(x);
        (match self {
            Function::Sign if x > 0.0 => 1.0,
            Function::Sign if x < 0.0 => -1.0,
            Function::Sign => x * 0.0,
            Function::Sin => x.sin(),
            Function::Cos => x.cos(),
            Function::Tan => x.tan(),
            Function::Asin => x.asin(),
            Function::Acos => x.acos(),
            Function::Atan => x.atan(),
            Function::Sinh => x.sinh(),
            Function::Cosh => x.cosh(),
            Function::Asinh => x.asinh(),
            Function::Acosh => x.acosh(),
            Function::Atanh => x.atanh(),
        }) as f32
    }

    /// The derivative at one real.
    pub fn slope(self, x: f32) -> f32 {
        let x = f64::from(x);
        (match self {
            Function::Sign => 0.0,
            Function::Sin => x.cos(),
            Function::Cos => -x.sin(),
            Function::Tan => 1.0 / (x.cos() * x.cos()),
            Function::Asin => 1.0 / (1.0 - x * x).sqrt(),
            Function::Acos => -1.0 / (1.0 - x * x).sqrt(),
            Function::Atan => 1.0 / (1.0 + x * x),
            Function::Sinh => x.cosh(),
            Function::Cosh => x.sinh(),
            Function::Asinh => 1.0 / (x * x + 1.0).sqrt(),
            Function::Acosh => 1.0 / (x * x - 1.0).sqrt(),
            Function::Atanh => 1.0 / (1.0 - x * x),
        }) as f32
    }
}

impl OpAttributes for Function {
    fn name(&self) -> &'static str {
        Function::NAMES.iter().find(|(op, _)| op == self).map_or("function", |(_, n)| n)
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        Ok(TensorType::f32(inputs.f32(0)?.clone()))
    }
}
