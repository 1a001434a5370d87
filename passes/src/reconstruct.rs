//! `reconstruct`: learns the rounding of weights, and scales of activations, so that block after block computes what it computes in the
//! float network.
//!
//! - Before: qdq phase, weights behind a `quantize`; calibration data; the float reference. After: weights of learned layers stand as
//!   codes, which later passes keep; scales of activations have moved. The graph needs nothing more at run time.
//! - Blocks are found in the graph ([`crate::learn::blocks`]): residual blocks, branches that are joined, inverted residuals, else single
//!   layers; with `granularity=layer` every layer is fitted alone.
//! - Per unit, in the order of the network, from the values that the network learned so far gives: each weight is
//!   `scale (clamp(floor(w / scale) + h(v) + z) - z)` with a rectified sigmoid h, and Adam moves v, the scales of activations and, if
//!   asked for, scales of weights and biases. The loss is the squared error of the unit's output, summed over channels, averaged over
//!   the rest (`loss=fisher`: weighted by the gradient of the output's divergence); plus `lambda Σ (1 - |2 h(v) - 1|^beta)`, beta from
//!   20 to 2 after the warm-up; plus, where `pd` is above 0, `pd KL(float || this unit quantized, all after it in float)` of the logits
//!   at temperature 4.
//! - Elements of tensors stay unquantized with probability `drop`, elements of the unit's input come from the float network with
//!   probability `mix`: what is learned then suits more than the images at hand.
//! - At the end weights are rounded as their variables say. A unit whose error on the images is not lower than with every weight rounded to
//!   the nearest code keeps those.
//! - Does nothing, and says why, without enough images or where the weights are codes already. Without logits the divergence is left out.
//! - Work: `iters`, or else as many as fit `budget` (20 to 1,000), from the graph's own work ([`crate::work`]), never from a clock. Memory: a unit's inputs
//!   of both networks and its output for every image, within [`PassContext::max_memory`]: fewer images where that is not enough.
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

use crate::context::{LossPoint, PassContext, checked_sample};
use crate::learn::blocks::{Block, Granularity, Unit, find_blocks, unit_nodes};
use crate::learn::folds::{Folds, MIN_IMAGES};
use crate::learn::layers::{Layer, prepare};
use crate::learn::rounding::Rounding;
use crate::learn::training_graph::TrainingGraph;
use crate::learn::unit_training::{Parameters, Prediction, Schedule, UnitData, UnitTraining};
use crate::logits::find_logits;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use crate::work::{node_work, scaled_budget};
use catc_interp::images::map_images;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Graph, Phase, QuantizerId, Tensor, ValueId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Iterations that no budget goes below or above.
const ITERATIONS: [usize; 2] = [20, 1000];
/// Losses of each unit that are kept for the curve.
const CURVE_POINTS: usize = 500;

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
    /// Rate of the rounding variables.
    pub rate: f64,
    /// Rate of the scales of activations; 0 keeps them.
    pub activation_rate: f64,
    /// Rate of the logarithms of the scales of weights; 0 keeps them.
    pub scale_rate: f64,
    /// Rate of the biases; 0 keeps them.
    pub bias_rate: f64,
    /// Probability that an element stays unquantized.
    pub drop: f64,
    /// Probability that an element of a unit's input comes from the float network.
    pub mix: f64,
    /// Weight of the divergence at the network's output; 0 leaves it out.
    pub prediction: f64,
    /// Temperature of that divergence.
    pub temperature: f64,
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
            rate: 3e-3,
            activation_rate: 4e-5,
            scale_rate: 0.0,
            bias_rate: 0.0,
            drop: 0.0,
            mix: 0.0,
            prediction: 0.0,
            temperature: 4.0,
            prediction_images: 16,
            lambda: 0.01,
            warmup: 0.2,
        }
    }
}

const fn option(name: &'static str, values: &'static str, default: &'static str, help: &'static str) -> PassOption {
    PassOption { name, values, default, help }
}

impl Reconstruct {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "reconstruct",
        summary: "learns rounding and scales so that block after block computes what it computes in the float network",
        options: &[
            option("granularity", "layer|block", "block", "what is fitted at once"),
            option(
                "loss",
                "mse|fisher",
                "mse",
                "squared error, or weighted by the gradient of the output's divergence",
            ),
            option("iters", "auto or 1-1000000", "auto", "steps for each unit; auto follows from budget"),
            option(
                "budget",
                "0.001-1000000000",
                "11000",
                "work to stay near, in 10^9 multiply-adds for a network of 40 million; larger ones get more",
            ),
            option("batch", "1-4096", "32", "images of a step"),
            option("rate", "0-1", "0.003", "Adam's rate of the rounding variables"),
            option(
                "activation_rate",
                "0-1",
                "0.00004",
                "Adam's rate of the scales of activations, falling to 0; 0 keeps them",
            ),
            option(
                "scale_rate",
                "0-1",
                "0",
                "Adam's rate of the logarithms of weight scales, falling to 0; 0 keeps them",
            ),
            option("bias_rate", "0-1", "0", "Adam's rate of the biases, falling to 0; 0 keeps them"),
            option("drop", "0-1", "0", "probability that an element stays unquantized in a step"),
            option("mix", "0-1", "0", "probability that an element of a unit's input comes from the float network"),
            option("pd", "0-1000000", "0", "weight of the divergence at the network's output; 0 leaves it out"),
            option("pd_temperature", "0.01-100", "4", "temperature of that divergence"),
            option("pd_images", "1-4096", "16", "images of a step that it is computed on"),
            option("lambda", "0-1000", "0.01", "weight of the rounding regularizer"),
            option("warmup", "0-1", "0.2", "part of the steps before the regularizer acts"),
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
            let iterations = |text: &str| match text {
                "auto" => Some(None),
                _ => text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).map(Some),
            };
            Ok(Box::new(Reconstruct {
                granularity: o.take("granularity", granularity)?.unwrap_or(d.granularity),
                fisher: o.take("loss", loss)?.unwrap_or(d.fisher),
                iterations: o.take("iters", iterations)?.unwrap_or(d.iterations),
                budget: o.number("budget", d.budget, 0.001..=1e9)?,
                batch: o.number("batch", d.batch, 1..=4096)?,
                rate: o.number("rate", d.rate, 0.0..=1.0)?,
                activation_rate: o.number("activation_rate", d.activation_rate, 0.0..=1.0)?,
                scale_rate: o.number("scale_rate", d.scale_rate, 0.0..=1.0)?,
                bias_rate: o.number("bias_rate", d.bias_rate, 0.0..=1.0)?,
                drop: o.number("drop", d.drop, 0.0..=1.0)?,
                mix: o.number("mix", d.mix, 0.0..=1.0)?,
                prediction: o.number("pd", d.prediction, 0.0..=1e6)?,
                temperature: o.number("pd_temperature", d.temperature, 0.01..=100.0)?,
                prediction_images: o.number("pd_images", d.prediction_images, 1..=4096)?,
                lambda: o.number("lambda", d.lambda, 0.0..=1000.0)?,
                warmup: o.number("warmup", d.warmup, 0.0..=1.0)?,
            }))
        },
    };
}

impl Pass for Reconstruct {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let skip = |cx: &mut PassContext, reason: String| {
            cx.note(format!("nothing is reconstructed: {reason}"));
            Ok(Changed::No(reason))
        };
        let data = cx.require_calibration()?;
        let reference = cx.require_reference()?.clone();
        let folds = match Folds::draw(data.len(), cx.seed) {
            Ok(folds) => folds,
            Err(reason) => return skip(cx, reason),
        };
        let (prepared, layers) = prepare(self.name(), graph, &reference)?;
        let learnable = |l: &usize| layers[*l].weights.is_some_and(|w| w.float.is_some());
        let mut blocks = find_blocks(&prepared, &layers, self.granularity);
        for block in &mut blocks {
            block.units.retain(|u| u.layers.iter().any(learnable) && is_comparable(&prepared, &reference, u));
        }
        if blocks.iter().all(|b| b.units.is_empty()) {
            return skip(
                cx,
                "no layer has weights that are still to be rounded, between tensors that the float graph has".into(),
            );
        }
        let logits = find_logits(graph);
        if let (Err(reason), true) = (&logits, self.fisher || self.prediction > 0.0) {
            cx.note(format!("blocks are fitted to their own outputs alone: {reason}"));
        }
        let (whole, step) = self.work(&prepared, &reference, &blocks);
        let affordable =
            || ((scaled_budget(self.budget, whole) / step.max(1.0)) as usize).clamp(ITERATIONS[0], ITERATIONS[1]);
        let iterations = self.iterations.unwrap_or_else(affordable);
        let count = images_that_fit(&prepared, &blocks, self, cx.max_memory).clamp(MIN_IMAGES, folds.fit.len());
        if count < folds.fit.len() {
            cx.note(format!(
                "{count} of {} images are learned from: more do not fit the memory limit",
                folds.fit.len()
            ));
        }
        let float = Interpreter::new(&reference).map_err(|e| PassError::evaluation(self.name(), e))?;
        let quantized = Interpreter::new(&prepared).map_err(|e| PassError::evaluation(self.name(), e))?;
        let units: usize = blocks.iter().map(|b| b.units.len()).sum();
        cx.progress.expect("reconstructing", step * iterations as f64);
        cx.progress.start("reconstructing", (units * iterations) as u64);
        let images = &folds.fit[..count];
        let inputs = map_images(count, |i| {
            let tensors = checked_sample(&reference, data, images[i])?;
            Ok::<_, PassError>(tensors.into_iter().map(Arc::new).collect::<Vec<_>>())
        })?;
        let mut run = Run {
            pass: *self,
            iterations,
            layers: &layers,
            reference: &reference,
            target: logits.ok(),
            float,
            quantized,
            logits: vec![],
            learned: BTreeSet::new(),
            outcome: Outcome::default(),
            curve: vec![],
        };
        let done = run.all(&blocks, inputs, cx);
        cx.progress.finish();
        done.map_err(|e| match e {
            RunError::Pass(e) => e,
            RunError::Eval(e) => PassError::evaluation(self.name(), e),
        })?;
        let Outcome { kept, before, after } = run.outcome;
        cx.losses.extend(run.curve);
        if kept == 0 {
            return skip(cx, "no unit's error falls below that of rounding to the nearest code".into());
        }
        cx.note(format!(
            "learned {kept} of {units} units in {iterations} iterations each on {count} images: their outputs' mean squared error falls \
             to {:.1} % of that of nearest rounding",
            100.0 * after / before
        ));
        *graph = run.quantized.graph().clone();
        Ok(Changed::Yes)
    }
}

/// Whether the float graph computes a unit's inputs and output, as batches of reals.
fn is_comparable(graph: &Graph, reference: &Graph, unit: &Unit) -> bool {
    let definitions = reference.definitions();
    unit.inputs.iter().chain([&unit.output]).all(|&v| {
        let batched = matches!(graph.value_type(v).shape.dims().first(), Some(catc_ir::Dim::Batch(1)));
        batched && reference.has_value(v) && definitions[v].is_some() && graph.value_type(v) == reference.value_type(v)
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
    /// Multiply-adds of the float network for one image, and of one step of every unit.
    fn work(&self, graph: &Graph, reference: &Graph, blocks: &[Block]) -> (f64, f64) {
        let work = |graph: &Graph, nodes: &[usize]| -> f64 {
            nodes.iter().map(|&i| node_work(graph, &graph.nodes()[i]) as f64).sum()
        };
        let whole: f64 = work(reference, &(0..reference.nodes().len()).collect::<Vec<_>>());
        let (mut passed, mut total) = (0.0, 0.0);
        for block in blocks {
            for unit in &block.units {
                let own = work(graph, &unit_nodes(graph, unit));
                passed += own;
                // Forward, and backward to inputs and weights; behind the unit, forward and backward to inputs.
                total += 3.0 * self.batch as f64 * own;
                if self.prediction > 0.0 && unit.separates {
                    total += 2.0 * self.prediction_images.min(self.batch) as f64 * (whole - passed).max(0.0);
                }
            }
        }
        (whole, total)
    }

    fn schedule(&self, iterations: usize) -> Schedule {
        Schedule {
            iterations,
            batch: self.batch,
            rate: self.rate,
            activation_rate: self.activation_rate,
            scale_rate: self.scale_rate,
            bias_rate: self.bias_rate,
            drop: self.drop,
            mix: self.mix,
            lambda: self.lambda,
            warmup: self.warmup,
            beta: [20.0, 2.0],
        }
    }
}

/// Why a run ends early.
enum RunError {
    Pass(PassError),
    Eval(EvalError),
}

impl From<PassError> for RunError {
    fn from(e: PassError) -> Self {
        RunError::Pass(e)
    }
}

impl From<EvalError> for RunError {
    fn from(e: EvalError) -> Self {
        RunError::Eval(e)
    }
}

/// What came of the units.
#[derive(Default)]
struct Outcome {
    kept: usize,
    /// Sums of the units' relative errors.
    before: f64,
    after: f64,
}

/// Values of every image.
type Values = Vec<Vec<Arc<Tensor>>>;

/// A reconstruction in progress.
struct Run<'a> {
    pass: Reconstruct,
    iterations: usize,
    layers: &'a [Layer],
    reference: &'a Graph,
    target: Option<ValueId>,
    float: Interpreter,
    /// The network as learned so far.
    quantized: Interpreter,
    /// The float network's logits of each image.
    logits: Vec<Vec<f32>>,
    /// Quantizers of activations that a unit has learned.
    learned: BTreeSet<QuantizerId>,
    outcome: Outcome,
    curve: Vec<LossPoint>,
}

/// `wanted` for every image, from `given` values.
fn evaluate(
    interpreter: &Interpreter,
    names: &[ValueId],
    given: &Values,
    wanted: &[ValueId],
) -> Result<Values, EvalError> {
    map_images(given.len(), |i| {
        let given: Vec<(ValueId, &Tensor)> = names.iter().copied().zip(given[i].iter().map(|t| t.as_ref())).collect();
        Ok(interpreter.run_from(&given, wanted)?.into_iter().map(Arc::new).collect())
    })
}

impl Run<'_> {
    fn all(&mut self, blocks: &[Block], inputs: Values, cx: &PassContext) -> Result<(), RunError> {
        let names: Vec<ValueId> = self.reference.inputs.iter().map(|(v, _)| *v).collect();
        if let (Some(target), true) = (self.target, self.pass.fisher || self.pass.prediction > 0.0) {
            let logits = evaluate(&self.float, &names, &inputs, &[target])?;
            self.logits = logits.iter().map(|v| v[0].as_f32().unwrap_or(&[]).to_vec()).collect();
        }
        let select = |wanted: &[ValueId]| -> Values {
            let at: Vec<usize> = wanted.iter().filter_map(|v| names.iter().position(|n| n == v)).collect();
            inputs.iter().map(|image| at.iter().map(|&i| image[i].clone()).collect()).collect()
        };
        let Some(first) = blocks.first() else { return Ok(()) };
        let mut float_values = select(&first.inputs);
        let mut quantized_values = float_values.clone();
        let mut number = 0;
        for block in blocks {
            let mut outputs: Option<Values> = None;
            for unit in &block.units {
                let (from, float_from) = if unit.inputs == block.inputs {
                    (quantized_values.clone(), float_values.clone())
                } else {
                    let inputs = &unit.inputs;
                    (
                        evaluate(&self.quantized, &block.inputs, &quantized_values, inputs)?,
                        evaluate(&self.float, &block.inputs, &float_values, inputs)?,
                    )
                };
                let wanted = evaluate(&self.float, &block.inputs, &float_values, &[unit.output])?;
                self.unit(unit, number, [&from, &float_from], &wanted, cx)?;
                number += 1;
                if block.outputs == [unit.output] {
                    outputs = Some(wanted);
                }
            }
            quantized_values = evaluate(&self.quantized, &block.inputs, &quantized_values, &block.outputs)?;
            float_values = match outputs {
                Some(outputs) => outputs,
                None => evaluate(&self.float, &block.inputs, &float_values, &block.outputs)?,
            };
        }
        Ok(())
    }

    /// Learns a unit and puts what was learned into the quantized network, if it helps.
    fn unit(
        &mut self,
        unit: &Unit,
        number: u64,
        [from, float_from]: [&Values; 2],
        wanted: &Values,
        cx: &PassContext,
    ) -> Result<(), RunError> {
        let pass = self.pass;
        let wanted: Vec<Arc<Tensor>> = wanted.iter().map(|v| v[0].clone()).collect();
        let prediction = |images, weight, temperature| {
            self.target.filter(|_| unit.separates).map(|target| Prediction {
                float: &self.float,
                target,
                logits: &self.logits,
                temperature,
                weight,
                images,
            })
        };
        let importance = match prediction(1, 1.0, 1.0).filter(|_| pass.fisher) {
            Some(p) => Some(self.importance(unit, from, &p)?),
            None => None,
        };
        let graph = self.quantized.graph();
        let layers: Vec<&Layer> = unit.layers.iter().map(|&l| &self.layers[l]).collect();
        let rounding: Vec<Option<Rounding>> = (layers.iter())
            .map(|l| {
                let float = graph.constant(l.weights?.float?).tensor.as_f32()?;
                Some(Rounding::new(float, graph.quantizer(l.scales?)))
            })
            .collect();
        let soft = |(r, l): (&Option<Rounding>, &&Layer)| {
            let shape = graph.constant(l.weights?.codes).tensor.shape().to_vec();
            r.as_ref().map(|r| Tensor::f32(&shape, r.soft()))
        };
        let soft = rounding.iter().zip(&layers).map(soft).collect();
        let training = TrainingGraph::new(pass.name(), graph, unit, self.layers, soft, pass.drop > 0.0)?;
        let free = training.activations.iter().filter(|q| !self.learned.contains(q));
        let activations: Vec<(QuantizerId, Vec<f32>)> =
            free.map(|q| (*q, vec![0.0; graph.quantizer(*q).scale.len()])).collect();
        let bias = |l: &&Layer| graph.constant(l.bias).tensor.as_f32().unwrap_or(&[]).to_vec();
        let mut training = UnitTraining {
            schedule: pass.schedule(self.iterations),
            graph: training,
            inputs: unit.inputs.clone(),
            output: unit.output,
            parameters: Parameters { rounding, bias: layers.iter().map(bias).collect(), activations },
            layers,
            data: UnitData { quantized: from, float: float_from, wanted: &wanted, importance: importance.as_deref() },
            prediction: prediction(pass.prediction_images, pass.prediction, pass.temperature)
                .filter(|_| pass.prediction > 0.0),
            seed: cx.seed,
            number,
        };
        let every = self.iterations.div_ceil(CURVE_POINTS);
        let mut curve = vec![];
        training.run(cx, |step, loss| {
            if step % every == 0 || step + 1 == self.iterations {
                cx.progress.status(&format!("unit {}: loss {:.3e}", number + 1, loss.reconstruction + loss.prediction));
                curve.push(LossPoint {
                    pass: pass.name(),
                    unit: number as usize + 1,
                    step,
                    losses: [loss.reconstruction, loss.prediction, loss.rounding],
                });
            }
        })?;
        self.curve.extend(curve);
        let (parameters, scales) = (&training.parameters, &training.graph.interpreter);
        let mut learned = self.quantized.clone();
        for ((layer, rounding), bias) in training.layers.iter().zip(&parameters.rounding).zip(&parameters.bias) {
            learned.set_constant(layer.bias, Arc::new(Tensor::f32(&[bias.len()], bias.clone())))?;
            if let (Some(rounding), Some(coded), Some(id)) = (rounding, layer.weights, layer.scales) {
                let shape = learned.graph().constant(coded.codes).tensor.shape().to_vec();
                learned.set_constant(coded.codes, Arc::new(Tensor::codes(&shape, rounding.codes())))?;
                let mut q = learned.graph().quantizer(id).clone();
                q.scale.clone_from(&rounding.scale);
                learned.set_quantizer(id, q)?;
            }
        }
        for (id, _) in &parameters.activations {
            learned.set_quantizer(*id, scales.graph().quantizer(*id).clone())?;
        }
        let error = |of: &Interpreter| relative_error(of, unit, from, &wanted);
        let (before, after) = (error(&self.quantized)?, error(&learned)?);
        // Written so that NaN is no gain.
        if after < before {
            self.outcome.kept += 1;
            self.outcome.before += before;
            self.outcome.after += after;
            self.learned.extend(parameters.activations.iter().map(|(q, _)| *q));
            self.quantized = learned;
        }
        Ok(())
    }

    /// For each image how much the elements of a unit's output matter: the gradient of the logits' divergence, over its root mean square,
    /// plus 1; scaled so that the mean square is 1.
    fn importance(&self, unit: &Unit, from: &Values, p: &Prediction) -> Result<Vec<Tensor>, EvalError> {
        let found = evaluate(&self.quantized, &unit.inputs, from, &[unit.output])?;
        let gradients = map_images(found.len(), |i| Ok::<_, EvalError>(p.pull(unit.output, &found[i][0], &[i], 1)?.1))?;
        let rms = |all: &[Vec<f32>]| {
            let squares: f64 = all.iter().flatten().map(|g| f64::from(*g).powi(2)).sum();
            (squares / all.iter().map(Vec::len).sum::<usize>().max(1) as f64).sqrt()
        };
        let scale = rms(&gradients).max(1e-30);
        let raised: Vec<Vec<f32>> =
            gradients.iter().map(|g| g.iter().map(|g| (f64::from(g.abs()) / scale) as f32 + 1.0).collect()).collect();
        let scale = rms(&raised).max(1e-30) as f32;
        let tensor = |(g, t): (Vec<f32>, &Vec<Arc<Tensor>>)| {
            Tensor::f32(t[0].shape(), g.into_iter().map(|g| g / scale).collect())
        };
        Ok(raised.into_iter().zip(&found).map(tensor).collect())
    }
}

/// The squared error of a unit's outputs over all images, relative to the squares of what is wanted.
fn relative_error(
    interpreter: &Interpreter,
    unit: &Unit,
    from: &Values,
    wanted: &[Arc<Tensor>],
) -> Result<f64, EvalError> {
    let parts = map_images(from.len(), |i| {
        let given: Vec<(ValueId, &Tensor)> =
            unit.inputs.iter().copied().zip(from[i].iter().map(|t| t.as_ref())).collect();
        let found = interpreter.run_from(&given, &[unit.output])?.remove(0);
        let pairs = || found.as_f32().unwrap_or(&[]).iter().zip(wanted[i].as_f32().unwrap_or(&[]));
        let error: f64 = pairs().map(|(f, w)| f64::from(f - w).powi(2)).sum();
        Ok::<_, EvalError>((error, pairs().map(|(_, w)| f64::from(*w).powi(2)).sum::<f64>()))
    })?;
    let (error, size) = parts.into_iter().fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
    Ok(error / size.max(1e-30))
}
