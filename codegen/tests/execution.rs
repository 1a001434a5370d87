//! The graphs of `tests/graphs`, lowered, compiled and run, against the evaluator: bit for bit where no convolution is left in f32.

use catc_codegen::lower;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Tensor, TensorData};
use catc_program::BuildInfo;
use catc_runtime::{ArrayData, InputArray, Model, SessionOptions};

const BATCH: usize = 5;

/// Reals between -4 and 4 that repeat late, with zeros of both signs among them.
fn reals(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match state >> 24 {
            0..8 => 0.0,
            8..16 => -0.0,
            _ => (state >> 8) as f32 / (1 << 21) as f32 - 4.0,
        }
    };
    (0..n).map(|_| next()).collect()
}

fn same(name: &str, found: &[f32], expected: &[f32], exact: bool) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let equal = match exact {
            true => f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan()),
            false => (f - e).abs() <= 1e-5 * e.abs().max(1.0) || f == e || (f.is_nan() && e.is_nan()),
        };
        assert!(equal, "{name}, element {i}: {f:?}, the evaluator has {e:?}");
    }
}

fn check(name: &str, text: &str) {
    let graph = parse(text, &NoBlobs).unwrap();
    let inputs: Vec<Tensor> = graph
        .inputs
        .iter()
        .enumerate()
        .map(|(i, (v, _))| {
            let shape = graph.value_type(*v).shape.at_batch(BATCH);
            Tensor::f32(&shape, reals(shape.iter().product(), i as u32 + 1))
        })
        .collect();
    let expected = Interpreter::new(&graph).unwrap().run(&inputs).unwrap();
    let program = lower(&graph, BuildInfo::default()).unwrap();
    let model = Model::from_bytes(&program.to_bytes().unwrap()).unwrap();
    let arrays: Vec<_> = inputs.iter().map(|t| InputArray::f32(t.shape(), t.as_f32().unwrap())).collect();
    for threads in [1, 2] {
        let session =
            model.session(&SessionOptions { threads, ..Default::default() }).unwrap_or_else(|e| panic!("{name}: {e}"));
        let outputs = session.run(&arrays).unwrap();
        for (found, expected) in outputs.iter().zip(&expected) {
            let what = format!("{name}, {threads} threads, output {:?}", found.name);
            assert_eq!(found.shape, expected.shape(), "{what}");
            match (&found.data, expected.data()) {
                (ArrayData::F32(f), TensorData::F32(e)) => same(&what, f, e, !text.contains("= conv2d")),
                (ArrayData::Index(f), TensorData::I64(e)) => {
                    assert!(f.iter().map(|x| i64::from(*x)).eq(e.iter().copied()), "{what}: {f:?}, not {e:?}");
                }
                _ => panic!("{what}: another element type"),
            }
        }
    }
}

#[test]
fn compiled_graphs_compute_what_the_evaluator_does() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        check(&name, &std::fs::read_to_string(&file).unwrap());
    }
}
