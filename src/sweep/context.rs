//! The state that the measurements of a sweep share: the imported network, the opened data, hashes, and for each division of the calibration
//! inputs the folded float graph, its calibrations and its logits, each computed when it is first needed.

use super::key::{self, Key};
use super::plan::{Network, SweepOptions};
use super::run::SweepError;
use crate::data::{DataSet, Preprocess, read_labels};
use crate::driver::{Calibrated, Calibration, CalibrationSource, Inputs, OpenModel, StagedCompilation};
use catc_ir::{Graph, ValueId};
use catc_onnx::WholeType;
use catc_passes::objective::{class_scores, evaluate_rows};
use catc_passes::{CalibrationData, Progress};
use nalgebra::DMatrix;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Shared state of a sweep.
pub struct SweepContext<'a> {
    /// What is swept.
    pub options: &'a SweepOptions,
    /// Test inputs, one set for each input of the network.
    pub test: Vec<DataSet>,
    /// Their labels.
    pub labels: Vec<usize>,
    /// What every key holds: program, model, preprocessing, data.
    network_key: Key,
    test_key: Key,
    graph: Graph,
    whole: Vec<Option<WholeType>>,
    preprocess: Option<Preprocess>,
    divisions: Mutex<BTreeMap<u64, Arc<Division>>>,
}

/// The calibration inputs as one seed divides them, and the results computed from them.
pub struct Division {
    /// The inputs.
    pub calibration: Calibration,
    folded: Mutex<BTreeMap<String, Arc<Folded>>>,
    calibrated: Mutex<BTreeMap<String, Arc<Calibrated>>>,
}

/// The folded float graph.
pub struct Folded {
    /// The graph.
    pub graph: Graph,
    /// Its logits, or why it has none.
    pub logits: Result<ValueId, String>,
    /// Their values on the images for the correction.
    float: Mutex<Option<Arc<DMatrix<f64>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> SweepContext<'a> {
    /// Opens model and data.
    pub fn open(options: &'a SweepOptions) -> Result<SweepContext<'a>, SweepError> {
        let read = |path: &std::path::Path| {
            key::of_file(path).map_err(|error| SweepError::File { path: path.display().to_string(), error })
        };
        // How much is kept decides how many inputs are used.
        let memory = options.max_memory as u64;
        let preprocess = options.preprocess.as_deref().map(Preprocess::from_file).transpose()?;
        let model = OpenModel::open(&options.model, options.threads, None, &[], Some(options.max_memory))?;
        let (_, classes) = model.scores(None)?;
        let test = DataSet::open_inputs(&options.data, preprocess.as_ref(), model.inputs())?;
        let labels = read_labels(&options.labels, &test[0], classes)?;
        let calib = DataSet::open_inputs(&options.calib, preprocess.as_ref(), model.inputs())?;
        let import = catc_onnx::ImportOptions { memory: options.max_memory, ..Default::default() };
        let imported = catc_onnx::import(&options.model, &import).map_err(crate::driver::ModelError::from)?;
        let build = key::of_build().map_err(|error| SweepError::File { path: "this program".into(), error })?;
        let mut network_key = Key::default()
            .with_number(memory)
            .with(build)
            .with(key::of_graph(&imported.graph))
            .with(key::of_data(&calib)?)
            .with_number(options.limit.unwrap_or(calib[0].len()) as u64);
        if let Some(path) = &options.preprocess {
            network_key = network_key.with(read(path)?);
        }
        network_key = match &options.cat_data {
            Some(path) => {
                let sets = DataSet::open_inputs(path, preprocess.as_ref(), model.inputs())?;
                network_key.with("cat data").with(key::of_data(&sets)?)
            }
            None => network_key.with_number(if options.plan.corrects() { options.holdout as u64 } else { 0 }),
        };
        let test_key = Key::default().with(key::of_data(&test)?).with(read(&options.labels)?);
        let divisions = Mutex::default();
        Ok(SweepContext {
            options,
            test,
            labels,
            network_key,
            test_key,
            graph: imported.graph,
            whole: imported.whole,
            preprocess,
            divisions,
        })
    }

    /// The key of the float network's result.
    pub fn float_key(&self) -> Key {
        self.network_key.clone().with(self.test_key.text()).with("float")
    }

    /// The key of a network's logits.
    pub fn logits_key(&self, network: &Network) -> Key {
        let recipe = catc_passes::recipe_text(&network.recipe);
        self.network_key.clone().with(self.test_key.text()).with(recipe).with_number(network.seed)
    }

    /// The calibration inputs for a seed. Where none are held out and all are used, all seeds share one division.
    pub fn division(&self, seed: u64) -> Result<Arc<Division>, SweepError> {
        let holdout = self.options.plan.corrects() && self.options.cat_data.is_none() && self.options.holdout > 0;
        let seed = if holdout || self.options.limit.is_some() { seed } else { 0 };
        let mut divisions = lock(&self.divisions);
        if let Some(found) = divisions.get(&seed) {
            return Ok(found.clone());
        }
        let source = CalibrationSource {
            path: Some(&self.options.calib),
            preprocess: self.preprocess.as_ref(),
            limit: self.options.limit,
            correction: self.options.cat_data.as_deref(),
            holdout: self.options.holdout,
        };
        let calibration = Calibration::open(&source, &self.graph, &self.whole, self.options.plan.corrects(), seed)?;
        let division = Division { calibration, folded: Mutex::default(), calibrated: Mutex::default() };
        Ok(divisions.entry(seed).or_insert(Arc::new(division)).clone())
    }

    /// The folded float graph of a compilation.
    pub fn folded(
        &self,
        division: &Division,
        compilation: &StagedCompilation,
        inputs: Inputs,
    ) -> Result<Arc<Folded>, SweepError> {
        let mut all = lock(&division.folded);
        if let Some(found) = all.get(&compilation.fold_key()) {
            return Ok(found.clone());
        }
        let graph = compilation.fold(self.graph.clone(), inputs).map_err(crate::driver::CompileError::from)?;
        let logits = class_scores(&graph);
        let folded = Arc::new(Folded { graph, logits, float: Mutex::default() });
        Ok(all.entry(compilation.fold_key()).or_insert(folded).clone())
    }

    /// The calibrated graph of a compilation.
    pub fn calibrated(
        &self,
        division: &Division,
        folded: &Folded,
        compilation: &StagedCompilation,
        inputs: Inputs,
    ) -> Result<Arc<Calibrated>, SweepError> {
        let key = compilation.fold_key() + &compilation.calibrate_key();
        let mut all = lock(&division.calibrated);
        if let Some(found) = all.get(&key) {
            return Ok(found.clone());
        }
        let calibrated =
            compilation.calibrate(folded.graph.clone(), inputs).map_err(crate::driver::CompileError::from)?;
        Ok(all.entry(key).or_insert(Arc::new(calibrated)).clone())
    }
}

impl Folded {
    /// The float logits on the images for the correction, `C x N`.
    pub fn float_logits(
        &self,
        logits: ValueId,
        data: &dyn CalibrationData,
        progress: &dyn Progress,
    ) -> Result<Arc<DMatrix<f64>>, SweepError> {
        let mut float = lock(&self.float);
        if let Some(found) = &*float {
            return Ok(found.clone());
        }
        let found = evaluate_rows(&self.graph, logits, data, "append-cat", progress);
        let found = Arc::new(found.map_err(crate::driver::CompileError::from)?);
        *float = Some(found.clone());
        Ok(found)
    }
}
