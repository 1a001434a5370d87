//! Typed ids. They print as `v7`, `c3` and `q1`. They are never renumbered, so the text of a graph changes only where the graph
//! changes.

use cranelift_entity::entity_impl;

/// A tensor that a node computes, or an input of the graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(u32);
entity_impl!(ValueId, "v");

/// A constant tensor of the graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstId(u32);
entity_impl!(ConstId, "c");

/// A quantizer of the graph: format, scales and zero points.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuantizerId(u32);
entity_impl!(QuantizerId, "q");
