//! Programs executed by the book: one element at a time, straight from the documentation of the steps.

use super::scalar::{exp, lanes, max, unary};
use catc_program::*;

/// The elements of a tensor in row-major order of its dimensions, whatever its layout.
#[derive(Clone, Debug)]
pub enum Data {
    F32(Vec<f32>),
    Codes(Vec<i32>),
    Index(Vec<i32>),
}

/// The f32 outputs for f32 inputs.
pub fn run(program: &Program, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let tensors = run_all(program, inputs);
    program
        .outputs
        .iter()
        .map(|port| match tensors[port.tensor.0 as usize].as_ref().unwrap() {
            Data::F32(v) => v.clone(),
            other => panic!("output holds {other:?}"),
        })
        .collect()
}

/// Every tensor.
pub fn run_all(program: &Program, inputs: &[Vec<f32>]) -> Vec<Option<Data>> {
    let mut r = Run { p: program, t: vec![None; program.tensors.len()] };
    for (port, values) in program.inputs.iter().zip(inputs) {
        r.t[port.tensor.0 as usize] = Some(Data::F32(values.clone()));
    }
    for step in &program.steps {
        let data = r.step(step);
        r.t[step.output.0 as usize] = Some(data);
    }
    r.t
}

struct Run<'p> {
    p: &'p Program,
    t: Vec<Option<Data>>,
}

/// Indices of a row-major element.
fn unravel(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for i in (0..dims.len()).rev() {
        index[i] = at % dims[i];
        at /= dims[i];
    }
    index
}

fn ravel(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (i, d)| at * d + i)
}

fn broadcast(index: &[usize], dims: &[usize]) -> usize {
    let skip = index.len() - dims.len();
    let own: Vec<usize> = index[skip..].iter().zip(dims).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect();
    ravel(&own, dims)
}

fn floats(constant: &Constant) -> Vec<f32> {
    match &constant.data {
        ConstantData::F32(v) => v.clone(),
        ConstantData::Codes { codes, scale, zero_point, .. } => {
            let (each, codes) = (codes.len() / scale.len(), codes.to_vec());
            let value = |(i, &c): (usize, &i16)| scale[i / each] * (c as i32 - zero_point[i / each]) as f32;
            codes.iter().enumerate().map(value).collect()
        }
    }
}

/// Taps of a window: (tap, y, x) with the position in the input, maybe outside.
fn taps(g: &Geometry, oy: usize, ox: usize) -> impl Iterator<Item = (usize, usize, i64, i64)> + '_ {
    (0..g.kernel[0]).flat_map(move |ky| {
        (0..g.kernel[1]).map(move |kx| {
            let y = (oy * g.strides[0] + ky * g.dilations[0]) as i64 - g.pads[0] as i64;
            let x = (ox * g.strides[1] + kx * g.dilations[1]) as i64 - g.pads[1] as i64;
            (ky, kx, y, x)
        })
    })
}

impl Run<'_> {
    fn data(&self, id: TensorId) -> &Data {
        self.t[id.0 as usize].as_ref().unwrap()
    }

    fn f32(&self, id: TensorId) -> &[f32] {
        match self.data(id) {
            Data::F32(v) => v,
            other => panic!("not f32: {other:?}"),
        }
    }

    fn raw(&self, id: TensorId) -> Vec<f64> {
        match self.data(id) {
            Data::F32(v) => v.iter().map(|&x| x as f64).collect(),
            Data::Codes(v) | Data::Index(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }

    fn dims(&self, id: TensorId) -> &[usize] {
        &self.p.tensor(id).dims
    }

    fn zero(&self, id: TensorId) -> i32 {
        match self.p.tensor(id).format {
            Format::Codes { zero_point, .. } => zero_point,
            _ => 0,
        }
    }

    /// Raw elements in the output's format.
    fn same(&self, step: &Step, raw: Vec<f64>) -> Data {
        match self.p.tensor(step.output).format {
            Format::F32 => Data::F32(raw.into_iter().map(|x| x as f32).collect()),
            Format::Index => Data::Index(raw.into_iter().map(|x| x as i32).collect()),
            Format::Codes { .. } => Data::Codes(raw.into_iter().map(|x| x as i32).collect()),
        }
    }

    fn finish(&self, step: &Step, mut t: Vec<f32>) -> Data {
        let dims = self.dims(step.output).to_vec();
        for item in &step.epilogue.steps {
            for (at, t) in t.iter_mut().enumerate() {
                *t = match *item {
                    EpilogueStep::Unary(f) => unary(f, *t),
                    EpilogueStep::Scale(s) => *t * s,
                    EpilogueStep::Binary { op, operand, scale } => {
                        let index = unravel(at, &dims);
                        let other = match operand {
                            Operand::Constant(c) => {
                                let c = self.p.constant(c);
                                floats(c)[broadcast(&index, &c.dims)]
                            }
                            Operand::Tensor(id) => {
                                let at = broadcast(&index, self.dims(id));
                                match self.data(id) {
                                    Data::F32(v) => v[at],
                                    Data::Codes(v) => (v[at] - self.zero(id)) as f32,
                                    Data::Index(_) => panic!("indices"),
                                }
                            }
                        };
                        let other = other * scale;
                        match op {
                            Binary::Add => *t + other,
                            Binary::Sub => *t - other,
                            Binary::Mul => *t * other,
                            Binary::Div => *t / other,
                        }
                    }
                };
            }
        }
        match self.p.tensor(step.output).format {
            Format::F32 => Data::F32(t),
            Format::Index => panic!("indices from reals"),
            Format::Codes { signed, bits, zero_point, .. } => {
                let low = (Format::min_code(signed, bits) - zero_point) as f32;
                let high = (Format::max_code(signed, bits) - zero_point) as f32;
                let code = |t: f32| {
                    let t = step.epilogue.requantize.map_or(t, |f| t * f);
                    if t.is_nan() { zero_point } else { t.round_ties_even().clamp(low, high) as i32 + zero_point }
                };
                Data::Codes(t.into_iter().map(code).collect())
            }
        }
    }

    fn step(&self, step: &Step) -> Data {
        match &step.op {
            Op::Conv { geometry, groups, weights, multiplier, bias } => {
                self.code_conv(step, geometry, *groups, *weights, [*multiplier, *bias])
            }
            Op::FloatConv { geometry, groups, weights, bias } => {
                self.float_conv(step, geometry, *groups, *weights, *bias)
            }
            Op::FloatLinear { weights, bias } => self.linear(step, *weights, *bias),
            Op::MatMul { scale } if matches!(self.data(step.inputs[0]), Data::Codes(_)) => {
                self.code_matmul(step, *scale)
            }
            Op::MatMul { .. } => self.float_matmul(step),
            Op::MaxPool { geometry } => self.max_pool(step, geometry),
            Op::AvgPool { geometry, count_include_pad, scale } => {
                self.average_pool(step, geometry, *count_include_pad, *scale)
            }
            Op::Mean { axes, scale } => self.mean(step, axes, *scale),
            Op::Map { scale } => self.map(step, *scale),
            Op::Constant { constant } => self.filled(step, *constant),
            Op::View => self.view(step),
            Op::Concat { axis } => self.concat(step, *axis),
            Op::Transpose { perm } => self.transpose(step, perm),
            Op::Pad { before, value } => self.pad(step, before, *value),
            Op::Slice { axis, start, step: distance } => self.slice(step, *axis, *start, *distance),
            Op::Pick { axis, indices } => self.picked(step, *axis, indices),
            Op::Interpolate { axis, indices, weights, scale } => {
                self.interpolated(step, *axis, indices, *weights, *scale)
            }
            Op::Softmax { axis } => self.softmax(step, *axis),
            Op::SquaredDistance { centroids } => self.squared_distance(step, *centroids),
            Op::ArgMin { axis } => self.argmin(step, *axis),
            Op::GatherRow { table } => self.gather_row(step, *table),
        }
    }

    /// The dimensions of a step's output, and how many elements it has.
    fn out(&self, step: &Step) -> (Vec<usize>, usize) {
        let dims = self.dims(step.output).to_vec();
        let count = dims.iter().product();
        (dims, count)
    }

    fn code_conv(
        &self,
        step: &Step,
        geometry: &Geometry,
        groups: usize,
        weights: ConstantId,
        [multiplier, bias]: [ConstantId; 2],
    ) -> Data {
        let (out, count) = self.out(step);
        let Data::Codes(x) = self.data(step.inputs[0]) else { panic!("not codes") };
        let (d, zero) = (self.dims(step.inputs[0]), self.zero(step.inputs[0]));
        let c = self.p.constant(weights);
        let ConstantData::Codes { codes, zero_point, .. } = &c.data else { panic!("not codes") };
        let codes = codes.to_vec();
        let (m, b) = (floats(self.p.constant(multiplier)), floats(self.p.constant(bias)));
        let per_group = out[0] / groups;
        let t = (0..count).map(|at| {
            let i = unravel(at, &out);
            let zw = if zero_point.len() == 1 { zero_point[0] } else { zero_point[i[0]] };
            let mut sum = 0i32;
            for (ky, kx, y, px) in taps(geometry, i[1], i[2]) {
                if y < 0 || px < 0 || y >= d[1] as i64 || px >= d[2] as i64 {
                    continue;
                }
                for ci in 0..c.dims[1] {
                    let channel = i[0] / per_group * c.dims[1] + ci;
                    let a = x[ravel(&[channel, y as usize, px as usize], d)] - zero;
                    let w = i32::from(codes[ravel(&[i[0], ci, ky, kx], &c.dims)]) - zw;
                    sum += a * w;
                }
            }
            sum as f32 * m[i[0]] + b[i[0]]
        });
        self.finish(step, t.collect())
    }

    fn float_conv(
        &self,
        step: &Step,
        geometry: &Geometry,
        groups: usize,
        weights: ConstantId,
        bias: ConstantId,
    ) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.f32(step.inputs[0]), self.dims(step.inputs[0]));
        let c = self.p.constant(weights);
        let (w, b) = (floats(c), floats(self.p.constant(bias)));
        let per_group = out[0] / groups;
        let t = (0..count).map(|at| {
            let i = unravel(at, &out);
            let mut sum = 0f64;
            for (ky, kx, y, px) in taps(geometry, i[1], i[2]) {
                if y < 0 || px < 0 || y >= d[1] as i64 || px >= d[2] as i64 {
                    continue;
                }
                for ci in 0..c.dims[1] {
                    let channel = i[0] / per_group * c.dims[1] + ci;
                    let a = x[ravel(&[channel, y as usize, px as usize], d)];
                    sum += f64::from(a) * f64::from(w[ravel(&[i[0], ci, ky, kx], &c.dims)]);
                }
            }
            sum as f32 + b[i[0]]
        });
        self.finish(step, t.collect())
    }

    fn linear(&self, step: &Step, weights: ConstantId, bias: ConstantId) -> Data {
        let (_, count) = self.out(step);
        let x = self.f32(step.inputs[0]);
        let c = self.p.constant(weights);
        let (w, b) = (floats(c), floats(self.p.constant(bias)));
        let (o, k) = (c.dims[0], c.dims[1]);
        let t = (0..count).map(|at| {
            let (row, j) = (at / o, at % o);
            lanes((0..k).map(|i| x[row * k + i] * w[j * k + i])) + b[j]
        });
        self.finish(step, t.collect())
    }

    fn code_matmul(&self, step: &Step, scale: f32) -> Data {
        let (out, count) = self.out(step);
        let centred = |id: TensorId| match self.data(id) {
            Data::Codes(v) => v.iter().map(|&c| i64::from(c) - i64::from(self.zero(id))).collect::<Vec<_>>(),
            _ => panic!("not codes"),
        };
        let (a, b) = (centred(step.inputs[0]), centred(step.inputs[1]));
        let k = *self.dims(step.inputs[0]).last().unwrap();
        let (m, p) = (out[out.len() - 2], out[out.len() - 1]);
        let t = (0..count).map(|at| {
            let (batch, row, column) = (at / (m * p), at / p % m, at % p);
            let sum: i64 = (0..k).map(|i| a[(batch * m + row) * k + i] * b[(batch * k + i) * p + column]).sum();
            sum as f32 * scale
        });
        self.finish(step, t.collect())
    }

    fn float_matmul(&self, step: &Step) -> Data {
        let (out, count) = self.out(step);
        let (a, b) = (self.f32(step.inputs[0]), self.f32(step.inputs[1]));
        let k = *self.dims(step.inputs[0]).last().unwrap();
        let (m, p) = (out[out.len() - 2], out[out.len() - 1]);
        let t = (0..count).map(|at| {
            let (batch, row, column) = (at / (m * p), at / p % m, at % p);
            lanes((0..k).map(|i| a[(batch * m + row) * k + i] * b[(batch * k + i) * p + column]))
        });
        self.finish(step, t.collect())
    }

    fn max_pool(&self, step: &Step, geometry: &Geometry) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.raw(step.inputs[0]), self.dims(step.inputs[0]));
        let t = (0..count).map(|at| {
            let i = unravel(at, &out);
            taps(geometry, i[1], i[2])
                .filter(|&(_, _, y, px)| y >= 0 && px >= 0 && y < d[1] as i64 && px < d[2] as i64)
                .map(|(_, _, y, px)| x[ravel(&[i[0], y as usize, px as usize], d)])
                .fold(f64::NEG_INFINITY, f64::max)
        });
        self.same(step, t.collect())
    }

    fn average_pool(&self, step: &Step, geometry: &Geometry, count_include_pad: bool, scale: f32) -> Data {
        let (out, count) = self.out(step);
        let d = self.dims(step.inputs[0]);
        let t = (0..count).map(|at| {
            let i = unravel(at, &out);
            let inside: Vec<usize> = taps(geometry, i[1], i[2])
                .filter(|&(_, _, y, px)| y >= 0 && px >= 0 && y < d[1] as i64 && px < d[2] as i64)
                .map(|(_, _, y, px)| ravel(&[i[0], y as usize, px as usize], d))
                .collect();
            let padded = taps(geometry, i[1], i[2])
                .filter(|&(_, _, y, px)| y < (d[1] + geometry.pads[2]) as i64 && px < (d[2] + geometry.pads[3]) as i64)
                .count();
            let n = if count_include_pad { padded } else { inside.len() };
            self.average(step.inputs[0], &inside, n, scale, false)
        });
        self.finish(step, t.collect())
    }

    fn mean(&self, step: &Step, axes: &[usize], scale: f32) -> Data {
        let (_, count) = self.out(step);
        let d = self.dims(step.inputs[0]).to_vec();
        let kept: Vec<usize> = (0..d.len()).map(|i| if axes.contains(&i) { 1 } else { d[i] }).collect();
        let reduced: Vec<usize> = axes.iter().map(|&a| d[a]).collect();
        let n: usize = reduced.iter().product();
        let t = (0..count).map(|at| {
            let mut index = unravel(at, &kept);
            let all: Vec<usize> = (0..n)
                .map(|r| {
                    for (&a, i) in axes.iter().zip(unravel(r, &reduced)) {
                        index[a] = i;
                    }
                    ravel(&index, &d)
                })
                .collect();
            self.average(step.inputs[0], &all, n, scale, true)
        });
        self.finish(step, t.collect())
    }

    fn map(&self, step: &Step, scale: f32) -> Data {
        let zero = self.zero(step.inputs[0]);
        let t = match self.data(step.inputs[0]) {
            Data::F32(v) => v.iter().map(|x| x * scale).collect(),
            Data::Codes(v) => v.iter().map(|x| (x - zero) as f32 * scale).collect(),
            Data::Index(v) => v.iter().map(|&x| x as f32 * scale).collect(),
        };
        self.finish(step, t)
    }

    fn filled(&self, step: &Step, constant: ConstantId) -> Data {
        let (out, count) = self.out(step);
        let c = self.p.constant(constant);
        let values = floats(c);
        self.finish(step, (0..count).map(|at| values[broadcast(&unravel(at, &out), &c.dims)]).collect())
    }

    fn view(&self, step: &Step) -> Data {
        let (_, count) = self.out(step);
        let (from, to) = (self.p.tensor(step.inputs[0]), self.p.tensor(step.output));
        let x = self.raw(step.inputs[0]);
        let place = |decl: &TensorDecl, at: usize| -> usize {
            unravel(at, &decl.dims).iter().zip(decl.strides()).map(|(i, s)| i * s).sum()
        };
        let mut memory = vec![0.0; x.len()];
        x.iter().enumerate().for_each(|(at, &v)| memory[place(from, at)] = v);
        self.same(step, (0..count).map(|at| memory[place(to, at)]).collect())
    }

    fn concat(&self, step: &Step, axis: usize) -> Data {
        let (out, count) = self.out(step);
        let t = (0..count).map(|at| {
            let mut i = unravel(at, &out);
            for &part in &step.inputs {
                let d = self.dims(part);
                if i[axis] < d[axis] {
                    return self.raw(part)[ravel(&i, d)];
                }
                i[axis] -= d[axis];
            }
            panic!("beyond the inputs")
        });
        self.same(step, t.collect())
    }

    fn transpose(&self, step: &Step, perm: &[usize]) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.raw(step.inputs[0]), self.dims(step.inputs[0]));
        let t = (0..count).map(|at| {
            let mut i = vec![0; d.len()];
            unravel(at, &out).into_iter().zip(perm).for_each(|(v, &p)| i[p] = v);
            x[ravel(&i, d)]
        });
        self.same(step, t.collect())
    }

    fn pad(&self, step: &Step, before: &[usize], value: f32) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.raw(step.inputs[0]), self.dims(step.inputs[0]));
        let fill = match self.p.tensor(step.output).format {
            Format::Codes { zero_point, .. } => f64::from(zero_point),
            _ => f64::from(value),
        };
        let t = (0..count).map(|at| {
            let i: Option<Vec<usize>> = unravel(at, &out)
                .into_iter()
                .zip(before.iter().zip(d))
                .map(|(i, (&b, &n))| i.checked_sub(b).filter(|&i| i < n))
                .collect();
            i.map_or(fill, |i| x[ravel(&i, d)])
        });
        self.same(step, t.collect())
    }

    fn slice(&self, step: &Step, axis: usize, start: usize, distance: usize) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.raw(step.inputs[0]), self.dims(step.inputs[0]));
        let t = (0..count).map(|at| {
            let mut i = unravel(at, &out);
            i[axis] = start + i[axis] * distance;
            x[ravel(&i, d)]
        });
        self.same(step, t.collect())
    }

    fn picked(&self, step: &Step, axis: usize, indices: &[usize]) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.raw(step.inputs[0]), self.dims(step.inputs[0]));
        let t = (0..count).map(|at| {
            let mut i = unravel(at, &out);
            i[axis] = indices[i[axis]];
            x[ravel(&i, d)]
        });
        self.same(step, t.collect())
    }

    fn interpolated(&self, step: &Step, axis: usize, indices: &[usize], weights: ConstantId, scale: f32) -> Data {
        let (out, count) = self.out(step);
        let d = self.dims(step.inputs[0]);
        let x: Vec<f32> = match self.data(step.inputs[0]) {
            Data::F32(v) => v.clone(),
            Data::Codes(v) => v.iter().map(|c| (c - self.zero(step.inputs[0])) as f32).collect(),
            Data::Index(_) => panic!("indices"),
        };
        let c = self.p.constant(weights);
        let (w, taps) = (floats(c), c.dims[1]);
        let t = (0..count).map(|at| {
            let mut i = unravel(at, &out);
            let row = i[axis] * taps;
            let mut product = |tap: usize| {
                i[axis] = indices[row + tap];
                w[row + tap] * x[ravel(&i, d)]
            };
            let first = product(0);
            (1..taps).fold(first, |sum, tap| sum + product(tap)) * scale
        });
        self.finish(step, t.collect())
    }

    fn softmax(&self, step: &Step, axis: usize) -> Data {
        let (out, count) = self.out(step);
        let x = self.f32(step.inputs[0]);
        let t = (0..count).map(|at| {
            let mut i = unravel(at, &out);
            let own = i[axis];
            let row: Vec<f32> = (0..out[axis])
                .map(|k| {
                    i[axis] = k;
                    x[ravel(&i, &out)]
                })
                .collect();
            let m = row.iter().copied().fold(f32::NEG_INFINITY, max);
            let e: Vec<f32> = row.iter().map(|x| exp(x - m)).collect();
            e[own] / lanes(e.iter().copied())
        });
        Data::F32(t.collect())
    }

    fn squared_distance(&self, step: &Step, centroids: ConstantId) -> Data {
        let (_, count) = self.out(step);
        let (x, c) = (self.f32(step.inputs[0]), self.p.constant(centroids));
        let (values, p) = (floats(c), c.dims[1]);
        let distance = |k: usize| lanes((0..p).map(|i| (x[i] - values[k * p + i]) * (x[i] - values[k * p + i])));
        Data::F32((0..count).map(distance).collect())
    }

    fn argmin(&self, step: &Step, axis: usize) -> Data {
        let (out, count) = self.out(step);
        let (x, d) = (self.f32(step.inputs[0]), self.dims(step.inputs[0]));
        let t = (0..count).map(|at| {
            let mut i = unravel(at, &out);
            i.insert(axis, 0);
            let mut value = |k: usize| {
                i[axis] = k;
                x[ravel(&i, d)]
            };
            let mut best = 0;
            for k in 1..d[axis] {
                if value(k) < value(best) {
                    best = k;
                }
            }
            best as i32
        });
        Data::Index(t.collect())
    }

    fn gather_row(&self, step: &Step, table: ConstantId) -> Data {
        let (_, count) = self.out(step);
        let Data::Index(i) = self.data(step.inputs[0]) else { panic!("no index") };
        let values = floats(self.p.constant(table));
        let length = count / i.len();
        let rows = (values.len() / length) as i32;
        let row = |i: i32| if i < 0 { i + rows } else { i } as usize;
        Data::F32(i.iter().flat_map(|&i| values[row(i) * length..][..length].to_vec()).collect())
    }

    /// The mean of elements, by the rules of averages; sums of f32 in one lane or in four.
    fn average(&self, id: TensorId, elements: &[usize], n: usize, scale: f32, four: bool) -> f32 {
        let zero = self.zero(id);
        match self.data(id) {
            Data::Codes(v) => elements.iter().map(|&i| v[i] - zero).sum::<i32>() as f32 * (scale / n as f32),
            Data::F32(v) if four => lanes(elements.iter().map(|&i| v[i])) / n as f32,
            Data::F32(v) => elements.iter().fold(0f32, |s, &i| s + v[i]) / n as f32,
            Data::Index(_) => panic!("indices"),
        }
    }
}
