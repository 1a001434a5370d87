//! Requests for the kernels and tiles of single steps, instead of those with the least estimated cycles.

use catc_kernels::{KernelRef, KernelSet, TileOverride, find};
use catc_program::{Program, Tuning};

/// The request for one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct KernelOverride {
    /// The kernel, which is used if it serves the layer; the cheapest if `None`.
    pub kernel: Option<KernelRef>,
    /// Its tile.
    pub tile: TileOverride,
}

/// The requests of a tuning, by step. Kernels that the list does not have are ignored.
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
