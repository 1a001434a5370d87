//! Classifies images with a compiled network: how a program uses the runtime.
//!
//! ```text
//! cargo run --release --example classify -- MODEL.bin IMAGES.npy [PREPROCESS.toml]
//! ```
//!
//! `IMAGES.npy` holds float32 images as the network takes them, or uint8 images with the preprocessing that makes such of them. One
//! line is printed for each image: its index, the class whose output is largest, and that output.

use catc::data::{DataSet, Preprocess};
use catc_runtime::{InputArray, Model, SessionOptions};
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Images that are run together; the session spreads them over its threads.
const BATCH: usize = 64;

fn classify(model: &Path, images: &Path, preprocess: Option<&Path>) -> Result<(), Box<dyn Error>> {
    // A model is checked when it is opened. It can be shared by threads, each with a session of its own or all with one.
    let model = Model::open(model)?;
    let ([input], [output, ..]) = (model.inputs(), model.outputs()) else {
        return Err("a classifier has one input".into());
    };
    let classes: usize = output.dims.iter().product();

    let preprocess = preprocess.map(Preprocess::from_file).transpose()?;
    let images = DataSet::open(images, preprocess.as_ref(), &input.dims)?;

    // A session holds machine code for this CPU, made here, and memory for its threads; 0 threads are as many as there are CPUs.
    let session = model.session(&SessionOptions { threads: 0, ..Default::default() })?;

    let mut out = std::io::stdout().lock();
    for first in (0..images.len()).step_by(BATCH) {
        let indices: Vec<usize> = (first..images.len().min(first + BATCH)).collect();
        let pixels = images.samples(&indices)?;
        // The batch is the first dimension; any size from 1 will do.
        let shape = [&[indices.len()], input.dims.as_slice()].concat();
        let outputs = session.run(&[InputArray::f32(&shape, &pixels)])?;
        let scores = outputs[0].as_f32().ok_or("the first output holds indices, not scores")?;
        for (index, scores) in indices.iter().zip(scores.chunks_exact(classes)) {
            let best = (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
            writeln!(out, "{index}\t{best}\t{}", scores[best])?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match arguments.as_slice() {
        [model, images] => classify(model.as_ref(), images.as_ref(), None),
        [model, images, preprocess] => classify(model.as_ref(), images.as_ref(), Some(preprocess.as_ref())),
        _ => {
            eprintln!("usage: classify MODEL.bin IMAGES.npy [PREPROCESS.toml]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
