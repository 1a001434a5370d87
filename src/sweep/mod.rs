//! Sweeps: every combination of bits, method, seed and correction of one network, compiled, run through its machine code and
//! measured, and what came of it as tables and curves (tables 2, 3 and 5 and figures 3 to 5 of arXiv 2509.26277).
//!
//! [`plan`] says what is measured, [`context`] holds the state that measurements share, [`measure`] makes one network and measures its
//! corrections, [`journal`] remembers across interruptions, [`run()`] drives them; [`summary`], [`tables`], [`curves`] and
//! [`svg`] show the results.

pub mod context;
pub mod curves;
pub mod journal;
pub mod key;
pub mod logits_file;
pub mod measure;
pub mod plan;
mod run;
mod settings;
pub mod summary;
pub mod svg;
pub mod tables;

pub use plan::{Correction, SweepOptions, SweepPlan};
pub use run::{Status, SweepError, file_names, run};
pub use summary::Results;
