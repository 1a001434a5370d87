//! The list of inner kernels.

use crate::function::Function;
use crate::kernel::{Kernel, KernelRef};
use crate::{depthwise, dot, epilogue, float, pairs, planes};
#[cfg(target_arch = "x86_64")]
use crate::{triples, winograd};

/// All inner kernels, grouped by family. Precompiled ones are listed only for the architecture that this crate is compiled for.
pub const KERNELS: &[KernelRef] = &[
    listed(&dot::emitted::VNNI),
    listed(&dot::emitted::MADDUBS),
    listed(&dot::emitted::MADD16),
    listed(&dot::emitted::SIGNED),
    listed(&dot::emitted::USDOT),
    #[cfg(target_arch = "x86_64")]
    listed(&dot::avx2::VNNI_256),
    #[cfg(target_arch = "x86_64")]
    listed(&dot::avx2::MADDUBS_256),
    #[cfg(target_arch = "x86_64")]
    listed(&dot::avx2::MADD16_256),
    #[cfg(target_arch = "x86_64")]
    listed(&dot::avx512::VNNI_512),
    listed(&pairs::emitted::PAIRS_128),
    #[cfg(target_arch = "x86_64")]
    listed(&pairs::avx2::PAIRS_256),
    #[cfg(target_arch = "x86_64")]
    listed(&triples::avx512::TRIPLES_512),
    #[cfg(target_arch = "x86_64")]
    listed(&winograd::avx2::VNNI_256),
    #[cfg(target_arch = "x86_64")]
    listed(&winograd::avx2::MADDUBS_256),
    #[cfg(target_arch = "x86_64")]
    listed(&winograd::avx512::TWO_BY_TWO_512),
    #[cfg(target_arch = "x86_64")]
    listed(&winograd::avx512::THREE_BY_THREE_512),
    #[cfg(target_arch = "x86_64")]
    listed(&winograd::avx512::THREE_BY_FOUR_512),
    listed(&depthwise::emitted::MADDUBS),
    listed(&depthwise::emitted::MADD16),
    listed(&depthwise::emitted::FLOAT),
    #[cfg(target_arch = "x86_64")]
    listed(&depthwise::avx2::MADDUBS_256),
    #[cfg(target_arch = "x86_64")]
    listed(&depthwise::avx2::MADD16_256),
    #[cfg(target_arch = "x86_64")]
    listed(&depthwise::avx2::FLOATS_256),
    #[cfg(target_arch = "x86_64")]
    listed(&depthwise::avx512::CODES_512),
    #[cfg(target_arch = "x86_64")]
    listed(&depthwise::avx512::FLOATS_512),
    listed(&float::emitted::FLOAT_128),
    #[cfg(target_arch = "x86_64")]
    listed(&float::avx2::FLOAT_256),
    #[cfg(target_arch = "x86_64")]
    listed(&float::avx512::FLOAT_512),
];

const fn listed(kernel: &'static dyn Kernel) -> KernelRef {
    KernelRef::new(kernel)
}

/// Former and present names of renamed kernels. Tunings stored in older models contain the former names.
const FORMER_NAMES: [(&str, &str); 3] =
    [("lookup-w2a2", "pairs-128"), ("lookup-256", "pairs-256"), ("lookup-vbmi-512", "triples-512")];

/// The kernel in a list with the given name or former name.
pub fn find(list: &[KernelRef], name: &str) -> Option<KernelRef> {
    let name = FORMER_NAMES.iter().find(|(former, _)| *former == name).map_or(name, |(_, now)| now);
    list.iter().copied().find(|kernel| kernel.name() == name)
}

/// Every precompiled function that generated code may call, without duplicates: of the kernels, of epilogues and of planes.
pub fn functions(list: &[KernelRef]) -> Vec<&'static Function> {
    let mut all: Vec<&'static Function> = Vec::new();
    let others = epilogue::functions().iter().chain(planes::functions()).copied();
    for function in list.iter().flat_map(|kernel| kernel.execution().functions()).chain(others) {
        if !all.contains(&function) {
            all.push(function);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Implementation;

    #[test]
    fn names_and_symbols_are_unique() {
        for (at, kernel) in KERNELS.iter().enumerate() {
            assert_eq!(find(KERNELS, kernel.name()), Some(*kernel));
            assert!(KERNELS[..at].iter().all(|before| before.name() != kernel.name()), "{}", kernel.name());
        }
        for (former, now) in FORMER_NAMES {
            let listed = KERNELS.iter().copied().find(|kernel| kernel.name() == now);
            assert_eq!(find(KERNELS, former), listed);
            assert!(listed.is_some() || cfg!(not(target_arch = "x86_64")), "{now}");
        }
        let functions = functions(KERNELS);
        for (at, function) in functions.iter().enumerate() {
            let same = |other: &&Function| other.pointer() as usize == function.pointer() as usize;
            assert!(!functions[..at].iter().any(same), "{function:?} is listed under two symbols");
        }
    }

    #[test]
    fn precompiled_kernels_have_functions_of_their_tier() {
        for kernel in KERNELS {
            let functions = kernel.execution().functions();
            let info = kernel.info();
            assert_eq!(functions.is_empty(), info.implementation == Implementation::Emitted, "{}", info.name);
            assert!(functions.iter().all(|f| info.tier.includes(f.tier())), "{}", info.name);
        }
    }
}
