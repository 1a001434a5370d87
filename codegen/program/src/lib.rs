//! The program: what a compiled network does, step by step, independent of the CPU that will run it.
//!
//! It is the boundary between the compiler and the runtime. The compiler lowers an integer graph to a [`Program`]; the
//! program and its constants are what `model.bin` holds; on the machine that runs it, machine code is made from it. It
//! names no IR type (its functions are those of `catc-scalar`, which the runtime needs too), and whatever a file claims is checked by `Program::validate` before code is made from it.

pub mod codes;
pub mod epilogue;
pub mod file;
mod listing;
pub mod program;
pub mod step;
pub mod tensor;
pub mod tuning;
pub mod validate;

pub use catc_scalar::{Binary, Unary};
pub use codes::{CodeError, PackedCodes};
pub use epilogue::{Epilogue, EpilogueStep, Operand};
pub use file::{FormatError, LoadError, MAGIC, SaveError};
pub use program::{BuildInfo, ConstantId, Port, Program, Range};
pub use step::{Geometry, Op, Step};
pub use tensor::{Constant, ConstantData, Format, Layout, TensorDecl, TensorId};
pub use tuning::{TunedLayer, Tuning};
pub use validate::{InvalidProgram, Violation};
