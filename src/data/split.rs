//! Parts of a data set, drawn at random.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::error::DataError;

/// Two disjoint lists of sample indices, each ascending, together all samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleSplit {
    /// Samples to fit on.
    pub fit: Vec<usize>,
    /// Samples held apart.
    pub held_out: Vec<usize>,
}

/// Draws `held_out` of `n` samples to be held apart from the others.
///
/// A Fisher-Yates shuffle by ChaCha8: the same seed gives the same split on every machine.
///
/// # Errors
/// [`DataError::Split`] if either side would be empty.
pub fn split(n: usize, held_out: usize, seed: u64) -> Result<SampleSplit, DataError> {
    if held_out == 0 || held_out >= n {
        return Err(DataError::Split { n, held_out });
    }
    let mut order = shuffled_start(n, held_out, &mut ChaCha8Rng::seed_from_u64(seed));
    let mut fit = order.split_off(held_out);
    fit.sort_unstable();
    order.sort_unstable();
    Ok(SampleSplit { fit, held_out: order })
}

/// Draws `count` of `n` samples, ascending; all of them if there are no more. It uses another random stream than [`split`], so that a later
/// split of the drawn samples is independent of the draw.
pub fn draw(n: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    let mut order = shuffled_start(n, count.min(n), &mut rng);
    order.truncate(count);
    order.sort_unstable();
    order
}

/// The numbers below `n`, of which the first `count` were drawn at random.
fn shuffled_start(n: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for place in 0..count {
        order.swap(place, place + below((n - place) as u64, rng) as usize);
    }
    order
}

/// Uniform below `bound`, which is at least 1; draws that would favour some values are repeated.
fn below(bound: u64, rng: &mut ChaCha8Rng) -> u64 {
    let fair = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < fair {
            return draw % bound;
        }
    }
}
