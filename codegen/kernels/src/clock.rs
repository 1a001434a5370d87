//! The clock rate of the CPU, to convert times to cycles.

use std::time::Instant;

/// Iterations of the counting loop: 1.6 million cycles, about half a millisecond, less than a time slice of the scheduler.
const TURNS: u64 = 100_000;

/// Attempts, of which the fastest counts, because an interruption only makes an attempt slower.
const ATTEMPTS: usize = 40;

/// Cycles per second of this CPU at its present clock, measured with a chain of additions, each of which takes one cycle. `None` on
/// architectures without a counting loop. Takes about 20 milliseconds.
pub fn cycles_per_second() -> Option<f64> {
    count(1)?;
    let seconds = (0..ATTEMPTS).map(|_| {
        let start = Instant::now();
        let _ = count(TURNS);
        start.elapsed().as_secs_f64()
    });
    let best = seconds.fold(f64::INFINITY, f64::min);
    (best > 0.0).then(|| (TURNS * CHAIN) as f64 / best)
}

/// Dependent additions per iteration.
const CHAIN: u64 = 16;

/// Defines the counting loop, given an addition and the instructions that end an iteration.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! count {
    ($add:literal, $($end:literal),+) => {
        // Adds a register, not a constant, because newer CPUs fold chains of constant additions.
        fn count(turns: u64) -> Option<()> {
            // SAFETY: only the named registers and the flags change.
            unsafe {
                std::arch::asm!(
                    "2:",
                    ".rept 16",
                    $add,
                    ".endr",
                    $($end,)+
                    turns = inout(reg) turns.max(1) => _,
                    sum = inout(reg) 0u64 => _,
                    one = in(reg) 1u64,
                    options(nomem, nostack),
                );
            }
            Some(())
        }
    };
}

#[cfg(target_arch = "x86_64")]
count!("add {sum}, {one}", "dec {turns}", "jnz 2b");

#[cfg(target_arch = "aarch64")]
count!("add {sum}, {sum}, {one}", "subs {turns}, {turns}, #1", "b.ne 2b");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn count(_: u64) -> Option<()> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn clocks_are_those_of_a_computer() {
        if let Some(clock) = super::cycles_per_second() {
            assert!((1e8..1e10).contains(&clock), "{clock}");
        }
    }
}
