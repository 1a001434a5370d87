//! The layout of activation tensors in memory.

mod access;
mod assignment;
mod buffer;
mod geometry;
mod slot;

pub(crate) use access::{LaneAccess, LaneStep, lane_access};
pub(crate) use assignment::Assignment;
pub(crate) use buffer::{Buffer, Codes, Halo, StorageFormat, is_image};
pub(crate) use geometry::{broadcast, image, needed_halo};
pub(crate) use slot::{Placed, RowAccess, RowPlace, Slot};
