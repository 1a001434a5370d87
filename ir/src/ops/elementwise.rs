//! Element-wise functions of tensors: the unary functions that `catc-scalar` defines, and binary functions.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, AttrValue, Attrs};
use crate::infer::{InferError, Inputs};
use crate::types::{Element, TensorType};
use catc_scalar::{Unary, UncompiledUnary, max, min};

/// The unary function with this name, or `None` if there is none. Its parameters are read from the attributes.
pub(crate) fn read_unary(name: &str, r: &mut AttrReader) -> Result<Option<Unary>, AttrError> {
    Unary::build(name, |key, _| r.float(key)?.ok_or(AttrError::Missing(key)))
}

impl OpAttributes for Unary {
    fn name(&self) -> &'static str {
        (*self).name()
    }

    fn attrs(&self) -> Attrs {
        self.params().into_iter().map(|(k, x)| (k, AttrValue::Float(x))).collect()
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        self.check().map_err(InferError::Attribute)?;
        Ok(TensorType::f32(inputs.f32(0)?.clone()))
    }
}

impl OpAttributes for UncompiledUnary {
    fn name(&self) -> &'static str {
        (*self).name()
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        Ok(TensorType::f32(inputs.f32(0)?.clone()))
    }
}

/// A binary function with numpy broadcasting. It takes f32, or i64, which is evaluated only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`. For integers the quotient is truncated towards zero, and it is 0 if `b` is 0.
    Div,
    /// The larger number. NaN if either is NaN.
    Max,
    /// The smaller number. NaN if either is NaN.
    Min,
    /// `a^b`.
    Pow,
    /// The remainder with the sign of `b`, like `%` in Python.
    Mod,
    /// The remainder with the sign of `a`, like `fmod` in C.
    Fmod,
}

impl Binary {
    /// The functions that are evaluated only, with their names.
    const EVALUATED: [(Binary, &str); 5] = [
        (Binary::Max, "max"),
        (Binary::Min, "min"),
        (Binary::Pow, "pow"),
        (Binary::Mod, "mod"),
        (Binary::Fmod, "fmod"),
    ];

    /// The function with this name.
    pub fn parse(name: &str) -> Option<Self> {
        let evaluated = || Binary::EVALUATED.iter().find(|(_, n)| *n == name).map(|(f, _)| *f);
        catc_scalar::Binary::parse(name).map(Binary::from).or_else(evaluated)
    }

    /// The corresponding function of epilogues and programs. `None` if the function is evaluated only.
    pub fn compiled(self) -> Option<catc_scalar::Binary> {
        match self {
            Binary::Add => Some(catc_scalar::Binary::Add),
            Binary::Sub => Some(catc_scalar::Binary::Sub),
            Binary::Mul => Some(catc_scalar::Binary::Mul),
            Binary::Div => Some(catc_scalar::Binary::Div),
            Binary::Max | Binary::Min | Binary::Pow | Binary::Mod | Binary::Fmod => None,
        }
    }

    /// The value for one pair of f32.
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

    /// The value for one pair of integers. Overflow wraps around.
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

impl From<catc_scalar::Binary> for Binary {
    fn from(f: catc_scalar::Binary) -> Self {
        match f {
            catc_scalar::Binary::Add => Binary::Add,
            catc_scalar::Binary::Sub => Binary::Sub,
            catc_scalar::Binary::Mul => Binary::Mul,
            catc_scalar::Binary::Div => Binary::Div,
        }
    }
}

impl OpAttributes for Binary {
    fn name(&self) -> &'static str {
        match self.compiled() {
            Some(f) => f.name(),
            None => Binary::EVALUATED.iter().find(|(f, _)| f == self).map_or("binary", |(_, n)| n),
        }
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
