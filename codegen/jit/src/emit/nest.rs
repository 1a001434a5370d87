//! Loops over the elements of an output, a few neighbours at a time.
//!
//! A nest has outer dimensions and one lane dimension. The first outer dimension counts the step's work units. Along the lane dimension
//! the code takes 16 or 4 elements at a time, and then what is left over. Each *cursor* is a pointer that moves along in one of the
//! step's buffers.

use super::emitter::Emitter;
use crate::storage::{LaneAccess, StorageFormat};
use cranelift_codegen::ir::Value;

/// A pointer into a buffer and how it moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cursor {
    /// Slot of the buffer.
    pub slot: usize,
    /// Bytes from the slot to the first element.
    pub origin: i64,
    /// Bytes along each outer dimension.
    pub strides: Vec<i64>,
    /// Elements along the lane dimension.
    pub lanes: LaneAccess,
}

/// The extents of the loops, and the cursors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Nest {
    /// Outer extents; at least one.
    pub outer: Vec<usize>,
    /// Extent of the lane dimension.
    pub lanes: usize,
    /// The cursors.
    pub cursors: Vec<Cursor>,
}

impl Nest {
    /// Joins neighbouring dimensions that every cursor can walk as one dimension. The first outer dimension stays as it is.
    pub fn simplified(self) -> Nest {
        self.simplified_beside(0).0
    }

    /// Does the same, but leaves the outer dimension `kept` as it is, whose index the code uses. Gives the new number of that dimension.
    pub fn simplified_beside(mut self, mut kept: usize) -> (Nest, usize) {
        let mut at = self.outer.len();
        while at > 2 {
            at -= 1;
            let joined = |c: &Cursor| c.strides[at - 1] == c.strides[at] * self.outer[at] as i64;
            if at != kept && at - 1 != kept && self.cursors.iter().all(joined) {
                kept -= usize::from(at < kept);
                let inner = self.outer.remove(at);
                self.outer[at - 1] *= inner;
                for cursor in &mut self.cursors {
                    cursor.strides.remove(at - 1);
                }
            }
        }
        while self.outer.len() > 1 {
            let last = self.outer.len() - 1;
            let joined = |c: &Cursor| {
                let whole = c.lanes.format != StorageFormat::RowOffset || self.lanes.is_multiple_of(2);
                whole && c.strides[last] == c.lanes.advance(self.lanes)
            };
            if last == kept || !self.cursors.iter().all(joined) {
                break;
            }
            self.lanes *= self.outer[last];
            self.outer.pop();
            for cursor in &mut self.cursors {
                cursor.strides.pop();
            }
        }
        (self, kept)
    }
}

/// Work at one element of the outer loops: pointers and indices.
pub(crate) type OuterBody<'b, 'f> = &'b mut dyn FnMut(&mut Emitter<'f>, &[Value], &[Value]);

impl<'f> Emitter<'f> {
    /// Runs `body(pointers, count)` for every group of elements of the units `first..last`.
    pub fn nest(&mut self, nest: &Nest, units: (Value, Value), body: &mut dyn FnMut(&mut Self, &[Value], usize)) {
        self.nest_outer(nest, units, &mut |e, pointers, _| e.nest_lanes(nest, pointers, body));
    }

    /// Emits the outer loops alone: `body(pointers, indices)`.
    pub fn nest_outer(&mut self, nest: &Nest, (first, last): (Value, Value), body: OuterBody<'_, 'f>) {
        let mut start = Vec::with_capacity(nest.cursors.len());
        for cursor in &nest.cursors {
            let base = self.slot(cursor.slot);
            let base = self.offset(base, cursor.origin);
            start.push((self.index(base, first, cursor.strides[0]), cursor.strides[0]));
        }
        self.range(first, last, &start, vec![], |e, index, pointers, _| {
            e.nest_level(nest, 1, pointers, &[index], body);
            vec![]
        });
    }

    fn nest_level(
        &mut self,
        nest: &Nest,
        level: usize,
        pointers: &[Value],
        indices: &[Value],
        body: OuterBody<'_, 'f>,
    ) {
        let Some(&extent) = nest.outer.get(level) else { return body(self, pointers, indices) };
        let advances: Vec<_> = pointers.iter().zip(&nest.cursors).map(|(&p, c)| (p, c.strides[level])).collect();
        let (zero, end) = (self.int(0), self.int(extent as i64));
        self.range(zero, end, &advances, vec![], |e, index, pointers, _| {
            let mut all = indices.to_vec();
            all.push(index);
            e.nest_level(nest, level + 1, pointers, &all, body);
            vec![]
        });
    }

    /// Emits the loop along the lane dimension alone, from its first element on.
    pub fn nest_lanes(&mut self, nest: &Nest, pointers: &[Value], body: &mut dyn FnMut(&mut Self, &[Value], usize)) {
        self.nest_lanes_by(nest, &[16, 4], pointers, body);
    }

    /// The same loop with groups of other widths, the widest first.
    pub fn nest_lanes_by(
        &mut self,
        nest: &Nest,
        widths: &[usize],
        pointers: &[Value],
        body: &mut dyn FnMut(&mut Self, &[Value], usize),
    ) {
        let mut at = pointers.to_vec();
        let mut left = nest.lanes;
        for &width in widths {
            let turns = left / width;
            if turns == 0 {
                continue;
            }
            left -= turns * width;
            let bytes: Vec<i64> = nest.cursors.iter().map(|c| c.lanes.advance(width)).collect();
            let advances: Vec<_> = at.iter().copied().zip(bytes.iter().copied()).collect();
            self.repeat(turns, &advances, vec![], |e, pointers, _| {
                body(e, pointers, width);
                vec![]
            });
            if left > 0 {
                at = at.iter().zip(&bytes).map(|(&p, &b)| self.offset(p, b * turns as i64)).collect();
            }
        }
        if left > 0 {
            body(self, &at, left);
        }
    }
}
