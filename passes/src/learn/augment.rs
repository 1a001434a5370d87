//! Changes of images under which a network should compute much the same: more images to learn from than there are.

use catc_ir::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Which changes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augment {
    /// Half of the images are mirrored left to right.
    pub flip: bool,
    /// Images are moved by up to a sixteenth of their size, at least a pixel, in each direction, edges repeated.
    pub shift: bool,
    /// Half of the batches are sums of two images (mixup, arXiv 1710.09412).
    pub mix: bool,
}

impl Augment {
    /// Reads `none`, or `flip`, `shift` and `mix` joined by `+`.
    pub fn parse(text: &str) -> Option<Augment> {
        let mut augment = Augment::default();
        if text == "none" {
            return Some(augment);
        }
        for name in text.split('+') {
            let place = match name {
                "flip" => &mut augment.flip,
                "shift" => &mut augment.shift,
                "mix" => &mut augment.mix,
                _ => return None,
            };
            if std::mem::replace(place, true) {
                return None;
            }
        }
        Some(augment)
    }

    /// What to say of it behind a number of images.
    pub(crate) fn description(self) -> String {
        let parts = [
            (self.flip, ", half of them mirrored"),
            (self.shift, ", moved by up to a sixteenth"),
            (self.mix, ", half of the batches mixed"),
        ];
        parts.into_iter().filter(|(made, _)| *made).map(|(_, text)| text).collect()
    }

    /// The changes of the next batch of so many images.
    pub(crate) fn draw(self, images: usize, rng: &mut ChaCha8Rng) -> Changes {
        let change = |rng: &mut ChaCha8Rng| {
            let [flip, y, x, _] = rng.next_u32().to_le_bytes();
            let by = |b: u8| if self.shift { f32::from(b) / 255.0 * 2.0 - 1.0 } else { 0.0 };
            Change { flip: self.flip && flip & 1 == 1, by: [by(y), by(x)] }
        };
        let images = (0..images).map(|_| change(rng)).collect();
        let [mixed, share, ..] = rng.next_u32().to_le_bytes();
        let share = if self.mix && mixed & 1 == 1 { f32::from(share) / 255.0 * 0.5 } else { 0.0 };
        Changes { images, share }
    }
}

/// The changes of a batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Changes {
    /// For each image.
    pub images: Vec<Change>,
    /// The part of each image that comes from the next one.
    pub share: f32,
}

impl Changes {
    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        self.share == 0.0 && self.images.iter().all(|c| *c == Change::default())
    }

    /// Mixes each image of a batch `[n, ..]` in f32 with the next, the last with the first.
    pub fn mix(&self, batch: Tensor) -> Tensor {
        let (Some(x), Some(&n)) = (batch.as_f32(), batch.shape().first()) else { return batch };
        if self.share == 0.0 || n == 0 {
            return batch;
        }
        let next = x[x.len() / n..].iter().chain(&x[..x.len() / n]);
        let mixed = x.iter().zip(next).map(|(a, b)| a + self.share * (b - a)).collect();
        Tensor::f32(batch.shape(), mixed)
    }
}

/// One change of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Change {
    flip: bool,
    /// How far down and to the right, in parts of the farthest.
    by: [f32; 2],
}

impl Change {
    /// Left and right change places.
    pub const MIRROR: Change = Change { flip: true, by: [0.0, 0.0] };

    /// The changed tensor, if it is one of images `[n,C,H,W]` in f32; others stay as they are.
    pub fn apply(self, tensor: Tensor) -> Tensor {
        let (&[_, _, h, w], Some(x)) = (tensor.shape(), tensor.as_f32()) else { return tensor };
        if self == Change::default() || h * w == 0 {
            return tensor;
        }
        let mut out = Vec::with_capacity(x.len());
        let pixels = |by: f32, n: usize| (by * (n / 16).max(1) as f32).round() as isize;
        let [down, right] = [pixels(self.by[0], h), pixels(self.by[1], w)];
        let from = |i: usize, by: isize, n: usize| (i as isize - by).clamp(0, n as isize - 1) as usize;
        for plane in x.chunks_exact(h * w) {
            for row in 0..h {
                let line = &plane[from(row, down, h) * w..][..w];
                let source = |column: usize| line[from(column, right, w)];
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
        assert_eq!(changed(true, [0.0, 0.0]), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        assert_eq!(changed(false, [1.0, 0.2]), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(changed(false, [0.0, -0.7]), [2.0, 3.0, 3.0, 5.0, 6.0, 6.0]);
        let wide = Tensor::f32(&[1, 1, 1, 32], (0..32).map(|i| i as f32).collect());
        let moved = Change { flip: false, by: [0.0, 1.0] }.apply(wide);
        assert_eq!(moved.as_f32().unwrap()[..4], [0.0, 0.0, 0.0, 1.0]);
        let row = Tensor::f32(&[1, 3], vec![1.0, 2.0, 3.0]);
        assert_eq!(Change { flip: true, by: [1.0, 1.0] }.apply(row.clone()), row);
        let batch = Tensor::f32(&[3, 1], vec![1.0, 2.0, 4.0]);
        let changes = Changes { images: vec![], share: 0.25 };
        assert_eq!(changes.mix(batch).as_f32().unwrap(), [1.25, 2.5, 3.25]);
    }

    #[test]
    fn what_is_not_asked_for_is_not_drawn() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut drawn = |text: &str| -> Vec<Changes> {
            let augment = Augment::parse(text).unwrap();
            (0..100).map(|_| augment.draw(2, &mut rng)).collect()
        };
        assert!(drawn("none").iter().all(|c| c.is_none()));
        assert!(drawn("flip").iter().all(|c| c.share == 0.0 && c.images.iter().all(|c| c.by == [0.0, 0.0])));
        assert!(drawn("shift+mix").iter().all(|c| c.images.iter().all(|c| !c.flip)));
        let all = drawn("flip+shift+mix");
        let flips = all.iter().flat_map(|c| &c.images).filter(|c| c.flip).count();
        assert!((60..140).contains(&flips), "{flips}");
        let mixed = all.iter().filter(|c| c.share > 0.0).count();
        assert!((30..70).contains(&mixed) && all.iter().all(|c| c.share <= 0.5), "{mixed}");
        for wrong in ["mirror", "flip+flip", "flip+none", ""] {
            assert_eq!(Augment::parse(wrong), None, "{wrong}");
        }
    }
}
