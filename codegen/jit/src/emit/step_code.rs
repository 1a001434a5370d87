//! The code of a step, before it is emitted.

use super::emitter::Emitter;
use crate::storage::RowAccess;
use std::any::Any;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

/// Code of a step: emits the body of its function. What is emitted depends on nothing but the value, so that steps with equal code share a
/// function.
pub(crate) trait StepCode: CodeKey + Debug {
    /// Emits the body.
    fn emit(&self, e: &mut Emitter<'_>);

    /// How the step accesses its tensors, if it can be joined with other steps to run a few work units at a time. These are the rows of its
    /// output then, or parts of the sequence of its pixels.
    fn rows(&self) -> Option<RowAccess> {
        None
    }
}

/// Equality and hash of code whose type is not known. It is implemented for every code type that has both.
pub(crate) trait CodeKey: Any {
    /// Whether the other is of the same type and equal.
    fn is_equal(&self, other: &dyn Any) -> bool;
    /// Hashes type and value.
    fn hash_into(&self, state: &mut dyn Hasher);
    /// Itself.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Any + Eq + Hash> CodeKey for T {
    fn is_equal(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>().is_some_and(|other| self == other)
    }

    fn hash_into(&self, mut state: &mut dyn Hasher) {
        self.type_id().hash(&mut state);
        self.hash(&mut state);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Code of any type. Clones are the same code.
#[derive(Clone, Debug)]
pub(crate) struct SharedCode(Rc<dyn StepCode>);

impl SharedCode {
    pub fn new(code: impl StepCode + 'static) -> SharedCode {
        SharedCode(Rc::new(code))
    }
}

impl Deref for SharedCode {
    type Target = dyn StepCode;

    fn deref(&self) -> &(dyn StepCode + 'static) {
        &*self.0
    }
}

impl PartialEq for SharedCode {
    fn eq(&self, other: &SharedCode) -> bool {
        self.0.is_equal(other.0.as_any())
    }
}

impl Eq for SharedCode {}

impl Hash for SharedCode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_into(state);
    }
}

/// A float that code depends on, compared by its bits: 0 and -0 differ, and a NaN equals itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct F32Bits(u32);

impl F32Bits {
    /// The number.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl From<f32> for F32Bits {
    fn from(value: f32) -> F32Bits {
        F32Bits(value.to_bits())
    }
}
