//! The unary functions of epilogue steps, on vectors.

use super::ProgramStep;
use super::function::visit_unary;
use crate::vector::Vector;
use catc_scalar::{UnaryFunction, Visitor};

/// Applies the unary function of a step to every lane of the vectors.
#[inline(always)]
pub(super) fn apply_unary<V: Vector>(v: V, step: &ProgramStep, values: &mut [V::Real; 4]) {
    visit_unary(step, EveryLane { v, values });
}

struct EveryLane<'a, V: Vector> {
    v: V,
    values: &'a mut [V::Real],
}

impl<V: Vector> Visitor for EveryLane<'_, V> {
    type Output = ();

    #[inline(always)]
    fn visit<F: UnaryFunction>(mut self, function: F) {
        for value in self.values {
            *value = function.value(&mut self.v, *value);
        }
    }
}

/// Applies the unary function of a step to every lane, if its code is short; else returns false.
#[inline(always)]
pub(super) fn apply_short_unary<V: Vector>(v: V, step: &ProgramStep, values: &mut [V::Real]) -> bool {
    visit_unary(step, IfShort(EveryLane { v, values })) == Some(true)
}

struct IfShort<'a, V: Vector>(EveryLane<'a, V>);

impl<V: Vector> Visitor for IfShort<'_, V> {
    type Output = bool;

    #[inline(always)]
    fn visit<F: UnaryFunction>(self, function: F) -> bool {
        if F::IS_SHORT {
            self.0.visit(function);
        }
        F::IS_SHORT
    }
}
