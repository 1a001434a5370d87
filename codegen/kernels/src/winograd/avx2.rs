//! Winograd's algorithm in 256-bit vectors, for tiles of 2x2 outputs.

use super::{BLOCK, Form, InputTile, MAX_TILES, OutputTile, ProductTile, Winograd, WinogradTiles, sums_bytes};
use crate::dot::{self, DotTile, UNITS};
use crate::epilogue;
use crate::epilogue::Row;
use crate::function::{Contract, Function};
use crate::kernel::{ActivationFormat, Implementation, KernelInfo};
use crate::tier::Tier;
use std::arch::x86_64::*;

const fn info(name: &'static str, tier: Tier, superseded: &'static [Tier]) -> KernelInfo {
    KernelInfo {
        name,
        tier,
        implementation: Implementation::Precompiled,
        superseded,
        weight_bits: 2..=8,
        activation_bits: 2..=6,
        channels_per_vector: 8,
        units_per_step: UNITS,
        vector_bytes: 32,
        activations: ActivationFormat::Byte,
    }
}

const fn tiles(product: &'static Function) -> WinogradTiles {
    WinogradTiles { form: Form::TwoByTwo, input: &INPUT, product, output: &OUTPUT, fuses: false }
}

/// F(2x2,3x3), products by `vpdpbusd`.
pub static VNNI_256: Winograd = Winograd {
    info: info("winograd-vnni-256", Tier::X86V3Vnni, &[Tier::Avx512Vnni]),
    tiles: tiles(&PRODUCT_VNNI),
    min_steps_per_drain: None,
    costs: [0.6, 3.5, 2.5],
};

/// F(2x2,3x3), products by `vpmaddubsw` into 16-bit sums.
pub static MADDUBS_256: Winograd = Winograd {
    info: info("winograd-maddubs-256", Tier::X86V3, &[Tier::X86V3Vnni]),
    tiles: tiles(&PRODUCT_MADDUBS),
    min_steps_per_drain: Some(2),
    costs: [0.84, 4.0, 3.0],
};

// SAFETY: `input` accesses only the memory that the fields of its tile describe: it reads whole vectors of channels and masks its stores.
static INPUT: Function = unsafe {
    let contract = Contract::WinogradInput { vector_bytes: 32, forms: &[Form::TwoByTwo] };
    Function::new("catc_winograd_input_256", Tier::X86V3, contract, winograd_input_256)
};

// SAFETY: `product` accesses only the memory that the fields of its tile describe. It uses tiles of up to three pixels and four vectors,
// which `vnni` has.
static PRODUCT_VNNI: Function = unsafe {
    Function::new(
        "catc_winograd_product_vnni_256",
        Tier::X86V3Vnni,
        Contract::WinogradProduct,
        winograd_product_vnni_256,
    )
};

// SAFETY: as above, with tiles of up to two pixels and four vectors, which `maddubs` has.
static PRODUCT_MADDUBS: Function = unsafe {
    Function::new(
        "catc_winograd_product_maddubs_256",
        Tier::X86V3,
        Contract::WinogradProduct,
        winograd_product_maddubs_256,
    )
};

// SAFETY: `output` accesses only the memory that the fields of its tile and epilogue describe.
static OUTPUT: Function = unsafe {
    let contract = Contract::WinogradOutput { lanes: 8, forms: &[Form::TwoByTwo] };
    Function::new("catc_winograd_output_256", Tier::X86V3, contract, winograd_output_256)
};

/// Transforms a row of tiles of the input.
///
/// # Safety
/// The CPU has AVX2. The block is an [`InputTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn winograd_input_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradInput`).
    unsafe { input(&*block.cast::<InputTile>()) }
}

/// Masks of double words: the eight from `8 - n` on select the first `n`.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[target_feature(enable = "avx2")]
unsafe fn input(t: &InputTile) {
    // SAFETY: the caller's promise; loads reach at most one vector past the last channel, stores are masked.
    unsafe {
        let offset = _mm256_set1_epi8(t.offset as i8);
        let add = |x, y| _mm256_add_epi8(x, y);
        let sub = |x, y| _mm256_sub_epi8(x, y);
        let mut channel = 0;
        while channel < t.channels {
            let dwords = ((t.channels - channel) / 4).min(8) as usize;
            let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - dwords).cast());
            let from = t.input.offset(channel as isize);
            let load =
                |y: i64, x: i64| _mm256_loadu_si256(from.offset((y * t.row_bytes + x * t.pixel_bytes) as isize).cast());
            // Transforms a column of four pixels. Neighbouring tiles share two columns.
            let column = |x: i64| {
                let d = [load(0, x), load(1, x), load(2, x), load(3, x)];
                [sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])]
            };
            let mut columns = [column(0), column(1), [offset; 4], [offset; 4]];
            for tile in 0..t.tiles {
                columns[2] = column(2 * tile + 2);
                columns[3] = column(2 * tile + 3);
                let to = t.transformed.offset((tile * t.channels + channel) as isize);
                // A row consists of one element of each column.
                #[allow(clippy::needless_range_loop)]
                for i in 0..4 {
                    let d = [columns[0][i], columns[1][i], columns[2][i], columns[3][i]];
                    let sum = add(d[1], d[2]);
                    let row = [
                        add(sub(d[0], d[2]), offset),
                        if i == 1 { sum } else { add(sum, offset) },
                        add(sub(d[2], d[1]), offset),
                        add(sub(d[1], d[3]), offset),
                    ];
                    for (j, &value) in row.iter().enumerate() {
                        let to = to.offset((4 * i + j) as isize * t.position_bytes as isize);
                        if dwords == 8 {
                            _mm256_storeu_si256(to.cast(), value);
                        } else {
                            _mm256_maskstore_epi32(to.cast(), mask, value);
                        }
                    }
                }
                columns[0] = columns[2];
                columns[1] = columns[3];
            }
            channel += 32;
        }
    }
}

/// The products of several tiles for a block of output channels, by `vpdpbusd`.
///
/// # Safety
/// The CPU has AVX2, and AVX-VNNI or AVX-512 VNNI with VL. The block is a [`ProductTile`] whose pointers cover the memory that its fields
/// describe.
unsafe extern "C" fn winograd_product_vnni_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradProduct`).
    unsafe { product::<3>(&*block.cast::<ProductTile>(), |tile| dot::avx2::vnni(tile)) }
}

/// The products by `vpmaddubsw`, with 16-bit sums that are widened every `drain` steps.
///
/// # Safety
/// The CPU has AVX2. The block is a [`ProductTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn winograd_product_maddubs_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradProduct`).
    unsafe { product::<2>(&*block.cast::<ProductTile>(), |tile| dot::avx2::maddubs::dispatch(tile)) }
}

/// The products, in tiles of up to `P` pixels and the four vectors of a block. `sum` computes a tile.
#[inline(always)]
unsafe fn product<const P: i64>(t: &ProductTile, sum: impl Fn(&DotTile)) {
    // SAFETY: the caller's promise.
    unsafe {
        let parts = (t.tiles + P - 1) / P;
        for position in 0..t.positions as usize {
            let mut tile = DotTile {
                input: t.transformed.offset(position as isize * t.position_bytes as isize),
                weights: t.weights.add(position * t.channels as usize * BLOCK),
                start: t.start.add(position * BLOCK),
                sums: t.sums.byte_add(position * sums_bytes(t.tiles as usize)),
                sums_pixel: 4 * BLOCK as i64,
                input_pixel: t.channels,
                pixels: 0,
                vectors: 4,
                rows: 1,
                row_bytes: 0,
                taps: 1,
                tap_bytes: 0,
                steps: t.channels / 4,
                drain: t.drain,
            };
            for part in 0..parts {
                // The sizes of parts differ by at most one.
                tile.pixels = (t.tiles + part) / parts;
                sum(&tile);
                tile.input = tile.input.offset((tile.pixels * t.channels) as isize);
                tile.sums = tile.sums.add(tile.pixels as usize * BLOCK);
            }
        }
    }
}

/// The results of a row of tiles.
///
/// # Safety
/// The CPU has AVX2. The block is an [`OutputTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn winograd_output_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradOutput`).
    unsafe { output(&*block.cast::<OutputTile>()) }
}

/// Sums of the pixels of a row of tiles, on a cache line boundary.
#[repr(C, align(64))]
struct Results([[[i32; BLOCK]; 2 * MAX_TILES]; 2]);

#[target_feature(enable = "avx2")]
unsafe fn output(t: &OutputTile) {
    // SAFETY: the caller's promise; the results have room for `MAX_TILES` tiles.
    unsafe {
        let mut results = std::mem::MaybeUninit::<Results>::uninit();
        let to = results.as_mut_ptr().cast::<i32>();
        for tile in 0..t.tiles as usize {
            for v in 0..BLOCK / 8 {
                let from = t.sums.add(tile * BLOCK + 8 * v);
                let load = |position: usize| {
                    _mm256_loadu_si256(from.byte_offset(position as isize * t.position_bytes as isize).cast())
                };
                let add = |x, y| _mm256_add_epi32(x, y);
                let sub = |x, y| _mm256_sub_epi32(x, y);
                let column = |j: usize| {
                    let m = [load(j), load(4 + j), load(8 + j), load(12 + j)];
                    [add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])]
                };
                let columns = [column(0), column(1), column(2), column(3)];
                // A row consists of one element of each column.
                #[allow(clippy::needless_range_loop)]
                for y in 0..2 {
                    let m = [columns[0][y], columns[1][y], columns[2][y], columns[3][y]];
                    let row = to.add((y * 2 * MAX_TILES + 2 * tile) * BLOCK + 8 * v);
                    _mm256_store_si256(row.cast(), add(add(m[0], m[1]), m[2]));
                    _mm256_store_si256(row.add(BLOCK).cast(), sub(sub(m[1], m[2]), m[3]));
                }
            }
        }
        for y in 0..t.rows {
            let row = to.add(y as usize * 2 * MAX_TILES * BLOCK);
            epilogue::avx2::row(&Row {
                arguments: &t.epilogue,
                sums: row,
                sums_pixel: 4 * BLOCK as i64,
                number: y,
                first: 0,
                pixels: t.pixels,
            });
        }
    }
}
