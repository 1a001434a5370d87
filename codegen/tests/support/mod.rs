//! Runs a graph both ways and compares.
#![allow(dead_code, reason = "each test binary uses its part")]

use catc_codegen::lower;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Tensor, TensorData};
use catc_program::{BuildInfo, Program};
use catc_runtime::{ArrayData, InputArray, Model, SessionOptions};

/// Reals between -4 and 4 that repeat late, with zeros of both signs among them.
pub fn reals(n: usize, seed: u32) -> Vec<f32> {
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

/// Every third element is one that arithmetic treats apart.
pub fn make_special(inputs: &mut [Tensor]) {
    const SPECIAL: [f32; 8] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, -0.0, -1e30];
    for tensor in inputs {
        if let TensorData::F32(x) = tensor.data_mut() {
            x.iter_mut().step_by(3).enumerate().for_each(|(i, x)| *x = SPECIAL[i / 2 % SPECIAL.len()]);
        }
    }
}

/// Inputs for a graph.
pub fn inputs(graph: &Graph, batch: usize) -> Vec<Tensor> {
    let tensor = |(i, (v, _)): (usize, &(catc_ir::ValueId, String))| {
        let shape = graph.value_type(*v).shape.at_batch(batch);
        Tensor::f32(&shape, reals(shape.iter().product(), i as u32 + 1))
    };
    graph.inputs.iter().enumerate().map(tensor).collect()
}

/// Evaluates a graph of the integer phase with layers in f32, lowers and runs it; returns the largest difference of the first output, relative to
/// its largest element.
pub fn difference(name: &str, graph: &Graph, inputs: &[Tensor]) -> f32 {
    let expected = Interpreter::new(graph).unwrap().run(inputs).unwrap();
    let program = lower(graph, BuildInfo::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let session = Model::from_program(program).unwrap().session(&SessionOptions::default()).unwrap();
    let arrays: Vec<_> = inputs.iter().map(|t| InputArray::f32(t.shape(), t.as_f32().unwrap())).collect();
    let outputs = session.run(&arrays).unwrap();
    let (found, expected) = (outputs[0].as_f32().unwrap(), expected[0].as_f32().unwrap());
    let largest = |v: &mut dyn Iterator<Item = f32>| v.fold(0f32, |m, x| m.max(x.abs()));
    largest(&mut found.iter().zip(expected).map(|(f, e)| f - e)) / largest(&mut expected.iter().copied())
}

/// Evaluates a graph of the integer phase, lowers and runs it, and compares the outputs: bit for bit if `exact`, else to 1e-5
/// relative. Returns the program.
pub fn compare(name: &str, graph: &Graph, inputs: &[Tensor], exact: bool) -> Program {
    let expected = Interpreter::new(graph).unwrap().run(inputs).unwrap();
    let program = lower(graph, BuildInfo::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let model = Model::from_bytes(&program.to_bytes().unwrap()).unwrap();
    let arrays: Vec<_> = inputs.iter().map(|t| InputArray::f32(t.shape(), t.as_f32().unwrap())).collect();
    for threads in [1, 2] {
        let options = SessionOptions { threads, ..Default::default() };
        let session = model.session(&options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let outputs = session.run(&arrays).unwrap();
        for (found, expected) in outputs.iter().zip(&expected) {
            let what = format!("{name}, {threads} threads, output {:?}", found.name);
            assert_eq!(found.shape, expected.shape(), "{what}");
            match (&found.data, expected.data()) {
                (ArrayData::F32(f), TensorData::F32(e)) => same(&what, f, e, exact),
                (ArrayData::Index(f), TensorData::I64(e)) => {
                    assert!(f.iter().map(|x| i64::from(*x)).eq(e.iter().copied()), "{what}: {f:?}, not {e:?}");
                }
                _ => panic!("{what}: another element type"),
            }
        }
    }
    program
}
