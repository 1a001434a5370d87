//! Memory of values that are no longer needed, kept for those that come next.

use catc_ir::{Tensor, TensorData};

/// Freed vectors of one evaluation. They hold no more than was alive at once.
#[derive(Default)]
pub(crate) struct Buffers {
    f32: Vec<Vec<f32>>,
    code: Vec<Vec<i16>>,
}

/// Takes the smallest vector that holds `len` elements, or the largest there is.
fn take<T: Copy + Default>(free: &mut Vec<Vec<T>>, len: usize) -> Vec<T> {
    let fits = (0..free.len()).filter(|&i| free[i].capacity() >= len).min_by_key(|&i| free[i].capacity());
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
}
