//! Parts of tensors: Gather (1, 11, 13), Slice (1, 10, 11, 13), Split (2, 11, 13, 18). Sizes of tensors: Shape (1, 13, 15, ...),
//! Size.

use super::build::{pick, reshape};
use super::layout::same;
use crate::error::NodeProblem;
use crate::fold;
use crate::node::{NodeContext, Outputs, RuleResult, axis, one};
use crate::size::Size;
use crate::value::{Known, Value};
use catc_ir::{Dim, Op, Shape, Tensor, ops};

pub(super) fn shape(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let rank = shape.rank() as i64;
    // Negative bounds count from the end. All bounds are clamped to the rank.
    let bound = |n: i64| if n < 0 { n.saturating_add(rank) } else { n }.clamp(0, rank) as usize;
    let (start, end) =
        if cx.opset < 15 { (0, rank) } else { (cx.int("start")?.unwrap_or(0), cx.int("end")?.unwrap_or(rank)) };
    let (start, end) = (bound(start), bound(end));
    let dims = shape.dims().get(start..end).unwrap_or_default();
    one(Known::list(dims.iter().map(|&d| d.into()).collect()))
}

pub(super) fn size(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let count = shape.dims().iter().try_fold(Size::Fixed(1), |n, &d| n.mul(d.into()));
    let count = count.ok_or_else(|| NodeProblem::unsupported(format!("its input {shape} contains the batch twice")))?;
    one(Known::sizes(vec![], vec![count]))
}

pub(super) fn gather(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let (data, indices) = (cx.moved_input(0)?, cx.input(1)?);
    let shape = cx.shape(&data);
    let axis = axis(cx.int("axis")?.unwrap_or(0), shape.rank())?;
    let op = Op::Gather(ops::Gather { axis });
    let Value::Known(indices) = indices else {
        let Dim::Fixed(_) = shape.dims()[axis] else {
            return Err(NodeProblem::unsupported(format!("it picks along the batch, axis {axis} of {shape}")));
        };
        let operands = [cx.operand(0, &data)?, cx.operand(1, &indices)?];
        return one(cx.emit(op, &operands)?);
    };
    let Dim::Fixed(size) = shape.dims()[axis] else {
        let picked = pick_in_images(cx, &data, axis, &indices)?;
        let mixed = || NodeProblem::unsupported(format!("it picks along the batch, axis {axis} of {shape}"));
        return one(picked.ok_or_else(mixed)?);
    };
    let position = |s: Size| match s {
        Size::Fixed(n) => {
            usize::try_from(if n < 0 { n.saturating_add(size as i64) } else { n }).ok().filter(|&i| i < size)
        }
        Size::Batch(_) => None,
    };
    let Some(list) = indices.as_sizes() else {
        return Err(NodeProblem::input(1, "(the indices) must be whole numbers"));
    };
    let Some(picks) = list.iter().map(|&s| position(s)).collect::<Option<Vec<usize>>>() else {
        return Err(NodeProblem::input(1, format!("holds an index outside of axis {axis} of {shape}")));
    };
    match &data {
        Value::Known(known) if cx.folds(known, (known.len() / size.max(1)).saturating_mul(picks.len())) => {
            let picked = fold::pick_along(known, axis, &picks);
            let mut sizes = known.shape().to_vec();
            sizes.splice(axis..=axis, indices.shape().iter().copied());
            one(fold::reshape(&picked, sizes))
        }
        _ => {
            let picks = picks.into_iter().map(|i| i as i64).collect();
            let picks = Known::from(Tensor::i64(indices.shape(), picks));
            let operands = [cx.operand(0, &data)?, cx.operand(1, &picks.into())?];
            one(cx.emit(op, &operands)?)
        }
    }
}

/// Translates a Gather along a first axis that holds several elements of each image, `[kN,..]`, if each image selects the same of
/// its own elements. Torch writes views with a different memory order in this way. `None` if the Gather mixes images.
fn pick_in_images(cx: &mut NodeContext, x: &Value, axis: usize, indices: &Known) -> Result<Option<Value>, NodeProblem> {
    let shape = cx.shape(x);
    let (Some(batch), Some(list), (Some(&Dim::Batch(size)), rest)) =
        (cx.file_batch(), indices.as_sizes(), (shape.dims().get(axis), &shape.dims()[axis + 1..]))
    else {
        return Ok(None);
    };
    let list: Option<Vec<i64>> = list.iter().map(|s| s.fixed()).collect();
    // The indices must hold the images one after another as well.
    let (Some(list), Some((&first, others))) = (list, indices.shape().split_first()) else { return Ok(None) };
    if axis != 0 || size < 2 || batch == 0 || first % batch != 0 || list.is_empty() {
        return Ok(None);
    }
    let picks = &list[..list.len() / batch];
    let shifted =
        |(i, n): (usize, &i64)| picks[i % picks.len()].checked_add((i / picks.len() * size) as i64) == Some(*n);
    let inside = picks.iter().all(|n| usize::try_from(*n).is_ok_and(|n| n < size));
    if !inside || !list.iter().enumerate().all(shifted) {
        return Ok(None);
    }
    let images = Shape::new([Dim::N, Dim::Fixed(size)].into_iter().chain(rest.iter().copied()));
    let each: Vec<usize> = picks.iter().map(|&n| n as usize).collect();
    let x = reshape(cx, x, images)?;
    let picked = if each.iter().copied().eq(0..size) { x } else { pick(cx, &x, 1, &each)? };
    let lead = [Dim::Batch(first / batch)].into_iter().chain(others.iter().map(|&n| Dim::Fixed(n)));
    reshape(cx, &picked, Shape::new(lead.chain(rest.iter().copied()))).map(Some)
}

/// One axis of a Slice, as written in the file.
struct Range {
    axis: usize,
    start: Size,
    end: Size,
    step: i64,
}

pub(super) fn slice(cx: &mut NodeContext) -> RuleResult {
    let x = cx.moved_input(0)?;
    let rank = cx.shape(&x).rank();
    let fixed = |list: &[i64]| list.iter().map(|&n| Size::Fixed(n)).collect::<Vec<_>>();
    // In opset 10 all parameters became inputs, and steps were added.
    let (starts, ends, axes, steps) = if cx.opset < 10 {
        cx.arity(1, 1)?;
        let starts = cx.ints("starts")?.ok_or_else(|| NodeProblem::attribute("starts", "is missing"))?;
        let ends = cx.ints("ends")?.ok_or_else(|| NodeProblem::attribute("ends", "is missing"))?;
        (fixed(starts), fixed(ends), cx.ints("axes")?.map(|v| v.to_vec()), None)
    } else {
        cx.arity(3, 5)?;
        let axes = cx.has_input(3).then(|| cx.fixed_sizes(3, "axes")).transpose()?;
        let steps = cx.has_input(4).then(|| cx.fixed_sizes(4, "steps")).transpose()?;
        (cx.sizes(1, "starts")?, cx.sizes(2, "ends")?, axes, steps)
    };
    let count = starts.len();
    let axes = axes.unwrap_or_else(|| (0..count as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; count]);
    if ends.len() != count || axes.len() != count || steps.len() != count {
        return Err(NodeProblem::invalid("its starts, ends, axes and steps are not as many of each"));
    }
    let mut seen = vec![false; rank];
    let mut y = x;
    for i in 0..count {
        let axis = axis(axes[i], rank)?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(NodeProblem::invalid(format!("names axis {axis} twice")));
        }
        y = cut(cx, y, Range { axis, start: starts[i], end: ends[i], step: steps[i] })?;
    }
    same_if_uncut(cx, y)
}

/// Returns the value, or an `identity` of the input if nothing was cut off.
fn same_if_uncut(cx: &mut NodeContext, y: Value) -> RuleResult {
    let x = cx.moved_input(0)?;
    match (&x, &y) {
        (Value::Computed(a), Value::Computed(b)) if a == b => same(cx, y),
        _ => one(y),
    }
}

/// Exporters write numbers of at least this size for "to the end" (2^63 - 1, 2^31 - 1, 10^9). No batch is this large.
const BEYOND_ANY_BATCH: i64 = 1_000_000;

/// Slices one axis.
fn cut(cx: &mut NodeContext, x: Value, range: Range) -> Result<Value, NodeProblem> {
    let Range { axis, start, end, step } = range;
    let dim = cx.shape(&x).dims()[axis];
    let size = match dim {
        Dim::Fixed(n) => n as i64,
        Dim::Batch(k) => {
            let all = match end {
                Size::Batch(n) => n >= k as i64,
                Size::Fixed(n) => n >= BEYOND_ANY_BATCH,
            };
            let from_first = matches!(start, Size::Fixed(n) if n == 0 || n <= -BEYOND_ANY_BATCH);
            if from_first && all && step == 1 {
                return Ok(x);
            }
            return Err(NodeProblem::unsupported(format!("it cuts the batch, axis {axis}, from {start} to {end}")));
        }
    };
    let (Some(start), Some(end)) = (start.fixed(), end.fixed()) else {
        return Err(NodeProblem::unsupported(format!("it cuts axis {axis} of size {size} at the batch size")));
    };
    if size == 0 {
        return Ok(x);
    }
    let from_end = |n: i64| if n < 0 { n.saturating_add(size) } else { n };
    if step < 0 {
        // A slice of the IR cannot run backwards, so the indices are picked one by one.
        let (first, last) = (from_end(start).clamp(0, size - 1), end_backwards(end, size));
        let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
        let picks: Vec<usize> = (last + 1..=first).rev().step_by(stride).map(|i| i as usize).collect();
        return take(cx, &x, axis, picks);
    }
    let (start, end) = (from_end(start).clamp(0, size), from_end(end).clamp(0, size));
    let end = end.max(start);
    let (start, end, size) = (start as usize, end as usize, size as usize);
    // A step beyond the end of the axis selects only the first position.
    let Some(step) = usize::try_from(step).ok().filter(|&s| s > 0).map(|s| s.min(size.max(1))) else {
        return Err(NodeProblem::invalid(format!("its step along axis {axis} is 0")));
    };
    if (start, end, step) == (0, size, 1) {
        return Ok(x);
    }
    match &x {
        Value::Known(known) if cx.folds(known, 0) => take(cx, &x, axis, (start..end).step_by(step).collect()),
        _ => cx.emit_on(Op::Slice(ops::Slice { axis, start, end, step }), &x),
    }
}

/// The exclusive end of a backward slice. It is -1 if the slice includes index 0.
fn end_backwards(end: i64, size: i64) -> i64 {
    if end < 0 { end.saturating_add(size).max(-1) } else { end.min(size - 1) }
}

/// Selects the positions `picks` of an axis in the given order.
fn take(cx: &mut NodeContext, x: &Value, axis: usize, picks: Vec<usize>) -> Result<Value, NodeProblem> {
    if let Value::Known(known) = x
        && cx.folds(known, known.len())
    {
        return Ok(fold::pick_along(known, axis, &picks).into());
    }
    let indices: Known = Tensor::i64(&[picks.len()], picks.into_iter().map(|i| i as i64).collect()).into();
    let operands = [cx.operand(0, x)?, cx.operand(1, &indices.into())?];
    cx.emit(Op::Gather(ops::Gather { axis }), &operands)
}

pub(super) fn split(cx: &mut NodeContext) -> RuleResult {
    let x = cx.moved_input(0)?;
    let shape = cx.shape(&x);
    let axis = axis(cx.int("axis")?.unwrap_or(0), shape.rank())?;
    let Dim::Fixed(size) = shape.dims()[axis] else {
        return Err(NodeProblem::unsupported(format!("it splits the batch, axis {axis} of {shape}")));
    };
    // The sizes became an input in opset 13. From opset 18 on, the number of parts can be given instead.
    let outputs = cx.output_count();
    let written = if cx.opset < 13 {
        cx.arity(1, 1)?;
        cx.ints("split")?.map(|v| v.to_vec())
    } else {
        cx.arity(1, 2)?;
        if cx.has_input(1) { Some(cx.fixed_sizes(1, "split")?) } else { None }
    };
    let parts = if cx.opset >= 18 { cx.int("num_outputs")? } else { None };
    if outputs == 0 || parts.is_some_and(|n| n != outputs as i64) {
        return Err(NodeProblem::attribute("num_outputs", format!("does not fit {outputs} outputs")));
    }
    let sizes = match written {
        Some(list) => list.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>().unwrap_or_default(),
        None => {
            // The parts are equal, except that the last one may be smaller.
            let part = size.div_ceil(outputs);
            (0..outputs).map(|i| part.min(size.saturating_sub(i * part))).collect()
        }
    };
    let total = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
    if sizes.len() != outputs || total != Some(size) {
        return Err(NodeProblem::invalid(format!("its parts do not add up to axis {axis} of {shape}")));
    }
    let mut start = 0;
    let mut values = Outputs::new();
    for part in sizes {
        let end = start + part;
        let range = Range { axis, start: Size::Fixed(start as i64), end: Size::Fixed(end as i64), step: 1 };
        values.push(cut(cx, x.clone(), range)?);
        start = end;
    }
    Ok(values)
}
