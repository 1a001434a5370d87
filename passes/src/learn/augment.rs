//! Changes of images under which a network should compute much the same: more images to learn from than there are.

use catc_ir::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Which changes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Half of the batches are mirrored left to right.
    pub flip: bool,
    /// Batches are moved by up to one pixel in each direction, edges repeated.
    pub shift: bool,
}

impl Augment {
    /// Reads `none`, `flip`, `shift` or `flip+shift`.
    pub fn parse(text: &str) -> Option<Augment> {
        Some(match text {
            "none" => Augment::default(),
            "flip" => Augment { flip: true, shift: false },
            "shift" => Augment { flip: false, shift: true },
            "flip+shift" => Augment { flip: true, shift: true },
            _ => return None,
        })
    }

    /// What to say of it behind a number of images.
    pub(crate) fn description(self) -> &'static str {
        match (self.flip, self.shift) {
            (false, false) => "",
            (true, false) => ", half of them mirrored",
            (false, true) => ", moved by up to a pixel",
            (true, true) => ", half of them mirrored, moved by up to a pixel",
        }
    }

    /// The change of the next batch.
    pub(crate) fn draw(self, rng: &mut ChaCha8Rng) -> Change {
        let [flip, y, x, _] = rng.next_u32().to_le_bytes();
        let by = |b: u8| if self.shift { isize::from(b % 3) - 1 } else { 0 };
        Change { flip: self.flip && flip & 1 == 1, by: [by(y), by(x)] }
    }
}

/// One change, of all images of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    flip: bool,
    /// Pixels down and to the right.
    by: [isize; 2],
}

impl Change {
    /// Left and right change places.
    pub const MIRROR: Change = Change { flip: true, by: [0, 0] };

    /// Whether images stay as they are.
    pub fn is_none(self) -> bool {
        self == Change::default()
    }

    /// The changed tensor, if it is one of images `[n,C,H,W]` in f32; others stay as they are.
    pub fn apply(self, tensor: Tensor) -> Tensor {
        let (&[_, _, h, w], Some(x)) = (tensor.shape(), tensor.as_f32()) else { return tensor };
        if self.is_none() || h * w == 0 {
            return tensor;
        }
        let mut out = Vec::with_capacity(x.len());
        let from = |i: usize, by: isize, n: usize| (i as isize - by).clamp(0, n as isize - 1) as usize;
        for plane in x.chunks_exact(h * w) {
            for row in 0..h {
                let line = &plane[from(row, self.by[0], h) * w..][..w];
                let source = |column: usize| line[from(column, self.by[1], w)];
                if self.flip {
                    out.extend((0..w).rev().map(source));
                } else {
                    out.extend((0..w).map(source));
                }
            }
        }
        Tensor::f32(tensor.shape(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn images_are_mirrored_and_moved() {
        let image = || Tensor::f32(&[1, 1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let changed = |flip, by| Change { flip, by }.apply(image()).as_f32().unwrap().to_vec();
        assert_eq!(changed(true, [0, 0]), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        assert_eq!(changed(false, [1, 0]), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(changed(false, [0, -1]), [2.0, 3.0, 3.0, 5.0, 6.0, 6.0]);
        let row = Tensor::f32(&[1, 3], vec![1.0, 2.0, 3.0]);
        assert_eq!(Change { flip: true, by: [1, 1] }.apply(row.clone()), row);
    }

    #[test]
    fn what_is_not_asked_for_is_not_drawn() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut drawn = |text: &str| -> Vec<Change> {
            let augment = Augment::parse(text).unwrap();
            (0..100).map(|_| augment.draw(&mut rng)).collect()
        };
        assert!(drawn("none").iter().all(|c| c.is_none()));
        assert!(drawn("flip").iter().all(|c| c.by == [0, 0]));
        assert!(drawn("shift").iter().all(|c| !c.flip));
        let flips = drawn("flip+shift").iter().filter(|c| c.flip).count();
        assert!((30..70).contains(&flips), "{flips}");
        assert_eq!(Augment::parse("mirror"), None);
    }
}
