//! Emitted code for every function of the table against its scalar definition, bit for bit.

mod support;

use catc_jit::{Options, compile};
use catc_program::{Binary, Epilogue, EpilogueStep, Format, Layout, Op, Operand, Unary};
use support::build::Builder;
use support::{run, tiers};

/// NaN, infinities, zeros, subnormals, whole numbers, halves, and numbers of all magnitudes. Without signaling NaNs, for which the compiler of
/// the definitions may choose an instruction with another result (`fmaxnm` on AArch64).
fn sweep() -> Vec<f32> {
    let all = (0..=u32::MAX).step_by(0x7_ffed).map(f32::from_bits).filter(|x| !x.is_nan());
    let special = [f32::NAN, f32::INFINITY, 0.0, f32::from_bits(1), f32::MIN_POSITIVE, f32::MAX, 1e-40];
    let small = (-900..=900).map(|i| i as f32 * 0.125);
    all.chain(special).chain(special.map(|x| -x)).chain(small).collect()
}

/// One function of each row of the table.
fn functions() -> Vec<Unary> {
    let value = |name: &'static str, _| match name {
        "alpha" => Ok(0.3),
        "beta" => Ok(0.45),
        "min" => Ok(-1.7),
        "max" => Ok(6.1),
        "gamma" => Ok(1.05),
        other => Err(format!("give the parameter {other} a value here")),
    };
    Unary::NAMES.iter().map(|name| Unary::build(name, value).unwrap().unwrap()).collect()
}

#[track_caller]
fn assert_same(what: &str, found: &[f32], expected: &[f32], inputs: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for ((f, e), x) in found.iter().zip(expected).zip(inputs) {
        assert!(f.to_bits() == e.to_bits() || (f.is_nan() && e.is_nan()), "{what} of {x:?}: {f:?}, not {e:?}");
    }
}

#[test]
fn functions_of_one_real_equal_their_definitions() {
    let inputs = sweep();
    for function in functions() {
        let mut b = Builder::new(1);
        let x = b.input(&[inputs.len()]);
        // Twice: the precompiled functions do not read the memory of the caller, from which emitted code makes the copy that they read.
        let [y, copy, z] = [(); 3].map(|_| b.tensor(Format::F32, &[inputs.len()], Layout::RowMajor));
        let epilogue = Epilogue { steps: vec![EpilogueStep::Unary(function)], requantize: None };
        b.step(Op::Map { scale: 1.0 }, &[x], epilogue.clone(), y);
        b.step(Op::Map { scale: 1.0 }, &[x], Epilogue::default(), copy);
        b.step(Op::Map { scale: 1.0 }, &[copy], epilogue, z);
        b.output(y);
        b.output(z);
        let expected: Vec<f32> = inputs.iter().map(|&x| function.apply(x)).collect();
        for tier in tiers() {
            let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
            for found in run(&compiled, &b.program, std::slice::from_ref(&inputs)) {
                assert_same(&format!("{tier}: {function}"), &found, &expected, &inputs);
            }
        }
    }
}

#[test]
fn functions_of_two_reals_equal_their_definitions() {
    let inputs = sweep();
    let others: Vec<f32> = inputs.iter().rev().copied().collect();
    for op in Binary::ALL {
        let mut b = Builder::new(1);
        let [x, r] = [b.input(&[inputs.len()]), b.input(&[inputs.len()])];
        let y = b.tensor(Format::F32, &[inputs.len()], Layout::RowMajor);
        let step = EpilogueStep::Binary { op, operand: Operand::Tensor(r), scale: 1.0 };
        b.step(Op::Map { scale: 1.0 }, &[x], Epilogue { steps: vec![step], requantize: None }, y);
        b.output(y);
        let expected: Vec<f32> = inputs.iter().zip(&others).map(|(&a, &b)| op.apply(a, b)).collect();
        for tier in tiers() {
            let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
            let found = run(&compiled, &b.program, &[inputs.clone(), others.clone()]).remove(0);
            assert_same(&format!("{tier}: {}", op.name()), &found, &expected, &inputs);
        }
    }
}
