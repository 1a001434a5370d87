//! Reductions over axes (1, 11, 13, 18): ReduceMean, ReduceSum and reductions that are based on sums, ReduceMax, ReduceMin,
//! ReduceProd; ArgMax, ArgMin, TopK, CumSum, CumProd.

use super::build::{Built, apply, cast, cast_like, combine, indices, pick, real, reshape, small, whole};
use crate::error::NodeProblem;
use crate::node::{NodeContext, Outputs, RuleResult, axes, axis, one};
use crate::value::{Known, Value};
use catc_ir::ops::{ArgMin, Binary, CastTo, Cumulate, MaxPool, Reduce, ReduceMean, Reduction, TopK, Unary, Window};
use catc_ir::{Dim, Element, Op, Shape};

/// The input and the axes of a reduction.
struct Over {
    x: Value,
    axes: Vec<usize>,
    keep_dims: bool,
}

impl Over {
    /// Reads the attributes and inputs of a reduction. Its axes became an input in opset `since`. The inner error is the input,
    /// if the node has no axes and asks for no reduction.
    fn read(cx: &mut NodeContext, since: i64) -> Result<Result<Over, Value>, NodeProblem> {
        let keep_dims = cx.flag("keepdims", true)?;
        // The opset that made the axes an input also added an attribute for the meaning of empty axes.
        let mut nothing = false;
        let list = if cx.opset < since {
            cx.arity(1, 1)?;
            cx.ints("axes")?.unwrap_or_default().to_vec()
        } else {
            cx.arity(1, 2)?;
            nothing = cx.flag("noop_with_empty_axes", false)?;
            if cx.has_input(1) { cx.fixed_sizes(1, "axes")? } else { vec![] }
        };
        let x = cx.input(0)?;
        let rank = cx.shape(&x).rank();
        if list.is_empty() && nothing {
            return Ok(Err(x));
        }
        let axes = if list.is_empty() { (0..rank).collect() } else { axes(&list, rank)? };
        Ok(Ok(Over { x, axes, keep_dims }))
    }

    /// The number of terms of each sum.
    fn count(&self, cx: &NodeContext) -> Option<usize> {
        let shape = cx.shape(&self.x);
        self.axes.iter().try_fold(1usize, |n, &a| n.checked_mul(shape.dims()[a].fixed()?))
    }

    fn mean(&self, cx: &mut NodeContext, x: &Value) -> Built {
        if self.axes.is_empty() {
            return Ok(x.clone());
        }
        cx.emit_on(Op::ReduceMean(ReduceMean { axes: self.axes.clone(), keep_dims: self.keep_dims }), x)
    }

    fn reduce(&self, cx: &mut NodeContext, kind: Reduction, x: &Value, keep_dims: bool) -> Built {
        if self.axes.is_empty() {
            return Ok(x.clone());
        }
        if let (Some(known), [0], Reduction::Prod) = (small(x), &self.axes[..], kind)
            && let (Some(items), 1) = (known.as_sizes(), known.shape().len())
            && let Some(product) = items.iter().try_fold(crate::size::Size::Fixed(1), |n, &s| n.mul(s))
        {
            return Ok(Known::sizes(if keep_dims { vec![1] } else { vec![] }, vec![product]).into());
        }
        cx.emit_on(Op::Reduce(Reduce { kind, axes: self.axes.clone(), keep_dims }), x)
    }

    /// A sum of f32 is built as the mean times the count, because this can be compiled.
    fn sum(&self, cx: &mut NodeContext, x: &Value) -> Built {
        match (cx.element(x), self.count(cx)) {
            (Element::F32, Some(count)) if count > 0 => {
                let mean = self.mean(cx, x)?;
                combine(cx, Binary::Mul, &mean, &real(count as f32))
            }
            _ => self.reduce(cx, Reduction::Sum, x, self.keep_dims),
        }
    }
}

/// Translates a reduction with `f`. If there are no axes to reduce, `alone` gives the result for each element.
fn reduction(
    cx: &mut NodeContext,
    since: i64,
    alone: impl Fn(&mut NodeContext, &Value) -> Built,
    f: impl Fn(&mut NodeContext, &Over) -> Built,
) -> RuleResult {
    match Over::read(cx, since)? {
        Err(x) => {
            let y = alone(cx, &x)?;
            super::layout::same(cx, y)
        }
        Ok(over) if over.axes.is_empty() => {
            let y = alone(cx, &over.x)?;
            super::layout::same(cx, y)
        }
        Ok(over) => one(f(cx, &over)?),
    }
}

fn itself(_: &mut NodeContext, x: &Value) -> Built {
    Ok(x.clone())
}

fn squared(cx: &mut NodeContext, x: &Value) -> Built {
    combine(cx, Binary::Mul, x, x)
}

pub(super) fn reduce_mean(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 18, itself, |cx, over| {
        let x = cast(cx, &over.x, CastTo::F32)?;
        let y = over.mean(cx, &x)?;
        cast_like(cx, &y, &over.x)
    })
}

pub(super) fn reduce_sum(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 13, itself, |cx, over| over.sum(cx, &over.x))
}

pub(super) fn reduce_max(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 18, itself, |cx, over| of_any(cx, over, Reduction::Max))
}

pub(super) fn reduce_min(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 18, itself, |cx, over| of_any(cx, over, Reduction::Min))
}

/// Builds a reduction of any element type. Booleans are reduced as 0 and 1.
fn of_any(cx: &mut NodeContext, over: &Over, kind: Reduction) -> Built {
    match (cx.element(&over.x), kind) {
        (Element::Bool, _) => {
            let x = cast(cx, &over.x, CastTo::I64)?;
            let y = over.reduce(cx, kind, &x, over.keep_dims)?;
            cast(cx, &y, CastTo::Bool)
        }
        (Element::F32, Reduction::Max) => largest(cx, &over.x, &over.axes, over.keep_dims),
        (Element::F32, Reduction::Min) => {
            let x = combine(cx, Binary::Mul, &over.x, &real(-1.0))?;
            let y = largest(cx, &x, &over.axes, over.keep_dims)?;
            combine(cx, Binary::Mul, &y, &real(-1.0))
        }
        _ => over.reduce(cx, kind, &over.x, over.keep_dims),
    }
}

/// Builds the maximum of f32 over ascending axes. Each run of neighbouring axes becomes a max pooling, which can be compiled.
/// This is not possible if the first axis is reduced.
pub(super) fn largest(cx: &mut NodeContext, x: &Value, axes: &[usize], keep_dims: bool) -> Built {
    let shape = cx.shape(x);
    let dims = shape.dims();
    let size = |dims: &[Dim]| dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?)).filter(|&n| n > 0);
    if axes.first().is_none_or(|&first| first == 0) || size(&dims[1..]).is_none() {
        return cx.emit_on(Op::Reduce(Reduce { kind: Reduction::Max, axes: axes.to_vec(), keep_dims }), x);
    }
    let mut reduced = dims.to_vec();
    let mut y = x.clone();
    for run in axes.chunk_by(|a, b| a + 1 == *b) {
        let (first, last) = (run[0], run[run.len() - 1]);
        let [before, over, behind] =
            [1..first, first..last + 1, last + 1..reduced.len()].map(|axes| size(&reduced[axes]).unwrap_or(1));
        y = reshape(cx, &y, Shape::new([dims[0], Dim::Fixed(before), Dim::Fixed(over), Dim::Fixed(behind)]))?;
        let (kernel, unit) = ([over, 1], [1, 1]);
        let window = Window { kernel, strides: unit, pads: [0; 4], dilations: unit, ceil_mode: false };
        y = cx.emit_on(Op::MaxPool(MaxPool(window)), &y)?;
        run.iter().for_each(|&axis| reduced[axis] = Dim::Fixed(1));
    }
    let left = reduced.iter().enumerate().filter(|(i, _)| keep_dims || !axes.contains(i));
    reshape(cx, &y, Shape::new(left.map(|(_, &d)| d)))
}

pub(super) fn reduce_prod(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 18, itself, |cx, over| over.reduce(cx, Reduction::Prod, &over.x, over.keep_dims))
}

pub(super) fn reduce_l1(cx: &mut NodeContext) -> RuleResult {
    let size = |cx: &mut NodeContext, x: &Value| apply(cx, Unary::Abs, x);
    reduction(cx, 18, size, |cx, over| {
        let x = apply(cx, Unary::Abs, &over.x)?;
        over.sum(cx, &x)
    })
}

pub(super) fn reduce_l2(cx: &mut NodeContext) -> RuleResult {
    let size = |cx: &mut NodeContext, x: &Value| apply(cx, Unary::Abs, x);
    reduction(cx, 18, size, |cx, over| {
        let x = squared(cx, &over.x)?;
        let sum = over.sum(cx, &x)?;
        apply(cx, Unary::Sqrt, &sum)
    })
}

pub(super) fn reduce_sum_square(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 18, squared, |cx, over| {
        let x = squared(cx, &over.x)?;
        over.sum(cx, &x)
    })
}

pub(super) fn reduce_log_sum(cx: &mut NodeContext) -> RuleResult {
    let log = |cx: &mut NodeContext, x: &Value| apply(cx, Unary::Log, x);
    reduction(cx, 18, log, |cx, over| {
        let sum = over.sum(cx, &over.x)?;
        apply(cx, Unary::Log, &sum)
    })
}

/// `log(sum(exp(x - max))) + max`.
pub(super) fn reduce_log_sum_exp(cx: &mut NodeContext) -> RuleResult {
    reduction(cx, 18, itself, |cx, over| {
        let top = largest(cx, &over.x, &over.axes, true)?;
        let x = combine(cx, Binary::Sub, &over.x, &top)?;
        let e = apply(cx, Unary::Exp, &x)?;
        let sum = over.sum(cx, &e)?;
        let log = apply(cx, Unary::Log, &sum)?;
        let shape = cx.shape(&log);
        let top = reshape(cx, &top, shape)?;
        combine(cx, Binary::Add, &log, &top)
    })
}

/// ArgMax is the ArgMin of the negated input. To select the last of equal elements, the axis is reversed.
fn arg(cx: &mut NodeContext, largest: bool) -> RuleResult {
    cx.arity(1, 1)?;
    let (written, keep) = (cx.int("axis")?.unwrap_or(0), cx.flag("keepdims", true)?);
    let last = cx.opset >= 12 && cx.flag("select_last_index", false)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let axis = axis(written, shape.rank())?;
    let Dim::Fixed(size) = shape.dims()[axis] else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    let mut y = cast(cx, &x, CastTo::F32)?;
    if largest {
        y = combine(cx, Binary::Mul, &y, &real(-1.0))?;
    }
    if last {
        y = pick(cx, &y, axis, &(0..size).rev().collect::<Vec<_>>())?;
    }
    y = cx.emit_on(Op::ArgMin(ArgMin { axis }), &y)?;
    if last {
        y = combine(cx, Binary::Sub, &whole(size as i64 - 1), &y)?;
    }
    if keep {
        let dims = shape.dims().iter().enumerate().map(|(i, d)| if i == axis { Dim::Fixed(1) } else { *d });
        y = reshape(cx, &y, Shape::new(dims))?;
    }
    one(y)
}

pub(super) fn arg_max(cx: &mut NodeContext) -> RuleResult {
    arg(cx, true)
}

pub(super) fn arg_min(cx: &mut NodeContext) -> RuleResult {
    arg(cx, false)
}

pub(super) fn top_k(cx: &mut NodeContext) -> RuleResult {
    let (written, largest) = (cx.int("axis")?.unwrap_or(-1), cx.flag("largest", true)?);
    // An unsorted output may have any order, so the output is always sorted.
    cx.ignore("sorted");
    let k = if cx.opset < 10 {
        cx.arity(1, 1)?;
        cx.int("k")?
    } else {
        cx.arity(2, 2)?;
        cx.fixed_sizes(1, "k")?.first().copied()
    };
    let x = cx.input(0)?;
    let axis = axis(written, cx.shape(&x).rank())?;
    let Some(k) = k.and_then(|k| usize::try_from(k).ok()) else {
        return Err(NodeProblem::invalid("its k is missing or negative"));
    };
    let op = |indices| Op::TopK(TopK { axis, k, largest, indices });
    let values = cx.emit_on(op(false), &x)?;
    let places = cx.emit_on(op(true), &x)?;
    Ok(Outputs::from_vec(vec![values, places]))
}

fn cumulate(cx: &mut NodeContext, product: bool) -> RuleResult {
    cx.arity(2, 2)?;
    let (exclusive, reverse) = (cx.flag("exclusive", false)?, cx.flag("reverse", false)?);
    let written = cx.fixed_sizes(1, "the axis")?;
    let x = cx.input(0)?;
    let [written] = written[..] else { return Err(NodeProblem::input(1, "must be one axis")) };
    let axis = axis(written, cx.shape(&x).rank())?;
    one(cx.emit_on(Op::Cumulate(Cumulate { axis, product, exclusive, reverse }), &x)?)
}

pub(super) fn cum_sum(cx: &mut NodeContext) -> RuleResult {
    cumulate(cx, false)
}

pub(super) fn cum_prod(cx: &mut NodeContext) -> RuleResult {
    cumulate(cx, true)
}

/// 1 at the first largest element along an axis, and 0 elsewhere. Before opset 13 it runs over all axes from `axis` on.
pub(super) fn hardmax(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let written = cx.int("axis")?.unwrap_or(if cx.opset < 13 { 1 } else { -1 });
    let first = axis(written, shape.rank())?;
    let (flat, along) = match (cx.opset < 13, Shape::new(shape.dims()[first..].iter().copied()).volume()) {
        (true, Some((rest, 0))) => (Shape::new(shape.dims()[..first].iter().copied().chain([Dim::Fixed(rest)])), first),
        (true, _) => return Err(NodeProblem::unsupported("it runs over the batch")),
        (false, _) => (shape.clone(), first),
    };
    let Dim::Fixed(size) = flat.dims()[along] else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    let x = reshape(cx, &x, flat.clone())?;
    let minus = combine(cx, Binary::Mul, &x, &real(-1.0))?;
    let best = cx.emit_on(Op::ArgMin(ArgMin { axis: along }), &minus)?;
    let dims = flat.dims().iter().enumerate().map(|(i, d)| if i == along { Dim::Fixed(1) } else { *d });
    let best = reshape(cx, &best, Shape::new(dims))?;
    let mut counts = vec![1; flat.rank()];
    counts[along] = size;
    let places = indices(&counts, (0..size as i64).collect());
    let hit = super::build::compare(cx, catc_ir::ops::Compare::Equal, &best, &places)?;
    let y = cast(cx, &hit, CastTo::F32)?;
    one(reshape(cx, &y, shape)?)
}
