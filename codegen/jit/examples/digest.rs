//! Runs a compiled model on made-up inputs and prints a digest of its outputs for every instruction set that this CPU has. Machines of
//! different kinds must print the same digest (of models whose layers are all integer).
//!
//! ```text
//! cargo run --release -p catc-jit --example digest -- MODEL.bin [IMAGES]
//! ```

use catc_jit::{Input, Options, OutputMut, compile};
use catc_kernels::Tier;
use catc_program::{Format, Program};
use std::error::Error;
use std::process::ExitCode;

/// A sequence of numbers in `-2..2`, the same everywhere (Knuth's MMIX generator; the upper bits are used).
fn numbers() -> impl FnMut() -> f32 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    }
}

/// FNV-1a, 64 bits.
fn digest(hash: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn print(model: &str, images: usize) -> Result<(), Box<dyn Error>> {
    let program = Program::load(model)?;
    let ports = program.inputs.iter().chain(&program.outputs);
    if ports.clone().any(|port| program.tensor(port.tensor).format != Format::F32) {
        return Err("only models with inputs and outputs of floats can be compared".into());
    }
    let sizes = |ports: &[catc_program::Port]| -> Vec<usize> {
        ports.iter().map(|port| program.tensor(port.tensor).len()).collect()
    };
    for tier in Tier::available() {
        let compiled = compile(&program, &Options { tier: Some(tier) })?;
        let mut workspace = compiled.workspace(1)?;
        let mut next = numbers();
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for _ in 0..images {
            let inputs: Vec<Vec<f32>> =
                sizes(&program.inputs).iter().map(|&n| (0..n).map(|_| next()).collect()).collect();
            let mut outputs: Vec<Vec<f32>> = sizes(&program.outputs).iter().map(|&n| vec![0.0; n]).collect();
            let given: Vec<Input> = inputs.iter().map(|v| Input::F32(v)).collect();
            let mut targets: Vec<OutputMut> = outputs.iter_mut().map(|v| OutputMut::F32(v)).collect();
            compiled.run(&given, &mut targets, &mut workspace)?;
            hash = digest(hash, outputs.iter().flatten().flat_map(|v| v.to_le_bytes()));
        }
        println!("{hash:016x} {tier}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, images) = match arguments.as_slice() {
        [model] => (model, Ok(8)),
        [model, images] => (model, images.parse()),
        _ => (&String::new(), "".parse()),
    };
    let Ok(images) = images else {
        eprintln!("usage: digest MODEL.bin [IMAGES]");
        return ExitCode::from(2);
    };
    match print(model, images) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
