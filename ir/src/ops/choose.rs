//! Comparison, selection and conversion of element types. Comparison and selection are evaluated only: networks use them on
//! shapes and masks, where they are folded to constants before compilation.

use super::OpAttributes;
use super::attrs::Attrs;
use crate::infer::{InferError, Inputs};
use crate::types::{Element, TensorType};

/// A comparison of two numbers, or a function of two booleans, with numpy broadcasting. The result is a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `a == b`, for numbers or booleans.
    Equal,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterEqual,
    /// Logical and.
    And,
    /// Logical or.
    Or,
    /// Logical exclusive or.
    Xor,
}

impl Compare {
    const NAMES: [(Compare, &str); 8] = [
        (Compare::Equal, "equal"),
        (Compare::Less, "less"),
        (Compare::LessEqual, "less_equal"),
        (Compare::Greater, "greater"),
        (Compare::GreaterEqual, "greater_equal"),
        (Compare::And, "and"),
        (Compare::Or, "or"),
        (Compare::Xor, "xor"),
    ];

    /// The function with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Compare::NAMES.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }

    /// The value for two numbers, or for two booleans given as 0 and 1.
    #[inline(always)]
    pub fn apply<T: PartialOrd>(self, a: T, b: T, zero: T) -> bool {
        match self {
            Compare::Equal => a == b,
            Compare::Less => a < b,
            Compare::LessEqual => a <= b,
            Compare::Greater => a > b,
            Compare::GreaterEqual => a >= b,
            Compare::And => a != zero && b != zero,
            Compare::Or => a != zero || b != zero,
            Compare::Xor => (a != zero) != (b != zero),
        }
    }
}

impl OpAttributes for Compare {
    fn name(&self) -> &'static str {
        Compare::NAMES.iter().find(|(op, _)| op == self).map_or("compare", |(_, n)| n)
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        let logic = matches!(self, Compare::And | Compare::Or | Compare::Xor);
        match inputs.ty(0).element {
            Element::Bool if logic || *self == Compare::Equal => {}
            Element::F32 | Element::I64 if !logic => {}
            _ if logic => return Err(InferError::Element { index: 0, expected: "bool" }),
            _ => return Err(InferError::Element { index: 0, expected: "f32 or i64" }),
        }
        if inputs.ty(1).element != inputs.ty(0).element {
            return Err(InferError::Element { index: 1, expected: "the same as input 0" });
        }
        Ok(TensorType::new(Element::Bool, inputs.broadcast(0, 1)?))
    }
}

/// `condition ? a : b`, element by element with numpy broadcasting. The inputs are a boolean condition, and a and b with the same
/// element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where;

impl OpAttributes for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(3, 3, "3")?;
        if inputs.ty(0).element != Element::Bool {
            return Err(InferError::Element { index: 0, expected: "bool" });
        }
        let element = inputs.ty(1).element;
        if element.quantizer().is_some() || inputs.ty(2).element != element {
            return Err(InferError::Element { index: 2, expected: "the same as input 1, and no codes" });
        }
        let both = inputs.broadcast(1, 2)?;
        let shape = inputs.shape(0).broadcast(&both);
        let shape = shape.ok_or_else(|| inputs.bad_shape(0, format!("one that broadcasts with {both}")))?;
        Ok(TensorType::new(element, shape))
    }
}

/// The element type that a [`Cast`] produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastTo {
    /// f32.
    F32,
    /// i64. f32 values are truncated towards zero.
    I64,
    /// Booleans. Every value except 0 is true.
    Bool,
}

/// Conversion to another element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The element type of the output.
    pub to: CastTo,
}

impl Cast {
    /// The cast with this name: `cast_f32`, `cast_i64` or `cast_bool`.
    pub fn parse(name: &str) -> Option<Self> {
        let to = match name {
            "cast_f32" => CastTo::F32,
            "cast_i64" => CastTo::I64,
            "cast_bool" => CastTo::Bool,
            _ => return None,
        };
        Some(Cast { to })
    }
}

impl OpAttributes for Cast {
    fn name(&self) -> &'static str {
        match self.to {
            CastTo::F32 => "cast_f32",
            CastTo::I64 => "cast_i64",
            CastTo::Bool => "cast_bool",
        }
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        if inputs.ty(0).element.quantizer().is_some() {
            return Err(InferError::Element { index: 0, expected: "f32, i64 or bool" });
        }
        let element = match self.to {
            CastTo::F32 => Element::F32,
            CastTo::I64 => Element::I64,
            CastTo::Bool => Element::Bool,
        };
        Ok(TensorType::new(element, inputs.shape(0).clone()))
    }
}
