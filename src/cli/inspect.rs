//! `catc inspect MODEL.bin`

use super::args::InspectArgs;
use super::table::table;
use super::{Failure, human_bytes, print, print_json};
use crate::driver::limits;
use catc_jit::{StepKernels, explain};
use catc_kernels::{Considered, KernelSet, cpu_name};
use catc_program::{ConstantData, ConstantId, Format, Op, Program, Step, TensorId};
use catc_runtime::{Model, SessionOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A layer as the report shows it.
struct Row {
    name: String,
    op: &'static str,
    weights: Option<String>,
    input: Option<String>,
    output: String,
    bytes: u64,
    macs: u64,
    kernel: Option<&'static str>,
}

/// Reports what a compiled model holds.
pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let file_bytes = std::fs::metadata(&args.model)
        .map_err(|e| Failure::Failed(format!("cannot read {}: {e}", args.model.display())))?
        .len();
    let model = Model::open(&args.model)?;
    let session = model.examine(&SessionOptions {
        tier: args.cpu,
        limits: limits(args.memory.max_memory),
        ..Default::default()
    })?;
    let memory = session.memory();
    let program = model.program();
    // Views have no code, and conversions between forms are no step of the program.
    let mut work = vec![(0, None); program.steps.len()];
    for layer in session.layers().filter(|l| l.op != "convert") {
        for part in layer.parts {
            work[part.source] = (part.macs, part.kernel);
        }
    }
    let rows: Vec<Row> =
        program.steps.iter().zip(work).map(|(step, (macs, kernel))| row(program, step, macs, kernel)).collect();
    let info = &program.info;
    let mut why = BTreeMap::new();
    if args.why {
        let kernels = KernelSet::all(session.tier());
        why.extend(
            explain(program, kernels).map_err(|e| Failure::Failed(e.to_string()))?.into_iter().map(|s| (s.step, s)),
        );
    }
    if args.json {
        let layer = |(step, r): (usize, &Row)| -> Value {
            let mut layer = json!({
                "name": r.name, "op": r.op, "weights": r.weights, "input": r.input, "output": r.output,
                "bytes": r.bytes, "macs": r.macs, "kernel": r.kernel,
            });
            if let Some(kernels) = why.get(&step) {
                layer["considered"] = kernels.considered.iter().map(considered_json).collect();
            }
            layer
        };
        return print_json(&json!({
            "name": program.name,
            "catc_version": info.catc_version,
            "method": info.method,
            "wbits": info.weight_bits,
            "abits": info.activation_bits,
            "layer_bits": info.layer_bits,
            "seed": info.seed,
            "calibration": info.calibration,
            "bytes": file_bytes,
            "float_bytes": info.float_bytes,
            "tier": session.tier().to_string(),
            "code_bytes": memory.code,
            "packed_bytes": memory.constants,
            "workspace_bytes": memory.workspace,
            "tuned": session.is_tuned(),
            "tunings": program.tunings.iter().map(|t| json!({"cpu": t.cpu, "tier": t.tier, "layers": t.layers.len()})).collect::<Vec<_>>(),
            "layers": rows.iter().enumerate().map(layer).collect::<Vec<_>>(),
        }));
    }
    let mut text = format!(
        "{}: W{}A{}, method {}, seed {}\ncalibration: {}\n",
        program.name, info.weight_bits, info.activation_bits, info.method, info.seed, info.calibration
    );
    if !info.layer_bits.is_empty() {
        let _ = writeln!(text, "bits of single layers: {}", info.layer_bits.join(", "));
    }
    text.push('\n');
    let head = ["layer", "step", "weights", "input", "output", "bytes", "MMAC", "kernel"].map(String::from).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    text += &table(&lines, &[5, 6]);
    let _ = writeln!(
        text,
        "\n{} in the file, {:.1} % of {} as f32. On this CPU ({}): {} of packed weights, {} of code, {} of activations for each thread.",
        human_bytes(file_bytes),
        100.0 * file_bytes as f64 / info.float_bytes.max(1) as f64,
        human_bytes(info.float_bytes),
        session.tier(),
        human_bytes(memory.constants as u64),
        human_bytes(memory.code as u64),
        human_bytes(memory.workspace as u64),
    );
    for tuning in &program.tunings {
        let here =
            session.is_tuned() && cpu_name().as_ref() == Some(&tuning.cpu) && tuning.tier == session.tier().name();
        let (cpu, tier, layers) = (&tuning.cpu, &tuning.tier, tuning.layers.len());
        let used = if here { "used" } else { "not used here" };
        let _ = writeln!(text, "Measured on {cpu} with {tier}: kernels and tiles of {layers} layers ({used}).");
    }
    for (step, kernels) in &why {
        text += &reasons(&rows[*step], kernels);
    }
    print(&text)
}

fn considered_json(considered: &Considered) -> Value {
    match &considered.outcome {
        Ok(choice) => json!({ "kernel": considered.kernel.name(), "cycles": choice.cycles }),
        Err(reason) => json!({ "kernel": considered.kernel.name(), "refused": reason.to_string() }),
    }
}

/// The kernels that were considered for a layer: those that serve it, the cheapest first, then the others.
fn reasons(row: &Row, kernels: &StepKernels) -> String {
    let mut all: Vec<&Considered> = kernels.considered.iter().collect();
    let cycles = |considered: &Considered| considered.outcome.as_ref().map_or(f64::INFINITY, |choice| choice.cycles);
    all.sort_by(|a, b| cycles(a).total_cmp(&cycles(b)));
    let line = |considered: &&Considered| {
        let name = considered.kernel.name();
        let chosen = if row.kernel == Some(name) { "*" } else { "" };
        let outcome = match &considered.outcome {
            Ok(choice) => format!("{:.0} kilocycles", choice.cycles / 1e3),
            Err(reason) => format!("no: {reason}"),
        };
        vec![format!("  {chosen:1} {name}"), outcome]
    };
    format!("\n{}\n{}", row.name, table(&all.iter().map(line).collect::<Vec<_>>(), &[]))
}

fn line(r: &Row) -> Vec<String> {
    vec![
        r.name.clone(),
        r.op.to_string(),
        r.weights.clone().unwrap_or_default(),
        r.input.clone().unwrap_or_default(),
        r.output.clone(),
        r.bytes.to_string(),
        format!("{:.2}", r.macs as f64 / 1e6),
        r.kernel.unwrap_or_default().to_string(),
    ]
}

fn row(program: &Program, step: &Step, macs: u64, kernel: Option<&'static str>) -> Row {
    let constants = constants(&step.op);
    let describe = |id: &TensorId| {
        let tensor = program.tensor(*id);
        let dims: Vec<String> = tensor.dims.iter().map(usize::to_string).collect();
        format!("{}[{}]", format_name(&tensor.format), dims.join(","))
    };
    let weights = constants.first().map(|id| {
        let c = program.constant(*id);
        let dims: Vec<String> = c.dims.iter().map(usize::to_string).collect();
        let element = match &c.data {
            ConstantData::F32(_) => "f32".to_string(),
            ConstantData::Codes { codes, .. } => code_name(codes.signed(), codes.bits()),
        };
        format!("{element}[{}]", dims.join(","))
    });
    let bytes = constants.iter().map(|id| constant_bytes(&program.constant(*id).data)).sum();
    Row {
        name: step.name.clone(),
        op: step.op.name(),
        weights,
        input: step.inputs.first().map(describe),
        output: describe(&step.output),
        bytes,
        macs,
        kernel,
    }
}

fn code_name(signed: bool, bits: u8) -> String {
    format!("{}{bits}", if signed { 'i' } else { 'u' })
}

fn format_name(format: &Format) -> String {
    match format {
        Format::F32 => "f32".into(),
        Format::Index => "index".into(),
        Format::Codes { signed, bits, .. } => code_name(*signed, *bits),
    }
}

/// Bytes of a constant in the file.
fn constant_bytes(data: &ConstantData) -> u64 {
    match data {
        ConstantData::F32(v) => 4 * v.len() as u64,
        ConstantData::Codes { codes, scale, .. } => (codes.bytes().len() + 8 * scale.len()) as u64,
    }
}

/// The constants of a step's operation, weights first.
fn constants(op: &Op) -> Vec<ConstantId> {
    match op {
        Op::Conv { weights, multiplier, bias, .. } => vec![*weights, *multiplier, *bias],
        Op::FloatConv { weights, bias, .. } | Op::FloatLinear { weights, bias } => vec![*weights, *bias],
        Op::SquaredDistance { centroids } => vec![*centroids],
        Op::GatherRow { table } => vec![*table],
        Op::Interpolate { weights, .. } => vec![*weights],
        Op::Constant { constant } => vec![*constant],
        _ => vec![],
    }
}
