//! Products of two tensors of codes by the precompiled tiles of 16-bit products. The rows of the first one are the pixels of a layer, and the
//! second one has its weights. As these are known at run time only, the function packs them into scratch memory: a work unit is one pair of
//! matrices.

use super::epilogue;
use super::loops::{ConvCursor, ConvLoops, Reduction};
use super::pixels::Pixels;
use super::store::{ConvOperand, ConvStore};
use super::sum_tiles::SumTileCode;
use crate::builder::{Builder, PlannedEpilogue, Slots};
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::Output;
use crate::storage::{Buffer, LaneAccess, LaneStep, Slot, StorageFormat, lane_access};
use catc_kernels::{Execution, KernelRef, SumTiles, TileQuery, TileWeights};
use catc_program::Step;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The fewest rows and columns for which packing is worth it.
const MIN_ROWS: usize = 4;
const MIN_COLUMNS: usize = 8;

/// Columns of a weight vector: 16-bit integers, of two terms each.
const COLUMNS: usize = 8;

/// Bytes of a weight vector, and of the initial sums of its columns.
const VECTOR_BYTES: usize = 32;

/// A product of tensors whose last two dimensions are matrices.
pub(crate) struct Product<'a> {
    pub left: &'a Buffer,
    pub right: &'a Buffer,
    pub output: &'a Buffer,
    /// Those of the output, of both inputs and of the epilogue's operands.
    pub slots: Slots,
    /// Slots of the output, of the first and of the second input.
    pub numbers: [usize; 3],
    pub epilogue: PlannedEpilogue,
    /// The factor of the sums.
    pub scale: f32,
}

/// The kernel of a product, with what tells the code how it is run.
#[derive(Clone, Copy)]
pub(crate) struct ProductKernel {
    kernel: KernelRef,
    tiles: SumTiles,
}

/// Bytes from one pair of matrices, from one row, and half bytes from one column to the next; `None` if the pairs do not lie at one distance.
fn along(dims: &[usize], strides: &[i64]) -> Option<[i64; 3]> {
    let [leading @ .., row, column] = strides else { return None };
    let (&unit, outer) = leading.split_last()?;
    let joined = |at: usize| dims[at] == 1 || strides[at] == strides[at + 1] * dims[at + 1] as i64;
    (0..outer.len()).all(joined).then_some([unit / 2, row / 2, *column])
}

impl Product<'_> {
    /// The kernel, if the set has one, and the product has codes, several matrices, and enough rows and columns.
    pub fn kernel(&self, p: &Builder<'_>) -> Option<ProductKernel> {
        let dims = &self.output.dims;
        let &[.., rows, columns] = dims.as_slice() else { return None };
        let codes = self.left.format == StorageFormat::Byte && self.right.format == StorageFormat::Byte;
        let walked = || {
            along(dims, &self.output.strides).is_some()
                && self.epilogue.operands.iter().all(|(_, strides)| along(dims, strides).is_some())
        };
        if !codes || rows < MIN_ROWS || columns < MIN_COLUMNS || self.output.halo.top > 0 || !walked() {
            return None;
        }
        p.kernels.kernels().find_map(|kernel| match kernel.execution() {
            Execution::SumTiles(tiles) if tiles.weights == TileWeights::Shorts => {
                let info = kernel.info();
                let known = (info.channels_per_vector, info.units_per_step) == (COLUMNS, 2);
                (known && info.vector_bytes == VECTOR_BYTES).then_some(ProductKernel { kernel, tiles })
            }
            Execution::SumTiles(_)
            | Execution::EmittedDot(_)
            | Execution::EmittedPairs
            | Execution::EmittedDepthwise(_)
            | Execution::Winograd(_)
            | Execution::LookupTiles(_)
            | Execution::DepthwiseRows(_) => None,
        })
    }
}

/// The second matrix of a work unit as packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RightMatrix {
    slot: usize,
    /// Its rows, which are the terms of a sum, and its columns.
    terms: usize,
    columns: usize,
    /// Zero-points of the first and of the second input.
    zeros: [u8; 2],
    scratch_slot: usize,
    /// Vectors of a block.
    vectors: usize,
}

impl RightMatrix {
    fn steps(&self) -> usize {
        self.terms.div_ceil(2)
    }

    /// Where the initial sums lie in scratch memory, behind the weights.
    fn sums_at(&self) -> usize {
        self.steps() * self.columns.div_ceil(COLUMNS) * VECTOR_BYTES
    }

    fn scratch(&self) -> usize {
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

/// Appends the function of a product.
pub(crate) fn lower(p: &mut Builder<'_>, step: &Step, product: Product<'_>, chosen: ProductKernel) {
    let Product { left, right, output, mut slots, numbers, epilogue, scale } = product;
    let rank = output.dims.len();
    let (rows, columns, terms) = (output.dims[rank - 2], output.dims[rank - 1], left.dims[rank - 1]);
    let query = TileQuery {
        width: rows,
        vectors: columns.div_ceil(COLUMNS),
        steps: terms.div_ceil(2),
        tier: p.kernels.tier,
        small_activations: false,
        pairs_fit: false,
    };
    let tile = query.choose(chosen.kernel, p.tile);
    let (tile_pixels, vectors) = tile;
    let zeros = [left.zero(), right.zero()];
    let scratch_slot = slots.add(Slot::Scratch);
    let matrix = RightMatrix { slot: numbers[2], terms, columns, zeros, scratch_slot, vectors };
    // A sum that is 0 keeps its sign behind the factor.
    let bias = p.constants.push(&vec![-0.0f32; columns]);
    let multiplier = p.constants.push(&vec![scale; columns]);
    let [bias, multiplier] = [bias, multiplier].map(|at| slots.add(Slot::Constant(at)));
    let block = (vectors * COLUMNS) as i64;
    let fixed = |slot, origin, block| ConvCursor { slot, origin, group: 0, block, unit: 0, pixel: 0 };
    let row = terms as i64;
    let mut cursors = vec![
        ConvCursor { slot: numbers[1], origin: left.origin, group: 0, block: 0, unit: rows as i64 * row, pixel: row },
        fixed(scratch_slot, 0, (matrix.steps() * vectors * VECTOR_BYTES) as i64),
        fixed(scratch_slot, matrix.sums_at() as i64, 4 * block),
        fixed(bias, 0, 4 * block),
        fixed(multiplier, 0, 4 * block),
    ];
    let mut end = |slot, origin, strides: &[i64]| {
        // [`Product::kernel`] has checked it.
        let [unit, pixel, channel] = along(&output.dims, strides).unwrap_or_default();
        cursors.push(ConvCursor { slot, origin, group: 0, block: block * channel / 2, unit, pixel });
        (pixel, channel)
    };
    let (pixel, channel) = end(numbers[0], output.origin, &output.strides);
    let operands = epilogue.operands.iter().map(|(walk, strides)| {
        let (pixel, channel) = end(walk.slot, walk.origin, strides);
        let access = lane_access(walk.format, channel);
        ConvOperand { access, channel, pixel, zero: walk.zero, levels: walk.levels }
    });
    let store = ConvStore {
        first_cursor: 5,
        operands: operands.collect(),
        output: Output { access: output.lanes(rank - 1), codes: output.codes },
        channel,
        pixel,
        epilogue: epilogue.code(),
        halo: None,
    };
    let program = epilogue::program(&epilogue, &store, &cursors, slots.as_slice()).ok();
    let program = program.map(|program| slots.add(Slot::Constant(p.constants.push(&program.words()))));
    let units = output.len() / (rows * columns).max(1);
    let code = SumTileCode {
        tile: chosen.tiles.tile,
        epilogue: chosen.tiles.epilogue,
        loops: ConvLoops {
            groups: 1,
            outputs: columns,
            channels_per_vector: COLUMNS,
            pixels: Pixels::Rows { width: rows },
            tile_pixels,
            vectors,
        },
        cursors,
        reduction: Reduction {
            rows: 1,
            row_bytes: 0,
            taps: 1,
            tap_bytes: 0,
            steps: matrix.steps(),
            // Two codes.
            step_bytes: 2,
        },
        drain: 1,
        store,
        scaled: true,
        unit_by_unit: true,
        packed: Some(matrix),
        program,
    };
    let pushed = p.push(&step.name, slots, units, code).with_macs((terms * output.len()) as u64);
    let cycles = query.pixel_cycles(chosen.kernel) * (rows * units) as f64;
    pushed.with_tile(chosen.kernel, tile, cycles).scratch = matrix.scratch();
}
