//! Principal components of logits: the space in which CAT forms its clusters (algorithm 1, line 1).

use nalgebra::{DMatrix, DVector};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Up to this many dimensions all eigenvectors are computed; above, only the leading ones, by subspace iteration.
const FULL_DECOMPOSITION: usize = 192;
/// Eigenvalues below this part of the largest are noise of the arithmetic, and their directions are left out.
const RANK_TOLERANCE: f64 = 1e-10;
/// Subspace iteration ends when the residuals fall below this part of the largest eigenvalue.
const RESIDUAL_TOLERANCE: f64 = 1e-7;
/// And after this many steps at the latest: what is not separated by then has nearly equal variance, and any rotation
/// of it serves clustering as well.
const MAX_STEPS: usize = 60;

/// Mean and leading principal directions of a set of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// Mean of the samples, `C`.
    pub mean: DVector<f64>,
    /// Orthonormal directions of falling variance, `C x p`. In each, the component of largest magnitude (the first of
    /// equal ones) is positive.
    pub basis: DMatrix<f64>,
    /// Variance along each direction (divided by N), `p`.
    pub variance: Vec<f64>,
}

impl Pca {
    /// The leading `dims` components of `samples` (`C x N`): fewer if there are not as many directions in which the
    /// samples differ, none if they are all equal.
    pub fn fit(samples: &DMatrix<f64>, dims: usize) -> Pca {
        let (c, n) = samples.shape();
        let mean = mean_column(samples);
        let mut centred = samples.clone();
        for mut column in centred.column_iter_mut() {
            column -= &mean;
        }
        let dims = dims.min(c).min(n.saturating_sub(1));
        if dims == 0 {
            return Pca { mean, basis: DMatrix::zeros(c, 0), variance: vec![] };
        }
        let transposed = centred.transpose();
        let scale = 1.0 / n as f64;
        let (values, vectors) = if c <= FULL_DECOMPOSITION {
            sorted_eigen(&centred * &transposed * scale)
        } else if c <= 2 * n {
            let covariance = &centred * &transposed * scale;
            subspace_iteration(c, dims, |v| &covariance * v)
        } else {
            // With fewer samples than half the classes, the covariance would cost more than its factors.
            subspace_iteration(c, dims, |v| &centred * (&transposed * v) * scale)
        };
        let floor = values.first().map_or(0.0, |v| v.max(0.0) * RANK_TOLERANCE);
        let kept = values.iter().take(dims).take_while(|v| **v > floor).count();
        let mut basis = vectors.columns(0, kept).into_owned();
        for mut column in basis.column_iter_mut() {
            let largest = column.iter().fold(0.0f64, |best, x| if x.abs() > best.abs() { *x } else { best });
            if largest < 0.0 {
                column.neg_mut();
            }
        }
        Pca { mean, basis, variance: values[..kept].to_vec() }
    }

    /// Number of directions, `p`.
    pub fn dims(&self) -> usize {
        self.basis.ncols()
    }

    /// The same with its first `dims` directions alone.
    pub fn truncated(&self, dims: usize) -> Pca {
        let dims = dims.min(self.dims());
        Pca {
            mean: self.mean.clone(),
            basis: self.basis.columns(0, dims).into_owned(),
            variance: self.variance[..dims].to_vec(),
        }
    }

    /// Coordinates of `samples` (`C x N`) along the directions, `p x N`.
    pub fn project(&self, samples: &DMatrix<f64>) -> DMatrix<f64> {
        let directions = self.basis.transpose();
        let shift = &directions * &self.mean;
        let mut projected = &directions * samples;
        for mut column in projected.column_iter_mut() {
            column -= &shift;
        }
        projected
    }
}

/// Mean of the columns, summed in order.
fn mean_column(samples: &DMatrix<f64>) -> DVector<f64> {
    let mut sum = DVector::zeros(samples.nrows());
    for column in samples.column_iter() {
        sum += column;
    }
    sum / samples.ncols().max(1) as f64
}

/// Eigenvalues in falling order with their vectors as columns.
fn sorted_eigen(symmetric: DMatrix<f64>) -> (Vec<f64>, DMatrix<f64>) {
    let eigen = symmetric.symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    (order.iter().map(|&i| eigen.eigenvalues[i]).collect(), eigen.eigenvectors.select_columns(&order))
}

/// The leading eigenpairs of the symmetric positive semi-definite `c x c` operator `apply`, at least `dims` of them.
///
/// Subspace iteration with a Rayleigh-Ritz step in each round, on a block half as large again as what is asked for:
/// convergence goes with the ratio of the first eigenvalue left out of the block to the last one wanted.
fn subspace_iteration(
    c: usize,
    dims: usize,
    apply: impl Fn(&DMatrix<f64>) -> DMatrix<f64>,
) -> (Vec<f64>, DMatrix<f64>) {
    let block = (dims + 10.max(dims / 2)).min(c);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let start = DMatrix::from_fn(c, block, |_, _| rng.random_range(-1.0..1.0));
    let mut basis: DMatrix<f64> = start.qr().q();
    let mut step = 0;
    loop {
        let image = apply(&basis);
        let (values, rotation) = sorted_eigen(symmetrized(basis.transpose() * &image));
        let vectors = &basis * &rotation;
        let image = image * rotation;
        let residual = (0..dims).map(|i| (image.column(i) - vectors.column(i) * values[i]).norm()).fold(0.0, f64::max);
        step += 1;
        if residual <= RESIDUAL_TOLERANCE * values[0].max(0.0) || step == MAX_STEPS {
            return (values, vectors);
        }
        basis = image.qr().q();
    }
}

/// `(a + aᵀ) / 2`, which rounding has made slightly unsymmetric.
fn symmetrized(a: DMatrix<f64>) -> DMatrix<f64> {
    (&a + a.transpose()) * 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, cols: usize, seed: u64) -> DMatrix<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        DMatrix::from_fn(rows, cols, |_, _| rng.random_range(-1.0..1.0))
    }

    /// Samples around a mean, spread along known orthonormal directions with known deviations.
    fn planted(c: usize, n: usize, deviations: &[f64]) -> (DMatrix<f64>, DMatrix<f64>) {
        let p = deviations.len();
        let directions = noise(c, p, 1).qr().q();
        let mut scores = noise(n, p, 2);
        for mut column in scores.column_iter_mut() {
            let mean = column.mean();
            column.add_scalar_mut(-mean);
        }
        let mut scores = scores.qr().q() * (n as f64).sqrt();
        for (mut column, deviation) in scores.column_iter_mut().zip(deviations) {
            column *= *deviation;
        }
        let mut samples = &directions * scores.transpose();
        samples.add_scalar_mut(3.0);
        (samples, directions)
    }

    #[test]
    fn two_points_give_their_difference() {
        let samples = DMatrix::from_column_slice(2, 2, &[1.0, 2.0, 4.0, -2.0]);
        let pca = Pca::fit(&samples, 2);
        assert_eq!(pca.dims(), 1, "two points differ in one direction");
        assert_eq!(pca.mean.as_slice(), [2.5, 0.0]);
        assert!((pca.variance[0] - 6.25).abs() < 1e-12);
        assert!((pca.basis[(0, 0)] - -0.6).abs() < 1e-12 && (pca.basis[(1, 0)] - 0.8).abs() < 1e-12);
        let scores = pca.project(&samples);
        assert!((scores[(0, 0)] - 2.5).abs() < 1e-12 && (scores[(0, 1)] + 2.5).abs() < 1e-12);
    }

    #[test]
    fn finds_planted_directions_by_each_way() {
        // Few classes: all eigenvectors; many: covariance; many and few samples: its factors.
        for (c, n) in [(40, 100), (300, 400), (600, 90)] {
            let deviations = [5.0, 3.0, 2.0, 1.0, 0.5, 0.25];
            let (samples, directions) = planted(c, n, &deviations);
            let pca = Pca::fit(&samples, 4);
            assert_eq!(pca.dims(), 4);
            for (i, deviation) in deviations.iter().take(4).enumerate() {
                assert!((pca.variance[i] - deviation * deviation).abs() < 1e-6, "{c} x {n}: {:?}", pca.variance);
                let cosine = pca.basis.column(i).dot(&directions.column(i));
                assert!(cosine.abs() > 1.0 - 1e-6, "{c} x {n}, direction {i}: {cosine}");
                let largest = pca.basis.column(i).iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
                assert!(largest > Some(0.0), "the sign convention");
            }
            let gram = pca.basis.transpose() * &pca.basis;
            assert!((gram - DMatrix::identity(4, 4)).norm() < 1e-9);
        }
    }

    #[test]
    fn leaves_out_directions_without_variance() {
        let (samples, _) = planted(300, 400, &[2.0, 1.0]);
        assert_eq!(Pca::fit(&samples, 10).dims(), 2);
        assert_eq!(Pca::fit(&DMatrix::from_element(5, 7, 3.0), 3).dims(), 0);
        assert_eq!(Pca::fit(&DMatrix::from_element(5, 1, 3.0), 3).dims(), 0);
    }

    #[test]
    fn a_truncation_is_the_smaller_fit() {
        let (samples, _) = planted(30, 50, &[4.0, 2.0, 1.0]);
        let (large, small) = (Pca::fit(&samples, 3).truncated(2), Pca::fit(&samples, 2));
        assert!((large.basis - small.basis).norm() < 1e-12);
        assert_eq!(large.variance.len(), 2);
    }
}
