//! What the outputs of the quantized network are compared by: the objective that every pass follows which corrects, searches or learns on
//! the network's output.
//!
//! - Scores of classes are compared by the divergence of their softmax, since only their differences matter ([`Measure::Divergence`]).
//! - Everything else (boxes, coordinates, embeddings, images) is compared by the squared error, each component in parts of its own
//!   variance over the calibration set ([`Measure::SquaredError`]): 1 is the error of a network that gives the mean for every input.
//! - `outputs` finds the values that are compared, `evidence` tells scores of classes from other values.
//!
//! Losses of several outputs are averaged. Losses of one image are computed from one slice that holds all compared values one after the
//! other, in the order of [`Objective::targets`].

mod evidence;
mod outputs;

pub(crate) use outputs::downstream;
pub use outputs::{class_scores, evaluate_rows};

use crate::context::{CalibrationData, checked_sample};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::metrics::{kl_divergence, softmax};
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Tensor, ValueId};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// How the objective is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectiveChoice {
    /// For each output, decided from the graph and from the values of the output on the calibration set.
    #[default]
    Auto,
    /// Outputs are scores of classes.
    Logits,
    /// Outputs are values.
    Regression,
}

/// The choices with their names and what to say of them.
pub const OBJECTIVES: &[(&str, ObjectiveChoice, &str)] = &[
    ("auto", ObjectiveChoice::Auto, "decides for each output by the graph and by its values on the calibration set"),
    ("logits", ObjectiveChoice::Logits, "outputs are class scores: compared by the divergence of their softmax"),
    ("regression", ObjectiveChoice::Regression, "outputs are values: compared by the mean squared error"),
];

impl fmt::Display for ObjectiveChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, ..) = OBJECTIVES.iter().find(|(_, o, _)| o == self).unwrap_or(&OBJECTIVES[0]);
        f.write_str(name)
    }
}

impl FromStr for ObjectiveChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        OBJECTIVES.iter().find(|(n, ..)| *n == name).map(|(_, o, _)| *o).ok_or_else(|| {
            let known: Vec<&str> = OBJECTIVES.iter().map(|(n, ..)| *n).collect();
            format!("there is no objective `{name}`; there are {}", known.join(", "))
        })
    }
}

/// How a value is compared with the float network's.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// `KL(softmax(float) || softmax(quantized))` along the axis, in nats, averaged over the positions beside it.
    Divergence,
    /// `Σ weight (quantized - float)²` over all elements, a weight for each index along the axis. The weights are such that a network that
    /// always gives the means has a loss of 1.
    SquaredError {
        /// For each index along the axis.
        weights: Vec<f64>,
    },
}

/// A value that is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The value, in the float and in the quantized graph.
    pub value: ValueId,
    /// The output that it is, or that is made of it.
    pub output: String,
    /// Elements of one image before the axis of classes or components, along it, and after it.
    pub sizes: [usize; 3],
    /// How it is compared.
    pub measure: Measure,
}

impl Target {
    /// Elements of one image.
    pub fn len(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Whether an image has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is one row of classes or components for each image.
    pub fn is_row(&self) -> bool {
        self.sizes[0] == 1 && self.sizes[2] == 1
    }

    /// Calls `f` with the index of the first element of every position and the distance between its classes.
    fn positions(&self, mut f: impl FnMut(usize)) {
        let [outer, along, inner] = self.sizes;
        for o in 0..outer {
            for i in 0..inner {
                f(o * along * inner + i);
            }
        }
    }

    /// The values of one position.
    fn gather(&self, x: &[f32], first: usize, factor: f32) -> Vec<f32> {
        let [_, along, inner] = self.sizes;
        (0..along).map(|c| factor * x[first + c * inner]).collect()
    }

    /// The loss of one image, the quantized network's values times `factor` where classes are compared.
    fn loss(&self, wanted: &[f32], found: &[f32], temperature: f64, factor: f32) -> f64 {
        let [_, along, inner] = self.sizes;
        match &self.measure {
            Measure::Divergence => {
                let mut sum = 0.0;
                self.positions(|p| {
                    sum += kl_divergence(&self.gather(wanted, p, 1.0), &self.gather(found, p, factor), temperature);
                });
                sum / (self.sizes[0] * inner).max(1) as f64
            }
            Measure::SquaredError { weights } => {
                let square = |(i, (f, w)): (usize, (&f32, &f32))| weights[i / inner % along] * f64::from(f - w).powi(2);
                found.iter().zip(wanted).enumerate().map(square).sum()
            }
        }
    }

    /// Adds `weight` times the loss of one image and its gradient at `found`.
    fn gradient(&self, wanted: &[f32], found: &[f32], temperature: f64, weight: f64, gradient: &mut [f32]) -> f64 {
        let [_, along, inner] = self.sizes;
        match &self.measure {
            Measure::Divergence => {
                let weight = weight / (self.sizes[0] * inner).max(1) as f64;
                let mut sum = 0.0;
                self.positions(|first| {
                    let (reference, own) = (self.gather(wanted, first, 1.0), self.gather(found, first, 1.0));
                    let (p, q) = (softmax(&reference, temperature), softmax(&own, temperature));
                    for (c, (p, q)) in p.iter().zip(&q).enumerate() {
                        gradient[first + c * inner] = (weight * (q - p) / temperature) as f32;
                    }
                    sum += weight * kl_divergence(&reference, &own, temperature);
                });
                sum
            }
            Measure::SquaredError { weights } => {
                let mut sum = 0.0;
                for (i, ((g, f), w)) in gradient.iter_mut().zip(found).zip(wanted).enumerate() {
                    let (weight, d) = (weight * weights[i / inner % along], f64::from(f - w));
                    sum += weight * d * d;
                    *g = (2.0 * weight * d) as f32;
                }
                sum
            }
        }
    }
}

/// What the outputs of a quantized network are compared by. It has at least one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    targets: Vec<Target>,
}

/// What a choice of objective found.
pub(crate) struct Decision {
    /// The objective, or why there is none (a sentence fragment).
    pub objective: Result<Objective, String>,
    /// What was decided and on what evidence, for the user.
    pub note: Option<String>,
}

impl Objective {
    /// Chooses the objective of `graph`, a float graph, from its outputs for `data`, which must not be empty. `pass` is who asks, for
    /// errors.
    pub(crate) fn choose(
        graph: &Graph,
        data: &dyn CalibrationData,
        choice: ObjectiveChoice,
        pass: &'static str,
    ) -> Result<Decision, PassError> {
        let candidates = match outputs::candidates(graph) {
            Ok(found) => found,
            Err(reason) => return Ok(Decision { objective: Err(reason), note: None }),
        };
        evidence::decide(graph, candidates, data, choice, pass)
    }

    /// The objective of a graph whose outputs have these measures.
    pub(crate) fn of(targets: Vec<Target>) -> Objective {
        Objective { targets }
    }

    /// The values that are compared.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The values that are compared.
    pub fn values(&self) -> Vec<ValueId> {
        self.targets.iter().map(|t| t.value).collect()
    }

    /// Elements of one image, of all targets together.
    pub fn len(&self) -> usize {
        self.targets.iter().map(Target::len).sum()
    }

    /// Whether an image has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an output is compared by its squared error.
    pub(crate) fn has_values(&self) -> bool {
        self.targets.iter().any(|t| matches!(t.measure, Measure::SquaredError { .. }))
    }

    /// Bytes of the compared values of one image, at least 1.
    pub(crate) fn bytes(&self) -> usize {
        self.len().saturating_mul(4).max(1)
    }

    /// The targets that `keep` names, and where the values of an image hold them; `None` if there are none.
    pub(crate) fn part(&self, keep: impl Fn(ValueId) -> bool) -> Option<(Objective, Vec<Range<usize>>)> {
        let (mut targets, mut ranges, mut first) = (vec![], vec![], 0);
        for t in &self.targets {
            if keep(t.value) {
                targets.push(t.clone());
                ranges.push(first..first + t.len());
            }
            first += t.len();
        }
        (!targets.is_empty()).then_some((Objective { targets }, ranges))
    }

    /// The compared values of each image of a batch, from the tensors of the targets.
    pub(crate) fn rows(&self, tensors: &[&Tensor]) -> Vec<Vec<f32>> {
        let parts: Vec<&[f32]> = tensors.iter().map(|t| t.as_f32().unwrap_or(&[])).collect();
        let images = tensors.first().and_then(|t| t.shape().first()).copied().unwrap_or(0);
        let row = |n: usize| {
            let part = |(t, x): (&Target, &&[f32])| x[n * t.len()..(n + 1) * t.len()].to_vec();
            self.targets.iter().zip(&parts).flat_map(part).collect()
        };
        (0..images).map(row).collect()
    }

    /// Tensors with these gradients, in the shapes of `like`, from those of each image.
    pub(crate) fn seeds(&self, like: &[&Tensor], rows: &[Vec<f32>]) -> Vec<(ValueId, Tensor)> {
        let mut first = 0;
        let seed = |(t, tensor): (&Target, &&Tensor)| {
            let part = first..first + t.len();
            first += t.len();
            let data = rows.iter().flat_map(|row| row[part.clone()].iter().copied()).collect();
            (t.value, Tensor::f32(tensor.shape(), data))
        };
        self.targets.iter().zip(like).map(seed).collect()
    }

    /// The loss of one image.
    pub fn loss(&self, wanted: &[f32], found: &[f32], temperature: f64) -> f64 {
        self.scaled_loss(wanted, found, temperature, 1.0)
    }

    /// The loss of one image with the quantized network's class scores times `factor`.
    pub(crate) fn scaled_loss(&self, wanted: &[f32], found: &[f32], temperature: f64, factor: f32) -> f64 {
        let mut rest = (wanted, found);
        let losses = self.targets.iter().map(|t| {
            let ((wanted, after_wanted), (found, after_found)) = (rest.0.split_at(t.len()), rest.1.split_at(t.len()));
            rest = (after_wanted, after_found);
            t.loss(wanted, found, temperature, factor)
        });
        losses.sum::<f64>() / self.targets.len().max(1) as f64
    }

    /// `weight` times the loss of one image, and its gradient at `found`.
    pub(crate) fn gradient(&self, wanted: &[f32], found: &[f32], temperature: f64, weight: f64) -> (f64, Vec<f32>) {
        let mut gradient = vec![0.0; found.len()];
        let (mut first, mut sum) = (0, 0.0);
        let weight = weight / self.targets.len().max(1) as f64;
        for t in &self.targets {
            let part = first..first + t.len();
            first = part.end;
            sum += t.gradient(
                &wanted[part.clone()],
                &found[part.clone()],
                temperature,
                weight,
                &mut gradient[part.clone()],
            );
        }
        (sum, gradient)
    }

    /// For each target that is compared by squared error the plain sum of squared errors of one image.
    pub(crate) fn squares(&self, wanted: &[f32], found: &[f32]) -> Vec<f64> {
        let mut first = 0;
        let mut squares = vec![];
        for t in &self.targets {
            let part = first..first + t.len();
            first = part.end;
            if matches!(t.measure, Measure::SquaredError { .. }) {
                let pairs = wanted[part.clone()].iter().zip(&found[part]);
                squares.push(pairs.map(|(w, f)| f64::from(f - w).powi(2)).sum());
            }
        }
        squares
    }

    /// The class with the largest score of an image, if classes are compared and there is one row of them.
    pub(crate) fn class(&self, row: &[f32]) -> Option<usize> {
        let mut first = 0;
        for t in &self.targets {
            if t.measure == Measure::Divergence && t.is_row() {
                let row = &row[first..first + t.len()];
                return (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best });
            }
            first += t.len();
        }
        None
    }

    /// What its loss is called.
    pub fn name(&self) -> &'static str {
        let classes = self.targets.iter().filter(|t| t.measure == Measure::Divergence).count();
        if classes == self.targets.len() {
            "divergence from the float network"
        } else if classes == 0 {
            "squared error relative to the variance of the outputs"
        } else {
            "mean of the divergences and relative squared errors of the outputs"
        }
    }

    /// A loss with its unit.
    pub fn amount(&self, loss: f64) -> String {
        let nats = self.targets.iter().all(|t| t.measure == Measure::Divergence);
        if nats { format!("{loss:.4} nats") } else { format!("{loss:.4}") }
    }

    /// The compared values of the float network for some samples of `data`: one vector for each sample.
    pub(crate) fn evaluate(
        &self,
        interpreter: &Interpreter,
        data: &dyn CalibrationData,
        images: &[usize],
        pass: &'static str,
    ) -> Result<Vec<Vec<f32>>, PassError> {
        let values = self.values();
        map_images(images.len(), |i| {
            let inputs = checked_sample(interpreter.graph(), data, images[i])?;
            let tensors = interpreter.run_to(&inputs, &values).map_err(|e| PassError::evaluation(pass, e))?;
            Ok(tensors.iter().flat_map(|t| t.as_f32().unwrap_or(&[]).iter().copied()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catc_ir::text::{NoBlobs, parse};

    fn value() -> ValueId {
        let text = "graph @g float {\ninput(v0: f32[N,2] \"x\"):\n  v1: f32[N,2] = relu v0\n  output v1 \"y\"\n}\n";
        parse(text, &NoBlobs).unwrap().outputs[0].value
    }

    fn target(sizes: [usize; 3], measure: Measure) -> Target {
        Target { value: value(), output: "y".into(), sizes, measure }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let weights = vec![0.3, 2.0];
        let targets = vec![
            target([1, 4, 1], Measure::Divergence),
            target([2, 3, 2], Measure::Divergence),
            target([2, 2, 3], Measure::SquaredError { weights }),
        ];
        let objective = Objective::of(targets);
        let wave = |n: usize, at: f32| (0..n).map(|i| (i as f32 * at).sin() * 2.0).collect::<Vec<f32>>();
        let (wanted, found) = (wave(objective.len(), 0.7), wave(objective.len(), 1.3));
        for temperature in [0.4, 1.0, 4.0] {
            let (loss, gradient) = objective.gradient(&wanted, &found, temperature, 1.7);
            assert!((loss - 1.7 * objective.loss(&wanted, &found, temperature)).abs() < 1e-12);
            for i in 0..found.len() {
                let at = |by: f32| {
                    let mut x = found.clone();
                    x[i] += by;
                    1.7 * objective.loss(&wanted, &x, temperature)
                };
                let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((slope - f64::from(gradient[i])).abs() < 1e-3, "{i}: {slope} {}", gradient[i]);
            }
        }
    }

    #[test]
    fn positions_are_compared_one_by_one_along_the_axis() {
        // Two positions of three classes, the classes two apart.
        let t = target([1, 3, 2], Measure::Divergence);
        let (wanted, found) = ([1.0, 0.0, 2.0, 1.0, 3.0, -1.0], [0.5, 1.0, 2.5, 1.0, 1.0, 0.0]);
        let pair = |x: &[f32], p: usize| vec![x[p], x[p + 2], x[p + 4]];
        let expected = (0..2).map(|p| kl_divergence(&pair(&wanted, p), &pair(&found, p), 1.0)).sum::<f64>() / 2.0;
        assert!((t.loss(&wanted, &found, 1.0, 1.0) - expected).abs() < 1e-12);
    }

    #[test]
    fn choices_have_names() {
        for &(name, choice, _) in OBJECTIVES {
            assert_eq!((name.parse(), choice.to_string().as_str()), (Ok(choice), name));
        }
        let error = "classes".parse::<ObjectiveChoice>().unwrap_err();
        assert_eq!(error, "there is no objective `classes`; there are auto, logits, regression");
    }
}
