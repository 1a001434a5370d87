//! The Cranelift target for a tier.

use crate::error::JitError;
use catc_kernels::Tier;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable, SetError};

/// What each tier lets Cranelift use, on top of the tier before.
fn features(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::X86V2 => &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"],
        Tier::X86V3 => &["has_avx", "has_avx2", "has_bmi1", "has_bmi2", "has_lzcnt"],
        Tier::X86V3Vnni | Tier::Avx512Vnni | Tier::Avx512Vbmi => &[],
    }
}

/// The flag under which the CPU has a 128-bit `vpdpbusd`. Ahead of time, where there is no CPU to ask, it is AVX-VNNI.
fn vnni_features() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if !std::is_x86_feature_detected!("avxvnni") && std::is_x86_feature_detected!("avx512vnni") {
        return &["has_avx512f", "has_avx512vl", "has_avx512vnni"];
    }
    &["has_avx_vnni"]
}

/// The target for a tier. Code holds no host address, so that the same functions can go into an object file (there with `is_pic`,
/// which the JIT does not take).
pub(crate) fn isa(tier: Tier) -> Result<OwnedTargetIsa, JitError> {
    let broken = |message: String| JitError::Codegen { step: "target".into(), message };
    let mut flags = settings::builder();
    let set = |flags: &mut settings::Builder| -> Result<(), SetError> {
        // Optimisation sinks vector code to the end of a block and spills it: kernels are emitted in the order they shall run.
        flags.set("opt_level", "none")?;
        flags.set("unwind_info", "false")?;
        flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })
    };
    set(&mut flags).map_err(|e| broken(e.to_string()))?;
    let mut builder = cranelift_codegen::isa::lookup_by_name("x86_64").map_err(|e| broken(e.to_string()))?;
    for weaker in Tier::ALL.into_iter().filter(|&t| t <= tier) {
        for feature in features(weaker) {
            builder.enable(feature).map_err(|e| broken(e.to_string()))?;
        }
    }
    if tier >= Tier::X86V3Vnni {
        for feature in vnni_features() {
            builder.enable(feature).map_err(|e| broken(e.to_string()))?;
        }
    }
    builder.finish(settings::Flags::new(flags)).map_err(|e| broken(e.to_string()))
}
