//! MaxPool (1 to 22), AveragePool (1 to 22), LpPool (2 to 22) and global pooling.

use super::build::{Built, apply, combine, concat, indices, real, reshape, slice};
use super::volume;
use super::window::{WindowAttributes, lift, lower, picture, spatial_rank};
use crate::error::NodeProblem;
use crate::interface::WholeType;
use crate::node::{NodeContext, Outputs, RuleResult, one};
use crate::value::Value;
use catc_ir::ops::{
    ArgMin, AvgPool, Binary, CastTo, Gather, MaxPool, Pad, Reduce, ReduceMean, Reduction, Unary, Window,
};
use catc_ir::{Dim, Element, Op, Shape};

/// Translates a pooling. `op` makes the operation from the window.
fn pool(cx: &mut NodeContext, what: &str, op: impl Fn(Window) -> Op) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    one(pool_of(cx, x, what, op)?)
}

/// Builds a pooling of a value other than the input.
pub(super) fn pool_of(cx: &mut NodeContext, x: Value, what: &str, op: impl Fn(Window) -> Op) -> Built {
    let shape = cx.shape(&x);
    if let &[_, _, Dim::Fixed(d), Dim::Fixed(h), Dim::Fixed(w)] = shape.dims() {
        let ceil_mode = cx.flag("ceil_mode", false)?;
        let window = volume::window(cx, None, [d, h, w], ceil_mode)?;
        return volume::pool(cx, &x, &window, op);
    }
    let spatial = spatial_rank(&shape, what)?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let Some(kernel) = attributes.kernel else {
        return Err(NodeProblem::attribute("kernel_shape", "is missing"));
    };
    let window = attributes.window(kernel, picture(&shape)?, ceil_mode);
    let x = lift(cx, x)?;
    let y = cx.emit_on(op(window), &x)?;
    lower(cx, y, spatial)
}

/// `(sum of |x|^p over the window)^(1/p)`. The sum is an average that includes the padding, times the size of the window.
pub(super) fn lp_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    // In opset 1 this attribute is a float.
    let p = cx.int("p")?.unwrap_or(2);
    if p < 1 {
        return Err(NodeProblem::attribute("p", "must be at least 1"));
    }
    if cx.flag("ceil_mode", false)? {
        return Err(NodeProblem::unsupported("its last windows may stick out (ceil_mode)"));
    }
    let size: i64 = cx.ints("kernel_shape")?.unwrap_or_default().iter().product();
    let x = cx.input(0)?;
    let x = apply(cx, Unary::Abs, &x)?;
    let powers = match p {
        1 => x,
        2 => combine(cx, Binary::Mul, &x, &x)?,
        p => combine(cx, Binary::Pow, &x, &real(p as f32))?,
    };
    let mean = |window| Op::AvgPool(AvgPool { window, count_include_pad: true });
    let mean = pool_of(cx, powers, "a pooling", mean)?;
    let sum = combine(cx, Binary::Mul, &mean, &real(size as f32))?;
    one(match p {
        1 => sum,
        2 => apply(cx, Unary::Sqrt, &sum)?,
        p => combine(cx, Binary::Pow, &sum, &real(1.0 / p as f32))?,
    })
}

pub(super) fn max_pool(cx: &mut NodeContext) -> RuleResult {
    let columns = cx.flag("storage_order", false)?;
    if cx.output_is_taken(1) {
        return with_places(cx, columns);
    }
    cx.arity(1, 1)?;
    let x = cx.moved_input(0)?;
    match cx.element(&x) {
        Element::I64 => whole_numbers(cx, x),
        _ => one(pool_of(cx, x, "a pooling", |w| Op::MaxPool(MaxPool(w)))?),
    }
}

/// The largest window for a MaxPool that outputs indices. Each position of the window becomes a slice of the input.
const MAX_PLACES: usize = 1024;

/// Builds a MaxPool that also outputs the index of each maximum among all elements of the input. `columns` selects column-major
/// order within an image.
fn with_places(cx: &mut NodeContext, columns: bool) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let spatial = spatial_rank(&shape, "a pooling with places")?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let Some(kernel) = attributes.kernel else {
        return Err(NodeProblem::attribute("kernel_shape", "is missing"));
    };
    let [h, w] = picture(&shape)?;
    let window = attributes.window(kernel, [h, w], ceil_mode);
    let lifted = lift(cx, x)?;
    let y = cx.emit_on(Op::MaxPool(MaxPool(window.clone())), &lifted)?;
    let &[Dim::Fixed(n), Dim::Fixed(c), Dim::Fixed(oh), Dim::Fixed(ow)] = cx.shape(&y).dims() else {
        return Err(NodeProblem::unsupported("its places are counted over the whole batch, whose size is open"));
    };
    if kernel[0].saturating_mul(kernel[1]) > MAX_PLACES {
        let problem =
            format!("is {kernel:?}; where the maxima are is worked out for windows of up to {MAX_PLACES} places");
        return Err(NodeProblem::attribute("kernel_shape", problem));
    }
    let padded = |i: usize, size: usize| size.saturating_add(window.pads[i]).saturating_add(window.pads[i + 2]);
    cx.fill(&[n, c, padded(0, h), padded(1, w)])?;
    // For each position of the window, a slice holds the input of all windows at that position. If several elements are largest,
    // the first one wins.
    let reach =
        |i: usize, outputs: usize| (outputs - 1) * window.strides[i] + (kernel[i] - 1) * window.dilations[i] + 1;
    let behind = [reach(0, oh).saturating_sub(h + window.pads[0]), reach(1, ow).saturating_sub(w + window.pads[1])];
    let (before, after) = (vec![0, 0, window.pads[0], window.pads[1]], vec![0, 0, behind[0], behind[1]]);
    let padded = match before.iter().chain(&after).all(|&p| p == 0) {
        true => lifted,
        false => cx.emit_on(Op::Pad(Pad { before, after, value: f32::NEG_INFINITY }), &lifted)?,
    };
    let column = Shape::fixed(&[n, c, oh, ow, 1]);
    let mut layers = vec![];
    let mut steps = vec![];
    for i in 0..kernel[0] {
        for j in 0..kernel[1] {
            let (top, left) = (i * window.dilations[0], j * window.dilations[1]);
            let rows = slice(cx, &padded, 2, top, top + (oh - 1) * window.strides[0] + 1, window.strides[0])?;
            let part = slice(cx, &rows, 3, left, left + (ow - 1) * window.strides[1] + 1, window.strides[1])?;
            let part = combine(cx, Binary::Mul, &part, &real(-1.0))?;
            layers.push(reshape(cx, &part, column.clone())?);
            steps.push([top as i64, left as i64]);
        }
    }
    let layers = concat(cx, &layers, 4)?;
    let first = cx.emit_on(Op::ArgMin(ArgMin { axis: 4 }), &layers)?;
    let [down, right] = if columns { [1, h as i64] } else { [w as i64, 1] };
    let steps = steps.iter().map(|[y, x]| y * down + x * right).collect();
    let table = indices(&[kernel[0] * kernel[1]], steps);
    let operands = [cx.operand(0, &table)?, cx.operand(1, &first)?];
    let step = cx.emit(Op::Gather(Gather { axis: 0 }), &operands)?;
    let (n, c, oh, ow) = (n as i64, c as i64, oh as i64, ow as i64);
    let origin = |size: i64, stride: usize, pad: usize, step: i64| {
        (0..size).map(|i| (i * stride as i64 - pad as i64) * step).collect::<Vec<i64>>()
    };
    let images = indices(&[(n * c) as usize, 1, 1], (0..n * c).map(|i| i * (h * w) as i64).collect());
    let images = reshape(cx, &images, Shape::fixed(&[n as usize, c as usize, 1, 1]))?;
    let rows = indices(&[oh as usize, 1], origin(oh, window.strides[0], window.pads[0], down));
    let cols = indices(&[ow as usize], origin(ow, window.strides[1], window.pads[1], right));
    let mut places = step;
    for part in [images, rows, cols] {
        places = combine(cx, Binary::Add, &places, &part)?;
    }
    Ok(Outputs::from_vec(vec![lower(cx, y, spatial)?, lower(cx, places, spatial)?]))
}

pub(super) fn average_pool(cx: &mut NodeContext) -> RuleResult {
    let count_include_pad = cx.flag("count_include_pad", false)?;
    pool(cx, "a pooling", |window| Op::AvgPool(AvgPool { window, count_include_pad }))
}

pub(super) fn global_average_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    if shape.rank() < 3 {
        return Err(NodeProblem::input(0, format!("has shape {shape}, [N,C,..] is needed")));
    }
    one(cx.emit_on(Op::ReduceMean(ReduceMean { axes: (2..shape.rank()).collect(), keep_dims: true }), &x)?)
}

/// Builds a max pooling of integers, computed in f32.
fn whole_numbers(cx: &mut NodeContext, x: Value) -> RuleResult {
    let spatial = spatial_rank(&cx.shape(&x), "a pooling")?;
    let attributes = WindowAttributes::read(cx, spatial)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let Some(kernel) = attributes.kernel else {
        return Err(NodeProblem::attribute("kernel_shape", "is missing"));
    };
    let window = attributes.window(kernel, picture(&cx.shape(&x))?, ceil_mode);
    let mut real = super::build::cast(cx, &x, CastTo::F32)?;
    if let Some(ty) = cx.input_type(0).and_then(|ty| WholeType::of(ty as i32))
        && let (Ok(low), Ok(high)) = (i16::try_from(ty.low), u16::try_from(ty.high))
    {
        // The clip changes no value, but tells passes the range of the integers, which f32 represents exactly.
        let bounds = Unary::Clip { min: low.into(), max: high.into() };
        real = cx.emit_on(Op::Unary(bounds), &real)?;
    }
    let real = lift(cx, real)?;
    let y = cx.emit_on(Op::MaxPool(MaxPool(window)), &real)?;
    let y = lower(cx, y, spatial)?;
    one(super::build::cast(cx, &y, CastTo::I64)?)
}

pub(super) fn global_max_pool(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    if shape.rank() > 4 {
        let axes = (2..shape.rank()).collect();
        let max = Reduce { kind: Reduction::Max, axes, keep_dims: true };
        return one(cx.emit_on(Op::Reduce(max), &x)?);
    }
    let spatial = spatial_rank(&shape, "a pooling")?;
    let kernel = picture(&shape)?;
    let x = lift(cx, x)?;
    let window = Window { kernel, strides: [1, 1], pads: [0; 4], dilations: [1, 1], ceil_mode: false };
    let y = cx.emit_on(Op::MaxPool(MaxPool(window)), &x)?;
    one(lower(cx, y, spatial)?)
}
