//! A pool of freed vectors, which later values reuse.

use catc_ir::{Tensor, TensorData};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Freed vectors, shared by all evaluations of an interpreter and its clones on all threads. Allocating fresh pages costs more
/// than many operations that use them, so vectors are kept from one evaluation to the next. The pool holds at most as many bytes
/// as the evaluations that were alive at the same time needed together.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Free>>);

#[derive(Default)]
struct Free {
    f32: Shelf<f32>,
    code: Shelf<i16>,
    /// The number of vectors returned so far.
    given: u64,
    /// The bytes of all free vectors.
    bytes: usize,
    /// The bytes that the evaluations alive now need, and the maximum of this number so far.
    active: usize,
    most: usize,
}

/// The bytes that an evaluation or a backward pass needs while it is alive.
pub(crate) struct Lease {
    buffers: Buffers,
    bytes: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.buffers.lock().active -= self.bytes;
    }
}

/// Freed vectors of one element type. There can be thousands, because a recorded evaluation returns all of its values at once.
#[derive(Default)]
struct Shelf<T> {
    /// The vectors, by capacity and age. A larger age means that the vector was returned later.
    by_capacity: BTreeMap<(usize, u64), Vec<T>>,
    /// The capacity of the vector with each age.
    by_age: BTreeMap<u64, usize>,
}

impl<T: Copy + Default> Shelf<T> {
    /// Takes the smallest vector that holds `len` elements and is not much larger. Of vectors with equal capacity it takes the
    /// one returned last, because that may still be in the cache.
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

    /// Frees the vector that was returned first, if there is one.
    fn drop_oldest(&mut self, bytes: &mut usize) -> bool {
        let Some((&age, &capacity)) = self.by_age.first_key_value() else { return false };
        self.remove(bytes, capacity, age).is_some()
    }
}

impl Buffers {
    fn lock(&self) -> MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an evaluation needs `bytes` at once until the lease is dropped.
    pub fn lease(&self, bytes: usize) -> Lease {
        let mut free = self.lock();
        free.active += bytes;
        free.most = free.most.max(free.active);
        Lease { buffers: self.clone(), bytes }
    }

    /// A vector of `len` f32 with arbitrary values.
    pub fn f32(&mut self, len: usize) -> Vec<f32> {
        let free = &mut *self.lock();
        // The system provides zeroed pages at no extra cost, so this is faster than growing a vector that is too small.
        let mut v = free.f32.take(&mut free.bytes, len).unwrap_or_else(|| vec![0.0; len]);
        if cfg!(debug_assertions) {
            // NaN exposes reads of elements that were never written.
            v.fill(f32::NAN);
        }
        v
    }

    /// A vector of `len` zeros.
    pub fn zeros(&mut self, len: usize) -> Vec<f32> {
        let mut v = self.f32(len);
        v.fill(0.0);
        v
    }

    /// A vector of `len` codes with arbitrary values.
    pub fn code(&mut self, len: usize) -> Vec<i16> {
        let free = &mut *self.lock();
        free.code.take(&mut free.bytes, len).unwrap_or_else(|| vec![0; len])
    }

    /// Returns a vector of f32 to the pool.
    pub fn give_f32(&mut self, v: Vec<f32>) {
        if v.capacity() > 0 {
            let free = &mut *self.lock();
            free.given += 1;
            free.f32.add(&mut free.bytes, v, free.given);
            free.shrink();
        }
    }

    /// Returns the memory of a tensor to the pool.
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
    /// Frees vectors until the pool holds no more bytes than evaluations have needed.
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
        // One more vector would exceed the leased bytes, so the oldest is freed.
        buffers.give_f32(vec![0.0; 2000]);
        assert_eq!(buffers.lock().bytes, 8000);
        drop(lease);
        let free = buffers.lock();
        assert_eq!((free.active, free.most), (0, 20000));
    }
}
