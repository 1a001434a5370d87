//! Encoding of a program to messages.

use super::{epilogue, schema as s};
use crate::{BuildInfo, Constant, ConstantData, Format, Geometry, Layout, Op, Port, Program, Step, TensorDecl};

pub(super) fn program(p: &Program) -> s::Program {
    s::Program {
        name: p.name.clone(),
        info: Some(info(&p.info)),
        tensors: p.tensors.iter().map(tensor).collect(),
        constants: p.constants.iter().map(constant).collect(),
        inputs: p.inputs.iter().map(port).collect(),
        outputs: p.outputs.iter().map(port).collect(),
        steps: p.steps.iter().map(step).collect(),
    }
}

fn info(i: &BuildInfo) -> s::BuildInfo {
    s::BuildInfo {
        catc_version: i.catc_version.clone(),
        method: i.method.clone(),
        weight_bits: i.weight_bits.into(),
        activation_bits: i.activation_bits.into(),
        seed: i.seed,
        calibration: i.calibration.clone(),
        float_bytes: i.float_bytes,
        layer_bits: i.layer_bits.clone(),
    }
}

fn sizes(v: &[usize]) -> Vec<u64> {
    v.iter().map(|&n| n as u64).collect()
}

fn tensor(t: &TensorDecl) -> s::Tensor {
    let format = match t.format {
        Format::F32 => s::tensor::Format::F32(s::Nothing {}),
        Format::Index => s::tensor::Format::Index(s::Nothing {}),
        Format::Codes { signed, bits, scale, zero_point } => {
            s::tensor::Format::Codes(s::CodeFormat { signed, bits: bits.into(), scale: Some(scale), zero_point })
        }
    };
    s::Tensor {
        name: t.name.clone(),
        dims: sizes(&t.dims),
        channels_last: t.layout == Layout::ChannelsLast,
        format: Some(format),
    }
}

fn constant(c: &Constant) -> s::Constant {
    let data = match &c.data {
        ConstantData::F32(_) => s::constant::Data::F32(s::Nothing {}),
        ConstantData::Codes { codes, scale, zero_point } => s::constant::Data::Codes(s::ConstantCodes {
            signed: codes.signed(),
            bits: codes.bits().into(),
            scale: scale.clone(),
            zero_point: zero_point.clone(),
        }),
    };
    s::Constant { dims: sizes(&c.dims), data: Some(data) }
}

fn port(p: &Port) -> s::Port {
    let range = p.range.map(|r| s::Range { low: r.low, high: r.high });
    s::Port { name: p.name.clone(), tensor: p.tensor.0, range }
}

fn window(g: &Geometry) -> Option<s::Window> {
    Some(s::Window {
        kernel: sizes(&g.kernel),
        strides: sizes(&g.strides),
        pads: sizes(&g.pads),
        dilations: sizes(&g.dilations),
    })
}

fn step(step: &Step) -> s::Step {
    s::Step {
        name: step.name.clone(),
        inputs: step.inputs.iter().map(|t| t.0).collect(),
        output: step.output.0,
        epilogue: Some(epilogue::encode(&step.epilogue)),
        op: Some(op(&step.op)),
    }
}

fn op(op: &Op) -> s::step::Op {
    use s::step::Op as M;
    match op {
        Op::Conv { geometry, groups, weights, multiplier, bias } => M::Conv(s::Conv {
            window: window(geometry),
            groups: *groups as u64,
            weights: weights.0,
            multiplier: multiplier.0,
            bias: bias.0,
        }),
        Op::FloatConv { geometry, groups, weights, bias } => M::FloatConv(s::FloatConv {
            window: window(geometry),
            groups: *groups as u64,
            weights: weights.0,
            bias: bias.0,
        }),
        Op::FloatLinear { weights, bias } => M::FloatLinear(s::FloatLinear { weights: weights.0, bias: bias.0 }),
        Op::MatMul { scale } => M::MatMul(s::MatMul { scale: Some(*scale) }),
        Op::MaxPool { geometry } => M::MaxPool(s::MaxPool { window: window(geometry) }),
        Op::AvgPool { geometry, count_include_pad, scale } => M::AvgPool(s::AvgPool {
            window: window(geometry),
            count_include_pad: *count_include_pad,
            scale: Some(*scale),
        }),
        Op::Mean { axes, scale } => M::Mean(s::Mean { axes: sizes(axes), scale: Some(*scale) }),
        Op::Map { scale } => M::Map(s::Map { scale: Some(*scale) }),
        Op::Constant { constant } => M::Constant(s::ConstantOperand { constant: constant.0 }),
        Op::View => M::View(s::Nothing {}),
        Op::Concat { axis } => M::Concat(s::Axis { axis: *axis as u64 }),
        Op::Transpose { perm } => M::Transpose(s::Transpose { perm: sizes(perm) }),
        Op::Pad { before, value } => M::Pad(s::Pad { before: sizes(before), value: Some(*value) }),
        Op::Pick { axis, indices } => M::Pick(s::Pick { axis: *axis as u64, indices: sizes(indices) }),
        Op::Interpolate { axis, indices, weights, scale } => M::Interpolate(s::Interpolate {
            axis: *axis as u64,
            indices: sizes(indices),
            weights: weights.0,
            scale: Some(*scale),
        }),
        Op::Slice { axis, start, step } => {
            M::Slice(s::Slice { axis: *axis as u64, start: *start as u64, step: *step as u64 })
        }
        Op::Softmax { axis } => M::Softmax(s::Axis { axis: *axis as u64 }),
        Op::SquaredDistance { centroids } => M::SquaredDistance(s::ConstantOperand { constant: centroids.0 }),
        Op::ArgMin { axis } => M::ArgMin(s::Axis { axis: *axis as u64 }),
        Op::GatherRow { table } => M::GatherRow(s::ConstantOperand { constant: table.0 }),
    }
}
