//! The text form of graphs: what snapshots show, what `catc opt` reads and writes.
//!
//! ```text
//! graph @tiny float {
//!   c0 = const f32[8,4,3,3] random(7, normal, 0.1)
//!   c1 = const f32[8] [0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
//! input(v0: f32[N,4,8,8] "input"):
//!   v1: f32[N,8,6,6] = conv2d v0, c0, c1 {strides=[1,1], pads=[0,0,0,0]} "conv1"
//!   v2: f32[N,8,6,6] = relu v1
//!   output v2 "features"
//! }
//! ```
//!
//! Constants of up to 16 elements stand inline. Larger ones are `blob N #hash`: number N of a set of tensors kept
//! beside the text, and the hash of its content ([`crate::Tensor::content_hash`]), so that a pass that changes weights
//! shows. `random(seed, normal, deviation)` and `random(seed, uniform, bound)` make a large constant on the spot.
//! Comments run from `//` to the end of the line. Reals print shortest-round-trip.

mod lexer;
mod parse;
mod print;
mod random;

pub use parse::{Blobs, NoBlobs, ParseError, parse};

/// Constants of up to this many elements are printed inline.
pub const INLINE_ELEMENTS: usize = 16;
