//! Compiling: model file in, program out.

use super::calibration::{Calibration, CalibrationSource};
use super::preflight;
use crate::data::DataError;
use catc_ir::{Graph, Phase, TensorData};
use catc_onnx::Imported;
use catc_passes::{
    LossPoint, Note, ObjectiveChoice, PassContext, PassError, PassManager, PassReport, Progress, QUANTIZED_RECIPE,
    RecipeError, RecipeOptions, parse_passes, recipe,
};
use catc_program::{BuildInfo, Program};
use std::collections::BTreeSet;
use std::path::Path;

/// What to compile and how.
pub struct CompileOptions<'a> {
    /// The ONNX file.
    pub model: &'a Path,
    /// Sizes for inputs whose dimensions the file leaves open, by the input's name.
    pub shapes: &'a [(String, Vec<usize>)],
    /// Calibration inputs.
    pub calibration: CalibrationSource<'a>,
    /// Method, bits and correction.
    pub recipe: RecipeOptions,
    /// How outputs are compared with the float network's.
    pub objective: ObjectiveChoice,
    /// Seed of everything random.
    pub seed: u64,
    /// Memory for the values that passes keep of the calibration inputs, in bytes.
    pub max_memory: usize,
}

/// A compiled network, with what the passes reported.
#[non_exhaustive]
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
#[non_exhaustive]
pub enum CompileError {
    /// The model file.
    #[error(transparent)]
    Import(#[from] catc_onnx::ImportError),
    /// Bits of single layers were given for a network that is quantized already.
    #[error(
        "{0} is quantized already, and its layers have the bits of the file: leave out --layer-bits and --keep-float"
    )]
    Quantized(String),
    /// A node computes a new scale for each input.
    #[error(
        "{model}: node {node:?} (DynamicQuantizeLinear) finds its scale in each input, which no compiled network does: compile the \
         network it was made from, which is in float, or one quantized with fixed scales (static quantization)"
    )]
    DynamicQuantizer {
        /// The file.
        model: String,
        /// The node.
        node: String,
    },
    /// Calibration data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Bits of single layers.
    #[error(transparent)]
    Layers(#[from] catc_passes::LayerBitsError),
    /// The method or its options.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A pass.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The lowering.
    #[error(transparent)]
    Codegen(#[from] catc_codegen::CodegenError),
    /// Several of these.
    #[error("{}", preflight::listed(&.0.iter().map(|p| p.to_string()).collect::<Vec<_>>()))]
    Several(Vec<CompileError>),
}

/// What a compilation tells its caller as it goes.
pub struct CompileObserver<'a> {
    /// Called once with the imported network, before the checks that may refuse it.
    pub imported: &'a mut dyn FnMut(&Imported),
    /// Called once before the passes run: with the opened calibration data, or with `None` for a network that is quantized already.
    pub begin: &'a mut dyn FnMut(Option<&Calibration>),
    /// Called after each pass.
    pub after_pass: &'a mut dyn FnMut(&PassReport, &Graph),
    /// Where progress is shown.
    pub progress: &'a dyn Progress,
}

/// Imports, quantizes and lowers a network. One that is quantized already keeps its scales.
pub fn compile(options: &CompileOptions, observer: CompileObserver) -> Result<Compiled, CompileError> {
    let import =
        catc_onnx::ImportOptions { shapes: options.shapes.to_vec(), memory: options.max_memory, ..Default::default() };
    let mut imported = catc_onnx::import(options.model, &import)?;
    (observer.imported)(&imported);
    if let Some(node) = imported.dynamic_quantizer {
        return Err(CompileError::DynamicQuantizer { model: options.model.display().to_string(), node });
    }
    if imported.graph.phase == Phase::Qdq {
        return compile_quantized(options, imported, observer);
    }
    let passes = recipe(&options.recipe)?;
    let calibration = preflight::check(options, &imported)?;
    (observer.begin)(Some(&calibration));
    let info = BuildInfo {
        catc_version: env!("CARGO_PKG_VERSION").into(),
        method: options.recipe.method.to_string(),
        weight_bits: options.recipe.wbits,
        activation_bits: options.recipe.abits,
        seed: options.seed,
        calibration: calibration.description.clone(),
        float_bytes: float_bytes(&imported.graph),
        layer_bits: options.recipe.layers.iter().map(|l| l.to_string()).collect(),
    };
    let mut graph = std::mem::replace(&mut imported.graph, Graph::new(""));
    let mut cx = PassContext::with_calibration(&calibration.ranges, options.seed);
    cx.cat_data = calibration.correction.as_ref().map(|c| c as &dyn catc_passes::CalibrationData);
    cx.progress = observer.progress;
    cx.max_memory = options.max_memory;
    cx.objective = options.objective;
    let reports = PassManager::new().observe(observer.after_pass).run(&passes, &mut graph, &mut cx)?;
    let program = lowered(&graph, info, &imported)?;
    Ok(Compiled { graph, program, reports, notes: cx.notes, losses: cx.losses })
}

/// The program of an integer graph. The ranges of its integer inputs are limited to those of the types in the model's file.
fn lowered(graph: &Graph, info: BuildInfo, imported: &Imported) -> Result<Program, CompileError> {
    let mut program = catc_codegen::lower(graph, info).map_err(|e| preflight::named(e, imported))?;
    for (port, whole) in program.inputs.iter_mut().zip(&imported.whole) {
        if let (Some(range), Some(whole)) = (&mut port.range, whole) {
            range.low = range.low.max(i32::try_from(whole.low).unwrap_or(i32::MIN));
            range.high = range.high.min(i32::try_from(whole.high).unwrap_or(i32::MAX));
        }
    }
    Ok(program)
}

/// Lowers a network that the file holds quantized.
fn compile_quantized(
    options: &CompileOptions,
    mut imported: Imported,
    observer: CompileObserver,
) -> Result<Compiled, CompileError> {
    if !options.recipe.layers.is_empty() {
        return Err(CompileError::Quantized(options.model.display().to_string()));
    }
    (observer.begin)(None);
    let mut graph = std::mem::replace(&mut imported.graph, Graph::new(""));
    let float_bytes = float_bytes(&graph);
    let passes = parse_passes(QUANTIZED_RECIPE).map_err(RecipeError::from)?;
    let mut cx = PassContext::empty();
    cx.progress = observer.progress;
    let reports = PassManager::new().observe(observer.after_pass).run(&passes, &mut graph, &mut cx)?;
    // The widest of each kind.
    let bits = |weights: bool| {
        let constants: BTreeSet<_> =
            graph.used_constants().into_iter().filter_map(|c| graph.constant(c).element.quantizer()).collect();
        let used = graph.used_quantizers().into_iter().filter(|q| constants.contains(q) == weights);
        used.map(|q| graph.quantizer(q).format.bits()).max().unwrap_or(32)
    };
    let info = BuildInfo {
        catc_version: env!("CARGO_PKG_VERSION").into(),
        method: "of the file".into(),
        weight_bits: bits(true),
        activation_bits: bits(false),
        seed: options.seed,
        calibration: "none: quantized in the file".into(),
        float_bytes,
        layer_bits: vec![],
    };
    let program = lowered(&graph, info, &imported)?;
    Ok(Compiled { graph, program, reports, notes: cx.notes, losses: cx.losses })
}

/// Bytes of the parameters of a graph as f32.
fn float_bytes(graph: &Graph) -> u64 {
    let used = graph.used_constants();
    let size = |c: &catc_ir::Constant| match c.tensor.data() {
        TensorData::F32(v) => 4 * v.len() as u64,
        TensorData::Code(v) => 4 * v.len() as u64,
        _ => 0,
    };
    graph.constants().filter(|(id, _)| used.contains(id)).map(|(_, c)| size(c)).sum()
}
