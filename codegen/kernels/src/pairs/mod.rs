//! 2-bit convolutions by look-ups of two channels: for two activation codes and two weight codes of an output channel, a table has the sum
//! of their products.
//!
//! The emitted kernel ([`rows`]) has one table for all layers. It adds sums over activations and over weights that the table does not hold.
//! The precompiled kernel ([`packing`]) has a table for each zero-point of the weights, and needs no sums over activations.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
pub mod emitted;
pub mod packing;
pub mod rows;
