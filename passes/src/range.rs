//! Ranges: from the observed values of a tensor to the scale and zero-point of its quantizer.

pub mod aciq;
pub mod entropy;
pub mod histogram;
pub mod lp_search;

use catc_ir::{QFormat, Quantizer};
use histogram::Histogram;
use lp_search::{DEFAULT_P, Points, ZeroPoints, search};
use rayon::prelude::*;
use std::fmt;

/// The least scale: products of two such scales, and their reciprocals, are still normal f32 numbers.
const LEAST_SCALE: f64 = 1e-18;

/// How the range of a tensor is chosen from its observed values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeMethod {
    /// From the least to the largest value.
    MinMax,
    /// Up to this percentile, and down to its complement where there are negative values.
    Percentile(f64),
    /// Least Kullback-Leibler divergence: [`entropy`].
    Entropy,
    /// Least L2.4 error: [`lp_search`].
    Mse,
    /// The clipping that is best for a Laplace or normal distribution: [`aciq`].
    Aciq,
}

impl RangeMethod {
    /// The names of the methods, as options take them.
    pub const NAMES: &str = "minmax|percentile|entropy|mse|aciq";

    /// The method of this name; `percentile` is the percentile if that is the method.
    pub fn parse(name: &str, percentile: f64) -> Option<Self> {
        Some(match name {
            "minmax" => RangeMethod::MinMax,
            "percentile" => RangeMethod::Percentile(percentile),
            "entropy" => RangeMethod::Entropy,
            "mse" => RangeMethod::Mse,
            "aciq" => RangeMethod::Aciq,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            RangeMethod::MinMax => "minmax",
            RangeMethod::Percentile(_) => "percentile",
            RangeMethod::Entropy => "entropy",
            RangeMethod::Mse => "mse",
            RangeMethod::Aciq => "aciq",
        }
    }
}

/// The observed values of a tensor, and how its range is to be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// How often which values occurred.
    pub histogram: Histogram,
    /// How the range is chosen.
    pub method: RangeMethod,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = &self.histogram;
        write!(f, "{} values in {:?}..{:?}, range by {}", h.count(), h.min(), h.max(), self.method.name())
    }
}

impl Observed {
    /// The per-tensor quantizer of `format`. Its range holds 0; a tensor of nothing but zeros gets scale 1.
    pub fn quantizer(&self, format: QFormat) -> Quantizer {
        let h = &self.histogram;
        let (min, max) = (f64::from(h.min()), f64::from(h.max()));
        let (scale, zero_point) = match self.method {
            RangeMethod::MinMax => affine(min, max, format),
            RangeMethod::Percentile(p) => {
                let low = if min < 0.0 { h.quantile(1.0 - p / 100.0).min(0.0) } else { 0.0 };
                affine(low, h.quantile(p / 100.0).max(0.0), format)
            }
            RangeMethod::Entropy => {
                let (lo, hi) = entropy::range(h, (format.max() - format.min() + 1) as u32);
                affine(lo, hi, format)
            }
            RangeMethod::Aciq => {
                let (lo, hi) = aciq::range(h, format.bits());
                affine(lo, hi, format)
            }
            RangeMethod::Mse => by_lp(h, format, DEFAULT_P),
        };
        Quantizer::per_tensor(format, sound(scale), zero_point)
    }
}

/// The per-tensor quantizer of least L_p error, p from 1 to 8.
pub fn quantizer_by_lp(histogram: &Histogram, format: QFormat, p: f32) -> Quantizer {
    let (scale, zero_point) = by_lp(histogram, format, p);
    Quantizer::per_tensor(format, sound(scale), zero_point)
}

fn by_lp(histogram: &Histogram, format: QFormat, p: f32) -> (f64, i32) {
    let (values, weights): (Vec<f32>, Vec<f32>) = histogram.bins().map(|(x, n)| (x as f32, n as f32)).unzip();
    search(&Points { values: &values, weights: Some(&weights), p }, format, ZeroPoints::All)
}

/// The scale and zero-point that map `lo..hi` (with `lo <= 0 <= hi`) to all codes of `format`, the zero-point rounded.
fn affine(lo: f64, hi: f64, format: QFormat) -> (f64, i32) {
    let scale = (hi - lo) / f64::from(format.max() - format.min());
    if scale == 0.0 {
        return (0.0, 0i32.clamp(format.min(), format.max()));
    }
    let zero_point = f64::from(format.min()) + (-lo / scale).round_ties_even();
    (scale, (zero_point as i32).clamp(format.min(), format.max()))
}

/// A scale that a quantizer can have: 1 where there was nothing but zeros.
fn sound(scale: f64) -> f32 {
    if scale == 0.0 { 1.0 } else { scale.max(LEAST_SCALE) as f32 }
}

/// How the ranges of weights are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightMethod {
    /// From the least to the largest weight of an output channel.
    MinMax,
    /// Least L2.4 error in an output channel.
    Mse,
}

impl WeightMethod {
    /// The names of the methods, as options take them.
    pub const NAMES: &str = "minmax|mse";

    /// The method of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "minmax" => WeightMethod::MinMax,
            "mse" => WeightMethod::Mse,
            _ => return None,
        })
    }
}

/// The quantizer of weights `[O,..]`, a scale and zero-point for each output channel. Formats of 8 bits are used
/// symmetrically (zero-point 0, so that weights less their zero-point fit a byte), narrower ones with any zero-point.
/// Channels are searched in parallel; a channel of nothing but zeros gets scale 1.
///
/// # Errors
/// The first weight that is not finite.
pub fn weight_quantizer(
    weights: &[f32],
    channels: usize,
    format: QFormat,
    method: WeightMethod,
) -> Result<Quantizer, histogram::NotFinite> {
    channel_quantizer(weights, channels, format, method, DEFAULT_P)
}

/// The same by the least L_p error, p from 1 to 8.
///
/// # Errors
/// The first weight that is not finite.
pub fn weight_quantizer_by_lp(
    weights: &[f32],
    channels: usize,
    format: QFormat,
    p: f32,
) -> Result<Quantizer, histogram::NotFinite> {
    channel_quantizer(weights, channels, format, WeightMethod::Mse, p)
}

fn channel_quantizer(
    weights: &[f32],
    channels: usize,
    format: QFormat,
    method: WeightMethod,
    p: f32,
) -> Result<Quantizer, histogram::NotFinite> {
    if let Some(&x) = weights.iter().find(|x| !x.is_finite()) {
        return Err(histogram::NotFinite(x));
    }
    let zero_points = if format.bits() == 8 { ZeroPoints::Symmetric } else { ZeroPoints::All };
    let row = (weights.len() / channels.max(1)).max(1);
    let ranges: Vec<(f32, i32)> = weights
        .par_chunks(row)
        .map(|channel| {
            let (scale, zero_point) = channel_range(channel, format, method, zero_points, p);
            (sound(scale), zero_point)
        })
        .collect();
    let (scale, zero_point) = ranges.into_iter().unzip();
    Ok(Quantizer::per_axis(format, 0, scale, zero_point))
}

fn channel_range(
    channel: &[f32],
    format: QFormat,
    method: WeightMethod,
    zero_points: ZeroPoints,
    p: f32,
) -> (f64, i32) {
    let min = f64::from(channel.iter().copied().fold(0.0, f32::min));
    let max = f64::from(channel.iter().copied().fold(0.0, f32::max));
    match (method, zero_points) {
        (WeightMethod::MinMax, ZeroPoints::All) => affine(min, max, format),
        (WeightMethod::MinMax, ZeroPoints::Symmetric) => ((-min).max(max) / f64::from(format.max()), 0),
        (WeightMethod::Mse, _) => {
            let mut values: Vec<f32> = channel.iter().copied().filter(|x| *x != 0.0).collect();
            values.sort_unstable_by(f32::total_cmp);
            search(&Points { values: &values, weights: None, p }, format, zero_points)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(values: &[f32], method: RangeMethod) -> Observed {
        let mut histogram = Histogram::default();
        histogram.add(values).unwrap();
        Observed { histogram, method }
    }

    const METHODS: [RangeMethod; 5] = [
        RangeMethod::MinMax,
        RangeMethod::Percentile(99.99),
        RangeMethod::Entropy,
        RangeMethod::Mse,
        RangeMethod::Aciq,
    ];

    fn is_sound(q: &Quantizer) -> bool {
        let range = q.format.min()..=q.format.max();
        q.scale.iter().all(|s| s.is_normal() && *s > 0.0) && q.zero_point.iter().all(|z| range.contains(z))
    }

    #[test]
    fn ranges_of_activations_are_sound_and_hold_zero() {
        let tensors: [&[f32]; 7] = [
            &[],
            &[0.0; 3],
            &[5.0; 3],
            &[-2.0; 3],
            &[1e-40, 0.0],
            &[f32::MAX, -f32::MAX],
            &[-0.375, 0.0, 1.0, 2.0, 3.0, 8.0],
        ];
        for method in METHODS {
            for values in tensors {
                for bits in 2..=8 {
                    let q = observed(values, method).quantizer(QFormat::new(false, bits).unwrap());
                    assert!(is_sound(&q), "{method:?} {values:?} {q:?}");
                    assert_eq!(q.dequantize(q.quantize(0.0, 0), 0), 0.0);
                }
            }
        }
    }

    #[test]
    fn unsigned_tensors_start_at_code_0() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.3).sin().max(0.0) * 4.0).collect();
        for method in METHODS {
            let q = observed(&values, method).quantizer(QFormat::new(false, 8).unwrap());
            assert_eq!(q.zero_point, [0], "{method:?}");
            assert!(q.scale[0] > 2.0 / 255.0 && q.scale[0] <= 4.0 / 255.0, "{method:?} {}", q.scale[0]);
        }
    }

    #[test]
    fn weights_have_a_range_for_each_channel() {
        let weights = [0.0, 0.0, 0.0, 3.0, -1.0, 0.5, 2.0, 2.0, 2.0, 1e-42, 0.0, 0.0];
        for method in [WeightMethod::MinMax, WeightMethod::Mse] {
            for bits in 2..=8 {
                let q = weight_quantizer(&weights, 4, QFormat::new(true, bits).unwrap(), method).unwrap();
                assert!(is_sound(&q) && q.scale.len() == 4 && q.axis == Some(0), "{q:?}");
                assert!(bits < 8 || q.zero_point == [0; 4]);
                // A constant channel is exact.
                assert!((q.dequantize(q.quantize(2.0, 2), 2) - 2.0).abs() < 1e-5, "{bits} {q:?}");
            }
            assert!(weight_quantizer(&[1.0, f32::NAN], 1, QFormat::new(true, 2).unwrap(), method).is_err());
        }
        let q = weight_quantizer(&weights, 4, QFormat::new(true, 2).unwrap(), WeightMethod::MinMax).unwrap();
        assert_eq!((q.scale[1], q.zero_point[1]), (4.0 / 3.0, -1));
    }
}
