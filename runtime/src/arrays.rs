//! The input and output arrays of a run: row-major, with the batch as the first dimension.

use std::ops::Deref;

/// The elements of an input.
#[derive(Clone, Copy, Debug)]
pub enum InputData<'a> {
    /// f32 values; NaN and infinities are allowed.
    F32(&'a [f32]),
    /// Integers within the input's [`crate::PortInfo::range`].
    Index(&'a [i32]),
}

/// An input for a run: a row-major array of shape `[batch, ..]`.
#[derive(Clone, Copy, Debug)]
pub struct InputArray<'a> {
    /// Its shape, the batch first.
    pub shape: &'a [usize],
    /// Its elements.
    pub data: InputData<'a>,
}

impl<'a> InputArray<'a> {
    /// An array of f32 values.
    pub fn f32(shape: &'a [usize], data: &'a [f32]) -> Self {
        InputArray { shape, data: InputData::F32(data) }
    }

    /// An array of indices.
    pub fn index(shape: &'a [usize], data: &'a [i32]) -> Self {
        InputArray { shape, data: InputData::Index(data) }
    }
}

/// The elements of an output.
#[derive(Clone, Debug, PartialEq)]
pub enum ArrayData {
    /// f32 values.
    F32(Vec<f32>),
    /// Indices.
    Index(Vec<i32>),
}

/// An output of a run: a row-major array of shape `[batch, ..]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The output's name.
    pub name: String,
    /// Its shape, the batch first.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: ArrayData,
}

impl Array {
    /// The values, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            ArrayData::F32(v) => Some(v),
            ArrayData::Index(_) => None,
        }
    }

    /// The values, if they are indices.
    pub fn as_index(&self) -> Option<&[i32]> {
        match &self.data {
            ArrayData::Index(v) => Some(v),
            ArrayData::F32(_) => None,
        }
    }
}

/// The outputs of a run, one array each, in the order of [`crate::Model::outputs`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs(pub(crate) Vec<Array>);

impl Outputs {
    /// The output of this name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.0.iter().find(|a| a.name == name)
    }

    /// The arrays.
    pub fn into_arrays(self) -> Vec<Array> {
        self.0
    }
}

impl Deref for Outputs {
    type Target = [Array];

    fn deref(&self) -> &[Array] {
        &self.0
    }
}
