//! Decoding of messages to a program. A missing field is an error. [`Program::validate`] checks the values.

use super::{epilogue, schema as s};
use crate::codes::PackedCodes;
use crate::{
    BuildInfo, Constant, ConstantData, ConstantId, Format, Geometry, Layout, Op, Port, Program, Range, Step,
    TensorDecl, TensorId,
};

pub(super) type Decoded<T> = Result<T, String>;

pub(super) fn program(m: s::Program) -> Decoded<Program> {
    Ok(Program {
        name: m.name,
        info: info(need(m.info, "the build information")?)?,
        tensors: each(m.tensors, "tensor", tensor)?,
        constants: each(m.constants, "constant", constant)?,
        inputs: m.inputs.into_iter().map(port).collect(),
        outputs: m.outputs.into_iter().map(port).collect(),
        steps: each(m.steps, "step", step)?,
        tunings: vec![],
    })
}

pub(super) fn need<T>(x: Option<T>, what: &str) -> Decoded<T> {
    x.ok_or_else(|| format!("{what} is missing"))
}

pub(super) fn each<M, T>(messages: Vec<M>, what: &str, decode: impl Fn(M) -> Decoded<T>) -> Decoded<Vec<T>> {
    messages.into_iter().enumerate().map(|(i, m)| decode(m).map_err(|e| format!("{what} {i}: {e}"))).collect()
}

fn bits(n: u32) -> Decoded<u8> {
    n.try_into().map_err(|_| format!("{n} bits"))
}

fn size(n: u64) -> Decoded<usize> {
    n.try_into().map_err(|_| format!("size {n} is too large"))
}

fn sizes(v: Vec<u64>) -> Decoded<Vec<usize>> {
    v.into_iter().map(size).collect()
}

fn array<const N: usize>(v: Vec<u64>, what: &str) -> Decoded<[usize; N]> {
    sizes(v)?.try_into().map_err(|v: Vec<usize>| format!("{what} has {} sizes, not {N}", v.len()))
}

fn info(m: s::BuildInfo) -> Decoded<BuildInfo> {
    Ok(BuildInfo {
        catc_version: m.catc_version,
        method: m.method,
        weight_bits: bits(m.weight_bits)?,
        activation_bits: bits(m.activation_bits)?,
        seed: m.seed,
        calibration: m.calibration,
        float_bytes: m.float_bytes,
        layer_bits: m.layer_bits,
    })
}

fn tensor(m: s::Tensor) -> Decoded<TensorDecl> {
    let format = match need(m.format, "the format")? {
        s::tensor::Format::F32(_) => Format::F32,
        s::tensor::Format::Index(_) => Format::Index,
        s::tensor::Format::Codes(c) => Format::Codes {
            signed: c.signed,
            bits: bits(c.bits)?,
            scale: need(c.scale, "the scale")?,
            zero_point: c.zero_point,
        },
    };
    let layout = if m.channels_last { Layout::ChannelsLast } else { Layout::RowMajor };
    Ok(TensorDecl { name: m.name, format, dims: sizes(m.dims)?, layout })
}

fn constant(m: s::Constant) -> Decoded<Constant> {
    let data = match need(m.data, "the element type")? {
        s::constant::Data::F32(_) => ConstantData::F32(vec![]),
        s::constant::Data::Codes(c) => ConstantData::Codes {
            codes: PackedCodes::announced(c.signed, bits(c.bits)?),
            scale: c.scale,
            zero_point: c.zero_point,
        },
    };
    Ok(Constant { dims: sizes(m.dims)?, data })
}

fn port(m: s::Port) -> Port {
    let range = m.range.map(|r| Range { low: r.low, high: r.high });
    Port { name: m.name, tensor: TensorId(m.tensor), range }
}

fn window(m: Option<s::Window>) -> Decoded<Geometry> {
    let m = need(m, "the window")?;
    Ok(Geometry {
        kernel: array(m.kernel, "the kernel")?,
        strides: array(m.strides, "the list of strides")?,
        pads: array(m.pads, "the padding")?,
        dilations: array(m.dilations, "the list of dilations")?,
    })
}

fn step(m: s::Step) -> Decoded<Step> {
    Ok(Step {
        name: m.name,
        op: op(need(m.op, "the operation")?)?,
        inputs: m.inputs.into_iter().map(TensorId).collect(),
        epilogue: epilogue::decode(need(m.epilogue, "the epilogue")?)?,
        output: TensorId(m.output),
    })
}

fn op(m: s::step::Op) -> Decoded<Op> {
    use s::step::Op as M;
    Ok(match m {
        M::Conv(m) => Op::Conv {
            geometry: window(m.window)?,
            groups: size(m.groups)?,
            weights: ConstantId(m.weights),
            multiplier: ConstantId(m.multiplier),
            bias: ConstantId(m.bias),
        },
        M::FloatConv(m) => Op::FloatConv {
            geometry: window(m.window)?,
            groups: size(m.groups)?,
            weights: ConstantId(m.weights),
            bias: ConstantId(m.bias),
        },
        M::FloatLinear(m) => Op::FloatLinear { weights: ConstantId(m.weights), bias: ConstantId(m.bias) },
        M::MatMul(m) => Op::MatMul { scale: m.scale.unwrap_or(1.0) },
        M::MaxPool(m) => Op::MaxPool { geometry: window(m.window)? },
        M::AvgPool(m) => Op::AvgPool {
            geometry: window(m.window)?,
            count_include_pad: m.count_include_pad,
            scale: need(m.scale, "the scale")?,
        },
        M::Mean(m) => Op::Mean { axes: sizes(m.axes)?, scale: need(m.scale, "the scale")? },
        M::Map(m) => Op::Map { scale: need(m.scale, "the scale")? },
        M::Constant(m) => Op::Constant { constant: ConstantId(m.constant) },
        M::View(_) => Op::View,
        M::Concat(m) => Op::Concat { axis: size(m.axis)? },
        M::Transpose(m) => Op::Transpose { perm: sizes(m.perm)? },
        M::Pad(m) => Op::Pad { before: sizes(m.before)?, value: need(m.value, "the value")? },
        M::Pick(m) => Op::Pick { axis: size(m.axis)?, indices: sizes(m.indices)? },
        M::Interpolate(m) => Op::Interpolate {
            axis: size(m.axis)?,
            indices: sizes(m.indices)?,
            weights: ConstantId(m.weights),
            scale: need(m.scale, "the scale")?,
        },
        M::Slice(m) => Op::Slice { axis: size(m.axis)?, start: size(m.start)?, step: size(m.step)? },
        M::Softmax(m) => Op::Softmax { axis: size(m.axis)? },
        M::SquaredDistance(m) => Op::SquaredDistance { centroids: ConstantId(m.constant) },
        M::ArgMin(m) => Op::ArgMin { axis: size(m.axis)? },
        M::GatherRow(m) => Op::GatherRow { table: ConstantId(m.constant) },
    })
}
