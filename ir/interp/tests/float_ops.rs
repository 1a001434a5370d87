//! Every f32 operation against a direct implementation in f64.

mod naive;

use catc_ir::ops::*;
use catc_ir::{Dim, Op, Phase, Shape, Tensor};
use naive::{Axis, close, convolve, reals, run_op};
use proptest::prelude::*;

fn axis() -> impl Strategy<Value = Axis> {
    (1usize..14, 1usize..5, 1usize..4, 0usize..4, 0usize..4, 1usize..3)
        .prop_map(|(input, kernel, stride, before, after, dilation)| Axis {
            input,
            kernel,
            stride,
            before,
            after,
            dilation,
        })
        .prop_filter("the window fits", |a| (a.kernel - 1) * a.dilation < a.input + a.before + a.after)
}

fn window(y: Axis, x: Axis) -> Window {
    Window {
        kernel: [y.kernel, x.kernel],
        strides: [y.stride, x.stride],
        pads: [y.before, x.before, y.after, x.after],
        dilations: [y.dilation, x.dilation],
        ceil_mode: false,
    }
}

fn f64s(t: &Tensor) -> Vec<f64> {
    t.as_f32().unwrap().iter().map(|&x| f64::from(x)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn conv2d(
        (y, x) in (axis(), axis()),
        (groups, ci, co) in (1usize..5, 1usize..5, 1usize..6),
        n in 1usize..3,
        bias: bool,
    ) {
        let (c, o) = (groups * ci, groups * co);
        let data = reals(1, &[n, c, y.input, x.input]);
        let weights = reals(2, &[o, ci, y.kernel, x.kernel]);
        let b = reals(3, &[o]);
        let w = window(y, x);
        let op = Conv2d { strides: w.strides, pads: w.pads, dilations: w.dilations, groups };
        let mut inputs = vec![(data.clone(), false), (weights.clone(), true)];
        if bias {
            inputs.push((b.clone(), true));
        }
        let (xs, ws) = (f64s(&data), f64s(&weights));
        let mut expected = convolve(n, c, o, groups, y, x, |i, j| xs[i] * ws[j]);
        let positions = y.output() * x.output();
        for (i, e) in expected.iter_mut().enumerate().filter(|_| bias) {
            *e += f64::from(b.as_f32().unwrap()[i / positions % o]);
        }
        let found = run_op(Phase::Float, Op::Conv2d(op), &inputs);
        prop_assert_eq!(found.shape(), &[n, o, y.output(), x.output()]);
        close(&found, &expected, 1e-5).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn pooling((y, x) in (axis(), axis()), c in 1usize..4, ceil_mode: bool, include_pad: bool) {
        let data = reals(4, &[2, c, y.input, x.input]);
        let mut w = window(y, x);
        w.ceil_mode = ceil_mode;
        let [oh, ow] = w.output([y.input, x.input]).unwrap();
        let xs = f64s(&data);
        let (mut maxima, mut means) = (vec![], vec![]);
        for plane in 0..2 * c {
            for oy in 0..oh {
                for ox in 0..ow {
                    let (mut max, mut sum, mut inside, mut padded) = (f64::NEG_INFINITY, 0.0, 0, 0);
                    for ky in 0..y.kernel {
                        for kx in 0..x.kernel {
                            let py = oy * y.stride + ky * y.dilation;
                            let px = ox * x.stride + kx * x.dilation;
                            let in_padding = py < y.input + y.before + y.after && px < x.input + x.before + x.after;
                            padded += in_padding as usize;
                            if let (Some(iy), Some(ix)) = (y.tap(oy, ky), x.tap(ox, kx)) {
                                let v = xs[(plane * y.input + iy) * x.input + ix];
                                max = max.max(v);
                                sum += v;
                                inside += 1;
                            }
                        }
                    }
                    maxima.push(max);
                    means.push(sum / (if include_pad { padded } else { inside }).max(1) as f64);
                }
            }
        }
        let found = run_op(Phase::Float, Op::MaxPool(MaxPool(w.clone())), &[(data.clone(), false)]);
        close(&found, &maxima, 0.0).map_err(TestCaseError::fail)?;
        let pool = AvgPool { window: w, count_include_pad: include_pad };
        let found = run_op(Phase::Float, Op::AvgPool(pool), &[(data, false)]);
        close(&found, &means, 1e-6).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn products((m, k, n) in (1usize..9, 0usize..40, 1usize..9), a_lead in 1usize..3, b_lead in 1usize..3, phase in 0..2) {
        let phase = [Phase::Float, Phase::Integer][phase as usize];
        let lead = a_lead.max(b_lead);
        prop_assume!(a_lead == b_lead || a_lead == 1 || b_lead == 1);
        let (a, b) = (reals(5, &[a_lead, m, k]), reals(6, &[b_lead, k, n]));
        let mut expected = vec![];
        for l in 0..lead {
            for i in 0..m {
                for j in 0..n {
                    let (la, lb) = (l.min(a_lead - 1), l.min(b_lead - 1));
                    let at = |t: &Tensor, i: usize| f64::from(t.as_f32().unwrap()[i]);
                    expected.push((0..k).map(|e| at(&a, (la * m + i) * k + e) * at(&b, (lb * k + e) * n + j)).sum());
                }
            }
        }
        let found = run_op(phase, Op::MatMul(MatMul), &[(a.clone(), false), (b, false)]);
        close(&found, &expected, 1e-5).map_err(TestCaseError::fail)?;

        let (w, bias) = (reals(7, &[n, k]), reals(8, &[n]));
        let (xs, ws, bs) = (f64s(&a), f64s(&w), f64s(&bias));
        let expected: Vec<f64> = (0..a_lead * m * n)
            .map(|i| (0..k).map(|e| xs[i / n * k + e] * ws[i % n * k + e]).sum::<f64>() + bs[i % n])
            .collect();
        let found = run_op(phase, Op::Linear(Linear), &[(a, false), (w, true), (bias, true)]);
        close(&found, &expected, 1e-5).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn broadcasting(dims in prop::collection::vec((1usize..4, any::<bool>(), any::<bool>()), 0..5), drop in 0usize..3) {
        let full: Vec<usize> = dims.iter().map(|d| d.0).collect();
        let a_shape: Vec<usize> = dims.iter().map(|&(n, a, _)| if a { n } else { 1 }).collect();
        let b_shape: Vec<usize> = dims.iter().map(|&(n, _, b)| if b { n } else { 1 }).collect();
        let b_shape = &b_shape[drop.min(b_shape.len())..];
        let (a, b) = (reals(9, &a_shape), reals(10, b_shape));
        let at = |t: &Tensor, index: &[usize]| {
            let index = &index[index.len() - t.shape().len()..];
            let place = index.iter().zip(t.shape()).fold(0, |p, (&i, &n)| p * n + if n == 1 { 0 } else { i });
            t.as_f32().unwrap()[place]
        };
        let out: Vec<usize> = (0..full.len())
            .map(|i| a_shape[i].max(*b_shape.get((i + b_shape.len()).wrapping_sub(full.len())).unwrap_or(&1)))
            .collect();
        let volume: usize = out.iter().product();
        for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            let found = run_op(Phase::Float, Op::Binary(op), &[(a.clone(), false), (b.clone(), false)]);
            prop_assert_eq!(found.shape(), &out[..]);
            for flat in 0..volume {
                let mut rest = flat;
                let mut index = vec![0; out.len()];
                for i in (0..out.len()).rev() {
                    index[i] = rest % out[i];
                    rest /= out[i];
                }
                let expected = op.apply(at(&a, &index), at(&b, &index));
                prop_assert_eq!(found.as_f32().unwrap()[flat].to_bits(), expected.to_bits());
            }
        }
    }

    #[test]
    fn reductions(shape in prop::collection::vec(1usize..6, 1..5), mask in 1usize..16, keep_dims: bool, axis in 0usize..4) {
        let axes: Vec<usize> = (0..shape.len()).filter(|i| mask >> i & 1 == 1).collect();
        prop_assume!(!axes.is_empty());
        let x = reals(11, &shape);
        let xs = f64s(&x);
        let index = |flat: usize| {
            let mut rest = flat;
            let mut index = vec![0; shape.len()];
            for i in (0..shape.len()).rev() {
                index[i] = rest % shape[i];
                rest /= shape[i];
            }
            index
        };
        let kept: usize = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).product();
        let mut sums = vec![0.0; kept];
        for (flat, x) in xs.iter().enumerate() {
            let place = index(flat).iter().enumerate().filter(|(i, _)| !axes.contains(i)).fold(0, |p, (i, &j)| p * shape[i] + j);
            sums[place] += x;
        }
        let count = (xs.len() / kept) as f64;
        let expected: Vec<f64> = sums.iter().map(|s| s / count).collect();
        let found = run_op(Phase::Float, Op::ReduceMean(ReduceMean { axes, keep_dims }), &[(x.clone(), false)]);
        close(&found, &expected, 1e-6).map_err(TestCaseError::fail)?;

        let axis = axis % shape.len();
        let inner: usize = shape[axis + 1..].iter().product();
        let lane = |flat: usize| {
            let start = flat - index(flat)[axis] * inner;
            (0..shape[axis]).map(move |j| start + j * inner)
        };
        let expected: Vec<f64> = (0..xs.len())
            .map(|flat| xs[flat].exp() / lane(flat).map(|i| xs[i].exp()).sum::<f64>())
            .collect();
        let found = run_op(Phase::Float, Op::Softmax(Softmax { axis }), &[(x.clone(), false)]);
        close(&found, &expected, 1e-6).map_err(TestCaseError::fail)?;

        let least: Vec<i64> = (0..xs.len())
            .filter(|&flat| index(flat)[axis] == 0)
            .map(|flat| {
                let values: Vec<f64> = lane(flat).map(|i| xs[i]).collect();
                let min = values.iter().copied().fold(f64::INFINITY, f64::min);
                values.iter().position(|&v| v == min).unwrap() as i64
            })
            .collect();
        let found = run_op(Phase::Float, Op::ArgMin(ArgMin { axis }), &[(x, false)]);
        prop_assert_eq!(found.as_i64().unwrap(), &least[..]);
    }

    #[test]
    fn moves(shape in prop::collection::vec(1usize..5, 1..5), seed: u64, axis in 0usize..4, step in 1usize..4) {
        let x = reals(seed, &shape);
        let xs = x.as_f32().unwrap();
        let axis = axis % shape.len();
        let (outer, size, inner): (usize, usize, usize) =
            (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product());
        let pick = |indices: &[usize]| {
            let mut out = vec![];
            (0..outer).for_each(|o| indices.iter().for_each(|i| out.extend(&xs[(o * size + i) * inner..][..inner])));
            out
        };

        let (start, end) = (seed as usize % size, size - (seed >> 8) as usize % (size - seed as usize % size));
        let found = run_op(Phase::Float, Op::Slice(Slice { axis, start, end, step }), &[(x.clone(), false)]);
        prop_assert_eq!(found.as_f32().unwrap(), pick(&(start..end).step_by(step).collect::<Vec<_>>()));

        let indices: Vec<i64> = (0..3).map(|i| ((seed >> (i * 4)) % size as u64) as i64).collect();
        let picked = pick(&indices.iter().map(|&i| i as usize).collect::<Vec<_>>());
        let found = run_op(Phase::Float, Op::Gather(Gather { axis }), &[(x.clone(), false), (Tensor::i64(&[3, 1], indices), false)]);
        prop_assert_eq!(found.as_f32().unwrap(), &picked[..]);
        prop_assert_eq!(found.shape().len(), shape.len() + 1);

        let found = run_op(Phase::Float, Op::Concat(Concat { axis }), &[(x.clone(), false), (x.clone(), true), (x.clone(), false)]);
        let thrice: Vec<usize> = (0..3).flat_map(|_| 0..size).collect();
        prop_assert_eq!(found.as_f32().unwrap(), pick(&thrice));

        let mut perm: Vec<usize> = (0..shape.len()).collect();
        perm.rotate_left(axis);
        if perm.len() > 2 && seed & 1 == 1 {
            perm.swap(0, 1);
        }
        let found = run_op(Phase::Float, Op::Transpose(Transpose { perm: perm.clone() }), &[(x.clone(), false)]);
        let back: Vec<usize> = (0..perm.len()).map(|i| perm.iter().position(|&p| p == i).unwrap()).collect();
        for (flat, y) in found.as_f32().unwrap().iter().enumerate() {
            let mut rest = flat;
            let mut index = vec![0; shape.len()];
            for i in (0..shape.len()).rev() {
                index[i] = rest % shape[perm[i]];
                rest /= shape[perm[i]];
            }
            let place = (0..shape.len()).fold(0, |p, i| p * shape[i] + index[back[i]]);
            prop_assert_eq!(*y, xs[place]);
        }

        let before: Vec<usize> = (0..shape.len()).map(|i| (seed >> (i * 2)) as usize % 3).collect();
        let after: Vec<usize> = (0..shape.len()).map(|i| (seed >> (20 + i * 2)) as usize % 3).collect();
        let found = run_op(Phase::Float, Op::Pad(Pad { before: before.clone(), after, value: 2.5 }), &[(x.clone(), false)]);
        let mut expected = vec![2.5; found.len()];
        for (flat, &v) in xs.iter().enumerate() {
            let mut rest = flat;
            let mut place = 0;
            let mut unit = 1;
            for i in (0..shape.len()).rev() {
                place += (rest % shape[i] + before[i]) * unit;
                rest /= shape[i];
                unit *= found.shape()[i];
            }
            expected[place] = v;
        }
        prop_assert_eq!(found.as_f32().unwrap(), expected);
    }
}

#[test]
fn unary_functions() {
    let x = Tensor::f32(&[7], vec![-8.0, -2.0, -0.5, 0.0, 0.5, 2.0, 8.0]);
    let check = |f: Unary, expected: fn(f64) -> f64| {
        let wanted: Vec<f64> = f64s(&x).into_iter().map(expected).collect();
        close(&run_op(Phase::Float, Op::Unary(f), &[(x.clone(), false)]), &wanted, 1e-6).unwrap();
    };
    check(Unary::Relu, |x| x.max(0.0));
    check(Unary::LeakyRelu { alpha: 0.25 }, |x| if x < 0.0 { 0.25 * x } else { x });
    check(Unary::Clip { min: -1.0, max: 6.0 }, |x| x.clamp(-1.0, 6.0));
    check(Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
    check(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, |x| (0.2 * x + 0.5).clamp(0.0, 1.0));
    check(Unary::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
}

#[test]
fn batch_norm_distances_and_blend() {
    let x = reals(20, &[2, 3, 2, 5]);
    let p: Vec<Tensor> = (0..4).map(|i| reals(30 + i, &[3])).collect();
    let variance = Tensor::f32(&[3], vec![0.5, 1.5, 0.01]);
    let inputs: Vec<_> = [x.clone(), p[0].clone(), p[1].clone(), p[2].clone(), variance.clone()]
        .into_iter()
        .map(|t| (t, true))
        .collect();
    let [scale, bias, mean, variance] = [&p[0], &p[1], &p[2], &variance].map(f64s);
    let expected: Vec<f64> = (f64s(&x).iter().enumerate())
        .map(|(i, x)| (i / 10 % 3, x))
        .map(|(c, x)| (x - mean[c]) / (variance[c] + 1e-3).sqrt() * scale[c] + bias[c])
        .collect();
    close(&run_op(Phase::Float, Op::BatchNorm(BatchNorm { eps: 1e-3 }), &inputs), &expected, 1e-6).unwrap();

    let (a, c) = (reals(40, &[3, 7]), reals(41, &[4, 7]));
    let (xs, cs) = (f64s(&a), f64s(&c));
    let expected: Vec<f64> =
        (0..12).map(|i| (0..7).map(|e| (xs[i / 4 * 7 + e] - cs[i % 4 * 7 + e]).powi(2)).sum()).collect();
    close(
        &run_op(Phase::Float, Op::SquaredDistance(SquaredDistance), &[(a.clone(), false), (c, true)]),
        &expected,
        1e-6,
    )
    .unwrap();

    let b = reals(42, &[3, 7]);
    let expected: Vec<f64> = f64s(&a).iter().zip(f64s(&b)).map(|(a, b)| 0.6 * a + 0.4 * b).collect();
    close(&run_op(Phase::Float, Op::Blend(Blend { alpha: 0.4 }), &[(a, false), (b, false)]), &expected, 1e-6).unwrap();
}

#[test]
fn ties_go_to_the_lowest_index() {
    let x = Tensor::f32(&[2, 4], vec![3.0, 1.0, 1.0, 2.0, f32::NAN, 5.0, 5.0, 7.0]);
    assert_eq!(run_op(Phase::Float, Op::ArgMin(ArgMin { axis: 1 }), &[(x, false)]).as_i64().unwrap(), [1, 0]);
}

#[test]
fn tensors_without_elements() {
    let empty = Tensor::f32(&[2, 0], vec![]);
    let y = run_op(Phase::Float, Op::Linear(Linear), &[(empty.clone(), false), (Tensor::f32(&[3, 0], vec![]), true)]);
    assert_eq!(y, Tensor::f32(&[2, 3], vec![0.0; 6]));
    let shape = Shape::new([Dim::Fixed(0), Dim::Fixed(9)]);
    let y = run_op(Phase::Float, Op::Reshape(Reshape { shape }), &[(empty.clone(), false)]);
    assert_eq!(y.shape(), [0, 9]);
    let pad = Pad { before: vec![0, 1], after: vec![0, 1], value: 1.0 };
    assert_eq!(run_op(Phase::Float, Op::Pad(pad), &[(empty.clone(), false)]).as_f32().unwrap(), [1.0; 4]);
    let y = run_op(Phase::Float, Op::Concat(Concat { axis: 1 }), &[(empty, false), (reals(1, &[2, 3]), false)]);
    assert_eq!(y, reals(1, &[2, 3]));
    for groups in [1, 2] {
        let conv = Op::Conv2d(Conv2d { pads: [1; 4], groups, ..Conv2d::default() });
        let (x, w) = (Tensor::f32(&[1, 2, 0, 3], vec![]), reals(1, &[2, 2 / groups, 1, 1]));
        assert_eq!(run_op(Phase::Float, conv, &[(x, false), (w, true)]).as_f32().unwrap(), [0.0; 20]);
    }
    let conv = Op::Conv2d(Conv2d::default());
    let (x, w) = (Tensor::f32(&[1, 0, 4, 4], vec![]), Tensor::f32(&[2, 0, 3, 3], vec![]));
    assert_eq!(run_op(Phase::Float, conv, &[(x, false), (w, true)]).as_f32().unwrap(), [0.0; 8]);
}

#[test]
fn indices_outside_a_table_are_an_error() {
    let mut g = catc_ir::Graph::new("g");
    let table = g.add_constant(reals(1, &[3, 2]));
    let ty = catc_ir::TensorType::new(catc_ir::Element::I64, Shape::fixed(&[1]));
    let i = g.add_input("i", ty);
    let y = g.append(Op::Gather(Gather { axis: 0 }), [table.into(), i.into()], "pick").unwrap();
    g.add_output("y", y);
    let net = catc_interp::Interpreter::new(&g).unwrap();
    let last = catc_interp::Evaluator::run(&net, &[Tensor::i64(&[1], vec![-1])]).unwrap();
    assert_eq!(last, catc_interp::Evaluator::run(&net, &[Tensor::i64(&[1], vec![2])]).unwrap(), "counted from the end");
    for bad in [3, -4] {
        let e = catc_interp::Evaluator::run(&net, &[Tensor::i64(&[1], vec![bad])]).unwrap_err();
        assert_eq!(e.to_string(), format!("\"pick\" (gather): index {bad} is outside a table of 3"));
    }
}
