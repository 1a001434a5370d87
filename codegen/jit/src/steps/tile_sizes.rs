//! Which tile of a kernel a layer takes: the cheapest by a count of cycles, or one that is asked for.

use crate::plan::wish::TileWish;

/// The tiles of a kernel: up to how many pixels and vectors, which of them there are, and what one costs in cycles.
pub(crate) struct Tiles<'a> {
    /// Pixels of a row.
    pub width: usize,
    /// Vectors of output channels of a group.
    pub vectors: usize,
    pub exists: &'a dyn Fn(usize, usize) -> bool,
    pub cost: &'a dyn Fn(usize, usize) -> f64,
}

/// The largest sides of a tile.
const MOST_PIXELS: usize = 12;
const MOST_VECTORS: usize = 12;

impl Tiles<'_> {
    fn allows(&self, pixels: usize, vectors: usize) -> bool {
        let sides = pixels >= 1 && pixels <= self.width.clamp(1, MOST_PIXELS);
        sides && vectors >= 1 && vectors <= self.vectors.min(MOST_VECTORS) && (self.exists)(pixels, vectors)
    }

    /// What a row of pixels costs with all vectors, what is left at the edges included.
    fn total(&self, pixels: usize, vectors: usize) -> f64 {
        let row = |v: usize| {
            let rest = self.width % pixels;
            (self.width / pixels) as f64 * (self.cost)(pixels, v) + if rest == 0 { 0.0 } else { (self.cost)(rest, v) }
        };
        let rest = self.vectors % vectors;
        (self.vectors / vectors) as f64 * row(vectors) + if rest == 0 { 0.0 } else { row(rest) }
    }

    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        let all = (1..=MOST_VECTORS).flat_map(|v| (1..=MOST_PIXELS).map(move |p| (p, v)));
        all.filter(|&(p, v)| self.allows(p, v))
    }

    /// Pixels and vectors of the tile with the least cost. Larger tiles, which are more code, must be better by half a percent.
    pub fn cheapest(&self) -> (usize, usize) {
        let mut best = (1, 1, f64::INFINITY);
        for (p, v) in self.sizes() {
            let found = self.total(p, v);
            if found < 0.995 * best.2 {
                best = (p, v, found);
            }
        }
        (best.0, best.1)
    }

    /// The tile that is asked for, or the cheapest if there is no such tile.
    pub fn choose(&self, wish: TileWish) -> (usize, usize) {
        match wish {
            TileWish::Size(pixels, vectors) if self.allows(pixels, vectors) => (pixels, vectors),
            TileWish::Rank(rank) => {
                let mut all: Vec<_> = self.sizes().map(|(p, v)| (self.total(p, v), p, v)).collect();
                all.sort_by(|a, b| a.0.total_cmp(&b.0));
                all.get(rank).map_or_else(|| self.cheapest(), |&(_, p, v)| (p, v))
            }
            _ => self.cheapest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_that_is_asked_for_must_exist() {
        let exists = |p: usize, v: usize| p * v <= 12;
        let cost = |p: usize, v: usize| (p * v + p + v + 2) as f64;
        let tiles = Tiles { width: 7, vectors: 5, exists: &exists, cost: &cost };
        let cheapest = tiles.cheapest();
        assert_eq!(tiles.choose(TileWish::Cheapest), cheapest);
        assert_eq!(tiles.choose(TileWish::Size(3, 4)), (3, 4));
        for (p, v) in [(0, 1), (1, 0), (4, 4), (8, 1), (1, 6), (usize::MAX, usize::MAX)] {
            assert_eq!(tiles.choose(TileWish::Size(p, v)), cheapest, "{p} {v}");
        }
        let ranked: Vec<_> = (0..8).map(|rank| tiles.choose(TileWish::Rank(rank))).collect();
        assert!(ranked.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(tiles.choose(TileWish::Rank(10_000)), cheapest);
    }
}
