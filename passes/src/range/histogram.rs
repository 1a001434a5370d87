//! Histograms of a tensor's values over all calibration images, in one pass and little memory.

/// Bins of equal width on each side of zero. The largest value seen lies in the upper half of its side.
const BINS: usize = 8192;
/// Bins of each power of two below those of equal width.
const TAIL_BINS: usize = 512;
/// Bins of equal width are never narrower than 2 to the power of this.
const FINEST: i32 = -110;

/// How often values occurred: exact least and largest value, exact number of zeros, and bins.
///
/// Bin `k` of a side, from 512 on, holds the values with `k w <= |x| < (k + 1) w`, where the width `w` is a power of two. So values above a
/// sixteenth of the range have bins of equal width. Smaller values have 512 bins for each power of two, so that a single far outlier does
/// not hide the distribution of the others. When a value does not fit, `w` doubles and pairs of bins are merged. A bin of the doubled
/// width is the union of two old ones, so the histogram depends only on which values were counted, not on their order or on how the
/// work was divided. It takes 128 KiB and 8 KiB for each power of two that smaller values reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    exponent: i32,
    negative: Side,
    positive: Side,
    zeros: u64,
    min: f32,
    max: f32,
}

/// The bins of the values of one sign.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    /// Bins of equal width; those below [`TAIL_BINS`] stay empty.
    linear: Vec<u64>,
    /// Bins of smaller values, the first of them number `first`, a multiple of [`TAIL_BINS`] ([`tail_bin`]).
    tail: Vec<u64>,
    first: usize,
}

impl Default for Histogram {
    fn default() -> Self {
        let side = || Side { linear: vec![0; BINS], tail: vec![], first: 0 };
        Histogram { exponent: FINEST, negative: side(), positive: side(), zeros: 0, min: 0.0, max: 0.0 }
    }
}

/// The bin of a small magnitude: its exponent and the nine bits after its leading one, which are the 512 bins of each power of two.
fn tail_bin(magnitude: f32) -> usize {
    const { assert!(TAIL_BINS == 1 << 9) };
    (magnitude.to_bits() >> 14) as usize
}

/// The ends of such a bin.
fn tail_ends(bin: usize) -> (f64, f64) {
    let end = |bin: usize| f64::from(f32::from_bits((bin as u32) << 14));
    (end(bin), end(bin + 1))
}

impl Side {
    fn add_tail(&mut self, bin: usize, n: u64) {
        let block = bin / TAIL_BINS * TAIL_BINS;
        if self.tail.is_empty() {
            self.first = block;
        }
        if block < self.first {
            let missing = self.first - block;
            self.tail.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = block;
        }
        if block + TAIL_BINS > self.first + self.tail.len() {
            self.tail.resize(block + TAIL_BINS - self.first, 0);
        }
        self.tail[bin - self.first] += n;
    }

    /// Adds `n` values of the bin `k` of equal width `2^exponent`, which was `2^(exponent - shift)` when they were counted.
    fn add_linear(&mut self, k: usize, shift: u32, exponent: i32, n: u64) {
        match narrowed(k, shift) {
            small if small < TAIL_BINS => {
                // Exact: k has at most 13 bits, and 2^exponent is no less than the finest width.
                let least = k as f64 * 2f64.powi(exponent - shift as i32);
                self.add_tail(tail_bin(least as f32), n);
            }
            large => self.linear[large] += n,
        }
    }

    fn widen(&mut self, shift: u32, exponent: i32) {
        for k in TAIL_BINS..BINS {
            let n = std::mem::take(&mut self.linear[k]);
            if n > 0 {
                self.add_linear(k, shift, exponent, n);
            }
        }
    }

    fn merge(&mut self, other: &Side, shift: u32, exponent: i32) {
        for (k, &n) in other.linear.iter().enumerate().filter(|(_, n)| **n > 0) {
            self.add_linear(k, shift, exponent, n);
        }
        for (k, &n) in other.tail.iter().enumerate().filter(|(_, n)| **n > 0) {
            self.add_tail(other.first + k, n);
        }
    }

    fn count(&self) -> u64 {
        self.linear.iter().chain(&self.tail).sum()
    }

    /// The bins that are not empty, by magnitude: their ends and what they hold.
    fn bins(&self, width: f64) -> impl DoubleEndedIterator<Item = ((f64, f64), u64)> {
        let tail = self.tail.iter().enumerate().map(|(k, &n)| (tail_ends(self.first + k), n));
        let linear = self.linear.iter().enumerate();
        let linear = linear.map(move |(k, &n)| ((k as f64 * width, (k as f64 + 1.0) * width), n));
        tail.chain(linear).filter(|(_, n)| *n > 0)
    }
}

/// A value that no histogram can hold: NaN or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("holds {0}")]
pub struct NotFinite(pub f32);

impl Histogram {
    /// Counts values.
    ///
    /// # Errors
    /// If one is not finite; then none is counted.
    pub fn add(&mut self, values: &[f32]) -> Result<(), NotFinite> {
        let (mut min, mut max) = (self.min, self.max);
        for &x in values {
            if !x.is_finite() {
                return Err(NotFinite(x));
            }
            min = if x < min { x } else { min };
            max = if x > max { x } else { max };
        }
        (self.min, self.max) = (min, max);
        self.widen(exponent_for(max.max(-min)));
        // A power of two: the product is exact, or so small that its whole part is 0 anyway.
        let per_width = 2f32.powi(-self.exponent);
        for &x in values {
            if x == 0.0 {
                self.zeros += 1;
            } else {
                let side = if x > 0.0 { &mut self.positive } else { &mut self.negative };
                match (x.abs() * per_width) as usize {
                    k if k < TAIL_BINS => side.add_tail(tail_bin(x.abs()), 1),
                    k => side.linear[k] += 1,
                }
            }
        }
        Ok(())
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Histogram) {
        self.widen(other.exponent);
        let shift = (self.exponent - other.exponent) as u32;
        self.negative.merge(&other.negative, shift, self.exponent);
        self.positive.merge(&other.positive, shift, self.exponent);
        self.zeros += other.zeros;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn widen(&mut self, exponent: i32) {
        if exponent <= self.exponent {
            return;
        }
        let shift = (exponent - self.exponent) as u32;
        self.negative.widen(shift, exponent);
        self.positive.widen(shift, exponent);
        self.exponent = exponent;
    }

    /// The least value counted, or 0 if that is less.
    pub fn min(&self) -> f32 {
        self.min
    }

    /// The largest value counted, or 0 if that is larger.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// Number of values counted.
    pub fn count(&self) -> u64 {
        self.zeros + self.negative.count() + self.positive.count()
    }

    /// Number of zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The width of the bins of equal width.
    pub fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    /// The bins that are not empty, from the least to the largest value: `(centre, number)`. Zeros are not among them.
    /// Centres lie between the least and the largest value.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> {
        let width = self.width();
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        let centre = move |((lo, hi), n): ((f64, f64), u64), sign: f64| ((sign * 0.5 * (lo + hi)).clamp(min, max), n);
        let negative = self.negative.bins(width).rev().map(move |bin| centre(bin, -1.0));
        negative.chain(self.positive.bins(width).map(move |bin| centre(bin, 1.0)))
    }

    /// The least value that at least this fraction of all values does not exceed, to the width of a bin.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let wanted = (fraction.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        let below = self.negative.bins(self.width()).rev().map(|((lo, _), n)| (-lo, n));
        let above = self.positive.bins(self.width()).map(|((_, hi), n)| (hi, n));
        for (edge, n) in below.chain([(0.0, self.zeros)]).chain(above) {
            seen += n;
            if seen >= wanted && n > 0 {
                return edge.clamp(f64::from(self.min), f64::from(self.max));
            }
        }
        f64::from(self.max)
    }
}

/// Bin `k` after the width doubled `shift` times.
fn narrowed(k: usize, shift: u32) -> usize {
    k.checked_shr(shift).unwrap_or(0)
}

/// The least exponent at which a value of this magnitude fits.
fn exponent_for(magnitude: f32) -> i32 {
    // 2^(exponent of the magnitude + 1) exceeds it, and BINS is 2^13.
    const { assert!(BINS == 1 << 13) };
    let bits = (magnitude.to_bits() >> 23) as i32;
    (bits - 127 + 1 - 13).max(FINEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..4000).map(|i| (i as f32 * 0.7).sin() * 2f32.powi(i % 40 - 20)).chain([0.0, -0.0, 7.5e30]).collect()
    }

    #[test]
    fn order_and_split_do_not_matter() {
        let values = values();
        let mut whole = Histogram::default();
        whole.add(&values).unwrap();
        let mut reversed: Vec<f32> = values.clone();
        reversed.reverse();
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        for chunk in reversed[..1000].chunks(7) {
            a.add(chunk).unwrap();
        }
        b.add(&reversed[1000..]).unwrap();
        let mut c = b.clone();
        c.merge(&a);
        a.merge(&b);
        assert_eq!(a, whole);
        assert_eq!(c, whole);
        assert_eq!(whole.count(), values.len() as u64);
        assert_eq!(whole.zeros(), 3);
    }

    #[test]
    fn bins_are_narrow_and_edges_exact() {
        let mut h = Histogram::default();
        h.add(&[1.0, -0.25, 0.5]).unwrap();
        assert_eq!((h.min(), h.max()), (-0.25, 1.0));
        assert!(h.width() <= 1.0 / 4096.0);
        for ((centre, n), x) in h.bins().zip([-0.25, 0.5, 1.0]) {
            assert!((centre - x).abs() <= h.width() && n == 1, "{centre}");
        }
        // The largest magnitude of each bin row still fits.
        for x in [f32::MAX, f32::MIN_POSITIVE, 1e-45, 2.0 - f32::EPSILON] {
            Histogram::default().add(&[x, -x]).unwrap();
        }
    }

    #[test]
    fn a_far_outlier_hides_nothing() {
        let body: Vec<f32> = (0..20_000).map(|i| 4.0 * (i as f32 * 0.37).sin()).collect();
        let mut h = Histogram::default();
        h.add(&body).unwrap();
        let wanted = h.quantile(0.9999);
        for outlier in [1e3, 1e6, 3e38] {
            let mut with = h.clone();
            with.add(&[outlier]).unwrap();
            let mut first = Histogram::default();
            first.add(&[outlier]).unwrap();
            first.add(&body).unwrap();
            assert_eq!(with, first);
            assert!((with.quantile(0.9999) / wanted - 1.0).abs() < 0.01, "{} {wanted}", with.quantile(0.9999));
            assert_eq!(with.count(), h.count() + 1);
        }
    }

    #[test]
    fn quantiles_and_errors() {
        let mut h = Histogram::default();
        h.add(&(-50..=50).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        for (fraction, x) in [(0.0, -50.0), (0.5, 0.0), (1.0, 50.0), (0.9, 40.0)] {
            assert!((h.quantile(fraction) - x).abs() <= 1.0 + h.width(), "{fraction}");
        }
        let before = h.clone();
        assert!(h.add(&[1e9, f32::NAN]).unwrap_err().0.is_nan());
        assert_eq!(h.add(&[f32::NEG_INFINITY]), Err(NotFinite(f32::NEG_INFINITY)));
        assert_eq!(h, before);
    }
}
