//! Dot products that the code generator emits, in 128-bit vectors.

use super::{CHANNELS, DotProduct, UNITS, drain};
use crate::kernel::{ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, Refusal};
use crate::query::Query;
use crate::tier::{Architecture, Tier};
use crate::tile_sizes::TileQuery;

/// An emitted dot product of codes.
#[derive(Debug)]
pub struct EmittedDot {
    info: KernelInfo,
    product: DotProduct,
    costs: Costs,
}

/// The costs of a kernel on x86-64.
#[derive(Debug)]
struct Costs {
    /// Multiply-accumulates per cycle. For x86-64, measured on 3x3 layers on an Intel Xeon (Emerald Rapids); for AArch64, whose CPUs differ,
    /// estimated from instruction counts.
    rate: f64,
    /// Cycles of a step per vector of sums (`cell`) and per pixel (`pixel`).
    cell: f64,
    pixel: f64,
    /// Latency of a sum, in cycles.
    latency: f64,
    /// Registers needed besides the sums and the smaller operand.
    spare: usize,
}

const fn info(name: &'static str, tier: Tier, units_per_step: usize) -> KernelInfo {
    KernelInfo {
        name,
        tier,
        implementation: Implementation::Emitted,
        superseded: &[Tier::X86V3],
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        channels_per_vector: CHANNELS,
        units_per_step,
        vector_bytes: 16,
        activations: ActivationFormat::Byte,
    }
}

/// Four-way products of unsigned and signed bytes in one `vpdpbusd`.
pub static VNNI: EmittedDot = EmittedDot {
    info: info("dot-vnni", Tier::X86V3Vnni, UNITS),
    product: DotProduct::Fours,
    costs: Costs { rate: 30.5, cell: 0.5, pixel: 0.0, latency: 5.0, spare: 1 },
};

/// Sums of two products of bytes in 16 bits: `pmaddubsw`, or `smull` and `addp`.
pub static MADDUBS: EmittedDot = EmittedDot {
    info: info("dot-maddubs", Tier::X86V2, UNITS),
    product: DotProduct::Pairs,
    costs: Costs { rate: 20.0, cell: 0.7, pixel: 0.0, latency: 1.0, spare: 2 },
};

/// Bytes widened to 16 bits: `pmaddwd`. Widening the codes of a pixel takes a shuffle.
pub static MADD16: EmittedDot = EmittedDot {
    info: info("dot-madd16", Tier::X86V2, UNITS / 2),
    product: DotProduct::WidePairs,
    costs: Costs { rate: 10.0, cell: 0.67, pixel: 0.37, latency: 1.0, spare: 3 },
};

/// Four-way products of signed bytes: by `sdot` if the tier has it, else by `smull` and pairwise additions.
pub static SIGNED: EmittedDot = EmittedDot {
    info: info("dot-signed", Tier::Aarch64Neon, UNITS),
    product: DotProduct::SignedFours,
    costs: Costs { rate: 24.0, cell: 1.0, pixel: 0.0, latency: 0.0, spare: 0 },
};

/// Four-way products of unsigned and signed bytes in one `usdot`.
pub static USDOT: EmittedDot = EmittedDot {
    info: info("dot-usdot", Tier::Aarch64I8mm, UNITS),
    product: DotProduct::Fours,
    costs: Costs { rate: 28.0, cell: 1.0, pixel: 0.0, latency: 0.0, spare: 0 },
};

/// On AArch64 without `sdot`, the fewest steps between drains for which 16-bit sums are faster than 32-bit sums of four products.
const MIN_ARM_STEPS: usize = 4;

/// Multiply-accumulates per cycle on AArch64 without `sdot`: of 32-bit sums of four products, and of 16-bit sums that must be widened often.
const SLOW_ARM_RATE: f64 = 8.0;
const SLOWEST_ARM_RATE: f64 = 4.0;

impl EmittedDot {
    fn rate(&self, query: &Query<'_>, fit: Fit) -> f64 {
        let tier = query.kernels.tier;
        if tier.architecture() == Architecture::X86_64 || tier.includes(Tier::Aarch64Dotprod) {
            return self.costs.rate;
        }
        let bytes = query.codes.is_some_and(|codes| codes.activation_bits == 8);
        match self.product {
            DotProduct::SignedFours => SLOW_ARM_RATE,
            DotProduct::Pairs if fit.steps_per_drain >= MIN_ARM_STEPS && !bytes => self.costs.rate,
            DotProduct::Pairs | DotProduct::WidePairs | DotProduct::Fours | DotProduct::Floats => SLOWEST_ARM_RATE,
        }
    }
}

impl Kernel for EmittedDot {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        if self.product != DotProduct::Pairs {
            return Ok(Fit::default());
        }
        let fit = drain(query)?;
        if fit.steps_per_drain == 0 { Err(Refusal::new("a sum of two products may exceed 16 bits")) } else { Ok(fit) }
    }

    fn cycles(&self, query: &Query<'_>, fit: Fit) -> f64 {
        query.macs() / self.rate(query, fit)
    }

    fn execution(&self) -> Execution {
        Execution::EmittedDot(self.product)
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        match query.tier.architecture() {
            Architecture::Aarch64 => arm_tile_cycles(self.product, query, pixels, vectors),
            Architecture::X86_64 => {
                let Costs { cell, pixel, latency, spare, .. } = self.costs;
                // `vpdpbusd` can read the codes of a single pixel from memory, without a register.
                let waiting = if pixels == 1 && self.product == DotProduct::Fours { 0 } else { pixels.min(vectors) };
                let exists = pixels * vectors + waiting + spare <= 16;
                exists.then(|| x86_tile_cycles(query, (pixels, vectors), [cell, pixel, latency]))
            }
        }
    }
}

/// Estimated cycles of a tile on x86-64. A step takes `cell` cycles per vector of sums and `pixel` cycles per pixel, but at least `latency`.
pub(crate) fn x86_tile_cycles(
    query: &TileQuery,
    (pixels, vectors): (usize, usize),
    [cell, pixel, latency]: [f64; 3],
) -> f64 {
    let (p, v) = (pixels as f64, vectors as f64);
    let stores = (v / 4.0).ceil();
    let step = ((cell * v + pixel) * p).max(latency).max((p + v) * 0.4);
    query.steps as f64 * step + p * (2.5 * v + 4.0 * stores) + 20.0
}

/// Estimated cost of a tile on AArch64, as a count of instructions: CPUs differ, but all execute two to four instructions per cycle.
pub(crate) fn arm_tile_cycles(product: DotProduct, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
    let dotprod = query.tier.includes(Tier::Aarch64Dotprod);
    // Instructions of a step per vector of sums, and their temporary registers.
    let (cell, temporary) = match product {
        DotProduct::Fours | DotProduct::Floats => (1.0, 0),
        DotProduct::SignedFours if dotprod => (1.0, 0),
        DotProduct::SignedFours => (if query.pairs_fit { 5.0 } else { 6.0 }, 2),
        DotProduct::Pairs | DotProduct::WidePairs => (4.0, 2),
    };
    // 128 is subtracted from 8-bit codes, which takes a register and an instruction.
    let centred = product == DotProduct::SignedFours && !query.small_activations;
    // One load has the activations of four steps. Floats are multiplied by a lane of it directly, bytes by a broadcast copy of the lane.
    let (copies, copy) = if product == DotProduct::Floats { (0.0, 0) } else { (1.0, 1) };
    let waiting = if vectors <= pixels { vectors + copy } else { pixels * copy + 1 };
    if pixels * vectors + pixels + waiting + temporary + usize::from(centred) > 31 {
        return None;
    }
    let broadcast = 0.25 + copies + if centred { 0.25 } else { 0.0 };
    let (p, v) = (pixels as f64, vectors as f64);
    let stores = (v / 4.0).ceil();
    // Fewer independent sums than this do not hide the latency of an addition.
    let cells = (cell * p * v).max(8.0);
    Some(query.steps as f64 * (cells + broadcast * p + v) + p * (5.0 * v + 4.0 * stores) + 20.0)
}
