//! A reconstruction from the first unit to the last: the values that both networks give each unit, the unit's parameters before and after,
//! and what is kept.

use crate::context::{LossPoint, PassContext};
use crate::learn::blocks::{Block, Unit};
use crate::learn::layers::Layer;
use crate::learn::rounding::Rounding;
use crate::learn::training_graph::TrainingGraph;
use crate::learn::unit_training::{Parameters, Prediction, Schedule, UnitData, UnitTraining};
use crate::objective::{Objective, downstream};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Graph, QuantizerId, Tensor, ValueId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Losses of each unit that are kept for the curve.
const CURVE_POINTS: usize = 500;
/// The mean square that every unit's outputs are scaled to. The weights of the rounding regularizer and of the distance of the network's
/// outputs, against the unit's own error, then do not depend on the magnitude of its activations.
const TARGET_MEAN_SQUARE: f64 = 32.0;

/// The terms of the loss of a unit besides the error of its own output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// Whether errors are weighted by the gradient of the distance of the network's outputs.
    pub fisher: bool,
    /// Weight of the distance of the network's outputs, its temperature, and the images of a batch that it is computed on.
    pub prediction_weight: f64,
    pub temperature: f64,
    pub prediction_images: usize,
}

impl Goal {
    /// Whether the network's outputs are needed.
    pub fn needs_outputs(&self) -> bool {
        self.fisher || self.prediction_weight > 0.0
    }
}

/// Why a run ends early.
pub(crate) enum RunError {
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
pub(crate) struct Outcome {
    /// Units whose parameters are kept.
    pub kept: usize,
    /// Sums of the units' relative errors.
    pub before: f64,
    pub after: f64,
}

impl Outcome {
    /// What to say of it.
    pub fn note(&self, units: usize, iterations: usize, images: usize) -> String {
        format!(
            "learned {} of {units} units in {iterations} iterations each on {images} images: their outputs' mean squared error falls \
             to {:.1} % of that of rounding to nearest",
            self.kept,
            100.0 * self.after / self.before
        )
    }
}

/// Values of every image.
pub(crate) type Values = Vec<Vec<Arc<Tensor>>>;

/// A reconstruction in progress.
pub(crate) struct Reconstruction<'a> {
    /// The pass.
    pub pass: &'static str,
    pub schedule: Schedule,
    pub goal: Goal,
    /// The layers, and the deviation of the outputs of each.
    pub layers: &'a [Layer],
    pub units: Vec<f32>,
    pub reference: &'a Graph,
    /// What the network's outputs are compared by, if they can be.
    pub objective: Option<Arc<Objective>>,
    pub float: Interpreter,
    /// The network as learned so far.
    pub quantized: Interpreter,
    /// The float network's compared values of each image.
    pub outputs: Vec<Vec<f32>>,
    /// Quantizers of activations that a unit has learned.
    pub learned: BTreeSet<QuantizerId>,
    pub outcome: Outcome,
    pub curve: Vec<LossPoint>,
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

impl Reconstruction<'_> {
    /// Learns every unit, from the network's inputs for each image.
    pub fn run(&mut self, blocks: &[Block], inputs: Values, cx: &PassContext) -> Result<(), RunError> {
        let names: Vec<ValueId> = self.reference.inputs.iter().map(|(v, _)| *v).collect();
        if let (Some(objective), true) = (&self.objective, self.goal.needs_outputs()) {
            let outputs = evaluate(&self.float, &names, &inputs, &objective.values())?;
            let row = |tensors: &Vec<Arc<Tensor>>| {
                tensors.iter().flat_map(|t| t.as_f32().unwrap_or(&[]).iter().copied()).collect()
            };
            self.outputs = outputs.iter().map(row).collect();
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
        let (pass, goal) = (self.pass, self.goal);
        let wanted: Vec<Arc<Tensor>> = wanted.iter().map(|v| v[0].clone()).collect();
        let after = downstream(self.reference, unit.output);
        let prediction = |images, weight, temperature| {
            let objective = self.objective.as_ref().filter(|_| unit.separates && goal.needs_outputs())?;
            let (objective, places) = objective.part(|v| after.contains(&v))?;
            Some(Prediction {
                float: &self.float,
                objective,
                wanted: &self.outputs,
                places,
                temperature,
                weight,
                images,
            })
        };
        let importance = match prediction(1, 1.0, 1.0).filter(|_| goal.fisher) {
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
        let training = TrainingGraph::new(pass, graph, unit, self.layers, soft, self.schedule.quant_drop_prob > 0.0)?;
        let free = training.activations.iter().filter(|q| !self.learned.contains(q));
        let activations: Vec<(QuantizerId, Vec<f32>)> =
            free.map(|q| (*q, vec![0.0; graph.quantizer(*q).scale.len()])).collect();
        let bias = |l: &&Layer| graph.constant(l.bias).tensor.as_f32().unwrap_or(&[]).to_vec();
        let mut training = UnitTraining {
            schedule: self.schedule,
            graph: training,
            inputs: unit.inputs.clone(),
            output: unit.output,
            parameters: Parameters { rounding, bias: layers.iter().map(bias).collect(), activations },
            layers,
            units: unit.layers.iter().map(|&l| self.units[l]).collect(),
            data: UnitData {
                quantized: from,
                float: float_from,
                wanted: &wanted,
                importance: importance.as_deref(),
                weight: TARGET_MEAN_SQUARE / energy(&wanted),
            },
            prediction: prediction(goal.prediction_images, goal.prediction_weight, goal.temperature)
                .filter(|_| goal.prediction_weight > 0.0),
            seed: cx.seed,
            number,
        };
        let every = self.schedule.iterations.div_ceil(CURVE_POINTS);
        let mut curve = vec![];
        training.run(cx, |step, loss| {
            if step % every == 0 || step + 1 == self.schedule.iterations {
                cx.progress.status(&format!("unit {}: loss {:.3e}", number + 1, loss.reconstruction + loss.prediction));
                curve.push(LossPoint {
                    pass,
                    unit: number as usize + 1,
                    step,
                    losses: [loss.reconstruction, loss.prediction, loss.rounding],
                });
            }
        })?;
        self.curve.extend(curve);
        let learned = self.learned_network(&training)?;
        let error = |of: &Interpreter| relative_error(of, unit, from, &wanted);
        let (before, after) = (error(&self.quantized)?, error(&learned)?);
        // Written so that NaN is no gain.
        if after < before {
            self.outcome.kept += 1;
            self.outcome.before += before;
            self.outcome.after += after;
            self.learned.extend(training.parameters.activations.iter().map(|(q, _)| *q));
            self.quantized = learned;
        }
        Ok(())
    }

    /// The network with what a unit has learned.
    fn learned_network(&self, training: &UnitTraining) -> Result<Interpreter, EvalError> {
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
        Ok(learned)
    }

    /// For each image how much the elements of a unit's output matter: the gradient of the distance of the network's outputs, over its root mean square,
    /// plus 1; scaled so that the mean square is 1.
    fn importance(&self, unit: &Unit, from: &Values, p: &Prediction) -> Result<Vec<Tensor>, EvalError> {
        let found = evaluate(&self.quantized, &unit.inputs, from, &[unit.output])?;
        let gradients = map_images(found.len(), |i| Ok::<_, EvalError>(p.loss(unit.output, &found[i][0], &[i], 1)?.1))?;
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

/// The mean over images and positions of the squared deviation of a unit's outputs from the mean of their channel, summed over channels; 1 if
/// they are constant.
fn energy(outputs: &[Arc<Tensor>]) -> f64 {
    let Some(shape) = outputs.first().map(|t| t.shape()) else { return 1.0 };
    let channels = shape.get(1).copied().unwrap_or(1).max(1);
    let plane: usize = shape[2.min(shape.len())..].iter().product();
    let mut sums = vec![[0.0f64; 2]; channels];
    for output in outputs {
        for (i, x) in output.as_f32().unwrap_or(&[]).iter().enumerate() {
            let (sum, x) = (&mut sums[i / plane.max(1) % channels], f64::from(*x));
            *sum = [sum[0] + x, sum[1] + x * x];
        }
    }
    let n = (outputs.len() * plane).max(1) as f64;
    let energy: f64 = sums.iter().map(|[sum, squares]| (squares / n - (sum / n).powi(2)).max(0.0)).sum();
    if energy > 0.0 && energy.is_finite() { energy } else { 1.0 }
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
