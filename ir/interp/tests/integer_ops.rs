//! Fused nodes against direct i64 sums and one f32 operation at a time, bit for bit; the f32 operations of the integer phase
//! against the four lanes written out; quantize and dequantize against the quantizer itself.

mod naive;

use catc_interp::{Evaluator, Interpreter};
use catc_ir::ops::*;
use catc_ir::quantizer::round_to_code;
use catc_ir::{Element, Graph, Op, Phase, QFormat, Quantizer, Shape, Tensor, TensorType};
use catc_scalar::functions::Exp;
use catc_scalar::{Binary, UnaryFunction};
use naive::{Axis, convolve, integers, reals, run_op};
use proptest::prelude::*;

fn format() -> impl Strategy<Value = QFormat> {
    (any::<bool>(), 2u8..=8).prop_map(|(signed, bits)| QFormat::new(signed, bits).unwrap())
}

/// A per-tensor quantizer whose zero-point is the `z`-th code of its format.
fn quantizer(format: QFormat, scale: f32, z: usize) -> Quantizer {
    let span = (format.max() - format.min() + 1) as usize;
    Quantizer::per_tensor(format, scale, format.min() + (z % span) as i32)
}

fn codes(seed: u64, shape: &[usize], f: QFormat) -> Tensor {
    Tensor::codes(shape, integers(seed, shape.iter().product(), f.min(), f.max()))
}

/// A graph with one fused node; `inputs` are graph inputs, or constants where the body wants them.
struct Case {
    graph: Graph,
    operands: Vec<catc_ir::Operand>,
    given: Vec<Tensor>,
}

impl Case {
    fn new() -> Self {
        let mut graph = Graph::new("fused");
        graph.phase = Phase::Integer;
        Case { graph, operands: vec![], given: vec![] }
    }

    fn codes(&mut self, t: &Tensor, q: &Quantizer) {
        let id = self.graph.add_quantizer(q.clone());
        let ty = TensorType::new(Element::Code(id), Shape::fixed(t.shape()));
        self.operands.push(self.graph.add_input(format!("x{}", self.given.len()), ty).into());
        self.given.push(t.clone());
    }

    fn f32(&mut self, t: &Tensor) {
        let ty = TensorType::f32(Shape::fixed(t.shape()));
        self.operands.push(self.graph.add_input(format!("x{}", self.given.len()), ty).into());
        self.given.push(t.clone());
    }

    fn weights(&mut self, t: &Tensor, q: &Quantizer, multiplier: &Tensor, bias: &Tensor) {
        let id = self.graph.add_quantizer(q.clone());
        self.operands.push(self.graph.add_codes(t.clone(), id).into());
        self.operands.push(self.graph.add_constant(multiplier.clone()).into());
        self.operands.push(self.graph.add_constant(bias.clone()).into());
    }

    /// The output of a node without an epilogue.
    fn run(self, body: Body) -> Tensor {
        self.run_with(body, Epilogue::default(), None)
    }

    fn run_with(mut self, body: Body, epilogue: Epilogue, output: Option<&Quantizer>) -> Tensor {
        let output = output.map(|q| self.graph.add_quantizer(q.clone()));
        let node = Fused { body, epilogue, output };
        let y = self.graph.append(Op::Fused(node), self.operands, "").unwrap();
        self.graph.add_output("y", y);
        Interpreter::new(&self.graph).unwrap().run(&self.given).unwrap().remove(0)
    }
}

/// The f32 value of one output element, each step rounded on its own.
fn affine(sum: i64, multiplier: f32, bias: f32) -> f32 {
    assert!(i32::try_from(sum).is_ok());
    let product = sum as f32 * multiplier;
    product + bias
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn fused_conv2d(
        (kernel, stride, pads, dilation) in (1usize..4, 1usize..3, (0usize..3, 0usize..3), 1usize..3),
        (h, w) in (5usize..9, 5usize..9),
        (groups, ci, co) in (1usize..4, prop_oneof![Just(1usize), 2usize..6, Just(97usize)], 1usize..4),
        (fx, fw, fy) in (format(), format(), format()),
        (zx, zw, zy, per_channel) in (any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()),
        relu: bool,
    ) {
        let y = Axis { input: h, kernel, stride, before: pads.0, after: pads.1, dilation };
        let x = Axis { input: w, kernel, stride, before: pads.1, after: pads.0, dilation };
        prop_assume!((kernel - 1) * dilation < h.min(w) + pads.0 + pads.1);
        let (c, o) = (groups * ci, groups * co);
        let qx = quantizer(fx, 0.1, zx as usize);
        let qw = if per_channel {
            let z = (0..o).map(|i| quantizer(fw, 1.0, zw as usize + 3 * i).zero_point[0]).collect();
            Quantizer::per_axis(fw, 0, vec![0.5; o], z)
        } else {
            quantizer(fw, 0.5, zw as usize)
        };
        let (data, weights) = (codes(1, &[2, c, h, w], fx), codes(2, &[o, ci, kernel, kernel], fw));
        let (multiplier, bias) = (reals(3, &[o]), reals(4, &[o]));
        let (xs, ws) = (data.as_codes().unwrap(), weights.as_codes().unwrap());
        let per_output = ci * kernel * kernel;
        let sums = convolve(2, c, o, groups, y, x, |i, j| {
            let zero = qw.zero_point[if per_channel { j / per_output } else { 0 }];
            i64::from(i32::from(xs[i]) - qx.zero_point[0]) * i64::from(i32::from(ws[j]) - zero)
        });
        let positions = y.output() * x.output();
        let mut expected: Vec<f32> = (sums.iter().enumerate())
            .map(|(i, &s)| {
                let k = i / positions % o;
                affine(s, multiplier.as_f32().unwrap()[k], bias.as_f32().unwrap()[k])
            })
            .collect();
        let mut steps = vec![];
        if relu {
            expected.iter_mut().for_each(|t| *t = t.max(0.0));
            steps.push(EpilogueStep::Unary(Unary::Relu));
        }
        let conv = Conv2d {
            strides: [stride; 2],
            pads: [y.before, x.before, y.after, x.after],
            dilations: [dilation; 2],
            groups,
        };
        let case = || {
            let mut case = Case::new();
            case.codes(&data, &qx);
            case.weights(&weights, &qw, &multiplier, &bias);
            case
        };
        let epilogue = Epilogue { steps, end: EpilogueEnd::Real };
        let found = case().run_with(Body::Conv2d(conv.clone()), epilogue.clone(), None);
        prop_assert_eq!(found.as_f32().unwrap(), &expected[..]);

        // Scales that reach the full range of codes.
        let top = expected.iter().fold(1e-3f32, |m, t| m.max(t.abs()));
        let qy = quantizer(fy, top / (fy.max() - fy.min()) as f32, zy as usize);
        let epilogue = Epilogue { end: EpilogueEnd::Requantize, ..epilogue };
        let reciprocal = 1.0 / qy.scale[0];
        let wanted: Vec<i16> =
            expected.iter().map(|t| round_to_code(t * reciprocal, qy.zero_point[0], fy) as i16).collect();
        let found = case().run_with(Body::Conv2d(conv), epilogue, Some(&qy));
        prop_assert_eq!(found.as_codes().unwrap(), &wanted[..]);
    }

    #[test]
    fn fused_linear((rows, k, o) in (1usize..4, prop_oneof![1usize..40, 500usize..1500], 1usize..6), (fx, fw) in (format(), format()), z: u8) {
        let (qx, qw) = (quantizer(fx, 0.1, z as usize), quantizer(fw, 0.5, 2 * z as usize));
        let (data, weights) = (codes(5, &[rows, k], fx), codes(6, &[o, k], fw));
        let (multiplier, bias) = (reals(7, &[o]), reals(8, &[o]));
        let at = |t: &Tensor, q: &Quantizer, i: usize| i64::from(i32::from(t.as_codes().unwrap()[i]) - q.zero_point[0]);
        let expected: Vec<f32> = (0..rows * o)
            .map(|i| {
                let sum = (0..k).map(|e| at(&data, &qx, i / o * k + e) * at(&weights, &qw, i % o * k + e)).sum();
                affine(sum, multiplier.as_f32().unwrap()[i % o], bias.as_f32().unwrap()[i % o])
            })
            .collect();
        let mut case = Case::new();
        case.codes(&data, &qx);
        case.weights(&weights, &qw, &multiplier, &bias);
        let found = case.run(Body::Linear);
        prop_assert_eq!(found.as_f32().unwrap(), &expected[..]);
    }

    #[test]
    fn fused_pool_and_mean(
        (kernel, stride, pad, ceil_mode, include_pad) in (1usize..4, 1usize..3, 0usize..2, any::<bool>(), any::<bool>()),
        (h, w) in (3usize..7, 3usize..7),
        (f, z) in (format(), any::<u8>()),
    ) {
        let q = quantizer(f, 0.3, z as usize);
        let x = codes(9, &[2, 3, h, w], f);
        let xs: Vec<i64> = x.as_codes().unwrap().iter().map(|&c| i64::from(i32::from(c) - q.zero_point[0])).collect();
        let window = Window { kernel: [kernel; 2], strides: [stride; 2], pads: [pad; 4], dilations: [1, 1], ceil_mode };
        let [oh, ow] = window.output([h, w]).unwrap();
        let mut expected = vec![];
        for plane in 0..6 {
            for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                let (mut sum, mut inside, mut padded) = (0, 0usize, 0usize);
                for (py, px) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (oy * stride + y, ox * stride + x))) {
                    padded += (py < h + 2 * pad && px < w + 2 * pad) as usize;
                    if (pad..h + pad).contains(&py) && (pad..w + pad).contains(&px) {
                        sum += xs[(plane * h + py - pad) * w + px - pad];
                        inside += 1;
                    }
                }
                let count = if include_pad { padded } else { inside }.max(1);
                let factor = 0.3f32 / count as f32;
                expected.push(sum as f32 * factor);
            }
        }
        let mut case = Case::new();
        case.codes(&x, &q);
        let pool = AvgPool { window, count_include_pad: include_pad };
        let found = case.run(Body::AvgPool { pool, scale: 0.3 });
        prop_assert_eq!(found.as_f32().unwrap(), &expected[..]);

        let factor = 0.3f32 / (h * w) as f32;
        let expected: Vec<f32> = xs.chunks(h * w).map(|p| p.iter().sum::<i64>() as f32 * factor).collect();
        let mut case = Case::new();
        case.codes(&x, &q);
        let mean = ReduceMean { axes: vec![2, 3], keep_dims: false };
        let found = case.run(Body::Mean { mean, scale: 0.3 });
        prop_assert_eq!(found.as_f32().unwrap(), &expected[..]);
    }

    #[test]
    fn fused_interpolation((a, size, taps) in (1usize..6, 1usize..6, 1usize..4), (f, z) in (format(), any::<u8>()), axis in 1usize..3) {
        let q = quantizer(f, 0.3, z as usize);
        let mut shape = [2, 3, 4];
        shape[axis] = a;
        let x = codes(9, &shape, f);
        let weights = reals(10, &[size, taps]);
        let indices: Vec<i64> = (0..size * taps).map(|i| (i * 7 % a) as i64).collect();
        let [outer, inner] = [shape[..axis].iter().product::<usize>(), shape[axis + 1..].iter().product()];
        let mut expected = vec![];
        for (o, row, i) in (0..outer).flat_map(|o| (0..size).flat_map(move |r| (0..inner).map(move |i| (o, r, i)))) {
            let product = |tap: usize| {
                let at = (o * a + indices[row * taps + tap] as usize) * inner + i;
                let centered = i32::from(x.as_codes().unwrap()[at]) - q.zero_point[0];
                weights.as_f32().unwrap()[row * taps + tap] * centered as f32
            };
            let first = product(0);
            expected.push((1..taps).fold(first, |sum, tap| sum + product(tap)) * 0.3f32);
        }
        let mut case = Case::new();
        case.codes(&x, &q);
        case.operands.push(case.graph.add_constant(Tensor::i64(&[size, taps], indices.clone())).into());
        case.operands.push(case.graph.add_constant(weights.clone()).into());
        let found = case.run(Body::Interpolate { interpolate: Interpolate { axis }, scale: 0.3 });
        prop_assert_eq!(found.as_f32().unwrap(), &expected[..]);

        // The same sums of reals.
        let reals: Vec<f32> = x.as_codes().unwrap().iter().map(|&c| (i32::from(c) - q.zero_point[0]) as f32).collect();
        let operands = [(Tensor::f32(&shape, reals), false), (Tensor::i64(&[size, taps], indices), true), (weights, true)];
        let found = run_op(Phase::Integer, Op::Interpolate(Interpolate { axis }), &operands);
        prop_assert_eq!(found.as_f32().unwrap().iter().map(|x| x * 0.3f32).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn epilogues((f, g, out) in (format(), format(), format()), z: u8, round: bool, skip_codes: bool) {
        let (q, r) = (quantizer(f, 0.3, z as usize), quantizer(g, 0.7, 5 * z as usize));
        let x = codes(10, &[2, 3, 4, 4], f);
        let skip = codes(11, &[3, 1, 1], g);
        let skip_reals = reals(12, &[3, 1, 1]);
        let y = quantizer(out, 0.05, 3 * z as usize);
        let steps = vec![
            EpilogueStep::Binary { op: Binary::Add, operand: 1, scale: 0.7 },
            EpilogueStep::Unary(Unary::HardSwish),
            EpilogueStep::Scale(1.7),
            EpilogueStep::Binary { op: Binary::Sub, operand: 1, scale: 0.1 },
            EpilogueStep::Unary(Unary::LeakyRelu { alpha: 0.1 }),
        ];
        let end = if round { EpilogueEnd::Round } else { EpilogueEnd::Requantize };
        let expected: Vec<i16> = (x.as_codes().unwrap().iter().enumerate())
            .map(|(i, &c)| {
                let channel = i / 16 % 3;
                let operand = if skip_codes {
                    (i32::from(skip.as_codes().unwrap()[channel]) - r.zero_point[0]) as f32
                } else {
                    skip_reals.as_f32().unwrap()[channel]
                };
                let mut t = (i32::from(c) - q.zero_point[0]) as f32 * 0.3;
                let added = operand * 0.7;
                t += added;
                let gate = t * (1.0 / 6.0);
                let gate = gate + 0.5;
                t *= gate.clamp(0.0, 1.0);
                t *= 1.7;
                let subtracted = operand * 0.1;
                t -= subtracted;
                t = if t >= 0.0 { t } else { 0.1 * t };
                t = if round { t } else { t * (1.0 / y.scale[0]) };
                round_to_code(t, y.zero_point[0], out) as i16
            })
            .collect();
        let mut case = Case::new();
        case.codes(&x, &q);
        if skip_codes {
            case.codes(&skip, &r);
        } else {
            case.f32(&skip_reals);
        }
        let found = case.run_with(Body::Map { scale: 0.3 }, Epilogue { steps, end }, Some(&y));
        prop_assert_eq!(found.as_codes().unwrap(), &expected[..]);
    }

    #[test]
    fn quantizers(f in format(), z: u8, scale in 1e-3f32..2.0, axis in prop::option::of(0usize..3)) {
        let shape = [3, 4, 5];
        let n = axis.map_or(1, |a| shape[a]);
        let one = quantizer(f, scale, z as usize);
        let q = Quantizer {
            axis,
            scale: (0..n).map(|i| scale * (i + 1) as f32).collect(),
            zero_point: (0..n).map(|i| quantizer(f, 1.0, z as usize + i).zero_point[0]).collect(),
            ..one
        };
        let slice = |flat: usize| match axis {
            None => 0,
            Some(a) => flat / shape[a + 1..].iter().product::<usize>() % shape[a],
        };
        let mut x = reals(13, &shape);
        if let catc_ir::TensorData::F32(v) = x.data_mut() {
            v.iter_mut().for_each(|x| *x *= 300.0 * scale);
            v[..6].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5 * scale, 1.5 * scale, 1e30]);
        }
        let mut g = Graph::new("q");
        g.phase = Phase::Qdq;
        let id = g.add_quantizer(q.clone());
        let v = g.add_input("x", TensorType::f32(Shape::fixed(&shape)));
        let c = g.append(Op::Quantize(Quantize { quantizer: id }), [v.into()], "").unwrap();
        let y = g.append(Op::Dequantize(Dequantize), [c.into()], "").unwrap();
        g.add_output("y", y);
        let out = Interpreter::new(&g).unwrap().run_to(std::slice::from_ref(&x), &[c, y]).unwrap();
        for (i, x) in x.as_f32().unwrap().iter().enumerate() {
            let code = q.quantize(*x, slice(i));
            prop_assert_eq!(i32::from(out[0].as_codes().unwrap()[i]), code);
            prop_assert_eq!(out[1].as_f32().unwrap()[i], q.dequantize(code, slice(i)));
        }
    }

    #[test]
    fn four_lanes(k in 1usize..40, p in 1usize..6) {
        let exact = |op, inputs: &[(Tensor, bool)]| run_op(Phase::Integer, op, inputs).as_f32().unwrap().to_vec();
        let sum4 = |x: &[f32]| {
            let mut lanes = [0f32; 4];
            for (i, x) in x.iter().enumerate() {
                lanes[i % 4] += x;
            }
            (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
        };
        let (x, w, b) = (reals(14, &[2, k]), reals(15, &[p, k]), reals(16, &[p]));
        let (xs, ws, bs) = (x.as_f32().unwrap(), w.as_f32().unwrap(), b.as_f32().unwrap());
        let pairs = |f: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
            let terms = |i: usize| (0..k).map(|e| f(xs[i / p * k + e], ws[i % p * k + e])).collect::<Vec<_>>();
            (0..2 * p).map(|i| sum4(&terms(i))).collect()
        };
        let dots = pairs(&|a, b| a * b);
        let biased: Vec<f32> = dots.iter().enumerate().map(|(i, d)| d + bs[i % p]).collect();
        let args = [(x.clone(), false), (w.clone(), true), (b, true)];
        prop_assert_eq!(exact(Op::Linear(Linear), &args), biased);
        let args = [(x.clone(), false), (w.clone(), true)];
        prop_assert_eq!(exact(Op::Linear(Linear), &args), dots.clone());
        let distances = pairs(&|a, b| (a - b) * (a - b));
        prop_assert_eq!(exact(Op::SquaredDistance(SquaredDistance), &args), distances);
        let turned: Vec<f32> = (0..k * p).map(|i| ws[i % p * k + i / p]).collect();
        let args = [(x.clone(), false), (Tensor::f32(&[k, p], turned), true)];
        prop_assert_eq!(exact(Op::MatMul(MatMul), &args), dots);

        let means: Vec<f32> = xs.chunks(k).map(|r| sum4(r) / k as f32).collect();
        let mean = Op::ReduceMean(ReduceMean { axes: vec![1], keep_dims: false });
        prop_assert_eq!(exact(mean, &[(x.clone(), false)]), means);
        let soft: Vec<f32> = xs
            .chunks(k)
            .flat_map(|r| {
                let top = r.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let e: Vec<f32> = r.iter().map(|x| Exp.at(x - top)).collect();
                let sum = sum4(&e);
                e.into_iter().map(move |e| e / sum)
            })
            .collect();
        prop_assert_eq!(exact(Op::Softmax(Softmax { axis: 1 }), &[(x, false)]), soft);
    }
}

#[test]
fn long_sums_of_wide_codes_are_exact() {
    // 8 x 8 bits at the depth of the last layers of ResNet-18, every product at its largest: far beyond 2^24.
    let f = QFormat::new(false, 8).unwrap();
    let (qx, qw) = (quantizer(f, 1.0, 0), Quantizer::per_tensor(f, 1.0, 0));
    let (c, o) = (512, 2);
    let x = Tensor::codes(&[1, c, 3, 3], vec![255; c * 9]);
    let mut w = vec![255; o * c * 9];
    w[0] = 254;
    let mut case = Case::new();
    case.codes(&x, &qx);
    let one = Tensor::f32(&[2], vec![1.0; 2]);
    case.weights(&Tensor::codes(&[o, c, 3, 3], w), &qw, &one, &Tensor::f32(&[2], vec![0.0; 2]));
    let conv = Conv2d { pads: [1; 4], ..Conv2d::default() };
    let y = case.run(Body::Conv2d(conv));
    let full = 255i64 * 255 * 512 * 9;
    assert!(full > 1 << 24);
    assert_eq!(y.as_f32().unwrap()[4], (full - 255) as f32);
    assert_eq!(y.as_f32().unwrap()[9 + 4], full as f32);
    assert_eq!(y.as_f32().unwrap()[9], (full / 9 * 4) as f32);
}

#[test]
fn requantize_multiplies_by_the_reciprocal() {
    let f = QFormat::new(false, 8).unwrap();
    let one_rounding_up = |scale: f32| {
        let near = (1..255).map(|k| (k as f32 + 0.5) * scale);
        let tried = near.flat_map(|x| (0..9).map(move |d| f32::from_bits(x.to_bits() - 4 + d)));
        tried.filter(|x| round_to_code(x * (1.0 / scale), 0, f) != round_to_code(x / scale, 0, f)).collect::<Vec<f32>>()
    };
    let scale = 0.013;
    let x = one_rounding_up(scale);
    assert!(!x.is_empty());
    let mut case = Case::new();
    case.f32(&Tensor::f32(&[x.len()], x.clone()));
    let epilogue = Epilogue { steps: vec![], end: EpilogueEnd::Requantize };
    let found = case.run_with(Body::Map { scale: 1.0 }, epilogue, Some(&Quantizer::per_tensor(f, scale, 0)));
    let expected: Vec<i16> = x.iter().map(|x| round_to_code(x * (1.0 / scale), 0, f) as i16).collect();
    assert_eq!(found.as_codes().unwrap(), expected);
}

#[test]
fn codes_keep_their_meaning_in_shape_operations() {
    let f = QFormat::new(false, 4).unwrap();
    let mut g = Graph::new("g");
    g.phase = Phase::Integer;
    let q = g.add_quantizer(quantizer(f, 1.0, 3));
    let x = g.add_input("x", TensorType::new(Element::Code(q), Shape::fixed(&[1, 1, 2, 2])));
    let pad = Pad { before: vec![0, 0, 1, 0], after: vec![0, 0, 0, 1], value: 0.0 };
    let p = g.append(Op::Pad(pad), [x.into()], "").unwrap();
    let window = Window { kernel: [2, 2], strides: [1, 1], pads: [0, 2, 0, 0], dilations: [1, 1], ceil_mode: false };
    let m = g.append(Op::MaxPool(MaxPool(window)), [p.into()], "").unwrap();
    g.add_output("p", p);
    g.add_output("m", m);
    let out = Interpreter::new(&g).unwrap().run(&[Tensor::codes(&[1, 1, 2, 2], vec![1, 9, 0, 2])]).unwrap();
    assert_eq!(out[0].as_codes().unwrap(), [3, 3, 3, 1, 9, 3, 0, 2, 3]);
    // A window over padding alone gives the lowest code.
    assert_eq!(out[1].as_codes().unwrap(), [0, 3, 9, 9, 0, 1, 9, 9]);
}
