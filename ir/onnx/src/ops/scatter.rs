//! Gathering and scattering of elements by index: GatherElements, GatherND, ScatterElements, Scatter, ScatterND, OneHot, EyeLike,
//! and Compress and NonZero of known tensors.

use super::build::{Built, cast, choose, combine, compare, indices, pick, reshape, small, truths, whole};
use super::reshape::reshaped;
use crate::error::NodeProblem;
use crate::fold::strides;
use crate::node::{NodeContext, RuleResult, axis, one};
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, CastTo, Compare, Gather, GatherElements, Scatter, ScatterFlat, TopK};
use catc_ir::{Dim, Element, Op, Shape};

/// Whether indices are the result of ArgMin or TopK, which is never negative.
fn counts_from_zero(cx: &NodeContext, index: &Value) -> bool {
    cx.definition(index).is_some_and(|n| matches!(n.op, Op::ArgMin(_) | Op::TopK(TopK { indices: true, .. })))
}

/// Converts indices of an axis of `size` to indices from 0. Negative indices count from the end.
pub(super) fn from_zero(cx: &mut NodeContext, index: &Value, size: usize) -> Built {
    if let Some(known) = small(index)
        && let Some(items) = known.as_sizes()
        && items.iter().all(|s| matches!(s, crate::size::Size::Fixed(n) if *n >= 0))
    {
        return Ok(index.clone());
    }
    if counts_from_zero(cx, index) {
        return Ok(index.clone());
    }
    let negative = compare(cx, Compare::Less, index, &whole(0))?;
    let shifted = combine(cx, Binary::Add, index, &whole(size as i64))?;
    choose(cx, &negative, &shifted, index)
}

fn fixed(cx: &NodeContext, value: &Value, what: &str) -> Result<Vec<usize>, NodeProblem> {
    let shape = cx.shape(value);
    shape.as_fixed().ok_or_else(|| NodeProblem::unsupported(format!("{what} has shape {shape}, which holds the batch")))
}

pub(super) fn gather_elements(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let written = cx.int("axis")?.unwrap_or(0);
    let (data, index) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(&data);
    let axis = axis(written, shape.rank())?;
    let Dim::Fixed(size) = shape.dims()[axis] else {
        return Err(NodeProblem::unsupported("it picks along the batch"));
    };
    let index = from_zero(cx, &index, size)?;
    let operands = [cx.operand(0, &data)?, cx.operand(1, &index)?];
    one(cx.emit(Op::GatherElements(GatherElements { axis }), &operands)?)
}

/// The offsets that coordinates from 0 along an axis of `size` add to a position. An offset is the coordinate times `distance`.
/// If the coordinate is out of range, the offset is `outside`, because it would otherwise refer to an element of another row.
fn offsets(cx: &mut NodeContext, part: &Value, size: usize, distance: usize, outside: i64) -> Built {
    let offset = combine(cx, Binary::Mul, part, &whole(distance as i64))?;
    if let Some(items) = small(part).and_then(Known::as_sizes) {
        let off_axis = items.iter().filter_map(|s| s.fixed()).find(|n| !(0..size as i64).contains(n));
        return match off_axis {
            Some(n) => {
                let written = if n < 0 { n - size as i64 } else { n };
                Err(NodeProblem::input(1, format!("holds the index {written} for an axis of size {size}")))
            }
            None => Ok(offset),
        };
    }
    if counts_from_zero(cx, part) {
        return Ok(offset);
    }
    let below = compare(cx, Compare::Less, part, &whole(0))?;
    let offset = choose(cx, &below, &whole(outside), &offset)?;
    let above = compare(cx, Compare::GreaterEqual, part, &whole(size as i64))?;
    choose(cx, &above, &whole(outside), &offset)
}

/// Row-major positions from coordinates in the last axis of `index`. A position is the sum of the coordinates times their
/// distances. A coordinate that is out of range gives a negative position, which the evaluator rejects.
fn positions(cx: &mut NodeContext, index: &Value, sizes: &[usize], distances: &[usize]) -> Built {
    let lead = fixed(cx, index, "its indices")?;
    let Some(rank) = lead.len().checked_sub(1) else {
        return Err(NodeProblem::input(1, "is a single number, a list of coordinates is needed"));
    };
    // This is so negative that neither the other coordinates nor the start of a slice of the leading axes can make the position
    // valid.
    let outside = -(1 << 40);
    let mut sum: Option<Value> = None;
    for (i, (&size, &distance)) in sizes.iter().zip(distances).enumerate() {
        let part = super::build::slice(cx, index, rank, i, i + 1, 1)?;
        let part = from_zero(cx, &part, size)?;
        let part = offsets(cx, &part, size, distance, outside)?;
        sum = Some(match sum {
            None => part,
            Some(s) => combine(cx, Binary::Add, &s, &part)?,
        });
    }
    let sum = sum.ok_or_else(|| NodeProblem::input(1, "holds no coordinates"))?;
    reshape(cx, &sum, Shape::fixed(&lead[..rank]))
}

pub(super) fn gather_nd(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let batch_dims = cx.int("batch_dims")?.and_then(|b| usize::try_from(b).ok()).unwrap_or(0);
    let (data, index) = (cx.input(0)?, cx.input(1)?);
    let (shape, lead) = (fixed(cx, &data, "its data")?, fixed(cx, &index, "its indices")?);
    let Some((&depth, places)) = lead.split_last() else { return Err(NodeProblem::input(1, "must have an axis")) };
    let b = batch_dims;
    if b > places.len() || b + depth > shape.len() || shape[..b] != places[..b] {
        return Err(NodeProblem::input(1, format!("of shape {lead:?} does not fit data of {shape:?}")));
    }
    let sizes = &shape[b..b + depth];
    let inner: Vec<usize> = shape[b + depth..].to_vec();
    let mut place = positions(cx, &index, sizes, &strides(sizes))?;
    let rows: usize = sizes.iter().product();
    let batches: usize = shape[..b].iter().product();
    if b > 0 {
        // Each slice of the leading axes has its own rows.
        let starts = indices(
            &[&shape[..b], &vec![1; places.len() - b][..]].concat(),
            (0..batches as i64).map(|i| i * rows as i64).collect(),
        );
        place = combine(cx, Binary::Add, &place, &starts)?;
    }
    let table = [&[batches * rows], &inner[..]].concat();
    let data = reshaped(cx, &data, Shape::fixed(&table))?;
    let operands = [cx.operand(0, &data)?, cx.operand(1, &place)?];
    one(cx.emit(Op::Gather(Gather { axis: 0 }), &operands)?)
}

fn join(cx: &mut NodeContext) -> Result<Scatter, NodeProblem> {
    Ok(match cx.word("reduction")?.unwrap_or("none") {
        "none" => Scatter::Replace,
        "add" => Scatter::Add,
        "mul" => Scatter::Mul,
        "max" => Scatter::Max,
        "min" => Scatter::Min,
        other => return Err(NodeProblem::attribute("reduction", format!("is {other:?}, which is not defined"))),
    })
}

fn scatter(cx: &mut NodeContext, join: Scatter, data: &Value, place: &Value, updates: &Value) -> RuleResult {
    if let (Some(Known::Tensor(d)), Some(p), Some(u)) = (small(data), small(place), small(updates))
        && join == Scatter::Replace
        && let (Some(d), Some(p), Some(u)) = (d.as_i64(), p.as_sizes(), u.as_sizes())
    {
        // Models assemble shapes in this way.
        let mut items: Vec<_> = d.iter().map(|&n| crate::size::Size::Fixed(n)).collect();
        for (p, u) in p.iter().zip(u) {
            let slot = p.fixed().and_then(|p| usize::try_from(p).ok()).and_then(|p| items.get_mut(p));
            *slot.ok_or_else(|| NodeProblem::input(1, "holds an index outside of the data"))? = u;
        }
        let shape = fixed(cx, data, "its data")?;
        return one(Known::sizes(shape, items));
    }
    let operands = [cx.operand(0, data)?, cx.operand(1, place)?, cx.operand(2, updates)?];
    one(cx.emit(Op::ScatterFlat(ScatterFlat { join }), &operands)?)
}

pub(super) fn scatter_nd(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let join = join(cx)?;
    let (data, index, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (shape, lead) = (fixed(cx, &data, "its data")?, fixed(cx, &index, "its indices")?);
    let Some(&depth) = lead.last() else { return Err(NodeProblem::input(1, "must have an axis")) };
    if depth > shape.len() || depth == 0 {
        return Err(NodeProblem::input(1, format!("of shape {lead:?} does not fit data of {shape:?}")));
    }
    let place = positions(cx, &index, &shape[..depth], &strides(&shape)[..depth])?;
    // Each element of the scattered slices gets a position.
    let inner: usize = shape[depth..].iter().product();
    let outer = cx.shape(&place).as_fixed().unwrap_or_default();
    let column = reshape(cx, &place, Shape::fixed(&[&outer[..], &[1]].concat()))?;
    let steps = indices(&[inner], (0..inner as i64).collect());
    let place = combine(cx, Binary::Add, &column, &steps)?;
    let updates = reshape(cx, &updates, Shape::fixed(&[&outer[..], &[inner]].concat()))?;
    scatter(cx, join, &data, &place, &updates)
}

pub(super) fn scatter_elements(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let join = if cx.opset >= 16 { join(cx)? } else { Scatter::Replace };
    let written = cx.int("axis")?.unwrap_or(0);
    let (data, index, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (shape, at) = (fixed(cx, &data, "its data")?, fixed(cx, &index, "its indices")?);
    let axis = axis(written, shape.len())?;
    if at.len() != shape.len() {
        return Err(NodeProblem::input(1, format!("of shape {at:?} does not fit data of {shape:?}")));
    }
    let steps = strides(&shape);
    let index = from_zero(cx, &index, shape[axis])?;
    let along = combine(cx, Binary::Mul, &index, &whole(steps[axis] as i64))?;
    // The other coordinates of an update are its own coordinates in the index tensor.
    let mut others = vec![];
    crate::fold::each_index(&at, |i| {
        others.push(i.iter().enumerate().map(|(a, &x)| if a == axis { 0 } else { x * steps[a] } as i64).sum());
    });
    let place = combine(cx, Binary::Add, &along, &indices(&at, others))?;
    scatter(cx, join, &data, &place, &updates)
}

pub(super) fn one_hot(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let written = cx.int("axis")?.unwrap_or(-1);
    let depth = cx.known(1, "the depth")?;
    let depth = match (depth.as_f32(), depth.as_sizes().as_deref()) {
        (Some(&[x]), _) => x as i64,
        (_, Some(&[crate::size::Size::Fixed(n)])) => n,
        _ => return Err(NodeProblem::input(1, "(the depth) must be one number")),
    };
    let (index, values) = (cx.input(0)?, cx.input(2)?);
    let Some(depth) = usize::try_from(depth).ok().filter(|&d| d > 0 && d < 1 << 32) else {
        return Err(NodeProblem::input(1, "(the depth) must be positive"));
    };
    let index = cast(cx, &index, CastTo::I64)?;
    let index = from_zero(cx, &index, depth)?;
    let shape = cx.shape(&index);
    let axis = axis(written, shape.rank() + 1)?;
    let mut dims = shape.dims().to_vec();
    dims.insert(axis, Dim::Fixed(1));
    let index = reshape(cx, &index, Shape::new(dims))?;
    let mut places = vec![1; shape.rank() + 1];
    places[axis] = depth;
    let hit = compare(cx, Compare::Equal, &index, &indices(&places, (0..depth as i64).collect()))?;
    let mut value = |i: usize| {
        let v = pick(cx, &values, 0, &[i])?;
        reshape(cx, &v, Shape::default())
    };
    let (off, on) = (value(0)?, value(1)?);
    one(choose(cx, &hit, &on, &off)?)
}

pub(super) fn eye_like(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let k = cx.int("k")?.unwrap_or(0);
    let to = cx.int("dtype")?;
    let x = cx.input(0)?;
    let &[rows, columns] = &fixed(cx, &x, "its input")?[..] else {
        return Err(NodeProblem::input(0, "must have two dimensions"));
    };
    if rows.saturating_mul(columns) > 1 << 24 {
        return Err(NodeProblem::input(0, "is too large"));
    }
    let at = |i: usize| f32::from(u8::from((i % columns) as i64 - (i / columns) as i64 == k));
    let eye = super::build::reals(&[rows, columns], (0..rows * columns).map(at).collect());
    let whole = match to {
        Some(t) => !matches!(t, 1 | 10 | 11 | 16),
        None => cx.element(&x) == Element::I64,
    };
    one(if whole { cast(cx, &eye, CastTo::I64)? } else { eye })
}

pub(super) fn compress(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let x = cx.input(0)?;
    let condition = cx.known(1, "the condition")?;
    let Some(truth) = truths(&condition) else { return Err(NodeProblem::input(1, "must hold truth values")) };
    let shape = cx.shape(&x);
    let (x, axis) = match cx.int("axis")? {
        Some(a) => (x, axis(a, shape.rank())?),
        None => {
            let count = fixed(cx, &x, "its input")?.iter().product();
            (reshape(cx, &x, Shape::fixed(&[count]))?, 0)
        }
    };
    let Dim::Fixed(size) = cx.shape(&x).dims()[axis] else {
        return Err(NodeProblem::unsupported("it picks along the batch"));
    };
    let picks: Vec<usize> = truth.iter().enumerate().filter(|(i, t)| **t && *i < size).map(|(i, _)| i).collect();
    one(pick(cx, &x, axis, &picks)?)
}

pub(super) fn non_zero(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let known = cx.known(0, "the input")?;
    let truth = cast(cx, &known.clone().into(), CastTo::Bool)?;
    let (Value::Known(truth), shape) = (truth, known.shape().to_vec()) else {
        return Err(NodeProblem::unsupported("its input is large"));
    };
    let Some(truth) = truths(&truth) else { return Err(NodeProblem::unsupported("its input is large")) };
    let hits: Vec<usize> = truth.iter().enumerate().filter(|(_, t)| **t).map(|(i, _)| i).collect();
    let steps = strides(&shape);
    let mut items = vec![];
    for (axis, step) in steps.iter().enumerate() {
        items.extend(hits.iter().map(|i| (i / step % shape[axis]) as i64));
    }
    one(indices(&[shape.len(), hits.len()], items))
}
