//! The Kullback-Leibler divergence between the distributions of two sets of logits (CAT, equation 1).

/// `KL(softmax(fp / T) || softmax(lq / T))` in nats for the logits of one sample.
///
/// Not finite logits give a divergence that is not finite, never a small one.
pub fn kl(fp: &[f64], lq: &[f64], temperature: f64) -> f64 {
    let max = |z: &[f64]| z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (max_fp, max_lq) = (max(fp), max(lq));
    let (mut sum_fp, mut sum_lq, mut cross) = (0.0, 0.0, 0.0);
    for (f, q) in fp.iter().zip(lq) {
        let (f, q) = ((f - max_fp) / temperature, (q - max_lq) / temperature);
        let e = f.exp();
        sum_fp += e;
        sum_lq += q.exp();
        cross += e * (f - q);
    }
    // Rounding can take a divergence of 0 a little below it; NaN stays NaN.
    let kl = cross / sum_fp - sum_fp.ln() + sum_lq.ln();
    if kl < 0.0 { 0.0 } else { kl }
}

/// Whether both hold their largest logit at the same place (the first of equal ones).
pub fn same_top1(fp: &[f64], lq: &[f64]) -> bool {
    top1(fp) == top1(lq)
}

/// Index of the largest logit, the lowest among equals.
pub fn top1(z: &[f64]) -> usize {
    (1..z.len()).fold(0, |best, c| if z[c] > z[best] { c } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_definition() {
        let (fp, lq) = ([1.0, -0.5, 2.0], [0.3, 0.9, -1.0]);
        for t in [0.4, 1.0, 4.0] {
            let softmax = |z: &[f64; 3]| {
                let e = z.map(|x| (x / t).exp());
                e.map(|x| x / e.iter().sum::<f64>())
            };
            let (p, q) = (softmax(&fp), softmax(&lq));
            let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
            assert!((kl(&fp, &lq, t) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn shift_invariant_zero_for_equals_and_large_logits_are_no_overflow() {
        assert_eq!(kl(&[1000.0, 0.0], &[1000.0, 0.0], 1.0), 0.0);
        assert!(kl(&[1000.0, 0.0], &[1007.0, 7.0], 1.0).abs() < 1e-9);
        assert!((kl(&[1000.0, 0.0], &[0.0, 1000.0], 1.0) - 1000.0).abs() < 1e-9);
        assert!(kl(&[0.0, 0.0], &[f64::NAN, 0.0], 1.0).is_nan());
    }

    #[test]
    fn top1_takes_the_first_of_equals() {
        assert_eq!(top1(&[1.0, 3.0, 3.0]), 1);
        assert!(!same_top1(&[1.0, 3.0, 3.0], &[1.0, 2.0, 3.0]));
    }
}
