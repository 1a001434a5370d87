//! The instruction-set tiers that have kernels.

use std::fmt;

/// An instruction-set tier: what generated code may assume of the CPU.
///
/// Tiers of one architecture are ordered, a later one includes the earlier ones. Only tiers that have kernels of
/// their own in [`crate::TABLE`] are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// x86-64 with SSSE3 and SSE4.1 (the `x86-64-v2` level), 128-bit vectors.
    X86V2,
    /// x86-64 with AVX2, FMA and BMI2 (the `x86-64-v3` level). Emitted code has 128-bit vectors on this and all later tiers, in
    /// three-operand forms; precompiled kernels have the widest that the tier offers.
    X86V3,
    /// [`Tier::X86V3`] and a `vpdpbusd` of up to 256 bits, from AVX-VNNI or from AVX-512 VNNI with VL.
    X86V3Vnni,
    /// 512-bit vectors with byte and word operations and `vpdpbusd`: AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// [`Tier::Avx512Vnni`] and byte permutations across 512 bits: AVX-512 VBMI.
    Avx512Vbmi,
}

impl Tier {
    /// Every tier, weakest first.
    pub const ALL: [Tier; 5] = [Tier::X86V2, Tier::X86V3, Tier::X86V3Vnni, Tier::Avx512Vnni, Tier::Avx512Vbmi];

    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Tier::X86V2 => "x86-64-v2",
            Tier::X86V3 => "x86-64-v3",
            Tier::X86V3Vnni => "x86-64-v3-vnni",
            Tier::Avx512Vnni => "avx512-vnni",
            Tier::Avx512Vbmi => "avx512-vbmi",
        }
    }

    /// The tier of that [`Tier::name`].
    pub fn from_name(name: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// The best tier of the CPU that runs this, or `None` if it has none of them.
    pub fn detect() -> Option<Tier> {
        Tier::ALL.into_iter().rev().find(|tier| tier.is_available())
    }

    /// The tiers of the CPU that runs this, weakest first.
    pub fn available() -> Vec<Tier> {
        Tier::ALL.into_iter().filter(|tier| tier.is_available()).collect()
    }

    /// Whether the CPU that runs this can execute code of the tier.
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
            Tier::X86V2 => v2,
            Tier::X86V3 => v3,
            Tier::X86V3Vnni => v3 && (avx512_vnni || std::is_x86_feature_detected!("avxvnni")),
            Tier::Avx512Vnni => avx512,
            Tier::Avx512Vbmi => avx512 && std::is_x86_feature_detected!("avx512vbmi"),
        }
    }

    /// Whether the CPU that runs this can execute code of the tier.
    #[cfg(not(target_arch = "x86_64"))]
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
    }

    #[test]
    fn an_available_tier_includes_the_weaker_ones() {
        for pair in Tier::ALL.windows(2) {
            assert!(!pair[1].is_available() || pair[0].is_available());
        }
    }
}
