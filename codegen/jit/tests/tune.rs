//! Choices by measurement: whatever they are, results stay; and what a file claims about them is not relied on.

mod support;

use catc_jit::{Options, compile, tune};
use catc_kernels::{Tier, cpu_name};
use catc_program::{Format, Program, TunedLayer, Tuning};
use support::build::{Builder, codes, window};
use support::{reference, run, tiers};

fn network() -> (Program, Vec<Vec<f32>>) {
    let mut b = Builder::new(5);
    let input = b.input(&[20, 9, 11]);
    let format = codes(&mut b.rng, 2);
    let x = b.quantize(input, format);
    let y = b.conv(x, 40, 1, window(3, 1, 1), 2, format, vec![]);
    let z = b.conv(y, 30, 1, window(1, 2, 0), 2, format, vec![]);
    let z = b.conv(z, 17, 1, window(3, 2, 1), 2, Format::F32, vec![]);
    b.output(z);
    let inputs = b.inputs();
    (b.program, inputs)
}

#[test]
fn a_tuned_program_computes_the_same() {
    let (mut program, inputs) = network();
    let expected = reference::run(&program, &inputs);
    if cpu_name().is_none() {
        // As under emulation: a measurement without a CPU's name would be taken on any.
        assert!(tune(&program, None, &mut |_, _| ()).is_err_and(|e| e.to_string().contains("name of this CPU")));
        return;
    }
    for tier in tiers() {
        let mut rounds = vec![];
        let tuned = tune(&program, Some(tier), &mut |done, all| rounds.push((done, all))).unwrap();
        assert!(tuned.after <= tuned.before && tuned.before > 0.0);
        assert!(rounds.iter().map(|r| r.0).eq(0..=rounds[0].1), "{rounds:?}");
        program.tunings = vec![tuned.tuning];
        let read = Program::from_bytes(&program.to_bytes().unwrap()).unwrap();
        assert_eq!(read, program);
        let compiled = compile(&read, &Options { tier: Some(tier), ..Default::default() }).unwrap();
        assert!(compiled.is_tuned());
        assert_eq!(run(&compiled, &read, &inputs), expected, "{tier}");
        program.tunings.clear();
    }
}

/// Every kernel of the list and any tile asked of every step: those that do not serve it are not taken.
#[test]
fn what_does_not_fit_is_left_to_the_rules() {
    let (mut program, inputs) = network();
    let expected = reference::run(&program, &inputs);
    let (Some(cpu), Some(tier)) = (cpu_name(), Tier::detect()) else { return };
    let names = catc_kernels::KERNELS.iter().map(|k| k.name()).chain(["a kernel of tomorrow"]);
    for (turn, kernel) in names.enumerate() {
        let (pixels, vectors) = [(0, 0), (1, 1), (64, 64), (5, 2)][turn % 4];
        let steps = 0..program.steps.len() as u32;
        let layers = steps.map(|step| TunedLayer { step, kernel: kernel.into(), pixels, vectors }).collect();
        program.tunings = vec![Tuning { cpu: cpu.clone(), tier: tier.name().into(), layers }];
        let compiled = compile(&program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
        assert!(compiled.is_tuned());
        assert_eq!(run(&compiled, &program, &inputs), expected, "{kernel}");
    }
}

#[test]
fn other_cpus_ignore_a_tuning() {
    let (mut program, _) = network();
    let Some(tier) = Tier::detect() else { return };
    let layers = vec![TunedLayer { step: 1, kernel: "float".into(), pixels: 1, vectors: 1 }];
    program.tunings = vec![Tuning { cpu: "another".into(), tier: tier.name().into(), layers }];
    assert!(!compile(&program, &Options { tier: Some(tier), ..Default::default() }).unwrap().is_tuned());
}
