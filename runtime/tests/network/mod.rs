//! A small network with two outputs: an image and the channel whose mean is least.
#![allow(dead_code, reason = "each test binary uses its part")]

use catc_runtime::Model;
use catc_runtime::program::*;

/// Elements of an input image `[2,6,6]`.
pub const INPUT: usize = 72;
/// Elements of the first output of one image, `[3,6,6]`.
pub const OUTPUT: usize = 108;

fn tensor(format: Format, dims: &[usize], layout: Layout) -> TensorDecl {
    TensorDecl { name: format!("{dims:?}"), format, dims: dims.to_vec(), layout }
}

fn step(op: Op, input: u32, epilogue: Epilogue, output: u32) -> Step {
    Step { name: op.name().into(), op, inputs: vec![TensorId(input)], epilogue, output: TensorId(output) }
}

/// `[2,6,6]` to 4 bits, a 3x3 convolution with relu to f32, and the argmin of its channels' means.
pub fn program() -> Program {
    let codes = Format::Codes { signed: false, bits: 4, scale: 0.5, zero_point: 7 };
    let codes_of_weights: Vec<i16> = (0..54).map(|i| ((i * i * 3 + i * 5) / 3 % 8) as i16 - 4).collect();
    let weights = ConstantData::Codes {
        codes: PackedCodes::new(true, 3, &codes_of_weights).unwrap(),
        scale: vec![1.0],
        zero_point: vec![0],
    };
    let reals = |v: Vec<f32>| Constant { dims: vec![v.len()], data: ConstantData::F32(v) };
    let geometry = Geometry { kernel: [3, 3], strides: [1, 1], pads: [1; 4], dilations: [1, 1] };
    let [weights_id, multiplier, bias] = [0, 1, 2].map(ConstantId);
    let relu = Epilogue { steps: vec![EpilogueStep::Unary(Unary::Relu)], requantize: None };
    let plain = Epilogue::default;
    let port = |name: &str, tensor| Port::new(name, TensorId(tensor));
    let (hwc, rows) = (Layout::ChannelsLast, Layout::RowMajor);
    Program {
        name: "small".into(),
        info: BuildInfo::default(),
        tensors: vec![
            tensor(Format::F32, &[2, 6, 6], rows),
            tensor(codes, &[2, 6, 6], hwc),
            tensor(Format::F32, &[3, 6, 6], hwc),
            tensor(Format::F32, &[3, 6, 6], rows),
            tensor(Format::F32, &[3], rows),
            tensor(Format::Index, &[], rows),
        ],
        constants: vec![
            Constant { dims: vec![3, 2, 3, 3], data: weights },
            reals(vec![0.5, 0.5, 0.5]),
            reals(vec![0.5, 0.25, 0.0]),
        ],
        inputs: vec![port("image", 0)],
        outputs: vec![port("features", 3), port("least", 5)],
        steps: vec![
            step(Op::Map { scale: 1.0 }, 0, Epilogue { steps: vec![], requantize: Some(2.0) }, 1),
            step(Op::Conv { geometry, groups: 1, weights: weights_id, multiplier, bias }, 1, relu, 2),
            step(Op::Map { scale: 1.0 }, 2, plain(), 3),
            step(Op::Mean { axes: vec![1, 2], scale: 1.0 }, 2, plain(), 4),
            step(Op::ArgMin { axis: 0 }, 4, plain(), 5),
        ],
        tunings: vec![],
    }
}

pub fn model() -> Model {
    Model::from_program(program()).unwrap()
}

/// This many images, none like another.
pub fn images(n: usize) -> Vec<f32> {
    (0..n * INPUT).map(|i| (i * (5 + i / INPUT * 7) % 61) as f32 / 8.0 - 4.0).collect()
}
