//! `refine-scales`: moves all scales and biases, and if asked for zero-points and codes, together so that the network's outputs come nearer
//! to those of the float network.
//!
//! - Before: qdq phase; calibration data; the float reference. After: other scales of weights (per
//!   output channel) and tensors, other zero-points of tensors, other biases, if the distance of the outputs ([`crate::objective`]) fell on
//!   held-out calibration images, and the squared error of no output of values rose on them; else nothing. Weights stand as codes, which
//!   do not change unless `code_rate` is above 0. The graph needs nothing
//!   more at run time.
//! - Minimises the distance, for class scores `KL(softmax(fp / T) || softmax(lq / T))`, plus `lambda Σ (((δ - δ0)/δ0)² + ((z - z0)/(2^b - 1))²)` by Adam, rates falling along
//!   a cosine: scales by their logarithms, zero-points as reals that are rounded in the network. Gradients pass rounding straight through
//!   ([`catc_interp::Wrt`]).
//! - Zero-points stay unless `zero_point_rate` is above 0. After a ReLU a larger zero-point cannot help: the codes below it are
//!   unused, and the scale alone can give the lower upper bound that results. For tensors with negative values, moving the zero-point by one code
//!   is a jump that the gradient, which depends on clipped values alone, does not predict (`docs/accuracy.md` has figures).
//! - With `code_rate` the codes of weights move too. Each weight has a latent value that follows the gradient of the weight
//!   (`learn::latent`). It starts at the float weight, or at the nearest value that rounds to the weight's code. So what blocks learned one
//!   after the other is finished on the output of the whole network.
//! - The distance is measured on held-out images (`learn::holdout_split`) eight times on the way. Among the states that lower it, the one is
//!   kept whose class scores diverge least after they are multiplied by the factor that suits them best: confidence alone changes no
//!   class. With `temperature=auto` T is 1, 0.4 and 4 in turn, each from the start, and the best of all states is kept.
//! - `augment` mirrors half of the images, moves them by up to a sixteenth, or mixes half of the batches; the float network then runs on
//!   the changed images. With `auto` images are moved and mixed; they are mirrored as well if the float network gives at least half of the
//!   mirrored held-out images the class of the original.
//! - Rates of biases are in parts of the deviation of their layer's outputs, so that results do not depend on the magnitude of activations.
//! - Work: `steps`, or else as many as fit `budget` (20 to 1,000), from the graph's own work ([`crate::work`]), never from a clock. Memory:
//!   all values of eight images for each thread; the float network's outputs of every image if they fit a quarter of
//!   [`PassContext::max_memory`].
//! - Other passes: after `reconstruct` and `correct-channels`; before `append-cat`, which corrects the remaining error on images of its own.
//! - Example: lines of quantizers and constants change.
//!   ```text
//!   q0 = quantizer u2 per_tensor scale [0.41] zero_point [1]   -> q0 = quantizer u2 per_tensor scale [0.44] zero_point [2]
//!   ```
//! - Reference: arXiv 2509.26277, equations 1 to 3.
//! - Deviations: the regularizer is relative, and lambda in parts of the divergence at the start, since scales of different tensors and networks
//!   do not compare otherwise; biases move too, and codes if asked for (the paper keeps them); T = 1 instead of 0.4.
//! - Rejected: coordinate search without gradients, which gains a fraction of this; learning the scale by which weights are rounded, since a
//!   change of it rounds all weights anew and undoes the learned rounding.

use crate::context::{LossPoint, PassContext, checked_sample};
use crate::learn::augment::{Augment, Change};
use crate::learn::blocks::is_batch_of_reals;
use crate::learn::deviations::output_deviations;
use crate::learn::holdout_split::HoldoutSplit;
use crate::learn::layers::{Layer, prepare};
use crate::learn::network_training::{NetworkSchedule, NetworkTraining, Parameters};
use crate::pass::{Changed, Pass, PassError};
use crate::refine::comparison::{Comparison, Distance, Holdout, KEPT_SHARE};
use crate::refine::needs::NodeNeeds;
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use crate::work::{graph_time, scaled_budget};
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Phase, Tensor};

/// The least and the largest number of steps that a budget gives.
const STEPS: [usize; 2] = [20, 1000];
/// How often the distance is measured on held-out images.
const CHECKS: usize = 8;
/// The part of mirrored images that must keep their class for mirroring to be used.
const MIRRORED_ALIKE: f64 = 0.5;
/// The temperatures that are tried.
const TEMPERATURES: [f64; 3] = [1.0, 0.4, 4.0];

/// Refines scales on the network's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefineScales {
    /// Steps; from `budget` if absent.
    pub steps: Option<usize>,
    /// Work to stay near, in 10^9 multiply-adds for a network of 40 million ([`crate::work::scaled_budget`]).
    pub budget: f64,
    /// Images of a step.
    pub batch: usize,
    /// Temperature T of both softmaxes; tried if absent.
    pub temperature: Option<f64>,
    /// Weight lambda of the regularizer, in parts of the divergence at the start.
    pub lambda: f64,
    /// Rate of the logarithms of tensors' scales.
    pub activation_rate: f64,
    /// Rate of zero-points, in codes; 0 keeps them.
    pub zero_point_rate: f64,
    /// Rate of the logarithms of weight scales.
    pub scale_rate: f64,
    /// Rate of biases, in deviations of their layer's outputs.
    pub bias_rate: f64,
    /// Rate of weights, in codes; 0 keeps the codes.
    pub code_rate: f64,
    /// How images are changed; as the float network allows if absent.
    pub augment: Option<Augment>,
}

impl Default for RefineScales {
    fn default() -> Self {
        RefineScales {
            steps: None,
            budget: 5000.0,
            batch: 64,
            temperature: Some(1.0),
            lambda: 0.001,
            activation_rate: 4e-3,
            zero_point_rate: 0.0,
            scale_rate: 1e-3,
            bias_rate: 1e-3,
            code_rate: 0.0,
            augment: None,
        }
    }
}

impl RefineScales {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "refine-scales",
        summary: "moves scales and biases to bring the output nearer to the float network's",
        options: &[
            PassOption::new("steps", "auto or 1-1000000", "auto", "steps; auto follows from budget"),
            PassOption::new(
                "budget",
                "0.001-1000000000",
                "5000",
                "work to stay near, in 10^9 multiply-adds for a network of 40 million; larger ones get more",
            ),
            PassOption::new("batch", "1-4096", "64", "images of a step"),
            PassOption::new(
                "temperature",
                "auto or 0.01-100",
                "1",
                "temperature of the softmaxes that are compared; auto tries 1, 0.4, 4",
            ),
            PassOption::new(
                "lambda",
                "0-1000",
                "0.001",
                "weight of the distance from the starting scales, in parts of the starting divergence",
            ),
            PassOption::new(
                "activation_rate",
                "0-1",
                "0.004",
                "Adam's rate of the logarithms of tensors' scales, falling to 0",
            ),
            PassOption::new(
                "zero_point_rate",
                "0-1",
                "0",
                "Adam's rate of zero-points, in codes, falling to 0; 0 keeps them",
            ),
            PassOption::new(
                "scale_rate",
                "0-1",
                "0.001",
                "Adam's rate of the logarithms of weight scales, falling to 0",
            ),
            PassOption::new(
                "bias_rate",
                "0-1",
                "0.001",
                "Adam's rate of biases, in deviations of their layer's outputs, falling to 0",
            ),
            PassOption::new(
                "code_rate",
                "0-1",
                "0",
                "Adam's rate of weights, in codes, falling to 0; 0 keeps the codes",
            ),
            PassOption::new(
                "augment",
                "auto, none, or flip, shift and mix joined by +",
                "auto",
                "how images are changed: half mirrored, moved by up to a sixteenth, half of the batches sums of two",
            ),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            let d = RefineScales::default();
            Ok(Box::new(RefineScales {
                steps: o.auto_number("steps", d.steps, 1..=1_000_000)?,
                budget: o.number("budget", d.budget, 0.001..=1e9)?,
                batch: o.number("batch", d.batch, 1..=4096)?,
                temperature: o.auto_number("temperature", d.temperature, 0.01..=100.0)?,
                lambda: o.number("lambda", d.lambda, 0.0..=1000.0)?,
                activation_rate: o.number("activation_rate", d.activation_rate, 0.0..=1.0)?,
                zero_point_rate: o.number("zero_point_rate", d.zero_point_rate, 0.0..=1.0)?,
                scale_rate: o.number("scale_rate", d.scale_rate, 0.0..=1.0)?,
                bias_rate: o.number("bias_rate", d.bias_rate, 0.0..=1.0)?,
                code_rate: o.number("code_rate", d.code_rate, 0.0..=1.0)?,
                augment: o.auto("augment", d.augment, Augment::parse)?,
            }))
        },
    };
}

/// The start of the note that says why nothing was done.
const SKIPPED: &str = "scales are not refined";

impl Pass for RefineScales {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let data = cx.require_calibration()?;
        let objective = match cx.objective_of(graph)? {
            Ok(objective) => objective,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let reference = cx.require_reference()?.clone();
        if let Some((v, name)) = graph.inputs.iter().find(|(v, _)| !is_batch_of_reals(graph, *v)) {
            return cx.skip(SKIPPED, format!("input \"{name}\" ({v}) is no batch of reals"));
        }
        let split = match HoldoutSplit::draw(data.len(), cx.seed) {
            Ok(split) => split,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let (prepared, layers) = prepare(self.name(), graph, &reference)?;
        if prepared.used_quantizers().is_empty() {
            return cx.skip(SKIPPED, "nothing is quantized");
        }
        let needs = NodeNeeds::new(&prepared, &objective.values());
        let compare = Comparison { pass: self.name(), reference: &reference, data, objective: &objective };
        let temperatures: &[f64] = match &self.temperature {
            Some(t) => std::slice::from_ref(t),
            None => &TEMPERATURES,
        };
        let augment = match self.augment {
            Some(augment) => augment,
            None => suitable(&compare, &split)?,
        };
        // Outputs that do not fit the memory are computed again for every batch.
        let kept = split.fit.len().saturating_mul(objective.bytes()) <= cx.max_memory / KEPT_SHARE;
        let float = if kept && augment == Augment::default() { 0.0 } else { 1.0 };
        let whole = needs.remaining[0] as f64;
        // Forward and backward to inputs, and a run of the float network.
        let step = (2.2 + float) * self.batch as f64 * whole * temperatures.len() as f64;
        let affordable = || ((scaled_budget(self.budget, whole) / step.max(1.0)) as usize).clamp(STEPS[0], STEPS[1]);
        let steps = self.steps.unwrap_or_else(affordable);
        let backward = if self.code_rate > 0.0 { 2.0 } else { 1.2 };
        let learned = (1.0 + backward + float) * (self.batch * steps * temperatures.len()) as f64;
        let judged = (split.fit.len() + CHECKS * temperatures.len() * split.held_out.len()) as f64;
        cx.progress.expect("refining scales", graph_time(&prepared) * (learned + judged));
        cx.progress.start("refining scales", (steps * temperatures.len()) as u64);
        let course = Course { temperatures, steps, augment, kept };
        let outcome = self.learn(&prepared, &layers, &needs, &compare, &split, course, cx);
        cx.progress.finish();
        let Outcome { before, best, curve } = outcome?;
        cx.losses.extend(curve);
        let others = split.held_out.len();
        let (name, amount) = (objective.name(), |d: &Distance| objective.amount(d.loss));
        let Some((after, temperature, step, refined)) = best else {
            let reason =
                format!("nothing lowers the {name} on {others} held-out calibration images ({})", amount(&before));
            return cx.skip(SKIPPED, reason);
        };
        let [scales, zero_points, quantizers] = Parameters::moved(&prepared, &refined);
        cx.note(format!(
            "moved scales of {scales} and zero-points of {zero_points} of {quantizers} quantizers, and the biases of {} layers, in {step} \
             steps at temperature {temperature} on {} images{}; on {others} held-out images the {name} falls from {} to {}",
            layers.len(),
            split.fit.len(),
            augment.description(),
            amount(&before),
            amount(&after)
        ));
        *graph = refined;
        Ok(Changed::Yes)
    }
}

/// What came of it.
struct Outcome {
    /// The distance on held-out images at the start.
    before: Distance,
    /// The state with the least distance below that, if there is one: the distance, temperature, steps and network.
    best: Option<(Distance, f64, usize, Graph)>,
    curve: Vec<LossPoint>,
}

/// How it is learned.
struct Course<'t> {
    temperatures: &'t [f64],
    steps: usize,
    augment: Augment,
    /// Whether the float network's outputs are kept for every image.
    kept: bool,
}

impl RefineScales {
    #[allow(clippy::too_many_arguments)] // One call, of things that have no common name.
    fn learn(
        &self,
        prepared: &Graph,
        layers: &[Layer],
        needs: &NodeNeeds,
        compare: &Comparison,
        split: &HoldoutSplit,
        course: Course,
        cx: &PassContext,
    ) -> Result<Outcome, PassError> {
        let float = Interpreter::new(compare.reference).map_err(|e| compare.error(e))?;
        let start = Interpreter::new(prepared).map_err(|e| compare.error(e))?;
        let Course { temperatures, steps, augment, kept } = course;
        let holdout = Holdout::new(compare, &split.held_out, cx.max_memory)?;
        let wanted = if kept { Some(compare.wanted(&split.fit)?) } else { None };
        let units = output_deviations(&float, layers, compare.data, &split.fit, self.name())?;
        let before = holdout.distance(&start)?;
        let mut least = f64::INFINITY;
        let mut outcome = Outcome { before: before.clone(), best: None, curve: vec![] };
        for &temperature in temperatures {
            let schedule = NetworkSchedule {
                steps,
                batch: self.batch,
                temperature,
                lambda: self.lambda * before.loss,
                activation_rate: self.activation_rate,
                zero_point_rate: self.zero_point_rate,
                scale_rate: self.scale_rate,
                bias_rate: self.bias_rate,
                code_rate: self.code_rate,
                augment,
            };
            let mut training = NetworkTraining {
                pass: self.name(),
                quantized: start.clone(),
                float: &float,
                objective: compare.objective,
                data: compare.data,
                images: &split.fit,
                wanted: wanted.as_deref(),
                parameters: Parameters::new(
                    prepared,
                    (self.code_rate > 0.0).then_some(compare.reference),
                    layers,
                    &units,
                    |node| needs.is_needed(node),
                ),
                seed: cx.seed,
            };
            let every = steps.div_ceil(CHECKS);
            training.run(&schedule, cx, |step, loss, quantized| {
                outcome.curve.push(LossPoint { pass: self.name(), unit: 0, step, losses: [0.0, loss, 0.0] });
                if (step + 1) % every != 0 && step + 1 != steps {
                    return Ok(());
                }
                let reached = holdout.distance(quantized)?;
                cx.progress.status(&compare.objective.amount(reached.loss));
                // Written so that NaN is never kept.
                if reached.improves_on(&before) && reached.order < least {
                    least = reached.order;
                    outcome.best = Some((reached, temperature, step + 1, quantized.graph().clone()));
                }
                Ok(())
            })?;
        }
        Ok(outcome)
    }
}

/// All changes of images that suit the network. Images are mirrored only for classifiers that give most of them the class of the original.
fn suitable(compare: &Comparison, split: &HoldoutSplit) -> Result<Augment, PassError> {
    let images = compare.reference.inputs.iter().any(|(v, _)| compare.reference.value_type(*v).shape.rank() == 4);
    let float = Interpreter::new(compare.reference).map_err(|e| compare.error(e))?;
    let values = compare.objective.values();
    let plain = compare.wanted(&split.held_out)?;
    let alike = map_images(if images { split.held_out.len() } else { 0 }, |i| {
        let sample = checked_sample(compare.reference, compare.data, split.held_out[i])?;
        let mirrored: Vec<Tensor> = sample.into_iter().map(|t| Change::MIRROR.apply(t)).collect();
        let tensors = float.run_to(&mirrored, &values).map_err(|e| compare.error(e))?;
        let row = compare.objective.rows(&tensors.iter().collect::<Vec<_>>()).remove(0);
        let class = compare.objective.class(&row);
        Ok::<_, PassError>(class.is_some() && class == compare.objective.class(&plain[i]))
    })?;
    let kept = alike.iter().filter(|a| **a).count() as f64;
    Ok(Augment { flip: images && kept >= MIRRORED_ALIKE * alike.len() as f64, shift: images, mix: images })
}
