//! `reconstruct`: learns the rounding of weights, and scales of activations, so that block after block computes what it computes in the
//! float network.
//!
//! - Before: qdq phase, weights behind a `quantize`; calibration data; the float reference. After: weights of learned layers stand as
//!   codes, which later passes keep; scales of activations have moved. The graph needs nothing more at run time.
//! - Blocks are found in the graph (`learn::blocks`): residual blocks, branches that are joined, inverted residuals, else single
//!   layers; with `granularity=layer` every layer is fitted alone.
//! - Units are learned in the order of the network, each on the values that the network as learned so far computes. Each weight is
//!   `scale (clamp(floor(w / scale) + h(v) + z) - z)` with a rectified sigmoid h. Adam moves v, the scales of activations and, if asked for,
//!   the scales of weights and the biases.
//! - The loss of a unit has up to three terms: the squared error of its output, summed over channels and averaged over the rest
//!   (`loss=fisher`: weighted by the gradient of the distance of the network's outputs); `lambda Σ (1 - |2 h(v) - 1|^beta)`, with beta
//!   from 20 to 2 after the warm-up; and, if `prediction_weight` is above 0, that many times the distance of the network's outputs with
//!   this unit quantized and all later ones in float, for class scores their divergence at temperature 4. The squared error is divided by
//!   the variance of the unit's output and multiplied by 32, and rates of scales and biases are relative, so that results do not depend on
//!   the magnitude of activations.
//! - Elements of tensors stay unquantized with probability `quant_drop_prob`, and elements of the unit's input come from the float network
//!   with probability `input_mix_prob`: what is learned then generalises to other images.
//! - At the end each weight is rounded as its variable says. If that does not lower a unit's error on the images below that of rounding to
//!   nearest, the unit's weights are rounded to nearest. If an output holds values ([`crate::objective`]), the result is kept only if
//!   the distance of the outputs falls on held-out images.
//! - Does nothing, and says why, if there are too few images or if the weights are codes already. If the outputs cannot be compared, the
//!   terms with their distance are left out.
//! - Work: `iters`, or else as many as fit `budget` (20 to 1,000), from the graph's own work ([`crate::work`]), never from a clock. Memory: a
//!   unit's inputs of both networks and its output for every image, within [`PassContext::max_memory`]; if that is not enough, fewer images
//!   are used.
//! - Other passes: after `insert-qdq`; before `correct-channels` and `refine-scales`, which keep codes; before `append-cat`.
//! - Example, for each layer:
//!   ```text
//!   v5: i2<q1>[2,4,3,3] = quantize c0, q1                -> (gone)
//!   v6: f32[2,4,3,3] = dequantize v5                        v6: f32[2,4,3,3] = dequantize c7
//!   v1: f32[N,2,6,6] = conv2d v4, v6, c1 {..}               v1: f32[N,2,6,6] = conv2d v4, v6, c8 {..}
//!   ```
//! - References: AdaRound (M. Nagel et al., 2020), BRECQ (arXiv 2102.05426), QDrop (arXiv 2203.05740), PD-Quant (arXiv 2212.07048).
//! - Deviations: the quantizer of a tensor is learned with the unit that takes the tensor, not with the one that makes it; Fisher weights
//!   are gradients over their root mean square, plus 1; the divergence is computed on part of each batch, with elements dropped.

use crate::context::{PassContext, checked_sample};
use crate::learn::blocks::{Block, Granularity, Unit, find_blocks, is_batch_of_reals, unit_nodes};
use crate::learn::deviations::output_deviations;
use crate::learn::holdout_split::HoldoutSplit;
use crate::learn::layers::{Layer, prepare};
use crate::learn::reconstruction::{Goal, Outcome, Reconstruction, RunError};
use crate::learn::unit_training::Schedule;
use crate::objective::Objective;
use crate::pass::{Changed, Pass, PassError};
use crate::refine::comparison::{Comparison, Distance, Holdout};
use crate::refine::split::MIN_IMAGES;
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use crate::work::{node_time, node_work, scaled_budget};
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Node, Phase, ValueId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The least and the largest number of iterations that a budget gives.
const ITERATIONS: [usize; 2] = [20, 1000];

/// Learns rounding and scales block by block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reconstruct {
    /// What is fitted at once.
    pub granularity: Granularity,
    /// Whether errors are weighted by the gradient of the output's divergence.
    pub fisher: bool,
    /// Steps for each unit; from `budget` if absent.
    pub iterations: Option<usize>,
    /// Work to stay near, in 10^9 multiply-adds for a network of 40 million ([`crate::work::scaled_budget`]).
    pub budget: f64,
    /// Images of a step.
    pub batch: usize,
    /// Rate of the rounding variables; from the iterations if absent.
    pub rate: Option<f64>,
    /// Rate of the scales of activations; 0 keeps them; from the iterations if absent.
    pub activation_rate: Option<f64>,
    /// Rate of the logarithms of the scales of weights; 0 keeps them; from the iterations if absent.
    pub scale_rate: Option<f64>,
    /// Rate of the biases; 0 keeps them; from the iterations if absent.
    pub bias_rate: Option<f64>,
    /// Probability that an element stays unquantized.
    pub quant_drop_prob: f64,
    /// Probability that an element of a unit's input comes from the float network.
    pub input_mix_prob: f64,
    /// Weight of the divergence at the network's output; 0 leaves it out.
    pub prediction_weight: f64,
    /// Temperature of that divergence.
    pub prediction_temperature: f64,
    /// Images of each batch that it is computed on.
    pub prediction_images: usize,
    /// Weight of the rounding regularizer.
    pub lambda: f64,
    /// Part of the steps before it acts.
    pub warmup: f64,
}

impl Default for Reconstruct {
    fn default() -> Self {
        Reconstruct {
            granularity: Granularity::Block,
            fisher: false,
            iterations: None,
            budget: 11_000.0,
            batch: 32,
            rate: None,
            activation_rate: None,
            scale_rate: Some(0.0),
            bias_rate: Some(0.0),
            quant_drop_prob: 0.0,
            input_mix_prob: 0.0,
            prediction_weight: 0.0,
            prediction_temperature: 4.0,
            prediction_images: 16,
            lambda: 0.01,
            warmup: 0.2,
        }
    }
}

impl Reconstruct {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "reconstruct",
        summary: "learns rounding and scales so that block after block computes what it computes in the float network",
        options: &[
            PassOption::new("granularity", "layer|block", "block", "what is fitted at once"),
            PassOption::new(
                "loss",
                "mse|fisher",
                "mse",
                "squared error, or weighted by the gradient of the output's divergence",
            ),
            PassOption::new("iters", "auto or 1-1000000", "auto", "steps for each unit; auto follows from budget"),
            PassOption::new(
                "budget",
                "0.001-1000000000",
                "11000",
                "work to stay near, in 10^9 multiply-adds for a network of 40 million; larger ones get more",
            ),
            PassOption::new("batch", "1-4096", "32", "images of a step"),
            PassOption::new(
                "rate",
                "auto or 0-1",
                "auto",
                "Adam's rate of the rounding variables; auto: 3 / iters, 0.003-0.1",
            ),
            PassOption::new(
                "activation_rate",
                "auto or 0-1",
                "auto",
                "of the scales of activations, falling to 0; auto: 0.2 / iters, 0.00004-0.01",
            ),
            PassOption::new(
                "scale_rate",
                "auto or 0-1",
                "0",
                "of the logarithms of weight scales, falling to 0; auto: 0.3 / iters, up to 0.01",
            ),
            PassOption::new(
                "bias_rate",
                "auto or 0-1",
                "0",
                "of the biases, falling to 0; auto: 0.3 / iters, up to 0.01",
            ),
            PassOption::new("quant_drop_prob", "0-1", "0", "probability that an element stays unquantized in a step")
                .formerly("drop"),
            PassOption::new(
                "input_mix_prob",
                "0-1",
                "0",
                "probability that an element of a unit's input comes from the float network",
            )
            .formerly("mix"),
            PassOption::new(
                "prediction_weight",
                "0-1000000",
                "0",
                "weight of the divergence at the network's output; 0 leaves it out",
            )
            .formerly("pd"),
            PassOption::new("prediction_temperature", "0.01-100", "4", "temperature of that divergence")
                .formerly("pd_temperature"),
            PassOption::new("prediction_images", "1-4096", "16", "images of a step that it is computed on")
                .formerly("pd_images"),
            PassOption::new("lambda", "0-1000", "0.01", "weight of the rounding regularizer"),
            PassOption::new("warmup", "0-1", "0.2", "part of the steps before the regularizer acts"),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            let d = Reconstruct::default();
            let granularity = |text: &str| match text {
                "layer" => Some(Granularity::Layer),
                "block" => Some(Granularity::Block),
                _ => None,
            };
            let loss = |text: &str| match text {
                "mse" => Some(false),
                "fisher" => Some(true),
                _ => None,
            };
            Ok(Box::new(Reconstruct {
                granularity: o.take("granularity", granularity)?.unwrap_or(d.granularity),
                fisher: o.take("loss", loss)?.unwrap_or(d.fisher),
                iterations: o.auto_number("iters", d.iterations, 1..=1_000_000)?,
                budget: o.number("budget", d.budget, 0.001..=1e9)?,
                batch: o.number("batch", d.batch, 1..=4096)?,
                rate: o.auto_number("rate", d.rate, 0.0..=1.0)?,
                activation_rate: o.auto_number("activation_rate", d.activation_rate, 0.0..=1.0)?,
                scale_rate: o.auto_number("scale_rate", d.scale_rate, 0.0..=1.0)?,
                bias_rate: o.auto_number("bias_rate", d.bias_rate, 0.0..=1.0)?,
                quant_drop_prob: o.number("quant_drop_prob", d.quant_drop_prob, 0.0..=1.0)?,
                input_mix_prob: o.number("input_mix_prob", d.input_mix_prob, 0.0..=1.0)?,
                prediction_weight: o.number("prediction_weight", d.prediction_weight, 0.0..=1e6)?,
                prediction_temperature: o.number("prediction_temperature", d.prediction_temperature, 0.01..=100.0)?,
                prediction_images: o.number("prediction_images", d.prediction_images, 1..=4096)?,
                lambda: o.number("lambda", d.lambda, 0.0..=1000.0)?,
                warmup: o.number("warmup", d.warmup, 0.0..=1.0)?,
            }))
        },
    };
}

/// The start of the note that says why nothing was done.
const SKIPPED: &str = "nothing is reconstructed";

impl Pass for Reconstruct {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let data = cx.require_calibration()?;
        let reference = cx.require_reference()?.clone();
        let split = match HoldoutSplit::draw(data.len(), cx.seed) {
            Ok(split) => split,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let (prepared, layers) = prepare(self.name(), graph, &reference)?;
        let goal = Goal {
            fisher: self.fisher,
            prediction_weight: self.prediction_weight,
            temperature: self.prediction_temperature,
            prediction_images: self.prediction_images,
        };
        let objective = cx.objective_of(graph)?;
        if let (Err(reason), true) = (&objective, goal.needs_outputs()) {
            cx.note(format!("blocks are fitted to their own outputs alone: {reason}"));
        }
        let objective = objective.ok();
        let ends = match &objective {
            Some(objective) => objective.values(),
            None => graph.outputs.iter().map(|o| o.value).collect(),
        };
        let blocks = learnable_blocks(&prepared, &reference, &layers, self.granularity, &ends);
        if blocks.iter().all(|b| b.units.is_empty()) {
            return cx.skip(
                SKIPPED,
                "no layer has weights that are still to be rounded, between tensors that the float graph has",
            );
        }
        let iterations = self.iterations.unwrap_or_else(|| self.affordable_iterations(&prepared, &reference, &blocks));
        let count = images_that_fit(&prepared, &blocks, self, cx.max_memory).clamp(MIN_IMAGES, split.fit.len());
        if count < split.fit.len() {
            cx.note(format!(
                "{count} of {} images are learned from: more do not fit the memory limit",
                split.fit.len()
            ));
        }
        let float = Interpreter::new(&reference).map_err(|e| PassError::evaluation(self.name(), e))?;
        let quantized = Interpreter::new(&prepared).map_err(|e| PassError::evaluation(self.name(), e))?;
        let units: usize = blocks.iter().map(|b| b.units.len()).sum();
        // Both networks are evaluated on every image before and after each unit.
        let (whole, step) = self.work(&prepared, &reference, &blocks, node_time);
        cx.progress.expect("reconstructing", step * iterations as f64 + 3.0 * whole * count as f64);
        cx.progress.start("reconstructing", (units * iterations) as u64);
        let images = &split.fit[..count];
        let inputs = map_images(count, |i| {
            let tensors = checked_sample(&reference, data, images[i])?;
            Ok::<_, PassError>(tensors.into_iter().map(Arc::new).collect::<Vec<_>>())
        })?;
        let compare = objective.as_deref().map(|objective| Comparison {
            pass: self.name(),
            reference: &reference,
            data,
            objective,
        });
        let holdout = compare.as_ref().map(|c| Holdout::new(c, &split.held_out, cx.max_memory)).transpose()?;
        let start = holdout.as_ref().map(|h| h.distance(&quantized)).transpose()?;
        let deviations = output_deviations(&float, &layers, data, images, self.name())?;
        let mut run = Reconstruction {
            pass: self.name(),
            schedule: self.schedule(iterations),
            goal,
            layers: &layers,
            units: deviations,
            reference: &reference,
            objective: objective.clone(),
            float,
            quantized,
            outputs: vec![],
            learned: BTreeSet::new(),
            outcome: Outcome::default(),
            curve: vec![],
        };
        let done = run.run(&blocks, inputs, cx);
        cx.progress.finish();
        done.map_err(|e| match e {
            RunError::Pass(e) => e,
            RunError::Eval(e) => PassError::evaluation(self.name(), e),
        })?;
        cx.losses.extend(run.curve);
        if run.outcome.kept == 0 {
            return cx.skip(SKIPPED, "no unit's error falls below that of rounding to the nearest code");
        }
        let note = run.outcome.note(units, iterations, count);
        let judged = match (&holdout, &start, &objective) {
            (Some(holdout), Some(start), Some(objective)) => {
                judge(objective, holdout.len(), start, &holdout.distance(&run.quantized)?)
            }
            _ => Ok(String::new()),
        };
        match judged {
            Ok(judged) => cx.note(note + &judged),
            Err(reason) => return cx.skip(SKIPPED, reason),
        }
        *graph = run.quantized.graph().clone();
        Ok(Changed::Yes)
    }
}

/// What to say of the network's outputs on `others` held-out images before and after, or why nothing is kept.
fn judge(objective: &Objective, others: usize, start: &Distance, reached: &Distance) -> Result<String, String> {
    let (name, before, after) = (objective.name(), objective.amount(start.loss), objective.amount(reached.loss));
    // Few held-out images measure classes poorly, but values well.
    if objective.has_values() && !reached.improves_on(start) {
        return Err(format!(
            "it does not lower the {name} on {others} held-out calibration images ({before}, then {after})"
        ));
    }
    Ok(format!("; on {others} held-out images the {name} goes from {before} to {after}"))
}

/// The blocks with the units that can be learned: those with weights that are still to be rounded, between tensors that the float graph has.
fn learnable_blocks(
    graph: &Graph,
    reference: &Graph,
    layers: &[Layer],
    granularity: Granularity,
    ends: &[ValueId],
) -> Vec<Block> {
    let learnable = |l: &usize| layers[*l].weights.is_some_and(|w| w.float.is_some());
    let mut blocks = find_blocks(graph, layers, granularity, ends);
    for block in &mut blocks {
        block.units.retain(|u| u.layers.iter().any(learnable) && is_comparable(graph, reference, u));
    }
    blocks
}

/// Whether the float graph computes a unit's inputs and output, as batches of reals.
fn is_comparable(graph: &Graph, reference: &Graph, unit: &Unit) -> bool {
    let definitions = reference.definitions();
    unit.inputs.iter().chain([&unit.output]).all(|&v| {
        is_batch_of_reals(graph, v)
            && reference.has_value(v)
            && definitions[v].is_some()
            && graph.value_type(v) == reference.value_type(v)
    })
}

/// Bytes of a value for one image.
fn bytes(graph: &Graph, v: ValueId) -> usize {
    graph.value_type(v).shape.at_batch(1).iter().fold(4, |n: usize, d| n.saturating_mul(*d))
}

/// How many images fit a limit of bytes.
fn images_that_fit(graph: &Graph, blocks: &[Block], pass: &Reconstruct, limit: usize) -> usize {
    let sum = |values: &[ValueId]| values.iter().map(|v| bytes(graph, *v)).fold(0, usize::saturating_add);
    let needed = |b: &Block| {
        let of_unit = |u: &Unit| {
            let own_inputs = if u.inputs == b.inputs { 0 } else { 2 * sum(&u.inputs) };
            own_inputs + bytes(graph, u.output) * if pass.fisher { 2 } else { 1 }
        };
        let largest = b.units.iter().map(of_unit).max().unwrap_or(0);
        2 * sum(&b.inputs) + largest + 2 * sum(&b.outputs)
    };
    limit / blocks.iter().map(needed).max().unwrap_or(0).max(1)
}

impl Reconstruct {
    /// Iterations of every unit that the budget allows.
    fn affordable_iterations(&self, graph: &Graph, reference: &Graph, blocks: &[Block]) -> usize {
        let (whole, step) = self.work(graph, reference, blocks, node_work);
        ((scaled_budget(self.budget, whole) / step.max(1.0)) as usize).clamp(ITERATIONS[0], ITERATIONS[1])
    }

    /// The cost, by that of a node, of the float network for one image, and of one step of every unit.
    fn work(&self, graph: &Graph, reference: &Graph, blocks: &[Block], cost: fn(&Graph, &Node) -> u64) -> (f64, f64) {
        let work = |graph: &Graph, nodes: &[usize]| -> f64 {
            nodes.iter().map(|&i| cost(graph, &graph.nodes()[i]) as f64).sum()
        };
        let whole: f64 = work(reference, &(0..reference.nodes().len()).collect::<Vec<_>>());
        let (mut passed, mut total) = (0.0, 0.0);
        for block in blocks {
            for unit in &block.units {
                let own = work(graph, &unit_nodes(graph, unit));
                passed += own;
                // Forward, and backward to inputs and weights; behind the unit, forward and backward to inputs.
                total += 3.0 * self.batch as f64 * own;
                if self.prediction_weight > 0.0 && unit.separates {
                    total += 2.0 * self.prediction_images.min(self.batch) as f64 * (whole - passed).max(0.0);
                }
            }
        }
        (whole, total)
    }

    fn schedule(&self, iterations: usize) -> Schedule {
        // With few steps each must be longer. The lower bounds are the references' rates, for thousands of steps; the upper ones are what is
        // stable.
        let automatic = |way: f64, [least, most]: [f64; 2]| (way / iterations as f64).clamp(least, most);
        Schedule {
            iterations,
            batch: self.batch,
            rate: self.rate.unwrap_or_else(|| automatic(3.0, [3e-3, 0.1])),
            activation_rate: self.activation_rate.unwrap_or_else(|| automatic(0.2, [4e-5, 0.01])),
            scale_rate: self.scale_rate.unwrap_or_else(|| automatic(0.3, [0.0, 0.01])),
            bias_rate: self.bias_rate.unwrap_or_else(|| automatic(0.3, [0.0, 0.01])),
            quant_drop_prob: self.quant_drop_prob,
            input_mix_prob: self.input_mix_prob,
            lambda: self.lambda,
            warmup: self.warmup,
            beta: [20.0, 2.0],
        }
    }
}
