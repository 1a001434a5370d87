//! The program: a list of steps that describes a compiled network independently of the CPU that runs it.
//!
//! The program is the boundary between the compiler and the runtime. The compiler lowers an integer graph to a [`Program`].
//! `model.bin` holds the program and its constants. The runtime generates machine code from it on the machine that runs it.
//!
//! The crate uses no IR type. Its functions come from `catc-scalar`, which the runtime needs as well. `Program::validate` checks
//! everything that a file claims before code is generated from it.

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
