//! Winograd's algorithm in 512-bit vectors, for tiles of every form.

use super::{BLOCK, Form, InputTile, OutputTile, ProductTile, Winograd, WinogradTiles, sums_bytes};
use crate::dot::UNITS;
use crate::epilogue::Row;
use crate::epilogue::{self, store};
use crate::function::{Contract, Function};
use crate::kernel::{ActivationFormat, Implementation, KernelInfo};
use crate::tier::Tier;
use std::arch::x86_64::*;
use std::ops::RangeInclusive;

const fn kernel(name: &'static str, form: Form, activation_bits: RangeInclusive<u8>) -> Winograd {
    Winograd {
        info: KernelInfo {
            name,
            tier: Tier::Avx512Vnni,
            implementation: Implementation::Precompiled,
            superseded: &[],
            weight_bits: 2..=8,
            activation_bits,
            channels_per_vector: 16,
            units_per_step: UNITS,
            vector_bytes: 64,
            activations: ActivationFormat::Byte,
        },
        tiles: WinogradTiles { form, input: &INPUT, product: &PRODUCT, output: &OUTPUT, fuses: true },
        min_steps_per_drain: None,
        costs: [0.54, 3.8, 1.5],
    }
}

/// F(2x2,3x3).
pub static TWO_BY_TWO_512: Winograd = kernel("winograd-vnni-512", Form::TwoByTwo, 2..=6);

/// F(3x3,3x3).
pub static THREE_BY_THREE_512: Winograd = kernel("winograd-3x3-vnni-512", Form::ThreeByThree, 2..=3);

/// F(3x4,3x3).
pub static THREE_BY_FOUR_512: Winograd = kernel("winograd-3x4-vnni-512", Form::ThreeByFour, 2..=2);

// SAFETY: `input` accesses only the memory that the fields of its tile describe: it reads whole vectors of channels and masks its stores.
static INPUT: Function = unsafe {
    let contract = Contract::WinogradInput { vector_bytes: 64, forms: &Form::ALL };
    Function::new("catc_winograd_input_512", Tier::Avx512Vnni, contract, winograd_input_512)
};

// SAFETY: `product` accesses only the memory that the fields of its tile describe.
static PRODUCT: Function = unsafe {
    Function::new("catc_winograd_product_512", Tier::Avx512Vnni, Contract::WinogradProduct, winograd_product_512)
};

// SAFETY: `output` accesses only the memory that the fields of its tile and epilogue describe.
static OUTPUT: Function = unsafe {
    let contract = Contract::WinogradOutput { lanes: 16, forms: &Form::ALL };
    Function::new("catc_winograd_output_512", Tier::Avx512Vnni, contract, winograd_output_512)
};

/// Inputs of the longest axis.
const MAX_INPUTS: usize = 6;

/// Vectors along an axis; vectors past its end are arbitrary.
type Line = [__m512i; MAX_INPUTS];

/// Transforms a row of tiles of the input.
///
/// # Safety
/// The CPU has AVX-512 F and BW. The block is an [`InputTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn winograd_input_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradInput`).
    unsafe {
        let t = &*block.cast::<InputTile>();
        match (t.tile_height, t.tile_width) {
            (3, 3) => input::<3, 3>(t),
            (3, _) => input::<3, 4>(t),
            _ => input::<2, 2>(t),
        }
    }
}

/// The input transform along an axis of `M` outputs, in bytes modulo 256.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn input_line<const M: usize>(d: &Line) -> Line {
    let add = |x, y| _mm512_add_epi8(x, y);
    let sub = |x, y| _mm512_sub_epi8(x, y);
    let twice = |x| _mm512_add_epi8(x, x);
    let mut to = *d;
    match M {
        2 => {
            to[0] = sub(d[0], d[2]);
            to[1] = add(d[1], d[2]);
            to[2] = sub(d[2], d[1]);
            to[3] = sub(d[1], d[3]);
        }
        3 => {
            let (a, b) = (sub(d[3], d[1]), sub(d[3], d[2]));
            to[0] = add(twice(sub(d[0], d[2])), a);
            to[1] = sub(b, twice(d[1]));
            to[2] = add(b, twice(sub(d[1], d[2])));
            to[3] = a;
            to[4] = sub(sub(d[4], d[2]), twice(a));
        }
        _ => {
            let (a, b) = (sub(d[4], twice(twice(d[2]))), sub(d[3], twice(twice(d[1]))));
            let (c, e) = (sub(d[4], d[2]), twice(sub(d[3], d[1])));
            to[0] = add(twice(twice(sub(d[0], d[2]))), c);
            to[1] = add(a, b);
            to[2] = sub(a, b);
            to[3] = add(c, e);
            to[4] = sub(c, e);
            to[5] = sub(sub(d[5], d[3]), twice(e));
        }
    }
    to
}

#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn input<const H: usize, const W: usize>(t: &InputTile) {
    // SAFETY: the caller's promise; loads reach at most one vector past the last channel, stores are masked.
    unsafe {
        let offset = _mm512_set1_epi8(t.offset as i8);
        let offsets = _mm512_set1_epi8((3 * t.offset) as i8);
        let mut channel = 0;
        while channel < t.channels {
            let mask = u64::MAX >> (64 - (t.channels - channel).min(64));
            let from = t.input.offset(channel as isize);
            // Transforms a column of pixels. Neighbouring tiles share two columns.
            let column = |x: usize| {
                let mut d = [offset; MAX_INPUTS];
                for (y, d) in d[..H + 2].iter_mut().enumerate() {
                    let place = y as i64 * t.row_bytes + x as i64 * t.pixel_bytes;
                    *d = _mm512_loadu_si512(from.offset(place as isize).cast());
                }
                input_line::<H>(&d)
            };
            let mut columns = [[offset; MAX_INPUTS]; MAX_INPUTS];
            columns[0] = column(0);
            columns[1] = column(1);
            for tile in 0..t.tiles as usize {
                for (x, to) in columns[..W + 2].iter_mut().enumerate().skip(2) {
                    *to = column(W * tile + x);
                }
                let to = t.transformed.offset((tile as i64 * t.channels + channel) as isize);
                // A row consists of one element of each column.
                for i in 0..H + 2 {
                    let mut d = columns.map(|column| column[i]);
                    // Adding offsets to the last inputs of a row adds `offset` to every element of its transform.
                    match W {
                        2 => {}
                        3 => {
                            d[3] = _mm512_add_epi8(d[3], offset);
                            d[4] = _mm512_add_epi8(d[4], offsets);
                        }
                        _ => {
                            d[4] = _mm512_add_epi8(d[4], offset);
                            d[5] = _mm512_add_epi8(d[5], offset);
                        }
                    }
                    let mut row = input_line::<W>(&d);
                    if W == 2 {
                        for (j, value) in row.iter_mut().enumerate() {
                            if (i, j) != (1, 1) {
                                *value = _mm512_add_epi8(*value, offset);
                            }
                        }
                    }
                    for (j, &value) in row[..W + 2].iter().enumerate() {
                        let to = to.offset(((W + 2) * i + j) as isize * t.position_bytes as isize);
                        _mm512_mask_storeu_epi8(to.cast(), mask, value);
                    }
                }
                columns[0] = columns[W];
                columns[1] = columns[W + 1];
            }
            channel += 64;
        }
    }
}

/// The products of several tiles for a block of output channels.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VNNI. The block is a [`ProductTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn winograd_product_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradProduct`).
    unsafe { product(&*block.cast::<ProductTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn product(t: &ProductTile) {
    // SAFETY: the caller's promise.
    unsafe {
        // Divides the tiles into equal parts of at most 14, because the sums and two vectors of weights must fit the 32 registers.
        let parts = (t.tiles + 13) / 14;
        let tile_bytes = t.channels as isize;
        for position in 0..t.positions as usize {
            let position_bytes = t.channels as usize * BLOCK;
            let weights = t.weights.add(position * position_bytes);
            let mut input = t.transformed.offset(position as isize * t.position_bytes as isize);
            let mut sums = t.sums.byte_add(position * sums_bytes(t.tiles as usize));
            for part in 0..parts {
                // Together, the parts prefetch the weights of the next position.
                let stride = if parts == 1 { 128 } else { 64 };
                let ahead = weights.wrapping_add(position_bytes + (part * t.channels) as usize / 4 * stride);
                let panel = Panel {
                    input,
                    tile_bytes,
                    weights,
                    ahead,
                    stride,
                    start: t.start.add(position * BLOCK),
                    sums,
                    steps: t.channels / 4,
                };
                // The sizes of parts differ by at most one.
                let tiles = (t.tiles + part) / parts;
                match tiles {
                    1 => panel.products::<1>(),
                    2 => panel.products::<2>(),
                    3 => panel.products::<3>(),
                    4 => panel.products::<4>(),
                    5 => panel.products::<5>(),
                    6 => panel.products::<6>(),
                    7 => panel.products::<7>(),
                    8 => panel.products::<8>(),
                    9 => panel.products::<9>(),
                    10 => panel.products::<10>(),
                    11 => panel.products::<11>(),
                    12 => panel.products::<12>(),
                    13 => panel.products::<13>(),
                    _ => panel.products::<14>(),
                }
                input = input.offset(tiles as isize * tile_bytes);
                sums = sums.add(tiles as usize * BLOCK);
            }
        }
    }
}

/// Several tiles at one position.
struct Panel {
    input: *const u8,
    tile_bytes: isize,
    weights: *const i8,
    /// The next address to prefetch. Each step prefetches `stride` bytes, one or two cache lines, and moves by as much.
    ahead: *const i8,
    stride: usize,
    start: *const i32,
    sums: *mut i32,
    steps: i64,
}

impl Panel {
    /// The products of `P` tiles.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn products<const P: usize>(self) {
        // SAFETY: the caller's promise; a prefetch may have any address.
        unsafe {
            let first = [_mm512_loadu_si512(self.start.cast()), _mm512_loadu_si512(self.start.add(16).cast())];
            let (mut input, mut weights, mut ahead) = (self.input, self.weights, self.ahead);
            let mut sums = [first; P];
            for _ in 0..self.steps {
                _mm_prefetch::<_MM_HINT_T0>(ahead);
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(self.stride - 64));
                let vectors = [_mm512_loadu_si512(weights.cast()), _mm512_loadu_si512(weights.add(64).cast())];
                for (p, sum) in sums.iter_mut().enumerate() {
                    let at = input.offset(p as isize * self.tile_bytes);
                    let codes = _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
                    sum[0] = _mm512_dpbusd_epi32(sum[0], codes, vectors[0]);
                    sum[1] = _mm512_dpbusd_epi32(sum[1], codes, vectors[1]);
                }
                input = input.add(4);
                weights = weights.add(128);
                ahead = ahead.wrapping_add(self.stride);
            }
            for (p, sum) in sums.iter().enumerate() {
                _mm512_storeu_si512(self.sums.add(p * BLOCK).cast(), sum[0]);
                _mm512_storeu_si512(self.sums.add(p * BLOCK + 16).cast(), sum[1]);
            }
        }
    }
}

/// The results of a row of tiles.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The block is an [`OutputTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn winograd_output_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::WinogradOutput`).
    unsafe {
        let t = &*block.cast::<OutputTile>();
        match (t.tile_height, t.tile_width) {
            (3, 3) => output::<3, 3>(t),
            (3, _) => output::<3, 4>(t),
            _ => output::<2, 2>(t),
        }
    }
}

/// The transform of sums along an axis of `M` outputs. If `NARROW`, an axis of three outputs multiplies the second position by three.
#[inline]
#[target_feature(enable = "avx512f")]
fn output_line<const M: usize, const NARROW: bool>(m: &Line) -> Line {
    let add = |x, y| _mm512_add_epi32(x, y);
    let sub = |x, y| _mm512_sub_epi32(x, y);
    let twice = |x| _mm512_add_epi32(x, x);
    let fourfold = |x| _mm512_slli_epi32::<2>(x);
    let mut to = *m;
    match M {
        2 => {
            to[0] = add(add(m[0], m[1]), m[2]);
            to[1] = sub(sub(m[1], m[2]), m[3]);
        }
        3 => {
            let one = if NARROW { add(m[1], twice(m[1])) } else { m[1] };
            let sum = add(one, m[2]);
            to[0] = add(add(m[0], m[3]), sum);
            to[1] = add(sub(one, m[2]), twice(m[3]));
            to[2] = add(add(sum, m[4]), fourfold(m[3]));
        }
        _ => {
            let (t, u) = (twice(add(m[1], m[2])), twice(sub(m[1], m[2])));
            let (v, w) = (add(m[3], m[4]), twice(sub(m[3], m[4])));
            to[0] = add(add(m[0], t), v);
            to[1] = add(u, w);
            to[2] = add(t, fourfold(v));
            to[3] = add(u, fourfold(add(w, m[5])));
        }
    }
    to
}

/// Tiles whose epilogue is computed together.
const GROUP: usize = 4;

/// Sums of the pixels of a group of tiles, on a cache line boundary.
#[repr(C, align(64))]
struct Results<const H: usize, const W: usize>([[[[i32; BLOCK]; W]; GROUP]; H]);

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn output<const H: usize, const W: usize>(t: &OutputTile) {
    // SAFETY: the caller's promise; the results have room for `GROUP` tiles.
    unsafe {
        let mut results = std::mem::MaybeUninit::<Results<H, W>>::uninit();
        let to = results.as_mut_ptr().cast::<i32>();
        // Divides by 9: the inverse of 9 modulo 2^32. If an axis has three or four outputs, all results are multiples of 9.
        let ninth = _mm512_set1_epi32(0x38e3_8e39);
        // In an affine epilogue, the multipliers include this division.
        let divide = W != 2 && (*t.epilogue.program).store != store::AFFINE;
        let tiles = t.tiles as usize;
        for group in (0..tiles).step_by(GROUP) {
            for tile in group..tiles.min(group + GROUP) {
                for v in 0..BLOCK / 16 {
                    let from = t.sums.add(tile * BLOCK + 16 * v);
                    let mut columns = [[ninth; MAX_INPUTS]; MAX_INPUTS];
                    for (j, column) in columns[..W + 2].iter_mut().enumerate() {
                        let mut m = [ninth; MAX_INPUTS];
                        for (i, m) in m[..H + 2].iter_mut().enumerate() {
                            let position = ((W + 2) * i + j) as isize;
                            *m = _mm512_load_si512(from.byte_offset(position * t.position_bytes as isize).cast());
                        }
                        *column = output_line::<H, false>(&m);
                    }
                    for y in 0..H {
                        // A row consists of one element of each column.
                        let row = output_line::<W, true>(&columns.map(|column| column[y]));
                        for (x, &value) in row[..W].iter().enumerate() {
                            let value = if divide { _mm512_mullo_epi32(value, ninth) } else { value };
                            let pixel = (y * GROUP + tile - group) * W + x;
                            _mm512_store_si512(to.add(pixel * BLOCK + 16 * v).cast(), value);
                        }
                    }
                }
            }
            let first = (group * W) as i64;
            let pixels = (t.pixels - first).min((GROUP * W) as i64);
            for y in 0..t.rows {
                let row = to.add(y as usize * GROUP * W * BLOCK);
                epilogue::avx512::row(&Row {
                    arguments: &t.epilogue,
                    sums: row,
                    sums_pixel: 4 * BLOCK as i64,
                    number: y,
                    first,
                    pixels,
                });
            }
        }
    }
}
