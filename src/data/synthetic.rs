//! Numbers from a seed, for calibration without data.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Fills a sample with independent standard normal values.
///
/// The values depend on `seed`, `input` (which input of the network) and `sample` alone, so that samples can be made in any
/// order and by any thread. ChaCha8 gives the bits, Box-Muller the distribution, in float64.
pub(super) fn fill_normal(values: &mut [f32], seed: u64, input: u16, sample: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((u64::from(input) << 48) ^ sample);
    for pair in values.chunks_mut(2) {
        // In (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - uniform(&mut rng)).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * uniform(&mut rng)).sin_cos();
        for (value, factor) in pair.iter_mut().zip([cosine, sine]) {
            *value = (radius * factor) as f32;
        }
    }
}

/// Fills a sample with independent whole numbers from `low` to `high`, each of the same probability; seeds as in [`fill_normal`].
pub(super) fn fill_whole(values: &mut [i64], (low, high): (i64, i64), seed: u64, input: u16, sample: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((u64::from(input) << 48) ^ sample);
    let count = i128::from(high) - i128::from(low) + 1;
    for value in values {
        let drawn = (uniform(&mut rng) * count as f64) as i128;
        *value = (i128::from(low) + drawn).clamp(low.into(), high.into()) as i64;
    }
}

/// Uniform in [0, 1), a multiple of 2^-53.
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}
