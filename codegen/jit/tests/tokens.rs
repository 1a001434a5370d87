//! Layers whose pixels are one sequence, against the executor: fully connected layers over tokens, and windows of one tap on small maps. Tiles
//! of pixels go across the ends of rows, and the last one may be smaller. Also products of the codes of tokens.

mod support;

use catc_jit::{Options, compile};
use catc_kernels::{Execution, KERNELS, Tier};
use catc_program::{Binary, Epilogue, EpilogueStep, Format, Layout, Op, Operand, Program, TensorId, Unary};
use std::collections::BTreeSet;
use support::build::{Builder, codes, window};
use support::{check, check_in_pieces, tiers};

/// Numbers of tokens, from one tile's part to many tiles.
const TOKENS: [usize; 5] = [1, 2, 7, 49, 197];

/// Small maps, with rows shorter and longer than a tile, and maps of one row and of one column.
const MAPS: [[usize; 2]; 6] = [[7, 7], [14, 14], [1, 49], [3, 5], [13, 1], [2, 3]];

fn add(operand: Operand, scale: f32) -> EpilogueStep {
    EpilogueStep::Binary { op: Binary::Add, operand, scale }
}

/// A value of each pixel for all channels, and of each pixel and channel.
fn constants(b: &mut Builder, [outputs, height, width]: [usize; 3]) -> [Operand; 2] {
    [[1, height, width], [outputs, height, width]].map(|dims| Operand::Constant(b.floats(&dims, |r| r.float())))
}

/// Layers of codes over an image: results as codes and floats, added codes, added floats, and added constants.
fn layers(seed: u64, [inputs, height, width]: [usize; 3], outputs: usize, [w, a]: [u8; 2]) -> Builder {
    let mut b = Builder::new(seed);
    let input = b.input(&[inputs, height, width]);
    let format = codes(&mut b.rng, a);
    let x = b.quantize(input, format);
    let relu = EpilogueStep::Unary(Unary::Relu);
    let conv = |b: &mut Builder, x: TensorId, outputs: usize, format: Format, steps: Vec<_>| {
        b.conv(x, outputs, 1, window(1, 1, 0), w, format, steps)
    };
    let plain = conv(&mut b, x, outputs, format, vec![]);
    let added = conv(&mut b, x, outputs, format, vec![add(Operand::Tensor(plain), 0.3), relu]);
    let floats = conv(&mut b, added, outputs, Format::F32, vec![]);
    let sum = conv(&mut b, added, outputs, format, vec![add(Operand::Tensor(floats), 1.0)]);
    let [of_pixels, of_all] = constants(&mut b, [outputs, height, width]);
    let shifted = conv(&mut b, sum, inputs, Format::F32, vec![]);
    let first = conv(&mut b, sum, outputs, format, vec![add(of_pixels, 1.0), add(of_all, 0.5)]);
    let last = conv(&mut b, first, outputs, Format::F32, vec![add(of_all, 1.0)]);
    for tensor in [shifted, last, floats] {
        b.output(tensor);
    }
    b
}

fn chosen(program: &Program, tier: Tier, kernels: &mut BTreeSet<&'static str>) {
    let compiled = compile(program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
    kernels.extend(compiled.steps().flat_map(|s| s.work).filter_map(|work| Some(work.kernel?.name())));
}

/// Every kernel of codes whose tiles are cut from pixels and that this CPU has.
fn kernels_of_codes() -> impl Iterator<Item = &'static str> {
    let tiled = |execution: Execution| match execution {
        Execution::EmittedDot(_) | Execution::EmittedPairs | Execution::SumTiles(_) | Execution::LookupTiles(_) => true,
        Execution::EmittedDepthwise(_) | Execution::Winograd(_) | Execution::DepthwiseRows(_) => false,
    };
    let of_codes = KERNELS.iter().filter(move |k| tiled(k.execution()) && *k.info().weight_bits.end() <= 8);
    of_codes.filter(|k| k.info().tiers().any(Tier::is_available)).map(|k| k.name())
}

#[test]
fn layers_over_tokens_equal_the_executor() {
    let mut kernels = BTreeSet::new();
    for (seed, tokens) in TOKENS.into_iter().enumerate() {
        for bits in [[2, 2], [4, 4], [8, 8]] {
            let mut b = layers(seed as u64, [70, tokens, 1], 90, bits);
            b.centre();
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
            check_in_pieces(&b.program, &inputs);
            tiers().for_each(|tier| chosen(&b.program, tier, &mut kernels));
        }
    }
    #[cfg(target_arch = "x86_64")]
    for family in ["dot-madd16", "dot-maddubs", "pairs-128", "dot-madd16-256", "dot-maddubs-256", "pairs-256"] {
        let available = kernels_of_codes().any(|name| name == family);
        assert!(!available || kernels.contains(family), "{family} is not among {kernels:?}");
    }
    assert!(!kernels.is_empty());
}

#[test]
fn small_maps_equal_the_executor() {
    for (seed, [height, width]) in MAPS.into_iter().enumerate() {
        for bits in [[2, 2], [3, 6], [8, 8]] {
            let mut b = layers(seed as u64, [33, height, width], 75, bits);
            b.centre();
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
            check_in_pieces(&b.program, &inputs);
        }
    }
}

/// Odd channels, whose row offsets leave half a byte, and channels that fill no vector.
#[test]
fn channels_that_fill_no_vector() {
    for (inputs, outputs) in [(5, 3), (1, 17), (31, 33), (130, 65)] {
        for bits in [[2, 2], [5, 8]] {
            let mut b = layers(inputs as u64, [inputs, 23, 1], outputs, bits);
            b.centre();
            let given = b.inputs();
            check(&b.program, &given, 0.0);
        }
    }
}

#[test]
fn floats_equal_the_executor() {
    let tokens = TOKENS.map(|tokens| [tokens, 1]);
    for (seed, [height, width]) in tokens.into_iter().chain(MAPS).enumerate() {
        let mut b = Builder::new(seed as u64);
        let input = b.input(&[40, height, width]);
        let x = b.image(Format::F32, &[40, height, width]);
        b.step(Op::Map { scale: 1.5 }, &[input], Epilogue::default(), x);
        let [of_pixels, of_all] = constants(&mut b, [50, height, width]);
        let mut before = None;
        for steps in [vec![], vec![add(of_all, 1.0)], vec![add(of_pixels, 1.0)]] {
            let weights = b.floats(&[50, 40, 1, 1], |r| r.float());
            let bias = b.floats(&[50], |r| r.float());
            let y = b.image(Format::F32, &[50, height, width]);
            let op = Op::FloatConv { geometry: window(1, 1, 0), groups: 1, weights, bias };
            let steps = before.map(|t| add(Operand::Tensor(t), 0.5)).into_iter().chain(steps).collect();
            b.step(op, &[x], Epilogue { steps, requantize: None }, y);
            before = Some(y);
        }
        before.into_iter().for_each(|y| b.output(y));
        let inputs = b.inputs();
        check(&b.program, &inputs, 1e-5);
    }
}

/// A padded layer gives the map a halo: between the rows, so that only a map of one column stays a sequence.
#[test]
fn a_halo_between_pixels_is_stepped_over() {
    for (seed, [height, width]) in [[23, 1], [7, 7]].into_iter().enumerate() {
        for bits in [[2, 2], [8, 8]] {
            let mut b = Builder::new(seed as u64);
            let input = b.input(&[30, height, width]);
            let format = codes(&mut b.rng, bits[1]);
            let x = b.quantize(input, format);
            let padded = b.conv(x, 40, 1, window(3, 1, 1), bits[0], Format::F32, vec![]);
            let x = b.conv(x, 30, 1, window(1, 1, 0), bits[0], format, vec![add(Operand::Tensor(x), 0.3)]);
            let again = b.conv(x, 40, 1, window(3, 1, 1), bits[0], Format::F32, vec![]);
            let y = b.conv(x, 40, 1, window(1, 1, 0), bits[0], Format::F32, vec![add(Operand::Tensor(padded), 1.0)]);
            b.output(again);
            b.output(y);
            b.centre();
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
            check_in_pieces(&b.program, &inputs);
        }
    }
}

/// Large floats of a sequence that the next layer only adds are made and read some work units at a time.
#[test]
fn floats_of_tokens_that_are_only_added_stay_in_bands() {
    let mut b = Builder::new(3);
    let input = b.input(&[24, 1001, 1]);
    let format = codes(&mut b.rng, 8);
    let x = b.quantize(input, format);
    let floats = b.conv(x, 140, 1, window(1, 1, 0), 8, Format::F32, vec![]);
    let y = b.conv(x, 140, 1, window(1, 1, 0), 8, format, vec![add(Operand::Tensor(floats), 1.0)]);
    b.output(y);
    let inputs = b.inputs();
    check(&b.program, &inputs, 0.0);
    check_in_pieces(&b.program, &inputs);
    for tier in tiers().filter(|&tier| tier >= Tier::X86V3 && tier.has_precompiled_kernels()) {
        let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
        assert_eq!(compiled.steps().filter(|s| s.kernel().is_some()).count(), 1, "{tier}");
    }
}

/// Tiles have several pixels from four tokens on.
#[test]
fn tiles_have_several_pixels() {
    for tokens in [4, 5, 7, 49, 197] {
        for bits in [[2, 2], [4, 4], [8, 8]] {
            let b = layers(1, [256, tokens, 1], 256, bits);
            for tier in tiers() {
                let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
                let mut tiles = 0;
                for work in compiled.steps().flat_map(|s| s.work) {
                    let Some((pixels, _)) = work.tile else { continue };
                    assert!(pixels > 1, "{tier}: {:?} has tiles of one pixel of {tokens}", work.kernel);
                    tiles += 1;
                }
                // Emitted kernels do not report their tiles.
                assert!(tiles > 0 || !tier.has_precompiled_kernels() || tier < Tier::X86V3, "{tier}");
            }
        }
    }
}

/// Products of codes, with rows and columns that fill no tile, odd numbers of terms, and leading dimensions of several kinds.
#[test]
fn products_of_codes_equal_the_executor() {
    let shapes: [(&[usize], [usize; 3]); 7] = [
        (&[3], [49, 16, 49]),
        (&[3], [50, 49, 16]),
        (&[2, 3], [7, 5, 33]),
        (&[1], [4, 1, 8]),
        (&[2], [3, 9, 40]),
        (&[2], [9, 9, 7]),
        (&[], [20, 30, 40]),
    ];
    for (seed, (leading, [rows, terms, columns])) in shapes.into_iter().enumerate() {
        for bits in [2, 5, 8] {
            let mut b = Builder::new(seed as u64);
            let dims = |last: [usize; 2]| [leading, last.as_slice()].concat();
            let (left, right) = (b.input(&dims([rows, terms])), b.input(&dims([terms, columns])));
            let (left_codes, right_codes) = (codes(&mut b.rng, bits), codes(&mut b.rng, bits));
            let (x, y) = (b.quantize_rows(left, left_codes), b.quantize_rows(right, right_codes));
            let product = |b: &mut Builder, format: Format, steps: Vec<_>| {
                let to = b.tensor(format, &dims([rows, columns]), Layout::RowMajor);
                let requantize = (format != Format::F32).then_some(1.7);
                b.step(Op::MatMul { scale: -0.01 }, &[x, y], Epilogue { steps, requantize }, to);
                to
            };
            let codes = product(&mut b, left_codes, vec![]);
            let mask = Operand::Constant(b.floats(&[1, columns], |r| r.float()));
            let of_rows = Operand::Constant(b.floats(&[rows, 1], |r| r.float()));
            let masked = product(&mut b, Format::F32, vec![add(Operand::Tensor(codes), 0.3), add(mask, 1.0)]);
            let both = product(&mut b, right_codes, vec![add(Operand::Tensor(masked), 1.0), add(of_rows, 1.0)]);
            b.output(masked);
            b.output(both);
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
            check_in_pieces(&b.program, &inputs);
            let tiled = !leading.is_empty() && rows >= 4 && columns >= 8;
            for tier in tiers().filter(|&tier| tier >= Tier::X86V3 && tier.has_precompiled_kernels()) {
                let compiled = compile(&b.program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
                let mut products = compiled.steps().filter(|step| step.op == "matmul");
                assert!(products.all(|step| step.kernel().is_some() == tiled), "{tier}: {leading:?} {rows} {columns}");
            }
        }
    }
}
