//! Convolutions of floats that the code generator emits, in 128-bit vectors.

use crate::dot::emitted::{arm_tile_cycles, x86_tile_cycles};
use crate::dot::{CHANNELS, DotProduct};
use crate::kernel::{ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, Refusal};
use crate::query::Query;
use crate::tier::{Architecture, Tier};
use crate::tile_sizes::TileQuery;

/// The emitted kernel.
#[derive(Debug)]
pub struct EmittedFloat(KernelInfo);

/// Multiplication and addition, fused if the tier has the instruction.
pub static FLOAT_128: EmittedFloat = EmittedFloat(KernelInfo {
    name: "float",
    tier: Tier::X86V2,
    implementation: Implementation::Emitted,
    superseded: &[Tier::X86V3],
    weight_bits: 32..=32,
    activation_bits: 32..=32,
    channels_per_vector: CHANNELS,
    units_per_step: 1,
    vector_bytes: 16,
    activations: ActivationFormat::Float,
});

/// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
const RATE: f64 = 5.0;

impl Kernel for EmittedFloat {
    fn info(&self) -> &KernelInfo {
        &self.0
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / RATE
    }

    fn execution(&self) -> Execution {
        Execution::EmittedDot(DotProduct::Floats)
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        if query.tier.architecture() == Architecture::Aarch64 {
            return arm_tile_cycles(DotProduct::Floats, query, pixels, vectors);
        }
        // Cycles of a step for one vector of sums, the latency of a sum in cycles, and the registers besides the sums and the smaller operand.
        let (cell, latency, spare) = if query.tier.fuses() { (0.5, 4.0, 1) } else { (1.0, 3.0, 2) };
        let exists = pixels * vectors + pixels.min(vectors) + spare <= 16;
        exists.then(|| x86_tile_cycles(query, (pixels, vectors), [cell, 0.0, latency]))
    }
}
