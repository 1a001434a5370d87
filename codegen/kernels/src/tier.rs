//! The instruction-set tiers that have kernels.

use std::fmt;

/// A family of instruction sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// 64-bit ARM, little-endian.
    Aarch64,
    /// 64-bit x86.
    X86_64,
}

impl Architecture {
    /// Every architecture that code is generated for.
    pub const ALL: [Architecture; 2] = [Architecture::Aarch64, Architecture::X86_64];

    /// The target triple of object files.
    pub fn triple(self) -> &'static str {
        match self {
            Architecture::Aarch64 => "aarch64-unknown-linux-gnu",
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
        }
    }

    /// The architecture with the given [`Architecture::triple`].
    pub fn from_triple(triple: &str) -> Option<Architecture> {
        Architecture::ALL.into_iter().find(|architecture| architecture.triple() == triple)
    }
}

/// An instruction-set tier: what generated code may assume of the CPU.
///
/// Tiers of one architecture are ordered: a later one [includes](Tier::includes) the earlier ones. Only tiers with kernels of their own
/// in [`crate::KERNELS`] are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// AArch64 with Advanced SIMD, which every AArch64 CPU that runs Linux has.
    Aarch64Neon,
    /// [`Tier::Aarch64Neon`] and the dot product of signed bytes, `sdot` (from ARMv8.2 on).
    Aarch64Dotprod,
    /// [`Tier::Aarch64Dotprod`] and the dot product of unsigned with signed bytes, `usdot` (from ARMv8.6 on).
    Aarch64I8mm,
    /// x86-64 with SSSE3 and SSE4.1 (the `x86-64-v2` level), 128-bit vectors.
    X86V2,
    /// x86-64 with AVX2, FMA and BMI2 (the `x86-64-v3` level). On this and all later tiers, emitted code uses three-operand instructions
    /// on 128-bit vectors; precompiled kernels use the widest vectors of the tier.
    X86V3,
    /// [`Tier::X86V3`] and a `vpdpbusd` of up to 256 bits, from AVX-VNNI or from AVX-512 VNNI with VL.
    X86V3Vnni,
    /// 512-bit vectors with byte and word operations and `vpdpbusd`: AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// [`Tier::Avx512Vnni`] and byte permutations across 512 bits: AVX-512 VBMI.
    Avx512Vbmi,
}

impl Tier {
    /// Every tier, grouped by architecture, weakest first.
    pub const ALL: [Tier; 8] = [
        Tier::Aarch64Neon,
        Tier::Aarch64Dotprod,
        Tier::Aarch64I8mm,
        Tier::X86V2,
        Tier::X86V3,
        Tier::X86V3Vnni,
        Tier::Avx512Vnni,
        Tier::Avx512Vbmi,
    ];

    /// Its architecture.
    pub fn architecture(self) -> Architecture {
        match self {
            Tier::Aarch64Neon | Tier::Aarch64Dotprod | Tier::Aarch64I8mm => Architecture::Aarch64,
            Tier::X86V2 | Tier::X86V3 | Tier::X86V3Vnni | Tier::Avx512Vnni | Tier::Avx512Vbmi => Architecture::X86_64,
        }
    }

    /// Whether a CPU of this tier runs code for `other`, a tier of the same architecture that is not stronger.
    pub fn includes(self, other: Tier) -> bool {
        self.architecture() == other.architecture() && self >= other
    }

    /// Whether its architecture has precompiled kernels. AArch64 has emitted kernels only.
    pub fn has_precompiled_kernels(self) -> bool {
        self.architecture() == Architecture::X86_64
    }

    /// Whether it has a fused multiply-add of floats, which rounds once.
    pub fn fuses(self) -> bool {
        self.includes(Tier::X86V3) || self.includes(Tier::Aarch64Neon)
    }

    /// The tiers of an architecture, weakest first.
    pub fn of(architecture: Architecture) -> impl DoubleEndedIterator<Item = Tier> {
        Tier::ALL.into_iter().filter(move |tier| tier.architecture() == architecture)
    }

    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Aarch64Neon => "aarch64-neon",
            Tier::Aarch64Dotprod => "aarch64-dotprod",
            Tier::Aarch64I8mm => "aarch64-i8mm",
            Tier::X86V2 => "x86-64-v2",
            Tier::X86V3 => "x86-64-v3",
            Tier::X86V3Vnni => "x86-64-v3-vnni",
            Tier::Avx512Vnni => "avx512-vnni",
            Tier::Avx512Vbmi => "avx512-vbmi",
        }
    }

    /// The tier with the given [`Tier::name`].
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// The strongest tier that the present CPU has, or `None` if it has none.
    pub fn detect() -> Option<Tier> {
        Tier::ALL.into_iter().rev().find(|tier| tier.is_available())
    }

    /// The tiers that the present CPU has, weakest first.
    pub fn available() -> Vec<Tier> {
        Tier::ALL.into_iter().filter(|tier| tier.is_available()).collect()
    }

    /// Whether the present CPU can execute code of the tier.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        let v2 = std::is_x86_feature_detected!("ssse3")
            && std::is_x86_feature_detected!("sse4.1")
            && std::is_x86_feature_detected!("sse4.2")
            && std::is_x86_feature_detected!("popcnt");
        let v3 = v2
            && std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("lzcnt");
        let avx512_vnni = std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512vl");
        let avx512 = v3
            && avx512_vnni
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq");
        match self {
            Tier::Aarch64Neon | Tier::Aarch64Dotprod | Tier::Aarch64I8mm => false,
            Tier::X86V2 => v2,
            Tier::X86V3 => v3,
            Tier::X86V3Vnni => v3 && (avx512_vnni || std::is_x86_feature_detected!("avxvnni")),
            Tier::Avx512Vnni => avx512,
            Tier::Avx512Vbmi => avx512 && std::is_x86_feature_detected!("avx512vbmi"),
        }
    }

    /// Whether the present CPU can execute code of the tier.
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        let neon = std::arch::is_aarch64_feature_detected!("neon");
        let dotprod = neon && std::arch::is_aarch64_feature_detected!("dotprod");
        match self {
            Tier::Aarch64Neon => neon,
            Tier::Aarch64Dotprod => dotprod,
            Tier::Aarch64I8mm => dotprod && std::arch::is_aarch64_feature_detected!("i8mm"),
            Tier::X86V2 | Tier::X86V3 | Tier::X86V3Vnni | Tier::Avx512Vnni | Tier::Avx512Vbmi => false,
        }
    }

    /// Whether the present CPU can execute code of the tier.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        false
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_tier() {
        for tier in Tier::ALL {
            assert_eq!(Tier::from_name(tier.name()), Some(tier));
        }
        assert_eq!(Tier::from_name("x86-64-v9"), None);
        for architecture in Architecture::ALL {
            assert_eq!(Architecture::from_triple(architecture.triple()), Some(architecture));
        }
    }

    #[test]
    fn tiers_of_different_architectures_do_not_include_one_another() {
        assert!(Tier::X86V3.includes(Tier::X86V2) && !Tier::X86V2.includes(Tier::X86V3));
        assert!(!Tier::X86V3.includes(Tier::Aarch64Neon) && !Tier::Aarch64I8mm.includes(Tier::X86V2));
        assert_eq!(Architecture::ALL.into_iter().flat_map(Tier::of).collect::<Vec<_>>(), Tier::ALL);
    }

    #[test]
    fn an_available_tier_includes_the_weaker_ones() {
        for pair in Tier::ALL.windows(2).filter(|pair| pair[1].includes(pair[0])) {
            assert!(!pair[1].is_available() || pair[0].is_available());
        }
    }
}
