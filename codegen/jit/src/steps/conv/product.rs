//! Products of two tensors of codes by the precompiled tiles of 16-bit products. The rows of the first one are the pixels of a layer, and the
//! second one has its weights. As these are known at run time only, the function packs them into scratch memory: a work unit is one pair of
//! matrices.

use super::epilogue;
use super::loops::{ConvCursor, ConvLoops, Reduction};
use super::pixels::Pixels;
use super::right_matrix::{COLUMNS, RightMatrix, VECTOR_BYTES};
use super::store::{ConvOperand, ConvStore};
use super::sum_tiles::SumTileCode;
use crate::builder::{Builder, PlannedEpilogue, Slots};
use crate::emit::epilogue::Output;
use crate::storage::{Buffer, Slot, StorageFormat, lane_access};
use catc_kernels::{Execution, KernelRef, SumTiles, TileQuery, TileWeights};
use catc_program::Step;

/// The fewest rows and columns for which packing is worth it.
const MIN_ROWS: usize = 4;
const MIN_COLUMNS: usize = 8;

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
