//! Which calibration images are learned from, and which decide whether that helped.

use crate::refine::split::{MIN_HELD_OUT, MIN_IMAGES};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// One image in this many decides.
const HELD_OUT_SHARE: usize = 8;

/// Images by their index in the calibration set. Every pass that learns draws the same two parts for the same seed, so that no pass
/// is judged on images that one before it was fitted to.
pub(crate) struct Folds {
    /// To learn from, in random order.
    pub fit: Vec<usize>,
    /// Others, that decide.
    pub held_out: Vec<usize>,
}

impl Folds {
    /// Divides `available` images. The error says how many it takes.
    pub fn draw(available: usize, seed: u64) -> Result<Folds, String> {
        let needed = MIN_IMAGES + MIN_HELD_OUT;
        if available < needed {
            return Err(format!("{available} calibration images are too few, it takes {needed}"));
        }
        let mut order: Vec<usize> = (0..available).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let fit = order.split_off((available / HELD_OUT_SHARE).max(MIN_HELD_OUT));
        Ok(Folds { fit, held_out: order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_the_same_each_time_and_drawn_from_everywhere() {
        for (available, held_out) in [(24, 8), (100, 12), (1024, 128)] {
            let folds = Folds::draw(available, 3).unwrap();
            assert_eq!((folds.fit.len(), folds.held_out.len()), (available - held_out, held_out));
            assert_eq!(folds.held_out, Folds::draw(available, 3).unwrap().held_out);
            let mut all: Vec<usize> = folds.fit.iter().chain(&folds.held_out).copied().collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..available));
            let late = folds.held_out.iter().filter(|i| **i >= available / 2).count();
            assert!(late > 0 && late < held_out, "{late} of {held_out} from the second half");
        }
        assert!(Folds::draw(23, 0).is_err());
    }
}
