//! The threads of a session. They share the work of one run at a time and sleep between runs.
//!
//! A *job* is a number of work units. Every thread claims chunks of them until none is left: the thread that runs the model, and the
//! others, its *helpers*. A helper that wakes late, or not at all, therefore delays nobody. During a run a helper without work spins for a
//! moment before it sleeps, because the next step begins within microseconds.

use catc_jit::{ParallelFor, chunk_size};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a helper without work spins during a run before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// Spins between two readings of the clock.
const SPINS_PER_READING: u32 = 64;

/// Spins of the running thread, while it waits for its helpers, before it yields its core to other threads.
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// The next unit of a job that is over or has not begun: there is nothing to claim.
const CLOSED: u32 = u32::MAX;

/// The work of a job. It lives on the stack of the thread that runs the model.
struct Job<'a> {
    part: &'a (dyn Fn(usize, Range<usize>) + Sync),
}

/// The state that the running thread and its helpers share.
struct Shared {
    /// The number of the job in the upper 32 bits, the next unclaimed unit in the lower 32 bits.
    next: AtomicU64,
    /// The job. It stays valid while any of its units is claimed and not done.
    job: AtomicPtr<Job<'static>>,
    units: AtomicUsize,
    chunk_size: AtomicUsize,
    done: AtomicUsize,
    /// Whether a part has panicked.
    failed: AtomicBool,
    /// Whether a run is under way.
    running: AtomicBool,
    sleepers: AtomicUsize,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// A session's threads.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Locked by the run that uses the helpers.
    turn: Mutex<()>,
}

/// The helpers, for one run.
pub(crate) struct Run<'t> {
    pool: &'t ThreadPool,
    _turn: MutexGuard<'t, ()>,
}

impl ThreadPool {
    /// A pool of `threads` threads, 1 or more, the one that runs the model included.
    ///
    /// # Errors
    /// If the operating system cannot start the threads.
    pub fn new(threads: usize) -> std::io::Result<ThreadPool> {
        let shared = Arc::new(Shared {
            next: AtomicU64::new(u64::from(CLOSED)),
            job: AtomicPtr::new(std::ptr::null_mut()),
            units: AtomicUsize::new(0),
            chunk_size: AtomicUsize::new(1),
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            running: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut pool = ThreadPool { shared, helpers: Vec::new(), turn: Mutex::new(()) };
        for worker in 1..threads {
            let shared = pool.shared.clone();
            let helper = std::thread::Builder::new().name(format!("catc-{worker}")).spawn(move || shared.help(worker));
            // If one cannot be started, dropping the pool stops those that were.
            pool.helpers.push(helper?);
        }
        Ok(pool)
    }

    /// The helpers, for the caller's run; `None` if another run is using them.
    pub fn enter(&self) -> Option<Run<'_>> {
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            // A run that panicked has closed its job, so the next one finds the pool at rest.
            Err(std::sync::TryLockError::Poisoned(e)) => e.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        self.shared.running.store(true, Ordering::Relaxed);
        Some(Run { pool: self, _turn: turn })
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake_all();
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.pool.shared.running.store(false, Ordering::Relaxed);
    }
}

// SAFETY: `Run::share` hands out each unit once, by a counter that only grows, and returns when all are done. Each thread has its own worker
// number.
unsafe impl ParallelFor for Run<'_> {
    fn workers(&self) -> usize {
        self.pool.helpers.len() + 1
    }

    fn parallel_for(&self, units: usize, cycles: f64, part: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.share(units, chunk_size(units, cycles, self.workers()), part);
    }
}

impl Run<'_> {
    /// Calls `part(worker, range)` for ranges of `chunk_size` units (the last may be shorter) that together are `0..units`.
    pub fn share(&self, units: usize, chunk_size: usize, part: &(dyn Fn(usize, Range<usize>) + Sync)) {
        if units <= chunk_size || self.pool.helpers.is_empty() || units >= CLOSED as usize / 2 {
            return part(0, 0..units);
        }
        let shared = &*self.pool.shared;
        let job = Job { part };
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        shared.units.store(units, Ordering::Relaxed);
        shared.chunk_size.store(chunk_size.max(1), Ordering::Relaxed);
        shared.done.store(0, Ordering::Relaxed);
        let number = (shared.next.load(Ordering::Relaxed) >> 32) as u32;
        let open = u64::from(number.wrapping_add(1)) << 32;
        // Sequentially consistent, as in `Shared::wait`: either this thread sees the sleeper, or the sleeper sees the job.
        shared.next.store(open, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            shared.wake_all();
        }
        while shared.do_part(0) {}
        let mut waits = 0;
        while shared.done.load(Ordering::Acquire) < units {
            waits += 1;
            if waits < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        // A helper that read this job's number can claim nothing from now on: neither of this job nor, under its number, of the next.
        shared.next.store(open | u64::from(CLOSED), Ordering::SeqCst);
        if shared.failed.swap(false, Ordering::Relaxed) {
            panic!("a part of a run panicked");
        }
    }
}

impl Shared {
    /// Wakes all sleeping helpers.
    fn wake_all(&self) {
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    /// Whether there are unclaimed units.
    fn has_work(&self) -> bool {
        let unit = self.next.load(Ordering::SeqCst) as u32;
        unit != CLOSED && (unit as usize) < self.units.load(Ordering::Relaxed)
    }

    /// Claims a chunk of the current job and does it. Returns false if there is none.
    fn do_part(&self, worker: usize) -> bool {
        loop {
            let now = self.next.load(Ordering::Acquire);
            let (first, units) = (now as u32, self.units.load(Ordering::Relaxed));
            if first == CLOSED || first as usize >= units {
                return false;
            }
            let last = (first as usize + self.chunk_size.load(Ordering::Relaxed)).min(units);
            // If the units or the chunk size were read from another job, the job's number has changed too, and the claim fails.
            let claimed = (now & !u64::from(u32::MAX)) | last as u64;
            if self.next.compare_exchange_weak(now, claimed, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            let count = last - first as usize;
            // SAFETY: the units are claimed and not done, so the thread in `Run::share` still waits and its job is on its stack.
            let part = unsafe { (*self.job.load(Ordering::Relaxed)).part };
            if catch_unwind(AssertUnwindSafe(|| part(worker, first as usize..last))).is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            self.done.fetch_add(count, Ordering::Release);
            return true;
        }
    }

    /// The loop of a helper thread.
    fn help(&self, worker: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            if !self.do_part(worker) {
                self.wait();
            }
        }
    }

    /// Spins, then sleeps; returns when there may be work, or when the pool stops.
    fn wait(&self) {
        let start = Instant::now();
        while self.running.load(Ordering::Relaxed) && start.elapsed() < SPIN_TIME {
            for _ in 0..SPINS_PER_READING {
                if self.has_work() {
                    return;
                }
                std::hint::spin_loop();
            }
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !self.has_work() && !self.stop.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(run: &Run<'_>, units: usize, chunk_size: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
        run.share(units, chunk_size, &|worker, range| {
            assert!(worker < run.workers() && range.start % chunk_size == 0);
            for i in range {
                counts[i].fetch_add(1, Ordering::Relaxed);
            }
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_unit_is_done_once() {
        for threads in [1, 2, 3, 5] {
            let pool = ThreadPool::new(threads).unwrap();
            for round in 0..300 {
                let run = pool.enter().unwrap();
                assert_eq!(run.workers(), threads);
                for (units, chunk_size) in [(1, 1), (7, 2), (64, 1), (33, 5), (0, 1)] {
                    assert_eq!(sum(&run, units, chunk_size), vec![1; units]);
                }
                drop(run);
                if round % 100 == 0 {
                    // Long enough for the helpers to sleep.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    #[test]
    fn one_run_has_the_helpers() {
        let pool = ThreadPool::new(2).unwrap();
        let run = pool.enter().unwrap();
        assert!(pool.enter().is_none());
        drop(run);
        assert!(pool.enter().is_some());
    }

    #[test]
    fn a_panic_reaches_the_run_and_the_team_goes_on() {
        let pool = ThreadPool::new(3).unwrap();
        let run = pool.enter().unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| run.share(9, 1, &|_, r| assert!(r.start != 4, "expected"))));
        assert!(failed.is_err());
        assert_eq!(sum(&run, 20, 3), vec![1; 20]);
    }

    #[test]
    fn helpers_sleep_between_runs() {
        let pool = ThreadPool::new(3).unwrap();
        drop(pool.enter().map(|run| sum(&run, 50, 1)));
        let asleep = || pool.shared.sleepers.load(Ordering::SeqCst) == 2;
        let start = Instant::now();
        while !asleep() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(asleep());
    }
}
