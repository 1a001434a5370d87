//! The two kinds of look-up tiles: what generated code must know of them.

use super::conv::{ConvStore, Lowering};
use super::tile_sizes::Tiles;
use catc_kernels::lanes::Order;
use catc_kernels::precompiled::finish::{Program, function};
use catc_kernels::precompiled::lookup::{PixelSums, takes};
use catc_kernels::precompiled::{
    FINISH_256, FINISH_512, LOOKUP_256, LOOKUP_PACK_256, LOOKUP_PACK_VBMI, LOOKUP_RESULTS_256, LOOKUP_RESULTS_VBMI,
    LOOKUP_VBMI,
};
use catc_kernels::{KernelId, PackError, QuantizedWeights, WeightLayout, pairs, triples};

/// The highest code of a shortcut that the tile of pairs takes.
const MOST_PAIR_LEVELS: u8 = 7;

/// What the kernels differ in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub kernel: KernelId,
    pub pack: &'static str,
    /// The tile of sums, and the epilogue that follows it.
    pub look_up: &'static str,
    pub finish: &'static str,
    /// The tile of results, with an epilogue in it.
    pub results: &'static str,
    /// Input channels of a look-up.
    pub together: usize,
    /// Bytes of an offset.
    pub offset_bytes: usize,
    /// Bytes of the sums over a pixel.
    pub sum_bytes: usize,
    /// Output channels of a vector.
    pub lanes: usize,
    /// What the tile of results multiplies sums by before its epilogue.
    pub sum_scale: i32,
    /// Whether the epilogue behind sums knows the one that is fused.
    pub fuses_after_sums: bool,
}

/// Look-ups of three channels.
pub(crate) const TRIPLES: Kind = Kind {
    kernel: KernelId::Lookup512,
    pack: LOOKUP_PACK_VBMI,
    look_up: LOOKUP_VBMI,
    finish: FINISH_512,
    results: LOOKUP_RESULTS_VBMI,
    together: 3,
    offset_bytes: 2,
    sum_bytes: size_of::<PixelSums>(),
    lanes: triples::CHANNELS,
    sum_scale: -65536,
    fuses_after_sums: true,
};

/// Look-ups of two channels.
pub(crate) const PAIRS: Kind = Kind {
    kernel: KernelId::Lookup256,
    pack: LOOKUP_PACK_256,
    look_up: LOOKUP_256,
    finish: FINISH_256,
    results: LOOKUP_RESULTS_256,
    together: 2,
    offset_bytes: 1,
    sum_bytes: 0,
    lanes: pairs::CHANNELS,
    sum_scale: 65536,
    fuses_after_sums: false,
};

/// The weights of a layer, and what goes with them.
pub(crate) struct Weights {
    pub indices: Vec<u8>,
    pub constants: Vec<i32>,
    pub parts: usize,
    pub table: Vec<u8>,
    /// `G` of each index of activations, for kernels that sum over pixels.
    pub shares: Vec<u8>,
    /// What results are multiplied with, by output channel, for kernels that mirror weights.
    pub signs: Option<Vec<i32>>,
}

impl Kind {
    /// The order of the weights; a run is a filter row where `dense`, else a tap.
    pub fn layout(&self, view: &QuantizedWeights<'_>, dense: bool, vectors: usize) -> WeightLayout {
        match self.kernel {
            KernelId::Lookup512 => triples::layout(view.shape(), dense, vectors),
            _ => pairs::layout(view.shape(), dense, vectors),
        }
    }

    /// Packs the weights of a layer.
    pub fn weights(
        &self,
        view: &QuantizedWeights<'_>,
        layout: &WeightLayout,
        order: Order,
        zero: i32,
    ) -> Result<Weights, PackError> {
        if self.kernel == KernelId::Lookup512 {
            let triples::TripleWeights { indices, constants, parts } = triples::pack(view, layout, order, zero)?;
            let (table, shares) = (triples::table().to_vec(), triples::shares().to_vec());
            return Ok(Weights { indices, constants, parts, table, shares, signs: None });
        }
        let pairs::PairWeights { indices, constants, signs, parts, centre } = pairs::pack(view, layout, order, zero)?;
        let table = pairs::table(centre).to_vec();
        Ok(Weights { indices, constants, parts, table, shares: vec![], signs: Some(signs) })
    }

    /// Whether the tile of results takes the shortcut of codes of a program, if it has one.
    pub fn takes_shortcut(&self, program: &Program, store: &ConvStore) -> bool {
        self.kernel == KernelId::Lookup512
            || program.steps[..program.count as usize].iter().all(|step| {
                let operand = store.operands.get(step.operand as usize);
                step.function != function::ADD_SMALL_CODE || operand.is_some_and(|o| o.levels <= MOST_PAIR_LEVELS)
            })
    }

    /// Multipliers of what the tile of results sums up.
    pub fn signed(&self, mut multiplier: Vec<f32>, weights: &Weights) -> Vec<f32> {
        for (multiplier, &sign) in multiplier.iter_mut().zip(weights.signs.iter().flatten()) {
            *multiplier *= sign as f32;
        }
        multiplier
    }

    /// Pixels and vectors of a tile: the cheapest by a count of cycles.
    pub fn tile(&self, low: &Lowering) -> (usize, usize) {
        let vectors = low.shape.outputs.div_ceil(self.lanes);
        let taps = low.shape.kernel_height * low.shape.kernel_width;
        let steps = (low.shape.inputs.div_ceil(self.together) * taps) as f64;
        let cost = |p: usize, v: usize| {
            let cells = (p * v) as f64;
            match self.kernel {
                KernelId::Lookup512 => {
                    let cell = if v == 1 { 1.2 } else { 1.05 };
                    let drain = 2.5 / triples::STEPS_PER_DRAIN as f64;
                    steps * ((cell + drain) * cells).max(4.0) + cells * 25.0 + 60.0
                }
                _ => {
                    // Three vector operations a cycle, or two loads.
                    let loads = (2 * p + v) as f64 / 2.0;
                    steps * (0.75 * cells).max(loads) + cells * 15.0 + 60.0
                }
            }
        };
        Tiles { width: low.width, vectors, exists: &|p, v| takes(self.kernel, p, v), cost: &cost }.cheapest()
    }
}
