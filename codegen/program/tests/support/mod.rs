//! Programs for tests: a builder, one with every operation, and random ones.
#![allow(dead_code, reason = "each test binary uses its part")]

use catc_program::*;

/// A program in the making.
#[derive(Default)]
pub struct Build(pub Program);

pub fn codes(signed: bool, bits: u8, scale: f32, zero_point: i32) -> Format {
    Format::Codes { signed, bits, scale, zero_point }
}

pub fn window(kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4]) -> Geometry {
    Geometry { kernel, strides, pads, dilations: [1, 1] }
}

impl Build {
    pub fn new(name: &str) -> Self {
        let info = BuildInfo {
            catc_version: "0.1.0".into(),
            method: "mse".into(),
            weight_bits: 2,
            activation_bits: 4,
            seed: u64::MAX,
            calibration: "32 images".into(),
            float_bytes: 1 << 40,
            layer_bits: vec!["fc=32/32".into()],
        };
        Build(Program { name: name.into(), info, ..Program::default() })
    }

    pub fn tensor(&mut self, format: Format, dims: &[usize], layout: Layout) -> TensorId {
        let name = format!("v{}", self.0.tensors.len());
        self.0.tensors.push(TensorDecl { name, format, dims: dims.to_vec(), layout });
        TensorId(self.0.tensors.len() as u32 - 1)
    }

    pub fn input(&mut self, dims: &[usize]) -> TensorId {
        let tensor = self.tensor(Format::F32, dims, Layout::RowMajor);
        self.0.inputs.push(Port::new(format!("in{}", tensor.0), tensor));
        tensor
    }

    pub fn output(&mut self, tensor: TensorId) {
        self.0.outputs.push(Port::new(format!("out{}", tensor.0), tensor));
    }

    pub fn reals(&mut self, dims: &[usize], data: Vec<f32>) -> ConstantId {
        self.0.constants.push(Constant { dims: dims.to_vec(), data: ConstantData::F32(data) });
        ConstantId(self.0.constants.len() as u32 - 1)
    }

    /// Weights per slice of the first dimension, with codes that walk through the whole range.
    pub fn weights(&mut self, dims: &[usize], signed: bool, bits: u8) -> ConstantId {
        let (min, n) = (Format::min_code(signed, bits), dims.iter().product::<usize>());
        let walk: Vec<i16> = (0..n).map(|i| (min + (i * 5 % (1 << bits)) as i32) as i16).collect();
        let data = ConstantData::Codes {
            codes: PackedCodes::new(signed, bits, &walk).unwrap(),
            scale: (0..dims[0]).map(|i| 0.125 * (i + 1) as f32).collect(),
            // Of 8 bits the one in the middle, for which codes less it fit a signed byte.
            zero_point: (0..dims[0]).map(|i| min + if bits == 8 { 128 } else { i % (1 << bits) } as i32).collect(),
        };
        self.0.constants.push(Constant { dims: dims.to_vec(), data });
        ConstantId(self.0.constants.len() as u32 - 1)
    }

    pub fn step(&mut self, op: Op, inputs: &[TensorId], epilogue: Epilogue, output: TensorId) -> TensorId {
        let name = format!("{} {}", op.name(), self.0.steps.len());
        self.0.steps.push(Step { name, op, inputs: inputs.to_vec(), epilogue, output });
        output
    }

    /// A step without an epilogue and its new output.
    pub fn plain(&mut self, op: Op, inputs: &[TensorId], format: Format, dims: &[usize], layout: Layout) -> TensorId {
        let output = self.tensor(format, dims, layout);
        self.step(op, inputs, Epilogue::default(), output)
    }

    pub fn format(&self, t: TensorId) -> Format {
        self.0.tensor(t).format
    }

    pub fn dims(&self, t: TensorId) -> Vec<usize> {
        self.0.tensor(t).dims.clone()
    }
}

/// Every operation, every epilogue step and every format once.
pub fn every_operation() -> Program {
    use Layout::{ChannelsLast as Hwc, RowMajor as Rows};
    let mut b = Build::new("every \"operation\"");
    let image = b.input(&[2, 6, 6]);
    let (u4, i3) = (codes(false, 4, 0.5, 3), codes(true, 3, 0.25, -4));
    let requantize = |factor| Epilogue { steps: vec![], requantize: Some(factor) };
    let x = b.tensor(u4, &[2, 6, 6], Hwc);
    b.step(Op::Map { scale: 1.0 }, &[image], requantize(2.0), x);

    let (w, m, bias) =
        (b.weights(&[4, 1, 3, 3], true, 2), b.reals(&[4], vec![0.5, 0.25, 1.0, 2.0]), b.reals(&[4], vec![-0.0; 4]));
    let skip = b.reals(&[4, 1, 1], vec![f32::INFINITY, f32::NEG_INFINITY, 0.0, 1.5]);
    let steps = vec![
        EpilogueStep::Binary { op: Binary::Add, operand: Operand::Constant(skip), scale: -0.0 },
        EpilogueStep::Unary(Unary::Relu),
        EpilogueStep::Scale(-2.0),
        EpilogueStep::Unary(Unary::LeakyRelu { alpha: 0.1 }),
        EpilogueStep::Unary(Unary::Clip { min: f32::NEG_INFINITY, max: 6.0 }),
    ];
    let conv = b.tensor(i3, &[4, 3, 4], Hwc);
    let geometry = Geometry { kernel: [3, 3], strides: [2, 2], pads: [2, 2, 1, 1], dilations: [2, 1] };
    let op = Op::Conv { geometry, groups: 2, weights: w, multiplier: m, bias };
    b.step(op, &[x], Epilogue { steps, requantize: None }, conv);

    let pool = Op::MaxPool { geometry: window([2, 2], [1, 1], [0, 0, 0, 0]) };
    let pooled = b.plain(pool, &[conv], i3, &[4, 2, 3], Hwc);
    let op = Op::AvgPool { geometry: window([2, 3], [1, 1], [0, 0, 0, 0]), count_include_pad: true, scale: 0.25 };
    let steps = [
        Unary::Sigmoid,
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::HardSwish,
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
    ];
    let averaged = b.tensor(Format::F32, &[4, 1, 1], Hwc);
    let epilogue = Epilogue { steps: steps.map(EpilogueStep::Unary).to_vec(), requantize: None };
    b.step(op, &[pooled], epilogue, averaged);

    let (w, bias) = (b.weights(&[3, 4, 1, 1], false, 8), b.reals(&[3], vec![1.0, f32::NAN, 3.0]));
    let op = Op::FloatConv { geometry: window([1, 1], [1, 1], [0; 4]), groups: 1, weights: w, bias };
    let float = b.plain(op, &[averaged], Format::F32, &[3, 1, 1], Hwc);
    let row = b.plain(Op::View, &[float], Format::F32, &[3], Rows);
    let (w, bias) = (b.reals(&[5, 3], vec![0.5; 15]), b.reals(&[5], vec![0.0; 5]));
    let logits = b.tensor(Format::F32, &[5], Rows);
    let step = EpilogueStep::Binary { op: Binary::Mul, operand: Operand::Constant(bias), scale: 1.0 };
    let epilogue = Epilogue { steps: vec![step], requantize: None };
    b.step(Op::FloatLinear { weights: w, bias }, &[row], epilogue, logits);
    let centroids = b.reals(&[2, 5], (0..10).map(|i| i as f32).collect());
    let distances = b.plain(Op::SquaredDistance { centroids }, &[logits], Format::F32, &[2], Rows);
    let nearest = b.plain(Op::ArgMin { axis: 0 }, &[distances], Format::Index, &[], Rows);
    let gamma = b.plain(Op::GatherRow { table: centroids }, &[nearest], Format::F32, &[5], Rows);
    let corrected = b.tensor(Format::F32, &[5], Rows);
    let by = |op, t| EpilogueStep::Binary { op, operand: Operand::Tensor(t), scale: 0.5 };
    let steps = vec![by(Binary::Sub, gamma), by(Binary::Div, logits)];
    b.step(Op::Map { scale: 0.5 }, &[logits], Epilogue { steps, requantize: None }, corrected);
    let softmax = b.plain(Op::Softmax { axis: 0 }, &[corrected], Format::F32, &[5], Rows);

    let half = b.reals(&[], vec![0.5]);
    let filled = b.plain(Op::Constant { constant: half }, &[], Format::F32, &[2, 5], Rows);
    let column = b.plain(Op::View, &[softmax], Format::F32, &[5, 1], Rows);
    let product = b.plain(Op::MatMul { scale: 1.0 }, &[filled, column], Format::F32, &[2, 1], Rows);
    let mean = b.tensor(u4, &[4], Rows);
    b.step(Op::Mean { axes: vec![1, 2], scale: 0.25 }, &[pooled], requantize(2.0), mean);
    let both = b.plain(Op::Concat { axis: 0 }, &[mean, mean], u4, &[8], Rows);
    let padded = b.plain(Op::Pad { before: vec![1], value: 0.0 }, &[both], u4, &[10], Rows);
    let sliced = b.plain(Op::Slice { axis: 0, start: 1, step: 3 }, &[padded], u4, &[3], Rows);
    let reals = b.plain(Op::Map { scale: 0.5 }, &[sliced], Format::F32, &[3], Rows);
    let turned = b.plain(Op::Transpose { perm: vec![1, 0] }, &[product], Format::F32, &[1, 2], Rows);
    [softmax, nearest, reals, turned].into_iter().for_each(|t| b.output(t));
    let weights = b.reals(&[2, 2], vec![0.25, 0.75, 1.5, -0.5]);
    let op = Op::Interpolate { axis: 2, indices: vec![0, 2, 1, 1], weights, scale: 0.5 };
    b.plain(op, &[pooled], Format::F32, &[4, 2, 2], Hwc);
    for (cpu, tier) in [("a CPU", "v1"), ("a CPU", "v2")] {
        let layer = |step, pixels| TunedLayer { step, kernel: "a kernel".into(), pixels, vectors: pixels / 2 };
        b.0.tunings.push(Tuning { cpu: cpu.into(), tier: tier.into(), layers: vec![layer(0, 4), layer(2, 0)] });
    }
    b.0
}

/// A valid program that follows from a list of numbers.
pub fn from_choices(choices: &[u32]) -> Program {
    let mut numbers = choices.iter().copied();
    let mut next = |n: usize| numbers.next().unwrap_or(0) as usize % n;
    let mut b = Build::new("random");
    let image = b.input(&[1 + next(4), 1 + next(7), 1 + next(7)]);
    let mut last = image;
    while b.0.steps.len() < choices.len() / 6 {
        let (dims, format) = (b.dims(last), b.format(last));
        let [c, h, w] = [dims[0], dims[1], dims[2]];
        let signed = next(2) == 1;
        let bits = 2 + next(7) as u8;
        let zero_point = Format::min_code(signed, bits) + next(1 << bits) as i32;
        let fresh = codes(signed, bits, 0.01 * (1 + next(100)) as f32, zero_point);
        let hwc = Layout::ChannelsLast;
        let requantize = Epilogue { steps: vec![], requantize: Some(0.5 + next(9) as f32) };
        last = match (format, next(5)) {
            (Format::Codes { .. }, 0) => {
                let (o, k) = (1 + next(5), [1 + next(h.min(3)), 1 + next(w.min(3))]);
                let strides = [1 + next(2), 1 + next(2)];
                let pads = [next(3), next(2), next(2), next(3)];
                let size = |i: usize, n: usize| (n + pads[i] + pads[i + 2] - k[i]) / strides[i] + 1;
                let weights = b.weights(&[o, c, k[0], k[1]], next(2) == 0, 2 + next(7) as u8);
                let (multiplier, bias) = (b.reals(&[o], vec![0.125; o]), b.reals(&[o], vec![0.5; o]));
                let output = b.tensor(fresh, &[o, size(0, h), size(1, w)], hwc);
                let geometry = window(k, strides, pads);
                b.step(Op::Conv { geometry, groups: 1, weights, multiplier, bias }, &[last], requantize, output)
            }
            (Format::Codes { .. }, 1) => {
                b.plain(Op::Pad { before: vec![0, 1, 0], value: 0.0 }, &[last], format, &[c, h + 2, w + 1], hwc)
            }
            (Format::Codes { .. }, 2) => b.plain(Op::Concat { axis: 0 }, &[last, last], format, &[2 * c, h, w], hwc),
            _ => {
                let output = b.tensor(fresh, &dims, hwc);
                b.step(Op::Map { scale: 0.5 }, &[last], requantize, output)
            }
        };
    }
    let dims = b.dims(last);
    let output = b.plain(Op::Map { scale: 0.5 }, &[last], Format::F32, &dims, Layout::RowMajor);
    b.output(output);
    b.0
}
