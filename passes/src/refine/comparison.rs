//! How near a quantized network comes to the float one on calibration images.

use crate::context::{CalibrationData, checked_sample};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::metrics::kl_divergence;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Graph, Tensor, ValueId};

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
}
