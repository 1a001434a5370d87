//! Every step other than integer convolutions against the executor, in random shapes.

mod support;

use catc_program::*;
use proptest::prelude::*;
use support::build::{Builder, codes, output_size, window};
use support::{Rng, check};

/// The layer's input as floats or as codes of random width, channels last where the rank allows.
fn source(b: &mut Builder, dims: &[usize], float: bool) -> TensorId {
    let input = b.input(dims);
    if float {
        let to = b.image(Format::F32, dims);
        b.step(Op::Map { scale: 2.0 }, &[input], Epilogue::default(), to);
        return to;
    }
    let bits = b.rng.pick(&[2, 3, 4, 8]);
    let format = codes(&mut b.rng, bits);
    b.quantize(input, format)
}

/// The layer's input as small whole numbers: with weights and biases that are multiples of a quarter, sums are exact in any order.
fn whole_numbers(b: &mut Builder, dims: &[usize]) -> TensorId {
    let input = b.input(dims);
    let to = b.image(Format::F32, dims);
    let epilogue = Epilogue { steps: vec![EpilogueStep::Unary(Unary::Round)], requantize: None };
    b.step(Op::Map { scale: 3.0 }, &[input], epilogue, to);
    to
}

/// An epilogue with a few steps of all kinds for an output of `dims`; operands come from new inputs and constants.
fn epilogue(b: &mut Builder, dims: &[usize], format: Format) -> Epilogue {
    let mut steps = vec![];
    for _ in 0..b.rng.size(0, 3) {
        let function = match b.rng.size(0, 8) {
            0 => Unary::Relu,
            1 => Unary::LeakyRelu { alpha: 0.1 },
            2 => Unary::Clip { min: -0.3, max: 0.7 },
            3 => Unary::Sigmoid,
            4 => Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            5 => Unary::HardSwish,
            8 => b.rng.pick(&[
                Unary::Exp,
                Unary::Log,
                Unary::Sqrt,
                Unary::Tanh,
                Unary::Erf,
                Unary::Gelu,
                Unary::Abs,
                Unary::Floor,
                Unary::Ceil,
                Unary::Round,
                Unary::Softplus,
                Unary::Silu,
                Unary::GeluTanh,
                Unary::Mish,
                Unary::Softsign,
                Unary::Elu { alpha: 0.7 },
                Unary::Selu { alpha: 1.6, gamma: 1.05 },
                Unary::Celu { alpha: 0.7 },
            ]),
            6 => {
                steps.push(EpilogueStep::Scale(0.7));
                continue;
            }
            _ => {
                let op = b.rng.pick(&[Binary::Add, Binary::Sub, Binary::Mul, Binary::Div]);
                let mut own: Vec<usize> = dims.iter().map(|&d| if b.rng.range(0, 2) == 0 { 1 } else { d }).collect();
                let missing = b.rng.size(0, own.len());
                if b.rng.range(0, 2) == 0 {
                    own.drain(..missing);
                }
                let scale = b.rng.pick(&[1.0, 0.5]);
                let operand = if b.rng.range(0, 1) == 0 {
                    Operand::Constant(b.floats(&own, |r| 1.5 + r.float()))
                } else {
                    let float = b.rng.range(0, 1) == 0;
                    Operand::Tensor(source(b, &own, float))
                };
                steps.push(EpilogueStep::Binary { op, operand, scale });
                continue;
            }
        };
        steps.push(EpilogueStep::Unary(function));
    }
    let requantize = match format {
        Format::Codes { bits, .. } => Some((1 << bits) as f32 * 0.5),
        _ => None,
    };
    Epilogue { steps, requantize }
}

fn any_format(b: &mut Builder) -> Format {
    match b.rng.size(0, 3) {
        0 => Format::F32,
        _ => {
            let bits = b.rng.pick(&[2, 2, 4, 8]);
            codes(&mut b.rng, bits)
        }
    }
}

fn finish(mut b: Builder, y: TensorId, tolerance: f32) {
    b.output(y);
    let inputs = b.inputs();
    check(&b.program, &inputs, tolerance);
}

/// Applies one step with an epilogue to give a tensor of `dims`, then makes it the output.
fn with_epilogue(mut b: Builder, op: Op, inputs: &[TensorId], dims: &[usize], layout: Layout, tolerance: f32) {
    let format = if tolerance > 0.0 { Format::F32 } else { any_format(&mut b) };
    let mut epilogue = epilogue(&mut b, dims, format);
    if tolerance > 0.0 {
        // What makes large differences of last bits stays with sums that are exact.
        use Unary::{Ceil, Exp, Floor, Log, Round, Sqrt};
        let amplifies = |s: &EpilogueStep| match s {
            EpilogueStep::Unary(a) => matches!(a, Ceil | Exp | Floor | Log | Round | Sqrt),
            EpilogueStep::Binary { op, .. } => matches!(op, Binary::Mul | Binary::Div),
            EpilogueStep::Scale(_) => false,
        };
        epilogue.steps.retain(|s| !amplifies(s));
    }
    let to = b.tensor(format, dims, layout);
    b.step(op, inputs, epilogue, to);
    finish(b, to, tolerance);
}

fn layout_for(b: &mut Builder, rank: usize) -> Layout {
    if rank == 3 { b.rng.pick(&[Layout::RowMajor, Layout::ChannelsLast]) } else { Layout::RowMajor }
}

fn dims(b: &mut Builder, rank: usize) -> Vec<usize> {
    (0..rank).map(|_| b.rng.size(1, 9)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn map(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(0, 4);
        let d = if rank == 3 { vec![b.rng.size(1, 40), b.rng.size(1, 5), b.rng.size(1, 20)] } else { dims(&mut b, rank) };
        let float = b.rng.range(0, 1) == 0;
        let x = source(&mut b, &d, float);
        let layout = layout_for(&mut b, rank);
        with_epilogue(b, Op::Map { scale: 0.5 }, &[x], &d, layout, 0.0);
    }

    #[test]
    fn constant(seed: u64) {
        let mut b = Builder::new(seed);
        let d = dims(&mut b, 3);
        b.input(&[1]);
        let constant = b.floats(&[d[1], 1], |r| r.float());
        let layout = layout_for(&mut b, 3);
        with_epilogue(b, Op::Constant { constant }, &[], &d, layout, 0.0);
    }

    #[test]
    fn float_convolution(seed: u64) {
        let mut b = Builder::new(seed);
        let groups = b.rng.pick(&[1, 1, 2, 5]);
        let depthwise = b.rng.range(0, 2) == 0;
        let c = if depthwise { groups } else { groups * b.rng.size(1, 9) };
        let outputs = if depthwise { groups } else { groups * b.rng.size(1, 9) };
        let (h, w) = (b.rng.size(1, 9), b.rng.size(1, 9));
        let geometry = random_window(&mut b, h, w);
        // Where sums are exact every bit counts, behind any epilogue.
        let exact = b.rng.range(0, 1) == 0;
        let x = if exact { whole_numbers(&mut b, &[c, h, w]) } else { source(&mut b, &[c, h, w], true) };
        let value = |r: &mut Rng| if exact { (r.float() * 4.0).round() / 4.0 } else { r.float() };
        let kernel = geometry.kernel;
        let weights = b.floats(&[outputs, c / groups, kernel[0], kernel[1]], value);
        let bias = b.floats(&[outputs], value);
        let [oh, ow] = output_size(&geometry, h, w);
        let op = Op::FloatConv { geometry, groups, weights, bias };
        with_epilogue(b, op, &[x], &[outputs, oh, ow], Layout::ChannelsLast, if exact { 0.0 } else { 1e-5 });
    }

    #[test]
    fn float_linear(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 3);
        let mut d = dims(&mut b, rank);
        let k = b.rng.size(1, 40);
        d[rank - 1] = k;
        let x = b.input(&d);
        let o = b.rng.size(1, 30);
        let weights = if b.rng.range(0, 1) == 0 { b.floats(&[o, k], |r| r.float()) } else { b.weights(&[o, k], 8) };
        let bias = b.floats(&[o], |r| r.float());
        d[rank - 1] = o;
        with_epilogue(b, Op::FloatLinear { weights, bias }, &[x], &d, Layout::RowMajor, 0.0);
    }

    #[test]
    fn matrix_product(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(0, 2);
        let lead = dims(&mut b, rank);
        let (m, k, p) = (b.rng.size(1, 6), b.rng.size(1, 20), b.rng.size(1, 24));
        let x = b.input(&[lead.as_slice(), &[m, k]].concat());
        let y = b.input(&[lead.as_slice(), &[k, p]].concat());
        with_epilogue(b, Op::MatMul { scale: 1.0 }, &[x, y], &[lead.as_slice(), &[m, p]].concat(), Layout::RowMajor, 0.0);
    }

    #[test]
    fn matrix_product_of_codes(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(0, 2);
        let lead = dims(&mut b, rank);
        let (m, k, p) = (b.rng.size(1, 6), b.rng.size(1, 20), b.rng.size(1, 40));
        let rows = |b: &mut Builder, matrix: [usize; 2]| {
            let input = b.input(&[lead.as_slice(), &matrix].concat());
            let bits = b.rng.pick(&[2, 3, 4, 8]);
            let format = codes(&mut b.rng, bits);
            b.quantize_rows(input, format)
        };
        let (x, y) = (rows(&mut b, [m, k]), rows(&mut b, [k, p]));
        let out = [lead.as_slice(), &[m, p]].concat();
        with_epilogue(b, Op::MatMul { scale: 0.3 }, &[x, y], &out, Layout::RowMajor, 0.0);
    }

    #[test]
    fn pools(seed: u64) {
        let mut b = Builder::new(seed);
        let (c, h, w) = (b.rng.size(1, 90), b.rng.size(1, 10), b.rng.size(1, 10));
        let float = b.rng.range(0, 2) == 0;
        let x = source(&mut b, &[c, h, w], float);
        let mut geometry = random_window(&mut b, h, w);
        for i in 0..2 {
            // Every window must cover an element.
            geometry.pads[i] = geometry.pads[i].min((geometry.kernel[i] - 1) * geometry.dilations[i]);
            geometry.pads[i + 2] = geometry.pads[i + 2].min((geometry.kernel[i] - 1) * geometry.dilations[i]);
        }
        let span = |i: usize| (geometry.kernel[i] - 1) * geometry.dilations[i] + 1;
        prop_assume!(span(0) <= h + geometry.pads[0] + geometry.pads[2] && span(1) <= w + geometry.pads[1] + geometry.pads[3]);
        let [oh, ow] = output_size(&geometry, h, w);
        if b.rng.range(0, 1) == 0 {
            let to = b.image(b.program.tensor(x).format, &[c, oh, ow]);
            b.step(Op::MaxPool { geometry }, &[x], Epilogue::default(), to);
            prop_assume!(b.program_is_sound());
            finish(b, to, 0.0);
        } else {
            let op = Op::AvgPool { geometry, count_include_pad: b.rng.range(0, 1) == 0, scale: 0.3 };
            let to = b.image(Format::F32, &[c, oh, ow]);
            b.step(op.clone(), &[x], Epilogue::default(), to);
            prop_assume!(b.program_is_sound());
            b.undo();
            with_epilogue(b, op, &[x], &[c, oh, ow], Layout::ChannelsLast, 0.0);
        }
    }

    #[test]
    fn means(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 4);
        let d = if rank == 3 { vec![b.rng.size(1, 40), b.rng.size(1, 6), b.rng.size(1, 6)] } else { dims(&mut b, rank) };
        let float = b.rng.range(0, 1) == 0;
        let x = source(&mut b, &d, float);
        let mut axes: Vec<usize> = (0..rank).filter(|_| b.rng.range(0, 1) == 0).collect();
        if axes.is_empty() {
            axes.push(b.rng.size(0, rank - 1));
        }
        let keep = b.rng.range(0, 1) == 0;
        let out: Vec<usize> = (0..rank)
            .filter_map(|i| if axes.contains(&i) { keep.then_some(1) } else { Some(d[i]) })
            .collect();
        let layout = layout_for(&mut b, out.len());
        with_epilogue(b, Op::Mean { axes, scale: 0.2 }, &[x], &out, layout, 0.0);
    }

    #[test]
    fn moving(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 4);
        let d = dims(&mut b, rank);
        let float = b.rng.range(0, 2) == 0;
        let x = source(&mut b, &d, float);
        let decl = b.program.tensor(x).clone();
        let mut out = d.clone();
        let axis = b.rng.size(0, rank - 1);
        let mut inputs = vec![x];
        let op = match b.rng.size(0, 4) {
            0 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    perm.swap(i, b.rng.size(0, i));
                }
                out = perm.iter().map(|&i| d[i]).collect();
                Op::Transpose { perm }
            }
            1 => {
                let before: Vec<usize> = d.iter().map(|_| b.rng.size(0, 3)).collect();
                out = d.iter().zip(&before).map(|(n, p)| n + p + b.rng.size(0, 3)).collect();
                Op::Pad { before, value: if float { 0.25 } else { 0.0 } }
            }
            2 => {
                let start = b.rng.size(0, d[axis] - 1);
                let step = b.rng.size(1, 3);
                out[axis] = b.rng.size(1, (d[axis] - 1 - start) / step + 1);
                Op::Slice { axis, start, step }
            }
            3 => {
                let indices: Vec<usize> = (0..b.rng.size(1, 40)).map(|_| b.rng.size(0, d[axis] - 1)).collect();
                out[axis] = indices.len();
                Op::Pick { axis, indices }
            }
            _ => {
                for _ in 0..b.rng.size(0, 2) {
                    let mut part = d.clone();
                    part[axis] = b.rng.size(1, 20);
                    out[axis] += part[axis];
                    let input = b.input(&part);
                    let to = b.tensor(decl.format, &part, decl.layout);
                    let requantize = (!float).then_some(2.0);
                    b.step(Op::Map { scale: 1.0 }, &[input], Epilogue { steps: vec![], requantize }, to);
                    inputs.push(to);
                }
                Op::Concat { axis }
            }
        };
        let to = b.tensor(decl.format, &out, decl.layout);
        b.step(op, &inputs, Epilogue::default(), to);
        finish(b, to, 0.0);
    }

    #[test]
    fn interpolation(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 4);
        let d = if rank == 3 { vec![b.rng.size(1, 40), b.rng.size(1, 6), b.rng.size(1, 6)] } else { dims(&mut b, rank) };
        let float = b.rng.range(0, 1) == 0;
        let x = source(&mut b, &d, float);
        let axis = b.rng.size(0, rank - 1);
        // Up to four taps are written out, and more are a loop.
        let (size, taps) = (b.rng.size(1, 12), b.rng.size(1, 7));
        let indices = (0..size * taps).map(|_| b.rng.size(0, d[axis] - 1)).collect();
        let weights = b.floats(&[size, taps], |r| r.float());
        let mut out = d.clone();
        out[axis] = size;
        let layout = layout_for(&mut b, rank);
        let scale = b.rng.pick(&[1.0, 0.3]);
        with_epilogue(b, Op::Interpolate { axis, indices, weights, scale }, &[x], &out, layout, 0.0);
    }

    #[test]
    fn views(seed: u64) {
        let mut b = Builder::new(seed);
        let d = [b.rng.size(1, 9), b.rng.size(1, 4), b.rng.size(1, 4)];
        let float = b.rng.range(0, 2) == 0;
        let x = source(&mut b, &d, float);
        let format = b.program.tensor(x).format;
        let y = b.tensor(format, &[d[0] * d[1] * d[2]], Layout::RowMajor);
        b.step(Op::View, &[x], Epilogue::default(), y);
        let z = b.tensor(format, &[d[2], d[0], d[1]], Layout::ChannelsLast);
        b.step(Op::View, &[y], Epilogue::default(), z);
        finish(b, z, 0.0);
    }

    #[test]
    fn softmax(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 4);
        let mut d = dims(&mut b, rank);
        let axis = b.rng.size(0, rank - 1);
        d[axis] = b.rng.size(1, 30);
        let x = source(&mut b, &d, true);
        let wide = b.image(Format::F32, &d);
        b.step(Op::Map { scale: 30.0 }, &[x], Epilogue::default(), wide);
        let to = b.image(Format::F32, &d);
        b.step(Op::Softmax { axis }, &[wide], Epilogue::default(), to);
        finish(b, to, 0.0);
    }

    #[test]
    fn softmax_before_a_padded_convolution(seed: u64) {
        let mut b = Builder::new(seed);
        let d = dims(&mut b, 3);
        let axis = b.rng.size(0, 2);
        let x = source(&mut b, &d, true);
        let soft = b.tensor(Format::F32, &d, Layout::ChannelsLast);
        b.step(Op::Softmax { axis }, &[x], Epilogue::default(), soft);
        let outputs = b.rng.size(1, 9);
        let weights = b.floats(&[outputs, d[0], 3, 3], Rng::float);
        let bias = b.floats(&[outputs], Rng::float);
        let to = b.tensor(Format::F32, &[outputs, d[1], d[2]], Layout::ChannelsLast);
        let op = Op::FloatConv { geometry: window(3, 1, 1), groups: 1, weights, bias };
        b.step(op, &[soft], Epilogue::default(), to);
        finish(b, to, 1e-5);
    }

    #[test]
    fn cat_tail(seed: u64) {
        let mut b = Builder::new(seed);
        let (classes, clusters) = (b.rng.size(1, 30), b.rng.size(1, 12));
        let x = b.input(&[classes]);
        let centroids = b.floats(&[clusters, classes], |r| r.float());
        let distances = b.tensor(Format::F32, &[clusters], Layout::RowMajor);
        b.step(Op::SquaredDistance { centroids }, &[x], Epilogue::default(), distances);
        let index = b.tensor(Format::Index, &[], Layout::RowMajor);
        b.step(Op::ArgMin { axis: 0 }, &[distances], Epilogue::default(), index);
        let table = b.floats(&[clusters, classes], |r| r.float());
        let row = b.tensor(Format::F32, &[classes], Layout::RowMajor);
        b.step(Op::GatherRow { table }, &[index], Epilogue::default(), row);
        let op = Binary::Mul;
        let steps = vec![EpilogueStep::Binary { op, operand: Operand::Tensor(row), scale: 1.0 }];
        let to = b.tensor(Format::F32, &[classes], Layout::RowMajor);
        b.step(Op::Map { scale: 1.0 }, &[x], Epilogue { steps, requantize: None }, to);
        finish(b, to, 0.0);
    }

    #[test]
    fn rows_of_a_table(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 3);
        let d = dims(&mut b, rank);
        let axis = b.rng.size(0, rank - 1);
        let x = b.input(&d);
        let mut out = d.clone();
        out.remove(axis);
        let index = b.tensor(Format::Index, &out, Layout::RowMajor);
        b.step(Op::ArgMin { axis }, &[x], Epilogue::default(), index);
        let own: Vec<usize> = (0..b.rng.size(0, 2)).map(|_| b.rng.size(1, 9)).collect();
        let table = b.floats(&[&[d[axis]], &own[..]].concat(), |r| r.float());
        let rows = b.tensor(Format::F32, &[out, own].concat(), Layout::RowMajor);
        b.step(Op::GatherRow { table }, &[index], Epilogue::default(), rows);
        b.output(index);
        finish(b, rows, 0.0);
    }

    #[test]
    fn argmin(seed: u64) {
        let mut b = Builder::new(seed);
        let rank = b.rng.size(1, 3);
        let d = dims(&mut b, rank);
        let axis = b.rng.size(0, rank - 1);
        let x = b.input(&d);
        let mut out = d.clone();
        out.remove(axis);
        let index = b.tensor(Format::Index, &out, Layout::RowMajor);
        b.step(Op::ArgMin { axis }, &[x], Epilogue::default(), index);
        b.program.outputs.push(Port::new("index", index));
        let mut inputs = b.inputs();
        // Ties.
        inputs[0].iter_mut().for_each(|x| *x = (*x * 3.0).round());
        let expected = support::reference::run_all(&b.program, &inputs);
        let Some(support::reference::Data::Index(expected)) = &expected[index.0 as usize] else { panic!() };
        let compiled = catc_jit::compile(&b.program, &catc_jit::Options::default()).unwrap();
        let mut found = vec![-1; expected.len()];
        compiled
            .run(
                &[catc_jit::Input::F32(&inputs[0])],
                &mut [catc_jit::OutputMut::Index(&mut found)],
                &mut compiled.workspace(1).unwrap(),
            )
            .unwrap();
        prop_assert_eq!(&found, expected);
    }
}

/// A window that fits an image, with pads up to beyond its size.
fn random_window(b: &mut Builder, h: usize, w: usize) -> Geometry {
    let mut g = window(1, 1, 0);
    for (i, n) in [h, w].into_iter().enumerate() {
        g.kernel[i] = b.rng.pick(&[1, 1, 2, 3, 3, 5]);
        g.strides[i] = b.rng.size(1, 3);
        g.dilations[i] = b.rng.pick(&[1, 1, 1, 2, 3]);
        g.pads[i] = b.rng.size(0, 3);
        g.pads[i + 2] = b.rng.size(0, 3);
        let span = (g.kernel[i] - 1) * g.dilations[i] + 1;
        g.pads[i + 2] += span.saturating_sub(n + g.pads[i] + g.pads[i + 2]);
    }
    g
}
