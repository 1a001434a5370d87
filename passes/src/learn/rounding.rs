//! Learned rounding of weights: each weight goes to the code below or above it, decided by a variable that gradients move.
//!
//! Reference: M. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020, equations 21 to 24.

use crate::learn::adam::Adam;
use catc_ir::Quantizer;
use rayon::prelude::*;

/// The rectified sigmoid is `clamp(sigmoid(v) (ZETA - GAMMA) + GAMMA, 0, 1)`.
const ZETA: f32 = 1.1;
const GAMMA: f32 = -0.1;
/// Weights that one thread takes at a time.
const CHUNK: usize = 1 << 13;

/// The rounding variables of one layer's weights `[O, ..]`, with a scale and a zero-point for each output channel.
///
/// The soft weight is `scale (clamp(floor(w / scale0) + h(v) + z, min, max) - z)`, h the rectified sigmoid, scale0 the scale at
/// the start; at the start `h(v)` is what `floor` takes away.
pub(crate) struct Rounding {
    /// `floor(w / scale0)`.
    floor: Vec<f32>,
    v: Vec<f32>,
    adam: Adam,
    /// Weights of an output channel.
    row: usize,
    /// For each channel the least and the largest code, less the zero-point.
    bounds: Vec<[f32; 2]>,
    /// For each channel the zero-point.
    zero_point: Vec<i32>,
    /// For each channel the scale.
    pub scale: Vec<f32>,
}

/// The regularizer `lambda Σ (1 - |2 h(v) - 1|^beta)` towards 0 and 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Regularizer {
    pub lambda: f32,
    pub beta: f32,
}

/// `h(v)` and its derivative.
fn rectified(v: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + (-v).exp());
    let h = sigmoid * (ZETA - GAMMA) + GAMMA;
    if h <= 0.0 {
        (0.0, 0.0)
    } else if h >= 1.0 {
        (1.0, 0.0)
    } else {
        (h, (ZETA - GAMMA) * sigmoid * (1.0 - sigmoid))
    }
}

impl Rounding {
    /// Variables that leave the weights as they are. `quantizer` has an axis 0 that divides `weights` into as many rows.
    pub fn new(weights: &[f32], quantizer: &Quantizer) -> Rounding {
        let row = (weights.len() / quantizer.scale.len().max(1)).max(1);
        let scaled: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w / quantizer.scale[i / row]).collect();
        let floor: Vec<f32> = scaled.iter().map(|x| x.floor()).collect();
        let start = |(x, f): (&f32, &f32)| -((ZETA - GAMMA) / (x - f - GAMMA) - 1.0).ln();
        let v = scaled.iter().zip(&floor).map(start).collect();
        let format = quantizer.format;
        let bounds = quantizer.zero_point.iter().map(|z| [(format.min() - z) as f32, (format.max() - z) as f32]);
        Rounding {
            v,
            adam: Adam::new(weights.len()),
            row,
            bounds: bounds.collect(),
            zero_point: quantizer.zero_point.clone(),
            scale: quantizer.scale.clone(),
            floor,
        }
    }

    /// The code of weight `i` less its zero-point, and whether it is inside the format.
    fn level(&self, i: usize, h: f32) -> (f32, bool) {
        let [lo, hi] = self.bounds[i / self.row];
        let n = self.floor[i] + h;
        (n.clamp(lo, hi), n >= lo && n <= hi)
    }

    /// The soft weights.
    pub fn soft(&self) -> Vec<f32> {
        let soft = |i: usize| self.scale[i / self.row] * self.level(i, rectified(self.v[i]).0).0;
        (0..self.v.len()).into_par_iter().with_min_len(CHUNK).map(soft).collect()
    }

    /// The codes that the variables decide for.
    pub fn codes(&self) -> Vec<i16> {
        let code = |i: usize| {
            let up = if rectified(self.v[i]).0 >= 0.5 { 1.0 } else { 0.0 };
            (self.level(i, up).0 as i32 + self.zero_point[i / self.row]) as i16
        };
        (0..self.v.len()).map(code).collect()
    }

    /// The gradient of the variables for the gradient `dw` of the soft weights, with the regularizer's if there is one.
    fn gradient(&self, dw: &[f32], regularizer: Option<Regularizer>) -> Vec<f32> {
        let gradient = |i: usize| {
            let (h, slope) = rectified(self.v[i]);
            let inside = if self.level(i, h).1 { dw[i] * self.scale[i / self.row] } else { 0.0 };
            let regularized = regularizer.map_or(0.0, |p| {
                let d = 2.0 * h - 1.0;
                -2.0 * p.lambda * p.beta * d.abs().powf(p.beta - 1.0) * d.signum()
            });
            (inside + regularized) * slope
        };
        (0..self.v.len()).into_par_iter().with_min_len(CHUNK).map(gradient).collect()
    }

    /// The regularizer's value.
    pub fn penalty(&self, regularizer: Regularizer) -> f64 {
        let term = |v: &f32| f64::from(1.0 - (2.0 * rectified(*v).0 - 1.0).abs().powf(regularizer.beta));
        f64::from(regularizer.lambda) * self.v.iter().map(term).sum::<f64>()
    }

    /// The gradient of each channel's scale for the gradient of the soft weights.
    pub fn scale_gradient(&self, dw: &[f32]) -> Vec<f32> {
        let row = |c: usize| {
            let first = c * self.row;
            let terms = (first..first + self.row).map(|i| f64::from(dw[i] * self.level(i, rectified(self.v[i]).0).0));
            terms.sum::<f64>() as f32
        };
        (0..self.scale.len()).map(row).collect()
    }

    /// One step of the variables for the gradient `dw` of the soft weights.
    pub fn step(&mut self, dw: &[f32], regularizer: Option<Regularizer>, rate: f64) {
        let gradient = self.gradient(dw, regularizer);
        self.adam.step(&mut self.v, &gradient, rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catc_ir::QFormat;

    fn rounding() -> (Vec<f32>, Quantizer, Rounding) {
        let weights = vec![-0.9, -0.3, 0.05, 0.42, 1.9, 0.6, -1.3, 0.11];
        let quantizer = Quantizer::per_axis(QFormat::parse("i2").unwrap(), 0, vec![0.4, 1.1], vec![0, -1]);
        let rounding = Rounding::new(&weights, &quantizer);
        (weights, quantizer, rounding)
    }

    #[test]
    fn at_the_start_soft_weights_are_the_weights_and_codes_the_nearest() {
        let (weights, q, r) = rounding();
        for (i, (soft, w)) in r.soft().iter().zip(&weights).enumerate() {
            let c = i / 4;
            let (lo, hi) = (q.dequantize(q.format.min(), c), q.dequantize(q.format.max(), c));
            assert!((soft - w.clamp(lo, hi)).abs() < 1e-5, "{soft} {w}");
            assert_eq!(i32::from(r.codes()[i]), q.quantize(*w, c));
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (_, _, mut r) = rounding();
        let dw: Vec<f32> = (0..8).map(|i| (i as f32 - 3.5) * 0.3).collect();
        for regularizer in [None, Some(Regularizer { lambda: 0.1, beta: 4.0 })] {
            let loss = |r: &Rounding| {
                let linear: f64 = r.soft().iter().zip(&dw).map(|(w, d)| f64::from(w * d)).sum();
                linear + regularizer.map_or(0.0, |p| r.penalty(p))
            };
            let found = r.gradient(&dw, regularizer);
            for (i, &found) in found.iter().enumerate() {
                let old = r.v[i];
                let mut at = |v: f32| {
                    r.v[i] = v;
                    loss(&r)
                };
                let slope = ((at(old + 1e-2) - at(old - 1e-2)) / 2e-2) as f32;
                r.v[i] = old;
                assert!((slope - found).abs() < 2e-3, "{i}: {slope} {found}");
            }
        }
        let found = r.scale_gradient(&dw);
        for (c, &found) in found.iter().enumerate() {
            let old = r.scale[c];
            let mut at = |s: f32| {
                r.scale[c] = s;
                r.soft().iter().zip(&dw).map(|(w, d)| f64::from(w * d)).sum::<f64>()
            };
            let slope = ((at(old + 1e-2) - at(old - 1e-2)) / 2e-2) as f32;
            r.scale[c] = old;
            assert!((slope - found).abs() < 1e-3, "{c}: {slope} {found}");
        }
    }

    #[test]
    fn the_regularizer_decides_every_weight() {
        let (_, _, mut r) = rounding();
        for _ in 0..2000 {
            r.step(&[0.0; 8], Some(Regularizer { lambda: 1.0, beta: 2.0 }), 1e-2);
        }
        let undecided = r.v.iter().filter(|v| (0.01..0.99).contains(&rectified(**v).0)).count();
        assert_eq!(undecided, 0, "{:?}", r.v);
        for (soft, code) in r.soft().iter().zip(r.codes()).take(4) {
            assert!((soft - 0.4 * f32::from(code)).abs() < 1e-2);
        }
    }
}
