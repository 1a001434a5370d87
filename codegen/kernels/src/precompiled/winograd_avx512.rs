//! The tiles of Winograd's convolution in 512-bit vectors.

use super::dot::DotTile;
use super::dot_avx512;
use super::finish_avx512;
use super::winograd::{BLOCK, InputTile, MOST_TILES, OutputTile, POSITIONS, ProductTile};
use std::arch::x86_64::*;

/// Transforms a row of tiles of the input.
///
/// # Safety
/// The CPU has AVX-512 F and BW. The block is an [`InputTile`] whose pointers cover what its fields say.
pub(super) unsafe extern "C" fn winograd_input_512(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { input(&*block.cast::<InputTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn input(t: &InputTile) {
    // SAFETY: the caller's promise; loads reach at most one vector past the last channel, stores are masked.
    unsafe {
        let offset = _mm512_set1_epi8(t.offset as i8);
        let add = |x, y| _mm512_add_epi8(x, y);
        let sub = |x, y| _mm512_sub_epi8(x, y);
        let mut channel = 0;
        while channel < t.channels {
            let mask = u64::MAX >> (64 - (t.channels - channel).min(64));
            let from = t.input.offset(channel as isize);
            let load =
                |y: i64, x: i64| _mm512_loadu_si512(from.offset((y * t.row_bytes + x * t.pixel_bytes) as isize).cast());
            // Down a column of four pixels; neighbouring tiles share two columns.
            let column = |x: i64| {
                let d = [load(0, x), load(1, x), load(2, x), load(3, x)];
                [sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])]
            };
            let mut columns = [column(0), column(1), [offset; 4], [offset; 4]];
            for tile in 0..t.tiles {
                columns[2] = column(2 * tile + 2);
                columns[3] = column(2 * tile + 3);
                let to = t.transformed.offset((tile * t.channels + channel) as isize);
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
                        _mm512_mask_storeu_epi8(to.cast(), mask, value);
                    }
                }
                columns[0] = columns[2];
                columns[1] = columns[3];
            }
            channel += 64;
        }
    }
}

/// The products of some tiles with a block of output channels.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VNNI. The block is a [`ProductTile`] whose pointers cover what its fields say.
pub(super) unsafe extern "C" fn winograd_product_512(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { product(&*block.cast::<ProductTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product(t: &ProductTile) {
    // SAFETY: the caller's promise.
    unsafe {
        // Equal parts of at most 14 tiles, which is what two vectors of weights leave room for.
        let parts = (t.tiles + 13) / 14;
        let panel = t.channels as usize * BLOCK;
        for position in 0..POSITIONS {
            let mut done = 0;
            for part in 0..parts {
                let tiles = (t.tiles - done) / (parts - part);
                dot_avx512::dispatch(&DotTile {
                    input: t
                        .transformed
                        .offset(position as isize * t.position_bytes as isize + (done * t.channels) as isize),
                    weights: t.weights.add(position * panel),
                    start: t.start.add(position * BLOCK),
                    sums: t.sums.add((position * t.tiles as usize + done as usize) * BLOCK),
                    sums_pixel: 4 * BLOCK as i64,
                    input_pixel: t.channels,
                    pixels: tiles,
                    vectors: 2,
                    rows: 1,
                    row_bytes: 0,
                    taps: 1,
                    tap_bytes: 0,
                    steps: t.channels / 4,
                });
                done += tiles;
            }
        }
    }
}

/// The results of a row of tiles.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The block is an [`OutputTile`] whose pointers cover what its fields say.
pub(super) unsafe extern "C" fn winograd_output_512(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { output(&*block.cast::<OutputTile>()) }
}

/// Sums of the pixels of a row of tiles, on a cache line boundary.
#[repr(C, align(64))]
struct Results([[[i32; BLOCK]; 2 * MOST_TILES]; 2]);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn output(t: &OutputTile) {
    // SAFETY: the caller's promise; the results have room for `MOST_TILES` tiles.
    unsafe {
        let mut results = std::mem::MaybeUninit::<Results>::uninit();
        let to = results.as_mut_ptr().cast::<i32>();
        for tile in 0..t.tiles as usize {
            for v in 0..BLOCK / 16 {
                let from = t.sums.add(tile * BLOCK + 16 * v);
                let load = |position: usize| {
                    _mm512_load_si512(from.byte_offset(position as isize * t.position_bytes as isize).cast())
                };
                let add = |x, y| _mm512_add_epi32(x, y);
                let sub = |x, y| _mm512_sub_epi32(x, y);
                let column = |j: usize| {
                    let m = [load(j), load(4 + j), load(8 + j), load(12 + j)];
                    [add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])]
                };
                let columns = [column(0), column(1), column(2), column(3)];
                for y in 0..2 {
                    let m = [columns[0][y], columns[1][y], columns[2][y], columns[3][y]];
                    let row = to.add((y * 2 * MOST_TILES + 2 * tile) * BLOCK + 16 * v);
                    _mm512_store_si512(row.cast(), add(add(m[0], m[1]), m[2]));
                    _mm512_store_si512(row.add(BLOCK).cast(), sub(sub(m[1], m[2]), m[3]));
                }
            }
        }
        for y in 0..t.rows {
            let row = to.add(y as usize * 2 * MOST_TILES * BLOCK);
            finish_avx512::row(&t.finish, row, 4 * BLOCK as i64, y, 0, t.pixels);
        }
    }
}
