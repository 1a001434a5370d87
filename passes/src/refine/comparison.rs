//! How near a quantized network comes to the float one on calibration images.

use crate::context::{CalibrationData, checked_sample};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::metrics::kl_divergence;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Graph, Tensor, ValueId};

/// What logits are multiplied by where their confidence is not to count.
const SCALES: [f32; 8] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];

/// Two networks on the same images.
pub(crate) struct Comparison<'a> {
    /// The pass that compares.
    pub pass: &'static str,
    /// The float network; it has the quantized network's inputs.
    pub reference: &'a Graph,
    /// The images.
    pub data: &'a dyn CalibrationData,
    /// The logits, in both networks.
    pub target: ValueId,
    /// Temperature of both softmaxes.
    pub temperature: f64,
}

impl Comparison<'_> {
    /// Makes a [`PassError`] of the evaluator's.
    pub fn error(&self, e: EvalError) -> PassError {
        PassError::evaluation(self.pass, e)
    }

    /// The network's inputs for these images.
    pub fn inputs(&self, images: &[usize]) -> Result<Vec<Vec<Tensor>>, PassError> {
        map_images(images.len(), |i| checked_sample(self.reference, self.data, images[i]))
    }

    /// The float network's logits for these images.
    pub fn float_logits(&self, images: &[usize]) -> Result<Vec<Vec<f32>>, PassError> {
        let interpreter = Interpreter::new(self.reference).map_err(|e| self.error(e))?;
        map_images(images.len(), |i| Ok(self.logits(&interpreter, images[i])?.as_f32().unwrap_or(&[]).to_vec()))
    }

    fn logits(&self, interpreter: &Interpreter, image: usize) -> Result<Tensor, PassError> {
        let inputs = checked_sample(self.reference, self.data, image)?;
        Ok(interpreter.run_to(&inputs, &[self.target]).map_err(|e| self.error(e))?.remove(0))
    }

    /// The mean divergence of a network's logits for these images from `float`, the float network's.
    pub fn mean_divergence(
        &self,
        interpreter: &Interpreter,
        images: &[usize],
        float: &[Vec<f32>],
    ) -> Result<f64, PassError> {
        let losses = map_images(images.len(), |i| {
            let logits = self.logits(interpreter, images[i])?;
            Ok::<_, PassError>(kl_divergence(&float[i], logits.as_f32().unwrap_or(&[]), self.temperature))
        })?;
        Ok(losses.iter().sum::<f64>() / losses.len().max(1) as f64)
    }

    /// [`Comparison::mean_divergence`], as it is and with the network's logits multiplied by the one of a few factors that suits them best.
    /// Learning makes logits too confident on other images before it makes their order worse; the second tells of the order.
    pub fn divergence_and_order(
        &self,
        interpreter: &Interpreter,
        images: &[usize],
        float: &[Vec<f32>],
    ) -> Result<[f64; 2], PassError> {
        let losses = map_images(images.len(), |i| {
            let logits = self.logits(interpreter, images[i])?;
            let scaled = SCALES.map(|scale| {
                let scaled: Vec<f32> = logits.as_f32().unwrap_or(&[]).iter().map(|z| scale * z).collect();
                kl_divergence(&float[i], &scaled, self.temperature)
            });
            Ok::<_, PassError>(scaled)
        })?;
        let mean = |k: usize| losses.iter().map(|l| l[k]).sum::<f64>() / losses.len().max(1) as f64;
        Ok([mean(0), (0..SCALES.len()).map(mean).fold(f64::INFINITY, f64::min)])
    }
}
