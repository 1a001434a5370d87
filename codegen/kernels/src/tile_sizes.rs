//! The choice of a layer's tile: the cheapest by estimated cycles, or a requested one.

use crate::kernel::KernelRef;
use crate::tier::Tier;

/// The requested tile of a kernel that has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TileOverride {
    /// The cheapest by estimated cycles.
    #[default]
    Cheapest,
    /// The tile of this rank by estimated cycles; rank 0 is the cheapest.
    Rank(usize),
    /// The tile with this many pixels and vectors, if there is one.
    Size(usize, usize),
}

/// The numbers on which the cost of a layer's tiles depends.
#[derive(Clone, Copy, Debug)]
pub struct TileQuery {
    /// Output pixels from which tiles are cut: those of a row, or those of the whole image where it has no gaps between rows.
    pub width: usize,
    /// Vectors of output channels of a group.
    pub vectors: usize,
    /// Steps of the reduction of an output.
    pub steps: usize,
    /// The instruction set of the code.
    pub tier: Tier,
    /// Whether activation codes are below 128, so that they also fit signed bytes.
    pub small_activations: bool,
    /// Whether the sum of two products of signed bytes fits 16 bits.
    pub pairs_fit: bool,
}

/// The largest sides of a tile.
const MAX_PIXELS: usize = 12;
const MAX_VECTORS: usize = 12;

impl TileQuery {
    fn cost(&self, kernel: KernelRef, pixels: usize, vectors: usize) -> Option<f64> {
        let sides = (1..=self.width.clamp(1, MAX_PIXELS)).contains(&pixels)
            && (1..=self.vectors.min(MAX_VECTORS)).contains(&vectors);
        if sides { kernel.tile_cycles(self, pixels, vectors) } else { None }
    }

    /// Cycles of all pixels with all vectors, including the smaller tiles at the edges.
    fn total(&self, kernel: KernelRef, pixels: usize, vectors: usize) -> f64 {
        let cost = |p, v| self.cost(kernel, p, v).unwrap_or(f64::INFINITY);
        let row = |v: usize| {
            let rest = self.width % pixels;
            (self.width / pixels) as f64 * cost(pixels, v) + if rest == 0 { 0.0 } else { cost(rest, v) }
        };
        let rest = self.vectors % vectors;
        (self.vectors / vectors) as f64 * row(vectors) + if rest == 0 { 0.0 } else { row(rest) }
    }

    /// Estimated cycles of a pixel with all vectors, by the cheapest tile.
    pub fn pixel_cycles(&self, kernel: KernelRef) -> f64 {
        let (pixels, vectors) = self.cheapest(kernel);
        self.total(kernel, pixels, vectors) / self.width.max(1) as f64
    }

    fn sizes(&self, kernel: KernelRef) -> impl Iterator<Item = (usize, usize)> {
        let all = (1..=MAX_VECTORS).flat_map(|v| (1..=MAX_PIXELS).map(move |p| (p, v)));
        all.filter(move |&(p, v)| self.cost(kernel, p, v).is_some())
    }

    /// Pixels and vectors of the cheapest tile. A larger tile must be cheaper by half a percent, because it needs more code.
    pub fn cheapest(&self, kernel: KernelRef) -> (usize, usize) {
        let mut best = (1, 1, f64::INFINITY);
        for (p, v) in self.sizes(kernel) {
            let found = self.total(kernel, p, v);
            if found < 0.995 * best.2 {
                best = (p, v, found);
            }
        }
        (best.0, best.1)
    }

    /// The requested tile, or the cheapest if there is no such tile.
    pub fn choose(&self, kernel: KernelRef, asked: TileOverride) -> (usize, usize) {
        match asked {
            TileOverride::Size(pixels, vectors) if self.cost(kernel, pixels, vectors).is_some() => (pixels, vectors),
            TileOverride::Rank(rank) => {
                let mut all: Vec<_> = self.sizes(kernel).map(|(p, v)| (self.total(kernel, p, v), p, v)).collect();
                all.sort_by(|a, b| a.0.total_cmp(&b.0));
                all.get(rank).map_or_else(|| self.cheapest(kernel), |&(_, p, v)| (p, v))
            }
            TileOverride::Size(..) | TileOverride::Cheapest => self.cheapest(kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Execution, Fit, Kernel, KernelInfo, Refusal};
    use crate::query::Query;

    /// Tiles of up to twelve cells.
    struct Twelve;

    impl Kernel for Twelve {
        fn info(&self) -> &KernelInfo {
            crate::float::emitted::FLOAT_128.info()
        }

        fn supports(&self, _: &Query<'_>) -> Result<Fit, Refusal> {
            Ok(Fit::default())
        }

        fn cycles(&self, _: &Query<'_>, _: Fit) -> f64 {
            1.0
        }

        fn execution(&self) -> Execution {
            Execution::EmittedPairs
        }

        fn tile_cycles(&self, _: &TileQuery, p: usize, v: usize) -> Option<f64> {
            (p * v <= 12).then_some((p * v + p + v + 2) as f64)
        }
    }

    #[test]
    fn a_tile_that_is_asked_for_must_exist() {
        let kernel = KernelRef::new(&Twelve);
        let tiles =
            TileQuery { width: 7, vectors: 5, steps: 1, tier: Tier::X86V2, small_activations: false, pairs_fit: false };
        let cheapest = tiles.cheapest(kernel);
        assert_eq!(tiles.choose(kernel, TileOverride::Cheapest), cheapest);
        assert_eq!(tiles.choose(kernel, TileOverride::Size(3, 4)), (3, 4));
        for (p, v) in [(0, 1), (1, 0), (4, 4), (8, 1), (1, 6), (usize::MAX, usize::MAX)] {
            assert_eq!(tiles.choose(kernel, TileOverride::Size(p, v)), cheapest, "{p} {v}");
        }
        let ranked: Vec<_> = (0..8).map(|rank| tiles.choose(kernel, TileOverride::Rank(rank))).collect();
        assert!(ranked.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(tiles.choose(kernel, TileOverride::Rank(10_000)), cheapest);
    }
}
