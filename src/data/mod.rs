//! The data side of the command line: calibration and evaluation samples in, arrays out.
//!
//! ```text
//! .npy ─────────┐
//! .npz ─────────┼─ array ── float ─────────────────────────────┐
//!               │      └─── uint8 ─┐                           ├─ DataSet: sample i as f32
//! folder, image ┼─ PNG, JPEG ──────┴─ pipeline(preprocess) ────┤
//!               └─ npy of one sample ──────────────────────────┤
//! seed ─────────── synthetic ──────────────────────────────────┘
//! ```
//!
//! Everything that a file claims is checked before it is used: sizes are compared with the bytes present before memory is allocated. Every
//! failure is a [`DataError`] that names the file, what was found, what was expected and what to do. This module knows paths, shapes and
//! numbers, but no networks.

mod array;
mod atomic;
mod dataset;
mod error;
mod folder;
mod image;
mod image_axes;
mod kind;
mod labels;
mod npy;
mod npy_write;
mod npz;
mod number;
mod open;
mod pipeline;
mod preprocess;
mod resize;
mod split;
mod synthetic;

pub use array::{Array, MAX_IN_MEMORY};
pub use atomic::{Target, check_target, remove_unfinished, write_atomically};
pub use dataset::{DataSet, InputSpec, WholeNumbers};
pub use error::DataError;
pub use image::MAX_PIXELS;
pub use labels::read_labels;
pub use npy::Dtype;
pub use npy_write::{Elements, write_npy, write_npz};
pub use npz::Npz;
pub use number::Number;
pub use preprocess::{Color, ImageLayout, KEYS as PREPROCESS_KEYS, Preprocess, Resize};
pub use split::{SampleSplit, draw, split};
