//! 2-bit convolutions by look-ups of two channels: every product of two activation codes with two weight codes of an output channel is an
//! entry of a table.
//!
//! The emitted kernel ([`rows`]) has one table for all layers, and sums over activations and weights that the table leaves out. The
//! precompiled one ([`packing`]) has tables for the zero-points of the weights, and needs no such sums.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
pub mod emitted;
pub mod packing;
pub mod rows;
