//! Whole networks from ONNX files, quantized, lowered, compiled and run, against the evaluator bit for bit.

mod support;

use catc_ir::{Graph, Tensor};
use catc_onnx::{ImportOptions, import};
use catc_passes::{Method, PassContext, PassManager, RecipeOptions, Samples, recipe};
use std::path::{Path, PathBuf};

/// The network in the integer phase, calibrated on noise.
fn quantized(path: &Path, wbits: u8, abits: u8) -> Graph {
    let mut graph = import(path, &ImportOptions::default()).unwrap_or_else(|e| panic!("{e}")).graph;
    let sample = |i: usize| {
        let (v, _) = graph.inputs[0];
        let shape = graph.value_type(v).shape.at_batch(1);
        vec![Tensor::f32(&shape, support::reals(shape.iter().product(), 100 + i as u32))]
    };
    let samples = Samples((0..4).map(sample).collect());
    let options = RecipeOptions { method: Method::MinMax, wbits, abits, ..Default::default() };
    let mut cx = PassContext::with_calibration(&samples, 7);
    PassManager::new().run(&recipe(&options).unwrap(), &mut graph, &mut cx).unwrap_or_else(|e| panic!("{e}"));
    graph
}

fn check(path: &Path, batch: usize, pairs: &[(u8, u8)]) {
    for &(wbits, abits) in pairs {
        let name = format!("{} W{wbits}A{abits}", path.display());
        let graph = quantized(path, wbits, abits);
        let program = support::compare(&name, &graph, &support::inputs(&graph, batch), true);
        println!("{name}: {} bytes, {} steps", program.to_bytes().unwrap().len(), program.steps.len());
    }
}

#[test]
fn the_example_of_the_repository() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/digits_resnet.onnx");
    let bits = [2, 3, 4, 6, 8];
    let pairs: Vec<_> = bits.into_iter().flat_map(|w| bits.map(|a| (w, a))).collect();
    check(&path, 3, &pairs);
}

/// Layers left in f32 sum in another order than the evaluator's; where activations are codes, such a difference can move one.
#[test]
fn layers_left_in_float() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/digits_resnet.onnx");
    for (wbits, abits, tolerance) in [(32, 32, 1e-5), (4, 32, 1e-5), (32, 8, 0.1)] {
        let graph = quantized(&path, wbits, abits);
        let found = support::difference("digits", &graph, &support::inputs(&graph, 3));
        assert!(found <= tolerance, "W{wbits}A{abits}: {found}");
    }
}

#[test]
fn shared_networks() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("CATC_SHARED").map_or(beside, PathBuf::from);
    for name in ["cifar10_resnet20", "imagenet_mobilenetv1_025", "imagenet_squeezenet11"] {
        let path = shared.join("data/models").join(name).with_extension("onnx");
        if path.exists() {
            check(&path, 1, &[(2, 2), (4, 3), (8, 8)]);
        } else {
            println!("skipped: there is no {} (set CATC_SHARED)", path.display());
        }
    }
}
