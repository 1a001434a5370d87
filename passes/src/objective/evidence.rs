//! Tells class scores from other values: by the graph, or, where the graph does not tell, by the outputs on the calibration set.
//!
//! Scores of a trained classifier have three marks that other values do not have together. Their softmax says much of the sample: the
//! mutual information between sample and class is a good part of the most there can be. Each score is high for few samples and low for most,
//! so that its distribution leans to the right. And the largest score leads by no more than what a loss of probabilities rewards. An
//! unclear case counts as values: class scores that are compared by their squared error lose little, values that are compared by the
//! divergence of a softmax are ruined.

use super::outputs::Candidate;
use super::{Decision, Measure, Objective, ObjectiveChoice, Target};
use crate::context::{CalibrationData, checked_sample};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::metrics::softmax;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, ValueId};

/// Samples that decide, at most.
const MAX_SAMPLES: usize = 256;
/// Samples that decide by statistics, at least.
const MIN_SAMPLES: usize = 32;
/// Mutual information of sample and class, in parts of the logarithm of the number of classes, at least.
const MIN_INFORMATION: f64 = 0.4;
/// Mean skewness of the scores, at least.
const MIN_SKEWNESS: f64 = 0.3;
/// Median distance between the two largest scores, at most.
const MAX_MARGIN: f64 = 40.0;
/// A component whose variance is below this part of its mean square is constant.
const CONSTANT: f64 = 1e-9;

/// Decides for each candidate how it is compared.
pub(super) fn decide(
    graph: &Graph,
    candidates: Vec<Candidate>,
    data: &dyn CalibrationData,
    choice: ObjectiveChoice,
    pass: &'static str,
) -> Result<Decision, PassError> {
    let sizes: Vec<[usize; 3]> = candidates.iter().map(|c| sizes(graph, c)).collect();
    let statistics = Statistics::collect(graph, &candidates, &sizes, data, pass)?;
    let (mut targets, mut reasons) = (vec![], vec![]);
    for ((c, sizes), statistics) in candidates.into_iter().zip(sizes).zip(statistics) {
        let (classes, reason) = match choice {
            ObjectiveChoice::Regression => (false, "as asked for".to_string()),
            ObjectiveChoice::Logits if c.no_scores.is_some() => (false, c.no_scores.unwrap_or_default().to_string()),
            ObjectiveChoice::Logits if sizes[1] < 2 => (false, "a single number is no class score".into()),
            ObjectiveChoice::Logits => (true, "as asked for".into()),
            ObjectiveChoice::Auto => statistics.classes(&c, sizes),
        };
        reasons.push(format!(
            "output \"{}\" {} ({reason})",
            c.output,
            if classes { "as class scores" } else { "as values" }
        ));
        let measure =
            if classes { Measure::Divergence } else { Measure::SquaredError { weights: statistics.weights(sizes) } };
        targets.push(Target { value: c.value, output: c.output, sizes, measure });
    }
    if choice == ObjectiveChoice::Logits && targets.iter().all(|t| t.measure != Measure::Divergence) {
        let shapes: Vec<String> =
            targets.iter().map(|t| format!("\"{}\" {}", t.output, graph.value_type(t.value).shape)).collect();
        let message = format!(
            "the objective is `logits`, but no output holds scores of two or more classes: {}. Use the objective `regression` or `auto`",
            shapes.join(", ")
        );
        return Err(PassError::graph(pass, format!("@{}", graph.name), message));
    }
    let note = format!("compares {}", reasons.join("; "));
    Ok(Decision { objective: Ok(Objective::of(targets)), note: Some(note) })
}

/// Elements of one image before, along and after the axis of classes or components.
fn sizes(graph: &Graph, c: &Candidate) -> [usize; 3] {
    let dims = graph.value_type(c.value).shape.at_batch(1);
    let axis = match (c.scores, dims.len()) {
        (Some((axis, _)), rank) if axis > 0 && axis < rank => axis,
        // Predictions beside each other: there are more of them than components.
        (_, 3) if dims[2] < dims[1] => 2,
        _ => 1,
    };
    [dims[1..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()]
}

/// What is known of an output's values.
struct Statistics {
    samples: usize,
    /// For each component the sum and the sum of squares, and how many elements they have.
    sums: Vec<[f64; 2]>,
    count: f64,
    /// The values of each sample, where there is one row of components.
    rows: Vec<Vec<f32>>,
}

impl Statistics {
    fn collect(
        graph: &Graph,
        candidates: &[Candidate],
        sizes: &[[usize; 3]],
        data: &dyn CalibrationData,
        pass: &'static str,
    ) -> Result<Vec<Statistics>, PassError> {
        let interpreter = Interpreter::new(graph).map_err(|e| PassError::evaluation(pass, e))?;
        let values: Vec<ValueId> = candidates.iter().map(|c| c.value).collect();
        let samples = data.len().min(MAX_SAMPLES);
        let images = map_images(samples, |i| {
            // Evenly spaced: calibration sets are often sorted.
            let inputs = checked_sample(graph, data, i * data.len() / samples)?;
            let tensors = interpreter.run_to(&inputs, &values).map_err(|e| PassError::evaluation(pass, e))?;
            let part = |(t, sizes): (&catc_ir::Tensor, &[usize; 3])| image(t.as_f32().unwrap_or(&[]), *sizes);
            Ok::<_, PassError>(tensors.iter().zip(sizes).map(part).collect::<Vec<_>>())
        })?;
        let mut all: Vec<Statistics> = sizes
            .iter()
            .map(|s| Statistics { samples, sums: vec![[0.0; 2]; s[1]], count: 0.0, rows: vec![] })
            .collect();
        for parts in images {
            for ((statistics, (sums, row)), sizes) in all.iter_mut().zip(parts).zip(sizes) {
                statistics.sums.iter_mut().zip(sums).for_each(|(t, s)| *t = [t[0] + s[0], t[1] + s[1]]);
                statistics.count += (sizes[0] * sizes[2]) as f64;
                statistics.rows.extend(row);
            }
        }
        Ok(all)
    }

    /// Mean and variance of each component.
    fn moments(&self) -> Vec<(f64, f64)> {
        let n = self.count.max(1.0);
        let moments = |[sum, squares]: &[f64; 2]| (sum / n, (squares / n - (sum / n).powi(2)).max(0.0));
        self.sums.iter().map(moments).collect()
    }

    /// The weights of the squared errors: the inverse of the variance of each component, over the number of elements that vary. A component
    /// that is constant has the least of these weights.
    fn weights(&self, sizes: [usize; 3]) -> Vec<f64> {
        let moments = self.moments();
        let varies = |(mean, variance): &(f64, f64)| *variance > CONSTANT * mean * mean;
        let largest = moments.iter().filter(|m| varies(m)).map(|m| m.1).fold(0.0, f64::max);
        let elements = (moments.iter().filter(|m| varies(m)).count().max(1) * sizes[0] * sizes[2]).max(1) as f64;
        let constant = || moments.iter().map(|m| m.0 * m.0).fold(0.0, f64::max);
        let whole = match (largest > 0.0, constant()) {
            (true, _) => largest,
            (false, square) if square > 0.0 => square,
            _ => 1.0,
        };
        moments.iter().map(|m| 1.0 / (if varies(m) { m.1 } else { whole }) / elements).collect()
    }

    /// Whether an output holds class scores, and by what.
    fn classes(&self, c: &Candidate, sizes: [usize; 3]) -> (bool, String) {
        let [outer, classes, inner] = sizes;
        if let (Some((_, what)), true) = (c.scores, classes >= 2) {
            return (true, format!("{what} follows"));
        }
        if let Some(reason) = c.no_scores {
            return (false, reason.into());
        }
        if outer * inner != 1 {
            return (false, "several positions, no softmax".into());
        }
        if classes < 3 {
            return (false, format!("{classes} components, no softmax"));
        }
        if self.samples < MIN_SAMPLES {
            return (false, format!("{} samples are too few to tell", self.samples));
        }
        let marks = Marks::of(&self.rows, classes);
        let shown =
            format!("information {:.2}, skewness {:.2}, margin {:.2}", marks.information, marks.skewness, marks.margin);
        (marks.are_of_classes(), shown)
    }
}

/// For each component the sum and the sum of squares in one image, and its row if it is one.
fn image(x: &[f32], [outer, along, inner]: [usize; 3]) -> (Vec<[f64; 2]>, Option<Vec<f32>>) {
    let mut sums = vec![[0.0; 2]; along];
    for (i, x) in x.iter().enumerate() {
        let (sum, x) = (&mut sums[i / inner % along], f64::from(*x));
        *sum = [sum[0] + x, sum[1] + x * x];
    }
    (sums, (outer * inner == 1).then(|| x.to_vec()))
}

/// The marks of class scores.
struct Marks {
    /// Mutual information between sample and class, over the logarithm of the number of classes.
    information: f64,
    /// Mean over the classes of the skewness of a score less the mean score of its sample.
    skewness: f64,
    /// Median distance of the two largest scores.
    margin: f64,
}

impl Marks {
    fn of(rows: &[Vec<f32>], classes: usize) -> Marks {
        let n = rows.len().max(1) as f64;
        let entropy = |p: &[f64]| -p.iter().map(|p| p * p.max(1e-300).ln()).sum::<f64>();
        let mut mean = vec![0.0; classes];
        let mut own = 0.0;
        let mut margins = vec![];
        let mut centred: Vec<Vec<f64>> = vec![];
        for row in rows {
            let p = softmax(row, 1.0);
            own += entropy(&p) / n;
            mean.iter_mut().zip(&p).for_each(|(m, p)| *m += p / n);
            let mut sorted: Vec<f32> = row.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            margins.push(f64::from(sorted[0] - sorted[1]));
            let middle = row.iter().map(|z| f64::from(*z)).sum::<f64>() / classes as f64;
            centred.push(row.iter().map(|z| f64::from(*z) - middle).collect());
        }
        margins.sort_by(f64::total_cmp);
        let skewness = |c: usize| {
            let mean = centred.iter().map(|z| z[c]).sum::<f64>() / n;
            let moment = |k: i32| centred.iter().map(|z| (z[c] - mean).powi(k)).sum::<f64>() / n;
            let variance = moment(2);
            if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 }
        };
        Marks {
            information: (entropy(&mean) - own) / (classes as f64).ln(),
            skewness: (0..classes).map(skewness).sum::<f64>() / classes as f64,
            margin: margins[margins.len() / 2],
        }
    }

    /// Written so that NaN counts as evidence against classes.
    fn are_of_classes(&self) -> bool {
        self.information >= MIN_INFORMATION && self.skewness >= MIN_SKEWNESS && self.margin <= MAX_MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn normal(rng: &mut ChaCha8Rng) -> f32 {
        (0..12).map(|_| rng.random_range(-0.5f32..0.5)).sum()
    }

    /// Scores of a classifier: high for the class of the sample, and a little for one other.
    fn scores(classes: usize, n: usize) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let row = |i: usize, rng: &mut ChaCha8Rng| {
            let (own, other) = (i * 7 % classes, rng.random_range(0..classes));
            (0..classes)
                .map(|c| {
                    normal(rng)
                        + if c == own { 4.0 + (classes as f32).ln() } else { 0.0 }
                        + if c == other { 3.0 } else { 0.0 }
                })
                .collect()
        };
        (0..n).map(|i| row(i, &mut rng)).collect()
    }

    /// Values: normal, of this size around these means.
    fn values(components: usize, n: usize, size: f32, means: f32) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let means: Vec<f32> = (0..components).map(|_| means * normal(&mut rng)).collect();
        (0..n).map(|_| means.iter().map(|m| m + size * normal(&mut rng)).collect()).collect()
    }

    #[test]
    fn scores_and_values_are_told_apart() {
        for classes in [3, 10, 100, 1000] {
            assert!(Marks::of(&scores(classes, 256), classes).are_of_classes(), "{classes} classes");
        }
        for components in [3, 4, 10, 64, 512] {
            for size in [0.01, 0.3, 1.0, 5.0, 50.0, 1e4] {
                for means in [0.0, 1.0, 100.0] {
                    let marks = Marks::of(&values(components, 256, size, means), components);
                    assert!(!marks.are_of_classes(), "{components} components of size {size} around {means}");
                }
            }
        }
    }

    #[test]
    fn weights_make_the_error_of_the_mean_one() {
        let rows: Vec<Vec<f32>> = (0..8).map(|i| vec![100.0 * i as f32, 0.01 * (i % 3) as f32, 5.0]).collect();
        let mut sums = vec![[0.0; 2]; 3];
        for row in &rows {
            let (one, _) = image(row, [1, 3, 1]);
            sums.iter_mut().zip(one).for_each(|(t, s)| *t = [t[0] + s[0], t[1] + s[1]]);
        }
        let statistics = Statistics { samples: 8, sums, count: 8.0, rows: vec![] };
        let weights = statistics.weights([1, 3, 1]);
        let moments = statistics.moments();
        let error: f64 = moments.iter().zip(&weights).map(|((_, variance), w)| variance * w).sum();
        assert!((error - 1.0).abs() < 1e-6, "{error}");
        // The constant component counts as the one that varies most.
        assert!(weights[2] <= weights[0] && weights[0] < weights[1]);
    }
}
