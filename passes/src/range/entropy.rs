//! The range with the least loss of information: the threshold with the least Kullback-Leibler divergence between the distribution of the
//! observed values and that of the quantized ones (S. Migacz, "8-bit Inference with TensorRT", 2017).
//!
//! Deviations: values may have both signs; a threshold then clips both ends at the same magnitude. 100 thresholds are tried. None may clip
//! more than a tenth of the values: if a tensor has only a few distinct values, clipping all of them would cost nothing by this
//! measure. Zeros do not count, since every range represents them exactly.

use super::histogram::Histogram;

/// Thresholds tried, as fractions of the largest magnitude.
const CANDIDATES: usize = 100;
/// Bins finer than this many for the whole range are added up.
const BINS: usize = 2048;
/// The part of the values that may lie beyond the ends.
const MAX_CUT: f64 = 0.1;
/// The count of an empty bin, above 0 so that the divergence stays finite.
const EMPTY: f64 = 1e-4;

/// The ends of the best range for this number of codes, `(lo, hi)` with `lo <= 0 <= hi`.
pub fn range(histogram: &Histogram, codes: u32) -> (f64, f64) {
    let (min, max) = (f64::from(histogram.min()), f64::from(histogram.max()));
    if max == min {
        return (min, max);
    }
    let width = (max - min) / BINS as f64;
    let bins = coarse(histogram, min, width);
    let mut best = (f64::INFINITY, (min, max));
    for i in (1..=CANDIDATES).rev() {
        let threshold = (-min).max(max) * i as f64 / CANDIDATES as f64;
        let (lo, hi) = (min.max(-threshold), max.min(threshold));
        if (hi - lo) / width < f64::from(codes) {
            break;
        }
        if cut(histogram, lo, hi) > MAX_CUT {
            break;
        }
        let divergence = divergence(&bins, min, width, (lo, hi), codes);
        if divergence < best.0 {
            best = (divergence, (lo, hi));
        }
    }
    best.1
}

/// The part of the values but zeros that lies beyond the ends of a range.
fn cut(histogram: &Histogram, lo: f64, hi: f64) -> f64 {
    let (mut beyond, mut all) = (0, 0);
    for (centre, n) in histogram.bins() {
        all += n;
        beyond += if centre < lo || centre > hi { n } else { 0 };
    }
    beyond as f64 / all.max(1) as f64
}

/// Counts in `BINS` bins from `min` on.
fn coarse(histogram: &Histogram, min: f64, width: f64) -> Vec<f64> {
    let mut bins = vec![0.0; BINS];
    for (centre, n) in histogram.bins() {
        bins[(((centre - min) / width) as usize).min(BINS - 1)] += n as f64;
    }
    bins
}

/// KL(P || Q): P is the counts inside the range, with those outside added to its end bins; Q spreads the counts of each
/// code evenly over the bins of that code that are not empty.
fn divergence(bins: &[f64], min: f64, width: f64, (lo, hi): (f64, f64), codes: u32) -> f64 {
    let first = (((lo - min) / width) as usize).min(bins.len() - 1);
    let last = (((hi - min) / width).ceil() as usize).clamp(first + 1, bins.len());
    let inside = &bins[first..last];
    let mut p: Vec<f64> = inside.to_vec();
    p[0] += bins[..first].iter().sum::<f64>();
    p[last - first - 1] += bins[last..].iter().sum::<f64>();

    let scale = (hi - lo) / f64::from(codes - 1);
    let code = |k: usize| {
        let centre = min + ((first + k) as f64 + 0.5) * width;
        (((centre - lo) / scale).round().max(0.0) as usize).min(codes as usize - 1)
    };
    let mut mass = vec![(0.0, 0u32); codes as usize];
    for (k, &n) in inside.iter().enumerate().filter(|(_, n)| **n > 0.0) {
        let (sum, filled) = &mut mass[code(k)];
        (*sum, *filled) = (*sum + n, *filled + 1);
    }
    let q: Vec<f64> = inside
        .iter()
        .enumerate()
        .map(|(k, &n)| if n > 0.0 { mass[code(k)].0 / f64::from(mass[code(k)].1) } else { EMPTY })
        .collect();
    let (p_sum, q_sum): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let terms = p.iter().zip(&q).filter(|(p, _)| **p > 0.0);
    terms.map(|(p, q)| p / p_sum * ((p / p_sum) / (q / q_sum)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_outliers_are_cut() {
        let mut h = Histogram::default();
        let body: Vec<f32> = (0..20_000).map(|i| ((i as f32 * 0.37).sin() + (i as f32 * 0.11).sin()).abs()).collect();
        h.add(&body).unwrap();
        h.add(&[40.0]).unwrap();
        let (lo, hi) = range(&h, 16);
        assert!(lo == 0.0 && hi < 10.0 && hi > 1.0, "{lo} {hi}");
        let mut both = h.clone();
        both.add(&body.iter().map(|x| -x).collect::<Vec<_>>()).unwrap();
        let (lo, hi) = range(&both, 16);
        assert!((-2.0..0.0).contains(&lo) && hi < 30.0, "{lo} {hi}");
    }

    #[test]
    fn a_few_values_that_make_up_the_tensor_are_kept() {
        let mut h = Histogram::default();
        // Eight values, one of them rare.
        let values: Vec<f32> = (0..8000).map(|i| [0.3, 0.5, 0.9, 1.4, 2.0, 2.2, 3.1, 3.3][i % 8]).collect();
        h.add(&values).unwrap();
        h.add(&[0.05; 20]).unwrap();
        for codes in [4, 16, 256] {
            let (lo, hi) = range(&h, codes);
            assert!(lo == 0.0 && hi > 3.0, "{codes} codes: {lo} {hi}");
        }
        let mut constant = Histogram::default();
        constant.add(&[0.37; 1000]).unwrap();
        let (_, hi) = range(&constant, 16);
        assert!((hi - 0.37).abs() < 0.01, "{hi}");
    }

    #[test]
    fn nothing_but_zeros_has_an_empty_range() {
        let mut h = Histogram::default();
        h.add(&[0.0; 8]).unwrap();
        assert_eq!(range(&h, 4), (0.0, 0.0));
    }
}
