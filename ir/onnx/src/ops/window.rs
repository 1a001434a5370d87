//! The attributes that convolution and pooling share: kernel, strides, dilations and padding, in one or two dimensions.
//! One-dimensional data is treated as an image of height 1.

use crate::error::NodeProblem;
use crate::node::NodeContext;
use crate::value::Value;
use catc_ir::ops::{Reshape, Window};
use catc_ir::{Dim, Op, Shape};

/// How the padding of a window is specified (`auto_pad`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    /// The attribute `pads` specifies the padding.
    Explicit([usize; 4]),
    /// There is no padding.
    Valid,
    /// The output has `ceil(input / stride)` positions. If the total padding is odd, the extra element is at the end.
    SameUpper,
    /// Like `SameUpper`, but with the extra element at the start.
    SameLower,
}

/// The attributes of a node that define its window.
#[derive(Clone, Debug)]
pub(super) struct WindowAttributes {
    /// `kernel_shape`, if it is present.
    pub kernel: Option<[usize; 2]>,
    strides: [usize; 2],
    dilations: [usize; 2],
    padding: Padding,
}

/// Converts a list of one or two sizes to two sizes.
fn pair(name: &str, list: &[i64], spatial: usize) -> Result<[usize; 2], NodeProblem> {
    let size = |n: i64| match usize::try_from(n) {
        // With this limit, sums of a few sizes cannot overflow.
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
    /// Reads the attributes for 1 or 2 spatial dimensions.
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
            // SAME padding determines the number of outputs, so it ignores `ceil_mode`.
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

/// The height and width of an input. Both must be fixed.
pub(super) fn picture(shape: &Shape) -> Result<[usize; 2], NodeProblem> {
    match shape.dims() {
        [_, _, Dim::Fixed(w)] => Ok([1, *w]),
        [_, _, Dim::Fixed(h), Dim::Fixed(w)] => Ok([*h, *w]),
        _ => Err(NodeProblem::input(0, format!("has shape {shape}; its height and width must not be the batch"))),
    }
}

/// Reshapes `[a,b,L]` to `[a,b,1,L]`. A value with four dimensions stays as it is.
pub(super) fn lift(cx: &mut NodeContext, value: Value) -> Result<Value, NodeProblem> {
    match *cx.shape(&value).dims() {
        [a, b, l] => cx.emit_on(Op::Reshape(Reshape { shape: Shape::new([a, b, Dim::Fixed(1), l]) }), &value),
        _ => Ok(value),
    }
}

/// Reshapes `[a,b,1,L]` to `[a,b,L]` if `spatial` is 1.
pub(super) fn lower(cx: &mut NodeContext, value: Value, spatial: usize) -> Result<Value, NodeProblem> {
    match *cx.shape(&value).dims() {
        [a, b, _, l] if spatial == 1 => cx.emit_on(Op::Reshape(Reshape { shape: Shape::new([a, b, l]) }), &value),
        _ => Ok(value),
    }
}
