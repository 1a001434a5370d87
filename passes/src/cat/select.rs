//! The choice of alpha, the number of clusters and the dimensions of the principal space by cross-validation.
//!
//! The paper chooses them by hand from ablations on test images. Here each candidate is judged on logits that its maps
//! were not fitted to, by the divergence to the float logits, with `alpha = 0` (no correction) always among the
//! candidates. Clusters are formed once, from all quantized logits: they see no float logits, so nothing that is judged
//! leaks into them.
//!
//! Least squares shrinks logits towards their mean. That changes the divergence as a temperature would, and leaves the top-1 class as it
//! is. Every candidate, "no correction" included, is therefore judged after its logits are multiplied by the common factor that suits it
//! best. The winner may keep that factor ([`Choice::rescale`]); otherwise its divergence must fall without a factor too. On the logits of two
//! residual networks at 2 and 4 bits (10 and 200 classes) this chose corrections with up to 4 points more top-1 than the plain divergence
//! did.

use crate::cat::affine::{Affine, pseudo_counts};
use crate::cat::divergence::same_top1;
use crate::cat::kmeans::KMeans;
use crate::cat::pca::Pca;
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Values of alpha that are tried unless one is given, besides 0.
pub const ALPHAS: [f64; 5] = [0.2, 0.4, 0.6, 0.8, 1.0];
/// Logits that candidates are judged on: enough for a small error, few enough for a choice in seconds.
const MAX_JUDGED_LOGITS: usize = 1_000_000;
/// The most steps of the search for a factor; it has never needed nearly as many.
const MAX_NEWTON_STEPS: usize = 30;
/// Restarts of k-means while choosing; the clusters that are kept get more.
const RESTARTS: usize = 2;
/// A correction must lower the divergence by this many of its standard errors to be taken.
const REQUIRED_ERRORS: f64 = 2.0;
/// A correction must also lower the divergence by this many nats: a smaller gain is not worth its tables.
const REQUIRED_GAIN: f64 = 1e-4;

/// What candidates are judged by.
#[derive(Clone, Debug, PartialEq)]
pub enum Judge {
    /// Outputs are logits: the divergence of their softmax from the float network's.
    Divergence,
    /// Outputs are values: their squared error, a weight for each component.
    SquaredError {
        /// For each component.
        weights: Vec<f64>,
    },
}

/// What to choose among.
#[derive(Clone, Debug)]
pub struct Candidates {
    /// What they are judged by.
    pub judge: Judge,
    /// Whether the winner keeps the common factor of its logits.
    pub rescale: bool,
    /// Numbers of clusters.
    pub clusters: Vec<usize>,
    /// Dimensions of the principal space.
    pub dims: Vec<usize>,
    /// Weights of the correction.
    pub alphas: Vec<f64>,
    /// Whether no correction is a candidate too.
    pub or_none: bool,
    /// Pseudo-counts, if given ([`crate::cat::affine::pseudo_counts`]).
    pub pseudo_counts: Option<f64>,
    /// Number of folds, at least 2.
    pub folds: usize,
    /// Seed of folds and k-means.
    pub seed: u64,
}

/// A candidate and what it reached on logits it was not fitted to.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Number of clusters.
    pub clusters: usize,
    /// Dimensions of the principal space; no more than there are directions in which the logits differ.
    pub dims: usize,
    /// Weight of the correction; 0 if none lowers the divergence significantly.
    pub alpha: f64,
    /// The factor of the corrected logits that brings the divergence down furthest.
    pub rescale: f64,
    /// What was reached.
    pub score: Score,
    /// The same without correction (at its own best factor).
    pub base: Score,
}

/// How near corrected outputs come to the float ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Mean loss: the divergence in nats at the best factor, or the weighted squared error.
    pub loss: f64,
    /// The same without a factor.
    pub plain: f64,
    /// Part of the samples with the float network's top-1 class; of logits alone.
    pub agreement: Option<f64>,
    /// Sum of the plain squared errors; of values alone.
    squares: f64,
    /// Loss of each sample.
    samples: Vec<f64>,
}

/// The best candidate for these logits (`C x N` each); `pca` has at least the dimensions to choose among, if the logits
/// have them.
pub fn choose(lq: &DMatrix<f64>, fp: &DMatrix<f64>, pca: &Pca, candidates: &Candidates) -> Choice {
    let folds = Folds::new(lq, fp, candidates);
    let mut dims: Vec<usize> = candidates.dims.iter().map(|p| (*p).min(pca.dims())).collect();
    dims.sort_unstable();
    dims.dedup();
    let mut pairs: Vec<(usize, usize)> = vec![];
    for &k in &candidates.clusters {
        // A single cluster needs no space to form it in.
        pairs.extend(dims.iter().map(|&p| (k, p)).take(if k == 1 { 1 } else { dims.len() }));
    }
    let (base_factor, base) = folds.judge(&folds.lq, 1.0);
    let choices: Vec<Choice> = pairs
        .par_iter()
        .map(|&(clusters, dims)| {
            let labels = match clusters {
                1 => vec![0; lq.ncols()],
                _ => KMeans::fit(&pca.truncated(dims).project(lq), clusters, RESTARTS, candidates.seed).labels,
            };
            let corrected =
                folds.corrected(lq, fp, &labels, clusters, pseudo_counts(candidates.pseudo_counts, clusters));
            let mut factor = base_factor;
            let mut best: Option<(f64, f64, Score)> = None;
            for &alpha in &candidates.alphas {
                let blended = &folds.lq * (1.0 - alpha) + &corrected * alpha;
                let score;
                (factor, score) = folds.judge(&blended, factor);
                if best.as_ref().is_none_or(|b| score.loss < b.2.loss) {
                    best = Some((alpha, factor, score));
                }
            }
            let (alpha, rescale, score) = best.unwrap_or((0.0, base_factor, base.clone()));
            Choice { clusters, dims, alpha, rescale, score, base: base.clone() }
        })
        .collect();
    let none = Choice {
        clusters: 1,
        dims: dims.first().copied().unwrap_or(0),
        alpha: 0.0,
        rescale: base_factor,
        score: base.clone(),
        base,
    };
    let accepted = choices.into_iter().filter(|c| !candidates.or_none || c.improves(candidates.rescale));
    accepted.reduce(|best, c| if c.score.loss < best.score.loss { c } else { best }).unwrap_or(none)
}

impl Choice {
    /// Whether the loss falls significantly, the top-1 class of logits is the float network's no less often, the plain squared error of values
    /// does not rise, and logits that keep their factor are nearer without one.
    fn improves(&self, rescale: bool) -> bool {
        let gains: Vec<f64> = self.base.samples.iter().zip(&self.score.samples).map(|(b, s)| b - s).collect();
        let n = gains.len() as f64;
        let mean = gains.iter().sum::<f64>() / n;
        let variance = gains.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / (n - 1.0).max(1.0);
        // Written so that NaN is no gain.
        self.alpha > 0.0
            && mean > REQUIRED_GAIN.max(REQUIRED_ERRORS * (variance / n).sqrt())
            && self.score.agreement >= self.base.agreement
            && self.score.squares <= self.base.squares
            && (rescale || self.score.plain < self.base.plain)
    }
}

/// Samples split into folds, and those that candidates are judged on.
struct Folds {
    /// Fold of each sample.
    fold: Vec<usize>,
    count: usize,
    /// Samples to judge on, from all folds alike.
    judged: Vec<usize>,
    /// Their logits.
    lq: DMatrix<f64>,
    fp: DMatrix<f64>,
    target: Target,
}

impl Folds {
    fn new(lq: &DMatrix<f64>, fp: &DMatrix<f64>, candidates: &Candidates) -> Folds {
        let n = lq.ncols();
        let count = candidates.folds.clamp(2, n.max(2));
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(candidates.seed));
        let mut fold = vec![0; n];
        order.iter().enumerate().for_each(|(place, &i)| fold[i] = place % count);
        let mut judged = order;
        judged.truncate((MAX_JUDGED_LOGITS / lq.nrows().max(1)).max(100));
        let (lq, fp) = (lq.select_columns(&judged), fp.select_columns(&judged));
        let target = Target::new(&fp, &candidates.judge);
        Folds { fold, count, judged, lq, fp, target }
    }

    /// The judged logits, each mapped by the affine map fitted to the folds it is not in.
    fn corrected(
        &self,
        lq: &DMatrix<f64>,
        fp: &DMatrix<f64>,
        labels: &[usize],
        clusters: usize,
        pseudo_counts: f64,
    ) -> DMatrix<f64> {
        let mut out = self.lq.clone();
        for f in 0..self.count {
            let fit: Vec<usize> = (0..labels.len()).filter(|i| self.fold[*i] != f).collect();
            let fit_labels: Vec<usize> = fit.iter().map(|i| labels[*i]).collect();
            let (fit_lq, fit_fp) = (lq.select_columns(&fit), fp.select_columns(&fit));
            let affine = Affine::fit(&fit_lq, &fit_fp, &fit_labels, clusters, pseudo_counts);
            for (j, &i) in self.judged.iter().enumerate().filter(|(_, i)| self.fold[**i] == f) {
                let k = labels[i];
                for c in 0..out.nrows() {
                    out[(c, j)] = affine.gamma[(c, k)] * self.lq[(c, j)] + affine.beta[(c, k)];
                }
            }
        }
        out
    }

    /// The factor of `outputs` that brings their loss down furthest, found from `start`, and their score there. Values have no factor.
    fn judge(&self, outputs: &DMatrix<f64>, start: f64) -> (f64, Score) {
        let (c, n) = outputs.shape();
        let pairs = self.fp.as_slice().chunks_exact(c).zip(outputs.as_slice().chunks_exact(c));
        let mean = |samples: &[f64]| samples.iter().sum::<f64>() / n as f64;
        match &self.target {
            Target::Classes(target) => {
                let (factor, samples) = target.best_factor(outputs, start);
                let agreeing = pairs.filter(|(fp, z)| same_top1(fp, z)).count();
                let plain = mean(&target.divergences(outputs, 1.0));
                let agreement = Some(agreeing as f64 / n as f64);
                (factor, Score { loss: mean(&samples), plain, agreement, squares: 0.0, samples })
            }
            Target::Values(weights) => {
                let square = |(fp, z): (&[f64], &[f64]), weight: &dyn Fn(usize) -> f64| -> f64 {
                    fp.iter().zip(z).enumerate().map(|(c, (f, z))| weight(c) * (f - z) * (f - z)).sum()
                };
                let samples: Vec<f64> = pairs.clone().map(|p| square(p, &|c| weights[c])).collect();
                let squares = pairs.map(|p| square(p, &|_| 1.0)).sum();
                let loss = mean(&samples);
                (1.0, Score { loss, plain: loss, agreement: None, squares, samples })
            }
        }
    }
}

/// What outputs are compared with, besides the float ones themselves.
enum Target {
    /// The classes of logits.
    Classes(Classes),
    /// The weights of the components of values.
    Values(Vec<f64>),
}

impl Target {
    fn new(fp: &DMatrix<f64>, judge: &Judge) -> Target {
        match judge {
            Judge::Divergence => Target::Classes(Classes::new(fp)),
            Judge::SquaredError { weights } => Target::Values(weights.clone()),
        }
    }
}

/// The distributions that logits are compared with.
struct Classes {
    /// `softmax(fp)`, `C x N`.
    p: DMatrix<f64>,
    /// `sum(p ln p)` of each column.
    negative_entropy: Vec<f64>,
}

impl Classes {
    fn new(fp: &DMatrix<f64>) -> Classes {
        let mut p = fp.clone();
        let mut negative_entropy = Vec::with_capacity(fp.ncols());
        for mut column in p.column_iter_mut() {
            let top = column.max();
            column.apply(|z| *z -= top);
            let log_sum = column.iter().map(|z| z.exp()).sum::<f64>().ln();
            negative_entropy.push(column.iter().map(|z| (z - log_sum).exp() * (z - log_sum)).sum());
            column.apply(|z| *z = (*z - log_sum).exp());
        }
        Classes { p, negative_entropy }
    }

    /// The divergence of each column of logits times `t`.
    fn divergences(&self, logits: &DMatrix<f64>, t: f64) -> Vec<f64> {
        let classes = logits.nrows().max(1);
        let columns = logits.as_slice().chunks_exact(classes).zip(self.p.as_slice().chunks_exact(classes));
        let divergence = |((z, p), negative_entropy): ((&[f64], &[f64]), &f64)| {
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = z.iter().map(|z| ((z - top) * t).exp()).sum();
            let expected: f64 = z.iter().zip(p).map(|(z, p)| p * (z - top)).sum();
            negative_entropy + sum.ln() - t * expected
        };
        columns.zip(&self.negative_entropy).map(divergence).collect()
    }

    /// The `t > 0` that minimises the mean of `KL(p || softmax(t z))` over the columns z, and each column's divergence
    /// there.
    ///
    /// The mean is convex in t, with first derivative `E_q[z] - E_p[z]` and second `Var_q[z]`: Newton's method, its steps
    /// bounded to a factor of two, t to 1/64..64.
    fn best_factor(&self, logits: &DMatrix<f64>, start: f64) -> (f64, Vec<f64>) {
        let classes = logits.nrows();
        let columns: Vec<&[f64]> = logits.as_slice().chunks_exact(classes.max(1)).collect();
        let top: Vec<f64> = columns.iter().map(|z| z.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
        // Sums of p (z - top): what E_p[z] is less the largest logit.
        let expected: Vec<f64> = columns
            .iter()
            .zip(self.p.as_slice().chunks_exact(classes.max(1)))
            .zip(&top)
            .map(|((z, p), top)| z.iter().zip(p).map(|(z, p)| p * (z - top)).sum())
            .collect();
        let mut t = start;
        let mut samples = vec![0.0; columns.len()];
        for _ in 0..MAX_NEWTON_STEPS {
            let (mut first, mut second) = (0.0, 0.0);
            for (i, z) in columns.iter().enumerate() {
                let (mut sum, mut dot, mut square) = (0.0, 0.0, 0.0);
                for z in *z {
                    let z = z - top[i];
                    let e = (z * t).exp();
                    sum += e;
                    dot += e * z;
                    square += e * z * z;
                }
                let mean = dot / sum;
                first += mean - expected[i];
                second += square / sum - mean * mean;
                samples[i] = self.negative_entropy[i] + sum.ln() - t * expected[i];
            }
            let next = (t - first / second.max(1e-300)).clamp(0.5 * t, 2.0 * t).clamp(1.0 / 64.0, 64.0);
            // So near the minimum the divergence differs by the square of this.
            if next.is_nan() || (next - t).abs() <= 3e-3 * t {
                break;
            }
            t = next;
        }
        (t, samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cat::divergence::kl;
    use rand::RngExt;

    fn noise(classes: usize, n: usize, size: f64, seed: u64) -> DMatrix<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        DMatrix::from_fn(classes, n, |_, _| size * rng.random_range(-1.0..1.0))
    }

    fn candidates() -> Candidates {
        Candidates {
            judge: Judge::Divergence,
            rescale: true,
            clusters: vec![1, 4],
            dims: vec![2],
            alphas: ALPHAS.to_vec(),
            or_none: true,
            pseudo_counts: None,
            folds: 5,
            seed: 1,
        }
    }

    #[test]
    fn the_best_factor_undoes_a_temperature() {
        let fp = noise(6, 50, 4.0, 1);
        let target = Classes::new(&fp);
        let (factor, samples) = target.best_factor(&(&fp * 2.5), 1.0);
        assert!((factor - 0.4).abs() < 1e-3 && samples.iter().all(|kl| kl.abs() < 1e-4), "{factor}");
        assert!((target.best_factor(&(&fp * 0.125), 1.0).0 - 8.0).abs() < 0.05);
        // Constant logits have no best factor: the search ends and gives a number.
        assert!(target.best_factor(&DMatrix::from_element(6, 50, 1.0), 1.0).0.is_finite());
        // The divergences are those of the definition.
        let other = noise(6, 50, 3.0, 2);
        let (factor, samples) = target.best_factor(&other, 1.0);
        for (i, found) in samples.iter().enumerate() {
            let scaled: Vec<f64> = other.column(i).iter().map(|z| z * factor).collect();
            assert!((found - kl(fp.column(i).as_slice(), &scaled, 1.0)).abs() < 1e-9);
        }
    }

    #[test]
    fn noise_alone_is_not_corrected() {
        // The float logits differ from the quantized ones by noise that no map can know.
        for seed in 0..8 {
            let lq = noise(10, 200, 4.0, seed);
            let fp = &lq + noise(10, 200, 0.6, seed + 100);
            let choice = choose(&lq, &fp, &Pca::fit(&lq, 5), &candidates());
            assert_eq!(choice.alpha, 0.0, "seed {seed}");
            let forced = Candidates { or_none: false, ..candidates() };
            assert!(choose(&lq, &fp, &Pca::fit(&lq, 5), &forced).alpha > 0.0);
        }
    }

    #[test]
    fn a_planted_map_is_found_and_needs_no_clusters() {
        let lq = noise(8, 300, 3.0, 3);
        let fp = DMatrix::from_fn(8, 300, |c, i| (1.5 - 0.15 * c as f64) * lq[(c, i)] + 0.3 * c as f64);
        let choice = choose(&lq, &fp, &Pca::fit(&lq, 5), &candidates());
        assert_eq!((choice.clusters, choice.alpha), (1, 1.0));
        assert!(choice.score.loss < 1e-6 && choice.base.loss > 0.05, "{} {}", choice.score.loss, choice.base.loss);
        assert!((choice.rescale - 1.0).abs() < 1e-2);
        assert_eq!(choice.score.agreement, Some(1.0));
    }

    #[test]
    fn values_are_corrected_by_their_squared_error_alone() {
        // Offsets and slopes that a map can undo; in the last component noise that none can.
        let lq = noise(3, 400, 50.0, 3);
        let other = noise(3, 400, 50.0, 4);
        let fp = DMatrix::from_fn(3, 400, |c, i| match c {
            2 => other[(c, i)],
            _ => (0.8 + 0.1 * c as f64) * lq[(c, i)] + 200.0,
        });
        let judge = Judge::SquaredError { weights: vec![1e-3; 3] };
        let choice = choose(&lq, &fp, &Pca::fit(&lq, 3), &Candidates { judge: judge.clone(), ..candidates() });
        assert_eq!((choice.alpha, choice.rescale, choice.score.agreement), (1.0, 1.0, None));
        assert!(choice.score.loss < 0.1 * choice.base.loss && choice.score.squares < choice.base.squares);
        // Nothing but noise: no correction.
        for seed in 0..8 {
            let fp = &lq + noise(3, 400, 5.0, seed + 10);
            let choice = choose(&lq, &fp, &Pca::fit(&lq, 3), &Candidates { judge: judge.clone(), ..candidates() });
            assert_eq!(choice.alpha, 0.0, "seed {seed}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let lq = noise(8, 200, 3.0, 3);
        let fp = DMatrix::from_fn(8, 200, |c, i| (0.5 + 0.2 * c as f64) * lq[(c, i)]);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| choose(&lq, &fp, &Pca::fit(&lq, 5), &candidates()))
        };
        let one = run(1);
        assert_eq!(one, run(3));
        assert!(one.alpha > 0.0);
    }
}
