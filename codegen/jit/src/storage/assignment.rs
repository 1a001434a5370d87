//! What is decided for a tensor before any step is lowered.

use super::buffer::{Halo, StorageFormat};

/// The storage of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// How its elements are stored.
    pub format: StorageFormat,
    /// Its halo.
    pub halo: Halo,
    /// The tensor whose memory it shares; itself where it is not a view.
    pub root: usize,
    /// The number of the program input that it is (or views).
    pub input: Option<usize>,
}
