//! What is asked of single steps: kernels and tiles other than those that the rules choose.

use catc_kernels::KernelId;
use catc_program::{Program, Tuning};

/// The tile of a kernel that has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TileWish {
    /// The cheapest by a count of cycles.
    #[default]
    Cheapest,
    /// The one after that many cheaper ones.
    Rank(usize),
    /// Pixels and vectors, if there is such a tile.
    Size(usize, usize),
}

/// What is asked of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The kernel, if it serves the layer.
    pub kernel: Option<KernelId>,
    pub tile: TileWish,
}

/// The wishes that a tuning stands for, by step. Kernels that this version does not have are left to the rules.
pub(crate) fn wishes(program: &Program, tuning: Option<&Tuning>) -> Vec<Wish> {
    let mut wishes = vec![Wish::default(); program.steps.len()];
    for layer in tuning.into_iter().flat_map(|tuning| &tuning.layers) {
        let (Some(wish), Some(kernel)) = (wishes.get_mut(layer.step as usize), KernelId::from_name(&layer.kernel))
        else {
            continue;
        };
        let tile = match (layer.pixels, layer.vectors) {
            (0, _) => TileWish::Cheapest,
            (pixels, vectors) => TileWish::Size(pixels as usize, vectors as usize),
        };
        *wish = Wish { kernel: Some(kernel), tile };
    }
    wishes
}
