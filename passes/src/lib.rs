//! The passes over the IR and the recipes made of them.
//!
//! A [`Pass`] changes a [`catc_ir::Graph`]; a [`PassManager`] runs a list of them and verifies the graph after each.
//! Lists come from text ([`registry::parse_passes`]) or from a recipe.

pub mod canonicalize;
pub mod cat;
pub mod context;
pub mod dead_code;
pub mod fold_batch_norm;
pub mod manager;
pub mod pass;
pub mod reference;
pub mod registry;
mod rewrite;

pub use context::{CalibrationData, Note, PassContext, Progress, Samples, Silent, checked_sample};
pub use manager::{PassManager, PassReport};
pub use pass::{BoxError, Changed, Pass, PassError};
pub use reference::float_reference;
pub use registry::{PassEntry, PassOption, PassOptions, RegistryError, parse_passes};
