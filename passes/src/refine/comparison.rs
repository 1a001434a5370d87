//! How near a quantized network comes to the float one on calibration images.

use crate::context::{CalibrationData, checked_sample};
use crate::objective::Objective;
use crate::pass::PassError;
use crate::refine::split::MIN_HELD_OUT;
use catc_interp::images::map_images;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Graph, Tensor};

/// Factors of class scores that are tried where their confidence is not to count.
const SCORE_FACTORS: [f32; 8] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];

/// Two networks on the same images.
pub(crate) struct Comparison<'a> {
    /// The pass that compares.
    pub pass: &'static str,
    /// The float network; it has the quantized network's inputs.
    pub reference: &'a Graph,
    /// The images.
    pub data: &'a dyn CalibrationData,
    /// What is compared, in both networks.
    pub objective: &'a Objective,
}

/// How far a network is from the float one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distance {
    /// The mean loss.
    pub loss: f64,
    /// The mean loss after class scores are multiplied by the best of a few factors. Learning makes scores overconfident on other images
    /// before it makes their order worse; this loss depends on the order more than on the confidence.
    pub order: f64,
    /// For each output of values the sum of squared errors.
    squares: Vec<f64>,
}

/// The least decrease of a loss that is worth a change.
const MIN_GAIN: f64 = 1e-5;

impl Distance {
    /// Whether the loss is less than that of another network and no output of values has a larger squared error. Written so that NaN is
    /// never less.
    pub fn improves_on(&self, other: &Distance) -> bool {
        other.loss - self.loss > MIN_GAIN && self.squares.iter().zip(&other.squares).all(|(own, other)| own <= other)
    }
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

    /// The float network's compared values for these images.
    pub fn wanted(&self, images: &[usize]) -> Result<Vec<Vec<f32>>, PassError> {
        let interpreter = Interpreter::new(self.reference).map_err(|e| self.error(e))?;
        self.objective.evaluate(&interpreter, self.data, images, self.pass)
    }

    /// The distance of a network from `wanted`, the float network's values for these images.
    pub fn distance(
        &self,
        interpreter: &Interpreter,
        images: &[usize],
        wanted: &[Vec<f32>],
    ) -> Result<Distance, PassError> {
        let values = self.objective.values();
        let losses = map_images(images.len(), |i| {
            let inputs = checked_sample(self.reference, self.data, images[i])?;
            let tensors = interpreter.run_to(&inputs, &values).map_err(|e| self.error(e))?;
            let found = self.objective.rows(&tensors.iter().collect::<Vec<_>>()).remove(0);
            let scaled = SCORE_FACTORS.map(|scale| self.objective.scaled_loss(&wanted[i], &found, 1.0, scale));
            Ok::<_, PassError>((scaled, self.objective.squares(&wanted[i], &found)))
        })?;
        let mean = |k: usize| losses.iter().map(|(l, _)| l[k]).sum::<f64>() / losses.len().max(1) as f64;
        let mut squares: Vec<f64> = vec![];
        for (_, image) in &losses {
            squares.resize(image.len(), 0.0);
            squares.iter_mut().zip(image).for_each(|(t, s)| *t += s);
        }
        Ok(Distance { loss: mean(0), order: (0..SCORE_FACTORS.len()).map(mean).fold(f64::INFINITY, f64::min), squares })
    }
}

/// Held-out images, which decide whether a change helped, with the float network's compared values of them.
pub(crate) struct Holdout<'a> {
    compare: &'a Comparison<'a>,
    images: &'a [usize],
    wanted: Vec<Vec<f32>>,
}

/// The kept outputs may take one part in this many of the memory.
pub(crate) const KEPT_SHARE: usize = 4;

impl<'a> Holdout<'a> {
    /// As many of `images` as have outputs that fit a quarter of `max_memory` bytes, at least [`MIN_HELD_OUT`].
    pub fn new(compare: &'a Comparison<'a>, images: &'a [usize], max_memory: usize) -> Result<Holdout<'a>, PassError> {
        let fitting = (max_memory / KEPT_SHARE / compare.objective.bytes()).max(MIN_HELD_OUT);
        let images = &images[..images.len().min(fitting)];
        Ok(Holdout { compare, images, wanted: compare.wanted(images)? })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// The distance of a network from the float one on these images.
    pub fn distance(&self, interpreter: &Interpreter) -> Result<Distance, PassError> {
        self.compare.distance(interpreter, self.images, &self.wanted)
    }
}
