//! How a compiled program is used: shared by threads, and refusing what does not fit.

mod support;

use catc_jit::{CompiledProgram, Input, JitError, Options, OutputMut, compile};
use catc_kernels::Tier;
use catc_program::{Format, Program};
use support::build::{Builder, codes, window};
use support::{reference, run};

fn network(seed: u64) -> (Program, Vec<Vec<f32>>) {
    let mut b = Builder::new(seed);
    let input = b.input(&[3, 10, 10]);
    let format = codes(&mut b.rng, 2);
    let x = b.quantize(input, format);
    let x = b.conv(x, 24, 1, window(3, 1, 1), 2, format, vec![]);
    let y = b.conv(x, 10, 1, window(3, 2, 1), 2, Format::F32, vec![]);
    b.output(y);
    let inputs = b.inputs();
    (b.program, inputs)
}

fn compiled(program: &Program) -> CompiledProgram {
    compile(program, &Options::default()).unwrap()
}

#[test]
fn threads_share_a_program() {
    let (program, inputs) = network(1);
    let expected = reference::run(&program, &inputs);
    let compiled = compiled(&program);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(run(&compiled, &program, &inputs), expected);
                }
            });
        }
    });
}

#[test]
fn layers_of_one_shape_share_code() {
    let mut b = Builder::new(2);
    let input = b.input(&[16, 8, 8]);
    let format = codes(&mut b.rng, 2);
    let mut x = b.quantize(input, format);
    for _ in 0..5 {
        // The kernel for 8 bits does not depend on the weights' values.
        x = b.conv(x, 16, 1, window(3, 1, 1), 8, format, vec![]);
    }
    b.output(x);
    let compiled = compiled(&b.program);
    let code: Vec<_> = compiled.steps().filter(|s| s.kernel().is_some()).map(|s| s.code.as_ptr()).collect();
    // The last one's output has no padding around it, so its code differs.
    assert_eq!(code.len(), 5);
    assert!(code[..4].iter().all(|c| *c == code[0]) && code[4] != code[0]);
}

#[test]
fn arrays_of_the_wrong_size_are_refused() {
    let (program, inputs) = network(3);
    let compiled = compiled(&program);
    let mut workspace = compiled.workspace(1).unwrap();
    let mut out = vec![0.0; program.tensor(program.outputs[0].tensor).len()];
    let short = &inputs[0][1..];
    let indices = vec![0; inputs[0].len()];
    for (input, expected) in [(Input::F32(short), "takes 300 floats"), (Input::Index(&indices), "300 indices")] {
        let error = compiled.run(&[input], &mut [OutputMut::F32(&mut out)], &mut workspace).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = compiled.run(&[Input::F32(&inputs[0])], &mut [], &mut workspace).unwrap_err();
    assert!(error.to_string().contains("1 inputs and 1 outputs"), "{error}");
}

#[test]
fn a_foreign_workspace_is_refused() {
    let (program, inputs) = network(4);
    let compiled = compiled(&program);
    let mut b = Builder::new(5);
    let input = b.input(&[1]);
    b.output(input);
    let other = support::build::Builder { program: b.program, rng: b.rng };
    let mut foreign = compile(&other.program, &Options::default()).unwrap().workspace(1).unwrap();
    let mut out = vec![0.0; program.tensor(program.outputs[0].tensor).len()];
    let result = compiled.run(&[Input::F32(&inputs[0])], &mut [OutputMut::F32(&mut out)], &mut foreign);
    assert!(matches!(result, Err(JitError::Run(_))));
}

#[test]
fn a_broken_program_is_refused() {
    let (mut program, _) = network(6);
    program.steps[0].inputs.clear();
    assert!(matches!(compile(&program, &Options::default()), Err(JitError::Program(_))));
}

#[test]
fn a_tier_is_taken_or_refused() {
    let (program, inputs) = network(7);
    let expected = reference::run(&program, &inputs);
    for tier in Tier::ALL {
        match compile(&program, &Options { tier: Some(tier), ..Default::default() }) {
            Ok(compiled) => {
                assert_eq!(compiled.tier(), tier);
                assert_eq!(run(&compiled, &program, &inputs), expected);
            }
            Err(error) => assert!(!tier.is_available() && matches!(error, JitError::Tier { .. })),
        }
    }
}
