//! Names of instruction sets: `native`, a tier, or a family of tiers.

use catc_kernels::Tier;

/// The environment variable that chooses the instruction set of sessions whose options do not.
pub const CPU_VARIABLE: &str = "CATC_CPU";

/// Why a name does not stand for a tier that this CPU can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// No tier or family has this name.
    #[error("unknown CPU {name:?}: known are {known}; this CPU can run {available}")]
    Unknown {
        /// The name.
        name: String,
        /// All names.
        known: String,
        /// The tiers that this CPU can run.
        available: String,
    },
    /// This CPU has no such instructions.
    #[error("this CPU cannot run code for {name:?}; it can run {available}")]
    Unavailable {
        /// The name.
        name: String,
        /// The tiers that this CPU can run.
        available: String,
    },
}

/// Families of tiers: the name of a family, and how the names of its tiers begin. The name stands for the best of them that the CPU has.
const FAMILIES: [(&str, &str); 2] = [("avx512", "avx512"), ("avx2", "x86-64-v3")];

/// The tier that a name stands for. `native` is the best tier of this CPU; `avx512` and `avx2` are the best tier of that family that this
/// CPU can run; any other name is a [`Tier::name`].
///
/// # Errors
/// If no tier has this name, or this CPU cannot run its code.
pub fn tier_named(name: &str) -> Result<Tier, CpuError> {
    tier_among(name, &Tier::available())
}

fn tier_among(name: &str, available: &[Tier]) -> Result<Tier, CpuError> {
    let found = match (name, FAMILIES.iter().find(|(family, _)| *family == name)) {
        ("native", _) => available.last().copied(),
        (_, Some((_, start))) => available.iter().rev().find(|tier| tier.name().starts_with(start)).copied(),
        _ => match Tier::from_name(name) {
            Some(tier) => available.contains(&tier).then_some(tier),
            None => {
                let names = Tier::ALL.iter().map(|tier| tier.name());
                let known = ["native", "avx512", "avx2"].into_iter().chain(names).collect::<Vec<_>>().join(", ");
                return Err(CpuError::Unknown { name: name.into(), known, available: list(available) });
            }
        },
    };
    found.ok_or_else(|| CpuError::Unavailable { name: name.into(), available: list(available) })
}

/// The tier that the environment variable `CATC_CPU` names, if it is set.
///
/// # Errors
/// As [`tier_named`].
pub fn tier_of_environment() -> Result<Option<Tier>, CpuError> {
    match std::env::var_os(CPU_VARIABLE) {
        Some(name) if !name.is_empty() => tier_named(&name.to_string_lossy()).map(Some),
        _ => Ok(None),
    }
}

fn list(tiers: &[Tier]) -> String {
    match tiers {
        [] => "none of them".into(),
        some => some.iter().map(|tier| tier.name()).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_tiers_that_the_cpu_has() {
        let some = [Tier::X86V2, Tier::X86V3];
        assert_eq!(tier_among("native", &some), Ok(Tier::X86V3));
        assert_eq!(tier_among("avx2", &some), Ok(Tier::X86V3));
        assert_eq!(tier_among("x86-64-v2", &some), Ok(Tier::X86V2));
        for name in ["avx512", "x86-64-v3-vnni"] {
            let error = tier_among(name, &some).unwrap_err();
            assert_eq!(error, CpuError::Unavailable { name: name.into(), available: "x86-64-v2, x86-64-v3".into() });
        }
        assert!(matches!(tier_among("native", &[]), Err(CpuError::Unavailable { .. })));
        let error = tier_among("pentium", &some).unwrap_err().to_string();
        assert!(
            error.contains("\"pentium\"") && error.contains("native") && error.contains("x86-64-v3-vnni"),
            "{error}"
        );
    }
}
