//! What every kernel emitter is built from: functions and loops, instruction-set specific operations, access to a few
//! neighbouring elements of a buffer, f32 functions, and the epilogue.

pub(crate) mod call;
pub(crate) mod copy;
pub(crate) mod emitter;
pub(crate) mod epilogue;
pub(crate) mod halo;
pub(crate) mod lanes;
pub(crate) mod math;
pub(crate) mod nest;
mod step_code;
pub(crate) mod target;
pub(crate) mod walk;

pub(crate) use step_code::{F32Bits, SharedCode, StepCode};
