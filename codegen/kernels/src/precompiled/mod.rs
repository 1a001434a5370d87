//! Kernels that are compiled with this crate, for vectors wider than generated code has.
//!
//! A precompiled kernel is a *tile*: a few pixels times a few vectors of output channels, over the whole reduction. The loops around
//! it are generated code, which calls it by [`Function::symbol`]. Every kernel has one signature, [`TileFunction`]: a
//! pointer to a block of arguments, a `#[repr(C)]` structure of 64-bit fields that belongs to the kernel's family. Generated code
//! keeps the block on its stack, writes what never changes once, and the pointers before each call.
//!
//! Families: [`dot`], [`float`].

pub mod dot;
#[cfg(target_arch = "x86_64")]
mod dot_avx512;
pub mod float;
#[cfg(target_arch = "x86_64")]
mod float_avx2;
#[cfg(target_arch = "x86_64")]
mod float_avx512;

use crate::tier::Tier;

/// A kernel's function. The argument points at the block of its family.
pub type TileFunction = unsafe extern "C" fn(*const u64);

/// Symbol of the dot product in 512-bit vectors; arguments [`dot::DotTile`].
pub const DOT_VNNI_512: &str = "catc_dot_vnni_512";

/// Symbol of the float tile in 512-bit vectors; arguments [`float::FloatTile`].
pub const FLOAT_512: &str = "catc_float_512";

/// Symbol of the float tile in 256-bit vectors; arguments [`float::FloatTile`].
pub const FLOAT_256: &str = "catc_float_256";

/// A precompiled kernel.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// The name generated code calls it by.
    pub symbol: &'static str,
    /// The weakest tier whose CPUs can run it.
    pub tier: Tier,
    /// The function. Calling it on a CPU below its tier is undefined.
    pub function: TileFunction,
}

/// Every precompiled kernel of this architecture.
#[cfg(target_arch = "x86_64")]
pub fn functions() -> &'static [Function] {
    const FUNCTIONS: &[Function] = &[
        Function { symbol: DOT_VNNI_512, tier: Tier::Avx512Vnni, function: dot_avx512::dot_vnni_512 },
        Function { symbol: FLOAT_512, tier: Tier::Avx512Vnni, function: float_avx512::float_512 },
        Function { symbol: FLOAT_256, tier: Tier::X86V3, function: float_avx2::float_256 },
    ];
    FUNCTIONS
}

/// Every precompiled kernel of this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub fn functions() -> &'static [Function] {
    &[]
}
