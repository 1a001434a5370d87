//! k-means by Lloyd's iteration from k-means++ starts (Arthur and Vassilvitskii 2007), greedy as in their section 5:
//! of several candidates for a centroid the one that lowers the inertia most is taken.
//!
//! Each restart has a ChaCha stream of its own and sums in sample order, so the result is the same for any number of
//! threads.

use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Lloyd's iteration ends when no more than one sample in a thousand changes its cluster, and after this many rounds at
/// the latest.
const MAX_ROUNDS: usize = 100;

/// Clusters of a set of points.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// Centroids, `p x K`.
    pub centroids: DMatrix<f64>,
    /// For each point the cluster of its nearest centroid (the lowest index among equals), `N`.
    pub labels: Vec<usize>,
    /// Number of points in each cluster, `K`. A cluster is empty only if there are fewer distinct points than clusters.
    pub sizes: Vec<usize>,
    /// Sum of squared distances of the points to their centroids.
    pub inertia: f64,
}

impl KMeans {
    /// The best of `restarts` runs (at least one), by inertia; the first of equal ones.
    ///
    /// `points` is `p x N` with N at least 1; `clusters` at least 1.
    pub fn fit(points: &DMatrix<f64>, clusters: usize, restarts: usize, seed: u64) -> KMeans {
        let runs: Vec<KMeans> = (0..restarts.max(1))
            .into_par_iter()
            .map(|restart| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(restart as u64);
                lloyd(points, plus_plus(points, clusters, &mut rng))
            })
            .collect();
        runs.into_iter().reduce(|best, run| if run.inertia < best.inertia { run } else { best }).expect("one run")
    }
}

/// For each point (`p x N`) the index of its nearest centroid (`p x K`), the lowest among equals.
pub fn nearest(points: &DMatrix<f64>, centroids: &DMatrix<f64>) -> Vec<usize> {
    // |x|² is common to all centroids of a point, so |c|²/2 - c·x decides.
    let half_norms: Vec<f64> = centroids.column_iter().map(|c| 0.5 * c.norm_squared()).collect();
    let products = centroids.transpose() * points;
    products
        .column_iter()
        .map(|column| {
            let mut best = (f64::INFINITY, 0);
            for (k, (half_norm, product)) in half_norms.iter().zip(column.iter()).enumerate() {
                if half_norm - product < best.0 {
                    best = (half_norm - product, k);
                }
            }
            best.1
        })
        .collect()
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The memory of one column.
fn column(m: &DMatrix<f64>, i: usize) -> &[f64] {
    &m.as_slice()[i * m.nrows()..(i + 1) * m.nrows()]
}

/// Starting centroids: each drawn with probability proportional to the squared distance to the nearest one so far.
fn plus_plus(points: &DMatrix<f64>, clusters: usize, rng: &mut ChaCha8Rng) -> DMatrix<f64> {
    let n = points.ncols();
    let candidates = 2 + (clusters as f64).ln() as usize;
    let mut chosen = vec![rng.random_range(0..n)];
    let mut distance: Vec<f64> =
        (0..n).map(|i| squared_distance(column(points, i), column(points, chosen[0]))).collect();
    while chosen.len() < clusters {
        let total: f64 = distance.iter().sum();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for _ in 0..candidates {
            let pick = draw(&distance, total * rng.random::<f64>());
            let closer: Vec<f64> = distance
                .iter()
                .enumerate()
                .map(|(i, d)| d.min(squared_distance(column(points, i), column(points, pick))))
                .collect();
            let inertia = closer.iter().sum();
            if best.as_ref().is_none_or(|b| inertia < b.0) {
                best = Some((inertia, pick, closer));
            }
        }
        if let Some((_, pick, closer)) = best {
            chosen.push(pick);
            distance = closer;
        }
    }
    points.select_columns(&chosen)
}

/// The first index whose running sum of weights exceeds `target`.
fn draw(weights: &[f64], target: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (i, w) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        sum += w;
        last = i;
        if sum > target {
            break;
        }
    }
    last
}

fn lloyd(points: &DMatrix<f64>, mut centroids: DMatrix<f64>) -> KMeans {
    let clusters = centroids.ncols();
    let mut labels = nearest(points, &centroids);
    for _ in 0..MAX_ROUNDS {
        move_centroids(points, &labels, &mut centroids);
        let next = nearest(points, &centroids);
        let settled = next.iter().zip(&labels).filter(|(a, b)| a != b).count() <= labels.len() / 1000;
        labels = next;
        if settled {
            break;
        }
    }
    let inertia =
        labels.iter().enumerate().map(|(i, &k)| squared_distance(column(points, i), column(&centroids, k))).sum();
    let mut sizes = vec![0; clusters];
    labels.iter().for_each(|&k| sizes[k] += 1);
    KMeans { centroids, labels, sizes, inertia }
}

/// Puts each centroid at the mean of its cluster; that of an empty cluster at the point farthest from its own centroid.
fn move_centroids(points: &DMatrix<f64>, labels: &[usize], centroids: &mut DMatrix<f64>) {
    let mut sizes = vec![0usize; centroids.ncols()];
    let mut sums = DMatrix::zeros(centroids.nrows(), centroids.ncols());
    for (i, &k) in labels.iter().enumerate() {
        sizes[k] += 1;
        sums.column_mut(k).iter_mut().zip(column(points, i)).for_each(|(s, x)| *s += x);
    }
    for (k, &size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0) {
        centroids.set_column(k, &(sums.column(k) / size as f64));
    }
    if sizes.contains(&0) {
        let mut distance: Vec<f64> = labels
            .iter()
            .enumerate()
            .map(|(i, &k)| squared_distance(column(points, i), column(centroids, k)))
            .collect();
        for k in (0..sizes.len()).filter(|k| sizes[*k] == 0) {
            let farthest = (0..distance.len()).reduce(|a, b| if distance[b] > distance[a] { b } else { a });
            if let Some(i) = farthest.filter(|i| distance[*i] > 0.0) {
                centroids.set_column(k, &points.column(i));
                distance[i] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `per` points around each of `clusters` centres, and the inertia of the planted clusters around their means.
    fn planted(clusters: usize, per: usize, dims: usize, spread: f64) -> (DMatrix<f64>, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let centres = DMatrix::from_fn(dims, clusters, |_, _| rng.random_range(-1.0..1.0));
        let points = DMatrix::from_fn(dims, clusters * per, |d, i| {
            centres[(d, i % clusters)] + spread * rng.random_range(-1.0..1.0)
        });
        let labels: Vec<usize> = (0..clusters * per).map(|i| i % clusters).collect();
        let mut means = centres;
        move_centroids(&points, &labels, &mut means);
        let inertia =
            labels.iter().enumerate().map(|(i, &k)| squared_distance(column(&points, i), column(&means, k))).sum();
        (points, inertia)
    }

    #[test]
    fn reaches_the_planted_optimum() {
        for (clusters, dims) in [(4, 5), (16, 8), (50, 10)] {
            let (points, optimum) = planted(clusters, 20, dims, 0.05);
            let found = KMeans::fit(&points, clusters, 8, 3);
            assert!(found.inertia <= optimum * 1.0001, "K={clusters}: {} against {optimum}", found.inertia);
            assert_eq!(found.sizes, vec![20; clusters]);
        }
    }

    #[test]
    fn comes_near_the_planted_clusters_when_they_overlap() {
        let (points, planted) = planted(12, 40, 4, 0.6);
        let found = KMeans::fit(&points, 12, 8, 3);
        assert!(found.inertia < planted, "{} against {planted}", found.inertia);
    }

    #[test]
    fn labels_are_those_of_the_nearest_centroid() {
        let (points, _) = planted(7, 30, 3, 0.8);
        let found = KMeans::fit(&points, 7, 2, 1);
        assert_eq!(found.labels, nearest(&points, &found.centroids));
        assert_eq!(found.sizes.iter().sum::<usize>(), 210);
    }

    #[test]
    fn more_clusters_than_points_leave_some_empty() {
        let points = DMatrix::from_row_slice(1, 6, &[0.0, 0.0, 0.0, 5.0, 5.0, 5.0]);
        let found = KMeans::fit(&points, 4, 3, 1);
        assert_eq!(found.inertia, 0.0);
        assert_eq!(found.sizes.iter().filter(|s| **s == 3).count(), 2);
        assert_eq!(found.sizes.iter().filter(|s| **s == 0).count(), 2);
    }

    #[test]
    fn an_empty_cluster_takes_the_farthest_point() {
        let points = DMatrix::from_row_slice(1, 4, &[0.0, 0.1, 0.2, 9.0]);
        let mut centroids = DMatrix::from_row_slice(1, 2, &[0.0, 100.0]);
        move_centroids(&points, &[0, 0, 0, 0], &mut centroids);
        assert_eq!(centroids[1], 9.0);
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        let centroids = DMatrix::from_row_slice(1, 3, &[1.0, -1.0, 1.0]);
        assert_eq!(nearest(&DMatrix::from_row_slice(1, 2, &[0.0, 2.0]), &centroids), [0, 0]);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let (points, _) = planted(10, 30, 6, 0.5);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| KMeans::fit(&points, 10, 5, 4))
        };
        assert_eq!(run(1), run(4));
    }
}
