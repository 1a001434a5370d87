//! Compiling: model file in, program out.

use super::calibration::{Calibration, CalibrationSource};
use crate::data::DataError;
use catc_ir::{Graph, TensorData};
use catc_passes::{
    LossPoint, Note, PassContext, PassError, PassManager, PassReport, Progress, RecipeError, RecipeOptions, recipe,
};
use catc_program::{BuildInfo, Program};
use std::path::Path;

/// What to compile and how.
pub struct CompileOptions<'a> {
    /// The ONNX file.
    pub model: &'a Path,
    /// Calibration inputs.
    pub calibration: CalibrationSource<'a>,
    /// Method, bits and correction.
    pub recipe: RecipeOptions,
    /// Seed of everything random.
    pub seed: u64,
    /// Bytes of values that passes may keep for their images.
    pub max_memory: usize,
}

/// What came of it.
pub struct Compiled {
    /// The integer graph.
    pub graph: Graph,
    /// The program.
    pub program: Program,
    /// What each pass did.
    pub reports: Vec<PassReport>,
    /// What the passes noted.
    pub notes: Vec<Note>,
    /// The losses of passes that learn.
    pub losses: Vec<LossPoint>,
}

/// Why a network cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The model file.
    #[error(transparent)]
    Import(#[from] catc_onnx::ImportError),
    /// Calibration data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The method or its options.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A pass.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The lowering.
    #[error(transparent)]
    Codegen(#[from] catc_codegen::CodegenError),
}

/// What the caller may watch.
pub struct Watch<'a> {
    /// Called once with what will be done: the imported graph and the opened calibration data.
    pub begin: &'a mut dyn FnMut(&catc_onnx::Imported, &Calibration),
    /// Called after each pass.
    pub after_pass: &'a mut dyn FnMut(&PassReport, &Graph),
    /// Where progress is shown.
    pub progress: &'a dyn Progress,
}

/// Imports, quantizes and lowers a network.
pub fn compile(options: &CompileOptions, watch: Watch) -> Result<Compiled, CompileError> {
    let passes = recipe(&options.recipe)?;
    let imported = catc_onnx::import(options.model, &catc_onnx::ImportOptions::default())?;
    let correct = options.recipe.cat && options.recipe.real_inputs;
    let calibration = Calibration::open(&options.calibration, &imported.graph, correct, options.seed)?;
    (watch.begin)(&imported, &calibration);
    let info = BuildInfo {
        catc_version: env!("CARGO_PKG_VERSION").into(),
        method: options.recipe.method.to_string(),
        weight_bits: options.recipe.wbits,
        activation_bits: options.recipe.abits,
        seed: options.seed,
        calibration: calibration.description.clone(),
        float_bytes: float_bytes(&imported.graph),
    };
    let mut graph = imported.graph;
    let mut cx = PassContext::with_calibration(&calibration.ranges, options.seed);
    cx.cat_data = calibration.correction.as_ref().map(|c| c as &dyn catc_passes::CalibrationData);
    cx.progress = watch.progress;
    cx.max_memory = options.max_memory;
    let reports = PassManager::new().observe(watch.after_pass).run(&passes, &mut graph, &mut cx)?;
    let program = catc_codegen::lower(&graph, info)?;
    Ok(Compiled { graph, program, reports, notes: cx.notes, losses: cx.losses })
}

/// Bytes of the parameters of a float graph.
fn float_bytes(graph: &Graph) -> u64 {
    let used = graph.used_constants();
    let size = |c: &catc_ir::Constant| match c.tensor.data() {
        TensorData::F32(v) => 4 * v.len() as u64,
        _ => 0,
    };
    graph.constants().filter(|(id, _)| used.contains(id)).map(|(_, c)| size(c)).sum()
}
