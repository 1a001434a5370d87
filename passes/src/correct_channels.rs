//! `correct-channels`: gives each output channel of every layer the gain and the offset that bring it nearest to the float network.
//!
//! - Before: qdq phase; calibration data; the float reference. After: other biases and
//!   other scales of weights (per output channel), if the distance of the outputs ([`crate::objective`]) fell on calibration images that were not used; else
//!   nothing. Weights of corrected layers stand as codes, which stay what they were. The graph needs nothing more at run time.
//! - Layers are corrected in order; the inputs of each come from the network with all earlier corrections. Let a be the layer's products
//!   (its output less the bias) and y the float layer's output, over the images and positions of a channel. The new bias is
//!   `mean(y) - g mean(a)`, and the channel's weight scale is multiplied by
//!   `g = (cov(a, y) / var(a))^p (dev(y) / dev(a))^(1 - p)`: least squares for p = 1, equal standard deviations for p = 0. Least squares
//!   shrinks noisy channels towards their mean, layer after layer; equal deviations count the noise as signal. Unless p is given,
//!   0, 1/2 and 1 are tried, and the one with the least distance on the held-out images is taken.
//! - Not corrected: gains of layers whose weights are in float, have one scale for all channels, or serve several layers.
//! - Work: three runs of the network on each image for each p that is tried; the number of images follows from the
//!   graph's own work ([`crate::work`]) and `budget`. Memory: as `refine-scales`.
//! - Other passes: after `insert-qdq`, before `refine-scales`, which finds better scales from a better start, and before
//!   `append-cat`. Passes that round weights come before it.
//! - Example:
//!   ```text
//!   q1 = quantizer i2 per_axis 0 scale [0.11, 0.09] ..   -> q1 = quantizer i2 per_axis 0 scale [0.13, 0.085] ..
//!   v5: i2<q1>[2,4,3,3] = quantize c0, q1                -> (gone)
//!   v6: f32[2,4,3,3] = dequantize v5                        v6: f32[2,4,3,3] = dequantize c7
//!   v1: f32[N,2,6,6] = conv2d v4, v6, c1 {..}               v1: f32[N,2,6,6] = conv2d v4, v6, c8 {..}
//!   ```
//! - Reference: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2
//!   (the offset, from data); arXiv 2509.26277, equation 8, for the gain, here in every layer instead of at the logits.
//! - Deviations: offsets come from activations as the corrected network computes them, not from one run before any correction.

use crate::context::PassContext;
use crate::learn::layers::{Layer, prepare};
use crate::pass::{Changed, Pass, PassError};
use crate::refine::comparison::{Comparison, Distance, Holdout};
use crate::refine::needs::NodeNeeds;
use crate::refine::split::FitSplit;
use crate::refine::tail::{Tail, images_that_fit};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_interp::images::map_images;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Graph, Phase, Tensor};
use std::sync::Arc;

/// Exponents p that are tried unless one is given.
const EXPONENTS: [Option<f64>; 3] = [Some(0.5), Some(0.0), Some(1.0)];
/// Gains stay within this factor of 1. A channel beyond it is so distorted that its statistics say nothing.
const MAX_GAIN: f64 = 4.0;
/// Runs of the network that correcting it takes for each image: two quantized, one float, and half a run each of both for the
/// images that decide.
const RUNS: f64 = 4.0;

/// Corrects gain and offset of each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CorrectChannels {
    /// What becomes of the gain.
    pub gain: Gain,
    /// Images that statistics come from, at most; half as many decide whether the correction is kept.
    pub images: usize,
    /// Work to stay near, in 10^9 multiply-adds.
    pub budget: f64,
}

/// How gains are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// The exponent p that does best.
    Auto,
    /// This exponent.
    Exponent(f64),
    /// Gains stay 1: offsets alone.
    None,
}

impl Default for CorrectChannels {
    fn default() -> Self {
        CorrectChannels { gain: Gain::Auto, images: 256, budget: 500.0 }
    }
}

impl CorrectChannels {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "correct-channels",
        summary: "gives each output channel of a layer the gain and offset that bring it nearest to the float network",
        options: &[
            PassOption::new(
                "gain",
                "auto, none or 0-1",
                "auto",
                "how far gains follow least squares (1) rather than equal deviations (0); none corrects offsets alone",
            ),
            PassOption::new(
                "images",
                "16-65536",
                "256",
                "images that statistics come from, at most; half as many others decide whether they are used",
            ),
            PassOption::new(
                "budget",
                "0.001-1000000000",
                "500",
                "work to stay near, in 10^9 multiply-adds: it sets the number of images",
            ),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            let d = CorrectChannels::default();
            let gain = |text: &str| match text {
                "auto" => Some(Gain::Auto),
                "none" => Some(Gain::None),
                _ => text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).map(Gain::Exponent),
            };
            Ok(Box::new(CorrectChannels {
                gain: o.take("gain", gain)?.unwrap_or(d.gain),
                images: o.number("images", d.images, 16..=65536)?,
                budget: o.number("budget", d.budget, 0.001..=1e9)?,
            }))
        },
    };
}

/// The start of the note that says why nothing was done.
const SKIPPED: &str = "channels are not corrected";

impl Pass for CorrectChannels {
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
        let reference = cx.require_reference()?;
        let (prepared, mut layers) = prepare(self.name(), graph, reference)?;
        let targets = objective.values();
        let needs = [NodeNeeds::new(&prepared, &targets), NodeNeeds::new(reference, &targets)];
        layers.retain(|l| needs[0].is_needed(l.node) && needs[1].is_needed(l.reference_node));
        if layers.is_empty() {
            return cx.skip(SKIPPED, "the float network computes the outputs of none of its layers");
        }
        let exponents: &[Option<f64>] = match self.gain {
            Gain::Auto => &EXPONENTS,
            Gain::Exponent(p) => &[Some(p)],
            Gain::None => &[None],
        };
        let images = self.images(&prepared, reference, &needs, &layers, exponents.len());
        let split = match FitSplit::draw(data.len(), images, cx.seed) {
            Ok(split) => split,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let compare = Comparison { pass: self.name(), reference, data, objective: &objective };
        cx.progress.start("correcting channels", (exponents.len() * layers.len()) as u64);
        let outcome = best(&prepared, &layers, &needs, &compare, &split, exponents, cx);
        cx.progress.finish();
        let (before, best) = outcome?;
        let (name, amount) = (objective.name(), |d: &Distance| objective.amount(d.loss));
        let Some((after, exponent, corrected)) = best.filter(|b| b.0.improves_on(&before)) else {
            return cx.skip(SKIPPED, format!("it does not lower the {name} ({})", amount(&before)));
        };
        let gain = exponent.map_or("none".to_string(), |p| p.to_string());
        cx.note(format!(
            "corrected the channels of {} layers (gain={gain}) from {} images; on {} held-out images the {name} falls from {} to {}",
            layers.len(),
            split.fit.len(),
            split.held_out.len(),
            amount(&before),
            amount(&after)
        ));
        *graph = corrected;
        Ok(Changed::Yes)
    }
}

impl CorrectChannels {
    /// How many images statistics come from.
    fn images(
        &self,
        graph: &Graph,
        reference: &Graph,
        needs: &[NodeNeeds; 2],
        layers: &[Layer],
        exponents: usize,
    ) -> usize {
        let whole = needs[0].remaining[0] as f64;
        let affordable = self.budget * 1e9 / (RUNS * exponents as f64 * whole).max(1.0);
        let kept = layers.iter().map(|l| {
            let [a, b] = needs;
            a.frontier_bytes(graph, l.node).saturating_add(b.frontier_bytes(reference, l.reference_node))
        });
        (affordable as usize).min(self.images).min(images_that_fit(kept.max().unwrap_or(0)))
    }
}

/// Distance, exponent and graph of a corrected network.
type Corrected = (Distance, Option<f64>, Graph);

/// The distance before, and the best of the corrections by their loss, both on images that no statistics come from.
fn best(
    graph: &Graph,
    layers: &[Layer],
    needs: &[NodeNeeds; 2],
    compare: &Comparison,
    split: &FitSplit,
    exponents: &[Option<f64>],
    cx: &PassContext,
) -> Result<(Distance, Option<Corrected>), PassError> {
    let float = Interpreter::new(compare.reference).map_err(|e| compare.error(e))?;
    let initial = Interpreter::new(graph).map_err(|e| compare.error(e))?;
    let holdout = Holdout::new(compare, &split.held_out, cx.max_memory)?;
    let before = holdout.distance(&initial)?;
    let inputs = compare.inputs(&split.fit)?;
    let mut best: Option<Corrected> = None;
    for &exponent in exponents {
        let mut quantized = initial.clone();
        let tails = [Tail::new(&quantized, inputs.clone()), Tail::new(&float, inputs.clone())];
        correct(&mut quantized, &float, layers, needs, tails, exponent, cx).map_err(|e| compare.error(e))?;
        let after = holdout.distance(&quantized)?;
        if best.as_ref().is_none_or(|b| after.loss < b.0.loss) {
            best = Some((after, exponent, quantized.graph().clone()));
        }
    }
    Ok((before, best))
}

/// Corrects the layers of `quantized` one after the other.
fn correct(
    quantized: &mut Interpreter,
    float: &Interpreter,
    layers: &[Layer],
    needs: &[NodeNeeds; 2],
    tails: [Tail; 2],
    exponent: Option<f64>,
    cx: &PassContext,
) -> Result<(), EvalError> {
    let [mut a, mut b] = tails;
    for layer in layers {
        a.advance(quantized, &needs[0], layer.node)?;
        b.advance(float, &needs[1], layer.reference_node)?;
        let bias = quantized.graph().constant(layer.bias).tensor.clone();
        let bias = bias.as_f32().unwrap_or(&[]);
        let moments = map_images(a.len(), |i| {
            let found = a.value(quantized, layer.output, i)?;
            let wanted = b.value(float, layer.output, i)?;
            let mut moments = vec![Moments::default(); layer.channels];
            add_products(&mut moments, layer.innermost, bias, &found, &wanted);
            Ok::<_, EvalError>(moments)
        })?;
        let mut total = vec![Moments::default(); layer.channels];
        for image in &moments {
            total.iter_mut().zip(image).for_each(|(t, m)| t.merge(m));
        }
        let exponent = exponent.filter(|_| layer.scales.is_some());
        let (gain, offset): (Vec<f64>, Vec<f64>) = total.iter().map(|m| m.correction(exponent)).unzip();
        let bias = offset.iter().map(|&x| x as f32).collect();
        quantized.set_constant(layer.bias, Arc::new(Tensor::f32(&[layer.channels], bias)))?;
        if let (Some(id), Some(_)) = (layer.scales, exponent) {
            let mut quantizer = quantized.graph().quantizer(id).clone();
            quantizer.scale.iter_mut().zip(&gain).for_each(|(s, g)| *s = (f64::from(*s) * g) as f32);
            quantized.set_quantizer(id, quantizer)?;
        }
        cx.progress.advance(1);
    }
    Ok(())
}

/// Sums over the elements of a channel: a quantized layer's products a against a float layer's outputs y.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    a: f64,
    y: f64,
    aa: f64,
    ay: f64,
    yy: f64,
}

impl Moments {
    fn add(&mut self, a: f64, y: f64) {
        self.count += 1.0;
        self.a += a;
        self.y += y;
        self.aa += a * a;
        self.ay += a * y;
        self.yy += y * y;
    }

    fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.a += other.a;
        self.y += other.y;
        self.aa += other.aa;
        self.ay += other.ay;
        self.yy += other.yy;
    }

    /// Gain and offset of the channel; without an exponent the gain is 1.
    fn correction(&self, exponent: Option<f64>) -> (f64, f64) {
        let n = self.count.max(1.0);
        let (a, y) = (self.a / n, self.y / n);
        // A difference of squares that rounding alone could leave counts as zero.
        let spread = |square: f64, mean: f64| {
            let v = square / n - mean * mean;
            if v > 1e-10 * (square / n) { v } else { 0.0 }
        };
        let (var_a, var_y) = (spread(self.aa, a), spread(self.yy, y));
        let slope = (self.ay / n - a * y) / var_a;
        let gain = match exponent {
            // A channel without variance, or with a negative covariance, says nothing of the gain.
            Some(p) if var_a > 0.0 && var_y > 0.0 && slope > 0.0 => {
                (slope.powf(p) * (var_y / var_a).sqrt().powf(1.0 - p)).clamp(1.0 / MAX_GAIN, MAX_GAIN)
            }
            _ => 1.0,
        };
        (gain, y - gain * a)
    }
}

/// Adds an image's outputs of a layer, `found` by the quantized and `wanted` by the float network.
fn add_products(moments: &mut [Moments], innermost: bool, bias: &[f32], found: &Tensor, wanted: &Tensor) {
    let (Some(found), Some(wanted)) = (found.as_f32(), wanted.as_f32()) else { return };
    let channels = moments.len().max(1);
    let add = |(m, b): (&mut Moments, &f32), a: f32, y: f32| m.add(f64::from(a - b), f64::from(y));
    if innermost {
        for (found, wanted) in found.chunks_exact(channels).zip(wanted.chunks_exact(channels)) {
            moments.iter_mut().zip(bias).zip(found.iter().zip(wanted)).for_each(|(m, (&a, &y))| add(m, a, y));
        }
    } else {
        // One image: its planes stand one after the other.
        let plane = found.len() / channels;
        let planes = found.chunks_exact(plane.max(1)).zip(wanted.chunks_exact(plane.max(1)));
        for ((m, b), (found, wanted)) in moments.iter_mut().zip(bias).zip(planes) {
            found.iter().zip(wanted).for_each(|(&a, &y)| add((m, b), a, y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(pairs: &[(f64, f64)]) -> Moments {
        let mut m = Moments::default();
        pairs.iter().for_each(|&(a, y)| m.add(a, y));
        m
    }

    #[test]
    fn gains_between_least_squares_and_equal_deviations() {
        // a = 0, 2, 4: variance 8/3; y = 1, 1, 4: mean 2, variance 2, covariance 2.
        let m = moments(&[(0.0, 1.0), (2.0, 1.0), (4.0, 4.0)]);
        let (least_squares, deviations) = (0.75, 0.75f64.sqrt());
        for (exponent, expected) in [
            (Some(1.0), least_squares),
            (Some(0.0), deviations),
            (Some(0.5), (least_squares * deviations).sqrt()),
            (None, 1.0),
        ] {
            let (gain, offset) = m.correction(exponent);
            assert!((gain - expected).abs() < 1e-12, "{exponent:?}: {gain}");
            assert!((offset - (2.0 - 2.0 * expected)).abs() < 1e-12);
        }
    }

    #[test]
    fn channels_that_tell_nothing_keep_their_gain() {
        let constant = moments(&[(3.0, 1.0), (3.0, 2.0)]);
        assert_eq!(constant.correction(Some(1.0)), (1.0, -1.5));
        let opposed = moments(&[(1.0, 2.0), (2.0, 1.0)]);
        assert_eq!(opposed.correction(Some(0.5)), (1.0, 0.0));
        let (gain, _) = moments(&[(0.0, 0.0), (1.0, 100.0)]).correction(Some(1.0));
        assert_eq!(gain, MAX_GAIN);
    }

    #[test]
    fn sums_are_per_channel_in_both_layouts() {
        let (found, wanted) = (Tensor::f32(&[1, 2, 1, 2], vec![1.0, 2.0, 3.0, 4.0]), vec![5.0, 6.0, 7.0, 8.0]);
        let mut planes = vec![Moments::default(); 2];
        add_products(&mut planes, false, &[0.0, 1.0], &found, &Tensor::f32(&[1, 2, 1, 2], wanted.clone()));
        assert_eq!((planes[0].a, planes[0].y, planes[1].a, planes[1].y), (3.0, 11.0, 5.0, 15.0));
        let mut rows = vec![Moments::default(); 2];
        add_products(&mut rows, true, &[0.0, 1.0], &found, &Tensor::f32(&[2, 2], wanted));
        assert_eq!((rows[0].a, rows[0].y, rows[1].a, rows[1].y), (4.0, 12.0, 4.0, 14.0));
    }
}
