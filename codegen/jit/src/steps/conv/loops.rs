//! The loops of a convolution over groups, blocks of output channels, work units and tiles of pixels, and the walk over the reduction.
//!
//! There is no im2col: a tile reads its input through one pointer, its pixels being a fixed distance apart. Output
//! channels are the outer loop, so that the weights of one block stay in the cache while all pixels go by.

use super::pixels::{PixelPointer, Pixels};
use crate::emit::emitter::Emitter;
use cranelift_codegen::ir::Value;

/// A pointer that the loops carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvCursor {
    pub slot: usize,
    /// Bytes from the slot to what the first output needs.
    pub origin: i64,
    /// Bytes from group to group.
    pub group: i64,
    /// Bytes from one block of output channels to the next.
    pub block: i64,
    /// Bytes from one work unit to the next: a row of output pixels, or a part of their sequence ([`Pixels`]).
    pub unit: i64,
    /// Bytes from one output pixel to the next.
    pub pixel: i64,
}

/// The loops around a tile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvLoops {
    pub groups: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub channels_per_vector: usize,
    /// The output pixels.
    pub pixels: Pixels,
    /// Pixels of a tile.
    pub tile_pixels: usize,
    /// Vectors of output channels of a tile.
    pub vectors: usize,
}

/// A tile as it is emitted: the loops' tile, or what is left at an edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    pub pixels: usize,
    pub vectors: usize,
    /// Output channels that exist.
    pub channels: usize,
}

impl Emitter<'_> {
    /// Emits the loops for the work units `first..last`. `per_group` runs once a group with the pointers at its start.
    pub fn conv_loops(
        &mut self,
        loops: &ConvLoops,
        cursors: &[ConvCursor],
        per_group: &mut dyn FnMut(&mut Self, &[Value]),
        tile: &mut dyn FnMut(&mut Self, Tile, &[Value]),
    ) {
        let starts: Vec<_> = cursors
            .iter()
            .map(|c| {
                let base = self.slot(c.slot);
                (self.offset(base, c.origin), c.group)
            })
            .collect();
        let per_block = loops.vectors * loops.channels_per_vector;
        let (full, rest) = (loops.outputs / per_block, loops.outputs % per_block);
        self.repeat(loops.groups, &starts, vec![], |e, pointers, _| {
            per_group(e, pointers);
            let advances: Vec<_> = pointers.iter().zip(cursors).map(|(&p, c)| (p, c.block)).collect();
            if full > 0 {
                let shape = Tile { pixels: loops.tile_pixels, vectors: loops.vectors, channels: per_block };
                e.repeat(full, &advances, vec![], |e, pointers, _| {
                    e.conv_units(loops, cursors, pointers, shape, tile);
                    vec![]
                });
            }
            if rest > 0 {
                let vectors = rest.div_ceil(loops.channels_per_vector);
                let shape = Tile { pixels: loops.tile_pixels, vectors, channels: rest };
                let pointers: Vec<_> = advances.iter().map(|&(p, b)| e.offset(p, b * full as i64)).collect();
                e.conv_units(loops, cursors, &pointers, shape, tile);
            }
            vec![]
        });
    }

    fn conv_units(
        &mut self,
        loops: &ConvLoops,
        cursors: &[ConvCursor],
        pointers: &[Value],
        shape: Tile,
        tile: &mut dyn FnMut(&mut Self, Tile, &[Value]),
    ) {
        let (first, last) = (self.first, self.last);
        let moving: Vec<_> = pointers
            .iter()
            .zip(cursors)
            .map(|(&p, c)| PixelPointer { start: self.index(p, first, c.unit), unit: c.unit, pixel: c.pixel })
            .collect();
        self.pixel_tiles(loops.pixels, shape.pixels, (first, last), &moving, &mut |e, pixels, pointers| {
            tile(e, Tile { pixels, ..shape }, pointers);
        });
    }
}

/// The walk over one output's reduction: filter rows, taps of a row (one if a row is a single run), steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reduction {
    pub rows: usize,
    pub row_bytes: i64,
    pub taps: usize,
    pub tap_bytes: i64,
    pub steps: usize,
    pub step_bytes: i64,
}

/// A few steps in a row: displacements of activations and weights.
pub(crate) type Steps = Vec<(i64, i64)>;

impl Reduction {
    /// Steps in all.
    pub fn total(&self) -> usize {
        self.rows * self.taps * self.steps
    }

    /// Whether [`Emitter::reduce`] emits all steps as one list.
    pub fn is_single(&self, chunk: usize, unroll: usize) -> bool {
        self.total() <= unroll && self.total() <= chunk
    }

    fn list(&self, rows: usize, weight_bytes: i64) -> Steps {
        let mut list = Vec::new();
        for (row, tap, step) in
            (0..rows).flat_map(|r| (0..self.taps).flat_map(move |t| (0..self.steps).map(move |s| (r, t, s))))
        {
            let at = row as i64 * self.row_bytes + tap as i64 * self.tap_bytes + step as i64 * self.step_bytes;
            list.push((at, list.len() as i64 * weight_bytes));
        }
        list
    }
}

/// Work on a list of steps: activation and weight pointers, and the state handed from list to list.
pub(crate) type ReduceBody<'b, 'f> =
    &'b mut dyn FnMut(&mut Emitter<'f>, &[(i64, i64)], Value, Value, Vec<Value>) -> Vec<Value>;

impl<'f> Emitter<'f> {
    /// Emits the walk in lists of at most `chunk` steps, as equal as can be. Up to `unroll` steps are emitted without a loop.
    #[allow(clippy::too_many_arguments)]
    pub fn reduce(
        &mut self,
        reduction: &Reduction,
        weight_bytes: i64,
        chunk: usize,
        unroll: usize,
        (input, weights): (Value, Value),
        state: Vec<Value>,
        body: ReduceBody<'_, 'f>,
    ) -> Vec<Value> {
        if reduction.total() <= unroll {
            let list = reduction.list(reduction.rows, weight_bytes);
            return self.reduce_list(&list, chunk, input, weights, state, body);
        }
        let per_row = reduction.taps * reduction.steps;
        let rows = [(input, reduction.row_bytes), (weights, per_row as i64 * weight_bytes)];
        if per_row <= unroll {
            let list = reduction.list(1, weight_bytes);
            return self.repeat(reduction.rows, &rows, state, |e, p, state| {
                e.reduce_list(&list, chunk, p[0], p[1], state, body)
            });
        }
        self.repeat(reduction.rows, &rows, state, |e, p, state| {
            let taps = [(p[0], reduction.tap_bytes), (p[1], reduction.steps as i64 * weight_bytes)];
            e.repeat(reduction.taps, &taps, state, |e, p, mut state| {
                let (mut input, mut weights) = (p[0], p[1]);
                for (turns, size) in equal_parts(reduction.steps, chunk) {
                    let (step, weight) = (size as i64 * reduction.step_bytes, size as i64 * weight_bytes);
                    let list: Steps = (0..size as i64).map(|s| (s * reduction.step_bytes, s * weight_bytes)).collect();
                    state = e.repeat(turns, &[(input, step), (weights, weight)], state, |e, p, state| {
                        body(e, &list, p[0], p[1], state)
                    });
                    input = e.offset(input, step * turns as i64);
                    weights = e.offset(weights, weight * turns as i64);
                }
                state
            })
        })
    }

    fn reduce_list(
        &mut self,
        list: &[(i64, i64)],
        chunk: usize,
        input: Value,
        weights: Value,
        mut state: Vec<Value>,
        body: ReduceBody<'_, 'f>,
    ) -> Vec<Value> {
        let mut at = 0;
        for (turns, size) in equal_parts(list.len(), chunk) {
            for _ in 0..turns {
                state = body(self, &list[at..at + size], input, weights, state);
                at += size;
            }
        }
        state
    }
}

/// Cuts `count` into few parts of at most `most`, and gives how many parts there are of which size. The parts are equal if that takes at
/// most a fifth more parts than the fewest possible; else they have two sizes.
fn equal_parts(count: usize, most: usize) -> Vec<(usize, usize)> {
    let fewest = count.div_ceil(most.max(1));
    if fewest == 0 {
        return vec![];
    }
    let parts = (fewest..=fewest + fewest / 5).find(|&parts| count.is_multiple_of(parts)).unwrap_or(fewest);
    let (size, longer) = (count / parts, count % parts);
    [(longer, size + 1), (parts - longer, size)].into_iter().filter(|&(turns, _)| turns > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::equal_parts;

    #[test]
    fn parts_cover_the_whole() {
        for count in 0..200 {
            for most in 1..40 {
                let parts = equal_parts(count, most);
                assert_eq!(parts.iter().map(|(n, size)| n * size).sum::<usize>(), count);
                assert!(parts.iter().all(|&(_, size)| size <= most && size > 0));
                assert!(parts.iter().map(|(n, _)| n).sum::<usize>() <= count.div_ceil(most) * 6 / 5);
            }
        }
    }
}
