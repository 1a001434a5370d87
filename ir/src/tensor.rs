//! Dense row-major tensors.

use xxhash_rust::xxh3::Xxh3;

/// The elements of a tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// f32 values.
    F32(Vec<f32>),
    /// Integers, such as indices and shapes.
    I64(Vec<i64>),
    /// Booleans.
    Bool(Vec<bool>),
    /// Codes of a quantizer, as integers: a `u8` code 200 is 200, and an `i2` code -1 is -1.
    Code(Vec<i16>),
}

impl TensorData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            TensorData::F32(v) => v.len(),
            TensorData::I64(v) => v.len(),
            TensorData::Bool(v) => v.len(),
            TensorData::Code(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor with a known size.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl Tensor {
    /// A tensor from its shape and elements.
    ///
    /// # Panics
    /// Panics if the number of elements is not the product of the shape. Callers must check sizes that come from a file.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} against its elements");
        Tensor { shape, data }
    }

    /// An f32 tensor.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        Tensor::new(shape.to_vec(), TensorData::F32(data))
    }

    /// An i64 tensor.
    pub fn i64(shape: &[usize], data: Vec<i64>) -> Self {
        Tensor::new(shape.to_vec(), TensorData::I64(data))
    }

    /// A tensor of codes.
    pub fn codes(shape: &[usize], data: Vec<i16>) -> Self {
        Tensor::new(shape.to_vec(), TensorData::Code(data))
    }

    /// A tensor of rank 0.
    pub fn scalar(x: f32) -> Self {
        Tensor::f32(&[], vec![x])
    }

    /// The sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// A mutable reference to the elements.
    pub fn data_mut(&mut self) -> &mut TensorData {
        &mut self.data
    }

    /// Returns the elements and drops the shape.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements of an f32 tensor.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements of an i64 tensor.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            TensorData::I64(v) => Some(v),
            _ => None,
        }
    }

    /// The codes of a quantized tensor.
    pub fn as_codes(&self) -> Option<&[i16]> {
        match &self.data {
            TensorData::Code(v) => Some(v),
            _ => None,
        }
    }

    /// The same elements with another shape, or `None` if the number of elements differs.
    pub fn reshaped(self, shape: &[usize]) -> Option<Self> {
        (shape.iter().product::<usize>() == self.len()).then(|| Tensor { shape: shape.to_vec(), data: self.data })
    }

    /// A 64-bit hash of the element type, the shape and the elements. Equal tensors have equal hashes.
    pub fn content_hash(&self) -> u64 {
        let mut h = Xxh3::new();
        for &n in &self.shape {
            h.update(&(n as u64).to_le_bytes());
        }
        // This assumes a little-endian host. The back end compiles only for little-endian CPUs.
        match &self.data {
            TensorData::F32(v) => h.update(bytemuck::cast_slice(v)),
            TensorData::I64(v) => h.update(bytemuck::cast_slice(v)),
            TensorData::Bool(v) => v.iter().for_each(|&x| h.update(&[x as u8])),
            TensorData::Code(v) => h.update(bytemuck::cast_slice(v)),
        }
        h.update(&[match self.data {
            TensorData::F32(_) => 0,
            TensorData::I64(_) => 1,
            TensorData::Bool(_) => 2,
            TensorData::Code(_) => 3,
        }]);
        h.digest()
    }
}
