//! Any program that passes validation can be compiled and run, whoever wrote it: without a crash, and with the same results on every
//! instruction set.

#[path = "../../codegen/program/tests/support/mod.rs"]
mod support;

use catc_runtime::program::{Format, Program};
use catc_runtime::{InputArray, Model, Outputs, SessionOptions, Tier};
use support::{every_operation, from_choices};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Programs with more elements than this are left out, to keep the test short.
const LARGEST: usize = 1 << 16;

/// Compiles a valid program and runs two images.
fn run(program: &Program, tier: Tier) -> Result<Outputs, String> {
    let model = Model::from_program(program.clone()).unwrap();
    let options = SessionOptions { tier: Some(tier), ..Default::default() };
    let session = model.session(&options).map_err(|e| e.to_string())?;
    let arrays: Vec<(Vec<usize>, Vec<f32>)> = model
        .inputs()
        .iter()
        .map(|port| {
            let shape = [&[2], port.dims.as_slice()].concat();
            let n = shape.iter().product();
            (shape, (0..n).map(|i: usize| (i * 37 % 101) as f32 / 8.0 - 6.0).collect())
        })
        .collect();
    let inputs: Vec<_> = arrays.iter().map(|(shape, data)| InputArray::f32(shape, data)).collect();
    session.run(&inputs).map_err(|e| e.to_string())
}

fn small(program: &Program) -> bool {
    program.inputs.iter().all(|p| program.tensor(p.tensor).format == Format::F32)
        && program.tensors.iter().map(|t| t.len()).sum::<usize>() < LARGEST
}

/// Offset and length of the metadata, which is the first section.
fn metadata(file: &[u8]) -> (usize, usize) {
    let at = |i: usize| u64::from_le_bytes(file[64 + i..][..8].try_into().unwrap()) as usize;
    (at(8), at(16))
}

/// Recomputes the checksums of metadata and header.
fn seal(file: &mut [u8]) {
    let (offset, length) = metadata(file);
    let checksum = xxh3_64(&file[offset..offset + length]).to_le_bytes();
    file[64 + 24..][..8].copy_from_slice(&checksum);
    let mut hash = Xxh3::new();
    hash.update(&file[..56]);
    let sections = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    hash.update(&file[64..64 + sections * 32]);
    file[56..64].copy_from_slice(&hash.digest().to_le_bytes());
}

#[test]
fn forged_programs_do_not_crash() {
    let Some(tier) = Tier::detect() else { return println!("skipped: no code for this CPU") };
    let original = every_operation();
    let bytes = original.to_bytes().unwrap();
    let (offset, length) = metadata(&bytes);
    let mut ran = 0;
    for at in offset..offset + length {
        for change in [0x01, 0x04, 0x10] {
            let mut file = bytes.clone();
            file[at] ^= change;
            seal(&mut file);
            let Ok(program) = Program::from_bytes(&file) else { continue };
            // Names do not change what a program computes.
            let same = program.steps.iter().zip(&original.steps).all(|(a, b)| a.op == b.op && a.epilogue == b.epilogue)
                && program.tensors.iter().zip(&original.tensors).all(|(a, b)| a.format == b.format && a.dims == b.dims);
            if !same && small(&program) {
                run(&program, tier).unwrap_or_else(|e| panic!("{e}\n{program}"));
                ran += 1;
            }
        }
    }
    println!("{ran} forged programs");
    assert!(ran > 50, "{ran}");
}

#[test]
fn random_programs_give_the_same_on_every_tier() {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let tiers: Vec<Tier> = Tier::ALL.into_iter().filter(|t| t.is_available()).collect();
    let mut ran = 0;
    for _ in 0..60 {
        let choices: Vec<u32> = (0..12 + next() % 90).map(|_| next()).collect();
        let program = from_choices(&choices);
        program.validate().unwrap();
        if small(&program) {
            let results: Vec<_> =
                tiers.iter().map(|t| run(&program, *t).unwrap_or_else(|e| panic!("{e}\n{program}"))).collect();
            assert!(results.windows(2).all(|w| w[0] == w[1]), "{program}");
            ran += 1;
        }
    }
    assert!(tiers.is_empty() || ran > 30, "{ran}");
}
