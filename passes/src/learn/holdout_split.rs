//! The division of the calibration set: images to learn from, and held-out images that decide whether learning helped.

use crate::refine::split::{MIN_HELD_OUT, MIN_IMAGES};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// One image in this many decides.
const HELD_OUT_SHARE: usize = 8;

/// Images by their index in the calibration set. Every pass that learns draws the same two parts for the same seed, so that no pass
/// is judged on images that one before it was fitted to.
pub(crate) struct HoldoutSplit {
    /// To learn from, in random order.
    pub fit: Vec<usize>,
    /// Others, that decide.
    pub held_out: Vec<usize>,
}

impl HoldoutSplit {
    /// Divides `available` images. The error says how many it takes.
    pub fn draw(available: usize, seed: u64) -> Result<HoldoutSplit, String> {
        let needed = MIN_IMAGES + MIN_HELD_OUT;
        if available < needed {
            return Err(format!("{available} calibration images are too few; at least {needed} are needed"));
        }
        let mut order: Vec<usize> = (0..available).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let fit = order.split_off((available / HELD_OUT_SHARE).max(MIN_HELD_OUT));
        Ok(HoldoutSplit { fit, held_out: order })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_the_same_each_time_and_drawn_from_everywhere() {
        for (available, held_out) in [(24, 8), (100, 12), (1024, 128)] {
            let split = HoldoutSplit::draw(available, 3).unwrap();
            assert_eq!((split.fit.len(), split.held_out.len()), (available - held_out, held_out));
            assert_eq!(split.held_out, HoldoutSplit::draw(available, 3).unwrap().held_out);
            let mut all: Vec<usize> = split.fit.iter().chain(&split.held_out).copied().collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..available));
            let late = split.held_out.iter().filter(|i| **i >= available / 2).count();
            assert!(late > 0 && late < held_out, "{late} of {held_out} from the second half");
        }
        assert!(HoldoutSplit::draw(23, 0).is_err());
    }
}
