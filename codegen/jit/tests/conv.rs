//! Integer convolutions against the executor, bit for bit.

mod support;

use catc_program::{Binary, Epilogue, EpilogueStep, Format, Geometry, Op, Operand, PackedCodes, Unary};
use proptest::prelude::*;
use support::build::{Builder, codes, window};
use support::{check, reference};

/// One convolution between a quantized input and an output of codes or floats.
fn single(seed: u64, dims: [usize; 3], outputs: usize, groups: usize, geometry: Geometry, bits: [u8; 3]) {
    let [w, a, out] = bits;
    let mut b = Builder::new(seed);
    let input = b.input(&dims);
    let format = codes(&mut b.rng, a);
    let x = b.quantize(input, format);
    let format = if out == 32 { Format::F32 } else { codes(&mut b.rng, out) };
    let y = b.conv(x, outputs, groups, geometry, w, format, vec![]);
    b.output(y);
    let inputs = b.inputs();
    check(&b.program, &inputs, 0.0);
}

/// Every pair of widths, with the codes of every tensor spread over at least three values.
#[test]
fn every_pair_of_widths() {
    for w in 2..=8 {
        for a in 2..=8 {
            let mut b = Builder::new(u64::from(w) * 10 + u64::from(a));
            let input = b.input(&[6, 8, 9]);
            let format = codes(&mut b.rng, a);
            let x = b.quantize(input, format);
            let format = codes(&mut b.rng, a);
            let y = b.conv(x, 19, 1, window(3, 1, 1), w, format, vec![]);
            let z = b.conv(y, 7, 1, window(1, 1, 0), w, Format::F32, vec![]);
            b.output(z);
            let inputs = b.inputs();
            for data in reference::run_all(&b.program, &inputs).into_iter().flatten() {
                if let reference::Data::Codes(mut values) = data {
                    values.sort_unstable();
                    values.dedup();
                    assert!(values.len() >= 3, "W{w}A{a}: {values:?}");
                }
            }
            check(&b.program, &inputs, 0.0);
        }
    }
}

#[test]
fn reductions_of_all_lengths() {
    // Around the lists of steps that are emitted without loops, and around drains.
    for (seed, c) in [1, 2, 7, 18, 19, 20, 27, 28, 29, 55, 56, 57, 58, 111, 112, 113, 119, 120, 121, 130, 260]
        .into_iter()
        .enumerate()
    {
        single(100 + seed as u64, [c, 2, 3], 17, 1, window(1, 1, 0), [2, 2, 32]);
        single(200 + seed as u64, [c, 4, 3], 5, 1, window(3, 1, 1), [2, 2, 2]);
        single(300 + seed as u64, [c, 4, 3], 9, 1, window(3, 1, 1), [4, 8, 4]);
    }
}

#[test]
fn sums_beyond_16_bits() {
    // All weights far from their zero-points on one side, all activations at their ends: the largest sums there are.
    for (c, w, a) in [(6000, 2, 2), (1000, 8, 8), (2000, 8, 7), (900, 7, 8), (700, 6, 6)] {
        let mut b = Builder::new(9);
        let input = b.input(&[c, 1, 2]);
        let format = Format::Codes { signed: false, bits: a, scale: 1.0, zero_point: 0 };
        let x = b.quantize(input, format);
        let y = b.conv(x, 5, 1, window(1, 1, 0), w, Format::F32, vec![]);
        if let Op::Conv { weights, .. } = b.program.steps.last().unwrap().op {
            let constant = &mut b.program.constants[weights.0 as usize];
            if let catc_program::ConstantData::Codes { codes, zero_point, .. } = &mut constant.data {
                let (signed, bits) = (codes.signed(), codes.bits());
                let (low, high) = (Format::min_code(signed, bits), Format::max_code(signed, bits));
                let zero = if w == 8 { low + 128 } else { low };
                *zero_point = vec![zero; zero_point.len()];
                let all: Vec<i16> = (0..codes.len()).map(|i| if i % 97 == 0 { low } else { high } as i16).collect();
                *codes = PackedCodes::new(signed, bits, &all).unwrap();
            }
        }
        b.output(y);
        let inputs = vec![(0..2 * c).map(|i| if i % 89 == 0 { -1.0 } else { 1.0 }).collect()];
        check(&b.program, &inputs, 0.0);
    }
}

fn widths() -> impl Strategy<Value = (u8, u8)> {
    prop_oneof![3 => Just((2, 2)), 2 => (2u8..=8, 2u8..=8)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_geometry(seed: u64, (w, a) in widths()) {
        let mut b = Builder::new(seed);
        let groups = b.rng.pick(&[1, 1, 1, 2, 3, 8]);
        let depthwise = b.rng.range(0, 4) == 0;
        let c = groups * if depthwise { 1 } else { b.rng.size(1, 20) };
        let outputs = groups * if depthwise { 1 } else { b.rng.size(1, 24) };
        let (h, wd) = (b.rng.size(1, 12), b.rng.size(1, 12));
        let mut g = window(1, 1, 0);
        for (i, n) in [h, wd].into_iter().enumerate() {
            g.kernel[i] = b.rng.pick(&[1, 1, 2, 3, 3, 5]);
            g.strides[i] = b.rng.size(1, 3);
            g.dilations[i] = b.rng.pick(&[1, 1, 1, 2, 3]);
            // Now and then more padding than image.
            let most = if b.rng.range(0, 4) == 0 { 9 } else { 2 };
            g.pads[i] = b.rng.size(0, most);
            g.pads[i + 2] = b.rng.size(0, most);
            let span = (g.kernel[i] - 1) * g.dilations[i] + 1;
            g.pads[i + 2] += span.saturating_sub(n + g.pads[i] + g.pads[i + 2]);
        }
        let out = b.rng.pick(&[2, 2, 4, 8, 32]);
        single(seed, [c, h, wd], outputs, groups, g, [w, a, out]);
    }

}

proptest! {
    // Several convolutions to compile for each tier in every case.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// A residual block: the shortcut is read from codes, or is itself a convolution left in f32.
    #[test]
    fn residual_blocks(seed: u64, (w, a) in widths()) {
        let mut b = Builder::new(seed);
        let c = b.rng.size(1, 40);
        let dims = [b.rng.size(1, 6), b.rng.size(1, 9), b.rng.size(1, 9)];
        let input = b.input(&dims);
        let format = codes(&mut b.rng, a);
        let x = b.quantize(input, format);
        let format = codes(&mut b.rng, a);
        let relu = EpilogueStep::Unary(Unary::Relu);
        let x = b.conv(x, c, 1, window(3, 1, 1), w, format, vec![relu]);
        let format = codes(&mut b.rng, a);
        let y = b.conv(x, c, 1, window(3, 1, 1), w, format, vec![relu]);
        let shortcut = if b.rng.range(0, 1) == 0 { x } else { b.conv(x, c, 1, window(1, 1, 0), w, Format::F32, vec![]) };
        let add = EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(shortcut), scale: 0.3 };
        let format = if b.rng.range(0, 2) == 0 { Format::F32 } else { codes(&mut b.rng, a) };
        let z = b.conv(y, c, 1, window(3, 1, 1), w, format, vec![add, relu]);
        let z = if matches!(format, Format::F32) { z } else { b.conv(z, 3, 1, window(3, 2, 1), w, Format::F32, vec![]) };
        b.output(z);
        let inputs = b.inputs();
        check(&b.program, &inputs, 0.0);
    }

    /// One tensor with consumers that want different forms of it.
    #[test]
    fn shared_tensors(seed: u64) {
        let mut b = Builder::new(seed);
        let dims = [b.rng.size(1, 20), b.rng.size(3, 9), b.rng.size(3, 9)];
        let input = b.input(&dims);
        let format = codes(&mut b.rng, 2);
        let x = b.quantize(input, format);
        let c = b.rng.size(1, 20);
        let x = b.conv(x, c, 1, window(3, 1, 1), 2, format, vec![]);
        let two = b.conv(x, 5, 1, window(3, 1, 2), 2, Format::F32, vec![]);
        let four = b.conv(x, 6, 1, window(3, 2, 1), 4, Format::F32, vec![]);
        let depthwise = b.conv(x, c, c, window(3, 1, 1), 2, format, vec![]);
        let decl = b.program.tensor(x).clone();
        let pooled = b.image(format, &[c, decl.dims[1] - 1, decl.dims[2] - 1]);
        b.step(Op::MaxPool { geometry: window(2, 1, 0) }, &[x], Epilogue::default(), pooled);
        let after = b.conv(pooled, 4, 1, window(1, 1, 0), 2, Format::F32, vec![]);
        let mean = b.image(Format::F32, &[c]);
        b.step(Op::Mean { axes: vec![1, 2], scale: 0.1 }, &[x], Epilogue::default(), mean);
        for t in [two, four, depthwise, after, mean, x] {
            b.output(t);
        }
        let inputs = b.inputs();
        check(&b.program, &inputs, 0.0);
    }
}
