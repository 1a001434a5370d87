//! Whole networks: machine code against the reference evaluator, bit for bit, at every pair of widths.

use catc_interp::{Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Graph, Tensor};
use catc_passes::{PassContext, PassManager, Samples, parse_passes};
use catc_program::BuildInfo;
use catc_runtime::{InputArray, Model, SessionOptions};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;

const RESIDUAL: &str = include_str!("networks/residual.catir");
const MOBILE: &str = include_str!("networks/mobile.catir");
const WIDTHS: [u8; 5] = [2, 3, 4, 6, 8];

/// `n` inputs with roughly normal elements.
fn inputs(graph: &Graph, n: usize) -> Vec<Tensor> {
    let shape = graph.value_type(graph.inputs[0].0).shape.at_batch(1);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut element = || (0..6).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).sum::<f32>() * 1.4;
    (0..n).map(|_| Tensor::f32(&shape, (0..shape.iter().product()).map(|_| element()).collect())).collect()
}

/// The network in the integer phase, its ranges those of `samples`.
fn quantized(text: &str, wbits: u8, abits: u8, first_last: u8, samples: &[Tensor]) -> Graph {
    let mut graph = parse(text, &NoBlobs).unwrap_or_else(|e| panic!("{e}"));
    let data = Samples(samples.iter().map(|s| vec![s.clone()]).collect());
    let list = format!(
        "canonicalize,dead-code,calibrate{{method=minmax}},insert-qdq{{wbits={wbits},abits={abits},first_last={first_last}}},\
         lower-integer,fold-scales,dead-code"
    );
    let passes = parse_passes(&list).unwrap_or_else(|e| panic!("{e}"));
    let mut cx = PassContext::with_calibration(&data, 0);
    PassManager::new().run(&passes, &mut graph, &mut cx).unwrap_or_else(|e| panic!("W{wbits}A{abits}: {e}"));
    graph
}

/// Demands equal outputs for a batch, and that every tensor of codes takes at least three values.
fn compare(what: &str, graph: &Graph, images: &[Tensor]) {
    let program = catc_codegen::lower(graph, BuildInfo::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let model = Model::from_program(program).unwrap_or_else(|e| panic!("{what}: {e}"));
    let session = model.session(&SessionOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let evaluator = Interpreter::new(graph).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut values: BTreeMap<_, Vec<i16>> = BTreeMap::new();
    for image in images {
        let mut observe = |v, tensor: &Tensor| {
            if let Some(codes) = tensor.as_codes() {
                let seen = values.entry(v).or_default();
                seen.extend(codes);
                seen.sort_unstable();
                seen.dedup();
            }
        };
        let expected = evaluator.run_observed(std::slice::from_ref(image), &mut observe).unwrap();
        let input = InputArray::f32(image.shape(), image.as_f32().unwrap());
        let found = session.run(&[input]).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (expected, found) in expected.iter().zip(found.iter()) {
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(found.as_f32().unwrap()), bits(expected.as_f32().unwrap()), "{what}");
        }
    }
    let poor = values.iter().find(|(_, seen)| seen.len() < 3);
    assert!(poor.is_none(), "{what}: {poor:?} takes fewer than three values in\n{graph}");
}

fn every_pair(text: &str, first_last: u8) {
    let graph = parse(text, &NoBlobs).unwrap_or_else(|e| panic!("{e}"));
    let images = inputs(&graph, 6);
    for wbits in WIDTHS {
        for abits in WIDTHS {
            let graph = quantized(text, wbits, abits, first_last, &images);
            compare(&format!("W{wbits}A{abits}"), &graph, &images);
        }
    }
}

#[test]
fn residual_network_at_every_pair_of_widths() {
    every_pair(RESIDUAL, 8);
}

#[test]
fn mobile_network_at_every_pair_of_widths() {
    every_pair(MOBILE, 8);
}

#[test]
fn first_and_last_layers_at_few_bits() {
    every_pair(RESIDUAL, 2);
}
