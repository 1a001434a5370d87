//! Runs a compiled network on raw inputs. It links the runtime alone, no compiler: the smallest program that runs models.
//!
//! ```text
//! cargo run --release -p catc-runtime --example run_model -- MODEL.bin < INPUT.f32 > OUTPUT.f32
//! ```
//!
//! Standard input holds images as the network's only input takes them, little-endian f32 values in row-major order, one image after
//! the other. The values of the first output are written to standard output in the same form, image by image.

use catc_runtime::{InputArray, Model, SessionOptions};
use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;

/// Images that are run together; the session divides them among its threads.
const BATCH: usize = 64;

fn run(path: &str) -> Result<(), Box<dyn Error>> {
    // The file is checked when it is opened.
    let model = Model::open(path)?;
    let [input] = model.inputs() else {
        return Err(format!("the network has {} inputs; this program gives it one", model.inputs().len()).into());
    };
    let elements: usize = input.dims.iter().product();
    // Machine code for this CPU is made here. 0 threads means as many as there are CPUs.
    let session = model.session(&SessionOptions { threads: 0, ..Default::default() })?;

    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    if bytes.is_empty() || !bytes.len().is_multiple_of(4 * elements) {
        return Err(format!("standard input holds {} bytes; an image is {} bytes", bytes.len(), 4 * elements).into());
    }
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let mut out = std::io::stdout().lock();
    for images in values.chunks(BATCH * elements) {
        let shape = [&[images.len() / elements], input.dims.as_slice()].concat();
        let outputs = session.run(&[InputArray::f32(&shape, images)])?;
        let values = outputs[0].as_f32().ok_or("the first output holds indices, not f32 values")?;
        values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model] = arguments.as_slice() else {
        eprintln!("usage: run_model MODEL.bin < INPUT.f32 > OUTPUT.f32");
        return ExitCode::from(2);
    };
    match run(model) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
