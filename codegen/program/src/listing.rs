//! The textual listing of a program, with one line for each constant, port and step. It is meant for people and for snapshot
//! tests. There is no parser for it.

use crate::{Constant, ConstantData, Format, Geometry, Layout, Op, Operand, Program, Step, TensorDecl, TensorId};
use std::fmt::{self, Display, Formatter, Write};
use xxhash_rust::xxh3::Xxh3;

/// Constants with up to this many elements are printed in full, and so are lists of up to this many scales or zero points.
const SHOWN: usize = 4;

impl Display for Program {
    /// Also prints programs that are not valid.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let i = &self.info;
        writeln!(
            f,
            "program {:?} W{}A{} {:?} seed {} {{",
            self.name, i.weight_bits, i.activation_bits, i.method, i.seed
        )?;
        for (i, c) in self.constants.iter().enumerate() {
            writeln!(f, "  c{i} = {c}")?;
        }
        for port in &self.inputs {
            let range = port.range.map_or(String::new(), |r| format!(" {}..={}", r.low, r.high));
            writeln!(f, "  input {}{range} {:?}", Declared(self, port.tensor), port.name)?;
        }
        for step in &self.steps {
            writeln!(f, "  {} = {step} {:?}", Declared(self, step.output), step.name)?;
        }
        for port in &self.outputs {
            writeln!(f, "  output {} {:?}", port.tensor, port.name)?;
        }
        f.write_str("}\n")
    }
}

impl Display for TensorId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl Display for crate::ConstantId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Tensor(t) => t.fmt(f),
            Operand::Constant(c) => c.fmt(f),
        }
    }
}

/// A list, printed in brackets.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Debug> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (i, x) in self.0.iter().enumerate() {
            write!(f, "{}{x:?}", if i > 0 { "," } else { "" })?;
        }
        f.write_char(']')
    }
}

/// A list, of which only the first two items and the length are printed if it is long.
struct Head<'a, T>(&'a [T]);

impl<T: fmt::Debug> Display for Head<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            all if all.len() <= SHOWN => List(all).fmt(f),
            [a, b, ..] => write!(f, "[{a:?},{b:?},.. {}]", self.0.len()),
            _ => Ok(()),
        }
    }
}

/// A tensor, printed with its declaration.
struct Declared<'a>(&'a Program, TensorId);

impl Display for Declared<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.tensors.get(self.1.0 as usize) {
            Some(t) => write!(f, "{}: {t}", self.1),
            None => write!(f, "{}: undeclared", self.1),
        }
    }
}

fn code_format(signed: bool, bits: u8) -> String {
    format!("{}{bits}", if signed { 'i' } else { 'u' })
}

impl Display for TensorDecl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.format {
            Format::F32 => write!(f, "f32{}", List(&self.dims))?,
            Format::Index => write!(f, "index{}", List(&self.dims))?,
            Format::Codes { signed, bits, scale, zero_point } => {
                write!(f, "{}({scale:?}, {zero_point}){}", code_format(signed, bits), List(&self.dims))?;
            }
        }
        f.write_str(if self.layout == Layout::ChannelsLast { " hwc" } else { "" })
    }
}

impl Display for Constant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut hash = Xxh3::new();
        match &self.data {
            ConstantData::F32(v) => {
                write!(f, "f32{} ", List(&self.dims))?;
                if v.len() <= SHOWN {
                    return List(v).fmt(f);
                }
                v.iter().for_each(|x| hash.update(&x.to_le_bytes()));
            }
            ConstantData::Codes { codes, scale, zero_point } => {
                let format = code_format(codes.signed(), codes.bits());
                write!(f, "{format}{} scale {} zero_point {} ", List(&self.dims), Head(scale), Head(zero_point))?;
                let codes = codes.to_vec();
                if codes.len() <= SHOWN {
                    return List(&codes).fmt(f);
                }
                codes.iter().for_each(|x| hash.update(&x.to_le_bytes()));
            }
        }
        write!(f, "#{:016x}", hash.digest())
    }
}

/// The attributes of an operation, printed as `key=value` in braces.
#[derive(Default)]
struct Attributes(Vec<String>);

impl Attributes {
    fn with(mut self, key: &str, value: impl Display) -> Self {
        self.0.push(format!("{key}={value}"));
        self
    }

    /// Adds the window. Dilations are only printed if they are not 1.
    fn window(self, g: &Geometry) -> Self {
        let a = self.with("kernel", List(&g.kernel)).with("strides", List(&g.strides)).with("pads", List(&g.pads));
        if g.dilations == [1, 1] { a } else { a.with("dilations", List(&g.dilations)) }
    }

    fn groups(self, groups: usize) -> Self {
        if groups == 1 { self } else { self.with("groups", groups) }
    }
}

impl Op {
    /// The name of the operation in listings and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv { .. } => "conv",
            Op::FloatConv { .. } => "float_conv",
            Op::FloatLinear { .. } => "float_linear",
            Op::MatMul { .. } => "matmul",
            Op::MaxPool { .. } => "max_pool",
            Op::AvgPool { .. } => "avg_pool",
            Op::Mean { .. } => "mean",
            Op::Map { .. } => "map",
            Op::Constant { .. } => "constant",
            Op::View => "view",
            Op::Concat { .. } => "concat",
            Op::Transpose { .. } => "transpose",
            Op::Pad { .. } => "pad",
            Op::Slice { .. } => "slice",
            Op::Pick { .. } => "pick",
            Op::Interpolate { .. } => "interpolate",
            Op::Softmax { .. } => "softmax",
            Op::SquaredDistance { .. } => "squared_distance",
            Op::ArgMin { .. } => "argmin",
            Op::GatherRow { .. } => "gather_row",
        }
    }

    fn attributes(&self) -> Attributes {
        let a = Attributes::default();
        let real = |x: &f32| format!("{x:?}");
        match self {
            Op::Conv { geometry, groups, .. } | Op::FloatConv { geometry, groups, .. } => {
                a.window(geometry).groups(*groups)
            }
            Op::MaxPool { geometry } => a.window(geometry),
            Op::AvgPool { geometry, count_include_pad, scale } => {
                let a = a.window(geometry).with("scale", real(scale));
                if *count_include_pad { a.with("count_include_pad", true) } else { a }
            }
            Op::Mean { axes, scale } => a.with("axes", List(axes)).with("scale", real(scale)),
            Op::Map { scale } => a.with("scale", real(scale)),
            Op::MatMul { scale } if *scale != 1.0 => a.with("scale", real(scale)),
            Op::Concat { axis } | Op::Softmax { axis } | Op::ArgMin { axis } => a.with("axis", axis),
            Op::Transpose { perm } => a.with("perm", List(perm)),
            Op::Pad { before, value } => a.with("before", List(before)).with("value", real(value)),
            Op::Interpolate { axis, indices, scale, .. } => {
                a.with("axis", axis).with("taps", indices.len()).with("scale", real(scale))
            }
            Op::Pick { axis, indices } => a.with("axis", axis).with("count", indices.len()),
            Op::Slice { axis, start, step } => a.with("axis", axis).with("start", start).with("step", step),
            Op::FloatLinear { .. }
            | Op::MatMul { .. }
            | Op::Constant { .. }
            | Op::View
            | Op::SquaredDistance { .. }
            | Op::GatherRow { .. } => a,
        }
    }
}

impl Display for Step {
    /// Prints `conv t1, c0, c1, c2 {..} -> add(t0, 0.5), relu, requantize(2.0)`. The output and the name of the step are not
    /// printed.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        let taken = self.inputs.iter().map(|t| t.to_string()).chain(self.op.constants().map(|c| c.to_string()));
        for (i, operand) in taken.enumerate() {
            write!(f, "{} {operand}", if i > 0 { "," } else { "" })?;
        }
        let attributes = self.op.attributes().0;
        if !attributes.is_empty() {
            write!(f, " {{{}}}", attributes.join(", "))?;
        }
        let requantize = self.epilogue.requantize.map(|x| format!("requantize({x:?})"));
        let steps: Vec<String> = self.epilogue.steps.iter().map(|s| s.to_string()).chain(requantize).collect();
        if steps.is_empty() { Ok(()) } else { write!(f, " -> {}", steps.join(", ")) }
    }
}
