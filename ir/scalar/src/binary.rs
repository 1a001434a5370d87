//! The binary functions that can be compiled. Each is an operation of [`Arithmetic`].

use crate::arithmetic::{Arithmetic, Scalar};

/// A function of two f32 values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// All functions.
    pub const ALL: [Binary; 4] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div];

    /// The name in the text form and in listings.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }

    /// The function with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Binary::ALL.into_iter().find(|f| f.name() == name)
    }

    /// Computes the value in the given arithmetic.
    #[inline(always)]
    pub fn value<A: Arithmetic>(self, arithmetic: &mut A, a: A::Real, b: A::Real) -> A::Real {
        match self {
            Binary::Add => arithmetic.add(a, b),
            Binary::Sub => arithmetic.sub(a, b),
            Binary::Mul => arithmetic.mul(a, b),
            Binary::Div => arithmetic.div(a, b),
        }
    }

    /// The value for one pair of numbers.
    #[inline(always)]
    pub fn apply(self, a: f32, b: f32) -> f32 {
        self.value(&mut Scalar, a, b)
    }
}
