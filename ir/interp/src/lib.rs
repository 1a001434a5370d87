//! The reference evaluator of the IR. It defines what every operation of [`catc_ir::ops`] computes, and runs on the CPU.
//!
//! [`Interpreter`] evaluates graphs of any phase. In the float and qdq phases it is fast enough for calibration. In the integer
//! phase its results are exact: sums of codes are integers, and the remaining f32 operations follow [`catc_scalar`], so generated
//! code can be compared bit for bit.
//!
//! Every image of a batch is computed separately and on one thread. [`images`] distributes images over threads. Results therefore
//! depend neither on the number of threads nor on the other images of the batch.

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
