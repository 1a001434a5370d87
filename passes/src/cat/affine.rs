//! The affine map of each cluster (CAT, equations 4 to 8; algorithm 1, lines 3 to 14).

use nalgebra::DMatrix;

/// Lower bound of the variance that the slope is divided by (algorithm 1, line 11).
pub const VARIANCE_FLOOR: f64 = 1e-8;

/// For each cluster and class a slope and an offset: `z_fp ≈ gamma ⊙ z_lq + beta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// Slopes, `C x K`.
    pub gamma: DMatrix<f64>,
    /// Offsets, `C x K`.
    pub beta: DMatrix<f64>,
}

impl Affine {
    /// The maps of `clusters` clusters from quantized and float logits (`C x N` each) and the cluster of each sample:
    ///
    /// `gamma = cov(z_lq, z_fp) / max(var(z_lq), 1e-8)`, `beta = mean(z_fp) - gamma mean(z_lq)`, element-wise over the
    /// samples of the cluster. An empty cluster has `gamma = 1`, `beta = 0`.
    ///
    /// `pseudo_counts` pulls a cluster of n samples towards that identity as as many samples on it would:
    /// `gamma' = (n gamma + s) / (n + s)`, `beta' = n beta / (n + s)`. 0 gives the paper's map.
    pub fn fit(lq: &DMatrix<f64>, fp: &DMatrix<f64>, labels: &[usize], clusters: usize, pseudo_counts: f64) -> Affine {
        let classes = lq.nrows();
        let mut counts = vec![0usize; clusters];
        let mut mean_lq = DMatrix::<f64>::zeros(classes, clusters);
        let mut mean_fp = DMatrix::<f64>::zeros(classes, clusters);
        for (i, &k) in labels.iter().enumerate() {
            counts[k] += 1;
            let mut mean = mean_lq.column_mut(k);
            mean += lq.column(i);
            let mut mean = mean_fp.column_mut(k);
            mean += fp.column(i);
        }
        for (k, &n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            mean_lq.column_mut(k).unscale_mut(n as f64);
            mean_fp.column_mut(k).unscale_mut(n as f64);
        }
        let mut variance = DMatrix::<f64>::zeros(classes, clusters);
        let mut covariance = DMatrix::<f64>::zeros(classes, clusters);
        for (i, &k) in labels.iter().enumerate() {
            for c in 0..classes {
                let d = lq[(c, i)] - mean_lq[(c, k)];
                variance[(c, k)] += d * d;
                covariance[(c, k)] += d * (fp[(c, i)] - mean_fp[(c, k)]);
            }
        }
        let mut affine =
            Affine { gamma: DMatrix::from_element(classes, clusters, 1.0), beta: DMatrix::zeros(classes, clusters) };
        for (k, &n) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            let n = n as f64;
            let weight = n / (n + pseudo_counts);
            for c in 0..classes {
                let gamma = covariance[(c, k)] / n / (variance[(c, k)] / n).max(VARIANCE_FLOOR);
                let beta = mean_fp[(c, k)] - gamma * mean_lq[(c, k)];
                affine.gamma[(c, k)] = weight * gamma + (1.0 - weight);
                affine.beta[(c, k)] = weight * beta;
            }
        }
        affine
    }

    /// `gamma_k ⊙ z + beta_k` for each sample of `lq` (`C x N`) with its cluster k.
    pub fn apply(&self, lq: &DMatrix<f64>, labels: &[usize]) -> DMatrix<f64> {
        DMatrix::from_fn(lq.nrows(), lq.ncols(), |c, i| {
            self.gamma[(c, labels[i])] * lq[(c, i)] + self.beta[(c, labels[i])]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn recovers_planted_maps() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (classes, n, clusters) = (3, 60, 2);
        let labels: Vec<usize> = (0..n).map(|i| i % clusters).collect();
        let lq = DMatrix::from_fn(classes, n, |_, _| rng.random_range(-2.0..2.0));
        let planted = Affine {
            gamma: DMatrix::from_fn(classes, clusters, |c, k| 0.5 + c as f64 - k as f64),
            beta: DMatrix::from_fn(classes, clusters, |c, k| c as f64 * 0.3 - k as f64),
        };
        let fp = planted.apply(&lq, &labels);
        let found = Affine::fit(&lq, &fp, &labels, clusters, 0.0);
        assert!((&found.gamma - &planted.gamma).abs().max() < 1e-12);
        assert!((&found.beta - &planted.beta).abs().max() < 1e-12);
        let pulled = Affine::fit(&lq, &fp, &labels, clusters, 30.0);
        // 30 samples a cluster against 30 pseudo-counts: half way to the identity.
        assert!((pulled.gamma - planted.gamma.map(|g| 0.5 * g + 0.5)).abs().max() < 1e-12);
        assert!((pulled.beta - planted.beta * 0.5).abs().max() < 1e-12);
    }

    #[test]
    fn equation_eight_by_hand() {
        // lq = 0, 2, 4: mean 2, variance 8/3; fp = 1, 1, 4: mean 2, covariance (2 + 0 + 4)/3.
        let lq = DMatrix::from_row_slice(1, 3, &[0.0, 2.0, 4.0]);
        let fp = DMatrix::from_row_slice(1, 3, &[1.0, 1.0, 4.0]);
        let found = Affine::fit(&lq, &fp, &[0, 0, 0], 1, 0.0);
        assert!((found.gamma[0] - 0.75).abs() < 1e-15 && (found.beta[0] - 0.5).abs() < 1e-15);
    }

    #[test]
    fn empty_clusters_and_constant_classes() {
        let lq = DMatrix::from_row_slice(1, 2, &[3.0, 3.0]);
        let fp = DMatrix::from_row_slice(1, 2, &[1.0, 2.0]);
        let found = Affine::fit(&lq, &fp, &[1, 1], 2, 0.0);
        assert_eq!((found.gamma[0], found.beta[0]), (1.0, 0.0), "empty");
        assert_eq!((found.gamma[1], found.beta[1]), (0.0, 1.5), "no variance: the mean");
    }
}
