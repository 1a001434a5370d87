//! Compiles a network and evaluates it without machine code: what the code of every instruction set is compared with.
//!
//! ```text
//! cargo run --release --example evaluate -- MODEL.onnx BITS CALIB PREPROCESS.toml IMAGES FOLDER
//! ```
//!
//! Quantizes to BITS (weights and activations; 32 leaves floats) by method `minmax` with 64 calibration images, and writes into FOLDER
//! `net.bin`, the compiled model; `inputs`, the first IMAGES calibration images as the network takes them; and `outputs`, what the
//! reference evaluator makes of the compiled graph for each: raw f32. `tests/aarch64/run.sh equal` calls it.

use catc::data::Preprocess;
use catc::driver::{Calibration, CalibrationSource, CompileObserver, CompileOptions, compile};
use catc_interp::{Evaluator, Interpreter};
use catc_ir::Tensor;
use catc_passes::{CalibrationData, Method, RecipeOptions, Silent};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

const SAMPLES: usize = 64;
const SEED: u64 = 0;

fn bytes(tensors: &[Tensor]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = vec![];
    for tensor in tensors {
        let floats = tensor.as_f32().ok_or("only inputs and outputs of floats can be compared")?;
        bytes.extend(floats.iter().flat_map(|v| v.to_le_bytes()));
    }
    Ok(bytes)
}

fn evaluate(
    model: &Path,
    bits: u8,
    calib: &Path,
    preprocess: &Path,
    images: usize,
    folder: &Path,
) -> Result<(), Box<dyn Error>> {
    let preprocess = Preprocess::from_file(preprocess)?;
    let options = CompileOptions {
        model,
        shapes: &[],
        calibration: CalibrationSource {
            path: Some(calib),
            preprocess: Some(&preprocess),
            limit: Some(SAMPLES.max(images)),
            ..CalibrationSource::default()
        },
        recipe: RecipeOptions { method: Method::MinMax, wbits: bits, abits: bits, ..RecipeOptions::default() },
        objective: Default::default(),
        seed: SEED,
        max_memory: usize::MAX,
    };
    let observer =
        CompileObserver { imported: &mut |_| {}, begin: &mut |_| {}, after_pass: &mut |_, _| {}, progress: &Silent };
    let compiled = compile(&options, observer)?;
    fs::write(folder.join("net.bin"), compiled.program.to_bytes()?)?;
    let data = Calibration::open(&options.calibration, &compiled.graph, &[], false, SEED)?.ranges;
    let evaluator = Interpreter::new(&compiled.graph)?;
    let (mut inputs, mut outputs) = (vec![], vec![]);
    for image in 0..images.min(data.len()) {
        let sample = data.sample(image).map_err(|e| e.to_string())?;
        inputs.extend(bytes(&sample)?);
        outputs.extend(bytes(&evaluator.run(&sample)?)?);
    }
    fs::write(folder.join("inputs"), inputs)?;
    fs::write(folder.join("outputs"), outputs)?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [model, bits, calib, preprocess, images, folder] => {
            bits.parse().ok().zip(images.parse().ok()).map(|numbers| (model, numbers, calib, preprocess, folder))
        }
        _ => None,
    };
    let Some((model, (bits, images), calib, preprocess, folder)) = parsed else {
        eprintln!("usage: evaluate MODEL.onnx BITS CALIB PREPROCESS.toml IMAGES FOLDER");
        return ExitCode::from(2);
    };
    match evaluate(model.as_ref(), bits, calib.as_ref(), preprocess.as_ref(), images, folder.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
