//! The storage of a tensor, which is decided before any step is lowered.

use super::buffer::{Halo, StorageFormat};

/// The storage of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// How its elements are stored.
    pub format: StorageFormat,
    /// Its halo.
    pub halo: Halo,
    /// The tensor whose memory it shares; itself if it is not a view.
    pub root: usize,
    /// The number of the program input, if it is one or a view of one.
    pub input: Option<usize>,
}
