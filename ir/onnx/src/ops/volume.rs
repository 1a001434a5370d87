//! Convolution and pooling over three dimensions, expressed with two-dimensional operations. A convolution treats the slices that
//! a window covers in depth as channels, and computes one output slice at a time. A pooling is split into a pooling over depth
//! and a pooling over height and width.

use super::build::{Built, concat, pick, reshape};
use crate::error::NodeProblem;
use crate::node::NodeContext;
use crate::value::Value;
use catc_ir::ops::{Conv2d, Pad, Window};
use catc_ir::{Dim, Op, Shape};

/// The largest number of output slices. Each one becomes a separate convolution.
const MAX_SLICES: usize = 256;

/// A window over `[D,H,W]`.
pub(super) struct Window3d {
    pub kernel: [usize; 3],
    pub strides: [usize; 3],
    pub dilations: [usize; 3],
    /// The padding before each dimension, followed by the padding after each dimension.
    pub pads: [usize; 6],
    pub ceil_mode: bool,
}

impl Window3d {
    /// The window over height and width.
    pub(super) fn picture(&self) -> Window {
        let [_, h, w] = self.kernel;
        Window {
            kernel: [h, w],
            strides: [self.strides[1], self.strides[2]],
            pads: [self.pads[1], self.pads[2], self.pads[4], self.pads[5]],
            dilations: [self.dilations[1], self.dilations[2]],
            ceil_mode: self.ceil_mode,
        }
    }

    /// The window over depth, which takes the place of the height of an image.
    pub(super) fn depth(&self) -> Window {
        Window {
            kernel: [self.kernel[0], 1],
            strides: [self.strides[0], 1],
            pads: [self.pads[0], 0, self.pads[3], 0],
            dilations: [self.dilations[0], 1],
            ceil_mode: self.ceil_mode,
        }
    }
}

/// Reads three sizes, each at least `least`.
fn triple(name: &str, list: Option<&[i64]>, least: i64, default: usize) -> Result<[usize; 3], NodeProblem> {
    let size = |n: i64| usize::try_from(n).ok().filter(|_| n >= least && n <= i64::from(i32::MAX));
    match list {
        None => Ok([default; 3]),
        Some(&[a, b, c]) => match (size(a), size(b), size(c)) {
            (Some(a), Some(b), Some(c)) => Ok([a, b, c]),
            _ => Err(NodeProblem::attribute(name, "holds no possible size")),
        },
        Some(list) => Err(NodeProblem::attribute(name, format!("holds {} numbers for 3 dimensions", list.len()))),
    }
}

/// The window that the attributes of a node define over `input`. The kernel size comes from the weights or from an attribute.
pub(super) fn window(
    cx: &mut NodeContext,
    kernel: Option<[usize; 3]>,
    input: [usize; 3],
    ceil_mode: bool,
) -> Result<Window3d, NodeProblem> {
    let written = cx.ints("kernel_shape")?;
    let kernel = match (kernel, written) {
        (Some(k), None) => k,
        (None, None) => return Err(NodeProblem::attribute("kernel_shape", "is missing")),
        (known, Some(list)) => {
            let k = triple("kernel_shape", Some(list), 1, 1)?;
            if known.is_some_and(|w| w != k) {
                return Err(NodeProblem::attribute("kernel_shape", "does not fit the weights"));
            }
            k
        }
    };
    if kernel.contains(&0) {
        return Err(NodeProblem::input(1, "is empty"));
    }
    let strides = triple("strides", cx.ints("strides")?, 1, 1)?;
    let dilations = triple("dilations", cx.ints("dilations")?, 1, 1)?;
    let mut pads = match cx.ints("pads")? {
        None => [0; 6],
        Some(list) if list.len() == 6 => {
            let (before, after) = (triple("pads", Some(&list[..3]), 0, 0)?, triple("pads", Some(&list[3..]), 0, 0)?);
            [before[0], before[1], before[2], after[0], after[1], after[2]]
        }
        Some(list) => {
            return Err(NodeProblem::attribute("pads", format!("holds {} numbers for 3 dimensions", list.len())));
        }
    };
    let auto = cx.word("auto_pad")?.unwrap_or("NOTSET");
    let mut ceil_mode = ceil_mode;
    match auto {
        "NOTSET" | "" => {}
        "VALID" => pads = [0; 6],
        "SAME_UPPER" | "SAME_LOWER" => {
            ceil_mode = false;
            for i in 0..3 {
                let span = (kernel[i] - 1).saturating_mul(dilations[i]).saturating_add(1);
                let reach = (input[i].div_ceil(strides[i]).max(1) - 1).saturating_mul(strides[i]);
                let total = reach.saturating_add(span).saturating_sub(input[i]);
                let (less, more) = (total / 2, total - total / 2);
                (pads[i], pads[i + 3]) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            }
        }
        other => return Err(NodeProblem::attribute("auto_pad", format!("is {other:?}, which is not defined"))),
    }
    Ok(Window3d { kernel, strides, dilations, pads, ceil_mode })
}

fn sizes(cx: &NodeContext, x: &Value) -> Result<(Dim, [usize; 4]), NodeProblem> {
    match *cx.shape(x).dims() {
        [n, Dim::Fixed(c), Dim::Fixed(d), Dim::Fixed(h), Dim::Fixed(w)] => Ok((n, [c, d, h, w])),
        _ => Err(NodeProblem::input(0, format!("has shape {}, [N,C,D,H,W] is needed", cx.shape(x)))),
    }
}

fn behind(n: Dim, sizes: &[usize]) -> Shape {
    Shape::new([n].into_iter().chain(sizes.iter().map(|&d| Dim::Fixed(d))))
}

/// Builds a pooling. `op` makes the two-dimensional operation from a window.
pub(super) fn pool(cx: &mut NodeContext, x: &Value, window: &Window3d, op: impl Fn(Window) -> Op) -> Built {
    let (n, [c, d, h, w]) = sizes(cx, x)?;
    let y = reshape(cx, x, behind(n, &[c, d, h * w]))?;
    let y = cx.emit_on(op(window.depth()), &y)?;
    let Some(&Dim::Fixed(d)) = cx.shape(&y).dims().get(2) else {
        return Err(NodeProblem::unsupported("it pools over the batch"));
    };
    let y = reshape(cx, &y, behind(n, &[c * d, h, w]))?;
    let y = cx.emit_on(op(window.picture()), &y)?;
    let shape = cx.shape(&y);
    let [_, _, h, w] = *shape.dims() else { return Err(NodeProblem::unsupported("it pools over the batch")) };
    reshape(cx, &y, Shape::new([n, Dim::Fixed(c), Dim::Fixed(d), h, w]))
}

/// Builds a convolution with weights `[O,C/groups,KD,KH,KW]`.
pub(super) fn conv(
    cx: &mut NodeContext,
    x: &Value,
    w: &Value,
    bias: Option<Value>,
    window: &Window3d,
    groups: usize,
) -> Built {
    let (n, [c, d, height, width]) = sizes(cx, x)?;
    let Some(&[o, ci, kd, kh, kw]) = cx.shape(w).as_fixed().as_deref() else {
        return Err(NodeProblem::input(1, format!("has shape {}, five dimensions are needed", cx.shape(w))));
    };
    let mut padded = x.clone();
    let (front, back) = (window.pads[0], window.pads[3]);
    if front + back > 0 {
        let (before, after) = (vec![0, 0, front, 0, 0], vec![0, 0, back, 0, 0]);
        padded = cx.emit_on(Op::Pad(Pad { before, after, value: 0.0 }), x)?;
    }
    let depth = d.saturating_add(front).saturating_add(back);
    let span = (kd - 1).saturating_mul(window.dilations[0]).saturating_add(1);
    let Some(room) = depth.checked_sub(span) else {
        return Err(NodeProblem::invalid(format!("its window of {span} does not fit in a depth of {depth}")));
    };
    let slices = room / window.strides[0] + 1;
    if slices > MAX_SLICES {
        return Err(NodeProblem::unsupported(format!("it gives {slices} slices, more than {MAX_SLICES}")));
    }
    let weights = reshape(cx, w, Shape::fixed(&[o, ci * kd, kh, kw]))?;
    let plane = window.picture();
    let op = Conv2d { strides: plane.strides, pads: plane.pads, dilations: plane.dilations, groups };
    let mut parts = vec![];
    for i in 0..slices {
        let places: Vec<usize> = (0..kd).map(|k| i * window.strides[0] + k * window.dilations[0]).collect();
        let part = pick(cx, &padded, 2, &places)?;
        let part = reshape(cx, &part, behind(n, &[c * kd, height, width]))?;
        let mut operands = vec![cx.operand(0, &part)?, cx.operand(1, &weights)?];
        if let Some(b) = &bias {
            operands.push(cx.operand(2, b)?);
        }
        let y = cx.emit(Op::Conv2d(op.clone()), &operands)?;
        let shape = cx.shape(&y);
        let [_, _, h, w] = *shape.dims() else { return Err(NodeProblem::unsupported("its output has no picture")) };
        parts.push(reshape(cx, &y, Shape::new([n, Dim::Fixed(o), Dim::Fixed(1), h, w]))?);
    }
    concat(cx, &parts, 2)
}
