//! What passes share: calibration data, the float graph to compare with, the seed, progress and notes.

use crate::objective::{Objective, ObjectiveChoice};
use crate::pass::{BoxError, Changed, PassError};
use crate::range::Observed;
use catc_ir::{Graph, Tensor, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Inputs to calibrate on. Passes ask for samples in any order, from several threads, and more than once.
pub trait CalibrationData: Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `index` (from 0): one tensor for each input of the network, in order, each with a batch of 1.
    fn sample(&self, index: usize) -> Result<Vec<Tensor>, BoxError>;
}

/// Calibration samples held in memory.
#[derive(Clone, Debug, Default)]
pub struct Samples(pub Vec<Vec<Tensor>>);

impl CalibrationData for Samples {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn sample(&self, index: usize) -> Result<Vec<Tensor>, BoxError> {
        let count = self.0.len();
        self.0.get(index).cloned().ok_or_else(|| format!("there are only {count} samples").into())
    }
}

/// Where passes report how far they are. Called from several threads.
pub trait Progress: Sync {
    /// A piece of work of `total` steps begins.
    fn start(&self, what: &str, total: u64);
    /// `steps` more steps are done.
    fn advance(&self, steps: u64);
    /// Announces that the piece of work will take about this many multiply-adds in all. Called before it begins, if that is known.
    fn expect(&self, _what: &str, _multiply_adds: f64) {}
    /// A few words on its progress, such as the current loss.
    fn status(&self, _text: &str) {}
    /// The piece of work is done.
    fn finish(&self);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
}

/// Something the user should know: a layer left in float, a correction that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// The pass that says it.
    pub pass: &'static str,
    /// What it says.
    pub text: String,
}

/// Bytes of values that a pass may keep between steps unless told otherwise.
pub const DEFAULT_MAX_MEMORY: usize = 4 << 30;

/// The losses of one step of a pass that learns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LossPoint {
    /// The pass.
    pub pass: &'static str,
    /// The unit it learns, from 1; 0 if it learns the whole network.
    pub unit: usize,
    /// The step, from 0.
    pub step: usize,
    /// The unit's own error, the divergence at the network's output, the regularizer; 0 where a pass has none, or did not compute it.
    pub losses: [f64; 3],
}

/// What a run of passes shares.
pub struct PassContext<'a> {
    /// Calibration data for ranges and refinements.
    pub calibration: Option<&'a dyn CalibrationData>,
    /// Calibration data for the cluster-wise affine correction.
    pub cat_data: Option<&'a dyn CalibrationData>,
    /// What `calibrate` observed of the tensors that will be quantized, by their value in the graph of that time.
    pub activations: BTreeMap<ValueId, Observed>,
    /// The float graph as it was before quantizers came in; set by the manager. Its values and inputs have the numbers
    /// they have in the quantized graph.
    pub reference: Option<Graph>,
    /// How the network's outputs are compared with the float network's.
    pub objective: ObjectiveChoice,
    /// The objective that was found, or why there is none.
    decided: Option<Result<Arc<Objective>, String>>,
    /// The seed of everything random.
    pub seed: u64,
    /// Where progress is shown.
    pub progress: &'a dyn Progress,
    /// What was noted so far.
    pub notes: Vec<Note>,
    /// Losses of the passes that learn, in order. Long runs do not record every step.
    pub losses: Vec<LossPoint>,
    /// Bytes of values that a pass may keep for its images. It uses fewer images if they do not fit.
    pub max_memory: usize,
    /// The pass that runs; set by the manager.
    pub(crate) pass: &'static str,
}

impl PassContext<'static> {
    /// A context without data, seed 0 and no progress shown.
    pub fn empty() -> Self {
        PassContext {
            calibration: None,
            cat_data: None,
            activations: BTreeMap::new(),
            reference: None,
            objective: ObjectiveChoice::Auto,
            decided: None,
            seed: 0,
            progress: &Silent,
            notes: vec![],
            losses: vec![],
            max_memory: DEFAULT_MAX_MEMORY,
            pass: "",
        }
    }
}

impl<'a> PassContext<'a> {
    /// A context with this calibration data and seed.
    pub fn with_calibration(calibration: &'a dyn CalibrationData, seed: u64) -> Self {
        PassContext { calibration: Some(calibration), seed, ..PassContext::empty() }
    }

    /// Notes something for the user, under the name of the pass that runs.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(Note { pass: self.pass, text: text.into() });
    }

    /// Notes that the pass does nothing: `what` is not done, for this reason. Returns what the pass then returns.
    pub(crate) fn skip(&mut self, what: &str, reason: impl Into<String>) -> Result<Changed, PassError> {
        let reason = reason.into();
        self.note(format!("{what}: {reason}"));
        Ok(Changed::No(reason))
    }

    /// The calibration data, or an error that says how to give some. Not empty.
    pub fn require_calibration(&self) -> Result<&'a dyn CalibrationData, PassError> {
        match self.calibration {
            Some(data) if !data.is_empty() => Ok(data),
            Some(_) => Err(PassError::missing(self.pass, "at least one calibration sample; the set given is empty")),
            None => {
                let what = "calibration data: give some with --calib (an .npy or .npz file, or a folder of images)";
                Err(PassError::missing(self.pass, what))
            }
        }
    }

    /// The float graph that the quantized one should match, or an error.
    pub fn require_reference(&self) -> Result<&Graph, PassError> {
        let what = "the float graph: run it on a graph that holds quantize and dequantize nodes";
        self.reference.as_ref().ok_or_else(|| PassError::missing(self.pass, what))
    }

    /// The objective that compares the outputs of `graph` with the float network's, or why there is none (a sentence fragment). It is chosen
    /// once for all passes, from the float graph and the calibration set; the first call notes it for the user.
    ///
    /// # Errors
    /// If there is no float graph, if it cannot be evaluated, or if no output is what [`PassContext::objective`] says.
    pub(crate) fn objective_of(&mut self, graph: &Graph) -> Result<Result<Arc<Objective>, String>, PassError> {
        let decided = match &self.decided {
            Some(decided) => decided.clone(),
            None => {
                let data = [self.calibration, self.cat_data].into_iter().flatten().find(|d| !d.is_empty());
                let Some(data) = data else { return Ok(Err("there are no calibration samples".into())) };
                let decision = Objective::choose(self.require_reference()?, data, self.objective, self.pass)?;
                decision.note.into_iter().for_each(|note| self.note(note));
                let decided = decision.objective.map(Arc::new);
                self.decided = Some(decided.clone());
                decided
            }
        };
        let computes = |v: ValueId| graph.has_value(v) && graph.definitions()[v].is_some();
        Ok(decided.and_then(|objective| match objective.targets().iter().find(|t| !computes(t.value)) {
            None => Ok(objective.clone()),
            Some(t) => Err(format!("the graph no longer computes what output \"{}\" is made of", t.output)),
        }))
    }
}

/// Sample `index` of `data`, checked against the inputs of `graph`: as many tensors, of the right shapes, all finite.
pub fn checked_sample(graph: &Graph, data: &dyn CalibrationData, index: usize) -> Result<Vec<Tensor>, PassError> {
    let fail = |source: BoxError| PassError::Sample { index, source };
    let tensors = data.sample(index).map_err(fail)?;
    if tensors.len() != graph.inputs.len() {
        return Err(fail(format!("{} tensors for {} inputs", tensors.len(), graph.inputs.len()).into()));
    }
    for (tensor, (v, name)) in tensors.iter().zip(&graph.inputs) {
        let shape = graph.value_type(*v).shape.at_batch(1);
        if tensor.shape() != shape {
            let message = format!("input \"{name}\" takes shape {shape:?}, the sample has {:?}", tensor.shape());
            return Err(fail(message.into()));
        }
        if let Some(x) = tensor.as_f32().and_then(|v| v.iter().find(|x| !x.is_finite())) {
            return Err(fail(format!("holds {x}: input \"{name}\" must be finite").into()));
        }
    }
    Ok(tensors)
}
