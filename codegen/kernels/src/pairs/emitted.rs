//! Look-ups of two channels that the code generator emits, in 128-bit vectors.

use super::rows;
use crate::kernel::{ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, Refusal};
use crate::query::Query;
use crate::tier::{Architecture, Tier};
use crate::tile_sizes::TileQuery;

/// The emitted kernel.
#[derive(Debug)]
pub struct EmittedPairs(KernelInfo);

/// Look-ups by `pshufb` or `tbl`. It is not faster than `sdot`: one `tbl` and one `add` compute the 32 products of two `sdot`, and also need
/// a table row for each pixel.
pub static PAIRS_128: EmittedPairs = EmittedPairs(KernelInfo {
    name: "pairs-128",
    tier: Tier::X86V2,
    implementation: Implementation::Emitted,
    superseded: &[Tier::X86V3, Tier::Aarch64Dotprod],
    weight_bits: 2..=2,
    activation_bits: 2..=2,
    channels_per_vector: rows::CHANNELS,
    units_per_step: 1,
    vector_bytes: 16,
    activations: ActivationFormat::RowOffset,
});

/// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
const RATE: f64 = 44.5;

/// The largest reduction with at most [`rows::DRAINS_PER_SPILL`] drains, if each follows at least half of the steps that it may.
const MAX_REDUCTION: usize = rows::DRAINS_PER_SPILL * 14 * 2;

impl Kernel for EmittedPairs {
    fn info(&self) -> &KernelInfo {
        &self.0
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        let shape = &query.shape;
        if shape.groups > 1 && !shape.inputs.is_multiple_of(2) {
            return Err(Refusal::new("needs an even number of input channels per group"));
        }
        if query.largest_result() > i16::MAX as u64 {
            // The result needs 32 bits, and 16-bit accumulators overflow after `DRAINS_PER_SPILL` drains.
            let drains =
                shape.kernel_height * shape.kernel_width * shape.inputs.div_ceil(2).div_ceil(rows::STEPS_PER_DRAIN);
            if shape.reduction() > MAX_REDUCTION || drains > rows::DRAINS_PER_SPILL {
                return Err(Refusal::new("16-bit accumulators may overflow before they are widened"));
            }
        }
        Ok(Fit { steps_per_drain: rows::STEPS_PER_DRAIN })
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / RATE
    }

    fn execution(&self) -> Execution {
        Execution::EmittedPairs
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        let (p, v, steps) = (pixels as f64, vectors as f64, query.steps as f64);
        if query.tier.architecture() == Architecture::Aarch64 {
            // Counts instructions: a look-up and an addition per vector of sums, an offset and a row per pixel, and sometimes the widening.
            let drains = (steps / rows::STEPS_PER_DRAIN as f64).ceil();
            let cycles = steps * (2.0 * p * v + 2.0 * p + v) + p * v * (7.0 * drains + 40.0) + 20.0;
            return (pixels * vectors <= 16 && pixels <= 8).then_some(cycles);
        }
        // Measured cycles of a look-up. Its two micro-operations share three vector ports, if enough look-ups share the loads.
        let look_up = match (pixels, vectors) {
            (_, 1) => 0.89,
            (1, 2) => 0.8,
            (1, _) => 0.71,
            _ => 0.667,
        };
        // Weights that do not fit the first-level cache are loaded at about 24 bytes per cycle.
        let streamed = if v * 16.0 * steps > 32e3 { v * 16.0 / 24.0 } else { 0.0 };
        // Sums, indices, a table row and a look-up must fit sixteen registers.
        let cells = pixels * vectors;
        let exists = cells <= 8 && cells + vectors + 2 <= 16 && vectors <= 4;
        exists.then_some(steps * (cells as f64 * look_up).max(streamed) + 20.0)
    }
}
