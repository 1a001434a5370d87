//! What the CPU can do at most: the rates of single instructions in loops without memory or dependencies.

use std::time::Instant;

/// An instruction and how often it is done in a cycle.
pub struct Ceiling {
    pub name: &'static str,
    /// Multiply-accumulates of one instruction; 0 where it does none.
    pub macs: u32,
    pub per_cycle: f64,
}

/// Turns of a loop: some microseconds, so that the fastest attempt is an undisturbed one.
const TURNS: u64 = 2_000;

/// Instructions of a turn, each with an accumulator of its own: twice what hides the longest latency.
const CHAINS: u32 = 12;

/// Seconds of a call, the fastest of many.
fn fastest(mut call: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..200).map(time).fold(f64::INFINITY, f64::min)
}

/// A loop of one instruction with the accumulators 0 to 11 and the operands 14 and 15.
#[cfg(target_arch = "x86_64")]
macro_rules! rate {
    ($clock:expr, $name:literal, $macs:literal, $feature:tt, $instruction:literal, $register:literal) => {
        if std::arch::is_x86_feature_detected!($feature) {
            let seconds = fastest(|| {
                // SAFETY: the CPU has the instruction; registers alone change.
                unsafe {
                    std::arch::asm!(
                        "2:",
                        concat!($instruction, " ", $register, "0, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "1, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "2, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "3, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "4, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "5, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "6, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "7, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "8, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "9, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "10, ", $register, "14, ", $register, "15"),
                        concat!($instruction, " ", $register, "11, ", $register, "14, ", $register, "15"),
                        "dec {turns}",
                        "jnz 2b",
                        turns = inout(reg) TURNS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            });
            let per_cycle = (TURNS * u64::from(CHAINS)) as f64 / seconds / $clock;
            Some(Ceiling { name: $name, macs: $macs, per_cycle })
        } else {
            None
        }
    };
}

/// The ceilings of this CPU, at a clock of that many cycles a second.
#[cfg(target_arch = "x86_64")]
pub fn measure(clock: f64) -> Vec<Ceiling> {
    [
        rate!(clock, "vpdpbusd, 512 bits", 64, "avx512vnni", "vpdpbusd", "zmm"),
        rate!(clock, "vpdpbusd, 256 bits", 32, "avx512vnni", "{{evex}} vpdpbusd", "ymm"),
        rate!(clock, "vpdpbusd, 128 bits", 16, "avx512vnni", "{{evex}} vpdpbusd", "xmm"),
        rate!(clock, "vpermb, 512 bits", 0, "avx512vbmi", "vpermb", "zmm"),
        rate!(clock, "vpaddb, 512 bits", 0, "avx512bw", "vpaddb", "zmm"),
        rate!(clock, "vpshufb, 512 bits", 0, "avx512bw", "vpshufb", "zmm"),
        rate!(clock, "vpmaddubsw, 512 bits", 0, "avx512bw", "vpmaddubsw", "zmm"),
        rate!(clock, "vpmaddubsw, 256 bits", 0, "avx2", "vpmaddubsw", "ymm"),
        rate!(clock, "vpshufb, 256 bits", 0, "avx2", "vpshufb", "ymm"),
        rate!(clock, "vpshufb, 128 bits", 0, "avx2", "vpshufb", "xmm"),
        rate!(clock, "vfmadd231ps, 512 bits", 16, "avx512f", "vfmadd231ps", "zmm"),
        rate!(clock, "vfmadd231ps, 256 bits", 8, "fma", "vfmadd231ps", "ymm"),
        rate!(clock, "vmulps, 128 bits", 0, "avx2", "vmulps", "xmm"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The ceilings of this CPU.
#[cfg(not(target_arch = "x86_64"))]
pub fn measure(_: f64) -> Vec<Ceiling> {
    let _ = (TURNS, CHAINS, fastest(|| ()));
    vec![]
}
