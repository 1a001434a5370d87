//! The code of a step, before it is emitted.

use super::emitter::Emitter;
use crate::storage::RowAccess;
use std::fmt::Debug;

/// Code of a step: emits the body of its function. Equal `Debug` texts mean equal code, so that layers of one shape share a
/// function.
pub(crate) trait StepCode: Debug {
    /// Emits the body.
    fn emit(&self, e: &mut Emitter<'_>);

    /// How the step reaches its tensors, if its work units are the rows of its output and it may be done with other steps some rows
    /// at a time.
    fn rows(&self) -> Option<RowAccess> {
        None
    }
}
