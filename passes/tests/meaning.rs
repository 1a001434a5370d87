//! Passes keep the meaning of a graph, to the tolerance that each promises: random networks, and the texts of the
//! snapshots.

mod networks;

use catc_interp::{Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Graph, Op, Tensor, TensorData, ValueId, verify};
use catc_passes::{
    CalibrationData, Method, PassContext, PassManager, RecipeOptions, Samples, float_reference, parse_passes, recipe,
};
use networks::{normal_samples, random_network};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

fn run(passes: &str, graph: &Graph, samples: &Samples) -> Graph {
    let mut graph = graph.clone();
    let mut cx = PassContext::with_calibration(samples, 1);
    PassManager::new()
        .run(&parse_passes(passes).unwrap(), &mut graph, &mut cx)
        .unwrap_or_else(|e| panic!("{passes}: {e}"));
    graph
}

fn outputs(graph: &Graph, samples: &Samples) -> Vec<Vec<Tensor>> {
    let interpreter = Interpreter::new(graph).unwrap();
    samples.0.iter().map(|s| interpreter.run(s).unwrap()).collect()
}

/// The largest difference of two f32 tensors over the largest magnitude.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { return if a == b { 0.0 } else { f32::INFINITY } };
    let largest = a.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn folds_keep_outputs_to_1e_5() {
    for seed in 0..40 {
        let graph = random_network(seed);
        let samples = normal_samples(&graph, 2, seed);
        let expected = outputs(&graph, &samples);
        for passes in [
            "fold-constants",
            "canonicalize",
            "fold-batch-norm",
            "fold-constants,canonicalize,fold-batch-norm,canonicalize,dead-code",
        ] {
            let found = outputs(&run(passes, &graph, &samples), &samples);
            for (e, f) in expected.iter().flatten().zip(found.iter().flatten()) {
                assert!(difference(e, f) < 1e-5, "{passes} on network {seed}: {}", difference(e, f));
            }
        }
    }
}

#[test]
fn texts_of_the_snapshots_keep_their_outputs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (pass, tolerance) in [
        ("fold-constants", 1e-6),
        ("canonicalize", 1e-5),
        ("fold-batch-norm", 1e-5),
        ("dead-code", 0.0),
        ("equalize-channels", 1e-5),
    ] {
        for entry in fs::read_dir(root.join(pass)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "catir") {
                continue;
            }
            let graph = parse(&fs::read_to_string(&path).unwrap(), &NoBlobs).unwrap();
            let samples = normal_samples(&graph, 3, 5);
            let (before, after) = (outputs(&graph, &samples), outputs(&run(pass, &graph, &samples), &samples));
            for (e, f) in before.iter().flatten().zip(after.iter().flatten()) {
                assert!(difference(e, f) <= tolerance, "{}: {}", path.display(), difference(e, f));
            }
        }
    }
}

const FLOAT: &str = "fold-constants,canonicalize,fold-batch-norm,canonicalize,dead-code,calibrate{method=minmax}";

#[test]
fn the_reference_of_a_quantized_graph_is_the_float_graph() {
    for seed in 0..20 {
        let graph = random_network(seed);
        let samples = normal_samples(&graph, 4, seed);
        let float = run(FLOAT, &graph, &samples);
        let quantized = run(&format!("{FLOAT},insert-qdq{{wbits=3, abits=3}}"), &graph, &samples);
        let reference = float_reference(&quantized);
        verify(&reference).unwrap();
        assert_eq!(reference.nodes(), float.nodes());
        assert_eq!(outputs(&reference, &samples), outputs(&float, &samples));
    }
}

#[test]
fn eight_bits_are_close_to_float() {
    for seed in 0..20 {
        let graph = random_network(seed);
        let samples = normal_samples(&graph, 8, seed);
        let quantized = run(&format!("{FLOAT},insert-qdq{{wbits=8, abits=8}}"), &graph, &samples);
        let (expected, found) = (outputs(&graph, &samples), outputs(&quantized, &samples));
        for (e, f) in expected.iter().flatten().zip(found.iter().flatten()) {
            assert!(difference(e, f) < 0.15, "network {seed}: {}", difference(e, f));
        }
    }
}

/// Codes that differ and codes in all, of one layer.
#[derive(Default)]
struct Codes {
    different: usize,
    all: usize,
}

/// Runs each node of `after` on what `before` computes for its inputs, and compares what it gives with what `before`
/// computes for the same value, if that is known there under the same type.
fn compare_nodes(before: &Graph, after: &Graph, samples: &Samples, context: &str) {
    let (old, new) = (Interpreter::new(before).unwrap(), Interpreter::new(after).unwrap());
    let mut codes: HashMap<ValueId, Codes> = HashMap::new();
    let mut compared = 0;
    for sample in &samples.0 {
        let mut values: HashMap<ValueId, Tensor> = HashMap::new();
        old.run_observed(sample, &mut |v, t| drop(values.insert(v, t.clone()))).unwrap();
        for node in after.nodes() {
            let inputs: Vec<(ValueId, &Tensor)> =
                node.inputs.iter().filter_map(|o| o.value()).map(|v| (v, &values[&v])).collect();
            let found = new.run_from(&inputs, &[node.output]).unwrap().remove(0);
            let known = before.has_value(node.output)
                && after.value_type(node.output) == before.value_type(node.output)
                && values.contains_key(&node.output);
            if !known {
                values.insert(node.output, found);
                continue;
            }
            compared += 1;
            let (expected, place) = (&values[&node.output], after.label(node));
            match (expected.data(), found.data()) {
                (TensorData::Code(e), TensorData::Code(f)) => {
                    let count = codes.entry(node.output).or_default();
                    count.all += e.len();
                    for (e, f) in e.iter().zip(f) {
                        assert!((e - f).abs() <= 1, "{context}: {place}: {e} and {f}");
                        count.different += usize::from(e != f);
                    }
                }
                _ => {
                    assert!(difference(expected, &found) < 1e-5, "{context}: {place}: {}", difference(expected, &found))
                }
            }
        }
    }
    assert!(compared > 0, "{context}: nothing was compared");
    for (v, Codes { different, all }) in codes {
        assert!(different <= 1.max(all / 1000), "{context}: {different} of {all} codes of {v} differ");
    }
}

#[test]
fn lowering_and_folded_scales_keep_the_codes_of_each_layer() {
    for seed in 0..21 {
        let graph = random_network(seed);
        let samples = normal_samples(&graph, 8, seed);
        let (wbits, abits) = [(2, 2), (8, 8), (4, 3), (2, 8), (6, 4), (3, 32), (32, 5)][seed as usize % 7];
        let context = format!("network {seed} W{wbits}A{abits}");
        let qdq =
            run(&format!("{FLOAT},insert-qdq{{wbits={wbits}, abits={abits}, weight_method=minmax}}"), &graph, &samples);
        let integer = run("lower-integer", &qdq, &samples);
        compare_nodes(&qdq, &integer, &samples, &format!("lower-integer, {context}"));
        let folded = run("fold-scales", &integer, &samples);
        compare_nodes(&integer, &folded, &samples, &format!("fold-scales, {context}"));
        let layers = |g: &Graph| g.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d(_) | Op::Linear(_))).count();
        assert!(wbits == 32 || abits == 32 || layers(&folded) == 0, "{context}: a layer stays in float");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let graph = random_network(3);
    let samples = normal_samples(&graph, 12, 3);
    for method in [Method::MinMax, Method::Percentile, Method::Entropy, Method::Mse, Method::Auto] {
        let passes = || recipe(&RecipeOptions { method, wbits: 2, abits: 2, ..RecipeOptions::default() }).unwrap();
        let texts = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut graph = graph.clone();
            let mut cx = PassContext::with_calibration(&samples, 1);
            pool.install(|| PassManager::new().run(&passes(), &mut graph, &mut cx)).unwrap();
            graph.to_string()
        });
        assert_eq!(texts[0], texts[1], "{method}");
    }
}

#[test]
fn bad_calibration_samples_are_named() {
    let graph = random_network(1);
    let mut samples = normal_samples(&graph, 3, 1);
    let fail = |samples: &Samples| {
        let mut cx = PassContext::with_calibration(samples, 1);
        let passes = parse_passes("calibrate").unwrap();
        PassManager::new().run(&passes, &mut graph.clone(), &mut cx).unwrap_err().to_string()
    };
    if let TensorData::F32(v) = samples.0[1][0].data_mut() {
        v[7] = f32::NAN;
    }
    assert_eq!(fail(&samples), "calibration sample 1: holds NaN: input \"x\" must be finite");
    samples.0[1] = vec![Tensor::f32(&[1, 8, 9, 3], vec![0.0; 216])];
    assert_eq!(
        fail(&samples),
        "calibration sample 1: input \"x\" takes shape [1, 9, 9, 3], the sample has [1, 8, 9, 3]"
    );
    samples.0[1] = vec![];
    assert_eq!(fail(&samples), "calibration sample 1: 0 tensors for 1 inputs");
    assert!(samples.sample(9).is_err());
}
