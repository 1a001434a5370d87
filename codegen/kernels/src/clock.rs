//! The clock of the CPU, so that times can be told in cycles.

use std::time::Instant;

/// Turns of the counting loop: some tens of microseconds, less than a slice of the scheduler.
const TURNS: u64 = 100_000;

/// Attempts, of which the fastest counts: an interruption only makes one slower.
const ATTEMPTS: usize = 40;

/// Cycles per second of this CPU at its present clock, measured with a chain of additions, each of which takes one cycle. `None` where
/// no such loop is known. Takes a few milliseconds.
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

/// Dependent additions of a turn.
const CHAIN: u64 = 16;

/// The counting loop: an addition, and how a turn ends.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! count {
    ($add:literal, $($end:literal),+) => {
        // A register is added to another, not a constant: chains of additions of constants are folded by newer CPUs.
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
