//! The attributes that convolution and pooling share: kernel, strides, dilations and padding, in one or two dimensions.
//! One dimension is taken as a picture of height 1.

use crate::error::NodeProblem;
use crate::node::NodeContext;
use crate::value::Value;
use catc_ir::ops::{Reshape, Window};
use catc_ir::{Dim, Op, Shape};

/// How a window's padding is given (`auto_pad`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    /// By the attribute `pads`.
    Explicit([usize; 4]),
    /// None.
    Valid,
    /// So that the output has `ceil(input / stride)` positions, the odd one of padding at the end.
    SameUpper,
    /// The same with the odd one at the start.
    SameLower,
}

/// What the attributes of a node say of its window.
#[derive(Clone, Debug)]
pub(super) struct WindowAttributes {
    /// `kernel_shape`, if it is there.
    pub kernel: Option<[usize; 2]>,
    strides: [usize; 2],
    dilations: [usize; 2],
    padding: Padding,
}

/// Two sizes from one or two.
fn pair(name: &str, list: &[i64], spatial: usize) -> Result<[usize; 2], NodeProblem> {
    let size = |n: i64| match usize::try_from(n) {
        // Later sums of a few of these stay far from overflow.
        Ok(n) if n > 0 && n <= i32::MAX as usize => Ok(n),
        _ => Err(NodeProblem::attribute(name, format!("holds {n}, no possible size"))),
    };
    match *list {
        [x] if spatial == 1 => Ok([1, size(x)?]),
        [y, x] if spatial == 2 => Ok([size(y)?, size(x)?]),
        _ => Err(NodeProblem::attribute(name, format!("holds {} numbers for {spatial} dimensions", list.len()))),
    }
}

impl WindowAttributes {
    /// Reads them for `spatial` dimensions, 1 or 2.
    pub fn read(cx: &mut NodeContext, spatial: usize) -> Result<Self, NodeProblem> {
        let mut sizes = |name| cx.ints(name)?.map(|v| pair(name, v, spatial)).transpose();
        let kernel = sizes("kernel_shape")?;
        let strides = sizes("strides")?.unwrap_or([1, 1]);
        let dilations = sizes("dilations")?.unwrap_or([1, 1]);
        let pads = match cx.ints("pads")? {
            None => [0; 4],
            Some(list) => explicit_pads(list, spatial)?,
        };
        let padding = match cx.word("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => Padding::Explicit(pads),
            automatic if pads != [0; 4] => {
                return Err(NodeProblem::attribute("pads", format!("is given beside auto_pad {automatic}")));
            }
            "VALID" => Padding::Valid,
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            other => return Err(NodeProblem::attribute("auto_pad", format!("is {other:?}, which is not defined"))),
        };
        Ok(WindowAttributes { kernel, strides, dilations, padding })
    }

    /// The window over an input of `[h, w]`.
    pub fn window(&self, kernel: [usize; 2], input: [usize; 2], ceil_mode: bool) -> Window {
        let (strides, dilations) = (self.strides, self.dilations);
        let (pads, ceil_mode) = match self.padding {
            Padding::Explicit(pads) => (pads, ceil_mode),
            // Automatic padding fixes the number of outputs, whatever the rounding.
            Padding::Valid => ([0; 4], ceil_mode),
            Padding::SameUpper | Padding::SameLower => {
                let mut pads = [0; 4];
                for i in 0..2 {
                    let span = (kernel[i] - 1).saturating_mul(dilations[i]).saturating_add(1);
                    let reach = (input[i].div_ceil(strides[i]).max(1) - 1).saturating_mul(strides[i]);
                    let total = reach.saturating_add(span).saturating_sub(input[i]);
                    let (less, more) = (total / 2, total - total / 2);
                    let upper = self.padding == Padding::SameUpper;
                    (pads[i], pads[i + 2]) = if upper { (less, more) } else { (more, less) };
                }
                (pads, false)
            }
        };
        Window { kernel, strides, pads, dilations, ceil_mode }
    }
}

fn explicit_pads(list: &[i64], spatial: usize) -> Result<[usize; 4], NodeProblem> {
    let size = |n: i64| match usize::try_from(n) {
        Ok(n) if n <= i32::MAX as usize => Ok(n),
        _ if n < 0 => Err(NodeProblem::unsupported(format!("attribute `pads` holds {n}, which crops"))),
        _ => Err(NodeProblem::attribute("pads", format!("holds {n}, no possible size"))),
    };
    match *list {
        [left, right] if spatial == 1 => Ok([0, size(left)?, 0, size(right)?]),
        [top, left, bottom, right] if spatial == 2 => Ok([size(top)?, size(left)?, size(bottom)?, size(right)?]),
        _ => Err(NodeProblem::attribute("pads", format!("holds {} numbers for {spatial} dimensions", list.len()))),
    }
}

/// The number of spatial dimensions of an input `[N,C,..]`, 1 or 2.
pub(super) fn spatial_rank(shape: &Shape, what: &str) -> Result<usize, NodeProblem> {
    match shape.rank() {
        3 => Ok(1),
        4 => Ok(2),
        rank if rank > 4 => Err(NodeProblem::unsupported(format!("this is {what} over {} dimensions", rank - 2))),
        _ => Err(NodeProblem::input(0, format!("has shape {shape}, [N,C,..] is needed"))),
    }
}

/// Height and width of an input whose spatial dimensions are fixed.
pub(super) fn picture(shape: &Shape) -> Result<[usize; 2], NodeProblem> {
    match shape.dims() {
        [_, _, Dim::Fixed(w)] => Ok([1, *w]),
        [_, _, Dim::Fixed(h), Dim::Fixed(w)] => Ok([*h, *w]),
        _ => Err(NodeProblem::input(0, format!("has shape {shape}; its height and width must not be the batch"))),
    }
}

/// `[a,b,L]` as `[a,b,1,L]`; four dimensions stay.
pub(super) fn lift(cx: &mut NodeContext, value: Value) -> Result<Value, NodeProblem> {
    match *cx.shape(&value).dims() {
        [a, b, l] => cx.emit_on(Op::Reshape(Reshape { shape: Shape::new([a, b, Dim::Fixed(1), l]) }), &value),
        _ => Ok(value),
    }
}

/// `[a,b,1,L]` as `[a,b,L]`, if `spatial` is 1.
pub(super) fn lower(cx: &mut NodeContext, value: Value, spatial: usize) -> Result<Value, NodeProblem> {
    match *cx.shape(&value).dims() {
        [a, b, _, l] if spatial == 1 => cx.emit_on(Op::Reshape(Reshape { shape: Shape::new([a, b, l]) }), &value),
        _ => Ok(value),
    }
}
