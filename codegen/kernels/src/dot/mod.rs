//! Dot products: convolutions and matrix products of codes by multiplication and addition.
//!
//! A step broadcasts two or four consecutive activation codes of a pixel. It multiplies them by a weight vector that has as many signed
//! weights for each of its output channels ([`packing`]). The emitted kernels use 128-bit vectors; the precompiled ones are tiles of sums.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod emitted;
pub mod packing;
pub mod tiles;

pub use packing::{CHANNELS, DotWeights, UNITS, pack, pack_float, steps_per_drain};

use crate::kernel::Fit;
use crate::query::Query;
use crate::sum_tile::SumTile;

/// A tile of unsigned codes times signed bytes, four codes per step ([`pack`]).
pub type DotTile = SumTile<u8, i8, i32>;

/// The arithmetic of one step of an emitted kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DotProduct {
    /// Sums of four products of unsigned and signed bytes, in 32 bits.
    Fours,
    /// Sums of four products of signed bytes, in 32 bits; 128 is subtracted from 8-bit activations.
    SignedFours,
    /// Sums of two products of unsigned and signed bytes, in 16 bits, which must be widened after some steps.
    Pairs,
    /// Sums of two products of 16-bit integers, in 32 bits.
    WidePairs,
    /// Products of floats, fused with the addition if the instruction set can.
    Floats,
}

/// Steps between drains of 16-bit sums.
///
/// # Errors
/// If the operands are floats.
fn drain(query: &Query<'_>) -> Result<Fit, crate::kernel::Refusal> {
    let codes = query.code_operands()?;
    Ok(Fit { steps_per_drain: steps_per_drain(codes.levels().into(), query.largest_absolute()) })
}
