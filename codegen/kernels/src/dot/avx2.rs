//! Dot products of bytes in 256-bit vectors: by `vpdpbusd`, by `vpmaddubsw` into 16-bit sums, and by `vpmaddwd` of widened bytes.

use super::tiles::{Costs, DotTiles};
use super::{DotTile, UNITS};
use crate::epilogue;
use crate::function::{Contract, Function};
use crate::kernel::{ActivationFormat, Implementation, KernelInfo, TileWeights};
use crate::tier::Tier;
use std::arch::x86_64::*;

const fn info(name: &'static str, tier: Tier, superseded: &'static [Tier], units_per_step: usize) -> KernelInfo {
    KernelInfo {
        name,
        tier,
        implementation: Implementation::Precompiled,
        superseded,
        weight_bits: 2..=8,
        activation_bits: 2..=8,
        channels_per_vector: 8,
        units_per_step,
        vector_bytes: 32,
        activations: ActivationFormat::Byte,
    }
}

/// Four-way products of unsigned and signed bytes by `vpdpbusd`.
pub static VNNI_256: DotTiles = DotTiles {
    info: info("dot-vnni-256", Tier::X86V3Vnni, &[Tier::Avx512Vnni], UNITS),
    tile: &VNNI,
    exists: vnni_exists,
    weights: TileWeights::Bytes,
    epilogue: &epilogue::avx2::EPILOGUE_256,
    fuses: false,
    min_steps_per_drain: None,
    costs: Costs { layer: [0.58, 8.0], tile: [0.56, 0.0, 2.5] },
};

/// Sums of two products by `vpmaddubsw` in 16 bits, which are widened every few steps.
pub static MADDUBS_256: DotTiles = DotTiles {
    info: info("dot-maddubs-256", Tier::X86V3, &[Tier::X86V3Vnni], UNITS),
    tile: &MADDUBS,
    exists: maddubs_exists,
    weights: TileWeights::Bytes,
    epilogue: &epilogue::avx2::EPILOGUE_256,
    fuses: false,
    min_steps_per_drain: Some(4),
    costs: Costs { layer: [0.78, 9.0], tile: [0.7, 0.0, 2.5] },
};

/// Sums of two products by `vpmaddwd` of bytes widened to 16 bits.
pub static MADD16_256: DotTiles = DotTiles {
    info: info("dot-madd16-256", Tier::X86V3, &[Tier::X86V3Vnni], UNITS / 2),
    tile: &MADD16,
    exists: madd16_exists,
    weights: TileWeights::Shorts,
    epilogue: &epilogue::avx2::EPILOGUE_256,
    fuses: false,
    min_steps_per_drain: None,
    costs: Costs { layer: [1.6, 9.0], tile: [0.75, 0.37, 2.5] },
};

// SAFETY: both encodings access only the memory that the fields of the tile describe, in whole vectors, and have every shape that
// `vnni_exists` allows.
static VNNI: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: 32, step_bytes: 4, exists: vnni_exists };
    Function::new("catc_dot_vnni_256", Tier::X86V3Vnni, contract, dot_vnni_256)
};

// SAFETY: as above, for `maddubs_exists`.
static MADDUBS: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: 32, step_bytes: 4, exists: maddubs_exists };
    Function::new("catc_dot_maddubs_256", Tier::X86V3, contract, dot_maddubs_256)
};

// SAFETY: as above, for `madd16_exists`.
static MADD16: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: 32, step_bytes: 2, exists: madd16_exists };
    Function::new("catc_dot_madd16_256", Tier::X86V3, contract, dot_madd16_256)
};

/// Whether there is a tile of this shape. Its sums must fit the 16 registers.
const fn vnni_exists(pixels: usize, vectors: usize) -> bool {
    within([12, 6, 4, 3], pixels, vectors)
}

/// See [`vnni_exists`]; here the products need registers too.
const fn maddubs_exists(pixels: usize, vectors: usize) -> bool {
    within([12, 6, 3, 2], pixels, vectors)
}

/// See [`vnni_exists`].
const fn madd16_exists(pixels: usize, vectors: usize) -> bool {
    within([12, 6, 3, 3], pixels, vectors)
}

/// Whether a tile has one to four vectors, and no more pixels than listed for that number of vectors.
const fn within(most: [usize; 4], pixels: usize, vectors: usize) -> bool {
    vectors >= 1 && vectors <= 4 && pixels >= 1 && pixels <= most[vectors - 1]
}

/// The tile of `vpdpbusd`.
///
/// # Safety
/// The CPU has AVX2, and AVX-VNNI or AVX-512 VNNI with VL. The block is a [`DotTile`] whose shape [`vnni_exists`] and whose pointers cover
/// the memory that its fields describe.
unsafe extern "C" fn dot_vnni_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { vnni(&*block.cast::<DotTile>()) }
}

/// The tile of `vpdpbusd` in the encoding that this CPU has.
///
/// # Safety
/// As [`dot_vnni_256`].
pub(crate) unsafe fn vnni(tile: &DotTile) {
    // SAFETY: the caller's promise.
    unsafe { if std::is_x86_feature_detected!("avxvnni") { vex::dispatch(tile) } else { evex::dispatch(tile) } }
}

/// The tile of `vpmaddubsw`, whose 16-bit sums are widened every `drain` steps.
///
/// # Safety
/// The CPU has AVX2. The block is a [`DotTile`] whose shape [`maddubs_exists`] and whose pointers cover the memory that its fields describe.
unsafe extern "C" fn dot_maddubs_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { maddubs::dispatch(&*block.cast::<DotTile>()) }
}

/// The tile of `vpmaddwd`, with weights widened to 16 bits and two codes per step.
///
/// # Safety
/// As [`dot_maddubs_256`], for [`madd16_exists`].
unsafe extern "C" fn dot_madd16_256(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::SumTile`).
    unsafe { madd16::dispatch(&*block.cast::<DotTile>()) }
}

/// Distance of the prefetch ahead of the weights, in bytes.
const AHEAD: usize = 4096;

macro_rules! dispatch {
    ($features:literal, [$(($p:literal, $v:literal)),* $(,)?]) => {
        /// Computes a tile with the code for its shape.
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn dispatch(tile: &DotTile) {
            match (tile.pixels, tile.vectors) {
                // SAFETY: the caller's promise.
                $(($p, $v) => unsafe { sum::<$p, $v>(tile) },)*
                _ => unreachable!("calls are emitted for shapes that `exists` allows, which is checked then"),
            }
        }
    };
}

/// Broadcasts four codes of a pixel to every 32-bit lane.
///
/// # Safety
/// Four bytes can be read.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn broadcast(codes: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_set1_epi32(codes.cast::<i32>().read_unaligned()) }
}

/// The initial sums of `V` vectors.
///
/// # Safety
/// `8 * V` sums can be read.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn initial<const V: usize>(start: *const i32) -> [__m256i; V] {
    let mut sums = [_mm256_setzero_si256(); V];
    for (v, sum) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *sum = unsafe { _mm256_loadu_si256(start.add(8 * v).cast()) };
    }
    sums
}

/// Stores the sums of `P` pixels.
///
/// # Safety
/// The tile's sums can be written.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store<const P: usize, const V: usize>(t: &DotTile, sums: &[[__m256i; V]; P]) {
    for (p, pixel) in sums.iter().enumerate() {
        for (v, &sum) in pixel.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                _mm256_storeu_si256(t.sums.byte_offset(p as isize * t.sums_pixel as isize).add(8 * v).cast(), sum)
            };
        }
    }
}

macro_rules! vnni {
    ($encoding:ident, $features:literal, $dot:ident) => {
        mod $encoding {
            use super::*;

            #[rustfmt::skip]
            dispatch!($features, [
                (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
                (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
                (1, 3), (2, 3), (3, 3), (4, 3),
                (1, 4), (2, 4), (3, 4),
            ]);

            #[target_feature(enable = $features)]
            unsafe fn sum<const P: usize, const V: usize>(t: &DotTile) {
                // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid.
                unsafe {
                    let mut sums = [initial::<V>(t.start); P];
                    let mut weights = t.weights;
                    for row in 0..t.rows {
                        for tap in 0..t.taps {
                            let mut input = t.input.offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                            for _ in 0..t.steps {
                                for v in (0..V).step_by(2) {
                                    _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(32 * v + AHEAD));
                                }
                                // Keep the smaller operand in registers; stream the other.
                                let codes = |p: usize| broadcast(input.offset(p as isize * t.input_pixel as isize));
                                let vector = |v: usize| _mm256_loadu_si256(weights.add(32 * v).cast());
                                if P <= V {
                                    let codes: [_; P] = std::array::from_fn(codes);
                                    for v in 0..V {
                                        let vector = vector(v);
                                        for (sums, &codes) in sums.iter_mut().zip(&codes) {
                                            sums[v] = $dot(sums[v], codes, vector);
                                        }
                                    }
                                } else {
                                    let vectors: [_; V] = std::array::from_fn(vector);
                                    for (p, sums) in sums.iter_mut().enumerate() {
                                        let codes = codes(p);
                                        for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                                            *sum = $dot(*sum, codes, vector);
                                        }
                                    }
                                }
                                input = input.add(4);
                                weights = weights.add(32 * V);
                            }
                        }
                    }
                    store(t, &sums);
                }
            }
        }
    };
}

vnni!(vex, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);
vnni!(evex, "avx2,avx512vnni,avx512vl", _mm256_dpbusd_epi32);

pub(crate) mod maddubs {
    use super::*;

    #[rustfmt::skip]
    dispatch!("avx2", [
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
        (1, 3), (2, 3), (3, 3),
        (1, 4), (2, 4),
    ]);

    #[target_feature(enable = "avx2")]
    unsafe fn sum<const P: usize, const V: usize>(t: &DotTile) {
        // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid.
        unsafe {
            store(t, &[initial::<V>(t.start); P]);
            let mut sums = [[_mm256_setzero_si256(); V]; P];
            let mut weights = t.weights;
            let mut room = t.drain;
            for row in 0..t.rows {
                for tap in 0..t.taps {
                    let mut input = t.input.offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                    let mut left = t.steps;
                    while left > 0 {
                        let now = left.min(room);
                        for _ in 0..now {
                            let mut vectors = [_mm256_setzero_si256(); V];
                            for (v, vector) in vectors.iter_mut().enumerate() {
                                *vector = _mm256_loadu_si256(weights.add(32 * v).cast());
                            }
                            for (p, sums) in sums.iter_mut().enumerate() {
                                let codes = broadcast(input.offset(p as isize * t.input_pixel as isize));
                                for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(codes, vector));
                                }
                            }
                            input = input.add(4);
                            weights = weights.add(32 * V);
                        }
                        left -= now;
                        room -= now;
                        if room == 0 {
                            drain(t, &mut sums);
                            room = t.drain;
                        }
                    }
                }
            }
            drain(t, &mut sums);
        }
    }

    /// Adds the 16-bit sums to the tile's 32-bit sums in memory, and sets them to 0.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn drain<const P: usize, const V: usize>(t: &DotTile, sums: &mut [[__m256i; V]; P]) {
        let ones = _mm256_set1_epi16(1);
        for (p, pixel) in sums.iter_mut().enumerate() {
            for (v, sum) in pixel.iter_mut().enumerate() {
                // SAFETY: the tile's sums can be read and written.
                unsafe {
                    let at = t.sums.byte_offset(p as isize * t.sums_pixel as isize).add(8 * v).cast::<__m256i>();
                    let total = _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_madd_epi16(*sum, ones));
                    _mm256_storeu_si256(at, total);
                }
                *sum = _mm256_setzero_si256();
            }
        }
    }
}

mod madd16 {
    use super::*;

    #[rustfmt::skip]
    dispatch!("avx2", [
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1),
        (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2),
        (1, 3), (2, 3), (3, 3),
        (1, 4), (2, 4), (3, 4),
    ]);

    #[target_feature(enable = "avx2")]
    unsafe fn sum<const P: usize, const V: usize>(t: &DotTile) {
        // SAFETY: accesses only the memory that the block's fields describe, which the caller promises to be valid. A step reads four bytes of
        // the input, two more than it uses.
        unsafe {
            let mut sums = [initial::<V>(t.start); P];
            // Selects the first two of four codes and extends them to 16 bits.
            let widen = _mm256_set1_epi32(i32::from_le_bytes([0, 0x80, 1, 0x80]));
            let mut weights = t.weights;
            for row in 0..t.rows {
                for tap in 0..t.taps {
                    let mut input = t.input.offset((row * t.row_bytes + tap * t.tap_bytes) as isize);
                    for _ in 0..t.steps {
                        for v in (0..V).step_by(2) {
                            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(32 * v + AHEAD));
                        }
                        let codes = |p: usize| {
                            let codes = broadcast(input.offset(p as isize * t.input_pixel as isize));
                            _mm256_shuffle_epi8(codes, widen)
                        };
                        let vector = |v: usize| _mm256_loadu_si256(weights.add(32 * v).cast());
                        // Keep the smaller operand in registers; stream the other.
                        if P <= V {
                            let codes: [_; P] = std::array::from_fn(codes);
                            for v in 0..V {
                                let vector = vector(v);
                                for (sums, &codes) in sums.iter_mut().zip(&codes) {
                                    sums[v] = _mm256_add_epi32(sums[v], _mm256_madd_epi16(codes, vector));
                                }
                            }
                        } else {
                            let vectors: [_; V] = std::array::from_fn(vector);
                            for (p, sums) in sums.iter_mut().enumerate() {
                                let codes = codes(p);
                                for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(codes, vector));
                                }
                            }
                        }
                        input = input.add(2);
                        weights = weights.add(32 * V);
                    }
                }
            }
            store(t, &sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;

    /// Compares every shape of every variant that this CPU runs with sums in scalar arithmetic.
    #[test]
    fn every_tile_sums_products() {
        if !std::is_x86_feature_detected!("avx2") {
            println!("no AVX2 here: tiles of 256 bits were not run");
            return;
        }
        const STEPS: usize = 9;
        let codes: Vec<u8> = (0..12 * 4 * STEPS + 16).map(|i| (i * 7 % 256) as u8).collect();
        type Tile = unsafe fn(&DotTile);
        let all: [(&DotTiles, Tile, bool); 4] = [
            (&VNNI_256, vex::dispatch, std::is_x86_feature_detected!("avxvnni")),
            (
                &VNNI_256,
                evex::dispatch,
                std::is_x86_feature_detected!("avx512vnni") && std::is_x86_feature_detected!("avx512vl"),
            ),
            (&MADDUBS_256, maddubs::dispatch, true),
            (&MADD16_256, madd16::dispatch, true),
        ];
        for (kernel, function, available) in all {
            if !available {
                println!("a form of {} was not run here", kernel.info().name);
                continue;
            }
            // With these weights, 16 bits hold two steps of `vpmaddubsw`, the `drain` below.
            let largest = if kernel.min_steps_per_drain.is_some() { 31 } else { 127 };
            // Pixels without and with codes in common.
            let shapes = (1..15).flat_map(|p| (1..6).flat_map(move |v| [(p, v, 4 * STEPS), (p, v, 3)]));
            for (pixels, vectors, apart) in shapes.filter(|&(p, v, _)| (kernel.exists)(p, v)) {
                let count = STEPS * vectors * 32;
                let code = |i: usize| (i * 5 % (2 * largest + 1)) as i32 - largest as i32;
                let bytes: Vec<i8> = (0..count).map(|i| code(i) as i8).collect();
                let wide: Vec<i16> = bytes.iter().map(|&byte| i16::from(byte)).collect();
                let (weights, units) = match kernel.weights {
                    TileWeights::Shorts => (wide.as_ptr().cast(), 2),
                    TileWeights::Bytes | TileWeights::Floats => (bytes.as_ptr(), 4),
                };
                let start: Vec<i32> = (0..8 * vectors as i32).map(|i| 1000 - i).collect();
                let mut sums = vec![0; pixels * vectors * 8];
                let tile = DotTile {
                    input: codes.as_ptr(),
                    weights,
                    start: start.as_ptr(),
                    sums: sums.as_mut_ptr(),
                    sums_pixel: 32 * vectors as i64,
                    input_pixel: apart as i64,
                    pixels: pixels as i64,
                    vectors: vectors as i64,
                    rows: 3,
                    row_bytes: 12,
                    taps: 1,
                    tap_bytes: 0,
                    steps: 12 / units as i64,
                    drain: 2,
                };
                // SAFETY: the CPU has the instructions, and all arrays have the sizes that the fields describe.
                unsafe { function(&tile) };
                for (at, &sum) in sums.iter().enumerate() {
                    let (pixel, output) = (at / (8 * vectors), at % (8 * vectors));
                    let product = |k: usize| {
                        let weight = bytes[(k / units * vectors * 8 + output) * units + k % units];
                        i32::from(codes[pixel * apart + k]) * i32::from(weight)
                    };
                    let expected = start[output] + (0..4 * STEPS).map(product).sum::<i32>();
                    assert_eq!(sum, expected, "{} {pixels}x{vectors}", kernel.info().name);
                }
            }
        }
    }
}
