//! 2-bit look-ups of two channels by `vpshufb` in 256-bit vectors.

use super::packing::{self, CHANNELS};
use crate::byte_sums::part;
use crate::epilogue;
use crate::function::{Contract, Function, LookupReach};
use crate::kernel::{ActivationFormat, Fit, Implementation, KernelInfo, Refusal};
use crate::lookup_results::{Cell, halves, prefetch_operand, store_results};
use crate::lookup_tile::{LookupCosts, LookupKernel, LookupResultsTile, LookupTile, LookupTiles, PackTile};
use crate::query::Query;
use crate::tier::Tier;
use crate::tile_sizes::TileQuery;
use crate::vector::Avx2;
use crate::weights::QuantizedWeights;
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Look-ups of two channels for 32 output channels.
pub static PAIRS_256: LookupKernel = LookupKernel {
    info: KernelInfo {
        name: "pairs-256",
        tier: Tier::X86V3,
        implementation: Implementation::Precompiled,
        superseded: &[Tier::Avx512Vnni],
        weight_bits: 2..=2,
        activation_bits: 2..=2,
        channels_per_vector: CHANNELS,
        units_per_step: 2,
        vector_bytes: 32,
        activations: ActivationFormat::Byte,
    },
    tiles: &TILES,
    takes,
    costs: LookupCosts { look_up: 0.74, end: 14.0, pixel: 4.0, units_per_cycle: 16.0 },
    tile_cycles,
};

static TILES: LookupTiles = LookupTiles {
    pack: &PACK,
    look_up: &LOOK_UP,
    results: &RESULTS,
    epilogue: &epilogue::avx2::EPILOGUE_256,
    fuses_after_sums: false,
    together: 2,
    offset_bytes: 1,
    sum_bytes: 0,
    lanes: CHANNELS,
    sum_scale: 65536,
    max_operand_levels: 7,
    takes_common_zero_point: false,
    layout: packing::layout,
    weights: packing::pack,
};

/// Offsets are bytes, and a row of the table has 16 bytes. So an offset of at most 255 reaches `255 + 16` bytes.
const REACH: LookupReach = LookupReach {
    lanes: CHANNELS,
    offset_bytes: 1,
    table_bytes: 255 + 16,
    packed_together: 32,
    pixel_sums: false,
    exists,
};

// SAFETY: `pack` accesses only the memory that the fields of its tile describe, in whole vectors of 32 bytes.
static PACK: Function =
    unsafe { Function::new("catc_pairs_pack_256", Tier::X86V3, Contract::LookupPack(REACH), pack_256) };

// SAFETY: `sums` accesses only the memory that the fields of its tile describe, and has every shape that `exists`.
static LOOK_UP: Function =
    unsafe { Function::new("catc_pairs_look_up_256", Tier::X86V3, Contract::LookUp(REACH), look_up_256) };

// SAFETY: `results` accesses only the memory that the fields of its tile describe, and has every shape that `exists`.
static RESULTS: Function =
    unsafe { Function::new("catc_pairs_results_256", Tier::X86V3, Contract::LookUpResults(REACH), results_256) };

/// Whether there is a tile of this shape. Its byte sums, two vectors of indices and two temporaries must fit the 16 registers.
const fn exists(pixels: usize, vectors: usize) -> bool {
    let most = match vectors {
        1 => 8,
        2 => 6,
        3 => 4,
        4 => 3,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}

fn takes(query: &Query<'_>, weights: &QuantizedWeights<'_>) -> Result<Fit, Refusal> {
    if !packing::fits(query.largest_absolute_sum()) {
        return Err(Refusal::new("sums may exceed 16 bits"));
    }
    if packing::centre(weights).is_none() {
        return Err(Refusal::new("needs one zero point for all output channels (z or 3 - z)"));
    }
    Ok(Fit::default())
}

fn tile_cycles(query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
    let cells = (pixels * vectors) as f64;
    // The limit is three vector operations per cycle, or two loads per cycle.
    let loads = (2 * pixels + vectors) as f64 / 2.0;
    exists(pixels, vectors).then_some(query.steps as f64 * (0.75 * cells).max(loads) + cells * 15.0 + 60.0)
}

/// Packs a row of pixels into offsets.
///
/// # Safety
/// The CPU has AVX2. The block is a [`PackTile`] whose pointers cover the memory that its fields describe. Past the channels of each pixel,
/// 32 more bytes can be read.
unsafe extern "C" fn pack_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::LookupPack`).
    unsafe { pack(&*block.cast::<PackTile>()) }
}

#[target_feature(enable = "avx2")]
unsafe fn pack(t: &PackTile) {
    // SAFETY: the caller's promise; loads reach at most one vector past the last channel, stores at most 32 offsets past the last.
    unsafe {
        for pixel in 0..t.pixels {
            let from = t.input.offset((pixel * t.pixel_bytes) as isize);
            let to = t.offsets.add((pixel * t.units) as usize);
            for pair in (0..t.units as usize).step_by(32) {
                let first = _mm256_loadu_si256(from.add(pair).cast());
                let second = _mm256_loadu_si256(from.add(pair + t.units as usize).cast());
                // Codes are below 4, so shifting 16-bit words moves no bits between bytes. Bytes past the channels may be larger, but are not used.
                let index = _mm256_or_si256(first, _mm256_slli_epi16::<2>(second));
                _mm256_storeu_si256(to.add(pair).cast(), _mm256_slli_epi16::<4>(index));
            }
        }
    }
}

/// Distance of the prefetch ahead of the weights, in bytes.
const AHEAD: usize = 4096;

/// Adds a register of byte sums to the next pair of totals.
macro_rules! drain {
    ($sum:tt) => {
        concat!(
            "vpaddw ymm14, ",
            $sum,
            ", [{to}]\n",
            "vpsrlw ymm15, ",
            $sum,
            ", 8\n",
            "vpaddw ymm15, ymm15, [{to} + 32]\n",
            "vmovdqa [{to}], ymm14\n",
            "vmovdqa [{to} + 32], ymm15\n",
            "add {to}, 64",
        )
    };
}

/// The look-ups of a pixel with its offset at `$at`, for up to four vectors of indices. The first two are in registers, the others in memory.
macro_rules! pixel {
    ($ahead:literal, $at:literal $a:tt) => {
        concat!(
            "movzx {x:e}, byte ptr [",
            $at,
            " + ",
            $ahead,
            "]\n",
            "vbroadcasti128 ymm14, [{t} + {x}]\n",
            "vpshufb ymm14, ymm14, ymm12\n",
            "vpaddb ",
            $a,
            ", ",
            $a,
            ", ymm14\n",
        )
    };
    ($ahead:literal, $at:literal $a:tt $b:tt) => {
        concat!(
            "movzx {x:e}, byte ptr [",
            $at,
            " + ",
            $ahead,
            "]\n",
            "vbroadcasti128 ymm14, [{t} + {x}]\n",
            "vpshufb ymm15, ymm14, ymm12\n",
            "vpaddb ",
            $a,
            ", ",
            $a,
            ", ymm15\n",
            "vpshufb ymm14, ymm14, ymm13\n",
            "vpaddb ",
            $b,
            ", ",
            $b,
            ", ymm14\n",
        )
    };
    ($ahead:literal, $at:literal $a:tt $b:tt $c:tt) => {
        concat!(
            "movzx {x:e}, byte ptr [",
            $at,
            " + ",
            $ahead,
            "]\n",
            "vbroadcasti128 ymm14, [{t} + {x}]\n",
            "vpshufb ymm15, ymm14, ymm12\n",
            "vpaddb ",
            $a,
            ", ",
            $a,
            ", ymm15\n",
            "vpshufb ymm15, ymm14, ymm13\n",
            "vpaddb ",
            $b,
            ", ",
            $b,
            ", ymm15\n",
            "vpshufb ymm14, ymm14, [{w} + 96 * ",
            $ahead,
            " + 64]\n",
            "vpaddb ",
            $c,
            ", ",
            $c,
            ", ymm14\n",
        )
    };
    ($ahead:literal, $at:literal $a:tt $b:tt $c:tt $d:tt) => {
        concat!(
            "movzx {x:e}, byte ptr [",
            $at,
            " + ",
            $ahead,
            "]\n",
            "vbroadcasti128 ymm14, [{t} + {x}]\n",
            "vpshufb ymm15, ymm14, ymm12\n",
            "vpaddb ",
            $a,
            ", ",
            $a,
            ", ymm15\n",
            "vpshufb ymm15, ymm14, ymm13\n",
            "vpaddb ",
            $b,
            ", ",
            $b,
            ", ymm15\n",
            "vpshufb ymm15, ymm14, [{w} + 128 * ",
            $ahead,
            " + 64]\n",
            "vpaddb ",
            $c,
            ", ",
            $c,
            ", ymm15\n",
            "vpshufb ymm14, ymm14, [{w} + 128 * ",
            $ahead,
            " + 96]\n",
            "vpaddb ",
            $d,
            ", ",
            $d,
            ", ymm14\n",
        )
    };
}

/// Loads the first two vectors of indices of the step that is `$ahead` steps ahead. A step has `$bytes` bytes of indices.
macro_rules! indices {
    ($ahead:literal, 32) => {
        concat!("vmovdqu ymm12, [{w} + 32 * ", $ahead, "]\n")
    };
    ($ahead:literal, $bytes:literal) => {
        concat!(
            "vmovdqu ymm12, [{w} + ",
            $bytes,
            " * ",
            $ahead,
            "]\n",
            "vmovdqu ymm13, [{w} + ",
            $bytes,
            " * ",
            $ahead,
            " + 32]\n",
            "prefetcht0 [{w} + {ahead} + ",
            $bytes,
            " * ",
            $ahead,
            "]\n",
        )
    };
}

/// The look-ups of some steps. For each pixel, the arguments list the address of its offset and the registers of its sums. The tile just
/// fits sixteen registers; compiled intrinsics would spill some. An iteration has two steps.
macro_rules! look_up {
    ($walk:ident, $steps:ident, $bytes:tt: $($at:literal [$($sum:tt)+]),*) => {
        asm!(
            $($(concat!("vpxor ", $sum, ", ", $sum, ", ", $sum),)+)*
            "shr {n}, 1",
            "jnc 2f",
            indices!(0, $bytes),
            $(pixel!(0, $at $($sum)+),)*
            concat!("add {w}, ", $bytes),
            "add {o}, 1",
            "add {o4}, 1",
            "test {n}, {n}",
            "jz 3f",
            "2:",
            indices!(0, $bytes),
            $(pixel!(0, $at $($sum)+),)*
            indices!(1, $bytes),
            $(pixel!(1, $at $($sum)+),)*
            concat!("add {w}, 2 * ", $bytes),
            "add {o}, 2",
            "add {o4}, 2",
            "dec {n}",
            "jnz 2b",
            "3:",
            $($(drain!($sum),)+)*
            "/* {s} {s3} {ahead} */",
            w = inout(reg) $walk.weights,
            o = inout(reg) $walk.offsets,
            o4 = inout(reg) $walk.offsets.wrapping_offset(4 * $walk.pixel_bytes) => _,
            s = in(reg) $walk.pixel_bytes,
            s3 = in(reg) 3 * $walk.pixel_bytes,
            t = in(reg) $walk.table,
            n = inout(reg) $steps => _,
            to = inout(reg) $walk.totals => _,
            x = out(reg) _,
            ahead = const AHEAD,
            $($(out($sum) _,)+)*
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nostack),
        )
    };
}

/// The present position in the weights, offsets and totals.
struct Walk {
    weights: *const u8,
    offsets: *const u8,
    pixel_bytes: isize,
    table: *const u8,
    totals: *mut __m256i,
}

/// Adds the look-ups of the next `steps` steps, at least one, to the totals.
#[inline]
#[rustfmt::skip]
#[target_feature(enable = "avx2")]
unsafe fn add_steps<const P: usize, const V: usize>(walk: &mut Walk, steps: usize) {
    // SAFETY: reads the memory that the tile's fields describe: offsets of each pixel, whole vectors of weights, and rows of the table,
    // which offsets of one byte cannot leave. A prefetch may have any address. Reads and writes two totals for each listed register,
    // that is, for each pixel and vector of the tile.
    unsafe {
        match (P, V) {
            (1, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"]),
            (2, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"]),
            (3, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"], "{o} + 2*{s}" ["ymm2"]),
            (4, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"], "{o} + 2*{s}" ["ymm2"], "{o} + {s3}" ["ymm3"]),
            (5, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"], "{o} + 2*{s}" ["ymm2"], "{o} + {s3}" ["ymm3"],
                "{o4}" ["ymm4"]),
            (6, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"], "{o} + 2*{s}" ["ymm2"], "{o} + {s3}" ["ymm3"],
                "{o4}" ["ymm4"], "{o4} + {s}" ["ymm5"]),
            (7, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"], "{o} + 2*{s}" ["ymm2"], "{o} + {s3}" ["ymm3"],
                "{o4}" ["ymm4"], "{o4} + {s}" ["ymm5"], "{o4} + 2*{s}" ["ymm6"]),
            (8, 1) => look_up!(walk, steps, 32: "{o}" ["ymm0"], "{o} + {s}" ["ymm1"], "{o} + 2*{s}" ["ymm2"], "{o} + {s3}" ["ymm3"],
                "{o4}" ["ymm4"], "{o4} + {s}" ["ymm5"], "{o4} + 2*{s}" ["ymm6"], "{o4} + {s3}" ["ymm7"]),
            (1, 2) => look_up!(walk, steps, 64: "{o}" ["ymm0" "ymm1"]),
            (2, 2) => look_up!(walk, steps, 64: "{o}" ["ymm0" "ymm1"], "{o} + {s}" ["ymm2" "ymm3"]),
            (3, 2) => look_up!(walk, steps, 64: "{o}" ["ymm0" "ymm1"], "{o} + {s}" ["ymm2" "ymm3"], "{o} + 2*{s}" ["ymm4" "ymm5"]),
            (4, 2) => look_up!(walk, steps, 64: "{o}" ["ymm0" "ymm1"], "{o} + {s}" ["ymm2" "ymm3"], "{o} + 2*{s}" ["ymm4" "ymm5"],
                "{o} + {s3}" ["ymm6" "ymm7"]),
            (5, 2) => look_up!(walk, steps, 64: "{o}" ["ymm0" "ymm1"], "{o} + {s}" ["ymm2" "ymm3"], "{o} + 2*{s}" ["ymm4" "ymm5"],
                "{o} + {s3}" ["ymm6" "ymm7"], "{o4}" ["ymm8" "ymm9"]),
            (6, 2) => look_up!(walk, steps, 64: "{o}" ["ymm0" "ymm1"], "{o} + {s}" ["ymm2" "ymm3"], "{o} + 2*{s}" ["ymm4" "ymm5"],
                "{o} + {s3}" ["ymm6" "ymm7"], "{o4}" ["ymm8" "ymm9"], "{o4} + {s}" ["ymm10" "ymm11"]),
            (1, 3) => look_up!(walk, steps, 96: "{o}" ["ymm0" "ymm1" "ymm2"]),
            (2, 3) => look_up!(walk, steps, 96: "{o}" ["ymm0" "ymm1" "ymm2"], "{o} + {s}" ["ymm3" "ymm4" "ymm5"]),
            (3, 3) => look_up!(walk, steps, 96: "{o}" ["ymm0" "ymm1" "ymm2"], "{o} + {s}" ["ymm3" "ymm4" "ymm5"],
                "{o} + 2*{s}" ["ymm6" "ymm7" "ymm8"]),
            (4, 3) => look_up!(walk, steps, 96: "{o}" ["ymm0" "ymm1" "ymm2"], "{o} + {s}" ["ymm3" "ymm4" "ymm5"],
                "{o} + 2*{s}" ["ymm6" "ymm7" "ymm8"], "{o} + {s3}" ["ymm9" "ymm10" "ymm11"]),
            (1, 4) => look_up!(walk, steps, 128: "{o}" ["ymm0" "ymm1" "ymm2" "ymm3"]),
            (2, 4) => look_up!(walk, steps, 128: "{o}" ["ymm0" "ymm1" "ymm2" "ymm3"], "{o} + {s}" ["ymm4" "ymm5" "ymm6" "ymm7"]),
            _ => look_up!(walk, steps, 128: "{o}" ["ymm0" "ymm1" "ymm2" "ymm3"], "{o} + {s}" ["ymm4" "ymm5" "ymm6" "ymm7"],
                "{o} + 2*{s}" ["ymm8" "ymm9" "ymm10" "ymm11"]),
        }
    }
}

/// The most pixels times vectors of a tile.
const MAX_CELLS: usize = 12;

/// 16-bit totals of a tile ([`crate::byte_sums`]), for each pixel and each of its vectors.
#[repr(C, align(64))]
struct Totals([MaybeUninit<Cell<Avx2>>; MAX_CELLS]);

/// Adds all look-ups of a tile to the totals.
#[target_feature(enable = "avx2")]
unsafe fn add_all<const P: usize, const V: usize>(t: &LookupTile, totals: &mut Totals) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid. Offsets are one byte, and the
    // table can be read for 16 bytes from the largest offset.
    unsafe {
        let mut walk = Walk {
            weights: t.weights,
            offsets: t.offsets,
            pixel_bytes: t.pixel_bytes as isize,
            table: t.table,
            totals: (&raw mut *totals).cast(),
        };
        for row in 0..t.rows {
            for tap in 0..t.taps {
                walk.offsets = t.offsets.offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                let mut left = t.steps as usize;
                for parts in (1..=t.parts as usize).rev() {
                    let steps = part(left, parts);
                    if steps > 0 {
                        left -= steps;
                        add_steps::<P, V>(&mut walk, steps);
                    }
                }
            }
        }
    }
}

macro_rules! shapes {
    ($tile:expr, $totals:expr, $(($p:literal, $v:literal)),* $(,)?) => {
        match ($tile.pixels, $tile.vectors) {
            // SAFETY: the caller's promise.
            $(($p, $v) => unsafe { add_all::<$p, $v>($tile, $totals) },)*
            _ => unreachable!("calls are emitted for shapes that `exists` allows, which is checked then"),
        }
    };
}

#[target_feature(enable = "avx2")]
unsafe fn look_up(tile: &LookupTile, totals: &mut Totals) {
    #[rustfmt::skip]
    shapes!(tile, totals,
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
        (1, 3), (2, 3), (3, 3), (4, 3),
        (1, 4), (2, 4), (3, 4),
    );
}

/// A tile of sums.
///
/// # Safety
/// The CPU has AVX2 and FMA. The block is a [`LookupTile`] whose shape [`exists`] and whose pointers cover the memory that its fields
/// describe.
unsafe extern "C" fn look_up_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::LookUp`).
    unsafe { sums(&*block.cast::<LookupTile>()) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn sums(t: &LookupTile) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid.
    unsafe {
        let (pixels, vectors) = (t.pixels as usize, t.vectors as usize);
        let mut totals = Totals([MaybeUninit::new([_mm256_setzero_si256(); 2]); MAX_CELLS]);
        look_up(t, &mut totals);
        let words = _mm256_set1_epi32(0xffff);
        for (p, totals) in totals.0[..pixels * vectors].chunks_exact(vectors).enumerate() {
            for (v, cell) in totals.iter().enumerate() {
                let [even, odd] = halves(Avx2::new(), cell.assume_init());
                let quarters = [
                    _mm256_and_si256(even, words),
                    _mm256_srli_epi32::<16>(even),
                    _mm256_and_si256(odd, words),
                    _mm256_srli_epi32::<16>(odd),
                ];
                for (quarter, &total) in quarters.iter().enumerate() {
                    let channel = 32 * v + 8 * quarter;
                    let constant = _mm256_loadu_si256(t.constants.add(channel).cast());
                    let sign = _mm256_loadu_si256(t.zero_points.add(channel).cast());
                    let sum = _mm256_sign_epi32(_mm256_sub_epi32(total, constant), sign);
                    _mm256_storeu_si256(t.results.add(32 * p * vectors + channel).cast(), sum);
                }
            }
        }
    }
}

/// A tile of results.
///
/// # Safety
/// The CPU has AVX2 and FMA. The block is a [`LookupResultsTile`] whose shape [`exists`] and whose pointers cover the memory that its fields
/// describe.
unsafe extern "C" fn results_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::LookUpResults`).
    unsafe { results(&*block.cast::<LookupResultsTile>()) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn results(tile: &LookupResultsTile) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid, including whole vectors of
    // operands.
    unsafe {
        let v = Avx2::new();
        let (pixels, vectors) = (tile.lookup.pixels as usize, tile.lookup.vectors as usize);
        let mut totals = Totals([MaybeUninit::uninit(); MAX_CELLS]);
        for totals in totals.0[..pixels * vectors].chunks_exact_mut(vectors) {
            for (n, cell) in totals.iter_mut().enumerate() {
                cell.write([0, 16].map(|part| _mm256_loadu_si256(tile.start.add(32 * n + part).cast())));
            }
        }
        prefetch_operand(v, tile);
        look_up(&tile.lookup, &mut totals);
        store_results(v, tile, &totals.0[..pixels * vectors]);
    }
}

#[cfg(test)]
mod tests;
