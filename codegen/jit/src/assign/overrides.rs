//! What is asked of single steps: kernels and tiles other than those that are the cheapest.

use catc_kernels::{KernelRef, KernelSet, TileOverride, find};
use catc_program::{Program, Tuning};

/// What is asked of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct KernelOverride {
    /// The kernel, if it serves the layer.
    pub kernel: Option<KernelRef>,
    /// Its tile.
    pub tile: TileOverride,
}

/// What a tuning asks for, by step. Kernels that the set does not have are left to the choice.
pub(crate) fn overrides(program: &Program, tuning: Option<&Tuning>, kernels: KernelSet) -> Vec<KernelOverride> {
    let mut overrides = vec![KernelOverride::default(); program.steps.len()];
    for layer in tuning.into_iter().flat_map(|tuning| &tuning.layers) {
        let (Some(asked), Some(kernel)) = (overrides.get_mut(layer.step as usize), find(kernels.list, &layer.kernel))
        else {
            continue;
        };
        let tile = match (layer.pixels, layer.vectors) {
            (0, _) => TileOverride::Cheapest,
            (pixels, vectors) => TileOverride::Size(pixels as usize, vectors as usize),
        };
        *asked = KernelOverride { kernel: Some(kernel), tile };
    }
    overrides
}
