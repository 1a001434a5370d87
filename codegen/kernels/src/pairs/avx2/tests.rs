//! Compares every tile with scalar arithmetic.

use super::*;
use crate::byte_sums::{Order, quarters, words};
use crate::epilogue::{EpilogueArguments, EpilogueProgram, ProgramStep, function, store};
use crate::pairs::packing as pairs;

/// A table on a cache line boundary.
#[repr(align(64))]
struct Aligned([u8; 256]);

/// Steps per run. A tile has two rows of two runs in two parts; the runs are not adjacent in the offsets.
const STEPS: usize = 11;
const PIXEL: usize = 3;

fn tile(offsets: &[u8], weights: &[u8], table: &Aligned, constants: &[i32], signs: &[i32]) -> LookupTile {
    LookupTile {
        offsets: offsets.as_ptr(),
        pixel_bytes: PIXEL as i64,
        rows: 2,
        row_bytes: 40,
        taps: 2,
        tap_bytes: 17,
        steps: STEPS as i64,
        parts: 2,
        weights: weights.as_ptr(),
        table: table.0.as_ptr(),
        sums: std::ptr::null(),
        sums_pixel: 0,
        sums_row: 0,
        sums_tap: 0,
        columns: 2,
        constants: constants.as_ptr(),
        zero_points: signs.as_ptr(),
        zero_point: 0,
        results: std::ptr::null_mut(),
        pixels: 0,
        vectors: 0,
    }
}

/// Compares every shape, with and without an epilogue, with sums in scalar arithmetic.
#[test]
fn every_tile_looks_up() {
    if !std::is_x86_feature_detected!("avx2") || !std::is_x86_feature_detected!("fma") {
        println!("no AVX2 and FMA here: look-ups of 256 bits were not run");
        return;
    }
    let table = Aligned(pairs::table(2));
    let offsets: Vec<u8> = (0..200).map(|i| (i * i * 7 + i / 3) as u8 & 0xf0).collect();
    let shapes = (1..10).flat_map(|p| (1..6).map(move |v| (p, v)));
    for (pixels, vectors) in shapes.filter(|&(p, v)| exists(p, v)) {
        let lanes = 32 * vectors;
        let weights: Vec<u8> = (0..4 * STEPS * lanes).map(|i| (i * i / 5 + i) as u8 % 16).collect();
        let constants: Vec<i32> = (0..lanes as i32).map(|c| 3 * c - 20).collect();
        let signs: Vec<i32> = (0..lanes).map(|c| if c % 3 == 0 { -1 } else { 1 }).collect();
        let sum = |p: usize, lane: usize| -> i32 {
            let entry = |at: usize| {
                let (run, step) = (at / STEPS, at % STEPS);
                let offset = offsets[PIXEL * p + 40 * (run / 2) + 17 * (run % 2) + step];
                i32::from(table.0[usize::from(offset) + usize::from(weights[at * lanes + lane])])
            };
            (0..4 * STEPS).map(entry).sum()
        };
        let mut results = vec![0; pixels * lanes];
        let mut block = tile(&offsets, &weights, &table, &constants, &signs);
        (block.pixels, block.vectors, block.results) = (pixels as i64, vectors as i64, results.as_mut_ptr());
        // SAFETY: the CPU has the instructions, and the arrays have the length that the fields describe.
        unsafe { look_up_256((&raw const block).cast()) };
        for (at, &found) in results.iter().enumerate() {
            // Results are in the order of bytes 0, 2, 1 and 3 of the double words.
            let (p, channel) = (at / lanes, at % lanes);
            let lane = channel / 32 * 32 + Order::Quarters.lane(channel % 32, 32);
            assert_eq!(found, signs[channel] * (sum(p, lane) - constants[channel]), "{pixels}x{vectors}: {at}");
        }
        for (ending, count, order) in [
            (store::AFFINE, 0, Order::Bytes),
            (store::AFFINE, 1, Order::Bytes),
            (store::FLOATS, 0, Order::Quarters),
            (store::SMALL_CODES, 1, Order::Quarters),
        ] {
            let affine = ending == store::AFFINE;
            let mut program = EpilogueProgram {
                count,
                store: ending,
                requantize: 1.25,
                zero: 1,
                levels: 3,
                ..EpilogueProgram::default()
            };
            let function = if affine { function::ADD_SMALL_CODE } else { function::ADD_FLOAT };
            program.steps[0] = ProgramStep { function, operand: 1, x: 0.75, y: 0.0, zero: 1 };
            let multiplier = |c: usize| (0.01 + 0.001 * (c % 7) as f32) / 65536.0 * signs[c] as f32;
            let bias = |c: usize| 1.5 - 0.1 * (c % 5) as f32;
            let arranged = |values: Vec<f32>| if affine { quarters(&values, 32) } else { values };
            let multipliers = arranged((0..lanes).map(multiplier).collect());
            let biases = arranged((0..lanes).map(bias).collect());
            let starts: Vec<i32> = constants.iter().map(|&constant| -constant).collect();
            let start = words(&starts, order, 32);
            // The last five lanes have no channel, so nothing is stored for them.
            let channels = lanes - 5;
            let operand: Vec<u8> = (0..pixels * lanes).map(|i| (i * 5 % 4) as u8).collect();
            let floats: Vec<f32> = operand.iter().map(|&code| 0.3 * f32::from(code)).collect();
            let mut codes = vec![99u8; pixels * lanes];
            let mut values = vec![99f32; pixels * lanes];
            let to = if ending == store::FLOATS { values.as_mut_ptr().cast() } else { codes.as_mut_ptr() };
            let from = if affine { operand.as_ptr() } else { floats.as_ptr().cast() };
            let bytes = |float: bool| (if float { 4 * lanes } else { lanes }) as i64;
            let epilogue = EpilogueArguments {
                program: &raw const program,
                multiplier: multipliers.as_ptr(),
                bias: biases.as_ptr(),
                output: to,
                output_pixel: bytes(ending == store::FLOATS),
                output_row: 0,
                operands: [std::ptr::null(), from],
                operand_pixel: [0, bytes(!affine)],
                operand_row: [0; 2],
                channels: channels as i64,
            };
            let block =
                LookupResultsTile { lookup: block, start: start.as_ptr(), zero_points: std::ptr::null(), epilogue };
            // SAFETY: as above; the operand has whole vectors.
            unsafe { results_256((&raw const block).cast()) };
            for at in 0..pixels * lanes {
                let (p, c) = (at / lanes, at % lanes);
                let lane = c / 32 * 32 + order.lane(c % 32, 32);
                let total = (65536 * (sum(p, lane) - constants[c])) as f32;
                let t = if affine { total.mul_add(multiplier(c), bias(c)) } else { total * multiplier(c) + bias(c) };
                let code = |t: f32, zero: i32| (t.round_ties_even() as i32 + zero).clamp(0, 3) as u8;
                let (value, code) = match (ending, count) {
                    (store::FLOATS, _) => (t, 99),
                    (store::AFFINE, 0) => (99.0, code(t, 0)),
                    (store::AFFINE, _) => (99.0, code(t + (i32::from(operand[at]) - 1) as f32 * 0.75, 0)),
                    _ => (99.0, code((t + floats[at]) * 1.25, 1)),
                };
                let expected = if c < channels { (value, code) } else { (99.0, 99) };
                assert_eq!((values[at], codes[at]), expected, "{pixels}x{vectors}, {ending} {count}: {at}");
            }
        }
    }
}

/// Includes odd numbers of channels, and numbers that do not fill a vector.
#[test]
fn offsets_are_those_of_the_pairs() {
    if !std::is_x86_feature_detected!("avx2") {
        println!("no AVX2 here: the packing was not run");
        return;
    }
    for channels in [1usize, 2, 5, 63, 64, 65, 129] {
        let units = pairs::pairs(channels);
        let (pixels, pixel_bytes) = (3, channels + 2);
        let input: Vec<u8> = (0..pixels * pixel_bytes + 64).map(|i| (i * 7 / 3 % 4) as u8).collect();
        let mut offsets = vec![0; pixels * units + 64];
        let block = PackTile {
            input: input.as_ptr(),
            pixel_bytes: pixel_bytes as i64,
            pixels: pixels as i64,
            channels: channels as i64,
            units: units as i64,
            offsets: offsets.as_mut_ptr(),
            sums: std::ptr::null_mut(),
            shares: std::ptr::null(),
        };
        // SAFETY: the CPU has AVX2, and both arrays have 64 bytes past the last pixel.
        unsafe { pack_256((&raw const block).cast()) };
        for (at, &offset) in offsets[..pixels * units].iter().enumerate() {
            let (pixel, pair) = (at / units, at % units);
            let code = |channel: usize| input[pixel * pixel_bytes + channel];
            assert_eq!(offset, crate::pairs::rows::row_offset(code(pair), code(pair + units)), "{channels}: {at}");
        }
    }
}
