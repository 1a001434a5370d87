//! Checks one network end to end: `check_network MODEL.onnx INPUT.f32 EXPECTED.f32`, the inputs (all of them, one image each)
//! and the first output as raw little-endian f32. Prints one JSON object: the distance of the float network from what is
//! expected, and for W8A8 and W4A4 whether it compiles, whether machine code equals the evaluator, and what stays in float.
//! `tests/networks/run.py` calls it for the networks of `docs/networks.md`.

#[path = "../tests/networks/check.rs"]
mod check;

use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Op, Tensor};
use catc_onnx::{ImportOptions, import};
use check::distance;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;

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

fn operators(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    graph.nodes().iter().for_each(|n| *counts.entry(n.op.name()).or_default() += 1);
    counts
}

fn quantized(graph: &Graph, bits: u8, image: &[Tensor], float: &[f32]) -> Value {
    let failed = |(stage, e): check::Failure| json!({ "failed": stage, "error": e });
    let compiled = match check::compile(graph, bits, &[image.to_vec()]) {
        Ok(compiled) => compiled,
        Err(e) => return failed(e),
    };
    let compared = match compiled.compare(image) {
        Ok(compared) => compared,
        Err(e) => return failed(e),
    };
    // Only convolutions left in float may be summed in another order.
    let float_convolutions = compiled.graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d(_))).count();
    json!({
        "equal": compared.equal,
        "apart": compared.apart,
        "float_convolutions": float_convolutions,
        "float_layers": compiled.float_layers(),
        "from_float": distance(&compared.found, float),
        "operators": operators(&compiled.graph),
        "notes": compiled.notes,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, expected] = args.as_slice() else {
        return Err("usage: check_network MODEL.onnx INPUT.f32 EXPECTED.f32".into());
    };
    let imported = import(model.as_ref(), &ImportOptions::default())?;
    let graph = imported.graph;
    let image = inputs(&graph, &reals(input)?)?;
    let expected = reals(expected)?;
    let outputs = Interpreter::new(&graph)?.run(&image)?;
    let float = outputs.first().and_then(|t| t.as_f32()).ok_or("the first output is not f32")?.to_vec();
    let report = json!({
        "opset": imported.opset,
        "producer": imported.producer,
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
