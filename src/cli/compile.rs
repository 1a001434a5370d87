//! `catc MODEL.onnx -o OUT.bin`

use super::args::{CompileArgs, EmitKind};
use super::bench::peak_resident_bytes;
use super::emit::EmitPlan;
use super::files::Files;
use super::progress::Bars;
use super::{
    Failure, NO_CALIBRATION_DATA, human_bytes, note_renamed, on_threads, overrides, preprocess, print, print_json,
};
use crate::data::write_atomically;
use crate::driver::{Calibration, CalibrationSource, CompileObserver, CompileOptions, Compiled, compile, is_compiled};
use catc_ir::{Graph, Phase};
use catc_jit::Tuned;
use catc_passes::Progress;
use catc_passes::{Changed, Effort, LossPoint, Method, PassReport, RecipeOptions, UnknownName};
use catc_program::Program;
use catc_runtime::tier_of_environment;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Compiles a network and writes it.
pub fn run(args: &CompileArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let Some(model) = &args.model else {
        return Err(Failure::Usage("a model is needed: catc MODEL.onnx -o OUT.bin".into()));
    };
    let plan = EmitPlan::of(args, model)?;
    files(args, model).check()?;
    if is_compiled(model).unwrap_or(false) {
        return if args.tune { tune_compiled(args, model) } else { emit_compiled(args, model, &plan) };
    }
    if args.output.is_none() && args.emit.is_empty() {
        return Err(Failure::Usage("give -o OUT.bin, the file of the compiled model".into()));
    }
    let method: Method = args.method.parse().map_err(|e: UnknownName| Failure::Usage(e.to_string()))?;
    if let Some(pass) = &args.print_after {
        super::opt::check_print_after(pass)?;
    }
    let preprocess = preprocess(args.calibration.preprocess.as_deref())?;
    let options = CompileOptions {
        model,
        shapes: &args.shape,
        calibration: CalibrationSource {
            path: args.calibration.calib.as_deref(),
            preprocess: preprocess.as_ref(),
            limit: args.calibration.samples.map(|n| n as usize),
            correction: args.correction.cat_data.as_deref(),
            holdout: args.correction.holdout(),
        },
        recipe: recipe_options(args, method)?,
        objective: args.objective,
        seed: args.seed,
        max_memory: args.learning.max_memory,
    };
    let set = options.recipe.overrides.iter().filter_map(|o| o.renamed());
    note_renamed(Method::renamed(&args.method).into_iter().chain(set).chain(args.correction.renamed()));
    // Built before data is read, so that options which do not fit are a usage error.
    catc_passes::recipe(&options.recipe).map_err(|e| Failure::Usage(e.to_string()))?;
    let (mut quantized, mut whole) = (None, Vec::new());
    let bars = Bars::new();
    let compiled = on_threads(args.threads, || {
        let mut begin = |calibration: Option<&Calibration>| announce(args, model, method, calibration);
        let mut after = |report: &PassReport, graph: &Graph| {
            if graph.phase == Phase::Qdq && plan.wants(EmitKind::QdqOnnx) {
                quantized = Some(graph.clone());
            }
            super::opt::print_after(args.print_after.as_deref(), report, graph)
        };
        let mut imported = |imported: &catc_onnx::Imported| {
            imported.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
            whole.clone_from(&imported.whole);
        };
        compile(
            &options,
            CompileObserver { imported: &mut imported, begin: &mut begin, after_pass: &mut after, progress: &bars },
        )
    })?;
    bars.clear();
    let mut compiled = compiled?;
    if args.tune {
        tune(&mut compiled.program)?;
    }
    for note in &compiled.notes {
        eprintln!("note: {}: {}", note.pass, note.text);
    }
    if let Some(path) = &args.loss_curve {
        let text = loss_curve(&compiled.losses);
        write_atomically(path, |file| std::io::Write::write_all(file, text.as_bytes()))?;
    }
    let bytes = compiled.program.to_bytes()?;
    if let Some(output) = &args.output {
        write_atomically(output, |file| std::io::Write::write_all(file, &bytes))?;
    }
    let quantized = quantized.as_ref().map(|graph| (graph, whole.as_slice()));
    let emitted = plan.write(&compiled.program, Some(&compiled.graph), quantized)?;
    report(args, emitted, &compiled, bytes.len() as u64, start)
}

/// The files that are read and written.
fn files(args: &CompileArgs, model: &Path) -> Files {
    let files = Files::new()
        .read("the model", model)
        .read("--calib", args.calibration.calib.as_deref())
        .read("--preprocess", args.calibration.preprocess.as_deref())
        .read("--cat-data", args.correction.cat_data.as_deref())
        .write("-o", args.output.as_deref())
        .write("--loss-curve", args.loss_curve.as_deref());
    args.emit.iter().fold(files, |files, e| files.write(format!("--emit {}", e.kind.name()), e.path.as_path()))
}

/// Measures kernels and tiles, and keeps the fastest in the program. An earlier tuning for this CPU is replaced.
fn tune(program: &mut Program) -> Result<Value, Failure> {
    let tier = tier_of_environment()?;
    let bars = Bars::new();
    let tuned = catc_jit::tune(program, tier, &mut |done, rounds| match done {
        0 => bars.start("tuning", rounds as u64),
        _ => bars.advance(1),
    });
    bars.clear();
    let Tuned { tuning, before, after } = tuned?;
    let milliseconds = |seconds: f64| 1e3 * seconds;
    let report = json!({
        "cpu": tuning.cpu, "tier": tuning.tier, "layers": tuning.layers.len(),
        "before_ms": milliseconds(before), "after_ms": milliseconds(after),
    });
    eprintln!(
        "tuning: {} with {}: {} layers take another kernel or tile, {:.3} ms instead of {:.3}",
        tuning.cpu,
        tuning.tier,
        tuning.layers.len(),
        milliseconds(after),
        milliseconds(before)
    );
    program.tunings.retain(|t| (&t.cpu, &t.tier) != (&tuning.cpu, &tuning.tier));
    if !tuning.layers.is_empty() {
        program.tunings.push(tuning);
    }
    Ok(report)
}

/// Tunes a compiled model.
fn tune_compiled(args: &CompileArgs, model: &Path) -> Result<(), Failure> {
    if !args.emit.is_empty() || args.calibration.calib.is_some() || !args.shape.is_empty() {
        let place = model.display();
        return Err(Failure::Usage(format!("{place} is a compiled model: --tune takes -o alone beside it")));
    }
    let mut program = Program::load(model)?;
    let report = tune(&mut program)?;
    program.save(args.output.as_deref().unwrap_or(model))?;
    if args.json { print_json(&json!({"tuning": report})) } else { Ok(()) }
}

/// Emits code for a compiled model.
fn emit_compiled(args: &CompileArgs, model: &Path, plan: &EmitPlan<'_>) -> Result<(), Failure> {
    let place = model.display();
    if args.emit.is_empty() || args.output.is_some() {
        return Err(Failure::Usage(format!("{place} is a compiled model: give an .onnx file, or --emit without -o")));
    }
    if plan.wants_graph() {
        return Err(Failure::Usage(format!(
            "{place} is a compiled model and holds no graph: no --emit ir or qdq-onnx"
        )));
    }
    if args.calibration.calib.is_some() {
        return Err(Failure::Usage(format!("{place} is a compiled model: --calib has no effect on it")));
    }
    if !args.shape.is_empty() {
        return Err(Failure::Usage(format!("{place} is a compiled model: --shape has no effect on it")));
    }
    let (text, emitted) = plan.write(&Program::load(model)?, None, None)?;
    if args.json { print_json(&json!({"emitted": emitted})) } else { print(&text) }
}

/// The losses as a table.
fn loss_curve(losses: &[LossPoint]) -> String {
    let row = |p: &LossPoint| {
        let [own, prediction, rounding] = p.losses;
        format!("{},{},{},{own:.6e},{prediction:.6e},{rounding:.6e}\n", p.pass, p.unit, p.step)
    };
    let rows: String = losses.iter().map(row).collect();
    format!("pass,unit,step,reconstruction,prediction,rounding\n{rows}")
}

fn recipe_options(args: &CompileArgs, method: Method) -> Result<RecipeOptions, Failure> {
    let least = args.layer_bits.iter().map(|l| l.wbits.min(l.abits)).fold(args.wbits.min(args.abits), u8::min);
    let learns = method.at_bits(least).learns();
    if args.learning.iters.is_some() && !learns {
        return Err(Failure::Usage(format!("--iters: method `{method}` does not learn in iterations")));
    }
    let effort: Effort = args.learning.effort.parse().map_err(|e: UnknownName| Failure::Usage(e.to_string()))?;
    if effort != Effort::Default && !learns && method != Method::ChannelCorrection {
        return Err(Failure::Usage(format!("--effort: method `{method}` learns nothing")));
    }
    Ok(RecipeOptions {
        method,
        wbits: args.wbits,
        abits: args.abits,
        first_last_bits: args.first_last_bits,
        layers: args.layer_bits.iter().chain(&args.keep_float).cloned().collect(),
        real_inputs: args.calibration.calib.is_some(),
        cat: !args.no_cat,
        cat_alpha: args.cat_alpha,
        cat_clusters: args.cat_clusters.map(|k| k as usize),
        cat_pca: args.cat_pca.map(|p| p as usize),
        effort,
        iters: args.learning.iters.map(|n| n as usize),
        overrides: overrides(&args.learning.set, args.learning.augment.as_deref())?,
    })
}

/// Tells the user what is compiled and how, before the passes run.
fn announce(args: &CompileArgs, model: &Path, method: Method, calibration: Option<&Calibration>) {
    let Some(calibration) = calibration else {
        return eprintln!(
            "catc: {}: quantized already: it is compiled with the scales of the file; options for bits, method, calibration data and \
             correction have no effect",
            model.display()
        );
    };
    for note in &calibration.notes {
        eprintln!("note: {note}");
    }
    let width = |bits: u8| if bits == 32 { "float".into() } else { format!("{bits}-bit") };
    eprintln!(
        "catc: {}: {} weights, {} activations ({} in the first and last layer), method {method}, seed {}",
        model.display(),
        width(args.wbits),
        width(args.abits),
        width(args.first_last_bits),
        args.seed
    );
    eprintln!("catc: calibration: {}", calibration.description);
    if calibration.synthetic {
        eprintln!("{NO_CALIBRATION_DATA}");
    }
}

fn report(
    args: &CompileArgs,
    (emitted_text, emitted): (String, Value),
    compiled: &Compiled,
    bytes: u64,
    start: Instant,
) -> Result<(), Failure> {
    let info = &compiled.program.info;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let pass = |r: &PassReport| {
            let reason = match &r.changed {
                Changed::Yes => None,
                Changed::No(reason) => Some(reason.to_string()),
            };
            json!({"pass": r.pass, "changed": r.changed.is_yes(), "reason": reason, "seconds": r.time.as_secs_f64()})
        };
        let notes: Vec<_> = compiled.notes.iter().map(|n| json!({"pass": n.pass, "text": n.text})).collect();
        return print_json(&json!({
            "output": args.output,
            "emitted": emitted,
            "bytes": bytes,
            "float_bytes": info.float_bytes,
            "wbits": info.weight_bits,
            "abits": info.activation_bits,
            "layer_bits": info.layer_bits,
            "method": info.method,
            "calibration": info.calibration,
            "seed": args.seed,
            "passes": compiled.reports.iter().map(pass).collect::<Vec<_>>(),
            "notes": notes,
            "seconds": seconds,
            "peak_bytes": peak_resident_bytes(),
        }));
    }
    let place = args.output.as_ref().map_or_else(|| "no model file".into(), |output| output.display().to_string());
    print(&format!(
        "{place}: {} ({:.1} % of {} as f32), {seconds:.1} s{}\n{emitted_text}",
        human_bytes(bytes),
        100.0 * bytes as f64 / info.float_bytes.max(1) as f64,
        human_bytes(info.float_bytes),
        peak_resident_bytes().map_or(String::new(), |n| format!(", {} of memory at most", human_bytes(n))),
    ))
}
