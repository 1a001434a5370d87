//! The passes over the IR and the recipes made of them.
//!
//! A [`Pass`] changes a [`catc_ir::Graph`]; a [`PassManager`] runs a list of them and verifies the graph after each.
//! Lists come from text ([`registry::parse_passes`]) or from a recipe ([`recipe()`]).

pub mod append_cat;
pub mod batch_first;
pub mod calibrate;
pub mod canonicalize;
pub mod cat;
pub mod constant_codes;
mod context;
pub mod correct_channels;
pub mod dead_code;
pub mod equalize_channels;
pub mod fold_batch_norm;
pub mod fold_cat;
pub mod fold_constants;
pub mod fold_scales;
pub mod insert_qdq;
pub mod layer_bits;
mod learn;
pub mod lower_integer;
pub mod manager;
pub mod method;
pub mod objective;
pub mod pass;
mod patterns;
pub mod placement;
pub mod range;
pub mod recipe;
pub mod reconstruct;
pub mod reference;
mod refine;
pub mod refine_scales;
pub mod registry;
pub mod renamed;
mod rewrite;
mod rise;
pub mod search_scales;
mod weight_codes;
pub mod whole_as_real;
pub mod work;

pub use context::{
    CalibrationData, DEFAULT_MAX_MEMORY, LossPoint, Note, PassContext, Progress, Samples, Silent, checked_sample,
};
pub use layer_bits::{LayerBits, LayerBitsError, check_layer_bits};
pub use manager::{PassManager, PassReport};
pub use method::{EFFORTS, Effort, METHODS, Method, MethodEntry, UnknownName};
pub use objective::{OBJECTIVES, Objective, ObjectiveChoice};
pub use pass::{BoxError, Changed, Pass, PassError};
pub use recipe::{
    Override, QUANTIZED_RECIPE, Recipe, RecipeError, RecipeOptions, recipe, recipe_passes, recipe_text, staged_recipe,
};
pub use reference::float_reference;
pub use registry::{
    PassEntry, PassOption, PassOptions, RegistryError, parse_passes, pass_help, pass_names, renamed_options,
};
pub use renamed::Renamed;
