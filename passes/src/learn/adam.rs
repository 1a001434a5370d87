//! Adam (arXiv 1412.6980, algorithm 1) with beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8.

use rayon::prelude::*;

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// The moments of the gradients of some parameters.
pub(crate) struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Adam {
    /// For this many parameters.
    pub fn new(parameters: usize) -> Adam {
        Adam { first: vec![0.0; parameters], second: vec![0.0; parameters], steps: 0 }
    }

    /// One step of size `rate` against `gradient`, which has as many elements as `x`.
    pub fn step(&mut self, x: &mut [f32], gradient: &[f32], rate: f64) {
        self.steps = self.steps.saturating_add(1);
        let (b1, b2) = (0.9f32, 0.999f32);
        let rate = (rate / (1.0 - 0.9f64.powi(self.steps))) as f32;
        let correction = (1.0 / (1.0 - 0.999f64.powi(self.steps))) as f32;
        let update = |x: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]| {
            for ((x, g), (m, v)) in x.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *x -= rate * *m / ((*v * correction).sqrt() + 1e-8);
            }
        };
        let parameters = x.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        let moments = self.first.par_chunks_mut(CHUNK).zip(self.second.par_chunks_mut(CHUNK));
        parameters.zip(moments).for_each(|((x, g), (m, v))| update(x, g, m, v));
    }
}

/// A rate that falls from `rate` to 0 along half a cosine over `steps` steps.
pub(crate) fn cosine(rate: f64, step: usize, steps: usize) -> f64 {
    rate * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps.max(1) as f64).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_steps_have_the_size_of_the_rate_and_a_minimum_is_found() {
        let mut x = vec![1.0f32, -2.0, 0.0];
        Adam::new(3).step(&mut x, &[0.5, -1e-3, 0.0], 0.01);
        assert!((x[0] - 0.99).abs() < 1e-5 && (x[1] + 1.99).abs() < 1e-4 && x[2] == 0.0, "{x:?}");
        // (x - 3)^2 from 0.
        let (mut x, mut adam) = (vec![0.0f32], Adam::new(1));
        for step in 0..400 {
            let gradient = [2.0 * (x[0] - 3.0)];
            adam.step(&mut x, &gradient, cosine(0.1, step, 400));
        }
        assert!((x[0] - 3.0).abs() < 1e-2, "{x:?}");
    }

    #[test]
    fn the_cosine_ends_at_zero() {
        assert_eq!(cosine(2.0, 0, 10), 2.0);
        assert!((cosine(2.0, 5, 10) - 1.0).abs() < 1e-12 && cosine(2.0, 10, 10).abs() < 1e-12);
    }
}
