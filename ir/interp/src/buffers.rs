//! Memory of values that are no longer needed, kept for those that come next.

use catc_ir::{Tensor, TensorData};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Freed vectors, shared by all evaluations of an interpreter and its clones on all threads. Fresh pages cost more than the work
/// that many operations do on them, so they are kept from one evaluation to the next: at most as many bytes as the evaluations
/// alive at the same time have needed together.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Free>>);

#[derive(Default)]
struct Free {
    f32: Shelf<f32>,
    code: Shelf<i16>,
    /// How many vectors were given back.
    given: u64,
    /// Bytes of all of them.
    bytes: usize,
    /// Bytes that the evaluations alive now need, and the most that was.
    active: usize,
    most: usize,
}

/// What an evaluation, or the way back through one, needs while it is alive.
pub(crate) struct Lease {
    buffers: Buffers,
    bytes: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.buffers.lock().active -= self.bytes;
    }
}

/// Freed vectors of one kind of element. There can be thousands: a recorded evaluation gives all of its values back at once.
#[derive(Default)]
struct Shelf<T> {
    /// By capacity and by when they came.
    by_capacity: BTreeMap<(usize, u64), Vec<T>>,
    /// When they came, with their capacity.
    by_age: BTreeMap<u64, usize>,
}

impl<T: Copy + Default> Shelf<T> {
    /// Takes the smallest vector that holds `len` elements and is not much larger; of equal ones the last that came, which the cache
    /// may hold still.
    fn take(&mut self, bytes: &mut usize, len: usize) -> Option<Vec<T>> {
        let most = len.saturating_mul(4).max(1 << 12);
        let (&(capacity, _), _) = self.by_capacity.range((len, 0)..=(most, u64::MAX)).next()?;
        let (&(_, age), _) = self.by_capacity.range((capacity, 0)..=(capacity, u64::MAX)).next_back()?;
        let mut v = self.remove(bytes, capacity, age)?;
        v.resize(len, T::default());
        Some(v)
    }

    fn remove(&mut self, bytes: &mut usize, capacity: usize, age: u64) -> Option<Vec<T>> {
        self.by_age.remove(&age);
        *bytes -= capacity * size_of::<T>();
        self.by_capacity.remove(&(capacity, age))
    }

    fn add(&mut self, bytes: &mut usize, v: Vec<T>, age: u64) {
        *bytes += v.capacity() * size_of::<T>();
        self.by_age.insert(age, v.capacity());
        self.by_capacity.insert((v.capacity(), age), v);
    }

    /// Frees the vector that came first, if there is one.
    fn drop_oldest(&mut self, bytes: &mut usize) -> bool {
        let Some((&age, &capacity)) = self.by_age.first_key_value() else { return false };
        self.remove(bytes, capacity, age).is_some()
    }
}

impl Buffers {
    fn lock(&self) -> MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that `bytes` are needed at once from now on, until the lease is dropped.
    pub fn lease(&self, bytes: usize) -> Lease {
        let mut free = self.lock();
        free.active += bytes;
        free.most = free.most.max(free.active);
        Lease { buffers: self.clone(), bytes }
    }

    /// `len` reals of any value.
    pub fn f32(&mut self, len: usize) -> Vec<f32> {
        let free = &mut *self.lock();
        // Zeroed pages come from the system for nothing, so this beats growing a vector that is too small.
        let mut v = free.f32.take(&mut free.bytes, len).unwrap_or_else(|| vec![0.0; len]);
        if cfg!(debug_assertions) {
            // Whoever reads what was not written shall see it.
            v.fill(f32::NAN);
        }
        v
    }

    /// `len` zeros.
    pub fn zeros(&mut self, len: usize) -> Vec<f32> {
        let mut v = self.f32(len);
        v.fill(0.0);
        v
    }

    /// `len` codes of any value.
    pub fn code(&mut self, len: usize) -> Vec<i16> {
        let free = &mut *self.lock();
        free.code.take(&mut free.bytes, len).unwrap_or_else(|| vec![0; len])
    }

    /// Takes back a vector of reals.
    pub fn give_f32(&mut self, v: Vec<f32>) {
        if v.capacity() > 0 {
            let free = &mut *self.lock();
            free.given += 1;
            free.f32.add(&mut free.bytes, v, free.given);
            free.shrink();
        }
    }

    /// Takes back the memory of a tensor.
    pub fn give(&mut self, tensor: Tensor) {
        match tensor.into_data() {
            TensorData::F32(v) => self.give_f32(v),
            TensorData::Code(v) if v.capacity() > 0 => {
                let free = &mut *self.lock();
                free.given += 1;
                free.code.add(&mut free.bytes, v, free.given);
                free.shrink();
            }
            _ => {}
        }
    }
}

impl Free {
    /// Frees vectors until there are no more bytes than evaluations needed.
    fn shrink(&mut self) {
        while self.bytes > self.most
            && (self.f32.drop_oldest(&mut self.bytes) || self.code.drop_oldest(&mut self.bytes))
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_stays_within_what_was_needed() {
        let mut buffers = Buffers::default();
        let lease = buffers.lease(5000 * 4);
        let v = buffers.f32(4000);
        let place = v.as_ptr();
        buffers.give_f32(v);
        let again = buffers.f32(3000);
        assert_eq!((again.len(), again.as_ptr()), (3000, place));
        buffers.give_f32(again);
        // One more would pass what was asked for: the older goes.
        buffers.give_f32(vec![0.0; 2000]);
        assert_eq!(buffers.lock().bytes, 8000);
        drop(lease);
        let free = buffers.lock();
        assert_eq!((free.active, free.most), (0, 20000));
    }
}
