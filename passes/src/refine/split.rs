//! The division of the calibration set: images to fit to, and held-out images that decide whether the fit helped.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Images to fit to, at least.
pub(crate) const MIN_IMAGES: usize = 16;
/// Images that decide, at least.
pub(crate) const MIN_HELD_OUT: usize = 8;

/// Images by their index in the calibration set.
pub(crate) struct FitSplit {
    pub fit: Vec<usize>,
    pub held_out: Vec<usize>,
}

impl FitSplit {
    /// Draws `wanted` images to fit to (or as many as there are without the held-out ones; at least [`MIN_IMAGES`]) and half as
    /// many held-out ones.
    ///
    /// Calibration sets are often sorted by class, so both parts are drawn from all of it. The error says how many images it takes.
    pub fn draw(available: usize, wanted: usize, seed: u64) -> Result<FitSplit, String> {
        let needed = MIN_IMAGES + MIN_HELD_OUT;
        if available < needed {
            return Err(format!("{available} calibration images are too few; at least {needed} are needed"));
        }
        let most = available - (available / 3).max(MIN_HELD_OUT);
        let images = wanted.clamp(MIN_IMAGES, most);
        let held_out = (images / 2).max(MIN_HELD_OUT).min(available - images);
        let mut order: Vec<usize> = (0..available).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let held_out = order[images..images + held_out].to_vec();
        order.truncate(images);
        Ok(FitSplit { fit: order, held_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_disjoint_and_drawn_from_everywhere() {
        for (available, wanted, fit, held_out) in
            [(24, 1000, 16, 8), (1024, 256, 256, 128), (1024, 4, 16, 8), (300, 1000, 200, 100)]
        {
            let split = FitSplit::draw(available, wanted, 3).unwrap();
            assert_eq!((split.fit.len(), split.held_out.len()), (fit, held_out));
            let mut all: Vec<usize> = split.fit.iter().chain(&split.held_out).copied().collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), fit + held_out);
            let late = split.held_out.iter().filter(|i| **i >= available / 2).count();
            assert!(late > 0 && late < held_out, "{late} of {held_out} from the second half");
        }
        assert!(FitSplit::draw(23, 16, 0).is_err());
    }
}
