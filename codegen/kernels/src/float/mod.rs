//! Convolutions of floats, one input value per step ([`crate::dot::pack_float`]).

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod emitted;
#[cfg(target_arch = "x86_64")]
pub mod tiles;

use crate::sum_tile::SumTile;

/// A tile of floats. Each product is added by a fused multiply-add, in the order of the steps.
pub type FloatTile = SumTile<f32, f32, f32>;

/// Calls the body for the shape of a tile, which must be a listed one.
#[cfg(target_arch = "x86_64")]
macro_rules! each_shape {
    ($v:expr, $tile:expr, $(($p:literal, $n:literal)),* $(,)?) => {
        match ($tile.pixels, $tile.vectors) {
            $(($p, $n) => $crate::float::tiles::sum::<_, $p, $n>($v, $tile),)*
            _ => unreachable!("calls are emitted for shapes that `exists` allows, which is checked then"),
        }
    };
}
#[cfg(target_arch = "x86_64")]
use each_shape;
