//! Sharing the work of a step between threads.

use crate::builder::Work;
use std::ops::Range;

/// Threads that share a step's work units.
///
/// # Safety
/// Machine code runs on what an implementation hands out. Calls of `part` that overlap in time must have different workers and ranges
/// without a unit in common, and [`ParallelFor::parallel_for`] must not return, nor unwind, before every call of `part` has returned. (Workers and ranges
/// beyond the step's are found by the caller, which panics.)
pub unsafe trait ParallelFor {
    /// How many calls there can be at a time, 1 or more.
    fn workers(&self) -> usize;

    /// Calls `part(worker, range)` for ranges that together are `0..units`, some maybe at the same time, then with different workers,
    /// which are numbers below [`ParallelFor::workers`]. Returns when all have returned. `cycles` is what one thread needs for all
    /// of it, roughly; [`chunk_size`] turns it into a length of ranges.
    fn parallel_for(&self, units: usize, cycles: f64, part: &(dyn Fn(usize, Range<usize>) + Sync));
}

/// Cycles below which a part is not worth handing to another thread: some microseconds.
const LEAST_CYCLES: f64 = 12_000.0;

/// Parts for each thread, so that a thread which is held up leaves work to others.
const PARTS_PER_WORKER: usize = 2;

/// Multiply-accumulates per cycle of steps without a kernel of their own.
const PLAIN_RATE: f64 = 4.0;

/// Bytes read or written per cycle by steps that are not arithmetic.
const BYTES_PER_CYCLE: f64 = 4.0;

/// Cycles that a function takes on one thread, roughly. `bytes` are those it reads and writes.
pub(crate) fn cycles(work: &[Work], bytes: usize) -> f64 {
    let arithmetic = work.iter().map(|work| work.cycles.unwrap_or(work.macs as f64 / PLAIN_RATE));
    arithmetic.sum::<f64>() + bytes as f64 / BYTES_PER_CYCLE
}

/// Units of a part when that many workers share a step of `units` units and `cycles`; `units` itself if it stays on one thread.
pub fn chunk_size(units: usize, cycles: f64, workers: usize) -> usize {
    let least = (units as f64 * LEAST_CYCLES / cycles.max(1.0)).ceil() as usize;
    let fair = units.div_ceil(workers.max(1) * PARTS_PER_WORKER);
    // A part that is nearly a worker's share is better a whole share.
    let share = units.div_ceil(workers.max(1)).max(1);
    if cycles < 2.0 * LEAST_CYCLES {
        return least.max(fair).clamp(1, units.max(1));
    }
    let from = least.max(fair).clamp(1, share);
    // The smallest with which the workers end soonest.
    (from..=share).min_by_key(|&chunk_size| (longest(units, chunk_size, workers.max(1)), chunk_size)).unwrap_or(share)
}

/// Units of the busiest worker when parts of `chunk_size` units, the last maybe smaller, go to whoever is idle.
fn longest(units: usize, chunk_size: usize, workers: usize) -> usize {
    let (full, rest) = (units / chunk_size, units % chunk_size);
    // Rounds in which every worker takes a whole part, then what is left.
    let (rounds, left) = (full / workers, full % workers);
    rounds * chunk_size + if left > 0 { chunk_size } else { rest }
}

#[cfg(test)]
mod tests {
    use super::chunk_size;

    #[test]
    fn small_steps_stay_on_one_thread() {
        assert_eq!(chunk_size(56, 5_000.0, 2), 56);
        assert_eq!(chunk_size(56, 1e6, 1), 28);
        assert_eq!(chunk_size(56, 1e6, 2), 14);
        assert_eq!(chunk_size(7, 1e6, 2), 2);
        assert_eq!(chunk_size(1, 1e9, 8), 1);
        assert_eq!(chunk_size(56, 30_000.0, 2), 28);
        // Halves, where quarters would leave one thread with more.
        assert_eq!(chunk_size(10, 1e6, 2), 5);
        assert_eq!(chunk_size(14, 1e6, 2), 7);
        assert_eq!(chunk_size(0, 0.0, 2), 1);
    }
}
