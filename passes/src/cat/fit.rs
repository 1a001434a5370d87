//! The whole fit: from logits of both networks to the tables that correct those of the quantized one (algorithm 1),
//! and their use (algorithm 2).

use crate::cat::affine::{Affine, pseudo_counts};
use crate::cat::kmeans::{KMeans, nearest};
use crate::cat::pca::Pca;
use crate::cat::select::{ALPHAS, Candidates, Choice, Judge, choose};
use nalgebra::{DMatrix, DVector};

/// Samples for each cluster, at least, unless the number of clusters is given.
pub const SAMPLES_PER_CLUSTER: usize = 32;
/// The number of samples at which the weights that are tried are halved. A fit to few samples is less certain, which cross-validation
/// measures. But the best of many candidates also looks better there than it is, which cross-validation does not measure.
const HALVING_SAMPLES: f64 = 256.0;
/// Alpha of [`Selection::Regime`].
const REGIME_ALPHA: f64 = 0.4;
/// How parameters that are not given are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// By cross-validation on the fitting logits, "no correction" included ([`crate::cat::select`]).
    CrossValidated,
    /// From the paper's ablations (figures 3 to 5): activations of up to 3 bits K = 4, p = 5, alpha = 0.4; above
    /// K = 64 or as many as there are samples for, p = 50, alpha = 0.4.
    Regime,
}

/// Options of a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct CatOptions {
    /// What outputs are judged by.
    pub judge: Judge,
    /// Number of clusters K; 1 is the plain affine map of the paper.
    pub clusters: Option<usize>,
    /// Dimensions p of the space that clusters are formed in.
    pub dims: Option<usize>,
    /// Weight of the correction, above 0 and up to 1. If it is given, there is a correction whether it helps or not.
    pub alpha: Option<f64>,
    /// Pseudo-counts that pull small clusters to the plain map ([`Affine::fit`]); 0 gives the paper's maps. The default
    /// is that of [`pseudo_counts`].
    pub pseudo_counts: Option<f64>,
    /// How the others are found.
    pub selection: Selection,
    /// Whether a cross-validated fit multiplies the logits by the common factor with the least divergence ([`Choice::rescale`]). The factor
    /// changes no top-1 class, but every threshold on a probability. It is not used if alpha is given: the formula is then the paper's.
    pub rescale: bool,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Restarts of k-means.
    pub restarts: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Bits of the quantized network's activations, for [`Selection::Regime`].
    pub activation_bits: u8,
}

impl Default for CatOptions {
    fn default() -> Self {
        CatOptions {
            judge: Judge::Divergence,
            clusters: None,
            dims: None,
            alpha: None,
            pseudo_counts: None,
            selection: Selection::CrossValidated,
            rescale: false,
            folds: 5,
            restarts: 8,
            seed: 0,
            activation_bits: 2,
        }
    }
}

/// The correction of the logits z: with k the nearest centroid to `basisᵀ (z - mean)`,
/// `(1 - alpha) z + alpha (gamma_k ⊙ z + beta_k)`.
#[derive(Clone, Debug, PartialEq)]
pub struct CatModel {
    /// Mean of the quantized logits, `C`.
    pub mean: DVector<f64>,
    /// Principal directions, `C x p`; p is 0 for a single cluster.
    pub basis: DMatrix<f64>,
    /// Centroids, `p x K`.
    pub centroids: DMatrix<f64>,
    /// Slopes and offsets, `C x K`.
    pub affine: Affine,
    /// Weight of the correction.
    pub alpha: f64,
}

impl CatModel {
    /// Number of clusters.
    pub fn clusters(&self) -> usize {
        self.affine.gamma.ncols()
    }

    /// Dimensions of the space that clusters are formed in.
    pub fn dims(&self) -> usize {
        self.basis.ncols()
    }

    /// The cluster of each sample of `lq` (`C x N`).
    pub fn assign(&self, lq: &DMatrix<f64>) -> Vec<usize> {
        if self.clusters() == 1 {
            return vec![0; lq.ncols()];
        }
        let mut projected = self.basis.transpose() * lq;
        let shift = self.basis.transpose() * &self.mean;
        for mut column in projected.column_iter_mut() {
            column -= &shift;
        }
        nearest(&projected, &self.centroids)
    }

    /// The corrected logits of `lq` (`C x N`).
    pub fn apply(&self, lq: &DMatrix<f64>) -> DMatrix<f64> {
        lq * (1.0 - self.alpha) + self.affine.apply(lq, &self.assign(lq)) * self.alpha
    }
}

/// What a fit found.
#[derive(Clone, Debug, PartialEq)]
pub struct FitReport {
    /// Samples it had.
    pub samples: usize,
    /// Samples of the smallest and the largest cluster.
    pub cluster_sizes: (usize, usize),
    /// What a cross-validated fit reaches on samples it was not fitted to.
    pub held_out: Option<HeldOut>,
}

/// What a correction reaches on samples that it was not fitted to, before and after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeldOut {
    /// The mean divergence from the float logits in nats, or the weighted squared error.
    pub loss: (f64, f64),
    /// The part of the samples with the float network's top-1 class; of logits alone.
    pub agreement: Option<(f64, f64)>,
}

/// The outcome of a fit.
#[derive(Clone, Debug, PartialEq)]
pub enum CatFit {
    /// A correction.
    Model(Box<CatModel>, FitReport),
    /// None, and why (a sentence fragment).
    Skipped(String),
}

/// Fits the correction to logits of the quantized and the float network on the same samples, `C x N` each.
///
/// Skipped with a reason if there are too few samples, if values are not finite, if all logits are equal, or if no
/// correction lowers the divergence on samples it was not fitted to.
pub fn fit(lq: &DMatrix<f64>, fp: &DMatrix<f64>, options: &CatOptions) -> CatFit {
    match try_fit(lq, fp, options) {
        Ok((model, report)) => CatFit::Model(Box::new(model), report),
        Err(reason) => CatFit::Skipped(reason),
    }
}

fn try_fit(lq: &DMatrix<f64>, fp: &DMatrix<f64>, options: &CatOptions) -> Result<(CatModel, FitReport), String> {
    let (classes, samples) = lq.shape();
    if lq.shape() != fp.shape() {
        return Err(format!("quantized logits {:?} and float logits {:?} differ in shape", lq.shape(), fp.shape()));
    }
    if !lq.iter().chain(fp.iter()).all(|z| z.is_finite()) {
        return Err("some logits are not finite".into());
    }
    if options.alpha.is_some_and(|a| a <= 0.0) {
        return Err("alpha is 0".into());
    }
    let needed = match options.clusters {
        Some(k) => k.max(2),
        None => 2 * SAMPLES_PER_CLUSTER,
    };
    let least = if options.judge == Judge::Divergence { 2 } else { 1 };
    if classes < least || samples < needed {
        return Err(format!(
            "{samples} samples of {classes} outputs are too few: at least {needed} samples of {least} outputs are needed"
        ));
    }
    let most = classes.min(samples - 1);
    let clusters = cluster_candidates(options, samples)?;
    let dims: Vec<usize> = dims_candidates(options).into_iter().map(|p| p.min(most)).collect();
    let widest = if clusters == [1] { 1 } else { dims.iter().copied().max().unwrap_or(1) };
    let pca = Pca::fit(lq, widest);
    if pca.dims() == 0 {
        return Err("the quantized network gives the same logits for every sample".into());
    }
    let (choice, held_out) = match options.selection {
        Selection::CrossValidated => cross_validate(lq, fp, &pca, options, clusters, dims)?,
        Selection::Regime => {
            let alpha = options.alpha.unwrap_or(REGIME_ALPHA);
            (Chosen { dims: dims[0].min(pca.dims()), alpha, rescale: 1.0, clusters: clusters[0] }, None)
        }
    };
    Ok(assemble(lq, fp, &pca, options, choice, held_out))
}

fn cluster_candidates(options: &CatOptions, samples: usize) -> Result<Vec<usize>, String> {
    let most = samples / SAMPLES_PER_CLUSTER;
    match (options.clusters, options.selection) {
        (Some(k), _) => Ok(vec![k.max(1)]),
        (None, Selection::CrossValidated) => Ok([1, 2, 4, 8, 16, 32, 64].into_iter().filter(|k| *k <= most).collect()),
        (None, Selection::Regime) if options.activation_bits <= 3 && most < 4 => {
            Err(format!("{samples} samples are too few for 4 clusters of {SAMPLES_PER_CLUSTER}"))
        }
        (None, Selection::Regime) => Ok(vec![if options.activation_bits <= 3 { 4 } else { most.min(64) }]),
    }
}

fn dims_candidates(options: &CatOptions) -> Vec<usize> {
    match (options.dims, options.selection) {
        (Some(p), _) => vec![p.max(1)],
        (None, Selection::CrossValidated) => vec![5, 20, 50],
        (None, Selection::Regime) => vec![if options.activation_bits <= 3 { 5 } else { 50 }],
    }
}

/// The weights that are tried for this many samples: [`ALPHAS`] times `n / (n + 256)`, to two digits.
fn weights(samples: usize) -> Vec<f64> {
    let n = samples as f64;
    ALPHAS.iter().map(|a| (100.0 * a * n / (n + HALVING_SAMPLES)).round() / 100.0).collect()
}

/// What is left to do once the parameters are known.
struct Chosen {
    dims: usize,
    alpha: f64,
    rescale: f64,
    clusters: usize,
}

fn cross_validate(
    lq: &DMatrix<f64>,
    fp: &DMatrix<f64>,
    pca: &Pca,
    options: &CatOptions,
    clusters: Vec<usize>,
    dims: Vec<usize>,
) -> Result<(Chosen, Option<HeldOut>), String> {
    let rescales = options.rescale && options.alpha.is_none() && options.judge == Judge::Divergence;
    let candidates = Candidates {
        judge: options.judge.clone(),
        rescale: rescales,
        clusters,
        dims,
        alphas: options.alpha.map_or(weights(lq.ncols()), |a| vec![a]),
        or_none: options.alpha.is_none(),
        pseudo_counts: options.pseudo_counts,
        folds: options.folds,
        seed: options.seed,
    };
    let Choice { clusters, dims, alpha, rescale, score, base } = choose(lq, fp, pca, &candidates);
    if alpha == 0.0 {
        let what = match options.judge {
            Judge::Divergence => "divergence from the float logits",
            Judge::SquaredError { .. } => "squared error of the outputs",
        };
        let without = base.plain;
        return Err(format!(
            "no correction lowers the {what} significantly on samples that it was not fitted to ({without:.4} without one)"
        ));
    }
    let rescale = if rescales { rescale } else { 1.0 };
    let reached = if rescales { score.loss } else { score.plain };
    let held_out = Some(HeldOut { loss: (base.plain, reached), agreement: base.agreement.zip(score.agreement) });
    Ok((Chosen { dims, alpha, rescale, clusters }, held_out))
}

fn assemble(
    lq: &DMatrix<f64>,
    fp: &DMatrix<f64>,
    pca: &Pca,
    options: &CatOptions,
    chosen: Chosen,
    held_out: Option<HeldOut>,
) -> (CatModel, FitReport) {
    let Chosen { dims, alpha, rescale, clusters } = chosen;
    let samples = lq.ncols();
    let pca = pca.truncated(if clusters == 1 { 0 } else { dims });
    let (centroids, labels, sizes) = match clusters {
        1 => (DMatrix::zeros(0, 1), vec![0; samples], vec![samples]),
        _ => {
            let found = KMeans::fit(&pca.project(lq), clusters, options.restarts, options.seed);
            (found.centroids, found.labels, found.sizes)
        }
    };
    let mut affine = Affine::fit(lq, fp, &labels, clusters, pseudo_counts(options.pseudo_counts, clusters));
    if rescale != 1.0 {
        // (1 - alpha) z + alpha (g z + b) times t is the same formula with other g and b.
        affine.gamma.apply(|g| *g = (rescale * (1.0 - alpha + alpha * *g) - (1.0 - alpha)) / alpha);
        affine.beta *= rescale;
    }
    let extreme = |f: fn(usize, usize) -> usize| sizes.iter().copied().reduce(f).unwrap_or(0);
    let report = FitReport { samples, cluster_sizes: (extreme(usize::min), extreme(usize::max)), held_out };
    (CatModel { mean: pca.mean, basis: pca.basis, centroids, affine, alpha }, report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cat::divergence::{kl, same_top1};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Float logits in groups around centres, and quantized ones: squashed towards 0 by a factor and shifted by an
    /// offset that depend on the group, with noise.
    fn grouped(classes: usize, n: usize, seed: u64) -> (DMatrix<f64>, DMatrix<f64>) {
        let mut planted = ChaCha8Rng::seed_from_u64(1);
        let centre =
            DMatrix::from_fn(classes, 4, |c, g| if c % 4 == g { 5.0 } else { planted.random_range(-1.0..1.0) });
        let offset = DMatrix::from_fn(classes, 4, |_, _| planted.random_range(-1.5..1.5));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fp = DMatrix::from_fn(classes, n, |c, i| centre[(c, i % 4)] + rng.random_range(-2.0..2.0));
        let lq = DMatrix::from_fn(classes, n, |c, i| {
            (0.5 + 0.1 * (i % 4) as f64) * fp[(c, i)] + offset[(c, i % 4)] + rng.random_range(-0.5..0.5)
        });
        (lq, fp)
    }

    fn quality(fp: &DMatrix<f64>, z: &DMatrix<f64>) -> (f64, f64) {
        let n = fp.ncols();
        let pairs: Vec<_> = fp.as_slice().chunks(fp.nrows()).zip(z.as_slice().chunks(fp.nrows())).collect();
        let mean_kl = pairs.iter().map(|(f, z)| kl(f, z, 1.0)).sum::<f64>() / n as f64;
        (mean_kl, pairs.iter().filter(|(f, z)| same_top1(f, z)).count() as f64 / n as f64)
    }

    fn model(fit: CatFit) -> (CatModel, FitReport) {
        match fit {
            CatFit::Model(m, r) => (*m, r),
            CatFit::Skipped(reason) => panic!("skipped: {reason}"),
        }
    }

    #[test]
    fn cross_validation_improves_unseen_logits() {
        let (lq, fp) = grouped(12, 512, 2);
        let (found, report) = model(fit(&lq, &fp, &CatOptions::default()));
        let (lq, fp) = grouped(12, 2000, 3);
        let (before, after) = (quality(&fp, &lq), quality(&fp, &found.apply(&lq)));
        assert!(after.0 < 0.3 * before.0 && after.1 > before.1 + 0.1, "{before:?} {after:?}");
        assert!(found.clusters() >= 4, "{}", found.clusters());
        let HeldOut { loss, agreement } = report.held_out.unwrap();
        assert!((loss.1 - after.0).abs() < 0.05, "{report:?} {after:?}");
        assert!((agreement.unwrap().1 - after.1).abs() < 0.05, "{report:?} {after:?}");
    }

    #[test]
    fn rescaling_lowers_the_divergence_and_moves_no_class() {
        let noisy = |n, seed| {
            let (lq, fp) = grouped(12, n, seed);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (lq.map(|z| z + rng.random_range(-4.0..4.0)), fp)
        };
        let (lq, fp) = noisy(512, 2);
        let (with, _) = model(fit(&lq, &fp, &CatOptions { rescale: true, ..CatOptions::default() }));
        let (without, _) = model(fit(&lq, &fp, &CatOptions::default()));
        let (unseen, fp) = noisy(1000, 5);
        let (with, without) = (quality(&fp, &with.apply(&unseen)), quality(&fp, &without.apply(&unseen)));
        assert_eq!(with.1, without.1);
        assert!(with.0 < 0.98 * without.0, "{with:?} {without:?}");
    }

    #[test]
    fn one_cluster_with_alpha_one_is_the_papers_plain_map() {
        let (lq, fp) = grouped(6, 200, 2);
        let options = CatOptions { clusters: Some(1), alpha: Some(1.0), ..CatOptions::default() };
        for selection in [Selection::CrossValidated, Selection::Regime] {
            let (found, report) = model(fit(&lq, &fp, &CatOptions { selection, ..options.clone() }));
            assert_eq!(found.affine, Affine::fit(&lq, &fp, &vec![0; 200], 1, 0.0));
            assert_eq!((found.dims(), report.cluster_sizes), (0, (200, 200)));
        }
    }

    #[test]
    fn the_regimes_are_those_of_the_ablations() {
        let (lq, fp) = grouped(80, 640, 2);
        let regime =
            |activation_bits| CatOptions { selection: Selection::Regime, activation_bits, ..CatOptions::default() };
        let (low, report) = model(fit(&lq, &fp, &regime(2)));
        assert_eq!((low.clusters(), low.dims(), low.alpha, report.held_out), (4, 5, 0.4, None));
        let (high, _) = model(fit(&lq, &fp, &regime(4)));
        assert_eq!((high.clusters(), high.dims(), high.alpha), (20, 50, 0.4));
        let given = CatOptions { clusters: Some(7), dims: Some(3), alpha: Some(0.25), ..regime(2) };
        let (given, _) = model(fit(&lq, &fp, &given));
        assert_eq!((given.clusters(), given.dims(), given.alpha), (7, 3, 0.25));
    }

    #[test]
    fn what_cannot_be_fitted_says_why() {
        let (lq, fp) = grouped(6, 200, 2);
        let skipped = |lq: &DMatrix<f64>, fp: &DMatrix<f64>, options: CatOptions| match fit(lq, fp, &options) {
            CatFit::Skipped(reason) => reason,
            CatFit::Model(..) => panic!("fitted"),
        };
        let cv = CatOptions::default;
        let few = skipped(&lq.columns(0, 40).into_owned(), &fp.columns(0, 40).into_owned(), cv());
        assert_eq!(few, "40 samples of 6 outputs are too few: at least 64 samples of 2 outputs are needed");
        assert!(skipped(&lq, &lq, cv()).starts_with("no correction lowers"));
        assert!(skipped(&lq, &fp, CatOptions { alpha: Some(0.0), ..cv() }).starts_with("alpha is 0"));
        let mut broken = lq.clone();
        broken[(1, 7)] = f64::NAN;
        assert_eq!(skipped(&broken, &fp, cv()), "some logits are not finite");
        let constant = DMatrix::from_element(6, 200, 1.0);
        assert!(skipped(&constant, &fp, cv()).contains("the same logits for every sample"));
        assert!(skipped(&lq, &fp.columns(0, 9).into_owned(), cv()).contains("differ in shape"));
        let regime = CatOptions { selection: Selection::Regime, ..cv() };
        let few = skipped(&lq.columns(0, 100).into_owned(), &fp.columns(0, 100).into_owned(), regime);
        assert_eq!(few, "100 samples are too few for 4 clusters of 32");
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let (lq, fp) = grouped(20, 300, 2);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(&lq, &fp, &CatOptions { seed: 9, ..CatOptions::default() }))
        };
        assert_eq!(run(1), run(4));
    }
}
