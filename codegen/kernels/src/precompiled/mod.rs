//! Kernels that are compiled with this crate, for vectors wider than generated code has.
//!
//! A precompiled kernel is a *tile*: a few pixels times a few vectors of output channels, over the whole reduction. The loops around
//! it are generated code, which calls it by [`Function::symbol`]. Every kernel has one signature, [`TileFunction`]: a
//! pointer to a block of arguments, a `#[repr(C)]` structure of 64-bit fields that belongs to the kernel's family. Generated code
//! keeps the block on its stack, writes what never changes once, and the pointers before each call.
//!
//! Families: [`dot`], [`winograd`], [`lookup`], [`float`], [`depthwise`], and [`finish`] for what follows the sums.

pub mod depthwise;
#[cfg(target_arch = "x86_64")]
mod depthwise_avx512;
pub mod dot;
#[cfg(target_arch = "x86_64")]
mod dot_avx2;
#[cfg(target_arch = "x86_64")]
mod dot_avx512;
pub mod finish;
#[cfg(target_arch = "x86_64")]
mod finish_avx2;
#[cfg(target_arch = "x86_64")]
mod finish_avx512;
pub mod float;
#[cfg(target_arch = "x86_64")]
mod float_avx2;
#[cfg(target_arch = "x86_64")]
mod float_avx512;
pub mod lookup;
#[cfg(target_arch = "x86_64")]
mod pairs_avx2;
pub mod planes;
#[cfg(target_arch = "x86_64")]
mod planes_avx512;
pub mod sums;
#[cfg(target_arch = "x86_64")]
mod triples_vbmi;
pub mod winograd;
#[cfg(target_arch = "x86_64")]
mod winograd_avx2;
#[cfg(target_arch = "x86_64")]
mod winograd_avx512;

use crate::tier::Tier;

/// A kernel's function. The argument points at the block of its family.
pub type TileFunction = unsafe extern "C" fn(*const u64);

/// Symbol of the dot product in 512-bit vectors; arguments [`dot::DotTile`].
pub const DOT_VNNI_512: &str = "catc_dot_vnni_512";

/// Symbol of the dot product by `vpdpbusd` in 256-bit vectors; arguments [`dot::DotTile`].
pub const DOT_VNNI_256: &str = "catc_dot_vnni_256";

/// Symbol of the dot product by `vpmaddubsw` in 256-bit vectors; arguments [`dot::DotTile`].
pub const DOT_MADDUBS_256: &str = "catc_dot_maddubs_256";

/// Symbol of the dot product by `vpmaddwd` in 256-bit vectors; arguments [`dot::DotTile`].
pub const DOT_MADD16_256: &str = "catc_dot_madd16_256";

/// Symbol of the depthwise rows of codes in 512-bit vectors; arguments [`depthwise::DepthwiseRow`].
pub const DEPTHWISE_512: &str = "catc_depthwise_512";

/// Symbol of the depthwise rows of floats in 512-bit vectors; arguments [`depthwise::DepthwiseRow`].
pub const DEPTHWISE_FLOAT_512: &str = "catc_depthwise_float_512";

/// Symbol of the float tile in 512-bit vectors; arguments [`float::FloatTile`].
pub const FLOAT_512: &str = "catc_float_512";

/// Symbol of the float tile in 256-bit vectors; arguments [`float::FloatTile`].
pub const FLOAT_256: &str = "catc_float_256";

/// Symbol of the quantization of planes to pixels in 512-bit vectors; arguments [`planes::PlanesRow`].
pub const PLANES_512: &str = "catc_planes_512";

/// Symbol of the epilogue in 512-bit vectors; arguments [`finish::FinishTile`].
pub const FINISH_512: &str = "catc_finish_512";

/// Symbol of the epilogue in 256-bit vectors; arguments [`finish::FinishTile`].
pub const FINISH_256: &str = "catc_finish_256";

/// Symbol of Winograd's input transform in 256-bit vectors; arguments [`winograd::InputTile`].
pub const WINOGRAD_INPUT_256: &str = "catc_winograd_input_256";

/// Symbol of Winograd's products by `vpdpbusd` in 256-bit vectors; arguments [`winograd::ProductTile`].
pub const WINOGRAD_PRODUCT_VNNI_256: &str = "catc_winograd_product_vnni_256";

/// Symbol of Winograd's products by `vpmaddubsw` in 256-bit vectors; arguments [`winograd::ProductTile`].
pub const WINOGRAD_PRODUCT_MADDUBS_256: &str = "catc_winograd_product_maddubs_256";

/// Symbol of Winograd's output transform in 256-bit vectors; arguments [`winograd::OutputTile`].
pub const WINOGRAD_OUTPUT_256: &str = "catc_winograd_output_256";

/// Symbol of Winograd's input transform in 512-bit vectors; arguments [`winograd::InputTile`].
pub const WINOGRAD_INPUT_512: &str = "catc_winograd_input_512";

/// Symbol of Winograd's products in 512-bit vectors; arguments [`winograd::ProductTile`].
pub const WINOGRAD_PRODUCT_512: &str = "catc_winograd_product_512";

/// Symbol of Winograd's output transform in 512-bit vectors; arguments [`winograd::OutputTile`].
pub const WINOGRAD_OUTPUT_512: &str = "catc_winograd_output_512";

/// Symbol of the packing for look-ups of two channels; arguments [`lookup::PackTile`].
pub const LOOKUP_PACK_256: &str = "catc_lookup_pack_256";

/// Symbol of the 2-bit look-ups of two channels; arguments [`lookup::LookupTile`].
pub const LOOKUP_256: &str = "catc_lookup_256";

/// Symbol of the 2-bit look-ups of two channels with the epilogue behind them; arguments [`lookup::LookupResultsTile`].
pub const LOOKUP_RESULTS_256: &str = "catc_lookup_results_256";

/// Symbol of the packing for look-ups of three channels; arguments [`lookup::PackTile`].
pub const LOOKUP_PACK_VBMI: &str = "catc_lookup_pack_vbmi";

/// Symbol of the 2-bit look-ups of three channels; arguments [`lookup::LookupTile`].
pub const LOOKUP_VBMI: &str = "catc_lookup_vbmi";

/// Symbol of the 2-bit look-ups of three channels with the epilogue behind them; arguments [`lookup::LookupResultsTile`].
pub const LOOKUP_RESULTS_VBMI: &str = "catc_lookup_results_vbmi";

/// Symbol of the epilogue in the vectors of a tier's precompiled kernels.
pub fn finish_symbol(tier: Tier) -> &'static str {
    if tier.includes(Tier::Avx512Vnni) { FINISH_512 } else { FINISH_256 }
}

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
    const fn avx512(symbol: &'static str, function: TileFunction) -> Function {
        Function { symbol, tier: Tier::Avx512Vnni, function }
    }
    const fn avx2(symbol: &'static str, function: TileFunction) -> Function {
        Function { symbol, tier: Tier::X86V3, function }
    }
    const fn vnni(symbol: &'static str, function: TileFunction) -> Function {
        Function { symbol, tier: Tier::X86V3Vnni, function }
    }
    const FUNCTIONS: &[Function] = &[
        avx512(DOT_VNNI_512, dot_avx512::dot_vnni_512),
        avx512(FINISH_512, finish_avx512::finish_512),
        avx512(WINOGRAD_INPUT_512, winograd_avx512::winograd_input_512),
        avx512(WINOGRAD_PRODUCT_512, winograd_avx512::winograd_product_512),
        avx512(WINOGRAD_OUTPUT_512, winograd_avx512::winograd_output_512),
        avx512(PLANES_512, planes_avx512::planes_512),
        avx512(DEPTHWISE_512, depthwise_avx512::depthwise_512),
        avx512(DEPTHWISE_FLOAT_512, depthwise_avx512::depthwise_float_512),
        avx512(FLOAT_512, float_avx512::float_512),
        Function { symbol: LOOKUP_PACK_VBMI, tier: Tier::Avx512Vbmi, function: triples_vbmi::lookup_pack_vbmi },
        Function { symbol: LOOKUP_VBMI, tier: Tier::Avx512Vbmi, function: triples_vbmi::lookup_vbmi },
        Function { symbol: LOOKUP_RESULTS_VBMI, tier: Tier::Avx512Vbmi, function: triples_vbmi::lookup_results_vbmi },
        avx2(LOOKUP_PACK_256, pairs_avx2::lookup_pack_256),
        avx2(LOOKUP_256, pairs_avx2::lookup_256),
        avx2(LOOKUP_RESULTS_256, pairs_avx2::lookup_results_256),
        avx2(FLOAT_256, float_avx2::float_256),
        vnni(DOT_VNNI_256, dot_avx2::dot_vnni_256),
        avx2(DOT_MADDUBS_256, dot_avx2::dot_maddubs_256),
        avx2(DOT_MADD16_256, dot_avx2::dot_madd16_256),
        avx2(FINISH_256, finish_avx2::finish_256),
        avx2(WINOGRAD_INPUT_256, winograd_avx2::winograd_input_256),
        vnni(WINOGRAD_PRODUCT_VNNI_256, winograd_avx2::winograd_product_vnni_256),
        avx2(WINOGRAD_PRODUCT_MADDUBS_256, winograd_avx2::winograd_product_maddubs_256),
        avx2(WINOGRAD_OUTPUT_256, winograd_avx2::winograd_output_256),
    ];
    FUNCTIONS
}

/// Every precompiled kernel of this architecture.
#[cfg(not(target_arch = "x86_64"))]
pub fn functions() -> &'static [Function] {
    &[]
}
