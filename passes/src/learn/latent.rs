//! Weights whose codes are learned on the whole network. Each weight has a latent f32 value that gradients move; its code is the nearest one.
//!
//! Steps are those of Adam with one second moment for all weights of an output channel (Adam-mini, arXiv 2406.16793). With a second moment
//! for each weight, those that hardly matter would move as far as those that do, and change their codes to no benefit.
//!
//! Reference: the straight-through estimator, Y. Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013.

use crate::learn::layers::Layer;
use catc_ir::{ConstId, Graph, Tensor, ValueId};
use rayon::prelude::*;

/// How far from its code a latent value may start, in codes: less than a half, so that it rounds to this code.
const START: f32 = 0.45;
/// Weights that one thread takes at a time, at least.
const CHUNK: usize = 1 << 13;
/// The decay rates of the two moments.
const DECAY: [f32; 2] = [0.9, 0.999];

/// The weights of one layer, `[O, ..]`, a scale for each output channel.
pub(crate) struct Latent {
    /// The constant of the codes, and the value of what they stand for.
    pub codes: ConstId,
    pub dequantized: ValueId,
    shape: Vec<usize>,
    /// What stands behind the codes.
    reals: Vec<f32>,
    /// The mean gradient of each weight, the mean square of those of each channel, and how many steps there were.
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
    /// The least and the largest code.
    bounds: [f32; 2],
}

impl Latent {
    /// The weights of a layer whose weights are codes. The latent values are the float network's weights, limited to the neighbourhood of the codes.
    pub fn of_layer(graph: &Graph, reference: &Graph, layer: &Layer) -> Option<Latent> {
        let coded = layer.weights?;
        let q = graph.quantizer(layer.scales?);
        let tensor = &graph.constant(coded.codes).tensor;
        let codes = tensor.as_codes()?;
        let row = (codes.len() / q.scale.len().max(1)).max(1);
        let float = reference.nodes()[layer.reference_node].inputs[1].constant();
        let float = float.and_then(|c| reference.constant(c).tensor.as_f32()).filter(|w| w.len() == codes.len());
        let real = |(i, &code): (usize, &i16)| {
            let code = f32::from(code);
            let exact = float.map_or(code, |w| w[i] / q.scale[i / row] + q.zero_point[i / row] as f32);
            exact.clamp(code - START, code + START)
        };
        Some(Latent {
            codes: coded.codes,
            dequantized: coded.dequantized,
            shape: tensor.shape().to_vec(),
            reals: codes.iter().enumerate().map(real).collect(),
            first: vec![0.0; codes.len()],
            second: vec![0.0; q.scale.len()],
            steps: 0,
            bounds: [q.format.min() as f32, q.format.max() as f32],
        })
    }

    /// One step against `dw`, the gradient of the weights; `scale` holds a scale for each output channel.
    pub fn step(&mut self, dw: &[f32], scale: &[f32], rate: f64) {
        if dw.len() != self.reals.len() {
            return;
        }
        self.steps = self.steps.saturating_add(1);
        let row = (dw.len() / scale.len().max(1)).max(1);
        let [correct_first, correct_second] = DECAY.map(|k| 1.0 - k.powi(self.steps));
        let [lo, hi] = [self.bounds[0] - START, self.bounds[1] + START];
        let reals = self.reals.par_chunks_mut(row).zip(self.first.par_chunks_mut(row));
        let others = self.second.par_iter_mut().zip(dw.par_chunks(row).zip(scale));
        let channels = reals.zip(others).with_min_len(CHUNK.div_ceil(row));
        channels.for_each(|((x, first), (second, (dw, scale)))| {
            let square = dw.iter().map(|d| (d * scale) * (d * scale)).sum::<f32>() / row as f32;
            *second = DECAY[1] * *second + (1.0 - DECAY[1]) * square;
            let step = rate as f32 / correct_first / ((*second / correct_second).sqrt() + 1e-12);
            for ((x, m), d) in x.iter_mut().zip(first).zip(dw) {
                *m = DECAY[0] * *m + (1.0 - DECAY[0]) * d * scale;
                *x = (*x - step * *m).clamp(lo, hi);
            }
        });
    }

    /// The codes nearest to the reals.
    pub fn tensor(&self) -> Tensor {
        Tensor::codes(&self.shape, self.reals.iter().map(|x| x.round_ties_even() as i16).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::layers::prepare;
    use catc_ir::text::{NoBlobs, parse};

    #[test]
    fn codes_start_as_they_are_and_follow_the_gradient_within_the_format() {
        let float = parse(
            "graph @g float {
  c0 = const f32[2,2] [0.9, -0.6, 0.31, -0.49]
input(v0: f32[N,2] \"x\"):
  v1: f32[N,2] = linear v0, c0
  output v1 \"y\"
}
",
            &NoBlobs,
        )
        .unwrap();
        let coded = parse(
            "graph @g qdq {
  q0 = quantizer i2 per_axis 0 scale [0.5, 0.25] zero_point [0, 0]
  c0 = const i2<q0>[2,2] [1, -1, 1, 0]
input(v0: f32[N,2] \"x\"):
  v2: f32[2,2] = dequantize c0
  v1: f32[N,2] = linear v0, v2
  output v1 \"y\"
}
",
            &NoBlobs,
        )
        .unwrap();
        let (prepared, layers) = prepare("test", &coded, &float).unwrap();
        let mut latent = Latent::of_layer(&prepared, &float, &layers[0]).unwrap();
        // 1.8, -1.2, 1.24, -1.96 in codes, as near to the codes as these allow.
        assert_eq!(latent.reals, [1.45, -1.2, 1.24, -0.45]);
        assert_eq!(latent.tensor().as_codes().unwrap(), [1, -1, 1, 0]);
        for _ in 0..30 {
            latent.step(&[-1.0, 1.0, 2.0, 0.0], &[0.5, 0.25], 0.1);
        }
        // As far as the format goes.
        assert_eq!(latent.reals[..3], [1.45, -2.45, -2.45]);
        assert_eq!(latent.tensor().as_codes().unwrap(), [1, -2, -2, 0]);
        assert_eq!(latent.reals[3], -0.45);
    }
}
