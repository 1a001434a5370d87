//! Random small networks for tests: every kind of layer, join and pooling that the passes treat specially.

use catc_ir::ops::{
    AvgPool, BatchNorm, Binary, Concat, Conv2d, Linear, MaxPool, Pad, ReduceMean, Reshape, Slice, Softmax, Transpose,
    Unary, Window,
};
use catc_ir::{Dim, Graph, Op, Operand, Shape, Tensor, TensorType, ValueId};
use catc_passes::Samples;

/// A small generator (SplitMix64): the same numbers on every platform.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// About normal, with this deviation.
    pub fn normal(&mut self, deviation: f32) -> f32 {
        let sum: f32 = (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum();
        (sum - 6.0) * deviation
    }

    fn tensor(&mut self, shape: &[usize], deviation: f32, mean: f32) -> Tensor {
        let n = shape.iter().product();
        Tensor::f32(shape, (0..n).map(|_| mean + self.normal(deviation)).collect())
    }
}

struct Builder {
    graph: Graph,
    numbers: Numbers,
    count: usize,
}

impl Builder {
    fn constant(&mut self, shape: &[usize], deviation: f32, mean: f32) -> Operand {
        let tensor = self.numbers.tensor(shape, deviation, mean);
        self.graph.add_constant(tensor).into()
    }

    fn push(&mut self, op: Op, inputs: &[Operand]) -> ValueId {
        self.count += 1;
        let name = format!("{} {}", op.name(), self.count);
        self.graph.append(op, inputs.iter().copied(), name).expect("the generator makes sound nodes")
    }

    fn dims(&self, v: ValueId) -> (usize, usize, usize) {
        match self.graph.value_type(v).shape.dims() {
            [_, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => (*c, *h, *w),
            other => panic!("{other:?} is no image"),
        }
    }

    fn conv(&mut self, x: ValueId, outputs: usize, kernel: usize, stride: usize, groups: usize) -> ValueId {
        let (c, ..) = self.dims(x);
        let fan_in = c / groups * kernel * kernel;
        let w = self.constant(&[outputs, c / groups, kernel, kernel], (2.0 / fan_in as f32).sqrt(), 0.0);
        let pad = kernel / 2;
        let conv = Conv2d { strides: [stride; 2], pads: [pad; 4], groups, ..Conv2d::default() };
        let mut inputs = vec![x.into(), w];
        if self.numbers.below(2) == 0 {
            inputs.push(self.constant(&[outputs], 0.1, 0.0));
        }
        let y = self.push(Op::Conv2d(conv), &inputs);
        if self.numbers.below(3) == 0 { self.batch_norm(y) } else { y }
    }

    fn batch_norm(&mut self, x: ValueId) -> ValueId {
        let (c, ..) = self.dims(x);
        let parts = [(0.2, 1.0), (0.2, 0.0), (0.2, 0.0)].map(|(d, m)| self.constant(&[c], d, m));
        let variance: Vec<f32> = (0..c).map(|_| self.numbers.normal(0.3).abs() + 0.5).collect();
        let variance = self.graph.add_constant(Tensor::f32(&[c], variance));
        let inputs: Vec<Operand> = [x.into()].into_iter().chain(parts).chain([variance.into()]).collect();
        self.push(Op::BatchNorm(BatchNorm { eps: 1e-5 }), &inputs)
    }

    fn activation(&mut self, x: ValueId) -> ValueId {
        let kinds = [
            Unary::Relu,
            Unary::Relu,
            Unary::Clip { min: 0.0, max: 6.0 },
            Unary::LeakyRelu { alpha: 0.1 },
            Unary::HardSwish,
            Unary::Sigmoid,
        ];
        let kind = kinds[self.numbers.below(kinds.len())];
        self.push(Op::Unary(kind), &[x.into()])
    }

    fn block(&mut self, x: ValueId) -> ValueId {
        let (c, h, _) = self.dims(x);
        match self.numbers.below(10) {
            // A residual block, with a projection or without.
            0 | 1 => {
                let stride = if h >= 4 { 1 + self.numbers.below(2) } else { 1 };
                let outputs = if stride == 2 { c * 2 } else { c };
                let y = self.conv(x, outputs, 3, stride, 1);
                let y = self.push(Op::Unary(Unary::Relu), &[y.into()]);
                let y = self.conv(y, outputs, 3, 1, 1);
                let skip = if stride == 2 { self.conv(x, outputs, 1, 2, 1) } else { x };
                let sum = self.push(Op::Binary(Binary::Add), &[y.into(), skip.into()]);
                self.push(Op::Unary(Unary::Relu), &[sum.into()])
            }
            // An inverted residual with a depthwise convolution and a linear end.
            2 => {
                let y = self.conv(x, c * 2, 1, 1, 1);
                let y = self.activation(y);
                let y = self.conv(y, c * 2, 3, 1, c * 2);
                let y = self.activation(y);
                let y = self.conv(y, c, 1, 1, 1);
                self.push(Op::Binary(Binary::Add), &[x.into(), y.into()])
            }
            // Two branches side by side.
            3 => {
                let (a, b) = (self.conv(x, c, 1, 1, 1), self.conv(x, c, 3, 1, 1));
                let (a, b) = (self.activation(a), self.activation(b));
                self.push(Op::Concat(Concat { axis: 1 }), &[a.into(), b.into()])
            }
            // A gate of squeeze and excitation.
            4 => {
                let s = self.push(Op::ReduceMean(ReduceMean { axes: vec![2, 3], keep_dims: true }), &[x.into()]);
                let s = self.conv(s, 2, 1, 1, 1);
                let s = self.push(Op::Unary(Unary::Relu), &[s.into()]);
                let s = self.conv(s, c, 1, 1, 1);
                let s = self.push(Op::Unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }), &[s.into()]);
                self.push(Op::Binary(Binary::Mul), &[x.into(), s.into()])
            }
            5 if h >= 4 => {
                let window = Window {
                    kernel: [3, 3],
                    strides: [2, 2],
                    pads: [1, 1, 1, 1],
                    dilations: [1, 1],
                    ceil_mode: self.numbers.below(2) == 0,
                };
                let average = self.numbers.below(2) == 0;
                let op = match average {
                    true => Op::AvgPool(AvgPool { window, count_include_pad: self.numbers.below(2) == 0 }),
                    false => Op::MaxPool(MaxPool(window)),
                };
                self.push(op, &[x.into()])
            }
            // Padding of its own, and constants per channel.
            6 => {
                let pad = Pad { before: vec![0, 0, 1, 1], after: vec![0, 0, 1, 0], value: 0.0 };
                let y = self.push(Op::Pad(pad), &[x.into()]);
                let y = self.conv(y, c, 3, 1, 1);
                let m = self.constant(&[c, 1, 1], 0.2, 1.0);
                let y = self.push(Op::Binary(Binary::Mul), &[m, y.into()]);
                self.activation(y)
            }
            // A block with its normalization first; the sum is used in f32 by the next block too.
            7 => {
                let y = self.batch_norm(x);
                let y = self.push(Op::Unary(Unary::Relu), &[y.into()]);
                let y = self.conv(y, c, 3, 1, 1);
                let sum = self.push(Op::Binary(Binary::Sub), &[y.into(), x.into()]);
                let y = self.batch_norm(sum);
                let y = self.activation(y);
                let y = self.conv(y, c, 1, 1, 1);
                self.push(Op::Binary(Binary::Add), &[sum.into(), y.into()])
            }
            // A dense block: what goes on is used again beside what it becomes.
            8 => {
                let y = self.conv(x, 4, 3, 1, 1);
                let a = self.push(Op::Concat(Concat { axis: 1 }), &[x.into(), y.into()]);
                let y = self.conv(a, 4, 3, 1, 1);
                let y = self.activation(y);
                let b = self.push(Op::Concat(Concat { axis: 1 }), &[a.into(), y.into()]);
                let half = Slice { axis: 1, start: 0, end: c + 4, step: 2 };
                self.push(Op::Slice(half), &[b.into()])
            }
            _ => {
                let y = self.conv(x, c, 3, 1, if c % 2 == 0 { 2 } else { 1 });
                self.activation(y)
            }
        }
    }
}

/// A network of a few random blocks: input `[N,3,9,9]`, or `[N,9,9,3]` for odd seeds, logits `[N,5]`.
pub fn random_network(seed: u64) -> Graph {
    let mut graph = Graph::new("random");
    let sizes = if seed % 2 == 1 { [9, 9, 3] } else { [3, 9, 9] };
    let image = Shape::new([Dim::N].into_iter().chain(sizes.map(Dim::Fixed)));
    let x = graph.add_input("x", TensorType::f32(image));
    let mut b = Builder { graph, numbers: Numbers(seed), count: 0 };
    let x = match seed % 2 {
        1 => b.push(Op::Transpose(Transpose { perm: vec![0, 3, 1, 2] }), &[x.into()]),
        _ => x,
    };
    let mut y = b.conv(x, 4, 3, 1, 1);
    y = b.activation(y);
    for _ in 0..3 {
        y = b.block(y);
    }
    let c = b.dims(y).0;
    let y = b.push(Op::ReduceMean(ReduceMean { axes: vec![2, 3], keep_dims: true }), &[y.into()]);
    let y = b.push(Op::Reshape(Reshape { shape: Shape::new([Dim::N, Dim::Fixed(c)]) }), &[y.into()]);
    let (w, bias) = (b.constant(&[5, c], 0.5, 0.0), b.constant(&[5], 0.1, 0.0));
    let mut y = b.push(Op::Linear(Linear), &[y.into(), w, bias]);
    if b.numbers.below(2) == 0 {
        y = b.push(Op::Softmax(Softmax { axis: 1 }), &[y.into()]);
    }
    b.graph.add_output("y", y);
    b.graph
}

/// Samples of about normal elements for the inputs of a graph.
pub fn normal_samples(graph: &Graph, count: usize, seed: u64) -> Samples {
    let mut numbers = Numbers(seed);
    let tensors = |numbers: &mut Numbers| {
        graph.inputs.iter().map(|(v, _)| numbers.tensor(&graph.value_type(*v).shape.at_batch(1), 1.0, 0.2)).collect()
    };
    Samples((0..count).map(|_| tensors(&mut numbers)).collect())
}
