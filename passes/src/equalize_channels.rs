//! `equalize-channels`: gives the channels between a convolution and the depthwise convolutions that take its output the ranges
//! that suit one common scale.
//!
//! - Before: float phase, calibration data. After: other constants; outputs equal to 1e-5 relative. A channel of what a
//!   convolution computes is divided by `s`, and the filters of the depthwise convolutions that take it are multiplied by
//!   it. Between them may stand relu, leaky_relu, and pooling, which a positive factor passes through.
//! - Why: a tensor has one scale, and a depthwise filter reads one channel. If channels differ in range, those of small range get few
//!   codes, and a filter with large weights amplifies their rounding errors. Weights have a scale for each output channel, so the codes of
//!   neither layer change: the pass costs no accuracy elsewhere, at any number of bits.
//! - Let a and b be the largest magnitudes below and above 0 of a channel, w the norm of its filters, and t the ratio of the two ends of the
//!   common range. Then `s = max(b, a / t)` is the least factor that makes the channel fit, the noise that the filters read is
//!   `(1 + t)² Σ s² w²`, and t minimises it.
//! - Convolutions that read several channels are left alone: the differences would only move into the range of their weights.
//! - Other passes: after the folds; before `calibrate`.
//! - Example:
//!   ```text
//!   v1: f32[N,2,6,6] = conv2d v0, c0, c1 {..}              -> conv2d v0, c3, c4 {..} with c3[o] = c0[o] / s[o]
//!   v2: f32[N,2,6,6] = leaky_relu v1 {alpha=0.1}
//!   v3: f32[N,2,6,6] = conv2d v2, c2 {.., groups=2}        -> conv2d v2, c5 {..} with c5[o] = c2[o] s[o]
//!   ```
//! - Reference: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.1.
//! - Deviations: ranges of activations instead of weights; only where the weights that follow do not suffer.

use crate::context::{PassContext, checked_sample};
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::ops::Unary;
use catc_ir::{Graph, Node, Op, Operand, Phase, Tensor, ValueId};
use std::collections::BTreeMap;

/// Channels are left alone unless a factor differs from 1 by more.
const TOLERANCE: f64 = 0.01;
/// No channel is magnified by more than this: a channel that is so much smaller than the others holds noise.
const MAX_FACTOR: f64 = 4096.0;

/// Equalizes channels before depthwise convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EqualizeChannels {
    /// Images that ranges are observed on, at most.
    pub images: usize,
}

impl EqualizeChannels {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "equalize-channels",
        summary: "gives channels before depthwise convolutions ranges that suit a common scale",
        options: &[PassOption::new("images", "1-65536", "256", "images that ranges are observed on, at most")],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            Ok(Box::new(EqualizeChannels { images: o.number("images", 256, 1..=65536)? }))
        },
    };
}

/// A tensor whose channels can be scaled.
struct Site {
    /// The convolution that computes it, by index.
    producer: usize,
    /// The depthwise convolutions that take it.
    consumers: Vec<usize>,
}

/// The largest magnitudes below and above 0 of each channel.
#[derive(Clone, Debug, Default)]
struct Ranges {
    below: Vec<f64>,
    above: Vec<f64>,
}

impl Pass for EqualizeChannels {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let sites = sites(graph);
        if sites.is_empty() {
            return Ok(Changed::No("no convolution's output goes to depthwise convolutions alone".into()));
        }
        let ranges = self.observe(graph, &sites, cx)?;
        let mut changed = false;
        for (v, site) in &sites {
            let Some(factors) = factors(&ranges[v], &filter_norms(graph, site, ranges[v].above.len())) else {
                continue;
            };
            apply(graph, site, &factors);
            changed = true;
        }
        Ok(Changed::from_flag(changed, "the channels before depthwise convolutions have even ranges"))
    }
}

impl EqualizeChannels {
    fn observe(
        &self,
        graph: &Graph,
        sites: &BTreeMap<ValueId, Site>,
        cx: &PassContext,
    ) -> Result<BTreeMap<ValueId, Ranges>, PassError> {
        let data = cx.require_calibration()?;
        let interpreter = Interpreter::new(graph).map_err(|e| PassError::evaluation(self.name(), e))?;
        let wanted: Vec<ValueId> = sites.keys().copied().collect();
        let count = data.len().min(self.images);
        cx.progress.start("ranges of channels", count as u64);
        let all = map_images(count, |i| {
            // Evenly spaced: calibration sets are often sorted.
            let inputs = checked_sample(graph, data, i * data.len() / count)?;
            let tensors = interpreter.run_to(&inputs, &wanted).map_err(|e| PassError::evaluation(self.name(), e))?;
            cx.progress.advance(1);
            Ok::<_, PassError>(tensors.iter().map(extremes).collect::<Vec<Ranges>>())
        });
        cx.progress.finish();
        let mut largest: BTreeMap<ValueId, Ranges> = BTreeMap::new();
        for image in all? {
            for (&v, ranges) in wanted.iter().zip(image) {
                let so_far = largest.entry(v).or_default();
                raise(&mut so_far.below, &ranges.below);
                raise(&mut so_far.above, &ranges.above);
            }
        }
        Ok(largest)
    }
}

/// Element by element the larger.
fn raise(to: &mut Vec<f64>, values: &[f64]) {
    to.resize(values.len(), 0.0);
    to.iter_mut().zip(values).for_each(|(t, x)| *t = t.max(*x));
}

/// The largest magnitudes of each channel of a tensor `[1,C,..]`.
fn extremes(tensor: &Tensor) -> Ranges {
    let values = tensor.as_f32().unwrap_or(&[]);
    let channels = tensor.shape().get(1).copied().unwrap_or(1).max(1);
    let mut ranges = Ranges::default();
    for channel in values.chunks_exact((values.len() / channels).max(1)) {
        ranges.below.push(f64::from(-channel.iter().copied().fold(0.0, f32::min)));
        ranges.above.push(f64::from(channel.iter().copied().fold(0.0, f32::max)));
    }
    ranges
}

/// The tensors that only depthwise convolutions with constant filters take, and that a convolution with constant weights
/// makes through operations that a positive factor passes through.
fn sites(graph: &Graph) -> BTreeMap<ValueId, Site> {
    let uses = graph.uses();
    let index: BTreeMap<ValueId, usize> = graph.nodes().iter().enumerate().map(|(i, n)| (n.output, i)).collect();
    let is_output = |v: ValueId| graph.outputs.iter().any(|o| o.value == v);
    let constant = |operand: Option<&Operand>| {
        operand.and_then(|o| o.constant()).is_some_and(|c| graph.constant(c).tensor.as_f32().is_some())
    };
    let mut sites = BTreeMap::new();
    for (&v, &defined) in &index {
        let consumers: Vec<usize> = uses[v].iter().map(|(node, _)| *node).collect();
        let depthwise = |node: &Node| match &node.op {
            Op::Conv2d(conv) => {
                let channels = graph.value_type(v).shape.dims().get(1).and_then(|d| d.fixed());
                // The tensor must be the data input, not the filters. With one channel there is nothing to equalize.
                node.inputs[0] == Operand::Value(v)
                    && constant(node.inputs.get(1))
                    && conv.groups > 1
                    && channels == Some(conv.groups)
            }
            _ => false,
        };
        if is_output(v) || consumers.is_empty() || !consumers.iter().all(|&c| depthwise(&graph.nodes()[c])) {
            continue;
        }
        let mut at = defined;
        let producer = loop {
            let node = &graph.nodes()[at];
            let passes = match &node.op {
                Op::Unary(Unary::Relu | Unary::LeakyRelu { .. }) | Op::MaxPool(_) | Op::AvgPool(_) => true,
                // Sums along rows and columns, with the same weights for every channel.
                Op::Interpolate(i) => i.axis > 1,
                _ => false,
            };
            let input = node.inputs[0].value();
            match (&node.op, input.and_then(|x| index.get(&x))) {
                (Op::Conv2d(_), _) => break Some(at),
                (_, Some(&before)) if passes && input.is_some_and(|x| uses[x].len() == 1 && !is_output(x)) => {
                    at = before
                }
                _ => break None,
            }
        };
        let constants =
            |node: &Node| constant(node.inputs.get(1)) && (node.inputs.len() < 3 || constant(node.inputs.get(2)));
        if let Some(producer) = producer.filter(|p| constants(&graph.nodes()[*p])) {
            sites.insert(v, Site { producer, consumers });
        }
    }
    sites
}

/// The sum of squares of the filters of each channel.
fn filter_norms(graph: &Graph, site: &Site, channels: usize) -> Vec<f64> {
    let mut norms = vec![0.0; channels];
    for &consumer in &site.consumers {
        let filters = weights(graph, &graph.nodes()[consumer], 1);
        for (norm, filter) in norms.iter_mut().zip(filters.chunks_exact((filters.len() / channels.max(1)).max(1))) {
            *norm += filter.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        }
    }
    norms
}

fn weights<'g>(graph: &'g Graph, node: &Node, input: usize) -> &'g [f32] {
    node.inputs.get(input).and_then(|o| o.constant()).and_then(|c| graph.constant(c).tensor.as_f32()).unwrap_or(&[])
}

/// The factor that each channel is divided by; `None` if they are all nearly 1. The largest is 1.
fn factors(ranges: &Ranges, norms: &[f64]) -> Option<Vec<f64>> {
    let least = |t: f64| -> Vec<f64> {
        ranges.above.iter().zip(&ranges.below).map(|(&b, &a)| if t > 0.0 { b.max(a / t) } else { b }).collect()
    };
    let noise = |t: f64| {
        let sum: f64 = least(t).iter().zip(norms).map(|(s, w)| s * s * w).sum();
        (1.0 + t) * (1.0 + t) * sum
    };
    // Both ends of the range: from 1 : 64 to 64 : 1, and from 0 upwards where no value is negative.
    let ratios: Vec<f64> = match ranges.below.iter().all(|a| *a == 0.0) {
        true => vec![0.0],
        false => (-24..=24).map(|i| 2f64.powf(f64::from(i) / 4.0)).collect(),
    };
    let best = ratios.into_iter().map(|t| (noise(t), t)).reduce(|a, b| if b.0 < a.0 { b } else { a })?.1;
    let mut factors = least(best);
    let top = factors.iter().copied().fold(0.0, f64::max);
    // Written so that NaN is no range.
    if !(top > 0.0 && top.is_finite()) {
        return None;
    }
    // A channel without values can have any factor.
    factors.iter_mut().for_each(|s| *s = if *s > 0.0 { (*s / top).max(1.0 / MAX_FACTOR) } else { 1.0 });
    factors.iter().any(|s| *s < 1.0 - TOLERANCE).then_some(factors)
}

/// Divides the producer's channels by the factors and multiplies the consumers' filters by them.
fn apply(graph: &mut Graph, site: &Site, factors: &[f64]) {
    for input in [1, 2] {
        scale(graph, site.producer, input, factors, |w, s| w / s);
    }
    for &consumer in &site.consumers {
        scale(graph, consumer, 1, factors, |w, s| w * s);
    }
}

/// Gives a node new constants for one input, whose rows belong to the channels, as many to each. The old ones may serve others.
fn scale(graph: &mut Graph, node: usize, input: usize, factors: &[f64], by: fn(f64, f64) -> f64) {
    let old = weights(graph, &graph.nodes()[node], input);
    if old.is_empty() {
        return;
    }
    let row = (old.len() / factors.len()).max(1);
    let data = old.iter().enumerate().map(|(i, &w)| by(f64::from(w), factors[(i / row).min(factors.len() - 1)]) as f32);
    let data: Vec<f32> = data.collect();
    let Some(id) = graph.nodes()[node].inputs[input].constant() else { return };
    let shape = graph.constant(id).tensor.shape().to_vec();
    let new = graph.add_constant(Tensor::f32(&shape, data));
    graph.nodes_mut()[node].inputs[input] = new.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_make_channels_fit_a_common_range() {
        let ranges = Ranges { below: vec![0.0; 3], above: vec![8.0, 2.0, 0.0] };
        assert_eq!(factors(&ranges, &[1.0; 3]), Some(vec![1.0, 0.25, 1.0]));
        let even = Ranges { below: vec![0.0; 2], above: vec![2.0, 1.99] };
        assert_eq!(factors(&even, &[1.0; 2]), None);
        assert_eq!(factors(&Ranges { below: vec![0.0; 2], above: vec![0.0; 2] }, &[1.0; 2]), None);
    }

    #[test]
    fn a_channel_below_zero_widens_the_range_only_as_far_as_it_matters() {
        // Ten channels above 0, one of them also far below: stretching the range for it would halve the others' codes.
        let mut ranges = Ranges { below: vec![0.1; 10], above: vec![1.0; 10] };
        ranges.below[3] = 1.0;
        let found = factors(&ranges, &[1.0; 10]).unwrap();
        assert!(found[3] == 1.0 && found[0] < 0.7, "{found:?}");
        // Where its filter matters most, the range suits it.
        let mut norms = [1e-6; 10];
        norms[3] = 1.0;
        assert_eq!(factors(&ranges, &norms), None);
    }
}
