//! The text form of graphs. Snapshot tests show it, and `catc opt` reads and writes it.
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
//! Constants with up to 16 elements are printed inline. Larger constants are printed as `blob N #hash`: N is the number of a
//! tensor that is stored separately, and the hash of its content ([`crate::Tensor::content_hash`]) shows whether a pass changed
//! it. `random(seed, normal, deviation)` and `random(seed, uniform, bound)` generate a large constant. Comments run from `//` to
//! the end of the line. f32 values are printed with the fewest digits that parse to the same value.

mod lexer;
mod parse;
mod print;
mod random;

pub use parse::{Blobs, NoBlobs, ParseError, parse};

/// Constants with up to this many elements are printed inline.
pub const INLINE_ELEMENTS: usize = 16;
