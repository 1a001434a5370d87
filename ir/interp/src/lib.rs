//! The reference evaluator of the IR: what every operation of [`catc_ir::ops`] means, run on the CPU.
//!
//! [`Interpreter`] evaluates a graph of any phase. The float and qdq phases use a GEMM crate and are fast enough to
//! calibrate on. In the integer phase results are exact: sums of codes are integers, and the f32 operations that are left
//! follow [`catc_scalar`], so that generated code can be compared bit for bit.
//!
//! Every image of a batch is computed as if it were alone, on one thread; [`images`] spreads images over threads. Results
//! therefore do not depend on the number of threads, nor on the batch an image is part of.

mod batch_tape;
mod broadcast;
mod buffers;
mod call;
mod depthwise;
mod error;
mod evaluator;
mod gemm;
mod im2col;
pub mod images;
mod interpreter;
pub mod metrics;
mod ops;
mod plan;
mod run;
mod shifted;
mod strips;
mod tape;
mod tiles;
mod winograd;

pub use batch_tape::BatchTape;
pub use error::EvalError;
pub use evaluator::{Evaluator, Observer};
pub use interpreter::Interpreter;
pub use tape::{Gradients, Tape, Wrt};
