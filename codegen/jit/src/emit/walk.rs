//! Nests over the elements of an output tensor, made from the strides of the buffers that take part.

use crate::emit::nest::{Cursor, Nest};
use crate::storage::{Buffer, StorageFormat, lane_access};

/// The dimensions of an output in the order they are walked: outer ones, then the lane dimension.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    dims: Vec<usize>,
    outer: Vec<usize>,
    lane: Option<usize>,
}

impl Walk {
    /// Walks a buffer in memory order, lanes along its innermost dimension.
    pub fn of(buffer: &Buffer) -> Walk {
        let mut outer = buffer.order.clone();
        let lane = outer.pop();
        Walk { dims: buffer.dims.clone(), outer, lane }
    }

    /// The same walk with lanes along another dimension.
    pub fn with_lane(mut self, lane: usize) -> Walk {
        if let Some(old) = self.lane.replace(lane) {
            self.outer.retain(|&d| d != lane);
            if old != lane {
                self.outer.push(old);
            }
        }
        self
    }

    /// The same walk with this dimension among the outer ones. Lanes run along the innermost of the others, if there is one.
    pub fn beside(mut self, dim: usize) -> Walk {
        if self.lane == Some(dim) {
            self.lane = self.outer.pop();
            self.outer.push(dim);
        }
        self
    }

    /// The position of an outer dimension among the loops.
    pub fn level(&self, dim: usize) -> usize {
        self.outer.iter().position(|&d| d == dim).unwrap_or(0)
    }

    /// The lane dimension; 0 for a scalar.
    pub fn lane(&self) -> usize {
        self.lane.unwrap_or(0)
    }

    /// Outer extents.
    pub fn outer_extents(&self) -> Vec<usize> {
        if self.outer.is_empty() { vec![1] } else { self.outer.iter().map(|&d| self.dims[d]).collect() }
    }

    /// The cursor of a buffer whose element moves by `half_bytes` along each dimension of the output.
    pub fn cursor(&self, slot: usize, format: StorageFormat, origin: i64, half_bytes: &[i64]) -> Cursor {
        let strides =
            if self.outer.is_empty() { vec![0] } else { self.outer.iter().map(|&d| half_bytes[d] / 2).collect() };
        let along = self.lane.map_or(0, |d| half_bytes[d]);
        Cursor { slot, origin, strides, lanes: lane_access(format, along) }
    }

    /// The nest with those cursors.
    pub fn nest(&self, cursors: Vec<Cursor>) -> Nest {
        Nest { outer: self.outer_extents(), lanes: self.lane.map_or(1, |d| self.dims[d]), cursors }
    }
}
