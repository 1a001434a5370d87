//! Runs a compiled model in memory with the code of every instruction set that this CPU has: for comparing machines of different kinds.
//!
//! ```text
//! cargo run --release -p catc-jit --example outputs -- MODEL.bin INPUTS PREFIX
//! ```
//!
//! INPUTS holds the inputs of some images as raw f32, one image after the other. The outputs of each instruction set go to a file of its
//! own, PREFIX and the name of the set, whose name is printed.

use catc_jit::{Input, Options, OutputMut, compile};
use catc_kernels::Tier;
use catc_program::{Format, Port, Program};
use std::error::Error;
use std::fs;
use std::process::ExitCode;

fn write_outputs(model: &str, inputs: &str, prefix: &str) -> Result<(), Box<dyn Error>> {
    let program = Program::load(model)?;
    let mut ports = program.inputs.iter().chain(&program.outputs);
    if ports.any(|port| program.tensor(port.tensor).format != Format::F32) {
        return Err("only models with inputs and outputs of floats can be compared".into());
    }
    let sizes = |ports: &[Port]| -> Vec<usize> { ports.iter().map(|p| program.tensor(p.tensor).len()).collect() };
    let (input_sizes, output_sizes) = (sizes(&program.inputs), sizes(&program.outputs));
    let values: Vec<f32> = fs::read(inputs)?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    for tier in Tier::available() {
        let compiled = compile(&program, &Options { tier: Some(tier), ..Default::default() })?;
        let mut workspace = compiled.workspace(1)?;
        let mut bytes = vec![];
        for image in values.chunks_exact(input_sizes.iter().sum()) {
            let mut rest = image;
            let mut take = |&size: &usize| {
                let (own, others) = rest.split_at(size);
                rest = others;
                Input::F32(own)
            };
            let given: Vec<Input> = input_sizes.iter().map(&mut take).collect();
            let mut outputs: Vec<Vec<f32>> = output_sizes.iter().map(|&n| vec![0.0; n]).collect();
            let mut targets: Vec<OutputMut> = outputs.iter_mut().map(|v| OutputMut::F32(v)).collect();
            compiled.run(&given, &mut targets, &mut workspace)?;
            bytes.extend(outputs.iter().flatten().flat_map(|v| v.to_le_bytes()));
        }
        let path = format!("{prefix}{tier}");
        fs::write(&path, bytes)?;
        println!("{path}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, prefix] = arguments.as_slice() else {
        eprintln!("usage: outputs MODEL.bin INPUTS PREFIX");
        return ExitCode::from(2);
    };
    match write_outputs(model, inputs, prefix) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
