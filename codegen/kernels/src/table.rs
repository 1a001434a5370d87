//! The table of inner kernels.

use crate::tier::Tier;
use std::ops::RangeInclusive;

/// The name of an inner kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelId {
    /// 2-bit table look-up ([`crate::lookup`]).
    Lookup,
    /// Four-way dot product of unsigned and signed bytes in one `vpdpbusd`.
    DotVnni,
    /// Sums of two products of bytes into 16-bit accumulators (`pmaddubsw`, or `smull` and `addp`), drained to 32 bits.
    DotMaddubs,
    /// Bytes widened to 16 bits, `pmaddwd`.
    DotMadd16,
    /// Float multiply and add, in one instruction where the tier has it.
    FloatDot,
    /// Depthwise by `pmaddubsw` on interleaved taps, 16-bit accumulators.
    DepthwiseMaddubs,
    /// Depthwise by `pmaddwd` on interleaved taps, 32-bit accumulators.
    DepthwiseMadd16,
    /// Depthwise in float.
    DepthwiseFloat,
    /// Four-way dot product of bytes in 512-bit vectors.
    DotVnni512,
    /// Fused multiply and add of floats in 256-bit vectors.
    Float256,
    /// Fused multiply and add of floats in 512-bit vectors.
    Float512,
    /// 3x3 convolutions of stride 1 by Winograd's F(2x2,3x3) in bytes ([`crate::winograd`]), 512-bit vectors.
    Winograd512,
    /// Four-way dot product of signed bytes, 8-bit activations less 128: `sdot` where there is one, else `smull` and sums of
    /// neighbours.
    DotSigned,
    /// Four-way dot product of unsigned and signed bytes in one `usdot`.
    DotUsdot,
    /// Depthwise in 512-bit vectors by four-way dot products over filter columns.
    Depthwise512,
    /// Depthwise in float in 512-bit vectors.
    DepthwiseFloat512,
    /// 2-bit table look-up of three channels ([`crate::triples`]) by `vpermb`, 512-bit vectors.
    Lookup512,
    /// Four-way dot product of bytes in 256-bit vectors by `vpdpbusd`.
    DotVnni256,
    /// The same by `vpmaddubsw` into 16-bit sums, drained to 32 bits.
    DotMaddubs256,
    /// The same by `vpmaddwd` of bytes widened to 16 bits.
    DotMadd256,
    /// [`KernelId::Winograd512`] in 256-bit vectors by `vpdpbusd`.
    WinogradVnni256,
    /// [`KernelId::Winograd512`] in 256-bit vectors by `vpmaddubsw` into 16-bit sums, drained to 32 bits.
    WinogradMaddubs256,
    /// As [`KernelId::Winograd512`] by F(3x3,3x3).
    WinogradThree512,
    /// As [`KernelId::Winograd512`] by F(3x4,3x3).
    WinogradThreeFour512,
    /// 2-bit table look-up of two channels ([`crate::pairs`]) by `vpshufb`, 256-bit vectors.
    Lookup256,
}

/// Where a kernel's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The code generator writes it into each layer's function, in 128-bit vectors.
    Emitted,
    /// A function of this crate ([`crate::precompiled`]), which a layer's function calls for each tile, by this symbol.
    Precompiled(&'static str),
}

/// How a kernel reads the activations of one channel run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActivationForm {
    /// A float each.
    Float,
    /// A byte each, counted from the lowest code of the format.
    Byte,
    /// Two channels to a byte, as the offset of a table row ([`crate::lookup::row_offset`]).
    RowOffset,
}

/// What a kernel's result is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// The exact integer sum.
    Exact,
    /// The exact integer sum where [`crate::choose()`] picks it; it saturates on larger weights.
    ExactWhenChosen,
    /// Every product and every sum rounded to f32.
    Rounded,
}

/// One inner kernel.
#[derive(Clone, Debug)]
pub struct KernelInfo {
    /// Its identity.
    pub id: KernelId,
    /// The name reports show.
    pub name: &'static str,
    /// The weakest tier it runs on; see [`KernelInfo::tiers`].
    pub tier: Tier,
    /// Where its code comes from.
    pub implementation: Implementation,
    /// Widths of weight codes it takes; 32 for floats.
    pub weight_bits: RangeInclusive<u8>,
    /// Widths of activation codes it takes; 32 for floats.
    pub activation_bits: RangeInclusive<u8>,
    /// Pixels and weight vectors of its usual tile.
    pub tile: (usize, usize),
    /// Output channels per weight vector.
    pub channels_per_vector: usize,
    /// Storage units of the input per step.
    pub units_per_step: usize,
    /// Bytes of a weight vector.
    pub vector_bytes: usize,
    /// How it reads activations.
    pub form: ActivationForm,
    /// What its result is worth.
    pub exactness: Exactness,
    /// The largest reduction it takes, `None` for any whose sum fits 32 bits.
    pub k_limit: Option<usize>,
    /// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
    pub rate: f32,
}

/// Every inner kernel.
pub const TABLE: &[KernelInfo] = &[
    KernelInfo {
        id: KernelId::Lookup,
        name: "lookup-w2a2",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 2..=2,
        activation_bits: 2..=2,
        tile: (2, 2),
        channels_per_vector: crate::lookup::CHANNELS,
        units_per_step: 1,
        vector_bytes: 16,
        form: ActivationForm::RowOffset,
        exactness: Exactness::Exact,
        k_limit: Some(crate::lookup::DRAINS_PER_SPILL * 14 * 2),
        rate: 44.5,
    },
    KernelInfo {
        id: KernelId::DotVnni,
        name: "dot-vnni",
        tier: Tier::X86V3Vnni,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (6, 2),
        channels_per_vector: crate::dot::CHANNELS,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 16,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 30.5,
    },
    KernelInfo {
        id: KernelId::DotMaddubs,
        name: "dot-maddubs",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (2, 4),
        channels_per_vector: crate::dot::CHANNELS,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 16,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 20.0,
    },
    KernelInfo {
        id: KernelId::DotMadd16,
        name: "dot-madd16",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (2, 4),
        channels_per_vector: crate::dot::CHANNELS,
        units_per_step: crate::dot::UNITS / 2,
        vector_bytes: 16,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 10.0,
    },
    KernelInfo {
        id: KernelId::FloatDot,
        name: "float",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 32..=32,
        activation_bits: 32..=32,
        tile: (2, 4),
        channels_per_vector: crate::dot::CHANNELS,
        units_per_step: 1,
        vector_bytes: 16,
        form: ActivationForm::Float,
        exactness: Exactness::Rounded,
        k_limit: None,
        rate: 5.0,
    },
    KernelInfo {
        id: KernelId::DepthwiseMaddubs,
        name: "depthwise-maddubs",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (1, 1),
        channels_per_vector: crate::depthwise::CHANNELS,
        units_per_step: 1,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 10.0,
    },
    KernelInfo {
        id: KernelId::DepthwiseMadd16,
        name: "depthwise-madd16",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (1, 1),
        channels_per_vector: crate::depthwise::CHANNELS,
        units_per_step: 1,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 5.0,
    },
    KernelInfo {
        id: KernelId::DepthwiseFloat,
        name: "depthwise-float",
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        weight_bits: 32..=32,
        activation_bits: 32..=32,
        tile: (1, 1),
        channels_per_vector: crate::depthwise::FLOAT_CHANNELS,
        units_per_step: 1,
        vector_bytes: 16,
        form: ActivationForm::Float,
        exactness: Exactness::Rounded,
        k_limit: None,
        rate: 4.0,
    },
    KernelInfo {
        id: KernelId::DotVnni512,
        name: "dot-vnni-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::DOT_VNNI_512),
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (14, 2),
        channels_per_vector: 16,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 115.0,
    },
    KernelInfo {
        id: KernelId::Float256,
        name: "float-256",
        tier: Tier::X86V3,
        implementation: Implementation::Precompiled(crate::precompiled::FLOAT_256),
        weight_bits: 32..=32,
        activation_bits: 32..=32,
        tile: (6, 2),
        channels_per_vector: 8,
        units_per_step: 1,
        vector_bytes: 32,
        form: ActivationForm::Float,
        exactness: Exactness::Rounded,
        k_limit: None,
        rate: 14.5,
    },
    KernelInfo {
        id: KernelId::Float512,
        name: "float-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::FLOAT_512),
        weight_bits: 32..=32,
        activation_bits: 32..=32,
        tile: (6, 4),
        channels_per_vector: 16,
        units_per_step: 1,
        vector_bytes: 64,
        form: ActivationForm::Float,
        exactness: Exactness::Rounded,
        k_limit: None,
        rate: 29.0,
    },
    KernelInfo {
        id: KernelId::Winograd512,
        name: "winograd-vnni-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::WINOGRAD_PRODUCT_512),
        weight_bits: 2..=8,
        activation_bits: 2..=6,
        tile: (14, 2),
        channels_per_vector: 16,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 200.0,
    },
    KernelInfo {
        id: KernelId::DotSigned,
        name: "dot-signed",
        tier: Tier::Aarch64Neon,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (6, 3),
        channels_per_vector: crate::dot::CHANNELS,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 16,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        // Not measured: two `sdot` a cycle, less what surrounds them.
        rate: 24.0,
    },
    KernelInfo {
        id: KernelId::DotUsdot,
        name: "dot-usdot",
        tier: Tier::Aarch64I8mm,
        implementation: Implementation::Emitted,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (6, 3),
        channels_per_vector: crate::dot::CHANNELS,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 16,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        // Not measured: as `dot-signed` without the shift of the activations.
        rate: 28.0,
    },
    KernelInfo {
        id: KernelId::Depthwise512,
        name: "depthwise-vnni-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::DEPTHWISE_512),
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (8, 4),
        channels_per_vector: crate::precompiled::depthwise::BLOCK,
        units_per_step: 1,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 18.0,
    },
    KernelInfo {
        id: KernelId::DepthwiseFloat512,
        name: "depthwise-float-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::DEPTHWISE_FLOAT_512),
        weight_bits: 32..=32,
        activation_bits: 32..=32,
        tile: (8, 4),
        channels_per_vector: crate::precompiled::depthwise::BLOCK,
        units_per_step: 1,
        vector_bytes: 64,
        form: ActivationForm::Float,
        exactness: Exactness::Rounded,
        k_limit: None,
        rate: 10.0,
    },
    KernelInfo {
        id: KernelId::Lookup512,
        name: "lookup-vbmi-512",
        tier: Tier::Avx512Vbmi,
        implementation: Implementation::Precompiled(crate::precompiled::LOOKUP_VBMI),
        weight_bits: 2..=2,
        activation_bits: 2..=2,
        tile: (crate::precompiled::lookup::MOST_PIXELS, 2),
        channels_per_vector: crate::triples::CHANNELS,
        units_per_step: 3,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: Some((crate::triples::MOST_DRAINS - 1) * crate::triples::STEPS_PER_DRAIN * 3),
        rate: 150.0,
    },
    KernelInfo {
        id: KernelId::DotVnni256,
        name: "dot-vnni-256",
        tier: Tier::X86V3Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::DOT_VNNI_256),
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (3, 4),
        channels_per_vector: 8,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 54.0,
    },
    KernelInfo {
        id: KernelId::DotMaddubs256,
        name: "dot-maddubs-256",
        tier: Tier::X86V3,
        implementation: Implementation::Precompiled(crate::precompiled::DOT_MADDUBS_256),
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (6, 2),
        channels_per_vector: 8,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 42.0,
    },
    KernelInfo {
        id: KernelId::DotMadd256,
        name: "dot-madd16-256",
        tier: Tier::X86V3,
        implementation: Implementation::Precompiled(crate::precompiled::DOT_MADD16_256),
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        tile: (6, 2),
        channels_per_vector: 8,
        units_per_step: crate::dot::UNITS / 2,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: None,
        rate: 20.0,
    },
    KernelInfo {
        id: KernelId::WinogradVnni256,
        name: "winograd-vnni-256",
        tier: Tier::X86V3Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::WINOGRAD_PRODUCT_VNNI_256),
        weight_bits: 2..=8,
        activation_bits: 2..=6,
        tile: (3, 4),
        channels_per_vector: 8,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 100.0,
    },
    KernelInfo {
        id: KernelId::WinogradMaddubs256,
        name: "winograd-maddubs-256",
        tier: Tier::X86V3,
        implementation: Implementation::Precompiled(crate::precompiled::WINOGRAD_PRODUCT_MADDUBS_256),
        weight_bits: 2..=8,
        activation_bits: 2..=6,
        tile: (2, 4),
        channels_per_vector: 8,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 80.0,
    },
    KernelInfo {
        id: KernelId::WinogradThree512,
        name: "winograd-3x3-vnni-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::WINOGRAD_PRODUCT_512),
        weight_bits: 2..=4,
        activation_bits: 2..=3,
        tile: (14, 2),
        channels_per_vector: 16,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 240.0,
    },
    KernelInfo {
        id: KernelId::WinogradThreeFour512,
        name: "winograd-3x4-vnni-512",
        tier: Tier::Avx512Vnni,
        implementation: Implementation::Precompiled(crate::precompiled::WINOGRAD_PRODUCT_512),
        weight_bits: 2..=4,
        activation_bits: 2..=2,
        tile: (14, 2),
        channels_per_vector: 16,
        units_per_step: crate::dot::UNITS,
        vector_bytes: 64,
        form: ActivationForm::Byte,
        exactness: Exactness::ExactWhenChosen,
        k_limit: None,
        rate: 260.0,
    },
    KernelInfo {
        id: KernelId::Lookup256,
        name: "lookup-256",
        tier: Tier::X86V3,
        implementation: Implementation::Precompiled(crate::precompiled::LOOKUP_256),
        weight_bits: 2..=2,
        activation_bits: 2..=2,
        tile: (3, 4),
        channels_per_vector: crate::pairs::CHANNELS,
        units_per_step: 2,
        vector_bytes: 32,
        form: ActivationForm::Byte,
        exactness: Exactness::Exact,
        k_limit: Some(u16::MAX as usize / crate::pairs::LARGEST * 2),
        rate: 78.0,
    },
];

impl KernelInfo {
    /// The weakest tier of each architecture that it runs on. What is emitted for the weakest tier of x86-64 is plain vector code,
    /// which every architecture has.
    pub fn tiers(&self) -> impl Iterator<Item = Tier> + use<> {
        let portable = self.implementation == Implementation::Emitted && self.tier == Tier::X86V2;
        [Some(self.tier), portable.then_some(Tier::Aarch64Neon)].into_iter().flatten()
    }
}

impl KernelId {
    /// Its line in [`TABLE`].
    pub fn info(self) -> &'static KernelInfo {
        // The table lists the kernels in the order of the enumeration; a test holds it to that.
        &TABLE[self as usize]
    }

    /// Whether it is a function of this crate with tiles of several sizes, one of which a layer's function calls.
    pub fn has_tiles(self) -> bool {
        use KernelId::{DotMadd256, DotMaddubs256, DotVnni256, DotVnni512, Float256, Float512};
        matches!(self, DotVnni512 | DotVnni256 | DotMaddubs256 | DotMadd256 | Float512 | Float256)
    }

    /// The kernel of that name.
    pub fn from_name(name: &str) -> Option<KernelId> {
        TABLE.iter().find(|info| info.name == name).map(|info| info.id)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        self.info().name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precompiled;

    #[test]
    fn the_table_is_in_the_order_of_the_ids() {
        for (at, info) in TABLE.iter().enumerate() {
            assert_eq!(info.id as usize, at);
            assert_eq!(info.id.name(), info.name);
            assert_eq!(KernelId::from_name(info.name), Some(info.id));
        }
        assert_eq!(TABLE.last().unwrap().id, KernelId::Lookup256);
    }

    #[test]
    fn every_precompiled_kernel_has_a_function_of_its_tier() {
        if !cfg!(target_arch = "x86_64") {
            return;
        }
        for info in TABLE {
            if let Implementation::Precompiled(symbol) = info.implementation {
                let found: Vec<_> = precompiled::functions().iter().filter(|f| f.symbol == symbol).collect();
                assert_eq!(found.len(), 1, "{symbol}");
                assert_eq!(found[0].tier, info.tier, "{symbol}");
            }
        }
    }
}
