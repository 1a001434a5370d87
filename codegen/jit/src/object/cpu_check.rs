//! The C function that checks whether the CPU can run an object's code.

use catc_kernels::{Architecture, Tier};
use std::fmt::Write;

/// A word of CPU identification, and the bits of it that tiers require.
struct Word {
    /// The C expression that loads the word into `a`, `b`, `c` or `d`; it is 0 if the CPU does not have the word.
    query: &'static str,
    register: char,
    /// Each bit with the weakest tier that requires it.
    bits: &'static [(Tier, u32)],
}

/// Intel SDM volume 2A, instruction CPUID, tables 3-8 and following.
const X86: &[Word] = &[
    Word {
        query: "__get_cpuid(1, &a, &b, &c, &d)",
        register: 'c',
        // SSE3, SSSE3, SSE4.1, SSE4.2, POPCNT; FMA, OSXSAVE, AVX.
        bits: &[
            (Tier::X86V2, 0),
            (Tier::X86V2, 9),
            (Tier::X86V2, 19),
            (Tier::X86V2, 20),
            (Tier::X86V2, 23),
            (Tier::X86V3, 12),
            (Tier::X86V3, 27),
            (Tier::X86V3, 28),
        ],
    },
    Word {
        query: "__get_cpuid_count(7, 0, &a, &b, &c, &d)",
        register: 'b',
        // BMI1, AVX2, BMI2; AVX-512 F, DQ, BW, VL.
        bits: &[
            (Tier::X86V3, 3),
            (Tier::X86V3, 5),
            (Tier::X86V3, 8),
            (Tier::Avx512Vnni, 16),
            (Tier::Avx512Vnni, 17),
            (Tier::Avx512Vnni, 30),
            (Tier::Avx512Vnni, 31),
        ],
    },
    Word {
        query: "__get_cpuid_count(7, 0, &a, &b, &c, &d)",
        register: 'c',
        // AVX-512 VNNI, VBMI.
        bits: &[(Tier::Avx512Vnni, 11), (Tier::Avx512Vbmi, 1)],
    },
    Word {
        query: "__get_cpuid(0x80000001u, &a, &b, &c, &d)",
        register: 'c',
        // LZCNT.
        bits: &[(Tier::X86V3, 5)],
    },
];

/// The text of `static inline int NAME_supported(void)`, with its includes.
pub(super) fn function(name: &str, tier: Tier) -> String {
    match tier.architecture() {
        Architecture::X86_64 => x86(name, tier),
        Architecture::Aarch64 => arm(name, tier),
    }
}

fn x86(name: &str, tier: Tier) -> String {
    let mut text =
        format!("#include <cpuid.h>\nstatic inline int {name}_supported(void) {{\n    unsigned int a, b, c, d;\n");
    for word in X86 {
        let mask = word.bits.iter().filter(|(t, _)| tier.includes(*t)).fold(0u32, |mask, (_, bit)| mask | 1 << bit);
        if mask != 0 {
            let (query, register) = (word.query, word.register);
            let _ = writeln!(text, "    if (!{query} || ({register} & {mask:#x}u) != {mask:#x}u) return 0;");
        }
    }
    // Emitted code uses the 128-bit `vpdpbusd` of AVX-VNNI for this tier, and that of AVX-512 VNNI for stronger tiers.
    if tier == Tier::X86V3Vnni {
        text += "    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || (a & 0x10u) == 0) return 0;\n";
    }
    if tier.includes(Tier::X86V3) {
        // The operating system must save the wide registers: XMM and YMM, and for AVX-512 also masks and ZMM.
        let states = if tier.includes(Tier::Avx512Vnni) { "0xe6u" } else { "0x6u" };
        text += "    __asm__ volatile(\"xgetbv\" : \"=a\"(a), \"=d\"(d) : \"c\"(0));\n";
        let _ = writeln!(text, "    if ((a & {states}) != {states}) return 0;");
    }
    text + "    return 1;\n}\n"
}

/// Linux, `Documentation/arch/arm64/elf_hwcaps.rst`: HWCAP_ASIMD, HWCAP_ASIMDDP, HWCAP2_I8MM.
fn arm(name: &str, tier: Tier) -> String {
    let hwcap = if tier.includes(Tier::Aarch64Dotprod) { (1u64 << 1) | (1 << 20) } else { 1 << 1 };
    let mut text = format!(
        "#if defined(__linux__)\n#include <sys/auxv.h>\nstatic inline int {name}_supported(void) {{\n    \
         if ((getauxval(16) & {hwcap:#x}ul) != {hwcap:#x}ul) return 0; /* AT_HWCAP */\n"
    );
    if tier.includes(Tier::Aarch64I8mm) {
        let hwcap2 = 1u64 << 13;
        let _ = writeln!(text, "    if ((getauxval(26) & {hwcap2:#x}ul) == 0) return 0; /* AT_HWCAP2 */");
    }
    text + "    return 1;\n}\n#endif\n"
}
