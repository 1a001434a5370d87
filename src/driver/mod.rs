//! The driver: the only place that names every stage.

mod calibration;
mod compile;
mod inputs;
mod model;
mod preflight;
mod steps;

pub use calibration::{Calibration, CalibrationSource, SampleSet};
pub use compile::{CompileError, CompileOptions, Compiled, Watch, compile};
pub use inputs::{input_specs, port_spec};
pub use model::{ModelError, OpenModel, array_of, input_array, is_compiled, limits};
pub use preflight::listed;
pub use steps::{Calibrated, Inputs, Quantized, Steps};
