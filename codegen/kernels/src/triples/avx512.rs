//! 2-bit look-ups of three channels by `vpermb` in 512-bit vectors.

use super::packing::{self, CHANNELS};
use crate::byte_sums::part;
use crate::epilogue;
use crate::function::{Contract, Function, LookupReach};
use crate::kernel::{ActivationFormat, Fit, Implementation, KernelInfo, Refusal};
use crate::lookup_results::{Cell, halves, prefetch_operand, store_results};
use crate::lookup_tile::{LookupCosts, LookupKernel, LookupResultsTile, LookupTile, LookupTiles, PackTile, PixelSums};
use crate::query::Query;
use crate::tier::Tier;
use crate::tile_sizes::TileQuery;
use crate::vector::Avx512;
use crate::weights::QuantizedWeights;
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Look-ups of three channels for 64 output channels.
pub static TRIPLES_512: LookupKernel = LookupKernel {
    info: KernelInfo {
        name: "triples-512",
        tier: Tier::Avx512Vbmi,
        implementation: Implementation::Precompiled,
        superseded: &[],
        weight_bits: 2..=2,
        activation_bits: 2..=2,
        channels_per_vector: CHANNELS,
        units_per_step: 3,
        vector_bytes: 64,
        activations: ActivationFormat::Byte,
    },
    tiles: &TILES,
    takes,
    costs: LookupCosts { look_up: 1.12, end: 20.0, pixel: 16.0, units_per_cycle: 5.5 },
    tile_cycles,
};

static TILES: LookupTiles = LookupTiles {
    pack: &PACK,
    look_up: &LOOK_UP,
    results: &RESULTS,
    epilogue: &epilogue::avx512::EPILOGUE_512,
    fuses_after_sums: true,
    together: 3,
    offset_bytes: 2,
    sum_bytes: size_of::<PixelSums>(),
    lanes: CHANNELS,
    sum_scale: -65536,
    max_operand_levels: 15,
    takes_common_zero_point: true,
    layout: packing::layout,
    weights: packing::pack,
};

/// Offsets are those of 64 rows of 64 bytes, because packing makes them from three codes of two bits each.
const REACH: LookupReach =
    LookupReach { lanes: CHANNELS, offset_bytes: 2, table_bytes: 4096, packed_together: 64, pixel_sums: true, exists };

// SAFETY: `pack` accesses only the memory that the fields of its tile describe, because loads are masked to the channels of a pixel.
static PACK: Function =
    unsafe { Function::new("catc_triples_pack_512", Tier::Avx512Vbmi, Contract::LookupPack(REACH), pack_512) };

// SAFETY: `sums` accesses only the memory that the fields of its tile describe, and has every shape that `exists`.
static LOOK_UP: Function =
    unsafe { Function::new("catc_triples_look_up_512", Tier::Avx512Vbmi, Contract::LookUp(REACH), look_up_512) };

// SAFETY: `results` accesses only the memory that the fields of its tile describe, and has every shape that `exists`.
static RESULTS: Function =
    unsafe { Function::new("catc_triples_results_512", Tier::Avx512Vbmi, Contract::LookUpResults(REACH), results_512) };

/// The most pixels of a tile.
const MAX_PIXELS: usize = 8;

/// The most index vectors of a tile.
const MAX_VECTORS: usize = 2;

/// Whether there is a tile of this shape. Its byte sums, indices and temporaries must fit the 32 registers.
const fn exists(pixels: usize, vectors: usize) -> bool {
    pixels >= 1 && pixels <= MAX_PIXELS && vectors >= 1 && vectors <= MAX_VECTORS
}

fn takes(query: &Query<'_>, _: &QuantizedWeights<'_>) -> Result<Fit, Refusal> {
    if !packing::fits(&query.shape) {
        return Err(Refusal::new("sums may exceed 16 bits"));
    }
    Ok(Fit { steps_per_drain: packing::STEPS_PER_DRAIN })
}

fn tile_cycles(query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
    let cells = (pixels * vectors) as f64;
    let cell = if vectors == 1 { 1.2 } else { 1.05 };
    let drain = 2.5 / packing::STEPS_PER_DRAIN as f64;
    let cycles = query.steps as f64 * ((cell + drain) * cells).max(4.0) + cells * 25.0 + 60.0;
    exists(pixels, vectors).then_some(cycles)
}

/// Packs a row of pixels into offsets.
///
/// # Safety
/// The CPU has AVX-512 F, BW and VBMI. The block is a [`PackTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn pack_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::LookupPack`).
    unsafe { pack(&*block.cast::<PackTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn pack(t: &PackTile) {
    // SAFETY: the caller's promise; loads are masked to the pixel's channels, and stores reach at most 64 offsets past the last.
    unsafe {
        let shares = _mm512_loadu_si512(t.shares.cast());
        let first = |count: i64| if count >= 64 { u64::MAX } else { !(u64::MAX << count.max(0)) };
        for pixel in 0..t.pixels {
            let from = t.input.offset((pixel * t.pixel_bytes) as isize);
            let to = t.offsets.cast::<u16>().add((pixel * t.units) as usize);
            // Each 64-bit lane has a sum of shares in its lower half and a sum of codes in its upper half.
            let mut met = _mm512_setzero_si512();
            let mut triple = 0;
            while triple < t.units {
                let here = first(t.units - triple);
                let part = |part: i64| {
                    let channel = triple + part * t.units;
                    _mm512_maskz_loadu_epi8(
                        here & first(t.channels - channel),
                        from.wrapping_offset(channel as isize).cast(),
                    )
                };
                let (a0, a1, a2) = (part(0), part(1), part(2));
                // Codes are below 4, so shifting 16-bit words moves no bits between bytes.
                let index =
                    _mm512_or_si512(a0, _mm512_or_si512(_mm512_slli_epi16::<2>(a1), _mm512_slli_epi16::<4>(a2)));
                let codes = _mm512_add_epi8(a0, _mm512_add_epi8(a1, a2));
                let zero = _mm512_setzero_si512();
                let codes = _mm512_slli_epi64::<32>(_mm512_sad_epu8(codes, zero));
                let share = _mm512_sad_epu8(_mm512_permutexvar_epi8(index, shares), zero);
                met = _mm512_add_epi64(met, _mm512_add_epi64(codes, share));
                let low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(index));
                let high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(index));
                let to = to.add(triple as usize);
                _mm512_storeu_si512(to.cast(), _mm512_slli_epi16::<6>(low));
                if t.units - triple > 32 {
                    _mm512_storeu_si512(to.add(32).cast(), _mm512_slli_epi16::<6>(high));
                }
                triple += 64;
            }
            let met = _mm512_reduce_add_epi64(met);
            *t.sums.add(pixel as usize) = PixelSums { shares: met as i32, codes: (met >> 32) as i32 };
        }
    }
}

/// Distance of the prefetch ahead of the weights, in bytes.
const AHEAD: usize = 4096;

/// Adds a register of byte sums to the next pair of totals.
macro_rules! drain {
    ($sum:tt) => {
        concat!(
            "vpaddw zmm18, ",
            $sum,
            ", [{to}]\n",
            "vpsrlw zmm19, ",
            $sum,
            ", 8\n",
            "vpaddw zmm19, zmm19, [{to} + 64]\n",
            "vmovdqa64 [{to}], zmm18\n",
            "vmovdqa64 [{to} + 64], zmm19\n",
            "add {to}, 128",
        )
    };
}

/// The look-ups of the step that is `$ahead` steps ahead.
macro_rules! step {
    (1 $ahead:literal: $($at:literal $a:tt),*) => {
        concat!(
            "vmovdqu64 zmm16, [{w} + 64 * ", $ahead, "]\n",
            "prefetcht0 [{w} + {ahead} + 64 * ", $ahead, "]\n",
            $(
                "movzx {x:e}, word ptr [", $at, " + 2 * ", $ahead, "]\n",
                "vpermb zmm18, zmm16, [{t} + {x}]\n",
                "vpaddusb ", $a, ", ", $a, ", zmm18\n",
            )*
        )
    };
    (2 $ahead:literal: $($at:literal $a:tt $b:tt),*) => {
        concat!(
            "vmovdqu64 zmm16, [{w} + 128 * ", $ahead, "]\n",
            "vmovdqu64 zmm17, [{w} + 128 * ", $ahead, " + 64]\n",
            "prefetcht0 [{w} + {ahead} + 128 * ", $ahead, "]\n",
            "prefetcht0 [{w} + {ahead} + 128 * ", $ahead, " + 64]\n",
            $(
                "movzx {x:e}, word ptr [", $at, " + 2 * ", $ahead, "]\n",
                "vmovdqa64 zmm18, [{t} + {x}]\n",
                "vpermb zmm19, zmm16, zmm18\n",
                "vpaddusb ", $a, ", ", $a, ", zmm19\n",
                "vpermb zmm20, zmm17, zmm18\n",
                "vpaddusb ", $b, ", ", $b, ", zmm20\n",
            )*
        )
    };
}

/// The look-ups of some steps. For each pixel, the arguments list the address of its offset and the registers of its sums.
///
/// Compiled intrinsics spill sums and totals and make the addresses depend on one another, which costs a quarter of the speed. The sums
/// never saturate; saturating additions are used because they do not run on the port of permutations, which is always busy. An iteration
/// has two steps, because the end of a loop with few iterations is predicted.
macro_rules! look_up {
    ($walk:ident, $steps:ident, 1: $($at:literal $a:tt),*) => {
        asm!(
            $(concat!("vpxord ", $a, ", ", $a, ", ", $a),)*
            "shr {n}, 1",
            "jnc 2f",
            step!(1 0: $($at $a),*),
            "add {w}, 64",
            "add {o}, 2",
            "add {o4}, 2",
            "test {n}, {n}",
            "jz 3f",
            "2:",
            step!(1 0: $($at $a),*),
            step!(1 1: $($at $a),*),
            "add {w}, 128",
            "add {o}, 4",
            "add {o4}, 4",
            "dec {n}",
            "jnz 2b",
            "3:",
            $(drain!($a),)*
            "/* {s} {s3} */",
            w = inout(reg) $walk.weights,
            o = inout(reg) $walk.offsets,
            o4 = inout(reg) $walk.offsets.wrapping_byte_offset(4 * $walk.pixel_bytes) => _,
            s = in(reg) $walk.pixel_bytes,
            s3 = in(reg) 3 * $walk.pixel_bytes,
            t = in(reg) $walk.table,
            n = inout(reg) $steps => _,
            to = inout(reg) $walk.totals => _,
            x = out(reg) _,
            ahead = const AHEAD,
            $(out($a) _,)*
            out("zmm16") _, out("zmm18") _, out("zmm19") _,
            options(nostack),
        )
    };
    ($walk:ident, $steps:ident, 2: $($at:literal $a:tt $b:tt),*) => {
        asm!(
            $(concat!("vpxord ", $a, ", ", $a, ", ", $a), concat!("vpxord ", $b, ", ", $b, ", ", $b),)*
            "shr {n}, 1",
            "jnc 2f",
            step!(2 0: $($at $a $b),*),
            "add {w}, 128",
            "add {o}, 2",
            "add {o4}, 2",
            "test {n}, {n}",
            "jz 3f",
            "2:",
            step!(2 0: $($at $a $b),*),
            step!(2 1: $($at $a $b),*),
            "add {w}, 256",
            "add {o}, 4",
            "add {o4}, 4",
            "dec {n}",
            "jnz 2b",
            "3:",
            $(drain!($a), drain!($b),)*
            "/* {s} {s3} */",
            w = inout(reg) $walk.weights,
            o = inout(reg) $walk.offsets,
            o4 = inout(reg) $walk.offsets.wrapping_byte_offset(4 * $walk.pixel_bytes) => _,
            s = in(reg) $walk.pixel_bytes,
            s3 = in(reg) 3 * $walk.pixel_bytes,
            t = in(reg) $walk.table,
            n = inout(reg) $steps => _,
            to = inout(reg) $walk.totals => _,
            x = out(reg) _,
            ahead = const AHEAD,
            $(out($a) _, out($b) _,)*
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _, out("zmm20") _,
            options(nostack),
        )
    };
}

/// The present position in the weights, offsets and totals.
struct Walk {
    weights: *const u8,
    offsets: *const u16,
    pixel_bytes: isize,
    table: *const u8,
    totals: *mut __m512i,
}

/// Adds the look-ups of the next `steps` steps, at least one, to the totals.
#[inline]
#[rustfmt::skip]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn add_steps<const P: usize, const V: usize>(walk: &mut Walk, steps: usize) {
    // SAFETY: reads the memory that the tile's fields describe: offsets of each pixel, whole vectors of weights, and rows of the table.
    // Offsets are multiples of 64 below 4096, the size of the table. A prefetch may have any address. Reads and writes two totals for
    // each listed register, that is, for each pixel and vector of the tile.
    unsafe {
        match (P, V) {
            (1, 1) => look_up!(walk, steps, 1: "{o}" "zmm0"),
            (2, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2"),
            (3, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2", "{o} + 2*{s}" "zmm4"),
            (4, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2", "{o} + 2*{s}" "zmm4", "{o} + {s3}" "zmm6"),
            (5, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2", "{o} + 2*{s}" "zmm4", "{o} + {s3}" "zmm6",
                "{o4}" "zmm8"),
            (6, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2", "{o} + 2*{s}" "zmm4", "{o} + {s3}" "zmm6",
                "{o4}" "zmm8", "{o4} + {s}" "zmm10"),
            (7, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2", "{o} + 2*{s}" "zmm4", "{o} + {s3}" "zmm6",
                "{o4}" "zmm8", "{o4} + {s}" "zmm10", "{o4} + 2*{s}" "zmm12"),
            (8, 1) => look_up!(walk, steps, 1: "{o}" "zmm0", "{o} + {s}" "zmm2", "{o} + 2*{s}" "zmm4", "{o} + {s3}" "zmm6",
                "{o4}" "zmm8", "{o4} + {s}" "zmm10", "{o4} + 2*{s}" "zmm12", "{o4} + {s3}" "zmm14"),
            (1, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1"),
            (2, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3"),
            (3, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3", "{o} + 2*{s}" "zmm4" "zmm5"),
            (4, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3", "{o} + 2*{s}" "zmm4" "zmm5",
                "{o} + {s3}" "zmm6" "zmm7"),
            (5, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3", "{o} + 2*{s}" "zmm4" "zmm5",
                "{o} + {s3}" "zmm6" "zmm7", "{o4}" "zmm8" "zmm9"),
            (6, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3", "{o} + 2*{s}" "zmm4" "zmm5",
                "{o} + {s3}" "zmm6" "zmm7", "{o4}" "zmm8" "zmm9", "{o4} + {s}" "zmm10" "zmm11"),
            (7, 2) => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3", "{o} + 2*{s}" "zmm4" "zmm5",
                "{o} + {s3}" "zmm6" "zmm7", "{o4}" "zmm8" "zmm9", "{o4} + {s}" "zmm10" "zmm11", "{o4} + 2*{s}" "zmm12" "zmm13"),
            _ => look_up!(walk, steps, 2: "{o}" "zmm0" "zmm1", "{o} + {s}" "zmm2" "zmm3", "{o} + 2*{s}" "zmm4" "zmm5",
                "{o} + {s3}" "zmm6" "zmm7", "{o4}" "zmm8" "zmm9", "{o4} + {s}" "zmm10" "zmm11", "{o4} + 2*{s}" "zmm12" "zmm13",
                "{o4} + {s3}" "zmm14" "zmm15"),
        }
    }
}

/// 16-bit totals of a tile ([`crate::byte_sums`]), for each pixel and each of its vectors.
#[repr(C, align(64))]
struct Totals([MaybeUninit<Cell<Avx512>>; MAX_PIXELS * MAX_VECTORS]);

impl Totals {
    fn new() -> Totals {
        Totals([MaybeUninit::uninit(); MAX_PIXELS * MAX_VECTORS])
    }
}

/// Adds all look-ups of a tile to the totals.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn add_all<const P: usize, const V: usize>(t: &LookupTile, totals: &mut Totals) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid. Offsets are below 4096, the size
    // of the table.
    unsafe {
        let mut walk = Walk {
            weights: t.weights,
            offsets: t.offsets.cast(),
            pixel_bytes: t.pixel_bytes as isize,
            table: t.table,
            totals: (&raw mut *totals).cast(),
        };
        for row in 0..t.rows {
            for tap in 0..t.taps {
                walk.offsets = t.offsets.cast::<u16>().byte_offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
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

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn look_up(tile: &LookupTile, totals: &mut Totals) {
    #[rustfmt::skip]
    shapes!(tile, totals,
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1),
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2), (7, 2), (8, 2),
    );
}

/// The sums over the window of a pixel of the tile.
#[inline]
unsafe fn met(t: &LookupTile, pixel: usize) -> PixelSums {
    // Adds both sums in one 64-bit addition; neither is negative. Assembly, because the compiler would use slow gathers.
    let mut met = 0u64;
    // SAFETY: the caller promises that the sums of the tile's windows can be read.
    unsafe {
        let sums = t.sums.byte_offset(pixel as isize * t.sums_pixel as isize);
        for row in 0..t.rows {
            let mut at = sums.byte_offset((row * t.sums_row) as isize);
            for _ in 0..t.columns {
                asm!(
                    "add {met}, qword ptr [{at}]",
                    met = inout(reg) met,
                    at = in(reg) at,
                    options(readonly, nostack, pure),
                );
                at = at.wrapping_byte_offset(t.sums_tap as isize);
            }
        }
    }
    PixelSums { shares: met as i32, codes: (met >> 32) as i32 }
}

/// A tile of sums.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VBMI. The block is a [`LookupTile`] whose shape [`exists`] and whose pointers cover the memory that
/// its fields describe.
unsafe extern "C" fn look_up_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::LookUp`).
    unsafe { sums(&*block.cast::<LookupTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
unsafe fn sums(t: &LookupTile) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid.
    unsafe {
        let (pixels, vectors) = (t.pixels as usize, t.vectors as usize);
        let mut totals = Totals::new();
        totals.0[..pixels * vectors].fill(MaybeUninit::new([_mm512_setzero_si512(); 2]));
        look_up(t, &mut totals);
        let words = _mm512_set1_epi32(0xffff);
        for (p, totals) in totals.0[..pixels * vectors].chunks_exact(vectors).enumerate() {
            let met = met(t, p);
            let common = _mm512_set1_epi32(met.shares - t.zero_point as i32 * met.codes);
            for (v, cell) in totals.iter().enumerate() {
                let [even, odd] = halves(Avx512::new(), cell.assume_init());
                let quarters = [
                    _mm512_and_si512(even, words),
                    _mm512_srli_epi32::<16>(even),
                    _mm512_and_si512(odd, words),
                    _mm512_srli_epi32::<16>(odd),
                ];
                for (quarter, &total) in quarters.iter().enumerate() {
                    let channel = 64 * v + 16 * quarter;
                    let constant = _mm512_loadu_si512(t.constants.add(channel).cast());
                    let own = if t.zero_points.is_null() {
                        common
                    } else {
                        let zero_points = _mm512_loadu_si512(t.zero_points.add(channel).cast());
                        let codes = _mm512_mullo_epi32(zero_points, _mm512_set1_epi32(met.codes));
                        _mm512_sub_epi32(_mm512_set1_epi32(met.shares), codes)
                    };
                    let sum = _mm512_sub_epi32(_mm512_add_epi32(constant, own), total);
                    _mm512_storeu_si512(t.results.add(64 * (p * vectors + v) + 16 * quarter).cast(), sum);
                }
            }
        }
    }
}

/// A tile of results.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL and VBMI. The block is a [`LookupResultsTile`] whose shape [`exists`] and whose pointers cover the memory
/// that its fields describe.
unsafe extern "C" fn results_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::LookUpResults`).
    unsafe { results(&*block.cast::<LookupResultsTile>()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
unsafe fn results(tile: &LookupResultsTile) {
    // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid.
    unsafe {
        let (v, t) = (Avx512::new(), &tile.lookup);
        let (pixels, vectors) = (t.pixels as usize, t.vectors as usize);
        let mut totals = Totals::new();
        for (p, totals) in totals.0[..pixels * vectors].chunks_exact_mut(vectors).enumerate() {
            let met = met(t, p);
            let (shares, codes) = (met.shares as i16, _mm512_set1_epi16(met.codes as i16));
            let met = [shares.wrapping_add(shares << 8), shares].map(|shares| _mm512_set1_epi16(shares));
            for (n, cell) in totals.iter_mut().enumerate() {
                cell.write(std::array::from_fn(|part| {
                    let at = 64 * n + 32 * part;
                    let zero_points = _mm512_loadu_si512(tile.zero_points.add(at).cast());
                    let start = _mm512_loadu_si512(tile.start.add(at).cast());
                    let taken = _mm512_sub_epi16(met[part], _mm512_mullo_epi16(zero_points, codes));
                    _mm512_sub_epi16(start, taken)
                }));
            }
        }
        prefetch_operand(v, tile);
        look_up(t, &mut totals);
        store_results(v, tile, &totals.0[..pixels * vectors]);
    }
}
