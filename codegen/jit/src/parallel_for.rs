//! Sharing the work of a step between threads.

use crate::builder::Work;
use std::ops::Range;

/// Threads that share a step's work units.
///
/// # Safety
/// Machine code relies on the workers and ranges of an implementation. Concurrent calls of `part` must have different workers, and ranges
/// without a common unit. [`ParallelFor::parallel_for`] must neither return nor unwind before every call of `part` has returned. (`part`
/// itself checks that worker and range are in bounds, and panics if not.)
pub unsafe trait ParallelFor {
    /// The most concurrent calls of `part`, 1 or more.
    fn workers(&self) -> usize;

    /// Calls `part(worker, range)` for disjoint ranges that together are `0..units`, and returns when all calls have returned. Workers are
    /// numbers below [`ParallelFor::workers`]; concurrent calls must have different ones. `cycles` is the estimated time of one thread for all
    /// units; [`chunk_size`] computes a length of ranges from it.
    fn parallel_for(&self, units: usize, cycles: f64, part: &(dyn Fn(usize, Range<usize>) + Sync));
}

/// The fewest cycles for which giving a part to another thread pays: some microseconds.
const LEAST_CYCLES: f64 = 12_000.0;

/// Parts per thread. There are several, so that other threads can take parts of a delayed thread.
const PARTS_PER_WORKER: usize = 2;

/// Multiply-accumulates per cycle of steps without a kernel.
const PLAIN_RATE: f64 = 4.0;

/// Bytes read or written per cycle, in addition to the cycles of arithmetic.
const BYTES_PER_CYCLE: f64 = 4.0;

/// Estimated cycles of a function on one thread. `bytes` is the number of bytes that it reads and writes.
pub(crate) fn cycles(work: &[Work], bytes: usize) -> f64 {
    let arithmetic = work.iter().map(|work| work.cycles.unwrap_or(work.macs as f64 / PLAIN_RATE));
    arithmetic.sum::<f64>() + bytes as f64 / BYTES_PER_CYCLE
}

/// Units per part, if `workers` workers share a step of `units` units and `cycles` cycles; `units` if the step stays on one thread.
pub fn chunk_size(units: usize, cycles: f64, workers: usize) -> usize {
    let least = (units as f64 * LEAST_CYCLES / cycles.max(1.0)).ceil() as usize;
    let fair = units.div_ceil(workers.max(1) * PARTS_PER_WORKER);
    // A part is at most a worker's share.
    let share = units.div_ceil(workers.max(1)).max(1);
    if cycles < 2.0 * LEAST_CYCLES {
        return least.max(fair).clamp(1, units.max(1));
    }
    let from = least.max(fair).clamp(1, share);
    // The smallest size for which the workers finish earliest.
    (from..=share).min_by_key(|&chunk_size| (longest(units, chunk_size, workers.max(1)), chunk_size)).unwrap_or(share)
}

/// Units of the busiest worker, if idle workers take parts of `chunk_size` units, of which the last may be smaller.
fn longest(units: usize, chunk_size: usize, workers: usize) -> usize {
    let (full, rest) = (units / chunk_size, units % chunk_size);
    // Rounds in which every worker takes a whole part, then the remaining parts.
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
        // Halves, because with quarters one thread would have more units.
        assert_eq!(chunk_size(10, 1e6, 2), 5);
        assert_eq!(chunk_size(14, 1e6, 2), 7);
        assert_eq!(chunk_size(0, 0.0, 2), 1);
    }
}
