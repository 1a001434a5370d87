//! The Cranelift target for a tier.

use crate::error::JitError;
use catc_kernels::{Architecture, Tier};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable, SetError};

/// The destination of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// In this process.
    Here,
    /// In an object file for Linux.
    #[cfg(feature = "object")]
    Object,
}

/// The Cranelift features that a tier adds to those of the weaker tiers.
fn features(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::Aarch64Neon => &[],
        Tier::Aarch64Dotprod => &["has_dotprod"],
        Tier::Aarch64I8mm => &["has_i8mm"],
        Tier::X86V2 => &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"],
        Tier::X86V3 => &["has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"],
        Tier::X86V3Vnni | Tier::Avx512Vnni | Tier::Avx512Vbmi => &[],
    }
}

const AVX_VNNI: &[&str] = &["has_avx_vnni"];
const AVX512_VNNI: &[&str] = &["has_avx512f", "has_avx512vl", "has_avx512vnni"];

/// The features that provide a 128-bit `vpdpbusd`: those of this CPU, or those that the tier defines.
fn vnni_features(tier: Tier, destination: Destination) -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if destination == Destination::Here {
        let vex = std::is_x86_feature_detected!("avxvnni");
        let evex = std::is_x86_feature_detected!("avx512vnni");
        return if evex && !vex { AVX512_VNNI } else { AVX_VNNI };
    }
    let evex = destination != Destination::Here && tier.includes(Tier::Avx512Vnni);
    if evex { AVX512_VNNI } else { AVX_VNNI }
}

/// The target for a tier. Code contains no host addresses, so that the same functions can be part of an object file. Only there it is
/// position-independent, which Cranelift's JIT does not support.
pub(crate) fn isa(tier: Tier, destination: Destination) -> Result<OwnedTargetIsa, JitError> {
    let broken = |message: String| JitError::Codegen { step: "target".into(), message };
    let mut flags = settings::builder();
    let set = |flags: &mut settings::Builder| -> Result<(), SetError> {
        // No optimization, because it moves vector code to the end of a block and spills registers. The emitted order is the intended one.
        flags.set("opt_level", "none")?;
        flags.set("unwind_info", "false")?;
        flags.set("is_pic", if destination == Destination::Here { "false" } else { "true" })?;
        flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })
    };
    set(&mut flags).map_err(|e| broken(e.to_string()))?;
    let architecture = tier.architecture();
    let mut builder =
        cranelift_codegen::isa::lookup_by_name(architecture.triple()).map_err(|e| broken(e.to_string()))?;
    for weaker in Tier::of(architecture).filter(|&t| tier.includes(t)) {
        for feature in features(weaker) {
            builder.enable(feature).map_err(|e| broken(e.to_string()))?;
        }
    }
    if architecture == Architecture::X86_64 && tier.includes(Tier::X86V3Vnni) {
        for feature in vnni_features(tier, destination) {
            builder.enable(feature).map_err(|e| broken(e.to_string()))?;
        }
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| broken(e.to_string()))
}
