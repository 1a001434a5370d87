//! Loads and runs compiled models.
//!
//! A [`Model`] is a model.bin in memory. A [`Session`] holds machine code for it, and the memory and threads of its runs; sessions of one
//! model with the same options share the code. Models and sessions can be shared between threads.
//!
//! ```
//! use catc_runtime::{InputArray, Model, SessionOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use catc_runtime::program::*;
//! # let decl = |dims: &[usize]| TensorDecl {
//! #     name: String::new(), format: Format::F32, dims: dims.to_vec(), layout: Layout::RowMajor,
//! # };
//! # let relu = Epilogue { steps: vec![EpilogueStep::Unary(Unary::Relu)], requantize: None };
//! # let step = Step {
//! #     name: "relu".into(), op: Op::Map { scale: 2.0 }, inputs: vec![TensorId(0)], epilogue: relu, output: TensorId(1),
//! # };
//! # let port = |name: &str, tensor| vec![Port::new(name, TensorId(tensor))];
//! # let program = Program {
//! #     tensors: vec![decl(&[3]), decl(&[3])], inputs: port("x", 0), outputs: port("y", 1), steps: vec![step],
//! #     ..Program::default()
//! # };
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.bin");
//! # program.save(&path)?;
//! let model = Model::open(&path)?;
//! assert_eq!(model.inputs()[0].dims, [3]);
//!
//! let session = model.session(&SessionOptions { threads: 2, ..Default::default() })?;
//! // Two images of three elements; the first dimension is the batch.
//! let x = [1.0, -1.0, 0.5, 3.0, -2.0, 0.0];
//! let outputs = session.run(&[InputArray::f32(&[2, 3], &x)])?;
//! assert_eq!(outputs[0].shape, [2, 3]);
//! assert_eq!(outputs.get("y").and_then(|y| y.as_f32()), Some(&[2.0, 0.0, 1.0, 6.0, 0.0, 0.0][..]));
//! # Ok(())
//! # }
//! ```

mod arrays;
mod cpu;
mod error;
mod model;
mod session;
mod thread_pool;

pub use arrays::{Array, ArrayData, InputArray, InputData, Outputs};
pub use catc_jit::Limits;
pub use catc_kernels::{Tier, clock::cycles_per_second};
pub use catc_program as program;
pub use cpu::{CPU_VARIABLE, CpuError, tier_named, tier_of_environment};
pub use error::{OpenError, RunError, SessionError};
pub use model::{Element, Model, PortInfo};
pub use session::{Layer, LayerPart, Memory, Session, SessionOptions};
