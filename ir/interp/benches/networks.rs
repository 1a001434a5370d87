//! How fast whole networks evaluate on one thread (its own running time), and blocks with their gradients: `cargo bench -p catc-interp`. Weights are random.

use catc_interp::{Evaluator, Interpreter, Wrt};
use catc_ir::ops::{Binary, Conv2d, Linear, MaxPool, ReduceMean, Unary, Window};
use catc_ir::{Dim, Graph, Op, Shape, Tensor, TensorType, ValueId};
use std::time::SystemTime;

/// A network under construction; counts its multiply-adds.
struct Net {
    graph: Graph,
    work: usize,
    seed: u32,
}

impl Net {
    fn new(name: &str, channels: usize, size: usize) -> (Self, ValueId) {
        let mut graph = Graph::new(name);
        let shape = [Dim::N, Dim::Fixed(channels), Dim::Fixed(size), Dim::Fixed(size)];
        let x = graph.add_input("x", TensorType::f32(Shape::new(shape)));
        (Net { graph, work: 0, seed: 1 }, x)
    }

    fn random(&mut self, shape: &[usize], bound: f32) -> Tensor {
        let n = shape.iter().product();
        let mut next = || {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((self.seed >> 8) as f32 / (1 << 23) as f32 - 1.0) * bound
        };
        Tensor::f32(shape, (0..n).map(|_| next()).collect())
    }

    fn sizes(&self, v: ValueId) -> Vec<usize> {
        self.graph.value_type(v).shape.at_batch(1)
    }

    fn push(&mut self, op: Op, inputs: &[catc_ir::Operand]) -> ValueId {
        self.graph.append(op, inputs.iter().copied(), "").unwrap()
    }

    fn conv(&mut self, x: ValueId, outputs: usize, kernel: usize, stride: usize, groups: usize) -> ValueId {
        let channels = self.sizes(x)[1] / groups;
        let depth = channels * kernel * kernel;
        let w = self.random(&[outputs, channels, kernel, kernel], (6.0 / depth as f32).sqrt());
        let b = self.random(&[outputs], 0.1);
        let (w, b) = (self.graph.add_constant(w), self.graph.add_constant(b));
        let op = Conv2d { strides: [stride; 2], pads: [kernel / 2; 4], dilations: [1, 1], groups };
        let y = self.push(Op::Conv2d(op), &[x.into(), w.into(), b.into()]);
        self.work += depth * self.sizes(y).iter().product::<usize>();
        y
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        self.push(Op::Unary(Unary::Relu), &[x.into()])
    }

    fn basic_block(&mut self, x: ValueId, outputs: usize, stride: usize) -> ValueId {
        let a = self.conv(x, outputs, 3, stride, 1);
        let a = self.relu(a);
        let b = self.conv(a, outputs, 3, 1, 1);
        let skip = if self.sizes(x) == self.sizes(b) { x } else { self.conv(x, outputs, 1, stride, 1) };
        let sum = self.push(Op::Binary(Binary::Add), &[b.into(), skip.into()]);
        self.relu(sum)
    }

    fn finish(&mut self, x: ValueId, classes: usize) {
        let mean = ReduceMean { axes: vec![2, 3], keep_dims: false };
        let pooled = self.push(Op::ReduceMean(mean), &[x.into()]);
        let channels = self.sizes(pooled)[1];
        let w = self.random(&[classes, channels], 0.1);
        let w = self.graph.add_constant(w);
        let y = self.push(Op::Linear(Linear), &[pooled.into(), w.into()]);
        self.graph.add_output("logits", y);
    }
}

fn resnet18() -> Net {
    let (mut net, x) = Net::new("resnet18", 3, 224);
    let x = net.conv(x, 64, 7, 2, 1);
    let x = net.relu(x);
    let window = Window { kernel: [3, 3], strides: [2, 2], pads: [1; 4], dilations: [1, 1], ceil_mode: false };
    let mut x = net.push(Op::MaxPool(MaxPool(window)), &[x.into()]);
    for (channels, stride) in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)] {
        x = net.basic_block(x, channels, stride);
    }
    net.finish(x, 1000);
    net
}

fn resnet20() -> Net {
    let (mut net, x) = Net::new("resnet20", 3, 32);
    let x = net.conv(x, 16, 3, 1, 1);
    let mut x = net.relu(x);
    for (channels, stride) in [(16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)] {
        x = net.basic_block(x, channels, stride);
    }
    net.finish(x, 10);
    net
}

fn mobilenet_v1() -> Net {
    let (mut net, x) = Net::new("mobilenet_v1", 3, 224);
    let x = net.conv(x, 32, 3, 2, 1);
    let mut x = net.relu(x);
    let layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)];
    let deep = [(512, 1); 5].into_iter().chain([(1024, 2), (1024, 1)]);
    for (outputs, stride) in layers.into_iter().chain(deep) {
        let channels = net.sizes(x)[1];
        x = net.conv(x, channels, 3, stride, channels);
        x = net.relu(x);
        x = net.conv(x, outputs, 1, 1, 1);
        x = net.relu(x);
    }
    net.finish(x, 1000);
    net
}

/// Two 3x3 convolutions with a skip connection: what is trained at a time.
fn block(channels: usize, size: usize) -> Net {
    let (mut net, x) = Net::new("block", channels, size);
    let y = net.basic_block(x, channels, 1);
    net.graph.add_output("y", y);
    net
}

/// A step of a block, forward and backward with respect to its input, weights and biases, in `parts` parts; and its multiply-adds.
fn step(channels: usize, size: usize, batch: usize, parts: usize) -> (impl FnMut(), usize) {
    let mut net = block(channels, size);
    let (x, y) = (net.graph.inputs[0].0, net.graph.outputs[0].value);
    let shape = [batch, channels, size, size];
    let (images, seed) = (net.random(&shape, 1.0), net.random(&shape, 1.0));
    let evaluator = Interpreter::new(&net.graph).unwrap();
    let mut wrt: Vec<Wrt> = net.graph.constants().map(|(c, _)| Wrt::Constant(c)).collect();
    wrt.push(Wrt::Value(x));
    let seeds = [(y, seed)];
    let step = move || {
        let tape = evaluator.record_parts(&[(x, &images)], &[y], batch.div_ceil(parts)).unwrap();
        drop(tape.gradients(&seeds, &wrt).unwrap());
    };
    (step, 3 * net.work * batch)
}

fn gradients(channels: usize, size: usize, batch: usize) {
    let (step, work) = step(channels, size, batch, 1);
    let seconds = least(step);
    let name = format!("{channels}x{size}x{size}, {batch} images");
    let speed = 2e-9 * work as f64 / seconds;
    println!("{name:22} {:8.2} ms forward and backward, {speed:6.1} GFLOP/s", seconds * 1e3);
}

/// Times steps as asked on standard input, a line `channels size batch calls` each, and answers with the seconds of the fastest call.
fn serve(threads: usize) {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    for line in std::io::stdin().lines() {
        let numbers: Vec<usize> = line.unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
        let [channels, size, batch, calls] = numbers[..] else { panic!("four numbers are needed") };
        let (mut step, _) = step(channels, size, batch, threads);
        step();
        let time = |_| {
            let start = std::time::Instant::now();
            step();
            start.elapsed().as_secs_f64()
        };
        println!("{}", (0..calls).map(time).fold(f64::INFINITY, f64::min));
    }
}

/// Seconds that this thread has run, where the system tells (Linux), so that other programs do not count; else the time.
fn now() -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = ran.and_then(|s| s.split_whitespace().next()?.parse::<f64>().ok());
    ran.map_or_else(|| SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |d| d.as_secs_f64()), |ns| ns * 1e-9)
}

/// The seconds of one call, the least of five measurements of at least 60 ms each (the clock above ticks slowly).
fn least(mut f: impl FnMut()) -> f64 {
    f();
    let mut calls = 1;
    let mut best = f64::INFINITY;
    let mut left = 5;
    while left > 0 {
        let start = now();
        (0..calls).for_each(|_| f());
        let seconds = now() - start;
        if seconds < 0.06 {
            calls *= 2;
            continue;
        }
        best = best.min(seconds / calls as f64);
        left -= 1;
    }
    best
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--serve") {
        return serve(arguments[at + 1].parse().unwrap());
    }
    gradients(64, 56, 8);
    gradients(16, 32, 64);
    for mut net in [resnet18(), resnet20(), mobilenet_v1()] {
        let x = net.graph.inputs[0].0;
        let sizes = net.sizes(x);
        let image = net.random(&sizes, 1.0);
        let evaluator = Interpreter::new(&net.graph).unwrap();
        let seconds = least(|| drop(evaluator.run(std::slice::from_ref(&image)).unwrap()));
        println!(
            "{:12} {:8.2} ms an image, {:6.1} images/s, {:6.1} GFLOP/s",
            net.graph.name,
            seconds * 1e3,
            1.0 / seconds,
            2e-9 * net.work as f64 / seconds
        );
        println!("{:12} {:8.2} ms in matrix products of the same sizes alone", "", products(&net) * 1e3);
        if std::env::args().any(|a| a == "--layers") {
            layers(&evaluator, &image);
        }
    }
}

/// The time of the products that the convolutions (without groups) come down to, operands at hand.
fn products(net: &Net) -> f64 {
    let sizes = net.graph.nodes().iter().filter_map(|n| match &n.op {
        Op::Conv2d(conv) if conv.groups == 1 => {
            let w = net.graph.type_of(n.inputs[1]).shape.at_batch(1);
            let y = net.sizes(n.output);
            Some((w[0], y[2] * y[3], w[1] * w[2] * w[3]))
        }
        _ => None,
    });
    sizes
        .map(|(m, n, k)| {
            let (a, b, mut c) = (vec![0.5f32; m * k], vec![0.25f32; k * n], vec![0f32; m * n]);
            least(|| {
                let (c, a, b) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
                let (m_step, n_step, k_step) = (n as isize, 1, k as isize);
                // SAFETY: the three matrices have m * n, m * k and k * n elements, row-major.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c,
                        n_step,
                        m_step,
                        false,
                        a,
                        1,
                        k_step,
                        b,
                        1,
                        m_step,
                        0f32,
                        1f32,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
            })
        })
        .sum()
}

/// The time of each node, from its inputs alone.
fn layers(evaluator: &Interpreter, image: &Tensor) {
    let mut values = vec![];
    evaluator.run_observed(std::slice::from_ref(image), &mut |v, t| values.push((v, t.clone()))).unwrap();
    for node in evaluator.graph().nodes() {
        let given: Vec<_> = values
            .iter()
            .filter(|(v, _)| node.inputs.iter().any(|o| o.value() == Some(*v)))
            .map(|(v, t)| (*v, t))
            .collect();
        let seconds = least(|| drop(evaluator.run_from(&given, &[node.output]).unwrap()));
        let shape = &evaluator.graph().value_type(node.output).shape;
        println!("  {:8.1} us  {:12} {shape}", seconds * 1e6, node.op.name());
    }
}
