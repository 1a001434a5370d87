//! The choice of kernels and tiles by measurement.
//!
//! All candidates for a layer ([`catc_kernels::candidates`]) give the same results, so only time matters. Each round compiles the program with
//! another candidate for every layer and times all layers at once, so that a round takes only as long as compiling and a few runs.

use crate::assign::overrides::{KernelOverride, overrides};
use crate::assign::{Choices, kernels_of};
use crate::builder::Work;
use crate::compiled::{CompiledProgram, Input, OutputMut, available, compile_with};
use crate::error::JitError;
use crate::limits::Limits;

use catc_kernels::{Execution, KernelRef, KernelSet, Tier, TileOverride, cpu_name};
use catc_program::{Format, Program, TunedLayer, Tuning};
use std::time::Instant;

/// Tiles of a kernel that are measured: the cheapest ones by estimated cycles.
const RANKS: usize = 8;

/// Runs per round. For each layer, the fastest run counts.
const RUNS: usize = 12;

/// The fraction of a layer's time that another choice must save to replace the default choice.
const MIN_GAIN: f64 = 0.02;

/// The result of tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The layers for which another choice is faster than the default. Empty if the program as a whole is not faster with them.
    pub tuning: Tuning,
    /// Seconds of a run with the default choices, as the sum of the shortest times of the layers.
    pub before: f64,
    /// Seconds of a run with the tuning, computed likewise.
    pub after: f64,
}

/// Measures the candidates for kernels and tiles of a program's layers, on one thread of this CPU. `progress` gets the number of completed
/// rounds and of all rounds.
///
/// # Errors
/// If the CPU's name is not known, or as [`crate::compile`].
pub fn tune(program: &Program, tier: Option<Tier>, progress: &mut dyn FnMut(usize, usize)) -> Result<Tuned, JitError> {
    let tier = available(tier)?;
    let cpu = cpu_name().ok_or_else(|| JitError::Run("the name of this CPU is not known: no tuning".into()))?;
    let kernels = KernelSet::all(tier);
    let mut choices: Vec<Vec<KernelOverride>> = Vec::with_capacity(program.steps.len());
    program.validate()?;
    let mut considered = Choices::new(program, kernels, u64::MAX);
    for step in &program.steps {
        let of = |kernel: KernelRef| {
            let ranks = if matches!(kernel.execution(), Execution::SumTiles(_)) { RANKS } else { 1 };
            (0..ranks).map(move |rank| KernelOverride { kernel: Some(kernel), tile: TileOverride::Rank(rank) })
        };
        choices.push(kernels_of(&mut considered, step)?.into_iter().flat_map(of).collect());
    }
    drop(considered);
    let rounds = choices.iter().map(Vec::len).max().unwrap_or(0);
    let rules = compile_with(program, kernels, &Limits::default(), &[])?;
    let times = measure(&rules, program)?;
    let before: f64 = times.iter().sum();
    let mut best: Vec<(f64, Option<TunedLayer>)> = times.iter().map(|&time| ((1.0 - MIN_GAIN) * time, None)).collect();
    let known = layers(&rules, program);
    for round in 0..rounds {
        progress(round, rounds);
        let asked: Vec<KernelOverride> =
            choices.iter().map(|all| all.get(round).copied().unwrap_or_default()).collect();
        let compiled = compile_with(program, kernels, &Limits::default(), &asked)?;
        let times = measure(&compiled, program)?;
        for (step, layer) in layers(&compiled, program).into_iter().enumerate() {
            if layer.is_some() && layer != known[step] && times[step] < best[step].0 {
                best[step] = (times[step], layer);
            }
        }
    }
    let mut tuning = Tuning { cpu, tier: tier.name().into(), layers: best.into_iter().filter_map(|b| b.1).collect() };
    let compiled = compile_with(program, kernels, &Limits::default(), &overrides(program, Some(&tuning), kernels))?;
    let after = measure(&compiled, program)?.iter().sum();
    progress(rounds, rounds);
    if after >= before {
        tuning.layers.clear();
        return Ok(Tuned { tuning, before, after: before });
    }
    Ok(Tuned { tuning, before, after })
}

/// The kernel and tile of each step of a program, if it has a kernel and a function of its own.
fn layers(compiled: &CompiledProgram, program: &Program) -> Vec<Option<TunedLayer>> {
    let mut layers = vec![None; program.steps.len()];
    for step in compiled.steps() {
        let &[Work { source, kernel: Some(kernel), tile, .. }] = step.work else { continue };
        let (pixels, vectors) = tile.unwrap_or((0, 0));
        layers[source] = Some(TunedLayer {
            step: source as u32,
            kernel: kernel.name().into(),
            pixels: pixels as u32,
            vectors: vectors as u32,
        });
    }
    layers
}

/// Seconds of each step of a program on one thread, including its conversions. Each function counts with its fastest run. The last element
/// is the time of functions that execute several steps.
fn measure(compiled: &CompiledProgram, program: &Program) -> Result<Vec<f64>, JitError> {
    let index = |port: &catc_program::Port| program.tensor(port.tensor).format == Format::Index;
    let size = |port: &catc_program::Port| program.tensor(port.tensor).len();
    let floats: Vec<Vec<f32>> =
        program.inputs.iter().map(|p| (0..size(p)).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()).collect();
    let indices: Vec<Vec<i32>> = program.inputs.iter().map(|p| vec![0; size(p)]).collect();
    let inputs: Vec<Input> = program
        .inputs
        .iter()
        .zip(floats.iter().zip(&indices))
        .map(|(port, (floats, indices))| if index(port) { Input::Index(indices) } else { Input::F32(floats) })
        .collect();
    let mut float_outputs: Vec<Vec<f32>> = program.outputs.iter().map(|p| vec![0.0; size(p)]).collect();
    let mut index_outputs: Vec<Vec<i32>> = program.outputs.iter().map(|p| vec![0; size(p)]).collect();
    let mut outputs: Vec<OutputMut> = program
        .outputs
        .iter()
        .zip(float_outputs.iter_mut().zip(&mut index_outputs))
        .map(|(port, (floats, indices))| if index(port) { OutputMut::Index(indices) } else { OutputMut::F32(floats) })
        .collect();
    let sources: Vec<usize> =
        compiled.steps().map(|s| if let [work] = s.work { work.source } else { program.steps.len() }).collect();
    let mut workspace = compiled.workspace(1)?;
    let mut times = vec![f64::INFINITY; sources.len()];
    for _ in 0..RUNS {
        compiled.run_observed(&inputs, &mut outputs, &mut workspace, None, |step, call| {
            let start = Instant::now();
            call();
            times[step] = times[step].min(start.elapsed().as_secs_f64());
        })?;
    }
    let mut sums = vec![0.0; program.steps.len() + 1];
    for (&source, time) in sources.iter().zip(times) {
        sums[source] += time;
    }
    Ok(sums)
}
