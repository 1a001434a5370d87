//! Small files that ask for much memory are refused before it is allocated, and compile time does not grow with
//! the square of the number of steps.

use catc_runtime::program::*;
use catc_runtime::{InputArray, Limits, Model, SessionOptions};
use std::time::{Duration, Instant};

fn decl(dims: &[usize]) -> TensorDecl {
    TensorDecl { name: "t".into(), format: Format::F32, dims: dims.to_vec(), layout: Layout::RowMajor }
}

fn step(op: Op, inputs: &[u32], output: u32) -> Step {
    let inputs = inputs.iter().map(|&i| TensorId(i)).collect();
    Step { name: "s".into(), op, inputs, epilogue: Epilogue::default(), output: TensorId(output) }
}

fn program(tensors: Vec<TensorDecl>, steps: Vec<Step>) -> Program {
    let output = steps.last().unwrap().output;
    Program {
        tensors,
        steps,
        inputs: vec![Port::new("x", TensorId(0))],
        outputs: vec![Port::new("y", output)],
        ..Program::default()
    }
}

/// A mean of a gigabyte and a half of ones.
fn large() -> Program {
    let tensors = vec![decl(&[1]), decl(&[400 << 20]), decl(&[1])];
    let mean = Op::Mean { axes: vec![0], scale: 1.0 };
    let steps = vec![step(Op::Constant { constant: ConstantId(0) }, &[], 1), step(mean, &[1], 2)];
    let ones = Constant { dims: vec![1], data: ConstantData::F32(vec![1.0]) };
    Program { constants: vec![ones], ..program(tensors, steps) }
}

fn skipped() -> bool {
    let skipped = catc_runtime::Tier::detect().is_none();
    if skipped {
        println!("skipped: no code for this CPU");
    }
    skipped
}

#[test]
fn activations_beyond_the_limit_are_refused_before_they_are_taken() {
    if skipped() {
        return;
    }
    let model = Model::from_program(large()).unwrap();
    let error = model.session(&SessionOptions::default()).err().unwrap().to_string();
    assert!(error.contains("activations") && error.contains("1677721") && error.contains("1073741824"), "{error}");
    assert!(error.contains("`Limits::memory` (`--max-memory`)"), "{error}");
    // With a higher limit it compiles; a report takes no memory for a run.
    let limits = Limits { memory: 2 << 30, ..Limits::default() };
    let session = model.examine(&SessionOptions { limits, ..Default::default() }).unwrap();
    assert!(session.memory().workspace > 1 << 30);
}

#[test]
fn instructions_beyond_the_limit_are_refused() {
    if skipped() {
        return;
    }
    let model = Model::from_program(program(vec![decl(&[4]); 2], vec![step(Op::Map { scale: 2.0 }, &[0], 1)])).unwrap();
    let limits = Limits { instructions: 3, ..Limits::default() };
    let error = model.session(&SessionOptions { limits, ..Default::default() }).err().unwrap().to_string();
    assert!(error.contains("more than the limit of 3; raise `Limits::instructions` if"), "{error}");
}

#[test]
fn an_epilogue_has_a_longest() {
    let relu = |count| {
        let mut step = step(Op::Map { scale: 2.0 }, &[0], 1);
        step.epilogue.steps = vec![EpilogueStep::Unary(Unary::Relu); count];
        Model::from_program(program(vec![decl(&[4]); 2], vec![step]))
    };
    assert!(relu(1024).is_ok());
    let error = relu(1025).err().unwrap().to_string();
    assert!(error.contains("its epilogue has 1025 steps, at most 1024 are allowed"), "{error}");
}

/// The time that a program takes to be made ready, and what it gives for ones.
fn ready(program: Program) -> (Duration, Vec<f32>) {
    let model = Model::from_program(program).unwrap();
    let start = Instant::now();
    let session = model.session(&SessionOptions::default()).unwrap();
    let time = start.elapsed();
    let shape = [&[1], model.inputs()[0].dims.as_slice()].concat();
    let ones = vec![1.0; shape.iter().product()];
    let outputs = session.run(&[InputArray::f32(&shape, &ones)]).unwrap();
    (time, outputs[0].as_f32().unwrap().to_vec())
}

#[test]
fn time_grows_with_the_number_of_steps_alone() {
    if skipped() {
        return;
    }
    let maps = |count: u32| {
        let steps = (0..count).map(|i| step(Op::Map { scale: -1.0 }, &[i], i + 1)).collect();
        ready(program(vec![decl(&[4]); count as usize + 1], steps))
    };
    let (few, one) = maps(10_000);
    let (many, same) = maps(80_000);
    assert_eq!((one, same), (vec![1.0; 4], vec![1.0; 4]));
    println!("10,000 maps {few:?}, 80,000 maps {many:?}");
    // Eight times as many steps; quadratic growth would take 64 times as long.
    assert!(many < 24 * few.max(Duration::from_millis(50)), "{few:?} {many:?}");

    let parts = 5000;
    let wide = step(Op::Concat { axis: 0 }, &vec![0; parts], 1);
    let (time, all) = ready(program(vec![decl(&[1]), decl(&[parts])], vec![wide]));
    println!("{parts} parts {time:?}");
    assert_eq!(all, vec![1.0; parts]);
}
