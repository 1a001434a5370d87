//! The scale and zero-point with the least L_p quantization error: the starting ranges of the BRECQ family
//! (Y. Li et al., "BRECQ", 2021; `init_mode = mse` of its quantizers, p = 2.4).
//!
//! Candidates are 100 scales, from the one that covers all values down to a hundredth of it, each with every zero-point
//! of the format, or with zero-point 0 alone where values have one sign or the format is used symmetrically.
//!
//! All zero-points of one scale share a grid: a zero-point only moves the ends beyond which values saturate. So the errors inside are
//! summed once, as prefix sums over the sorted values. A zero-point then costs only its saturated tails, and is given up as soon as they
//! exceed the best sum so far.

use catc_ir::QFormat;

/// Number of scales tried.
const CANDIDATES: usize = 100;
/// The exponent p of the error in the BRECQ family.
pub const DEFAULT_P: f32 = 2.4;
/// Tails are summed in pieces of this many values.
const PIECE: usize = 32;

/// Values to quantize, ascending, with how often each occurs.
pub struct Points<'a> {
    /// The values, finite, ascending.
    pub values: &'a [f32],
    /// How often each occurs; all once if absent.
    pub weights: Option<&'a [f32]>,
    /// The exponent of the error, from 1 to 8.
    pub p: f32,
}

/// Which zero-points are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPoints {
    /// 0 alone, with a range of the same size on both sides of it.
    Symmetric,
    /// Every code; the least alone if no value is negative.
    All,
}

/// The scale and zero-point of least error. Zeros among the points count for nothing, being exact. The scale is 0 if
/// there are no other values.
pub fn search(points: &Points, format: QFormat, zero_points: ZeroPoints) -> (f64, i32) {
    let min = f64::from(points.values.first().copied().unwrap_or(0.0).min(0.0));
    let max = f64::from(points.values.last().copied().unwrap_or(0.0).max(0.0));
    let (lo, hi) = (format.min(), format.max());
    if min == max {
        return (0.0, 0.clamp(lo, hi));
    }
    let steps = f64::from(hi - lo);
    let (widest, tried): (f64, Vec<i32>) = match zero_points {
        ZeroPoints::Symmetric => ((-min).max(max) / f64::from(hi), vec![0]),
        ZeroPoints::All if min == 0.0 => (max / steps, vec![lo]),
        ZeroPoints::All if max == 0.0 => (-min / steps, vec![hi]),
        ZeroPoints::All => ((max - min) / steps, outward(lo, hi, (f64::from(lo) - min * steps / (max - min)) as i32)),
    };
    let mut best = Best { error: f64::INFINITY, scale: widest, zero_point: tried[0] };
    let mut sums = PrefixSums::default();
    for i in (1..=CANDIDATES).rev() {
        let scale = widest * i as f64 / CANDIDATES as f64;
        // Scales too small for f32 are no candidates.
        if (scale as f32) < f32::MIN_POSITIVE {
            break;
        }
        sums.fill(points, scale as f32);
        for &z in &tried {
            try_zero_point(points, &sums, scale, (lo, hi), z, &mut best);
        }
    }
    (best.scale, best.zero_point)
}

/// All codes, those nearest to `start` first: once a good candidate is found, bad ones are given up early.
fn outward(lo: i32, hi: i32, start: i32) -> Vec<i32> {
    let mut all: Vec<i32> = (lo..=hi).collect();
    all.sort_by_key(|z| ((z - start).abs(), *z));
    all
}

struct Best {
    error: f64,
    scale: f64,
    zero_point: i32,
}

/// Errors of rounding to multiples of a scale, without saturation, summed over the first so many points.
#[derive(Default)]
struct PrefixSums {
    errors: Vec<f32>,
    sums: Vec<f64>,
}

impl PrefixSums {
    fn fill(&mut self, points: &Points, scale: f32) {
        let inverse = 1.0 / scale;
        self.errors.clear();
        self.errors.extend(points.values.iter().map(|&x| power(x - round(x * inverse) * scale, points.p)));
        if let Some(weights) = points.weights {
            self.errors.iter_mut().zip(weights).for_each(|(e, w)| *e *= w);
        }
        let mut sum = 0.0;
        self.sums.clear();
        self.sums.push(0.0);
        self.sums.extend(self.errors.iter().map(|&e| {
            sum += f64::from(e);
            sum
        }));
    }
}

/// Keeps the candidate if its error is less than the best.
fn try_zero_point(points: &Points, sums: &PrefixSums, scale: f64, (lo, hi): (i32, i32), z: i32, best: &mut Best) {
    let (low, high) = (f64::from(lo - z), f64::from(hi - z));
    // Values beyond half a step outside the ends saturate.
    let first = points.values.partition_point(|&x| f64::from(x) < (low - 0.5) * scale);
    let last = points.values.partition_point(|&x| f64::from(x) <= (high + 0.5) * scale);
    let mut error = sums.sums[last] - sums.sums[first];
    let n = points.values.len();
    // From the far ends inwards, the largest errors first.
    let (mut from, mut to) = (0, n);
    while error < best.error && (from < first || to > last) {
        if from < first {
            let end = (from + PIECE).min(first);
            error += tail(points, from..end, (low * scale) as f32);
            from = end;
        }
        if to > last {
            let start = to.saturating_sub(PIECE).max(last);
            error += tail(points, start..to, (high * scale) as f32);
            to = start;
        }
    }
    if error < best.error {
        *best = Best { error, scale, zero_point: z };
    }
}

/// The error of values that all become `end`.
fn tail(points: &Points, range: std::ops::Range<usize>, end: f32) -> f64 {
    let values = &points.values[range.clone()];
    let sum: f32 = match points.weights {
        None => lanes(values.iter().map(|&x| power(x - end, points.p))),
        Some(weights) => lanes(values.iter().zip(&weights[range]).map(|(&x, &w)| power(x - end, points.p) * w)),
    };
    f64::from(sum)
}

/// The sum in eight lanes, which a compiler can keep in vectors.
fn lanes(terms: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (i, x) in terms.enumerate() {
        lanes[i % 8] += x;
    }
    lanes.iter().sum()
}

/// Adding this to a number below 2^22 in magnitude rounds it to an integer, which is then in the low bits of the sum.
const SHIFT: f32 = 12_582_912.0;

/// The nearest whole number for `|x| < 2^22`.
fn round(x: f32) -> f32 {
    (x + SHIFT) - SHIFT
}

/// `|x|^p` to about 1e-4 relative, in operations that vectorise: the logarithm and exponential to base 2 are split
/// into exponent bits and a polynomial.
fn power(x: f32, p: f32) -> f32 {
    // Below 2^-40 the result is 0 in effect; the bound keeps the exponents of the result normal.
    let x = x.abs().max(9.094_947e-13);
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    // The mantissa m in [1, 2) is (1 + t) / (1 - t) for a t in [0, 1/3).
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    let t = (m - 1.0) / (m + 1.0);
    let t2 = t * t;
    // log2(m) = 2/ln 2 (t + t^3/3 + t^5/5 + t^7/7 + ..)
    let log = exponent as f32 + 2.885_39 * t * (1.0 + t2 * (0.333_333_33 + t2 * (0.2 + t2 * 0.142_857_15)));
    let y = (p * log).clamp(-126.0, 126.0);
    let shifted = y + SHIFT;
    let f = (y - (shifted - SHIFT)) * std::f32::consts::LN_2;
    let exp = 1.0 + f * (1.0 + f * (0.5 + f * (0.166_666_67 + f * (0.041_666_668 + f * 0.008_333_334))));
    // The whole part as an exponent, taken from the bits: a conversion with its checks would not vectorise.
    exp * f32::from_bits(shifted.to_bits().wrapping_sub(SHIFT.to_bits()).wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> QFormat {
        QFormat::parse(text).unwrap()
    }

    /// The error by its definition, without the shortcuts.
    fn slow(points: &Points, format: QFormat, zero_points: &[i32], widest: f64) -> (f64, f64, i32) {
        let mut best = (f64::INFINITY, 0.0, 0);
        for i in (1..=CANDIDATES).rev() {
            let scale = widest * i as f64 / CANDIDATES as f64;
            for &z in zero_points {
                let error = error(points, format, scale, z);
                if error < best.0 {
                    best = (error, scale, z);
                }
            }
        }
        best
    }

    fn error(points: &Points, format: QFormat, scale: f64, z: i32) -> f64 {
        let each = points.values.iter().enumerate().map(|(i, &x)| {
            let x = f64::from(x);
            let code = ((x / scale).round_ties_even() + f64::from(z)).clamp(format.min().into(), format.max().into());
            let e: f64 = (x - scale * (code - f64::from(z))).abs();
            e.powf(2.4) * points.weights.map_or(1.0, |w| f64::from(w[i]))
        });
        each.sum()
    }

    fn sample(n: usize, shift: f32) -> Vec<f32> {
        let mut v: Vec<f32> =
            (0..n).map(|i| ((i as f32 * 1.7).sin() + (i as f32 * 0.31).cos()).powi(3) * 0.01 + shift).collect();
        v.sort_by(f32::total_cmp);
        v
    }

    #[test]
    fn power_is_close() {
        for i in 0..2000 {
            let x = 1.1f32.powi(i % 200 - 120) * (1.0 + i as f32 / 2000.0);
            let exact = f64::from(x).powf(2.4);
            assert!((f64::from(power(-x, 2.4)) / exact - 1.0).abs() < 3e-4, "{x}: {} {exact}", power(x, 2.4));
        }
        assert!(power(0.0, 2.4) < 1e-28);
        assert!(power(f32::MAX, 2.4).is_finite());
    }

    #[test]
    fn search_finds_what_trying_everything_finds() {
        let values = sample(300, 0.003);
        let weights: Vec<f32> = (0..values.len()).map(|i| (i % 5) as f32).collect();
        for text in ["i2", "i4", "u3", "i8"] {
            for weights in [None, Some(&weights[..])] {
                let points = Points { values: &values, weights, p: 2.4 };
                let f = format(text);
                let (min, max) = (f64::from(values[0]), f64::from(values[299]));
                let all: Vec<i32> = (f.min()..=f.max()).collect();
                let (scale, z) = search(&points, f, ZeroPoints::All);
                let best = slow(&points, f, &all, (max - min) / f64::from(f.max() - f.min())).0;
                assert!(error(&points, f, scale, z) <= best * 1.001, "{text}");
            }
        }
        let points = Points { values: &values, weights: None, p: 2.4 };
        let (scale, z) = search(&points, format("i8"), ZeroPoints::Symmetric);
        let widest = f64::from(values[299].max(-values[0])) / 127.0;
        assert!(
            z == 0 && error(&points, format("i8"), scale, z) <= slow(&points, format("i8"), &[0], widest).0 * 1.001
        );
    }

    #[test]
    fn values_of_one_sign_use_the_end_of_the_format() {
        let up = sample(100, 1.0);
        let down: Vec<f32> = up.iter().rev().map(|x| -x).collect();
        let search = |values: &[f32]| search(&Points { values, weights: None, p: 2.4 }, format("u2"), ZeroPoints::All);
        assert_eq!(search(&up).1, 0);
        assert_eq!(search(&down).1, 3);
        assert_eq!(search(&up).0, search(&down).0);
    }

    #[test]
    fn degenerate_values_have_an_answer() {
        for values in [&[][..], &[0.0; 4], &[1e-44, 2e-44], &[-3e38, 3e38], &[5.0]] {
            for zero_points in [ZeroPoints::All, ZeroPoints::Symmetric] {
                let (scale, z) = search(&Points { values, weights: None, p: 2.4 }, format("i4"), zero_points);
                assert!(scale.is_finite() && scale >= 0.0 && (-8..=7).contains(&z), "{values:?}: {scale} {z}");
            }
        }
    }
}
