//! Histograms of what a tensor holds over all calibration images, in one pass and fixed memory.

/// Bins on each side of zero. The largest value seen lies in the upper half of its side.
const BINS: usize = 8192;
/// Bins are never narrower than 2 to the power of this.
const FINEST: i32 = -110;

/// How often values occurred: exact least and largest value, exact number of zeros, and bins of equal width.
///
/// Bin `k` of a side holds the values with `k w <= |x| < (k + 1) w`, where the width `w` is a power of two. When a
/// value does not fit, `w` doubles and pairs of bins are added up. Bins of a doubled width are unions of old ones, so
/// the histogram depends only on which values were counted, not on their order nor on how the work was split. It takes
/// 128 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    exponent: i32,
    negative: Vec<u64>,
    positive: Vec<u64>,
    zeros: u64,
    min: f32,
    max: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { exponent: FINEST, negative: vec![0; BINS], positive: vec![0; BINS], zeros: 0, min: 0.0, max: 0.0 }
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
                side[(x.abs() * per_width) as usize] += 1;
            }
        }
        Ok(())
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Histogram) {
        self.widen(other.exponent);
        let shift = (self.exponent - other.exponent) as u32;
        for (mine, theirs) in [(&mut self.negative, &other.negative), (&mut self.positive, &other.positive)] {
            for (k, n) in theirs.iter().enumerate().filter(|(_, n)| **n > 0) {
                mine[narrowed(k, shift)] += n;
            }
        }
        self.zeros += other.zeros;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn widen(&mut self, exponent: i32) {
        if exponent <= self.exponent {
            return;
        }
        let shift = (exponent - self.exponent) as u32;
        for side in [&mut self.negative, &mut self.positive] {
            for k in 0..BINS {
                let n = std::mem::take(&mut side[k]);
                side[narrowed(k, shift)] += n;
            }
        }
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
        self.zeros + self.negative.iter().sum::<u64>() + self.positive.iter().sum::<u64>()
    }

    /// Number of zeros.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The width of a bin.
    pub fn width(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    /// The bins that are not empty, from the least to the largest value: `(centre, number)`. Zeros are not among them.
    /// Centres lie between the least and the largest value.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> {
        let width = self.width();
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        let centre = move |k: usize, sign: f64| (sign * (k as f64 + 0.5) * width).clamp(min, max);
        let negative = self.negative.iter().enumerate().rev().map(move |(k, &n)| (centre(k, -1.0), n));
        let positive = self.positive.iter().enumerate().map(move |(k, &n)| (centre(k, 1.0), n));
        negative.chain(positive).filter(|(_, n)| *n > 0)
    }

    /// The least value that at least this fraction of all values does not exceed, to the width of a bin.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let wanted = (fraction.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        let below = self.negative.iter().enumerate().rev().map(|(k, &n)| (-(k as f64) * self.width(), n));
        let above = self.positive.iter().enumerate().map(|(k, &n)| ((k as f64 + 1.0) * self.width(), n));
        for (edge, n) in below.chain([(0.0, self.zeros)]).chain(above) {
            seen += n;
            if seen >= wanted && n > 0 {
                return edge.clamp(f64::from(self.min), f64::from(self.max));
            }
        }
        f64::from(self.max)
    }
}

/// `k` after the width doubled `shift` times.
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
