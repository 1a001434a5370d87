//! The driver: the only place that names every stage.

mod calibration;
mod compile;
mod model;
mod steps;

pub use calibration::{Calibration, CalibrationSource, SampleSet};
pub use compile::{CompileError, CompileOptions, Compiled, Watch, compile};
pub use model::{ModelError, OpenModel, is_compiled};
pub use steps::{Calibrated, Inputs, Quantized, Steps};
