//! Metrics of the distance between the outputs of two networks, and of their accuracy. All sums are in f64.

/// The softmax of one row of logits at a temperature: `exp(z / T) / sum(exp(z / T))`.
pub fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&z| f64::from(z) / temperature).collect();
    let top = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut p: Vec<f64> = scaled.iter().map(|z| (z - top).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}

/// The Kullback-Leibler divergence `sum(p ln(p / q))` of one row of logits, in nats. `p` is the softmax of `reference` and `q` is
/// the softmax of `found`, both at a temperature. In equation 3 of the CAT paper, `p` is the floating-point network and `q` the
/// quantized one. Both rows must have the same length.
pub fn kl_divergence(reference: &[f32], found: &[f32], temperature: f64) -> f64 {
    let log_softmax = |logits: &[f32]| {
        let scaled: Vec<f64> = logits.iter().map(|&z| f64::from(z) / temperature).collect();
        let top = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = scaled.iter().map(|z| (z - top).exp()).sum::<f64>().ln() + top;
        scaled.into_iter().map(|z| z - log_sum).collect::<Vec<f64>>()
    };
    let (p, q) = (log_softmax(reference), log_softmax(found));
    p.iter().zip(&q).filter(|(p, _)| **p > f64::NEG_INFINITY).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// The mean of [`kl_divergence`] over rows of `classes` logits, summed in order. 0 if there are no rows.
pub fn mean_kl_divergence(reference: &[f32], found: &[f32], classes: usize, temperature: f64) -> f64 {
    let rows = reference.len().checked_div(classes).unwrap_or(0);
    let pairs = reference.chunks_exact(classes.max(1)).zip(found.chunks_exact(classes.max(1)));
    pairs.map(|(p, q)| kl_divergence(p, q, temperature)).sum::<f64>() / rows.max(1) as f64
}

/// Whether `label` is among the `k` largest logits of a row. Among equal logits the lower class comes first. NaN never counts as
/// large.
pub fn in_top_k(logits: &[f32], label: usize, k: usize) -> bool {
    let Some(&own) = logits.get(label) else { return false };
    if own.is_nan() {
        return false;
    }
    let ahead = |(i, &z): (usize, &f32)| z > own || (z == own && i < label);
    logits.iter().enumerate().filter(|&x| ahead(x)).count() < k
}

/// The fraction of rows of `classes` logits whose label is among their `k` largest. 0 if there are no labels.
pub fn top_k_accuracy(logits: &[f32], classes: usize, labels: &[usize], k: usize) -> f64 {
    let rows = logits.chunks_exact(classes.max(1)).zip(labels);
    let hits = rows.filter(|(row, label)| in_top_k(row, **label, k)).count();
    hits as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_formula() {
        let (a, b) = ([1.0, 2.0, -3.0], [0.5, 2.5, 1.0]);
        for t in [0.4, 1.0, 4.0] {
            let (p, q) = (softmax(&a, t), softmax(&b, t));
            let direct: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
            assert!((kl_divergence(&a, &b, t) - direct).abs() < 1e-12);
        }
        assert_eq!(kl_divergence(&a, &a, 1.0), 0.0);
        assert!(kl_divergence(&[1e4, 0.0], &[0.0, 1e4], 1.0) > 9e3);
        let rows: Vec<f32> = a.iter().chain(&b).copied().collect();
        let swapped: Vec<f32> = b.iter().chain(&a).copied().collect();
        let mean = (kl_divergence(&a, &b, 1.0) + kl_divergence(&b, &a, 1.0)) / 2.0;
        assert_eq!(mean_kl_divergence(&rows, &swapped, 3, 1.0), mean);
    }

    #[test]
    fn accuracy_counts_ties_by_class() {
        let logits = [1.0, 3.0, 3.0, 2.0, f32::NAN, 0.0];
        assert!(in_top_k(&logits[..3], 1, 1) && !in_top_k(&logits[..3], 2, 1) && in_top_k(&logits[..3], 2, 2));
        assert!(!in_top_k(&logits[..3], 9, 3));
        assert_eq!(top_k_accuracy(&logits, 3, &[1, 1], 1), 0.5);
        assert_eq!(top_k_accuracy(&[], 3, &[], 1), 0.0);
    }
}
