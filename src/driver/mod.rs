//! The driver: the only place that names every stage.

mod calibration;
mod compile;
mod inputs;
mod model;
mod preflight;
mod staged;

pub use calibration::{Calibration, CalibrationSource, SampleSet};
pub use compile::{CompileError, CompileObserver, CompileOptions, Compiled, compile};
pub use inputs::{input_specs, port_spec};
pub use model::{ModelError, OpenModel, array_of, input_array, is_compiled, limits};
pub use preflight::listed;
pub use staged::{Calibrated, Inputs, Quantized, StagedCompilation};
