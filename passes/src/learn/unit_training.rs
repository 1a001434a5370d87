//! Learns one unit, so that its output from the quantized network's values is as near as possible to the float network's output.
//!
//! A step draws a batch of images, evaluates it in chunks of a fixed size (each on one thread, their gradients summed in order, so that
//! results do not depend on the number of threads) and moves the parameters by Adam.

use crate::context::PassContext;
use crate::learn::adam::{Adam, cosine};
use crate::learn::layers::Layer;
use crate::learn::loss::squared_error;
use crate::learn::rounding::{Regularizer, Rounding};
use crate::learn::training_graph::{Mask, TrainingGraph};
use crate::objective::Objective;
use catc_interp::{EvalError, Evaluator, Interpreter, Wrt};
use catc_ir::{QuantizerId, Tensor, TensorData, ValueId};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Images of a chunk.
const CHUNK: usize = 8;
/// Logarithms of the scales of activations stay within this of their start.
const MAX_LOG: f32 = 1.4;

/// How a unit is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub iterations: usize,
    pub batch: usize,
    /// Rate of the rounding variables.
    pub rate: f64,
    /// Rates at the start of a cosine, of logarithms of scales and of biases in deviations of their layer's outputs; 0 keeps what they belong
    /// to.
    pub activation_rate: f64,
    pub scale_rate: f64,
    pub bias_rate: f64,
    /// Probability with which an element of a tensor is left unquantized.
    pub quant_drop_prob: f64,
    /// Probability with which an element of the unit's input comes from the float network.
    pub input_mix_prob: f64,
    /// The rounding regularizer: weight, the part of the iterations before it acts, and its exponent from start to end.
    pub lambda: f64,
    pub warmup: f64,
    pub beta: [f64; 2],
}

/// The images that a unit is learned from: each slice has an entry for each image.
pub(crate) struct UnitData<'a> {
    /// The unit's inputs in the quantized and in the float network.
    pub quantized: &'a [Vec<Arc<Tensor>>],
    pub float: &'a [Vec<Arc<Tensor>>],
    /// The float network's output of the unit.
    pub wanted: &'a [Arc<Tensor>],
    /// How much each element of the output matters.
    pub importance: Option<&'a [Tensor]>,
    /// What the squared error of one position, summed over its channels, is multiplied by.
    pub weight: f64,
}

/// The distance of the network's outputs with the unit quantized and everything after it in float.
pub(crate) struct Prediction<'a> {
    pub float: &'a Interpreter,
    /// What is compared of what comes after the unit.
    pub objective: Objective,
    /// The float network's compared values of each image, and where among them are those of `objective`.
    pub wanted: &'a [Vec<f32>],
    pub places: Vec<Range<usize>>,
    pub temperature: f64,
    /// Its weight against the unit's own error.
    pub weight: f64,
    /// Images of each batch that it is computed on.
    pub images: usize,
}

/// The parameters of a unit.
pub(crate) struct Parameters {
    /// For each layer of the unit, if its rounding is learned.
    pub rounding: Vec<Option<Rounding>>,
    /// For each layer of the unit.
    pub bias: Vec<Vec<f32>>,
    /// Quantizers of activations with the logarithm of their scale over what it was at the start.
    pub activations: Vec<(QuantizerId, Vec<f32>)>,
}

/// The losses of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StepLoss {
    pub reconstruction: f64,
    pub prediction: f64,
    pub rounding: f64,
}

/// What one chunk adds.
struct Sums {
    loss: StepLoss,
    weights: Vec<Vec<f32>>,
    biases: Vec<Vec<f32>>,
    scales: Vec<Vec<f32>>,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.loss.reconstruction += other.loss.reconstruction;
        self.loss.prediction += other.loss.prediction;
        let add = |to: &mut Vec<Vec<f32>>, from: Vec<Vec<f32>>| {
            for (to, from) in to.iter_mut().zip(from) {
                to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
            }
        };
        add(&mut self.weights, other.weights);
        add(&mut self.biases, other.biases);
        add(&mut self.scales, other.scales);
    }
}

/// A unit being learned.
pub(crate) struct UnitTraining<'a> {
    pub schedule: Schedule,
    pub graph: TrainingGraph,
    pub inputs: Vec<ValueId>,
    pub output: ValueId,
    /// The unit's layers, and the deviation of the outputs of each.
    pub layers: Vec<&'a Layer>,
    pub units: Vec<f32>,
    pub data: UnitData<'a>,
    pub prediction: Option<Prediction<'a>>,
    pub parameters: Parameters,
    /// Seed and number of the unit: together they decide on everything random.
    pub seed: u64,
    pub number: u64,
}

impl UnitTraining<'_> {
    /// Learns the parameters. `observe` is told the losses of each step.
    pub fn run(&mut self, cx: &PassContext, mut observe: impl FnMut(usize, StepLoss)) -> Result<(), EvalError> {
        let s = self.schedule;
        let images = self.data.quantized.len();
        let batch = s.batch.min(images);
        let mut batches = Batches::new(images, self.rng(u64::MAX));
        let sizes = |all: &[Vec<f32>]| all.iter().map(|x| Adam::new(x.len())).collect::<Vec<_>>();
        let first_biases = self.parameters.bias.clone();
        let mut moved: Vec<Vec<f32>> = first_biases.iter().map(|b| vec![0.0; b.len()]).collect();
        let mut bias_adam = sizes(&moved);
        let mut log_scales: Vec<Vec<f32>> =
            self.parameters.rounding.iter().map(|r| vec![0.0; r.as_ref().map_or(0, |r| r.scale.len())]).collect();
        let first_scales: Vec<Vec<f32>> =
            self.parameters.rounding.iter().map(|r| r.as_ref().map_or(vec![], |r| r.scale.clone())).collect();
        let mut scale_adam = sizes(&log_scales);
        let mut activation_adam: Vec<Adam> =
            self.parameters.activations.iter().map(|(_, log)| Adam::new(log.len())).collect();
        let first_activations: Vec<Vec<f32>> = (self.parameters.activations.iter())
            .map(|(q, _)| self.graph.interpreter.graph().quantizer(*q).scale.clone())
            .collect();
        for step in 0..s.iterations {
            let chosen = batches.draw(batch);
            let mut sums = self.gradients(&chosen, step)?;
            let regularizer = self.regularizer(step);
            let rate = |rate: f64| cosine(rate, step, s.iterations);
            for (l, rounding) in self.parameters.rounding.iter_mut().enumerate() {
                let Some(rounding) = rounding else { continue };
                let dw = &sums.weights[l];
                if s.scale_rate > 0.0 {
                    let gradient = rounding.scale_gradient(dw);
                    let in_logs: Vec<f32> = gradient.iter().zip(&rounding.scale).map(|(g, s)| g * s).collect();
                    scale_adam[l].step(&mut log_scales[l], &in_logs, rate(s.scale_rate));
                }
                rounding.step(dw, regularizer, s.rate);
                if let (Some(regularizer), true) = (regularizer, step % 16 == 0) {
                    sums.loss.rounding += rounding.penalty(regularizer);
                }
                for (scale, (first, log)) in rounding.scale.iter_mut().zip(first_scales[l].iter().zip(&log_scales[l])) {
                    *scale = first * log.exp();
                }
            }
            if s.bias_rate > 0.0 {
                for (l, bias) in self.parameters.bias.iter_mut().enumerate() {
                    let unit = self.units[l];
                    let gradient: Vec<f32> = sums.biases[l].iter().map(|g| g * unit).collect();
                    bias_adam[l].step(&mut moved[l], &gradient, rate(s.bias_rate));
                    let at = first_biases[l].iter().zip(&moved[l]);
                    bias.iter_mut().zip(at).for_each(|(bias, (first, moved))| *bias = first + moved * unit);
                }
            }
            if s.activation_rate > 0.0 {
                let moved = self.parameters.activations.iter_mut().zip(&mut activation_adam);
                for (((id, log), adam), gradient) in moved.zip(&sums.scales) {
                    let scale = &self.graph.interpreter.graph().quantizer(*id).scale;
                    let in_logs: Vec<f32> = gradient.iter().zip(scale).map(|(g, s)| g * s).collect();
                    adam.step(log, &in_logs, rate(s.activation_rate));
                    log.iter_mut().for_each(|l| *l = l.clamp(-MAX_LOG, MAX_LOG));
                }
            }
            self.apply(&first_activations)?;
            observe(step, sums.loss);
            cx.progress.advance(1);
        }
        Ok(())
    }

    /// The regularizer of a step, once it acts.
    fn regularizer(&self, step: usize) -> Option<Regularizer> {
        let s = &self.schedule;
        let start = s.warmup * s.iterations as f64;
        (step as f64 >= start && s.lambda > 0.0).then(|| {
            let passed = (step as f64 - start) / (s.iterations as f64 - start).max(1.0);
            let beta = s.beta[1] + (s.beta[0] - s.beta[1]) * (1.0 - passed);
            Regularizer { lambda: s.lambda as f32, beta: beta as f32 }
        })
    }

    /// Puts the parameters into the training graph.
    fn apply(&mut self, first: &[Vec<f32>]) -> Result<(), EvalError> {
        let s = &self.schedule;
        let interpreter = &mut self.graph.interpreter;
        for (constant, rounding) in self.graph.weights.iter().zip(&self.parameters.rounding) {
            if let (Some(c), Some(rounding)) = (constant, rounding) {
                let shape = interpreter.graph().constant(*c).tensor.shape().to_vec();
                interpreter.set_constant(*c, Arc::new(Tensor::f32(&shape, rounding.soft())))?;
            }
        }
        if s.bias_rate > 0.0 {
            for (layer, bias) in self.layers.iter().zip(&self.parameters.bias) {
                interpreter.set_constant(layer.bias, Arc::new(Tensor::f32(&[bias.len()], bias.clone())))?;
            }
        }
        if s.activation_rate > 0.0 {
            for ((id, log), first) in self.parameters.activations.iter().zip(first) {
                let mut q = interpreter.graph().quantizer(*id).clone();
                q.scale = first.iter().zip(log).map(|(s, l)| s * l.exp()).collect();
                interpreter.set_quantizer(*id, q)?;
            }
        }
        Ok(())
    }

    fn rng(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.set_stream(stream);
        rng
    }

    /// Losses and gradients of a batch, summed over its chunks in order.
    fn gradients(&self, chosen: &[usize], step: usize) -> Result<Sums, EvalError> {
        let chunks: Vec<&[usize]> = chosen.chunks(CHUNK).collect();
        let compute = |(c, images): (usize, &&[usize])| {
            let stream = (step as u64) << 16 | c as u64;
            self.chunk(images, c * CHUNK, chosen.len(), &mut self.rng(stream))
        };
        let parts: Vec<Result<Sums, EvalError>> = chunks.par_iter().enumerate().with_max_len(1).map(compute).collect();
        let mut total: Option<Sums> = None;
        for part in parts {
            match &mut total {
                None => total = Some(part?),
                Some(total) => total.add(part?),
            }
        }
        Ok(total.unwrap_or_else(|| Sums { loss: StepLoss::default(), weights: vec![], biases: vec![], scales: vec![] }))
    }

    /// Losses and gradients of some images, the first of them number `first` of a batch of `batch`.
    fn chunk(&self, images: &[usize], first: usize, batch: usize, rng: &mut ChaCha8Rng) -> Result<Sums, EvalError> {
        let s = &self.schedule;
        let inputs: Vec<Tensor> = (0..self.inputs.len())
            .map(|i| {
                let quantized = images.iter().map(|&n| self.data.quantized[n][i].as_ref());
                let float = images.iter().map(|&n| self.data.float[n][i].as_ref());
                if s.input_mix_prob > 0.0 {
                    mixed(quantized.zip(float), s.input_mix_prob, rng)
                } else {
                    stack(quantized)
                }
            })
            .collect();
        let masks: Vec<Tensor> =
            self.graph.masks.iter().map(|m| draw_mask(m, images.len(), s.quant_drop_prob, rng)).collect();
        let named = self.inputs.iter().copied().zip(&inputs);
        let given: Vec<(ValueId, &Tensor)> =
            named.chain(self.graph.masks.iter().map(|m| m.value).zip(&masks)).collect();
        let interpreter = &self.graph.interpreter;
        let tape = interpreter.record(&given, &[self.output])?;
        let output = tape.value(self.output).ok_or(EvalError::Unknown(self.output))?;
        let wanted = stack(images.iter().map(|&n| self.data.wanted[n].as_ref()));
        let importance = self.data.importance.map(|all| stack(images.iter().map(|&n| &all[n])));
        // The mean over images and positions of the sum over channels.
        let positions: usize = output.shape()[2.min(output.shape().len())..].iter().product();
        let weight = (self.data.weight / (batch * positions.max(1)) as f64) as f32;
        let (found, wanted) = (output.as_f32().unwrap_or(&[]), wanted.as_f32().unwrap_or(&[]));
        let importance = importance.as_ref().and_then(|t| t.as_f32());
        let (reconstruction, mut seed) = squared_error(found, wanted, importance, weight);
        let mut loss = StepLoss { reconstruction, ..StepLoss::default() };
        if let Some(p) = &self.prediction {
            let count = p.images.min(batch).saturating_sub(first).min(images.len());
            if count > 0 {
                let part = output.len() / images.len();
                let shape: Vec<usize> = [count].iter().chain(&output.shape()[1..]).copied().collect();
                let head = Tensor::f32(&shape, found[..count * part].to_vec());
                let (value, gradient) = p.loss(self.output, &head, &images[..count], p.images.min(batch))?;
                loss.prediction = value;
                seed.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
            }
        }
        let seed = Tensor::f32(output.shape(), seed);
        let mut wrt: Vec<Wrt> = self.graph.weights.iter().flatten().map(|c| Wrt::Constant(*c)).collect();
        if s.bias_rate > 0.0 {
            wrt.extend(self.layers.iter().map(|l| Wrt::Constant(l.bias)));
        }
        if s.activation_rate > 0.0 {
            wrt.extend(self.parameters.activations.iter().map(|(q, _)| Wrt::Scale(*q)));
        }
        let mut gradients = tape.gradients(&[(self.output, seed)], &wrt)?;
        let mut take = |wrt: Option<Wrt>| {
            let tensor = wrt.and_then(|w| gradients.take(w));
            tensor.and_then(|t| t.as_f32().map(<[f32]>::to_vec)).unwrap_or_default()
        };
        Ok(Sums {
            loss,
            weights: self.graph.weights.iter().map(|c| take(c.map(Wrt::Constant))).collect(),
            biases: self.layers.iter().map(|l| take(Some(Wrt::Constant(l.bias)))).collect(),
            scales: self.parameters.activations.iter().map(|(q, _)| take(Some(Wrt::Scale(*q)))).collect(),
        })
    }
}

impl Prediction<'_> {
    /// The weighted distance for `output`, the unit's output for these images, averaged over `count` images, and its gradient at the
    /// output.
    pub fn loss(
        &self,
        unit: ValueId,
        output: &Tensor,
        images: &[usize],
        count: usize,
    ) -> Result<(f64, Vec<f32>), EvalError> {
        let values = self.objective.values();
        let tape = self.float.record(&[(unit, output)], &values)?;
        let tensors: Vec<&Tensor> =
            values.iter().map(|v| tape.value(*v).ok_or(EvalError::Unknown(*v))).collect::<Result<_, _>>()?;
        let (mut loss, mut rows) = (0.0, Vec::with_capacity(images.len()));
        for (found, &image) in self.objective.rows(&tensors).iter().zip(images) {
            let all = &self.wanted[image];
            let wanted: Vec<f32> = self.places.iter().flat_map(|p| all[p.clone()].iter().copied()).collect();
            let (value, gradient) =
                self.objective.gradient(&wanted, found, self.temperature, self.weight / count as f64);
            loss += value;
            rows.push(gradient);
        }
        let seeds = self.objective.seeds(&tensors, &rows);
        let mut gradients = tape.gradients(&seeds, &[Wrt::Value(unit)])?;
        let gradient = gradients.take(Wrt::Value(unit)).and_then(|t| t.as_f32().map(<[f32]>::to_vec));
        Ok((loss, gradient.unwrap_or_default()))
    }
}

/// Tensors of one image each as one batch.
pub(crate) fn stack<'t>(images: impl Iterator<Item = &'t Tensor>) -> Tensor {
    let (mut shape, mut data) = (vec![], vec![]);
    for image in images {
        if shape.is_empty() {
            shape = image.shape().to_vec();
            shape[0] = 0;
        }
        shape[0] += image.shape()[0];
        data.extend_from_slice(image.as_f32().unwrap_or(&[]));
    }
    Tensor::f32(&shape, data)
}

/// Pairs of tensors of one image each as one batch, each element with probability `p` the second one's.
fn mixed<'t>(pairs: impl Iterator<Item = (&'t Tensor, &'t Tensor)>, p: f64, rng: &mut ChaCha8Rng) -> Tensor {
    let (mut shape, mut data) = (vec![], vec![]);
    for (a, b) in pairs {
        if shape.is_empty() {
            shape = a.shape().to_vec();
            shape[0] = 0;
        }
        shape[0] += a.shape()[0];
        let (a, b) = (a.as_f32().unwrap_or(&[]), b.as_f32().unwrap_or(&[]));
        let first = data.len();
        data.extend_from_slice(a);
        let mut rest = b;
        draw(&mut data[first..], p, rng, |x, chosen| {
            let (b, after) = rest.split_at(x.len().min(rest.len()));
            rest = after;
            for ((x, b), chosen) in x.iter_mut().zip(b).zip(chosen) {
                *x = if *chosen { *b } else { *x };
            }
        });
    }
    Tensor::f32(&shape, data)
}

/// A mask for this many images.
fn draw_mask(mask: &Mask, images: usize, p: f64, rng: &mut ChaCha8Rng) -> Tensor {
    let shape: Vec<usize> = [images].iter().chain(&mask.shape[1..]).copied().collect();
    let mut data = vec![false; shape.iter().product()];
    draw(&mut data, p, rng, |x, chosen| x.copy_from_slice(chosen));
    Tensor::new(shape, TensorData::Bool(data))
}

/// Calls `f` with part after part of `out` and a choice for each element of the part, true with probability `p` (in steps of 1/256).
fn draw<T>(out: &mut [T], p: f64, rng: &mut ChaCha8Rng, mut f: impl FnMut(&mut [T], &[bool])) {
    let bound = (p * 256.0).round() as u16;
    let (mut bytes, mut chosen) = ([0u8; 1024], [false; 1024]);
    for part in out.chunks_mut(bytes.len()) {
        let (bytes, chosen) = (&mut bytes[..part.len()], &mut chosen[..part.len()]);
        rng.fill_bytes(bytes);
        chosen.iter_mut().zip(&*bytes).for_each(|(c, b)| *c = u16::from(*b) < bound);
        f(part, chosen);
    }
}

/// Draws batches, epoch by epoch: no image repeats before every image was drawn.
pub(crate) struct Batches {
    order: Vec<usize>,
    next: usize,
    rng: ChaCha8Rng,
}

impl Batches {
    /// Of the images `0..images`.
    pub fn new(images: usize, rng: ChaCha8Rng) -> Batches {
        Batches { order: (0..images).collect(), next: images, rng }
    }

    /// The next `count` images, at most as many as there are.
    pub fn draw(&mut self, count: usize) -> Vec<usize> {
        if self.next + count > self.order.len() {
            self.order.shuffle(&mut self.rng);
            self.next = 0;
        }
        let batch = self.order[self.next..][..count].to_vec();
        self.next += count;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_their_share_of_ones() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut share = |p: f64| {
            let mut x = vec![false; 40_000];
            draw(&mut x, p, &mut rng, |x, chosen| x.copy_from_slice(chosen));
            x.iter().filter(|x| **x).count() as f32 / 40_000.0
        };
        assert_eq!((share(0.0), share(1.0)), (0.0, 1.0));
        assert!((share(0.5) - 0.5).abs() < 0.02 && (share(0.25) - 0.25).abs() < 0.02);
    }

    #[test]
    fn batches_show_every_image_before_one_comes_again() {
        let mut batches = Batches::new(10, ChaCha8Rng::seed_from_u64(2));
        let mut seen: Vec<usize> = (0..2).flat_map(|_| batches.draw(5)).collect();
        let again: Vec<usize> = (0..2).flat_map(|_| batches.draw(5)).collect();
        assert_ne!(seen, again);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..10));
        assert_eq!(batches.draw(10).len(), 10);
    }
}
