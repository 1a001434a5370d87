//! The second matrix of a product as the weights of tiles of 16-bit products. The function packs it at the start of each work unit.

use crate::emit::emitter::Emitter;
use crate::storage::{LaneAccess, LaneStep, StorageFormat};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Columns of a weight vector: 16-bit integers, of two terms each.
pub(super) const COLUMNS: usize = 8;

/// Bytes of a weight vector, and of the initial sums of its columns.
pub(super) const VECTOR_BYTES: usize = 32;

/// The second matrix of a work unit as packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RightMatrix {
    pub slot: usize,
    /// Its rows, which are the terms of a sum, and its columns.
    pub terms: usize,
    pub columns: usize,
    /// Zero-points of the first and of the second input.
    pub zeros: [u8; 2],
    pub scratch_slot: usize,
    /// Vectors of a block.
    pub vectors: usize,
}

impl RightMatrix {
    /// Steps of a sum.
    pub fn steps(&self) -> usize {
        self.terms.div_ceil(2)
    }

    /// Where the initial sums lie in scratch memory, behind the weights.
    pub fn sums_at(&self) -> usize {
        self.steps() * self.columns.div_ceil(COLUMNS) * VECTOR_BYTES
    }

    /// Bytes of scratch memory.
    pub fn scratch(&self) -> usize {
        self.sums_at() + self.columns.div_ceil(COLUMNS) * VECTOR_BYTES
    }

    /// Packs the matrix of a work unit, block by block of columns. Columns beyond the last have any values.
    pub fn emit(&self, e: &mut Emitter<'_>, unit: Value) {
        let (codes, scratch) = (e.slot(self.slot), e.slot(self.scratch_slot));
        let codes = e.index(codes, unit, (self.terms * self.columns) as i64);
        let sums = e.offset(scratch, self.sums_at() as i64);
        let all = self.columns.div_ceil(COLUMNS);
        let (full, rest) = (all / self.vectors, all % self.vectors);
        let moves = [
            (codes, (self.vectors * COLUMNS) as i64),
            (scratch, (self.steps() * self.vectors * VECTOR_BYTES) as i64),
            (sums, (self.vectors * VECTOR_BYTES) as i64),
        ];
        e.repeat(full, &moves, vec![], |e, p, _| {
            self.block(e, (p[0], p[1], p[2]), self.vectors);
            vec![]
        });
        if rest > 0 {
            let [codes, weights, sums] = moves.map(|(p, bytes)| e.offset(p, bytes * full as i64));
            self.block(e, (codes, weights, sums), rest);
        }
    }

    fn block(&self, e: &mut Emitter<'_>, (codes, weights, starts): (Value, Value, Value), vectors: usize) {
        let pairs = self.terms / 2;
        let (down, step) = (2 * self.columns as i64, (vectors * VECTOR_BYTES) as i64);
        let zeros = vec![e.ints(0); 2 * vectors];
        let mut sums = e.repeat(pairs, &[(codes, down), (weights, step)], zeros, |e, p, sums| {
            self.pair(e, (p[0], p[1]), true, sums)
        });
        if self.terms % 2 == 1 {
            let last = (e.offset(codes, down * pairs as i64), e.offset(weights, step * pairs as i64));
            sums = self.pair(e, last, false, sums);
        }
        for (number, sum) in sums.into_iter().enumerate() {
            e.store(sum, starts, 16 * number as i64);
        }
    }

    /// Two rows, or the last one alone, as vectors of a step: codes less their zero-point. Adds their products with the first zero-point, which
    /// the tile does not subtract, to the initial sums.
    fn pair(&self, e: &mut Emitter<'_>, (codes, weights): (Value, Value), both: bool, sums: Vec<Value>) -> Vec<Value> {
        let bytes = LaneAccess { format: StorageFormat::Byte, step: LaneStep::Unit };
        let mut words = Vec::with_capacity(sums.len());
        for at in (0..sums.len()).step_by(4) {
            let (place, count) = (4 * at as i64, (4 * (sums.len() - at)).min(16));
            let first = e.load_bytes(bytes, codes, place, count);
            let second = match both {
                true => e.load_bytes(bytes, codes, self.columns as i64 + place, count),
                false => e.bytes(self.zeros[1]),
            };
            let (low, high) = e.interleave_bytes(first, second);
            for half in [low, high] {
                words.push(e.b.ins().uwiden_low(half));
                words.push(e.b.ins().uwiden_high(half));
            }
        }
        let (zero, factor) = (e.shorts(self.zeros[1].into()), e.shorts(-i16::from(self.zeros[0])));
        sums.into_iter()
            .zip(words)
            .enumerate()
            .map(|(number, (sum, word))| {
                let word = e.b.ins().isub(word, zero);
                e.store(word, weights, 16 * number as i64);
                let product = e.multiply_add_shorts(word, factor);
                e.b.ins().iadd(sum, product)
            })
            .collect()
    }
}
