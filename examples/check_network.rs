//! Checks one network end to end: `check_network MODEL.onnx INPUT.f32 EXPECTED.f32`, the inputs (all of them, one image each)
//! and the first output as raw little-endian f32. Prints one JSON object: the distance of the float network from what is
//! expected, and for W8A8 and W4A4 whether it compiles, whether machine code equals the evaluator, and what stays in float.
//! `tests/networks/run.py` calls it for the networks of `docs/networks.md`.

use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Op, Tensor};
use catc_onnx::{ImportOptions, import};
use catc_passes::{Method, PassContext, PassManager, RecipeOptions, Samples, recipe};
use catc_program::BuildInfo;
use catc_runtime::{InputArray, Model, SessionOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

fn reals(path: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// The inputs of a graph for one image, cut from one list of reals.
fn inputs(graph: &Graph, mut items: &[f32]) -> Result<Vec<Tensor>, Box<dyn Error>> {
    let mut tensors = vec![];
    for (v, name) in &graph.inputs {
        let shape = graph.value_type(*v).shape.at_batch(1);
        let n: usize = shape.iter().product();
        let (own, rest) = items.split_at_checked(n).ok_or_else(|| format!("input {name} needs {n} reals"))?;
        tensors.push(Tensor::f32(&shape, own.to_vec()));
        items = rest;
    }
    if items.is_empty() { Ok(tensors) } else { Err(format!("{} reals too many", items.len()).into()) }
}

/// The largest difference over the largest magnitude.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    let top = expected.iter().fold(0f32, |m, x| m.max(x.abs())).max(f32::MIN_POSITIVE);
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    // A NaN is the largest difference there is.
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    worst.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / top
}

fn operators(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    graph.nodes().iter().for_each(|n| *counts.entry(n.op.name()).or_default() += 1);
    counts
}

/// Quantizes with ranges from the least to the largest value of the one image, compiles, runs.
fn quantized(graph: &Graph, bits: u8, image: &[Tensor], float: &[f32]) -> Value {
    let begin = Instant::now();
    let failed = |stage: &str, e: String| json!({ "failed": stage, "error": e });
    let options = RecipeOptions {
        method: Method::MinMax,
        wbits: bits,
        abits: bits,
        real_inputs: false,
        ..RecipeOptions::default()
    };
    let passes = match recipe(&options) {
        Ok(passes) => passes,
        Err(e) => return failed("recipe", e.to_string()),
    };
    let mut graph = graph.clone();
    let data = Samples(vec![image.to_vec()]);
    let mut cx = PassContext::with_calibration(&data, 0);
    if let Err(e) = PassManager::new().run(&passes, &mut graph, &mut cx) {
        return failed("passes", e.to_string());
    }
    let program = match catc_codegen::lower(&graph, BuildInfo::default()) {
        Ok(program) => program,
        Err(e) => return failed("lowering", e.to_string()),
    };
    let steps = program.steps.len();
    let session = Model::from_program(program).map_err(|e| e.to_string());
    let session = session.and_then(|m| m.session(&SessionOptions::default()).map_err(|e| e.to_string()));
    let session = match session {
        Ok(session) => session,
        Err(e) => return failed("machine code", e),
    };
    let compile_seconds = begin.elapsed().as_secs_f64();
    let arrays: Vec<InputArray> = image.iter().filter_map(|t| Some(InputArray::f32(t.shape(), t.as_f32()?))).collect();
    let begin = Instant::now();
    let found = match session.run(&arrays) {
        Ok(found) => found,
        Err(e) => return failed("run", e.to_string()),
    };
    let run_seconds = begin.elapsed().as_secs_f64();
    let reference = match Interpreter::new(&graph).and_then(|i| i.run(image)) {
        Ok(reference) => reference,
        Err(e) => return failed("evaluator", e.to_string()),
    };
    let bits_of = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (mut equal, mut apart) = (true, 0f32);
    for (a, b) in found.iter().zip(&reference) {
        match (a.as_f32(), b.as_f32()) {
            (Some(a), Some(b)) => {
                equal &= bits_of(a) == bits_of(b);
                apart = apart.max(distance(a, b));
            }
            _ => equal = false,
        }
    }
    // Only convolutions left in float may be summed in another order.
    let float_convolutions = graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d(_))).count();
    let notes: Vec<&str> = cx.notes.iter().map(|n| n.text.as_str()).collect();
    let first = found.first().and_then(|a| a.as_f32()).unwrap_or_default();
    json!({
        "steps": steps,
        "equal": equal,
        "apart": apart,
        "float_convolutions": float_convolutions,
        "from_float": distance(first, float),
        "operators": operators(&graph),
        "notes": notes,
        "compile_seconds": compile_seconds,
        "run_seconds": run_seconds,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, expected] = args.as_slice() else {
        return Err("usage: check_network MODEL.onnx INPUT.f32 EXPECTED.f32".into());
    };
    let begin = Instant::now();
    let imported = import(model.as_ref(), &ImportOptions::default())?;
    let import_seconds = begin.elapsed().as_secs_f64();
    let graph = imported.graph;
    let image = inputs(&graph, &reals(input)?)?;
    let expected = reals(expected)?;
    let outputs = Interpreter::new(&graph)?.run(&image)?;
    let float = outputs.first().and_then(|t| t.as_f32()).ok_or("the first output is not f32")?.to_vec();
    let report = json!({
        "opset": imported.opset,
        "producer": imported.producer,
        "import_seconds": import_seconds,
        "nodes": graph.nodes().len(),
        "operators": operators(&graph),
        "warnings": imported.warnings,
        "float_error": distance(&float, &expected),
        "W8A8": quantized(&graph, 8, &image, &float),
        "W4A4": quantized(&graph, 4, &image, &float),
    });
    println!("{report}");
    Ok(())
}
