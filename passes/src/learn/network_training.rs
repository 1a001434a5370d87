//! Learns scales, zero-points and biases of a whole quantized network together, and its weight codes if asked for, by the distance of its
//! outputs from the float network's: arXiv 2509.26277, equation 3, for class scores.
//!
//! A layer's products are linear in the scale of their channel, so the gradient of that scale's logarithm is the sum of the output's
//! gradient times what the products contribute to it (the output less the bias): no gradient of weights is computed for it. Where codes
//! move too, each weight has a real behind its code that follows the gradient of the weight, rounding passed straight through. As in
//! [`crate::learn::unit_training`] batches are evaluated in chunks of a fixed size and summed in order.

use crate::context::{CalibrationData, PassContext, checked_sample};
use crate::learn::adam::{Adam, cosine};
use crate::learn::augment::{Augment, Change, Changes};
use crate::learn::latent::Latent;
use crate::learn::layers::Layer;
use crate::learn::unit_training::{Batches, stack};
use crate::objective::Objective;
use crate::pass::PassError;
use catc_interp::{EvalError, Evaluator, Interpreter, Tape, Wrt};
use catc_ir::{Graph, Op, Operand, Quantizer, QuantizerId, Tensor, ValueId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use std::sync::Arc;

/// Images of a chunk.
const CHUNK: usize = 8;
/// Logarithms of scales stay within this of their start.
const MAX_LOG: f32 = 1.4;

/// How a network is learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NetworkSchedule {
    pub steps: usize,
    pub batch: usize,
    pub temperature: f64,
    /// Weight of the regularizer.
    pub lambda: f64,
    /// Rates at the start of a cosine, of logarithms of scales, of zero-points in codes, of biases.
    pub activation_rate: f64,
    pub zero_point_rate: f64,
    pub scale_rate: f64,
    pub bias_rate: f64,
    /// Rate of weights, in codes; 0 keeps the codes.
    pub code_rate: f64,
    pub augment: Augment,
}

/// Numbers that Adam moves.
struct Group {
    values: Vec<f32>,
    adam: Adam,
}

impl Group {
    fn new(values: Vec<f32>) -> Group {
        Group { adam: Adam::new(values.len()), values }
    }

    fn step(&mut self, gradient: &[f64], rate: f64) {
        let gradient: Vec<f32> = gradient.iter().map(|g| *g as f32).collect();
        if rate > 0.0 {
            self.adam.step(&mut self.values, &gradient, rate);
        }
    }
}

/// The quantizer of a tensor: the logarithm of its scale relative to the start, and its zero-point before rounding.
struct Activation {
    id: QuantizerId,
    initial: Quantizer,
    log: Group,
    zero_point: Group,
}

/// A layer's channels: logarithms of weight scales over those at the start, biases, and what is behind the codes if they move.
struct Channels<'a> {
    layer: &'a Layer,
    initial: Option<Quantizer>,
    log: Group,
    /// Biases at the start, and how far they have moved in units of `unit`, the deviation of the layer's outputs.
    start: Vec<f32>,
    moved: Group,
    unit: f32,
    latent: Option<Latent>,
}

impl Channels<'_> {
    fn biases(&self) -> Vec<f32> {
        self.start.iter().zip(&self.moved.values).map(|(b, moved)| b + moved * self.unit).collect()
    }
}

/// A network being learned.
pub(crate) struct NetworkTraining<'a> {
    pub pass: &'static str,
    pub quantized: Interpreter,
    pub float: &'a Interpreter,
    /// What is compared, in both networks.
    pub objective: &'a Objective,
    pub data: &'a dyn CalibrationData,
    /// The images to learn from, and the float network's compared values of them; without these it is run on every batch.
    pub images: &'a [usize],
    pub wanted: Option<&'a [Vec<f32>]>,
    pub parameters: Parameters<'a>,
    pub seed: u64,
}

/// Everything that moves.
pub(crate) struct Parameters<'a> {
    activations: Vec<Activation>,
    channels: Vec<Channels<'a>>,
}

/// What a chunk adds: its loss, and for each activation and each layer the gradients of both its groups.
struct Sums {
    loss: f64,
    activations: Vec<[f64; 2]>,
    channels: Vec<[Vec<f64>; 2]>,
    /// For each layer the gradient of its weights, if its codes move.
    weights: Vec<Vec<f32>>,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.loss += other.loss;
        for (a, b) in self.activations.iter_mut().zip(other.activations) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
        for (a, b) in self.channels.iter_mut().flatten().zip(other.channels.into_iter().flatten()) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
        for (a, b) in self.weights.iter_mut().zip(other.weights) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
    }
}

impl<'a> Parameters<'a> {
    /// The quantizers of tensors and the channels of the layers that `needed` names, where they are now. With the float network
    /// `reference` codes can move. `units` holds the deviation of each layer's outputs.
    pub fn new(
        graph: &Graph,
        reference: Option<&Graph>,
        layers: &'a [Layer],
        units: &[f32],
        needed: impl Fn(usize) -> bool,
    ) -> Parameters<'a> {
        let mut ids: Vec<QuantizerId> = vec![];
        for (_, node) in graph.nodes().iter().enumerate().filter(|(i, _)| needed(*i)) {
            if let (Op::Quantize(q), Operand::Value(_)) = (&node.op, node.inputs[0])
                && graph.quantizer(q.quantizer).scale.len() == 1
                && !ids.contains(&q.quantizer)
            {
                ids.push(q.quantizer);
            }
        }
        let activation = |id: QuantizerId| {
            let initial = graph.quantizer(id).clone();
            let zero_point = Group::new(vec![initial.zero_point[0] as f32]);
            Activation { id, initial, log: Group::new(vec![0.0]), zero_point }
        };
        let channels = |(layer, &unit): (&'a Layer, &f32)| Channels {
            layer,
            initial: layer.scales.map(|q| graph.quantizer(q).clone()),
            log: Group::new(vec![0.0; layer.channels]),
            start: graph.constant(layer.bias).tensor.as_f32().unwrap_or(&[]).to_vec(),
            moved: Group::new(vec![0.0; layer.channels]),
            unit,
            latent: reference.and_then(|r| Latent::of_layer(graph, r, layer)),
        };
        Parameters {
            activations: ids.into_iter().map(activation).collect(),
            channels: layers.iter().zip(units).filter(|(l, _)| needed(l.node)).map(channels).collect(),
        }
    }

    /// How many scales and zero-points have moved, of how many quantizers.
    pub fn moved(graph: &Graph, other: &Graph) -> [usize; 3] {
        let pairs: Vec<_> = graph.quantizers().zip(other.quantizers()).collect();
        let scales = pairs.iter().filter(|((_, a), (_, b))| a.scale != b.scale).count();
        let zero_points = pairs.iter().filter(|((_, a), (_, b))| a.zero_point != b.zero_point).count();
        [scales, zero_points, graph.used_quantizers().len()]
    }
}

impl NetworkTraining<'_> {
    /// Learns. After each step `observe` gets its loss and the network, and returns whether to go on.
    pub fn run(
        &mut self,
        s: &NetworkSchedule,
        cx: &PassContext,
        mut observe: impl FnMut(usize, f64, &Interpreter) -> Result<(), PassError>,
    ) -> Result<(), PassError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::MAX);
        let mut batches = Batches::new(self.images.len(), rng.clone());
        rng.set_stream(u64::MAX - 1);
        for step in 0..s.steps {
            let chosen = batches.draw(s.batch.min(self.images.len()));
            let changes = s.augment.draw(chosen.len(), &mut rng);
            let sums = self.gradients(&chosen, s, &changes)?;
            self.step(&sums, s, step).map_err(|e| PassError::evaluation(self.pass, e))?;
            observe(step, sums.loss, &self.quantized)?;
            cx.progress.advance(1);
        }
        Ok(())
    }

    fn step(&mut self, sums: &Sums, s: &NetworkSchedule, step: usize) -> Result<(), EvalError> {
        let rate = |rate: f64| cosine(rate, step, s.steps);
        for (a, [d_scale, d_zero]) in self.parameters.activations.iter_mut().zip(&sums.activations) {
            let factor = f64::from(a.log.values[0].exp());
            let steps = f64::from(a.initial.format.max() - a.initial.format.min());
            let scale = f64::from(a.initial.scale[0]) * factor;
            let d_log = d_scale * scale + s.lambda * 2.0 * (factor - 1.0) * factor;
            let away = f64::from(a.zero_point.values[0]) - f64::from(a.initial.zero_point[0]);
            let d_zero = d_zero + s.lambda * 2.0 * away / (steps * steps);
            a.log.step(&[d_log], rate(s.activation_rate));
            a.zero_point.step(&[d_zero], rate(s.zero_point_rate));
            a.log.values[0] = a.log.values[0].clamp(-MAX_LOG, MAX_LOG);
            let (lo, hi) = (a.initial.format.min() as f32, a.initial.format.max() as f32);
            a.zero_point.values[0] = a.zero_point.values[0].clamp(lo, hi);
            let mut q = a.initial.clone();
            q.scale[0] *= a.log.values[0].exp();
            q.zero_point[0] = a.zero_point.values[0].round_ties_even() as i32;
            self.quantized.set_quantizer(a.id, q)?;
        }
        let gradients = sums.channels.iter().zip(&sums.weights);
        for (c, ([d_log, d_bias], dw)) in self.parameters.channels.iter_mut().zip(gradients) {
            if let (Some(latent), Some(id)) = (&mut c.latent, c.layer.scales) {
                latent.step(dw, &self.quantized.graph().quantizer(id).scale, rate(s.code_rate));
                self.quantized.set_constant(latent.codes, Arc::new(latent.tensor()))?;
            }
            if let (Some(initial), Some(id)) = (&c.initial, c.layer.scales) {
                let pulled = |(d, log): (&f64, &f32)| {
                    let factor = f64::from(log.exp());
                    d + s.lambda * 2.0 * (factor - 1.0) * factor
                };
                let gradient: Vec<f64> = d_log.iter().zip(&c.log.values).map(pulled).collect();
                c.log.step(&gradient, rate(s.scale_rate));
                c.log.values.iter_mut().for_each(|l| *l = l.clamp(-MAX_LOG, MAX_LOG));
                let mut q = initial.clone();
                q.scale.iter_mut().zip(&c.log.values).for_each(|(s, l)| *s *= l.exp());
                self.quantized.set_quantizer(id, q)?;
            }
            let d_bias: Vec<f64> = d_bias.iter().map(|d| d * f64::from(c.unit)).collect();
            c.moved.step(&d_bias, rate(s.bias_rate));
            let bias = Tensor::f32(&[c.start.len()], c.biases());
            self.quantized.set_constant(c.layer.bias, Arc::new(bias))?;
        }
        Ok(())
    }

    /// Loss and gradients of a batch.
    fn gradients(&self, chosen: &[usize], s: &NetworkSchedule, changes: &Changes) -> Result<Sums, PassError> {
        let chunks: Vec<(&[usize], &[Change])> = chosen.chunks(CHUNK).zip(changes.images.chunks(CHUNK)).collect();
        let compute = |(images, own): &(&[usize], &[Change])| {
            let changes = Changes { images: own.to_vec(), share: changes.share };
            self.chunk(images, chosen.len(), s.temperature, &changes)
        };
        let parts: Vec<Result<Sums, PassError>> = chunks.par_iter().with_max_len(1).map(compute).collect();
        let mut total = Sums { loss: 0.0, activations: vec![], channels: vec![], weights: vec![] };
        for (i, part) in parts.into_iter().enumerate() {
            let part = part?;
            if i == 0 {
                total = part;
            } else {
                total.add(part);
            }
        }
        Ok(total)
    }

    fn chunk(&self, images: &[usize], batch: usize, temperature: f64, changes: &Changes) -> Result<Sums, PassError> {
        let fail = |e| PassError::evaluation(self.pass, e);
        let graph = self.quantized.graph();
        let samples: Vec<Vec<Tensor>> = (images.iter().zip(&changes.images))
            .map(|(&i, change)| {
                let sample = checked_sample(graph, self.data, self.images[i])?;
                Ok::<_, PassError>(sample.into_iter().map(|t| change.apply(t)).collect())
            })
            .collect::<Result<_, _>>()?;
        let inputs: Vec<Tensor> =
            (0..graph.inputs.len()).map(|n| changes.mix(stack(samples.iter().map(|tensors| &tensors[n])))).collect();
        let given: Vec<(ValueId, &Tensor)> = graph.inputs.iter().map(|(v, _)| *v).zip(&inputs).collect();
        let wanted = match self.wanted {
            Some(all) if changes.is_none() => images.iter().map(|&i| all[i].clone()).collect(),
            _ => {
                // Recorded for the shorter way of its convolutions.
                let tape = self.float.record(&given, &self.objective.values()).map_err(fail)?;
                self.compared(&tape).map_err(fail)?
            }
        };
        self.sums(&given, &wanted, batch, temperature).map_err(fail)
    }

    /// The compared values of each image of a batch.
    fn compared(&self, tape: &Tape) -> Result<Vec<Vec<f32>>, EvalError> {
        let values = self.objective.values();
        let tensor = |v: &ValueId| tape.value(*v).ok_or(EvalError::Unknown(*v));
        Ok(self.objective.rows(&values.iter().map(tensor).collect::<Result<Vec<_>, _>>()?))
    }

    /// Loss and gradients of images; `wanted` holds the float network's compared values of each.
    fn sums(
        &self,
        given: &[(ValueId, &Tensor)],
        wanted: &[Vec<f32>],
        batch: usize,
        temperature: f64,
    ) -> Result<Sums, EvalError> {
        let values = self.objective.values();
        let tape = self.quantized.record(given, &values)?;
        let (mut loss, mut rows) = (0.0, Vec::with_capacity(wanted.len()));
        for (wanted, found) in wanted.iter().zip(self.compared(&tape)?) {
            let (value, gradient) = self.objective.gradient(wanted, &found, temperature, 1.0 / batch as f64);
            loss += value;
            rows.push(gradient);
        }
        let tensors: Vec<&Tensor> = values.iter().filter_map(|v| tape.value(*v)).collect();
        let seeds = self.objective.seeds(&tensors, &rows);
        let Parameters { activations, channels } = &self.parameters;
        let mut wrt: Vec<Wrt> = activations.iter().flat_map(|a| [Wrt::Scale(a.id), Wrt::ZeroPoint(a.id)]).collect();
        wrt.extend(channels.iter().map(|c| Wrt::Value(c.layer.output)));
        wrt.extend(channels.iter().filter_map(|c| c.latent.as_ref()).map(|l| Wrt::Value(l.dequantized)));
        let mut gradients = tape.gradients(&seeds, &wrt)?;
        let of_weights = |c: &Channels| {
            let taken = c.latent.as_ref().and_then(|l| gradients.take(Wrt::Value(l.dequantized)));
            taken.and_then(|t| t.as_f32().map(<[f32]>::to_vec)).unwrap_or_default()
        };
        let weights = channels.iter().map(of_weights).collect();
        let first = |wrt: Wrt| gradients.get(wrt).and_then(|t| Some(f64::from(*t.as_f32()?.first()?))).unwrap_or(0.0);
        let of_channels = |c: &Channels| {
            let v = c.layer.output;
            let gradient = gradients.get(Wrt::Value(v)).and_then(|t| t.as_f32()).unwrap_or(&[]);
            let output = tape.value(v).and_then(|t| t.as_f32()).unwrap_or(&[]);
            channel_sums(c.layer, gradient, output, &c.biases())
        };
        Ok(Sums {
            loss,
            activations: activations.iter().map(|a| [first(Wrt::Scale(a.id)), first(Wrt::ZeroPoint(a.id))]).collect(),
            channels: channels.iter().map(of_channels).collect(),
            weights,
        })
    }
}

/// For each channel the sum of `gradient (output - bias)` and of `gradient` over images and positions.
fn channel_sums(layer: &Layer, gradient: &[f32], output: &[f32], bias: &[f32]) -> [Vec<f64>; 2] {
    let channels = bias.len().max(1);
    let [mut products, mut plain] = [vec![0.0; channels], vec![0.0; channels]];
    if layer.innermost {
        for (gradient, output) in gradient.chunks_exact(channels).zip(output.chunks_exact(channels)) {
            for (c, (g, y)) in gradient.iter().zip(output).enumerate() {
                products[c] += f64::from(g * (y - bias[c]));
                plain[c] += f64::from(*g);
            }
        }
        return [products, plain];
    }
    let plane = layer.positions.max(1);
    for (i, (gradient, output)) in gradient.chunks_exact(plane).zip(output.chunks_exact(plane)).enumerate() {
        let (c, b) = (i % channels, bias[i % channels]);
        let mut sums = [[0f32; 8]; 2];
        for (g, y) in gradient.chunks(8).zip(output.chunks(8)) {
            for (lane, (g, y)) in g.iter().zip(y).enumerate() {
                sums[0][lane] += g * (y - b);
                sums[1][lane] += g;
            }
        }
        products[c] += sums[0].iter().map(|s| f64::from(*s)).sum::<f64>();
        plain[c] += sums[1].iter().map(|s| f64::from(*s)).sum::<f64>();
    }
    [products, plain]
}
