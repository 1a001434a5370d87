//! Memory of values that are no longer needed, kept for those that come next.

use catc_ir::{Tensor, TensorData};
use std::sync::Mutex;

/// Freed vectors of an evaluation.
#[derive(Default)]
pub(crate) struct Buffers {
    f32: Vec<Vec<f32>>,
    code: Vec<Vec<i16>>,
}

/// Takes the smallest vector that holds `len` elements and is not much larger.
fn take<T: Copy + Default>(free: &mut Vec<Vec<T>>, len: usize) -> Vec<T> {
    let most = len.saturating_mul(4).max(1 << 12);
    let fits =
        (0..free.len()).filter(|&i| (len..=most).contains(&free[i].capacity())).min_by_key(|&i| free[i].capacity());
    match fits {
        Some(i) => {
            let mut v = free.swap_remove(i);
            v.resize(len, T::default());
            v
        }
        // Zeroed pages come from the system for nothing, so this beats growing a vector that is too small.
        None => vec![T::default(); len],
    }
}

impl Buffers {
    /// `len` reals of any value.
    pub fn f32(&mut self, len: usize) -> Vec<f32> {
        let mut v = take(&mut self.f32, len);
        if cfg!(debug_assertions) {
            // Whoever reads what was not written shall see it.
            v.fill(f32::NAN);
        }
        v
    }

    /// `len` codes of any value.
    pub fn code(&mut self, len: usize) -> Vec<i16> {
        take(&mut self.code, len)
    }

    /// Takes back a vector of reals.
    pub fn give_f32(&mut self, v: Vec<f32>) {
        if v.capacity() > 0 {
            self.f32.push(v);
        }
    }

    /// Takes back the memory of a tensor.
    pub fn give(&mut self, tensor: Tensor) {
        match tensor.into_data() {
            TensorData::F32(v) => self.give_f32(v),
            TensorData::Code(v) if v.capacity() > 0 => self.code.push(v),
            _ => {}
        }
    }
    /// Bytes of all vectors.
    fn bytes(&self) -> usize {
        let reals: usize = self.f32.iter().map(|v| v.capacity() * size_of::<f32>()).sum();
        reals + self.code.iter().map(|v| v.capacity() * size_of::<i16>()).sum::<usize>()
    }

    /// Frees vectors, those given back first, until at most `bytes` are left.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes() > bytes && !(self.f32.is_empty() && self.code.is_empty()) {
            if self.f32.is_empty() {
                self.code.remove(0);
            } else {
                self.f32.remove(0);
            }
        }
    }
}

/// Buffers that no evaluation uses at the moment. Fresh pages cost more than the work that many operations do on them, so
/// they are kept from one evaluation to the next: a set for each thread that evaluates, none larger than what its
/// evaluation needed at once.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Vec<Buffers>>);

impl Spare {
    /// Buffers for an evaluation.
    pub fn take(&self) -> Buffers {
        self.0.lock().map_or_else(|_| None, |mut spare| spare.pop()).unwrap_or_default()
    }

    /// Takes back buffers of an evaluation that needs `bytes` at once.
    pub fn give(&self, mut buffers: Buffers, bytes: usize) {
        buffers.shrink(bytes);
        if let Ok(mut spare) = self.0.lock() {
            spare.push(buffers);
        }
    }
}
