//! Direct implementations of the operations, written apart from the evaluator: one loop for each index, f64 or i64 inside.

#![allow(dead_code, reason = "each test binary uses its part")]

use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Constant, Element, Graph, Op, Operand, Phase, Shape, Tensor, TensorType};

/// Evaluates one operation whose operands are graph inputs (`Some` batch dimension first) or constants.
pub fn run_op(phase: Phase, op: Op, inputs: &[(Tensor, bool)]) -> Tensor {
    let mut g = Graph::new("one");
    g.phase = phase;
    let mut operands: Vec<Operand> = vec![];
    let mut given = vec![];
    for (i, (t, constant)) in inputs.iter().enumerate() {
        if *constant {
            operands.push(g.push_constant(Constant { element: element(t), tensor: t.clone().into() }).into());
        } else {
            let v = g.add_input(format!("x{i}"), TensorType::new(element(t), Shape::fixed(t.shape())));
            operands.push(v.into());
            given.push(t.clone());
        }
    }
    if given.is_empty() {
        g.add_input("unused", TensorType::f32(Shape::fixed(&[])));
        given.push(Tensor::scalar(0.0));
    }
    let y = g.append(op, operands, "").unwrap();
    g.add_output("y", y);
    Interpreter::new(&g).unwrap().run(&given).unwrap().remove(0)
}

fn element(t: &Tensor) -> Element {
    match t.data() {
        catc_ir::TensorData::F32(_) => Element::F32,
        catc_ir::TensorData::I64(_) => Element::I64,
        catc_ir::TensorData::Bool(_) => Element::Bool,
        catc_ir::TensorData::Code(_) => panic!("codes need a quantizer"),
    }
}

/// Pseudo-random reals in -1..1 (splitmix).
pub fn reals(seed: u64, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    Tensor::f32(shape, (0..n).map(|i| (mix(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect())
}

/// Pseudo-random integers in `lo..=hi`.
pub fn integers(seed: u64, n: usize, lo: i32, hi: i32) -> Vec<i16> {
    (0..n).map(|i| (lo + (mix(seed, i) % (hi - lo + 1) as u64) as i32) as i16).collect()
}

fn mix(seed: u64, i: usize) -> u64 {
    let mut z = seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sizes of a window sliding along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub before: usize,
    pub after: usize,
    pub dilation: usize,
}

impl Axis {
    /// Number of outputs without ceil mode.
    pub fn output(&self) -> usize {
        (self.input + self.before + self.after - (self.kernel - 1) * self.dilation - 1) / self.stride + 1
    }

    /// Place of tap `t` of output `o` in the input, if it is inside.
    pub fn tap(&self, o: usize, t: usize) -> Option<usize> {
        let p = (o * self.stride + t * self.dilation) as i64 - self.before as i64;
        (0..self.input as i64).contains(&p).then_some(p as usize)
    }
}

/// Sums over the windows of a convolution: `product(x index, w index)` for each pair, added up in `T`, output `[N,O,H',W']`.
#[allow(clippy::too_many_arguments)]
pub fn convolve<T: std::ops::AddAssign + Default>(
    n: usize,
    c: usize,
    o: usize,
    groups: usize,
    y: Axis,
    x: Axis,
    product: impl Fn(usize, usize) -> T,
) -> Vec<T> {
    let (ci, co) = (c / groups, o / groups);
    let mut out = vec![];
    for i in 0..n {
        for k in 0..o {
            for oy in 0..y.output() {
                for ox in 0..x.output() {
                    let mut sum = T::default();
                    for j in 0..ci {
                        for ky in 0..y.kernel {
                            for kx in 0..x.kernel {
                                if let (Some(iy), Some(ix)) = (y.tap(oy, ky), x.tap(ox, kx)) {
                                    let channel = k / co * ci + j;
                                    let xi = ((i * c + channel) * y.input + iy) * x.input + ix;
                                    let wi = ((k * ci + j) * y.kernel + ky) * x.kernel + kx;
                                    sum += product(xi, wi);
                                }
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    out
}

/// An error where two tensors differ by more than `tolerance` times the largest expected element, taken as at least 0.1.
pub fn close(found: &Tensor, expected: &[f64], tolerance: f64) -> Result<(), String> {
    let found = found.as_f32().ok_or("not f32")?;
    if found.len() != expected.len() {
        return Err(format!("{} elements, not {}", found.len(), expected.len()));
    }
    let scale = expected.iter().fold(0.1f64, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        // Equal infinities are close, too.
        if f64::from(*f) != *e && (f64::from(*f) - e).abs().partial_cmp(&(tolerance * scale)).is_none_or(|o| o.is_gt())
        {
            return Err(format!("element {i}: {f} instead of {e}"));
        }
    }
    Ok(())
}
