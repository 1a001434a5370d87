//! How much the outputs of layers vary: the unit of their biases' rates, so that what is learned does not depend on the magnitude of
//! activations.

use crate::context::{CalibrationData, checked_sample};
use crate::learn::layers::Layer;
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::ValueId;

/// Images that tell.
const IMAGES: usize = 16;

/// For each layer the standard deviation of its outputs in the float network: the root of the mean over its channels of their variance over
/// images and positions. 1 where they are constant.
pub(crate) fn output_deviations(
    float: &Interpreter,
    layers: &[Layer],
    data: &dyn CalibrationData,
    images: &[usize],
    pass: &'static str,
) -> Result<Vec<f32>, PassError> {
    let values: Vec<ValueId> = layers.iter().map(|l| l.output).collect();
    let count = images.len().min(IMAGES);
    let parts = map_images(count, |i| {
        let inputs = checked_sample(float.graph(), data, images[i])?;
        let tensors = float.run_to(&inputs, &values).map_err(|e| PassError::evaluation(pass, e))?;
        let sums = |(t, l): (&catc_ir::Tensor, &Layer)| channel_sums(t.as_f32().unwrap_or(&[]), l);
        Ok::<_, PassError>(tensors.iter().zip(layers).map(sums).collect::<Vec<_>>())
    })?;
    let deviation = |l: usize| {
        let channels = layers[l].channels.max(1);
        let mut total = vec![[0.0f64; 3]; channels];
        for part in &parts {
            total.iter_mut().zip(&part[l]).for_each(|(t, s)| (0..3).for_each(|k| t[k] += s[k]));
        }
        let variance = |[n, sum, squares]: &[f64; 3]| (squares / n.max(1.0) - (sum / n.max(1.0)).powi(2)).max(0.0);
        let mean = total.iter().map(variance).sum::<f64>() / channels as f64;
        if mean > 0.0 && mean.is_finite() { mean.sqrt() as f32 } else { 1.0 }
    };
    Ok((0..layers.len()).map(deviation).collect())
}

/// For each channel of a layer's output for one image the number of its elements, their sum and the sum of their squares.
fn channel_sums(output: &[f32], layer: &Layer) -> Vec<[f64; 3]> {
    let channels = layer.channels.max(1);
    let mut sums = vec![[0.0; 3]; channels];
    let plane = if layer.innermost { 1 } else { layer.positions.max(1) };
    for (i, x) in output.iter().enumerate() {
        let (sum, x) = (&mut sums[i / plane % channels], f64::from(*x));
        *sum = [sum[0] + 1.0, sum[1] + x, sum[2] + x * x];
    }
    sums
}
