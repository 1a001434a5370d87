//! The precompiled tiles against the executor, bit for bit: shapes large enough for every kernel, with ends that fill no tile.

mod support;

use catc_jit::{Options, compile};
use catc_kernels::epilogue::MAX_STEPS;
use catc_kernels::{Implementation, KERNELS, KernelSet, Tier};
use catc_program::{Binary, ConstantData, EpilogueStep, Format, Geometry, Op, Operand, PackedCodes, Program, Unary};
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::build::{Builder, codes, window};
use support::{check, check_in_pieces, tiers};

/// What follows a convolution.
#[derive(Clone, Copy, Debug)]
enum Tail {
    Codes(u8),
    Floats,
    /// Added codes of that width, ReLU, codes.
    Shortcut(u8),
    /// An added float, a leaky ReLU, 8-bit codes.
    FloatShortcut,
    /// An added float, codes of that width.
    FloatSum(u8),
    /// A function of one real, by its number in the table; codes of that width.
    Function(usize, u8),
    /// An operation with codes of that width.
    Operation(Binary, u8),
    /// More steps than a precompiled epilogue takes.
    Long,
}

fn network(seed: u64, dims: [usize; 3], outputs: usize, geometry: Geometry, [w, a]: [u8; 2], tail: Tail) -> Builder {
    let mut b = Builder::new(seed);
    let input = b.input(&dims);
    let format = codes(&mut b.rng, a);
    let x = b.quantize(input, format);
    let relu = EpilogueStep::Unary(Unary::Relu);
    let y = match tail {
        Tail::Codes(bits) => {
            let format = codes(&mut b.rng, bits);
            b.conv(x, outputs, 1, geometry, w, format, vec![])
        }
        Tail::Floats => b.conv(x, outputs, 1, geometry, w, Format::F32, vec![relu]),
        Tail::Function(number, bits) => {
            let parameter = |_, position: usize| Ok::<_, ()>([-0.4, 0.9][position]);
            let function = Unary::build(Unary::NAMES[number], parameter).unwrap().unwrap();
            let format = codes(&mut b.rng, bits);
            b.conv(x, outputs, 1, geometry, w, format, vec![EpilogueStep::Unary(function), EpilogueStep::Scale(1.3)])
        }
        Tail::Operation(op, bits) => {
            let format = codes(&mut b.rng, bits);
            let other = b.conv(x, outputs, 1, geometry.clone(), w, format, vec![]);
            let step = EpilogueStep::Binary { op, operand: Operand::Tensor(other), scale: 0.3 };
            let format = codes(&mut b.rng, bits);
            b.conv(x, outputs, 1, geometry, w, format, vec![step])
        }
        Tail::Long => b.conv(x, outputs, 1, geometry, w, Format::F32, vec![EpilogueStep::Scale(1.1); MAX_STEPS + 1]),
        Tail::Shortcut(bits) => {
            let format = codes(&mut b.rng, bits);
            let shortcut = b.conv(x, outputs, 1, geometry.clone(), w, format, vec![]);
            let add = EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(shortcut), scale: 0.3 };
            let steps = if b.rng.range(0, 1) == 0 { vec![add] } else { vec![add, relu] };
            let format = codes(&mut b.rng, bits);
            b.conv(x, outputs, 1, geometry, w, format, steps)
        }
        Tail::FloatSum(bits) => {
            let shortcut = b.conv(x, outputs, 1, geometry.clone(), w, Format::F32, vec![]);
            let add = EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(shortcut), scale: 1.0 };
            let format = codes(&mut b.rng, bits);
            b.conv(x, outputs, 1, geometry, w, format, vec![add])
        }
        Tail::FloatShortcut => {
            let shortcut = b.conv(x, outputs, 1, geometry.clone(), w, Format::F32, vec![]);
            let add = EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(shortcut), scale: 1.0 };
            let leaky = EpilogueStep::Unary(Unary::LeakyRelu { alpha: 0.125 });
            let format = codes(&mut b.rng, 8);
            b.conv(x, outputs, 1, geometry, w, format, vec![add, leaky, EpilogueStep::Scale(0.9)])
        }
    };
    b.output(y);
    b
}

fn kernels(program: &Program, tier: Tier) -> BTreeSet<&'static str> {
    compile(program, &Options { tier: Some(tier), ..Default::default() })
        .unwrap()
        .steps()
        .filter_map(|s| s.kernel())
        .collect()
}

/// One shape for each kernel that convolves codes, so that a change of the rules which choose cannot leave one untested.
#[test]
fn every_kernel_of_codes_is_chosen_somewhere() {
    let cases = [
        ([64, 9, 8], 70, window(3, 1, 1), [2, 2]),
        ([64, 9, 9], 70, window(3, 1, 1), [2, 3]),
        ([64, 8, 9], 70, window(3, 1, 1), [4, 4]),
        ([5, 9, 8], 33, window(3, 1, 1), [8, 8]),
        ([300, 3, 5], 190, window(1, 1, 0), [2, 2]),
        ([30, 3, 5], 19, window(1, 1, 0), [4, 4]),
    ];
    let mut best = BTreeSet::new();
    for (seed, (dims, outputs, geometry, bits)) in cases.into_iter().enumerate() {
        let mut b = network(seed as u64, dims, outputs, geometry, bits, Tail::Codes(bits[1]));
        b.centre();
        for tier in tiers() {
            best.extend(kernels(&b.program, tier));
        }
        let inputs = b.inputs();
        check(&b.program, &inputs, 0.0);
    }
    let wide = KERNELS.iter().map(|kernel| kernel.info()).filter(|k| k.implementation == Implementation::Precompiled);
    for kernel in wide.filter(|k| *k.weight_bits.end() <= 8 && !k.name.starts_with("depthwise")) {
        if kernel.tier.is_available() {
            assert!(best.contains(kernel.name), "{} was not chosen", kernel.name);
        } else {
            println!("{} is not available here: {} was not run", kernel.tier, kernel.name);
        }
    }
}

/// Look-ups followed by each of their tiles' endings, and by those that they leave to another tile.
#[test]
fn look_ups_end_in_codes_and_floats() {
    let tails = [
        Tail::Codes(2),
        Tail::Codes(5),
        Tail::Shortcut(2),
        Tail::FloatSum(2),
        Tail::FloatSum(8),
        Tail::FloatShortcut,
        Tail::Floats,
    ];
    for (seed, tail) in tails.into_iter().enumerate() {
        for centre in [None, Some(Builder::centre as fn(&mut Builder)), Some(Builder::centre_either_way)] {
            let mut b = network(seed as u64, [250, 7, 9], 190, window(1, 1, 0), [2, 2], tail);
            if let Some(centre) = centre {
                centre(&mut b);
            }
            if Tier::Avx512Vbmi.is_available() {
                assert_eq!(kernels(&b.program, Tier::Avx512Vbmi), BTreeSet::from(["triples-512"]), "{tail:?}");
            } else {
                println!("{} is not available here: {tail:?} was not run", Tier::Avx512Vbmi);
            }
            // Zero-points at random have no table of pairs.
            if centre.is_some() && Tier::X86V3.is_available() {
                assert_eq!(kernels(&b.program, Tier::X86V3), BTreeSet::from(["pairs-256"]), "{tail:?}");
            } else if centre.is_some() {
                println!("{} is not available here: {tail:?} was not run", Tier::X86V3);
            }
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
        }
    }
}

/// Layers that end in any function and any operation, as codes that are looked up and codes that are computed with.
#[test]
fn epilogues_have_every_function_and_operation() {
    let functions = (0..Unary::NAMES.len()).map(|number| Tail::Function(number, 2 + number as u8 % 7));
    let operations = Binary::ALL.into_iter().flat_map(|op| [2, 5, 8].map(|bits| Tail::Operation(op, bits)));
    for (seed, tail) in functions.chain(operations).enumerate() {
        for (dims, bits) in [([33, 6, 5], [8, 8]), ([128, 6, 7], [2, 2])] {
            let mut b = network(seed as u64, dims, 75, window(3, 1, 1), bits, tail);
            b.centre();
            let plain: Vec<_> = tiers().map(|tier| kernels(&b.program, tier)).collect();
            let mut codes = network(seed as u64, dims, 75, window(3, 1, 1), bits, Tail::Codes(4));
            codes.centre();
            let expected: Vec<_> = tiers().map(|tier| kernels(&codes.program, tier)).collect();
            assert_eq!(plain, expected, "{tail:?} has another kernel than a layer without it");
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
        }
    }
}

/// The largest sums there are, at the highest codes and the farthest weights.
#[test]
fn sums_at_their_ends() {
    for (c, kernel, w, a) in
        [(1021, 1, 2, 2), (260, 3, 2, 2), (130, 3, 2, 3), (37, 3, 4, 4), (66, 3, 3, 6), (1030, 1, 8, 8)]
    {
        for side in [false, true] {
            let mut b = Builder::new(4);
            let input = b.input(&[c, 6, 8]);
            let format = Format::Codes { signed: false, bits: a, scale: 1.0, zero_point: 0 };
            let x = b.quantize(input, format);
            let y = b.conv(x, 70, 1, window(kernel, 1, kernel / 2), w, Format::F32, vec![]);
            if let Op::Conv { weights, .. } = b.program.steps.last().unwrap().op {
                let constant = &mut b.program.constants[weights.0 as usize];
                if let ConstantData::Codes { codes, zero_point, .. } = &mut constant.data {
                    let (signed, bits) = (codes.signed(), codes.bits());
                    let (low, high) = (Format::min_code(signed, bits), Format::max_code(signed, bits));
                    let zero = (low + high + 1) / 2;
                    *zero_point = vec![zero; zero_point.len()];
                    let (most, least) = if side { (high, low) } else { (low, high) };
                    let all: Vec<i16> =
                        (0..codes.len()).map(|i| if i % 101 == 0 { least } else { most } as i16).collect();
                    *codes = PackedCodes::new(signed, bits, &all).unwrap();
                }
            }
            b.output(y);
            let inputs = vec![(0..48 * c).map(|i| if i % 89 == 0 { -1.0 } else { 1.0 }).collect()];
            check(&b.program, &inputs, 0.0);
        }
    }
}

/// As many look-ups as 16-bit totals take, and more than that.
#[test]
fn look_ups_up_to_their_limit() {
    // Weights of -2 under activations of 3: entries of up to 12, of which 65535 takes 5461.
    for (c, looked_up) in [(10_922, true), (10_923, false)] {
        let mut b = Builder::new(5);
        let input = b.input(&[c, 1, 3]);
        let x = b.quantize(input, Format::Codes { signed: false, bits: 2, scale: 1.0, zero_point: 0 });
        let y = b.conv(x, 40, 1, window(1, 1, 0), 2, Format::F32, vec![]);
        if let Op::Conv { weights, .. } = b.program.steps.last().unwrap().op {
            let constant = &mut b.program.constants[weights.0 as usize];
            if let ConstantData::Codes { codes, zero_point, .. } = &mut constant.data {
                let (low, zero) = (Format::min_code(codes.signed(), 2), Format::min_code(codes.signed(), 2) + 2);
                // Every other channel mirrored: weights of 2, zero-points of 1.
                *zero_point = (0..40).map(|output| zero - output % 2).collect();
                let all: Vec<i16> =
                    (0..codes.len()).map(|i| (if i / c % 2 == 0 { low } else { low + 3 }) as i16).collect();
                *codes = PackedCodes::new(codes.signed(), 2, &all).unwrap();
            }
        }
        b.output(y);
        if Tier::X86V3.is_available() {
            assert_eq!(kernels(&b.program, Tier::X86V3).contains("pairs-256"), looked_up, "{c} channels");
        }
        check(&b.program, &[vec![1.0; 3 * c]], 0.0);
    }
}

#[test]
fn rows_in_pieces_give_the_same() {
    let cases = [
        ([64, 15, 9], 70, window(3, 1, 1), [2, 2]),
        ([64, 14, 12], 70, window(3, 1, 1), [2, 3]),
        ([64, 22, 63], 40, window(3, 1, 1), [2, 2]),
        ([20, 13, 31], 40, window(3, 1, 1), [4, 4]),
        // So many weights that threads share the output channels.
        ([230, 9, 5], 300, window(3, 1, 1), [2, 2]),
        ([300, 7, 5], 190, window(1, 1, 0), [2, 2]),
        ([130, 13, 9], 190, window(3, 2, 1), [2, 2]),
        ([20, 13, 9], 40, window(3, 2, 1), [8, 8]),
    ];
    for (seed, (dims, outputs, geometry, bits)) in cases.into_iter().enumerate() {
        let mut b = network(seed as u64, dims, outputs, geometry, bits, Tail::Shortcut(bits[1]));
        b.centre();
        let inputs = b.inputs();
        check_in_pieces(&b.program, &inputs);
    }
}

/// Large floats that the next layer only adds are made and read some rows at a time.
#[test]
fn floats_that_are_only_added_stay_in_bands() {
    let cases = [
        (40, 130, [4, 4], Tail::FloatShortcut),
        (100, 190, [2, 2], Tail::FloatSum(2)),
        (50, 140, [2, 2], Tail::FloatSum(2)),
        (9, 140, [8, 8], Tail::FloatSum(8)),
    ];
    for (seed, (inputs, outputs, bits, tail)) in cases.into_iter().enumerate() {
        let mut b = network(seed as u64, [inputs, 33, 31], outputs, window(1, 1, 0), bits, tail);
        b.centre();
        let given = b.inputs();
        check_in_pieces(&b.program, &given);
        for tier in tiers().filter(|&tier| KernelSet::all(tier).has_precompiled(Tier::X86V3)) {
            let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
            assert_eq!(compiled.steps().filter(|s| s.kernel().is_some()).count(), 1, "{tier}");
        }
    }
}

fn tails() -> impl Strategy<Value = Tail> {
    prop_oneof![
        Just(Tail::Codes(2)),
        Just(Tail::Codes(5)),
        Just(Tail::Floats),
        Just(Tail::Shortcut(2)),
        Just(Tail::Shortcut(6)),
        Just(Tail::FloatShortcut),
        Just(Tail::FloatSum(2)),
        Just(Tail::FloatSum(8)),
        (0..Unary::NAMES.len(), 2u8..=8).prop_map(|(number, bits)| Tail::Function(number, bits)),
        (0..Binary::ALL.len(), 2u8..=8).prop_map(|(number, bits)| Tail::Operation(Binary::ALL[number], bits)),
        Just(Tail::Long),
    ]
}

fn widths() -> impl Strategy<Value = [u8; 2]> {
    prop_oneof![4 => Just([2, 2]), 1 => Just([4, 4]), 2 => (2u8..=8, 2u8..=8).prop_map(|(w, a)| [w, a])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(seed: u64, bits in widths(), tail in tails()) {
        let mut b = Builder::new(seed);
        let c = b.rng.size(1, 150);
        let outputs = b.rng.size(1, 200);
        let (h, w) = (b.rng.size(1, 12), b.rng.size(1, 34));
        let mut g = window(1, 1, 0);
        let square = b.rng.range(0, 1) == 0;
        for (i, n) in [h, w].into_iter().enumerate() {
            g.kernel[i] = if square { 3 } else { b.rng.pick(&[1, 1, 3, 4]) };
            g.strides[i] = if square { 1 } else { b.rng.size(1, 3) };
            g.dilations[i] = if square { 1 } else { b.rng.pick(&[1, 1, 2]) };
            let most = if b.rng.range(0, 5) == 0 { 14 } else { 1 };
            g.pads[i] = b.rng.size(0, most);
            g.pads[i + 2] = b.rng.size(0, most);
            let span = (g.kernel[i] - 1) * g.dilations[i] + 1;
            g.pads[i + 2] += span.saturating_sub(n + g.pads[i] + g.pads[i + 2]);
        }
        let mut b = network(seed, [c, h, w], outputs, g, bits, tail);
        match seed % 4 {
            0 => b.centre(),
            2 if bits[0] < 8 => b.centre_either_way(),
            _ => {}
        }
        let inputs = b.inputs();
        check(&b.program, &inputs, 0.0);
    }
}
