//! Dot products by precompiled tiles of sums: the kernel for every instruction set.

use super::{UNITS, drain};
use crate::function::Function;
use crate::kernel::{Execution, Fit, Kernel, KernelInfo, Refusal, SumTiles, TileWeights};
use crate::query::Query;
use crate::tile_sizes::TileQuery;

/// A dot product of codes by tiles of sums.
#[derive(Debug)]
pub struct DotTiles {
    /// The properties that are the same for every layer.
    pub info: KernelInfo,
    /// The function that computes a tile of sums.
    pub tile: &'static Function,
    /// Whether there is a tile with this many pixels and vectors.
    pub exists: fn(usize, usize) -> bool,
    /// The type of a packed weight.
    pub weights: TileWeights,
    /// The epilogue, from sums to stored values.
    pub epilogue: &'static Function,
    /// Whether the epilogue supports [`crate::epilogue::store::AFFINE`].
    pub fuses: bool,
    /// For kernels with 16-bit sums: the fewest steps between drains for which they are faster than kernels with 32-bit sums.
    pub min_steps_per_drain: Option<usize>,
    /// Its costs.
    pub costs: Costs,
}

/// The costs of a kernel, in cycles measured on an Intel Xeon (Emerald Rapids).
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Estimates for a whole layer, per vector of output channels: of four codes, and of the epilogue.
    pub layer: [f64; 2],
    /// Estimates for a tile: of a step per vector of sums, of a step per pixel, and of the epilogue per vector.
    pub tile: [f64; 3],
}

impl Kernel for DotTiles {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        let Some(least) = self.min_steps_per_drain else { return Ok(Fit::default()) };
        let fit = drain(query)?;
        if fit.steps_per_drain < least {
            return Err(Refusal::new(format!(
                "16-bit sums hold only {n} steps, and it needs {least}",
                n = fit.steps_per_drain
            )));
        }
        Ok(fit)
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        let (shape, [step, end]) = (query.shape, self.costs.layer);
        let vectors = shape.groups * shape.outputs.div_ceil(self.info.channels_per_vector);
        let steps = shape.kernel_height * shape.kernel_width * shape.inputs.div_ceil(UNITS);
        query.pixels() * vectors as f64 * (step * steps as f64 + end)
    }

    fn execution(&self) -> Execution {
        let DotTiles { tile, weights, epilogue, fuses, .. } = *self;
        Execution::SumTiles(SumTiles { tile, weights, epilogue, fuses })
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        let [product, pixel, end] = self.costs.tile;
        let (p, v) = (pixels as f64, vectors as f64);
        // A sum has a latency of five cycles, and there are two loads per cycle. The rest is the epilogue and the call.
        let step = ((product * v + pixel) * p).max(5.0).max((p + v) * 0.5);
        let cycles = query.steps as f64 * step + p * (v * end + 4.0) + 40.0;
        (self.exists)(pixels, vectors).then_some(cycles)
    }
}
