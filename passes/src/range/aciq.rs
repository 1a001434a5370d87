//! Analytic clipping: the range with the least expected squared error under a Laplace or a normal distribution, whichever
//! gives the observed values the larger likelihood (R. Banner et al., "Post Training 4-bit Quantization of Convolutional
//! Networks for Rapid-Deployment", 2019, section 3 and appendix A).
//!
//! With M bits and a range of `w` the rounding error is uniform, `(w / 2^M)² / 12`. What a clip at a distance `a` from the
//! mean costs beyond it, both sides together:
//! - Laplace of scale b: `2 b² exp(-a/b)`;
//! - normal of deviation s: `(a² + s²) erfc(a / (s √2)) - √(2/π) a s exp(-a²/2s²)`.
//!
//! A tensor without negative values is fitted by half of a distribution around 0; its zeros do not count, and `w = a`. Any other tensor
//! has `w = 2a` around its mean. The range is limited to the observed values and contains 0.
//!
//! Deviations: the minimum is found by search instead of a table of ratios; no bits are moved between channels.

use super::histogram::Histogram;
use std::f64::consts::{PI, SQRT_2};

/// Clips are searched up to this many scales of the distribution: beyond it nothing is lost at 8 bits.
const WIDEST: f64 = 32.0;

/// The ends of the best range for this many bits, `(lo, hi)` with `lo <= 0 <= hi`.
pub fn range(histogram: &Histogram, bits: u8) -> (f64, f64) {
    let (min, max) = (f64::from(histogram.min()), f64::from(histogram.max()));
    let two_sided = min < 0.0 && max > 0.0;
    let centre = if two_sided { moment(histogram, true, |x| x) } else { 0.0 };
    let spread = moment(histogram, two_sided, |x| (x - centre).abs());
    let deviation = moment(histogram, two_sided, |x| (x - centre).powi(2)).sqrt();
    if !(spread > 0.0 && deviation > 0.0) {
        return (min, max);
    }
    // Entropies of the fits: the smaller one is the larger likelihood.
    let laplace = (2.0 * spread).ln() + 1.0 < (deviation * (2.0 * PI).sqrt()).ln() + 0.5;
    let scale = if laplace { spread } else { deviation };
    let clipped = |a: f64| if laplace { 2.0 * (-a).exp() } else { normal_tail(a) };
    let width = if two_sided { 2.0 } else { 1.0 };
    let step = width / 2f64.powi(i32::from(bits));
    let a = scale * least(|a| clipped(a) + (a * step).powi(2) / 12.0);
    ((centre - a).clamp(min, 0.0), (centre + a).clamp(0.0, max))
}

/// The mean of a function of what was seen; zeros count where they are inside the distribution, not its end.
fn moment(histogram: &Histogram, zeros: bool, f: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    let extra = zeros.then(|| (0.0, histogram.zeros()));
    for (x, n) in histogram.bins().chain(extra) {
        sum += n as f64 * f(x);
        count += n as f64;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The expected squared error of clipping a standard normal distribution at `a` on both sides.
fn normal_tail(a: f64) -> f64 {
    ((a * a + 1.0) * erfc(a / SQRT_2) - (2.0 / PI).sqrt() * a * (-a * a / 2.0).exp()).max(0.0)
}

/// The complementary error function for `x >= 0`, to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    poly * (-x * x).exp()
}

/// Where a function with one minimum has it, from 0 to [`WIDEST`], by golden section.
fn least(f: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut lo, mut hi) = (0.0, WIDEST);
    let (mut a, mut b) = (hi - ratio * (hi - lo), lo + ratio * (hi - lo));
    let (mut at_a, mut at_b) = (f(a), f(b));
    while hi - lo > 1e-6 {
        if at_a <= at_b {
            (hi, b, at_b) = (b, a, at_a);
            a = hi - ratio * (hi - lo);
            at_a = f(a);
        } else {
            (lo, a, at_a) = (a, b, at_b);
            b = lo + ratio * (hi - lo);
            at_b = f(b);
        }
    }
    (lo + hi) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(inverse: impl Fn(f64) -> f64) -> Histogram {
        let values: Vec<f32> = (0..40_000).map(|i| inverse((i as f64 + 0.5) / 40_000.0) as f32).collect();
        let mut h = Histogram::default();
        h.add(&values).unwrap();
        h
    }

    fn laplace(p: f64) -> f64 {
        if p < 0.5 { (2.0 * p).ln() } else { -(2.0 - 2.0 * p).ln() }
    }

    #[test]
    fn a_laplace_distribution_is_clipped_where_the_paper_says() {
        // The paper's ratios to the scale: 2.83, 3.89, 5.03 at 2, 3 and 4 bits.
        for (bits, ratio) in [(2, 2.83), (3, 3.89), (4, 5.03)] {
            let (lo, hi) = range(&histogram(laplace), bits);
            assert!((hi - ratio).abs() < 0.02 && (lo + ratio).abs() < 0.02, "{bits}: {lo} {hi}");
        }
    }

    #[test]
    fn a_normal_distribution_is_told_from_it() {
        // The sum of twelve uniform numbers is near enough to normal; the paper's ratio at 4 bits is 2.55.
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let values: Vec<f32> = (0..40_000).map(|_| (0..12).map(|_| uniform()).sum::<f64>() as f32 - 6.0).collect();
        let mut h = Histogram::default();
        h.add(&values).unwrap();
        let (lo, hi) = range(&h, 4);
        assert!((hi - 2.55).abs() < 0.05 && (lo + 2.55).abs() < 0.05, "{lo} {hi}");
    }

    #[test]
    fn half_a_distribution_has_one_end_more_codes_reach_farther_and_zeros_do_not_count() {
        let half = |p: f64| laplace(0.5 + p / 2.0);
        let (lo, at_3) = range(&histogram(half), 3);
        // One bit more than both sides have: a range of half the width.
        assert!(lo == 0.0 && (at_3 - 5.03).abs() < 0.02, "{at_3}");
        let mut with_zeros = histogram(half);
        with_zeros.add(&[0.0; 100_000]).unwrap();
        assert_eq!(range(&with_zeros, 3).1, at_3);
        assert!(range(&with_zeros, 8).1 > at_3);
    }

    #[test]
    fn degenerate_tensors_keep_their_range() {
        let mut h = Histogram::default();
        assert_eq!(range(&h, 4), (0.0, 0.0));
        h.add(&[5.0; 3]).unwrap();
        let (lo, hi) = range(&h, 4);
        assert!(lo == 0.0 && hi > 0.0 && hi <= 5.0);
    }
}
