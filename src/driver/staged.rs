//! A compilation in stages. Several compilations can share the results of a stage: the folded float graph, its calibration, the quantized
//! graph, the program.

use super::compile::CompileError;
use catc_ir::{Graph, ValueId};
use catc_passes::fold_cat::FoldCat;
use catc_passes::range::Observed;
use catc_passes::{
    CalibrationData, Note, ObjectiveChoice, Pass, PassContext, PassError, PassManager, Progress, Recipe, RecipeOptions,
    staged_recipe,
};
use catc_program::{BuildInfo, Program};
use std::collections::BTreeMap;

/// A recipe without a correction of the outputs, run stage by stage.
pub struct StagedCompilation {
    recipe: Recipe,
}

/// A folded float graph with the observed values of its tensors.
pub struct Calibrated {
    graph: Graph,
    activations: BTreeMap<ValueId, Observed>,
}

/// A graph in the qdq phase.
pub struct Quantized {
    /// The graph.
    pub graph: Graph,
    /// What the passes noted.
    pub notes: Vec<Note>,
}

/// The inputs of passes besides the graph.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Calibration data, for what is fitted.
    pub data: &'a dyn CalibrationData,
    /// Seed of everything random.
    pub seed: u64,
    /// Memory for what passes that learn keep of the calibration inputs, in bytes.
    pub max_memory: usize,
    /// Where progress is shown.
    pub progress: &'a dyn Progress,
}

impl<'a> Inputs<'a> {
    fn context(&self) -> PassContext<'a> {
        let mut cx = PassContext::with_calibration(self.data, self.seed);
        cx.progress = self.progress;
        cx.max_memory = self.max_memory;
        // What is measured is the accuracy of a classifier.
        cx.objective = ObjectiveChoice::Logits;
        cx
    }
}

impl StagedCompilation {
    /// The recipe that these options ask for, without a correction of the outputs.
    ///
    /// # Errors
    /// As [`staged_recipe`].
    pub fn new(options: &RecipeOptions) -> Result<StagedCompilation, CompileError> {
        Ok(StagedCompilation { recipe: staged_recipe(&RecipeOptions { cat: false, ..options.clone() })? })
    }

    /// A key for the folded graph: with the model it determines the graph.
    pub fn fold_key(&self) -> String {
        format!("{:?}", self.recipe.fold)
    }

    /// A key for the calibration: with the folded graph and the data it determines the calibration.
    pub fn calibrate_key(&self) -> String {
        format!("{:?}", self.recipe.calibrate)
    }

    /// The float graph as calibration finds it.
    pub fn fold(&self, mut graph: Graph, inputs: Inputs) -> Result<Graph, PassError> {
        PassManager::new().run(&self.recipe.fold, &mut graph, &mut inputs.context())?;
        Ok(graph)
    }

    /// Observes what [`StagedCompilation::fold`] gave.
    pub fn calibrate(&self, mut graph: Graph, inputs: Inputs) -> Result<Calibrated, PassError> {
        let mut cx = inputs.context();
        PassManager::new().run(&self.recipe.calibrate, &mut graph, &mut cx)?;
        Ok(Calibrated { graph, activations: cx.activations })
    }

    /// Quantizes the graph and fits everything but the correction of the outputs.
    pub fn quantize(&self, calibrated: &Calibrated, inputs: Inputs) -> Result<Quantized, PassError> {
        let mut cx = inputs.context();
        cx.activations = calibrated.activations.clone();
        let mut graph = calibrated.graph.clone();
        PassManager::new().run(&self.recipe.quantize, &mut graph, &mut cx)?;
        Ok(Quantized { graph, notes: cx.notes })
    }

    /// Makes a program of a graph in the qdq phase: a quantized network, or a correction alone.
    pub fn lower(&self, mut graph: Graph) -> Result<Program, CompileError> {
        let mut cx = PassContext::empty();
        // A correction alone is a graph as the stage `correct` leaves it before it is folded.
        let fold_cat: Box<dyn Pass> = Box::new(FoldCat);
        PassManager::new().run(&[fold_cat], &mut graph, &mut cx)?;
        PassManager::new().run(&self.recipe.lower, &mut graph, &mut cx)?;
        Ok(catc_codegen::lower(&graph, BuildInfo::default())?)
    }
}
