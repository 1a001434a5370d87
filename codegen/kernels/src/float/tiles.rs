//! Products of floats by precompiled tiles of sums: the kernel, whatever its instruction set.

use crate::function::Function;
use crate::kernel::{Execution, Fit, Kernel, KernelInfo, Refusal, SumTiles, TileWeights};
use crate::query::Query;
use crate::tile_sizes::TileQuery;

/// Convolutions of floats by tiles of sums.
#[derive(Debug)]
pub struct FloatTiles {
    /// What is the same for every layer.
    pub info: KernelInfo,
    /// The tile.
    pub tile: &'static Function,
    /// Whether there is a tile of that many pixels and vectors.
    pub exists: fn(usize, usize) -> bool,
    /// From sums to the store.
    pub epilogue: &'static Function,
    /// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
    pub rate: f64,
}

impl Kernel for FloatTiles {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / self.rate
    }

    fn execution(&self) -> Execution {
        let FloatTiles { tile, epilogue, .. } = *self;
        Execution::SumTiles(SumTiles { tile, weights: TileWeights::Floats, epilogue, fuses: false })
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        let (p, v) = (pixels as f64, vectors as f64);
        // Half a cycle for each product, a latency of four, two loads a cycle; then the call and the epilogue.
        let step = (0.5 * p * v).max(4.0).max((p + v) * 0.5);
        let end = p * v * self.info.channels_per_vector as f64 * 0.25 + 40.0;
        (self.exists)(pixels, vectors).then_some(query.steps as f64 * step + end)
    }
}
