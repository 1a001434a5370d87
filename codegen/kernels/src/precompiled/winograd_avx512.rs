//! The tiles of Winograd's convolution in 512-bit vectors.

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
                // A row lies across the columns.
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
        let (steps, tile_bytes) = (t.channels / 4, t.channels as isize);
        for position in 0..POSITIONS {
            let start = t.start.add(position * BLOCK);
            let weights = t.weights.add(position * t.channels as usize * BLOCK);
            let mut input = t.transformed.offset(position as isize * t.position_bytes as isize);
            let mut sums = t.sums.add(position * t.tiles as usize * BLOCK);
            for part in 0..parts {
                // Sizes that differ by one at most.
                let tiles = (t.tiles + part) / parts;
                match tiles {
                    1 => panel::<1>(input, tile_bytes, weights, start, sums, steps),
                    2 => panel::<2>(input, tile_bytes, weights, start, sums, steps),
                    3 => panel::<3>(input, tile_bytes, weights, start, sums, steps),
                    4 => panel::<4>(input, tile_bytes, weights, start, sums, steps),
                    5 => panel::<5>(input, tile_bytes, weights, start, sums, steps),
                    6 => panel::<6>(input, tile_bytes, weights, start, sums, steps),
                    7 => panel::<7>(input, tile_bytes, weights, start, sums, steps),
                    8 => panel::<8>(input, tile_bytes, weights, start, sums, steps),
                    9 => panel::<9>(input, tile_bytes, weights, start, sums, steps),
                    10 => panel::<10>(input, tile_bytes, weights, start, sums, steps),
                    11 => panel::<11>(input, tile_bytes, weights, start, sums, steps),
                    12 => panel::<12>(input, tile_bytes, weights, start, sums, steps),
                    13 => panel::<13>(input, tile_bytes, weights, start, sums, steps),
                    _ => panel::<14>(input, tile_bytes, weights, start, sums, steps),
                }
                input = input.offset(tiles as isize * tile_bytes);
                sums = sums.add(tiles as usize * BLOCK);
            }
        }
    }
}

/// Bytes of weights that are asked for ahead of their use.
const AHEAD: usize = 4096;

/// The products of `P` tiles at one position.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn panel<const P: usize>(
    mut input: *const u8,
    tile_bytes: isize,
    mut weights: *const i8,
    start: *const i32,
    to: *mut i32,
    steps: i64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let first = [_mm512_loadu_si512(start.cast()), _mm512_loadu_si512(start.add(16).cast())];
        let mut sums = [first; P];
        for _ in 0..steps {
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD));
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64));
            let vectors = [_mm512_loadu_si512(weights.cast()), _mm512_loadu_si512(weights.add(64).cast())];
            for (p, sum) in sums.iter_mut().enumerate() {
                let at = input.offset(p as isize * tile_bytes);
                let codes = _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
                sum[0] = _mm512_dpbusd_epi32(sum[0], codes, vectors[0]);
                sum[1] = _mm512_dpbusd_epi32(sum[1], codes, vectors[1]);
            }
            input = input.add(4);
            weights = weights.add(128);
        }
        for (p, sum) in sums.iter().enumerate() {
            _mm512_storeu_si512(to.add(p * BLOCK).cast(), sum[0]);
            _mm512_storeu_si512(to.add(p * BLOCK + 16).cast(), sum[1]);
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
                // A row lies across the columns.
                #[allow(clippy::needless_range_loop)]
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
