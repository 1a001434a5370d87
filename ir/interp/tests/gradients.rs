//! Every gradient against finite differences, those of quantizers against the published formulas.

mod naive;

use catc_interp::{EvalError, Evaluator, Interpreter, Wrt};
use catc_ir::ops::*;
use catc_ir::{
    ConstId, Dim, Graph, Op, Operand, Phase, QFormat, Quantizer, QuantizerId, Shape, Tensor, TensorData, TensorType,
    ValueId,
};
use cranelift_entity::EntityRef;
use naive::reals;

/// A graph of one operation: its f32 operands are graph inputs, the others constants.
fn one(op: Op, operands: &[Tensor]) -> (Graph, Vec<ValueId>, ValueId) {
    let mut g = Graph::new("one");
    let mut ids = vec![];
    let inputs: Vec<_> = operands
        .iter()
        .map(|t| match t.as_f32() {
            Some(_) => {
                ids.push(g.add_input(format!("x{}", ids.len()), TensorType::f32(Shape::fixed(t.shape()))));
                Operand::Value(ids[ids.len() - 1])
            }
            None => Operand::Const(g.add_constant(t.clone())),
        })
        .collect();
    let y = g.append(op, inputs, "").unwrap();
    g.add_output("y", y);
    (g, ids, y)
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    let pairs = a.as_f32().unwrap().iter().zip(b.as_f32().unwrap());
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Compares the gradients of `Σ seed · op(inputs)` with its slope along random directions of each input.
fn check(op: Op, inputs: &[Tensor]) {
    let (g, ids, y) = one(op.clone(), inputs);
    let inputs: Vec<Tensor> = inputs.iter().filter(|t| t.as_f32().is_some()).cloned().collect();
    let net = Interpreter::new(&g).unwrap();
    let given: Vec<_> = ids.iter().copied().zip(&inputs).collect();
    let tape = net.record(&given, &[y]).unwrap();
    let seed = reals(77, tape.value(y).unwrap().shape());
    let wrt: Vec<_> = ids.iter().map(|&v| Wrt::Value(v)).collect();
    let gradients = tape.gradients(&[(y, seed.clone())], &wrt).unwrap();
    for i in 0..inputs.len() {
        let gradient = gradients.get(wrt[i]).unwrap();
        assert_eq!(gradient.shape(), inputs[i].shape());
        for direction in 0..8 {
            let d = reals(1000 + direction, inputs[i].shape());
            let step = 2e-3;
            let loss = |sign: f32| {
                let mut moved = inputs.clone();
                let shifted = inputs[i].as_f32().unwrap().iter().zip(d.as_f32().unwrap());
                moved[i] = Tensor::f32(inputs[i].shape(), shifted.map(|(x, d)| x + sign * step * d).collect());
                let y = net.run(&moved).unwrap().remove(0);
                dot(&y, &seed)
            };
            let slope = (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(step));
            let predicted = dot(gradient, &d);
            let size = (dot(gradient, gradient) * dot(&d, &d)).sqrt().max(1e-2);
            assert!(
                (slope - predicted).abs() < 4e-3 * size,
                "{} input {i}: slope {slope}, gradient {predicted}",
                op.name()
            );
        }
    }
}

/// Reals whose distance from each other and from 0, ±1 and ±3 is larger than the steps of the differences.
fn apart(seed: u64, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let order = reals(seed, &[n]);
    let mut places: Vec<usize> = (0..n).collect();
    places.sort_by(|&a, &b| order.as_f32().unwrap()[a].total_cmp(&order.as_f32().unwrap()[b]));
    let mut x = vec![0.0; n];
    for (rank, place) in places.into_iter().enumerate() {
        let spread = (rank as f32 + 0.5) / n as f32 * 8.0 - 4.0;
        let near = [-3.0f32, -1.0, 0.0, 1.0, 3.0].into_iter().find(|k| (spread - k).abs() < 0.01);
        x[place] = near.map_or(spread, |k| k + 0.011 * (rank % 2) as f32 * 2.0 - 0.011);
    }
    Tensor::f32(shape, x)
}

#[test]
fn convolutions() {
    let cases = [
        // channels, outputs, groups, kernel, strides, pads, dilations
        (3, 4, 1, [3, 3], [1, 1], [1, 1, 1, 1], [1, 1]),
        (3, 4, 1, [1, 1], [1, 1], [0, 0, 0, 0], [1, 1]),
        (4, 6, 2, [3, 2], [2, 1], [1, 0, 0, 2], [1, 1]),
        (4, 6, 2, [1, 1], [1, 1], [0, 0, 0, 0], [1, 1]),
        (2, 3, 1, [3, 3], [2, 3], [2, 2, 2, 2], [2, 1]),
        (3, 3, 3, [3, 3], [1, 1], [1, 1, 1, 1], [1, 1]),
        (3, 6, 3, [3, 2], [2, 2], [1, 0, 1, 1], [1, 2]),
        (3, 6, 3, [5, 5], [3, 1], [4, 2, 0, 3], [1, 1]),
        // Wide enough for the short way of kernels three rows high.
        (8, 9, 1, [3, 3], [1, 1], [1, 1, 1, 1], [1, 1]),
        (18, 16, 2, [3, 2], [1, 1], [0, 0, 2, 1], [1, 1]),
        (9, 8, 1, [3, 5], [1, 1], [2, 4, 1, 3], [1, 1]),
        (8, 8, 1, [3, 1], [1, 1], [0, 0, 0, 0], [1, 1]),
        // Wide, and not for it.
        (9, 17, 1, [3, 3], [2, 2], [1, 1, 1, 1], [1, 1]),
        (8, 10, 1, [1, 1], [2, 2], [0, 0, 0, 0], [1, 1]),
        (20, 18, 2, [2, 4], [1, 2], [3, 0, 1, 5], [2, 1]),
    ];
    for (c, o, groups, k, strides, pads, dilations) in cases {
        let conv = Conv2d { strides, pads, dilations, groups };
        let inputs = [reals(1, &[2, c, 7, 6]), reals(2, &[o, c / groups, k[0], k[1]]), reals(3, &[o])];
        check(Op::Conv2d(conv), &inputs);
    }
}

/// Convolutions of a recorded evaluation stay close to the reference, and every image is computed as if it were alone.
#[test]
fn recorded_convolutions_stay_close_to_the_reference() {
    for (c, o, h, w, columns) in [(16, 16, 32, 32, 3), (8, 40, 9, 21, 3), (33, 9, 57, 6, 5), (64, 64, 8, 8, 3)] {
        let inputs = [reals(1, &[5, c, h, w]), reals(2, &[o, c, 3, columns]), reals(3, &[o])];
        let mut g = Graph::new("conv");
        let x = g.add_input("x", TensorType::f32(Shape::new([Dim::N, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)])));
        let constants = [g.add_constant(inputs[1].clone()), g.add_constant(inputs[2].clone())];
        let conv = Conv2d { strides: [1; 2], pads: [1, columns / 2, 1, columns / 2], dilations: [1; 2], groups: 1 };
        let y = g.append(Op::Conv2d(conv), [x.into(), constants[0].into(), constants[1].into()], "").unwrap();
        g.add_output("y", y);
        let net = Interpreter::new(&g).unwrap();
        let reference = net.run(&inputs[..1]).unwrap().remove(0);
        let tape = net.record(&[(x, &inputs[0])], &[y]).unwrap();
        let recorded = tape.value(y).unwrap();
        let pairs = || reference.as_f32().unwrap().iter().zip(recorded.as_f32().unwrap());
        let largest = reference.as_f32().unwrap().iter().fold(0f32, |m, v| m.max(v.abs()));
        let far = pairs().fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(far < 4e-6 * largest, "{far} of {largest}");
        assert!(pairs().any(|(a, b)| a != b), "the reference must not take the short way");
        let wrt = [Wrt::Value(x)];
        let whole = tape.gradients(&[(y, reference.clone())], &wrt).unwrap();
        let alone = net.record_parts(&[(x, &inputs[0])], &[y], 1).unwrap();
        assert_eq!(alone.value(y).as_ref(), Some(recorded));
        let alone = alone.gradients(&[(y, reference.clone())], &wrt).unwrap();
        assert_eq!(alone.get(wrt[0]), whole.get(wrt[0]));
    }
}

#[test]
fn convolutions_of_nothing() {
    let conv = Conv2d { pads: [1; 4], ..Conv2d::default() };
    check(Op::Conv2d(conv.clone()), &[reals(1, &[1, 0, 2, 2]), reals(2, &[3, 0, 3, 3]), reals(3, &[3])]);
    check(Op::Conv2d(conv), &[reals(1, &[1, 2, 0, 2]), reals(2, &[3, 2, 2, 3]), reals(3, &[3])]);
}

#[test]
fn products() {
    check(Op::Linear(Linear), &[reals(4, &[2, 3, 5]), reals(5, &[4, 5]), reals(6, &[4])]);
    check(Op::MatMul(MatMul), &[reals(7, &[2, 1, 3, 4]), reals(8, &[3, 4, 2])]);
    check(Op::MatMul(MatMul), &[reals(7, &[5, 4]), reals(8, &[2, 4, 2])]);
}

#[test]
fn elementwise_functions() {
    let x = apart(9, &[3, 20]);
    for f in [
        Unary::Relu,
        Unary::LeakyRelu { alpha: 0.2 },
        Unary::Clip { min: -1.0, max: 3.0 },
        Unary::Sigmoid,
        Unary::HardSigmoid { alpha: 0.5, beta: 0.5 },
        Unary::HardSwish,
        Unary::Tanh,
        Unary::Erf,
        Unary::Gelu,
        Unary::Abs,
        Unary::Silu,
        Unary::GeluTanh,
        Unary::Mish,
        Unary::Softsign,
        Unary::Elu { alpha: 0.7 },
        Unary::Selu { alpha: 1.6, gamma: 1.05 },
        Unary::Celu { alpha: 0.7 },
    ] {
        check(Op::Unary(f), std::slice::from_ref(&x));
    }
    let positive = Tensor::f32(&[40], (0..40).map(|i| 0.4 + 0.1 * i as f32).collect());
    for f in [Unary::Exp, Unary::Log, Unary::Sqrt] {
        check(Op::Unary(f), std::slice::from_ref(&positive));
    }
    check(Op::UncompiledUnary(UncompiledUnary::Sin), std::slice::from_ref(&x));
    check(Op::UncompiledUnary(UncompiledUnary::Asinh), std::slice::from_ref(&x));
    let others = Tensor::f32(&[40], (0..40).map(|i| 1.55 + (i * 7 % 11) as f32 * 0.3).collect());
    for op in [Binary::Max, Binary::Min, Binary::Pow] {
        check(Op::Binary(op), &[positive.clone(), others.clone()]);
    }
    let divisor = Tensor::f32(&[4, 1], vec![1.5, -2.0, 3.0, 0.7]);
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        check(Op::Binary(op), &[reals(10, &[3, 4, 5]), divisor.clone()]);
        check(Op::Binary(op), &[reals(10, &[4, 5]), Tensor::f32(&[2, 4, 1], [divisor.as_f32().unwrap(); 2].concat())]);
    }
}

#[test]
fn pools_and_reductions() {
    let x = apart(11, &[2, 2, 6, 5]);
    for (strides, pads, ceil_mode) in [([1, 1], [0; 4], false), ([2, 2], [1; 4], true), ([2, 3], [0, 1, 1, 0], true)] {
        let window = Window { kernel: [3, 2], strides, pads, dilations: [1, 1], ceil_mode };
        check(Op::MaxPool(MaxPool(window.clone())), std::slice::from_ref(&x));
        for count_include_pad in [false, true] {
            check(Op::AvgPool(AvgPool { window: window.clone(), count_include_pad }), std::slice::from_ref(&x));
        }
    }
    for axes in [vec![2, 3], vec![0, 2], vec![1]] {
        check(Op::ReduceMean(ReduceMean { axes, keep_dims: true }), std::slice::from_ref(&x));
    }
    check(Op::Softmax(Softmax { axis: 1 }), &[reals(12, &[3, 5, 2])]);
    for kind in [Reduction::Sum, Reduction::Max, Reduction::Min] {
        check(Op::Reduce(Reduce { kind, axes: vec![1, 3], keep_dims: false }), std::slice::from_ref(&x));
    }
    check(Op::Reduce(Reduce { kind: Reduction::Prod, axes: vec![0], keep_dims: true }), &[reals(13, &[3, 4])]);
    for (exclusive, reverse) in [(false, false), (true, false), (true, true)] {
        let op = Cumulate { axis: 1, product: false, exclusive, reverse };
        check(Op::Cumulate(op), &[reals(14, &[2, 5, 3])]);
    }
    check(Op::LayerNorm(LayerNorm { eps: 1e-3 }), &[reals(15, &[4, 9]), reals(16, &[9]), reals(17, &[9])]);
    check(Op::LayerNorm(LayerNorm { eps: 1e-3 }), &[reals(18, &[2, 3, 6])]);
    check(Op::Expand(Expand { shape: Shape::fixed(&[3, 4, 5]) }), &[reals(19, &[4, 1])]);
    // With several taps at one place, and a place that no tap has.
    let indices = Tensor::i64(&[3, 2], vec![0, 2, 2, 2, 3, 0]);
    for axis in [0, 1, 2] {
        let mut shape = [4; 3];
        shape[(axis + 1) % 3] = 2;
        check(Op::Interpolate(Interpolate { axis }), &[reals(20, &shape), indices.clone(), reals(21, &[3, 2])]);
    }
}

#[test]
fn normalization_and_correction() {
    let inputs = [
        reals(13, &[2, 3, 4]),
        reals(14, &[3]),
        reals(15, &[3]),
        reals(16, &[3]),
        Tensor::f32(&[3], vec![0.5, 2.0, 1.0]),
    ];
    check(Op::BatchNorm(BatchNorm { eps: 1e-3 }), &inputs);
    check(Op::SquaredDistance(SquaredDistance), &[reals(17, &[3, 4]), reals(18, &[5, 4])]);
    check(Op::Blend(Blend { alpha: 0.3 }), &[reals(17, &[3, 4]), reals(18, &[3, 4])]);
}

#[test]
fn choices_and_indices() {
    let bools = (0..12).map(|i| i % 5 < 2).collect();
    let condition = Tensor::new(vec![3, 4], TensorData::Bool(bools));
    check(Op::Where(Where), &[condition.clone(), reals(30, &[3, 4]), reals(31, &[4])]);
    check(Op::Where(Where), &[condition.clone(), reals(28, &[3, 4]), reals(29, &[3, 4])]);
    check(Op::Where(Where), &[condition, reals(32, &[2, 1, 1]), reals(33, &[3, 4])]);
    let picks = Tensor::i64(&[3, 2], vec![1, 1, 0, 3, 2, 2]);
    check(Op::GatherElements(GatherElements { axis: 1 }), &[reals(34, &[3, 4]), picks]);
    let places = Tensor::i64(&[4], vec![5, 0, 5, 11]);
    for join in [Scatter::Replace, Scatter::Add] {
        check(Op::ScatterFlat(ScatterFlat { join }), &[reals(35, &[3, 4]), places.clone(), reals(36, &[4])]);
    }
}

#[test]
fn products_of_activations() {
    for op in [Binary::Add, Binary::Sub, Binary::Mul] {
        check(Op::Binary(op), &[reals(37, &[2, 3, 19]), reals(38, &[2, 3, 19])]);
        check(Op::Binary(op), &[reals(39, &[1]), reals(40, &[3, 19])]);
    }
    let divisor = Tensor::f32(&[40], (0..40).map(|i| 0.7 + 0.1 * i as f32).collect());
    check(Op::Binary(Binary::Div), &[reals(41, &[40]), divisor]);
}

#[test]
fn moves() {
    let x = reals(19, &[2, 3, 4]);
    let all = |op| check(op, std::slice::from_ref(&x));
    all(Op::Identity(Identity));
    all(Op::Reshape(Reshape { shape: Shape::fixed(&[4, 6]) }));
    all(Op::Transpose(Transpose { perm: vec![2, 0, 1] }));
    all(Op::Pad(Pad { before: vec![1, 0, 2], after: vec![0, 1, 0], value: 3.0 }));
    all(Op::Slice(Slice { axis: 2, start: 1, end: 4, step: 2 }));
    check(Op::Concat(Concat { axis: 1 }), &[x.clone(), reals(20, &[2, 1, 4]), x.clone()]);

    let mut g = Graph::new("gather");
    let table = g.add_input("table", TensorType::f32(Shape::fixed(&[2, 3, 4])));
    let picks = g.add_constant(Tensor::i64(&[3], vec![2, 0, 2]));
    let y = g.append(Op::Gather(Gather { axis: 1 }), [table.into(), picks.into()], "").unwrap();
    g.add_output("y", y);
    let net = Interpreter::new(&g).unwrap();
    let tape = net.record(&[(table, &x)], &[y]).unwrap();
    let seed = reals(21, &[2, 3, 4]);
    let gradients = tape.gradients(&[(y, seed.clone())], &[Wrt::Value(table)]).unwrap();
    let s = seed.as_f32().unwrap();
    let expected: Vec<f32> = (0..24)
        .map(|i| (i / 12 * 12, i / 4 % 3, i % 4))
        .map(|(outer, row, j)| [s[outer + 4 + j], 0.0, s[outer + j] + s[outer + 8 + j]][row])
        .collect();
    assert_eq!(gradients.get(Wrt::Value(table)).unwrap().as_f32().unwrap(), expected);
}

/// x -> quantize -> dequantize, with a seed of ones and saturation on both sides.
#[test]
fn scales_have_the_gradient_of_lsq() {
    let mut g = Graph::new("lsq");
    g.phase = Phase::Qdq;
    let format = QFormat::new(false, 2).unwrap();
    let q = g.add_quantizer(Quantizer::per_axis(format, 0, vec![0.5, 0.25], vec![1, 2]));
    let v = g.add_input("x", TensorType::f32(Shape::fixed(&[2, 4])));
    let codes = g.append(Op::Quantize(Quantize { quantizer: q }), [v.into()], "").unwrap();
    let y = g.append(Op::Dequantize(Dequantize), [codes.into()], "").unwrap();
    g.add_output("y", y);
    let net = Interpreter::new(&g).unwrap();
    let x = Tensor::f32(&[2, 4], vec![-3.0, -0.4, 0.6, 5.0, -0.3, 0.1, 0.3, 7.0]);
    let tape = net.record(&[(v, &x)], &[y]).unwrap();
    let seed = Tensor::f32(&[2, 4], vec![1.0; 8]);
    let found = tape.gradients(&[(y, seed)], &[Wrt::Value(v), Wrt::Scale(q), Wrt::ZeroPoint(q)]).unwrap();
    // Codes less zero-point: row 0 [-1, -1 (of -0.8), 1 (of 1.2), 2], row 1 [-1 (of -1.2), 0 (of 0.4), 1 (of 1.2), 1].
    assert_eq!(found.get(Wrt::Value(v)).unwrap().as_f32().unwrap(), [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    let scales = found.get(Wrt::Scale(q)).unwrap().as_f32().unwrap();
    let expected = [-1.0 + (-1.0 + 0.8) + (1.0 - 1.2) + 2.0, (-1.0 + 1.2) + (0.0 - 0.4) + (1.0 - 1.2) + 1.0];
    assert!(scales.iter().zip(expected).all(|(s, e)| (s - e).abs() < 1e-6), "{scales:?} {expected:?}");
    assert_eq!(found.get(Wrt::ZeroPoint(q)).unwrap().as_f32().unwrap(), [-1.0, -0.25]);
}

/// Through a small network: constants behind quantizers, a skip connection, a given value in the middle.
#[test]
fn gradients_reach_constants_and_stop_at_given_values() {
    let text = r#"graph @net qdq {
  q0 = quantizer i8 per_axis 0 scale [0.01, 0.01] zero_point [0, 0]
  c0 = const f32[2,2,3,3] random(1, uniform, 0.9)
  c1 = const f32[2] [0.1, -0.1]
input(v0: f32[N,2,4,4] "x"):
  v1: i8<q0>[2,2,3,3] = quantize c0, q0
  v2: f32[2,2,3,3] = dequantize v1
  v3: f32[N,2,4,4] = conv2d v0, v2, c1 {strides=[1,1], pads=[1,1,1,1]}
  v4: f32[N,2,4,4] = add v3, v0
  v5: f32[N,2] = reduce_mean v4 {axes=[2,3]}
  output v5 "y"
}
"#;
    let g = catc_ir::text::parse(text, &catc_ir::text::NoBlobs).unwrap();
    let net = Interpreter::new(&g).unwrap();
    let (v, c) = (|i| ValueId::new(i), |i| ConstId::new(i));
    let x = reals(1, &[3, 2, 4, 4]);
    let tape = net.record(&[(v(0), &x)], &[v(5)]).unwrap();
    let seed = reals(2, &[3, 2]);
    let wrt = [Wrt::Value(v(0)), Wrt::Value(v(2)), Wrt::Constant(c(0)), Wrt::Constant(c(1)), Wrt::Value(v(4))];
    let found = tape.gradients(&[(v(5), seed.clone())], &wrt).unwrap();
    let bias: Vec<f32> = (0..2).map(|o| (0..3).map(|i| seed.as_f32().unwrap()[i * 2 + o]).sum()).collect();
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(near(found.get(wrt[3]).unwrap().as_f32().unwrap(), &bias));
    let of = |i: usize| found.get(wrt[i]).unwrap().as_f32().unwrap();
    assert!(near(of(1), of(2)));
    let loss = |net: &Interpreter, x: &Tensor| dot(&net.run(std::slice::from_ref(x)).unwrap()[0], &seed);
    // Codes are 0.01 apart: a step of 0.05 in every weight moves each by five of them.
    let mut moved = net.clone();
    let weights: Vec<f32> = g.constant(c(0)).tensor.as_f32().unwrap().iter().map(|w| w + 0.05).collect();
    moved.set_constant(c(0), Tensor::f32(&[2, 2, 3, 3], weights).into()).unwrap();
    let slope = (loss(&moved, &x) - loss(&net, &x)) / 0.05;
    let predicted: f32 = found.get(wrt[2]).unwrap().as_f32().unwrap().iter().sum();
    assert!((slope - f64::from(predicted)).abs() < 1e-3 * f64::from(predicted).abs().max(0.1), "{slope} {predicted}");

    // Given weights are where the way ends, and the evaluation uses them.
    let w = reals(3, &[2, 2, 3, 3]);
    let tape = net.record(&[(v(0), &x), (v(2), &w)], &[v(5)]).unwrap();
    let found = tape.gradients(&[(v(5), seed.clone())], &wrt).unwrap();
    assert!(found.get(wrt[2]).unwrap().as_f32().unwrap().iter().all(|&g| g == 0.0));
    assert!(found.get(wrt[1]).unwrap().as_f32().unwrap().iter().any(|&g| g != 0.0));

    // Codes given in place of those computed from constants change what follows.
    let codes = Tensor::codes(&[2, 2, 3, 3], vec![7; 36]);
    let out = net.run_from(&[(v(0), &x), (v(1), &codes)], &[v(2)]).unwrap();
    assert_eq!(out[0].as_f32().unwrap(), [0.01 * 7.0; 36]);
}

#[test]
fn what_has_no_gradient_says_so() {
    let mut g = Graph::new("fused");
    g.phase = Phase::Integer;
    let x = g.add_input("x", TensorType::f32(Shape::fixed(&[2])));
    let fused = Fused { body: Body::Map { scale: 2.0 }, epilogue: Epilogue::default(), output: None };
    let y = g.append(Op::Fused(fused), [x.into()], "").unwrap();
    g.add_output("y", y);
    let net = Interpreter::new(&g).unwrap();
    let data = reals(1, &[2]);
    let tape = net.record(&[(x, &data)], &[y]).unwrap();
    let e = tape.gradients(&[(y, data.clone())], &[Wrt::Value(x)]).unwrap_err();
    assert!(e.to_string().starts_with("fused_map v1: no gradient is defined for fused_map"), "{e}");
    let e = tape.gradients(&[(y, reals(1, &[3]))], &[]).unwrap_err();
    assert_eq!(e.to_string(), "v1: its gradient must be f32 [2]");
    let bad = [Wrt::Value(ValueId::new(9)), Wrt::Constant(ConstId::new(0)), Wrt::Scale(QuantizerId::new(0))];
    for wrt in bad {
        let e = tape.gradients(&[], &[wrt]);
        assert!(matches!(e, Err(EvalError::Gradient { .. })));
    }
    // Nothing asked for, nothing walked.
    tape.gradients(&[(y, data.clone())], &[]).unwrap();
}

/// A batch cut into parts gives what the whole batch gives, on any number of threads the same bits.
#[test]
fn parts_of_a_batch_add_up() {
    let text = r#"graph @net qdq {
  q0 = quantizer u2 per_tensor scale [0.3] zero_point [0]
  c0 = const f32[3] [0.1, -0.1, 0.2]
input(v0: f32[N,2,4,4] "x", v1: f32[3,2,3,3] "w"):
  v2: f32[N,3,4,4] = conv2d v0, v1, c0 {strides=[1,1], pads=[1,1,1,1]}
  v3: u2<q0>[N,3,4,4] = quantize v2, q0
  v4: f32[N,3,4,4] = dequantize v3
  v5: f32[N,3] = reduce_mean v4 {axes=[2,3]}
  output v5 "y"
}
"#;
    let g = catc_ir::text::parse(text, &catc_ir::text::NoBlobs).unwrap();
    let net = Interpreter::new(&g).unwrap();
    let v = ValueId::new;
    let (x, w, seed) = (reals(1, &[7, 2, 4, 4]), reals(2, &[3, 2, 3, 3]), reals(3, &[7, 3]));
    let given = [(v(0), &x), (v(1), &w)];
    let q = QuantizerId::new(0);
    let wrt = [Wrt::Value(v(0)), Wrt::Value(v(1)), Wrt::Value(v(4)), Wrt::Constant(ConstId::new(0)), Wrt::Scale(q)];
    let whole = net.record(&given, &[v(5)]).unwrap();
    let expected = whole.gradients(&[(v(5), seed.clone())], &wrt).unwrap();
    let of = |threads: usize, images: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tape = net.record_parts(&given, &[v(5)], images).unwrap();
            assert_eq!(tape.parts().len(), 7usize.div_ceil(images.max(1)));
            assert_eq!(tape.value(v(5)).as_ref(), whole.value(v(5)));
            assert_eq!(tape.value(v(3)).as_ref(), whole.value(v(3)));
            assert_eq!(tape.value(v(1)).as_ref(), Some(&w));
            let e = tape.gradients(&[(v(5), reals(3, &[6, 3]))], &wrt).unwrap_err();
            assert_eq!(e.to_string(), "v5: its gradient must be f32 [7, 3]");
            tape.gradients(&[(v(5), seed.clone())], &wrt).unwrap()
        })
    };
    for images in [0, 2, 3, 9] {
        let (one, three) = (of(1, images), of(3, images));
        for w in wrt {
            let (one, three, expected) = (one.get(w).unwrap(), three.get(w).unwrap(), expected.get(w).unwrap());
            assert_eq!((one, one.shape()), (three, expected.shape()));
            let far =
                one.as_f32().unwrap().iter().zip(expected.as_f32().unwrap()).find(|(a, b)| (*a - *b).abs() > 1e-5);
            assert_eq!(far, None, "{w:?}");
        }
    }
    // Tensors that do not agree on the batch are an error, as without parts.
    let six = reals(1, &[6, 2, 4, 4]);
    assert!(matches!(net.record_parts(&[(v(0), &six), (v(5), &seed)], &[v(5)], 2), Err(EvalError::Batch { .. })));
}
