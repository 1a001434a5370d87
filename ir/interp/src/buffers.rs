//! Memory of values that are no longer needed, kept for those that come next.

use catc_ir::{Tensor, TensorData};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Freed vectors, shared by all evaluations of an interpreter and its clones on all threads. Fresh pages cost more than the work
/// that many operations do on them, so they are kept from one evaluation to the next: at most as many bytes as the evaluations
/// alive at the same time have needed together.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Free>>);

#[derive(Default)]
struct Free {
    f32: VecDeque<Vec<f32>>,
    code: VecDeque<Vec<i16>>,
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

/// Takes the smallest vector that holds `len` elements and is not much larger.
fn take<T: Copy + Default>(free: &mut VecDeque<Vec<T>>, bytes: &mut usize, len: usize) -> Option<Vec<T>> {
    let most = len.saturating_mul(4).max(1 << 12);
    let fits =
        (0..free.len()).filter(|&i| (len..=most).contains(&free[i].capacity())).min_by_key(|&i| free[i].capacity())?;
    let mut v = free.swap_remove_back(fits)?;
    *bytes -= v.capacity() * size_of::<T>();
    v.resize(len, T::default());
    Some(v)
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
        let mut v = take(&mut free.f32, &mut free.bytes, len).unwrap_or_else(|| vec![0.0; len]);
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
        take(&mut free.code, &mut free.bytes, len).unwrap_or_else(|| vec![0; len])
    }

    /// Takes back a vector of reals.
    pub fn give_f32(&mut self, v: Vec<f32>) {
        if v.capacity() > 0 {
            let mut free = self.lock();
            free.bytes += v.capacity() * size_of::<f32>();
            free.f32.push_back(v);
            free.shrink();
        }
    }

    /// Takes back the memory of a tensor.
    pub fn give(&mut self, tensor: Tensor) {
        match tensor.into_data() {
            TensorData::F32(v) => self.give_f32(v),
            TensorData::Code(v) if v.capacity() > 0 => {
                let mut free = self.lock();
                free.bytes += v.capacity() * size_of::<i16>();
                free.code.push_back(v);
                free.shrink();
            }
            _ => {}
        }
    }
}

impl Free {
    /// Frees vectors until there are no more bytes than evaluations needed.
    fn shrink(&mut self) {
        while self.bytes > self.most {
            if let Some(v) = self.f32.pop_front() {
                self.bytes -= v.capacity() * size_of::<f32>();
            } else if let Some(v) = self.code.pop_front() {
                self.bytes -= v.capacity() * size_of::<i16>();
            } else {
                return;
            }
        }
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
