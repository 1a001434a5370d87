//! Measures one network: compiles it, runs it on the test inputs once, fits its corrections, compiles each of them as a network of its own,
//! and runs it on the first network's outputs. A corrected network computes exactly the same, so the network itself runs only once.

use super::context::SweepContext;
use super::journal::{Fitted, Outcome};
use super::key::Key;
use super::logits_file::Logits;
use super::plan::{Fit, Network, Variant};
use super::run::SweepError;
use crate::data::split;
use crate::driver::{CompileError, Inputs, OpenModel, StagedCompilation};
use catc_interp::metrics::in_top_k;
use catc_ir::Graph;
use catc_passes::append_cat::correction_network;
use catc_passes::cat::{CatFit, CatModel, fit};
use catc_passes::objective::{class_scores, evaluate_rows};
use catc_passes::{CalibrationData, Progress};
use catc_runtime::{InputArray, Model, SessionOptions};
use nalgebra::DMatrix;
use std::time::Instant;

/// Rows that a correction is given at a time.
const ROWS: usize = 256;

/// The key of a variant's outcome.
pub fn outcome_key(context: &SweepContext, network: &Network, variant: Variant) -> Key {
    let key = context.logits_key(network);
    match context.options.plan.fit(network, variant) {
        None => key,
        Some(fit) => key.with(format!("{fit:?}")),
    }
}

/// The top-1 and top-5 of the float network.
pub fn float_outcome(context: &SweepContext, threads: usize, progress: &dyn Progress) -> Result<Outcome, SweepError> {
    let start = Instant::now();
    let model = OpenModel::open(&context.options.model, threads, None, &[], Some(context.options.max_memory))?;
    let (scores, _) = model.scores(None)?;
    let mut rows = vec![];
    model.run_all(&context.test, progress, &mut |_, outputs| rows.extend_from_slice(outputs[scores].reals()))?;
    Ok(outcome(context, &rows, start, None, None))
}

/// Measures the variants of a network; `done` gets each as soon as it is known.
pub fn measure(
    context: &SweepContext,
    network: &Network,
    variants: &[Variant],
    threads: usize,
    progress: &dyn Progress,
    done: &dyn Fn(Variant, Outcome) -> Result<(), SweepError>,
) -> Result<(), SweepError> {
    let start = Instant::now();
    let compilation = StagedCompilation::new(&network.recipe)?;
    let division = context.division(network.seed)?;
    let inputs = Inputs {
        data: &division.calibration.ranges,
        seed: network.seed,
        max_memory: context.options.max_memory,
        progress,
    };
    let folded = context.folded(&division, &compilation, inputs)?;
    let file = Logits::file(&context.options.out.join("logits"), &context.logits_key(network));
    let logits = match Logits::read(&file)? {
        Some(logits) => logits,
        None => {
            let calibrated = context.calibrated(&division, &folded, &compilation, inputs)?;
            let quantized = compilation.quantize(&calibrated, inputs).map_err(CompileError::from)?.graph;
            let correction = division.calibration.correction.as_ref().map(|c| c as &dyn CalibrationData);
            let logits = network_logits(context, &compilation, quantized, correction, threads, progress)?;
            logits.write(&file)?;
            logits
        }
    };
    for &variant in variants {
        let start = if variants[0] == variant { start } else { Instant::now() };
        let Some(how) = context.options.plan.fit(network, variant) else {
            done(variant, outcome(context, &logits.test, start, None, None))?;
            continue;
        };
        let fitted = match (&folded.logits, &division.calibration.correction) {
            (Err(reason), _) => Err(reason.clone()),
            (_, None) => Err("there are no images to fit one to".into()),
            (Ok(v), Some(data)) => {
                let float = folded.float_logits(*v, data, progress)?;
                fit_to(&logits.fit_matrix(), &float, &how)
            }
        };
        done(
            variant,
            match fitted {
                Err(reason) => outcome(context, &logits.test, start, None, Some(format!("no correction: {reason}"))),
                Ok((model, fitted)) => {
                    let corrected = corrected(&compilation, &model, &logits, threads)?;
                    outcome(context, &corrected, start, Some(fitted), None)
                }
            },
        )?;
    }
    Ok(())
}

/// The logits of a quantized graph: on the images for the correction by the evaluator, as `append-cat` finds them, on the test
/// inputs by machine code.
fn network_logits(
    context: &SweepContext,
    compilation: &StagedCompilation,
    mut graph: Graph,
    correction: Option<&dyn CalibrationData>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Logits, SweepError> {
    let mut fit = vec![];
    if let Ok(v) = class_scores(&graph) {
        if let Some(data) = correction {
            let found = evaluate_rows(&graph, v, data, "append-cat", progress).map_err(CompileError::from)?;
            fit = found.iter().map(|&z| z as f32).collect();
        }
        // Up to the logits: a softmax after them does not change the order of the classes.
        graph.outputs[0].value = v;
    }
    let model = OpenModel::from_program(compilation.lower(graph)?, "the quantized network", threads)?;
    let (scores, classes) = model.scores(None)?;
    let mut test = Vec::with_capacity(context.labels.len() * classes);
    model.run_all(&context.test, progress, &mut |_, outputs| test.extend_from_slice(outputs[scores].reals()))?;
    Ok(Logits { classes, fit, test })
}

/// Fits a correction to some or all of these logits (`C x N`); else why there is none.
fn fit_to(lq: &DMatrix<f64>, fp: &DMatrix<f64>, how: &Fit) -> Result<(CatModel, Fitted), String> {
    let n = lq.ncols();
    let found = match how.samples {
        Some(wanted) if wanted > n => return Err(format!("there are {n} images to fit it to, not {wanted}")),
        Some(wanted) if wanted < n => {
            let chosen = split(n, wanted, how.options.seed).map_err(|e| e.to_string())?.held_out;
            fit(&lq.select_columns(&chosen), &fp.select_columns(&chosen), &how.options)
        }
        _ => fit(lq, fp, &how.options),
    };
    match found {
        CatFit::Skipped(reason) => Err(reason),
        CatFit::Model(model, report) => {
            let (alpha, clusters, dims) = (model.alpha, model.clusters(), model.dims());
            Ok((*model, Fitted { alpha, clusters, dims, samples: report.samples }))
        }
    }
}

/// The corrected test logits, by machine code.
fn corrected(
    compilation: &StagedCompilation,
    model: &CatModel,
    logits: &Logits,
    threads: usize,
) -> Result<Vec<f32>, SweepError> {
    let graph = correction_network(model).map_err(CompileError::from)?;
    let program = Model::from_program(compilation.lower(graph)?).map_err(crate::driver::ModelError::from)?;
    let options = SessionOptions { threads, ..Default::default() };
    let session = program.session(&options).map_err(crate::driver::ModelError::from)?;
    let mut all = Vec::with_capacity(logits.test.len());
    for rows in logits.test.chunks(ROWS * logits.classes) {
        let shape = [rows.len() / logits.classes, logits.classes];
        let outputs = session.run(&[InputArray::f32(&shape, rows)]).map_err(crate::driver::ModelError::from)?;
        all.extend_from_slice(outputs[0].as_f32().unwrap_or(&[]));
    }
    Ok(all)
}

fn outcome(
    context: &SweepContext,
    rows: &[f32],
    start: Instant,
    correction: Option<Fitted>,
    note: Option<String>,
) -> Outcome {
    let n = context.labels.len();
    let pairs = rows.chunks_exact((rows.len() / n.max(1)).max(1)).zip(&context.labels);
    let hits = |k: usize| pairs.clone().filter(|(row, label)| in_top_k(row, **label, k)).count();
    Outcome { top1: hits(1), top5: hits(5), n, correction, note, seconds: start.elapsed().as_secs_f64() }
}
