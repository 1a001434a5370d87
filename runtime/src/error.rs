//! Errors of three kinds: of opening a model, of opening a session for it, and of a run.

use catc_jit::JitError;
use catc_program::{FormatError, InvalidProgram, LoadError};

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be read, or is no valid model.bin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The bytes are no valid model.bin.
    #[error("cannot load the model: {0}")]
    Format(#[from] FormatError),
    /// The program is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidProgram),
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The model could not be compiled to machine code.
    #[error("cannot compile the model for this CPU: {0}")]
    Compile(#[from] JitError),
    /// `CATC_CPU` names an instruction set that does not exist, or that this CPU lacks.
    #[error("environment variable CATC_CPU: {0}")]
    Cpu(#[from] crate::CpuError),
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {message}. Ask for fewer")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        message: String,
    },
}

/// Why a run failed. It gives no outputs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The number of arrays is not the number of the model's inputs.
    #[error("{found} input arrays were given, the model takes {}: {}", .expected.len(), .expected.join(", "))]
    InputCount {
        /// The names of the inputs.
        expected: Vec<String>,
        /// How many were given.
        found: usize,
    },
    /// The shape of an array is not that of its input.
    #[error("input {name:?} has shape {found:?}, the model takes [batch, {}] with a batch of at least 1", join(.expected))]
    InputShape {
        /// The input.
        name: String,
        /// Its dimensions for one image.
        expected: Vec<usize>,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// An array does not hold as many elements as its shape says.
    #[error("input {name:?} has shape {shape:?} but {found} elements")]
    InputLength {
        /// The input.
        name: String,
        /// The shape that was given.
        shape: Vec<usize>,
        /// How many elements were given.
        found: usize,
    },
    /// The array holds f32 values where the input takes indices, or the reverse.
    #[error("input {name:?} takes {expected}")]
    InputElement {
        /// The input.
        name: String,
        /// What it takes.
        expected: &'static str,
    },
    /// An index is outside of its table, or a number outside of the range of the input's type.
    #[error("input {name:?} holds {number} in image {image} (from 0); it takes whole numbers from {low} to {high}")]
    Range {
        /// The input.
        name: String,
        /// The image, from 0.
        image: usize,
        /// The number.
        number: i32,
        /// The least number it takes.
        low: i32,
        /// The greatest number it takes.
        high: i32,
    },
    /// Two inputs hold different numbers of images.
    #[error("input {name:?} holds {found} images, the first input {expected}")]
    Batch {
        /// The input.
        name: String,
        /// Images in the first input.
        expected: usize,
        /// Images in this one.
        found: usize,
    },
    /// The memory for an output could not be allocated.
    #[error("no memory for output {name:?} of {batch} images: run fewer at a time")]
    Memory {
        /// The output.
        name: String,
        /// The number of images in the batch.
        batch: usize,
    },
    /// The compiled program could not be run.
    #[error(transparent)]
    Execute(#[from] JitError),
}

fn join(dims: &[usize]) -> String {
    dims.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}
