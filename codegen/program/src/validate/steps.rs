//! Rules for a single step. They assume that the ids are in range and the sizes bounded.

use super::MAX_EPILOGUE;
use super::window::{conv_output, pool_output};
use crate::codes::PackedCodes;
use crate::epilogue::{EpilogueStep, Operand};
use crate::program::{ConstantId, Program};
use crate::step::{Geometry, Op, Step};
use crate::tensor::{Constant, ConstantData, Format, Layout, TensorDecl};

type Rules = Result<(), String>;

/// Checks a step and returns the first violation.
pub(super) fn step_rules(program: &Program, step: &Step) -> Rules {
    let cx = Context { program, step, output: program.tensor(step.output) };
    cx.operation()?;
    cx.epilogue()
}

struct Context<'p> {
    program: &'p Program,
    step: &'p Step,
    output: &'p TensorDecl,
}

fn ensure(condition: bool, message: impl FnOnce() -> String) -> Rules {
    if condition { Ok(()) } else { Err(message()) }
}

/// The largest code of a format minus the smallest. `None` if the format has no codes.
fn span(format: Format) -> Option<u64> {
    match format {
        Format::Codes { bits, .. } => Some((1 << bits) - 1),
        Format::F32 | Format::Index => None,
    }
}

/// Kernels multiply `weight - zero_point` as signed bytes. Below 8 bits every difference fits.
fn centered_weights(codes: &PackedCodes, zero_point: &[i32], terms: usize) -> Rules {
    if codes.bits() < 8 {
        return Ok(());
    }
    let (lowest, codes) = (codes.lowest(), codes.unsigned());
    for (o, row) in codes.chunks_exact(terms).enumerate() {
        let z = zero_point[if zero_point.len() == 1 { 0 } else { o }];
        let (least, most) = row.iter().fold((u8::MAX, u8::MIN), |(l, m), &x| (l.min(x), m.max(x)));
        let (least, most) = (i32::from(least) + lowest, i32::from(most) + lowest);
        ensure(least - z >= -128 && most - z <= 127, || {
            format!(
                "weights {least} to {most} of output channel {o} less their zero-point {z} do not fit a signed byte: quantize 8-bit weights symmetrically"
            )
        })?;
    }
    Ok(())
}

fn sum_fits(terms: usize, spans: u64) -> Rules {
    ensure((terms as u64).saturating_mul(spans) <= i32::MAX as u64, || "its sums may overflow i32".into())
}

impl<'p> Context<'p> {
    fn inputs<const N: usize>(&self) -> Result<[&'p TensorDecl; N], String> {
        let ids: [_; N] = self.step.inputs.as_slice().try_into().map_err(|_| self.arity(N))?;
        Ok(ids.map(|t| self.program.tensor(t)))
    }

    fn arity(&self, expected: usize) -> String {
        format!("takes {expected} inputs, not {}", self.step.inputs.len())
    }

    fn image(&self, t: &TensorDecl, what: &str) -> Result<[usize; 3], String> {
        match (t.layout, t.dims.as_slice()) {
            (Layout::ChannelsLast, &[c, h, w]) => Ok([c, h, w]),
            _ => Err(format!("its {what} must be channels-last [C,H,W]")),
        }
    }

    fn f32(&self, t: &TensorDecl, what: &str) -> Rules {
        ensure(t.format == Format::F32, || format!("its {what} must be f32"))
    }

    /// Requires an f32 tensor in row-major order.
    fn rows(&self, t: &TensorDecl, what: &str) -> Rules {
        ensure(t.format == Format::F32 && t.layout == Layout::RowMajor, || format!("its {what} must be f32, row-major"))
    }

    fn values(&self, t: &TensorDecl, what: &str) -> Rules {
        ensure(t.format != Format::Index, || format!("its {what} must be f32 or codes"))
    }

    fn output_dims(&self, dims: &[usize]) -> Rules {
        ensure(self.output.dims == dims, || format!("its output has dimensions {:?}, not {dims:?}", self.output.dims))
    }

    fn same_kind(&self, input: &TensorDecl) -> Rules {
        let o = self.output;
        ensure(input.format == o.format && input.layout == o.layout, || {
            "its input and output must have one format and layout".into()
        })
    }

    fn axis(&self, t: &TensorDecl, axis: usize) -> Rules {
        ensure(axis < t.dims.len(), || format!("there is no axis {axis} in {:?}", t.dims))
    }

    fn f32_constant(&self, id: ConstantId, what: &str) -> Result<&'p Constant, String> {
        let c = self.program.constant(id);
        match c.data {
            ConstantData::F32(_) => Ok(c),
            ConstantData::Codes { .. } => Err(format!("its {what} must be f32")),
        }
    }

    fn constant_dims(&self, id: ConstantId, what: &str, dims: &[usize]) -> Rules {
        let found = &self.program.constant(id).dims;
        ensure(found == dims, || format!("the dimensions of its {what} are {found:?}, not {dims:?}"))
    }

    /// Requires an f32 constant with one element for each output channel.
    fn per_channel(&self, id: ConstantId, what: &str, channels: usize, finite: bool) -> Rules {
        let c = self.f32_constant(id, what)?;
        self.constant_dims(id, what, &[channels])?;
        match &c.data {
            ConstantData::F32(v) if finite && v.iter().any(|x| !x.is_finite()) => {
                Err(format!("a value of its {what} is not finite"))
            }
            _ => Ok(()),
        }
    }

    fn finite(&self, x: f32, what: &str) -> Rules {
        ensure(x.is_finite(), || format!("{what} {x:?} is not finite"))
    }

    /// Checks the weights, groups and sizes of a convolution. Returns the number of terms in each sum.
    fn conv(&self, g: &Geometry, groups: usize, weights: ConstantId) -> Result<usize, String> {
        let [x] = self.inputs()?;
        let image = self.image(x, "input")?;
        let [o, ..] = self.image(self.output, "output")?;
        let [c, ..] = image;
        ensure(groups > 0 && c.is_multiple_of(groups) && o.is_multiple_of(groups), || {
            format!("{groups} groups do not divide {c} input and {o} output channels")
        })?;
        let depth = c / groups;
        let [kh, kw] = g.kernel;
        let [h, w] = conv_output(g, image)?;
        self.constant_dims(weights, "weights", &[o, depth, kh, kw])?;
        self.output_dims(&[o, h, w])?;
        Ok(depth * kh * kw)
    }

    fn average(&self, x: &TensorDecl, count: usize, scale: f32) -> Rules {
        self.values(x, "input")?;
        self.finite(scale, "scale")?;
        sum_fits(count, span(x.format).unwrap_or(0))
    }

    fn operation(&self) -> Rules {
        match &self.step.op {
            Op::Conv { geometry, groups, weights, multiplier, bias } => {
                self.code_conv(geometry, *groups, *weights, [*multiplier, *bias])
            }
            Op::FloatConv { geometry, groups, weights, bias } => self.float_conv(geometry, *groups, *weights, *bias),
            Op::FloatLinear { weights, bias } => self.float_linear(*weights, *bias),
            Op::MatMul { scale } => self.matmul(*scale),
            Op::MaxPool { geometry } => self.max_pool(geometry),
            Op::AvgPool { geometry, count_include_pad: _, scale } => self.average_pool(geometry, *scale),
            Op::Mean { axes, scale } => self.mean(axes, *scale),
            Op::Map { scale } => self.map(*scale),
            Op::Constant { constant } => self.constant(*constant),
            Op::View => self.view(),
            Op::Concat { axis } => self.concat(*axis),
            Op::Transpose { perm } => self.transpose(perm),
            Op::Pad { before, value } => self.pad(before, *value),
            Op::Slice { axis, start, step } => self.slice(*axis, *start, *step),
            Op::Pick { axis, indices } => self.pick(*axis, indices),
            Op::Interpolate { axis, indices, weights, scale } => self.interpolate(*axis, indices, *weights, *scale),
            Op::Softmax { axis } => self.softmax(*axis),
            Op::SquaredDistance { centroids } => self.squared_distance(*centroids),
            Op::ArgMin { axis } => self.arg_min(*axis),
            Op::GatherRow { table } => self.gather_row(*table),
        }
    }

    /// Checks a convolution of codes. `scaling` holds the multipliers and the biases.
    fn code_conv(&self, geometry: &Geometry, groups: usize, weights: ConstantId, scaling: [ConstantId; 2]) -> Rules {
        let [multiplier, bias] = scaling;
        let terms = self.conv(geometry, groups, weights)?;
        let [x] = self.inputs()?;
        let x_span = span(x.format).ok_or("its input must be codes")?;
        let ConstantData::Codes { codes, zero_point, .. } = &self.program.constant(weights).data else {
            return Err("its weights must be codes".into());
        };
        sum_fits(terms, x_span * ((1 << codes.bits()) - 1))?;
        centered_weights(codes, zero_point, terms)?;
        self.per_channel(multiplier, "multiplier", self.output.dims[0], true)?;
        self.per_channel(bias, "bias", self.output.dims[0], true)
    }

    fn float_conv(&self, geometry: &Geometry, groups: usize, weights: ConstantId, bias: ConstantId) -> Rules {
        self.conv(geometry, groups, weights)?;
        let [x] = self.inputs()?;
        self.f32(x, "input")?;
        self.per_channel(bias, "bias", self.output.dims[0], false)
    }

    fn float_linear(&self, weights: ConstantId, bias: ConstantId) -> Rules {
        let [x] = self.inputs()?;
        self.rows(x, "input")?;
        ensure(self.output.layout == Layout::RowMajor, || "its output must be row-major".into())?;
        let Some((k, rows)) = x.dims.split_last() else {
            return Err("its input has no dimension".into());
        };
        let o = *self.output.dims.last().ok_or("its output has no dimension")?;
        self.constant_dims(weights, "weights", &[o, *k])?;
        self.per_channel(bias, "bias", o, false)?;
        self.output_dims(&[rows, &[o]].concat())
    }

    fn pool(&self, geometry: &Geometry, x: &TensorDecl) -> Rules {
        let image = self.image(x, "input")?;
        let [c, h, w] = self.image(self.output, "output")?;
        ensure(c == image[0], || format!("{c} output channels for {} input channels", image[0]))?;
        pool_output(geometry, image, [h, w])
    }

    fn max_pool(&self, geometry: &Geometry) -> Rules {
        let [x] = self.inputs()?;
        self.values(x, "input")?;
        self.same_kind(x)?;
        self.pool(geometry, x)
    }

    fn average_pool(&self, geometry: &Geometry, scale: f32) -> Rules {
        let [x] = self.inputs()?;
        self.pool(geometry, x)?;
        self.average(x, geometry.kernel[0] * geometry.kernel[1], scale)
    }

    fn matmul(&self, scale: f32) -> Rules {
        let [a, b] = self.inputs()?;
        self.finite(scale, "scale")?;
        match (span(a.format), span(b.format)) {
            (Some(x), Some(y)) => {
                ensure(a.layout == Layout::RowMajor && b.layout == Layout::RowMajor, || {
                    "its inputs must be row-major".into()
                })?;
                sum_fits(a.dims.last().copied().unwrap_or(0), x * y)?;
            }
            _ => {
                self.rows(a, "input 0")?;
                self.rows(b, "input 1")?;
            }
        }
        ensure(self.output.layout == Layout::RowMajor, || "its output must be row-major".into())?;
        let (Some(&[m, k]), Some(&[k2, p])) = (a.dims.last_chunk(), b.dims.last_chunk()) else {
            return Err("its inputs must have two dimensions or more".into());
        };
        let lead = &a.dims[..a.dims.len() - 2];
        ensure(k == k2 && lead == &b.dims[..b.dims.len() - 2], || {
            format!("{:?} and {:?} do not multiply: [..,M,K] and [..,K,P] are needed", a.dims, b.dims)
        })?;
        self.output_dims(&[lead, &[m, p]].concat())
    }

    fn mean(&self, axes: &[usize], scale: f32) -> Rules {
        let [x] = self.inputs()?;
        ensure(!axes.is_empty() && axes.windows(2).all(|w| w[0] < w[1]), || {
            format!("axes {axes:?} must be ascending and not empty")
        })?;
        axes.iter().try_for_each(|&a| self.axis(x, a))?;
        self.average(x, axes.iter().map(|&a| x.dims[a]).product(), scale)?;
        let reduced = |i: &usize| axes.contains(i);
        let kept: Vec<usize> = (0..x.dims.len()).map(|i| if reduced(&i) { 1 } else { x.dims[i] }).collect();
        let dropped: Vec<usize> = (0..x.dims.len()).filter(|i| !reduced(i)).map(|i| x.dims[i]).collect();
        let dims = &self.output.dims;
        ensure(*dims == kept || *dims == dropped, || {
            format!("its output has dimensions {dims:?}, neither {kept:?} nor {dropped:?}")
        })
    }

    fn map(&self, scale: f32) -> Rules {
        let [x] = self.inputs()?;
        self.finite(scale, "scale")?;
        self.output_dims(&x.dims)
    }

    fn constant(&self, constant: ConstantId) -> Rules {
        let [] = self.inputs()?;
        let c = self.f32_constant(constant, "constant")?;
        broadcasts(&c.dims, &self.output.dims)
    }

    fn view(&self) -> Rules {
        let [x] = self.inputs()?;
        ensure(x.format == self.output.format, || "its input and output must have one format".into())?;
        ensure(x.len() == self.output.len(), || format!("{:?} and {:?} differ in size", x.dims, self.output.dims))
    }

    fn concat(&self, axis: usize) -> Rules {
        ensure(!self.step.inputs.is_empty(), || "takes at least 1 input, not 0".into())?;
        self.axis(self.output, axis)?;
        let mut total = 0;
        for &t in &self.step.inputs {
            let x = self.program.tensor(t);
            self.same_kind(x)?;
            let fits = |(i, (a, b)): (usize, (&usize, &usize))| i == axis || a == b;
            let equal =
                x.dims.len() == self.output.dims.len() && x.dims.iter().zip(&self.output.dims).enumerate().all(fits);
            ensure(equal, || format!("{:?} does not fit into {:?} along axis {axis}", x.dims, self.output.dims))?;
            total += x.dims[axis];
        }
        let size = self.output.dims[axis];
        ensure(total == size, || format!("its inputs have {total} slices along axis {axis}, its output {size}"))
    }

    fn transpose(&self, perm: &[usize]) -> Rules {
        let [x] = self.inputs()?;
        ensure(x.format == self.output.format, || "its input and output must have one format".into())?;
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        ensure(sorted.into_iter().eq(0..x.dims.len()), || format!("{perm:?} is no permutation of the axes"))?;
        self.output_dims(&perm.iter().map(|&i| x.dims[i]).collect::<Vec<_>>())
    }

    fn pad(&self, before: &[usize], value: f32) -> Rules {
        let [x] = self.inputs()?;
        self.values(x, "input")?;
        self.same_kind(x)?;
        ensure(x.format == Format::F32 || value == 0.0, || "codes can only be padded with zero".into())?;
        let dims = &self.output.dims;
        let rank = x.dims.len();
        ensure(before.len() == rank && dims.len() == rank, || format!("padding for each axis of {:?}", x.dims))?;
        let fits = |i: usize| before[i].checked_add(x.dims[i]).is_some_and(|end| end <= dims[i]);
        ensure((0..rank).all(fits), || format!("{:?} from {before:?} does not lie in {dims:?}", x.dims))
    }

    fn slice(&self, axis: usize, start: usize, step: usize) -> Rules {
        let [x] = self.inputs()?;
        self.same_kind(x)?;
        self.axis(x, axis)?;
        let mut dims = x.dims.clone();
        dims[axis] = *self.output.dims.get(axis).ok_or("its output has too few dimensions")?;
        self.output_dims(&dims)?;
        let last = (dims[axis] - 1).checked_mul(step).and_then(|n| n.checked_add(start));
        ensure(step > 0 && last.is_some_and(|last| last < x.dims[axis]), || {
            format!("no {} slices from {start} by {step} in an axis of {}", dims[axis], x.dims[axis])
        })
    }

    fn pick(&self, axis: usize, indices: &[usize]) -> Rules {
        let [x] = self.inputs()?;
        self.same_kind(x)?;
        self.axis(x, axis)?;
        let beyond = indices.iter().find(|&&i| i >= x.dims[axis]);
        ensure(beyond.is_none(), || format!("an index is beyond the {} slices of axis {axis}", x.dims[axis]))?;
        let mut dims = x.dims.clone();
        dims[axis] = indices.len();
        self.output_dims(&dims)
    }

    fn interpolate(&self, axis: usize, indices: &[usize], weights: ConstantId, scale: f32) -> Rules {
        let [x] = self.inputs()?;
        self.values(x, "input")?;
        self.finite(scale, "scale")?;
        self.axis(x, axis)?;
        let c = self.f32_constant(weights, "weights")?;
        let &[size, _] = c.dims.as_slice() else {
            return Err(format!("the dimensions of its weights are {:?}, not [I,T]", c.dims));
        };
        ensure(matches!(&c.data, ConstantData::F32(v) if v.len() == indices.len()), || {
            format!("it has {} indices for weights of {:?}", indices.len(), c.dims)
        })?;
        ensure(matches!(&c.data, ConstantData::F32(v) if v.iter().all(|w| w.is_finite())), || {
            "a value of its weights is not finite".into()
        })?;
        let beyond = indices.iter().find(|&&i| i >= x.dims[axis]);
        ensure(beyond.is_none(), || format!("an index is beyond the {} slices of axis {axis}", x.dims[axis]))?;
        let mut dims = x.dims.clone();
        dims[axis] = size;
        self.output_dims(&dims)
    }

    fn softmax(&self, axis: usize) -> Rules {
        let [x] = self.inputs()?;
        self.f32(x, "input")?;
        self.axis(x, axis)?;
        self.same_kind(x)?;
        self.output_dims(&x.dims)
    }

    fn squared_distance(&self, centroids: ConstantId) -> Rules {
        let [x] = self.inputs()?;
        self.rows(x, "input")?;
        self.rows(self.output, "output")?;
        let c = self.f32_constant(centroids, "centroids")?;
        let (&[p], &[k]) = (x.dims.as_slice(), self.output.dims.as_slice()) else {
            return Err("its input and output have one dimension each".into());
        };
        ensure(c.dims == [k, p], || format!("its centroids have dimensions {:?}, not {:?}", c.dims, [k, p]))
    }

    fn arg_min(&self, axis: usize) -> Rules {
        let [x] = self.inputs()?;
        self.rows(x, "input")?;
        self.axis(x, axis)?;
        let o = self.output;
        ensure(o.format == Format::Index && o.layout == Layout::RowMajor, || {
            "its output must be indices, row-major".into()
        })?;
        let mut dims = x.dims.clone();
        dims.remove(axis);
        self.output_dims(&dims)
    }

    fn gather_row(&self, table: ConstantId) -> Rules {
        let [x] = self.inputs()?;
        ensure(x.format == Format::Index && x.layout == Layout::RowMajor, || {
            "its input must be indices, row-major".into()
        })?;
        self.rows(self.output, "output")?;
        let c = self.f32_constant(table, "table")?;
        let rest = c.dims.get(1..).ok_or("its table has no dimension")?;
        self.output_dims(&[x.dims.as_slice(), rest].concat())
    }

    fn epilogue(&self) -> Rules {
        let e = &self.step.epilogue;
        if !self.step.op.has_epilogue() {
            return ensure(e.steps.is_empty() && e.requantize.is_none(), || "it takes no epilogue".into());
        }
        ensure(e.steps.len() <= MAX_EPILOGUE, || {
            format!("its epilogue has {} steps, at most {MAX_EPILOGUE} are allowed", e.steps.len())
        })?;
        self.values(self.output, "output")?;
        if let Some(factor) = e.requantize {
            ensure(self.output.format != Format::F32, || "it requantizes, but its output is f32".into())?;
            self.finite(factor, "requantization factor")?;
        }
        for step in &e.steps {
            match step {
                EpilogueStep::Binary { operand, scale, .. } => {
                    self.finite(*scale, "operand scale")?;
                    let dims = match operand {
                        Operand::Tensor(t) => {
                            let t = self.program.tensor(*t);
                            self.values(t, "operand")?;
                            &t.dims
                        }
                        Operand::Constant(c) => &self.f32_constant(*c, "operand")?.dims,
                    };
                    broadcasts(dims, &self.output.dims)?;
                }
                EpilogueStep::Unary(f) => f.check()?,
                EpilogueStep::Scale(factor) => self.finite(*factor, "factor")?,
            }
        }
        Ok(())
    }
}

fn broadcasts(from: &[usize], to: &[usize]) -> Rules {
    let fits = from.len() <= to.len() && from.iter().rev().zip(to.iter().rev()).all(|(a, b)| a == b || *a == 1);
    ensure(fits, || format!("{from:?} does not broadcast to {to:?}"))
}
