//! Depthwise convolutions of many channels and all windows against the executor: codes bit for bit, floats nearly.

mod support;

use catc_jit::{Options, compile};
use catc_kernels::{Implementation, KERNELS};
use catc_program::{Binary, Epilogue, EpilogueStep, Format, Geometry, Op, Operand, TensorId, Unary};
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::build::{Builder, codes, output_size};
use support::{check, tiers};

/// A window that the image has room for.
fn any_window(b: &mut Builder, size: [usize; 2]) -> Geometry {
    let mut g = Geometry { kernel: [1; 2], strides: [1; 2], pads: [0; 4], dilations: [1; 2] };
    for (i, n) in size.into_iter().enumerate() {
        g.kernel[i] = b.rng.pick(&[1, 2, 3, 3, 3, 4, 5, 7, 9]);
        g.strides[i] = b.rng.pick(&[1, 1, 2, 3]);
        g.dilations[i] = b.rng.pick(&[1, 1, 1, 2]);
        g.pads[i] = b.rng.size(0, 3);
        g.pads[i + 2] = b.rng.size(0, 3);
        let span = (g.kernel[i] - 1) * g.dilations[i] + 1;
        g.pads[i + 2] += span.saturating_sub(n + g.pads[i] + g.pads[i + 2]);
    }
    g
}

/// Steps, or none.
fn any_steps(b: &mut Builder, shortcut: Option<TensorId>) -> Vec<EpilogueStep> {
    let mut steps = vec![];
    if let Some(shortcut) = shortcut {
        steps.push(EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(shortcut), scale: 0.3 });
    }
    match b.rng.range(0, 4) {
        0 => steps.push(EpilogueStep::Unary(Unary::Relu)),
        1 => steps.push(EpilogueStep::Unary(Unary::Clip { min: 0.0, max: 0.7 })),
        2 => steps.push(EpilogueStep::Unary(Unary::Sigmoid)),
        3 => steps.push(EpilogueStep::Unary(Unary::HardSwish)),
        _ => {}
    }
    steps
}

/// So that a change of the rules which choose cannot leave a kernel untested.
#[test]
fn every_kernel_is_chosen_somewhere() {
    let mut chosen = BTreeSet::new();
    for bits in [Some(2), Some(8), None] {
        let mut b = Builder::new(1);
        let geometry = Geometry { kernel: [3; 2], strides: [1; 2], pads: [1; 4], dilations: [1; 2] };
        let input = b.input(&[70, 5, 9]);
        let y = match bits {
            Some(bits) => {
                let [from, to] = [(); 2].map(|_| codes(&mut b.rng, bits));
                let x = b.quantize(input, from);
                b.conv(x, 70, 70, geometry, bits, to, vec![])
            }
            None => {
                let [x, y] = [(); 2].map(|_| b.image(Format::F32, &[70, 5, 9]));
                b.step(Op::Map { scale: 1.5 }, &[input], Epilogue::default(), x);
                let (weights, bias) = (b.floats(&[70, 1, 3, 3], |r| r.float()), b.floats(&[70], |r| r.float()));
                let op = Op::FloatConv { geometry, groups: 70, weights, bias };
                b.step(op, &[x], Epilogue::default(), y);
                y
            }
        };
        b.output(y);
        for tier in tiers() {
            let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
            chosen.extend(compiled.steps().filter_map(|step| step.kernel()));
        }
    }
    for kernel in KERNELS.iter().map(|kernel| kernel.info()).filter(|info| info.name.starts_with("depthwise")) {
        if kernel.implementation == Implementation::Precompiled && kernel.tier.is_available() {
            assert!(chosen.contains(kernel.name), "{} was not chosen", kernel.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn codes_of_any_width(seed: u64, w in 2u8..=8, a in 2u8..=8) {
        let mut b = Builder::new(seed);
        let c = b.rng.pick(&[1, 15, 16, 17, 31, 33, 48, 50, 64, 65, 96, 131]);
        let (h, wd) = (b.rng.size(1, 6), b.rng.size(1, 21));
        let g = any_window(&mut b, [h, wd]);
        let input = b.input(&[c, h, wd]);
        let format = codes(&mut b.rng, a);
        let x = b.quantize(input, format);
        let same = output_size(&g, h, wd) == [h, wd];
        let steps = any_steps(&mut b, same.then_some(x));
        let format = if b.rng.range(0, 3) == 0 { Format::F32 } else { codes(&mut b.rng, a) };
        let y = b.conv(x, c, c, g, w, format, steps);
        b.output(y);
        let inputs = b.inputs();
        check(&b.program, &inputs, 0.0);
    }

    #[test]
    fn floats(seed: u64) {
        let mut b = Builder::new(seed);
        let c = b.rng.pick(&[1, 16, 17, 33, 50, 64, 65, 131]);
        let (h, wd) = (b.rng.size(1, 6), b.rng.size(1, 21));
        let geometry = any_window(&mut b, [h, wd]);
        let input = b.input(&[c, h, wd]);
        let x = b.image(Format::F32, &[c, h, wd]);
        b.step(Op::Map { scale: 1.5 }, &[input], Epilogue::default(), x);
        let weights = b.floats(&[c, 1, geometry.kernel[0], geometry.kernel[1]], |r| r.float());
        let bias = b.floats(&[c], |r| r.float());
        let [oh, ow] = output_size(&geometry, h, wd);
        let steps = any_steps(&mut b, None);
        let y = b.image(Format::F32, &[c, oh, ow]);
        let op = Op::FloatConv { geometry, groups: c, weights, bias };
        b.step(op, &[x], Epilogue { steps, requantize: None }, y);
        b.output(y);
        let inputs = b.inputs();
        check(&b.program, &inputs, 1e-5);
    }
}
