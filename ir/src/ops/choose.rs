//! Comparison, choice and conversion between kinds of elements. Evaluated only: what networks compute with them from
//! shapes and masks is constant before anything compiles.

use super::OpAttributes;
use super::attrs::Attrs;
use crate::infer::{InferError, Inputs};
use crate::types::{Element, TensorType};

/// A comparison of two numbers or a function of two truth values, with numpy broadcasting, that gives a truth value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `a == b`, of truth values too.
    Equal,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterEqual,
    /// Both, of truth values.
    And,
    /// One or both, of truth values.
    Or,
    /// Just one, of truth values.
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

    /// The function of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Compare::NAMES.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
    }

    /// The value at two numbers, or at two truth values as 0 and 1.
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

/// `condition ? a : b`, element by element with numpy broadcasting: inputs condition (truth values), a and b of one element.
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

/// What a [`Cast`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastTo {
    /// Reals.
    F32,
    /// Whole numbers; reals are cut towards zero.
    I64,
    /// Truth values: what is not 0.
    Bool,
}

/// The same values as another kind of element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// What it gives.
    pub to: CastTo,
}

impl Cast {
    /// The cast of this name: `cast_f32`, `cast_i64`, `cast_bool`.
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
