//! Operators that move elements: Transpose, Concat (4, 11, 13), Pad (2, 11, 13, 18, ...). Operators that do nothing: Identity,
//! Dropout (6, 7, 10, 12, 13, 22).

use crate::error::NodeProblem;
use crate::fold;
use crate::node::{NodeContext, RuleResult, axis, one};
use crate::tensor::MAX_ELEMENTS;
use crate::value::{Known, Value};
use catc_ir::{Dim, Op, Operand, Shape, Tensor, ops};

/// Transposes a `rows x columns` matrix.
pub(super) fn transposed(items: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| items[r * columns + c])).collect()
}

pub(super) fn transpose(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.moved_input(0)?;
    let rank = cx.shape(&x).rank();
    let perm = match cx.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(list) => {
            let perm: Vec<usize> = list.iter().filter_map(|&i| usize::try_from(i).ok()).collect();
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if list.len() != rank || !sorted.into_iter().eq(0..rank) {
                return Err(NodeProblem::attribute("perm", format!("is {list:?}, no order of {rank} axes")));
            }
            perm
        }
    };
    match &x {
        Value::Known(known) if cx.folds(known, known.len()) => one(fold::transpose(known, &perm)),
        _ => one(cx.emit_on(Op::Transpose(ops::Transpose { perm }), &x)?),
    }
}

pub(super) fn concat(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, usize::MAX)?;
    let parts = parts(cx)?;
    let rank = cx.shape(&parts[0]).rank();
    let Some(written) = cx.int("axis")? else {
        return Err(NodeProblem::attribute("axis", "is missing"));
    };
    let axis = axis(written, rank)?;
    joined(cx, parts, axis)
}

/// The inputs of a concatenation. They stay codes if all are codes of the same quantizer.
fn parts(cx: &mut NodeContext) -> Result<Vec<Value>, NodeProblem> {
    let count = cx.input_count();
    let parts = (0..count).map(|i| cx.moved_input(i)).collect::<Result<Vec<_>, _>>()?;
    let same = |p: &Value| cx.element(p) == cx.element(&parts[0]) && cx.file_codes(p) == cx.file_codes(&parts[0]);
    match parts.iter().all(same) {
        true => Ok(parts),
        false => (0..count).map(|i| cx.input(i)).collect(),
    }
}

/// Stacks values of equal shape along a new first axis.
pub(crate) fn stacked(cx: &mut NodeContext, parts: &[Value]) -> RuleResult {
    let layer = |cx: &mut NodeContext, part: &Value| {
        let shape = cx.shape(part);
        super::build::reshape(cx, part, Shape::new([Dim::Fixed(1)].into_iter().chain(shape.dims().iter().copied())))
    };
    let parts = parts.iter().map(|p| layer(cx, p)).collect::<Result<Vec<_>, _>>()?;
    joined(cx, parts, 0)
}

/// Concatenates values along an axis.
fn joined(cx: &mut NodeContext, parts: Vec<Value>, axis: usize) -> RuleResult {
    let known: Option<Vec<Known>> = parts
        .iter()
        .map(|p| match p {
            Value::Known(k) => Some(k.clone()),
            Value::Computed(_) => None,
        })
        .collect();
    if let Some(known) = known
        && cx.folds(&known[0], known.iter().fold(0usize, |n, k| n.saturating_add(k.len())))
    {
        let shapes = || known.iter().map(|k| k.ir_shape().to_string()).collect::<Vec<_>>().join(", ");
        let misfit = || NodeProblem::invalid(format!("its inputs do not fit side by side: {}", shapes()));
        return one(fold::concat(&known, axis).ok_or_else(misfit)?);
    }
    let parts = with_batch(cx, parts, axis)?;
    // Shape inference adds the sizes, so the sum must not overflow.
    let sizes = parts.iter().filter_map(|p| cx.shape(p).dims().get(axis)?.fixed());
    if sizes.fold(0usize, |n, size| n.saturating_add(size)) > MAX_ELEMENTS {
        return Err(NodeProblem::invalid("its output is too large"));
    }
    let operands = parts.iter().enumerate().map(|(i, p)| cx.operand(i, p)).collect::<Result<Vec<Operand>, _>>()?;
    one(cx.emit(Op::Concat(ops::Concat { axis }), &operands)?)
}

/// Adds the batch to parts that lack it, for example a class token beside patches. This occurs in files that are made for one
/// image.
fn with_batch(cx: &mut NodeContext, parts: Vec<Value>, axis: usize) -> Result<Vec<Value>, NodeProblem> {
    let at = |shape: &Shape| shape.dims().iter().position(|d| *d == Dim::N);
    let Some(batch) = parts.iter().find_map(|p| at(&cx.shape(p))) else { return Ok(parts) };
    if cx.file_batch() != Some(1) || batch == axis {
        return Ok(parts);
    }
    let mut spread = vec![];
    for part in parts {
        let mut shape = cx.shape(&part);
        spread.push(match shape.as_fixed() {
            Some(sizes) if sizes.get(batch) == Some(&1) => {
                shape.0[batch] = Dim::N;
                super::build::expand(cx, &part, shape)?
            }
            _ => part,
        });
    }
    Ok(spread)
}

pub(super) fn pad(cx: &mut NodeContext) -> RuleResult {
    let mode = cx.word("mode")?.unwrap_or("constant");
    if !matches!(mode, "constant" | "reflect" | "edge" | "wrap") {
        return Err(NodeProblem::attribute("mode", format!("is {mode:?}, which is not defined")));
    }
    // The amounts and the value became inputs in opset 11. The axes were added in opset 18.
    let x = cx.moved_input(0)?;
    let rank = cx.shape(&x).rank();
    let (amounts, value, axes) = if cx.opset < 11 {
        cx.arity(1, 1)?;
        let Some(amounts) = cx.ints("pads")? else {
            return Err(NodeProblem::attribute("pads", "is missing"));
        };
        (amounts.to_vec(), cx.float("value")?.unwrap_or(0.0), None)
    } else {
        cx.arity(2, if cx.opset < 18 { 3 } else { 4 })?;
        let value = if cx.has_input(2) { cx.scalar(2, "constant_value")? } else { 0.0 };
        let axes = if cx.has_input(3) { Some(cx.fixed_sizes(3, "axes")?) } else { None };
        (cx.fixed_sizes(1, "pads")?, value, axes)
    };
    let axes = match axes {
        None => (0..rank).collect(),
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
    };
    if amounts.len() != 2 * axes.len() {
        let count = amounts.len();
        return Err(NodeProblem::invalid(format!("has {count} amounts of padding for {} axes", axes.len())));
    }
    let (mut before, mut after) = (vec![0i64; rank], vec![0i64; rank]);
    for (i, &a) in axes.iter().enumerate() {
        (before[a], after[a]) = (amounts[i], amounts[i + axes.len()]);
    }
    // Negative amounts crop. They are applied before the positive amounts pad.
    let mut x = x;
    for a in 0..rank {
        let crop = [before[a], after[a]].map(|n| usize::try_from(n.saturating_neg()).unwrap_or(0));
        if crop == [0, 0] {
            continue;
        }
        let size = match cx.shape(&x).dims()[a] {
            Dim::Fixed(n) => n,
            Dim::Batch(_) => return Err(NodeProblem::unsupported("it crops the batch")),
        };
        let end = size.saturating_sub(crop[1]);
        if crop[0] >= end {
            return Err(NodeProblem::invalid(format!("crops all {size} positions of axis {a}")));
        }
        x = cx.emit_on(Op::Slice(ops::Slice { axis: a, start: crop[0], end, step: 1 }), &x)?;
    }
    let positive = |v: Vec<i64>| v.into_iter().map(|n| usize::try_from(n).unwrap_or(0)).collect::<Vec<_>>();
    let (before, after) = (positive(before), positive(after));
    if before.iter().chain(&after).any(|&n| n > MAX_ELEMENTS) {
        return Err(NodeProblem::invalid("its output is too large"));
    }
    if before.iter().chain(&after).all(|&n| n == 0) {
        return one(cx.emit_on(Op::Identity(ops::Identity), &x)?);
    }
    if mode != "constant" {
        return one(super::rearrange::pad_by_copies(cx, x, mode, &before, &after)?);
    }
    // The padding value is a code of the file, 0 by default.
    let taken = cx.moved_input(0)?;
    if let Some(file) = cx.file_codes(&taken) {
        if file.zero_point[0] as f32 == value {
            return one(cx.emit_on(Op::Pad(ops::Pad { before, after, value: 0.0 }), &x)?);
        }
        let real = cx.emit_on(Op::Dequantize(ops::Dequantize), &x)?;
        let value = (value - file.zero_point[0] as f32) * file.scale[0];
        let padded = cx.emit_on(Op::Pad(ops::Pad { before, after, value }), &real)?;
        return one(super::codes::keep(cx, &padded, &file)?);
    }
    if let Value::Known(known) = &x
        && let Some(padded) = known_padded(cx, known, &before, &after, value)
    {
        return one(padded);
    }
    let real = super::build::cast(cx, &x, ops::CastTo::F32)?;
    let padded = cx.emit_on(Op::Pad(ops::Pad { before, after, value }), &real)?;
    one(super::build::cast_like(cx, &padded, &x)?)
}

/// Pads known integers with an integer.
fn known_padded(cx: &mut NodeContext, known: &Known, before: &[usize], after: &[usize], value: f32) -> Option<Known> {
    let Known::Tensor(tensor) = known else { return None };
    let items = tensor.as_i64()?;
    let sizes = tensor.shape().iter().zip(before.iter().zip(after)).map(|(n, (b, a))| n + b + a).collect::<Vec<_>>();
    let elements = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if !cx.folds(known, elements) {
        return None;
    }
    let steps = fold::strides(tensor.shape());
    let mut padded = Vec::with_capacity(elements);
    fold::each_index(&sizes, |at| {
        let inside = at.iter().enumerate().try_fold(0usize, |place, (axis, &i)| {
            let i = i.checked_sub(before[axis]).filter(|&i| i < tensor.shape()[axis])?;
            Some(place + i * steps[axis])
        });
        padded.push(inside.map_or(value as i64, |place| items[place]));
    });
    Some(Tensor::i64(&sizes, padded).into())
}

/// A known value is returned as it is. Any other value gets an `identity`, which a pass removes.
pub(super) fn same(cx: &mut NodeContext, x: Value) -> RuleResult {
    match x {
        Value::Known(known) => one(known),
        computed => one(cx.emit_on(Op::Identity(ops::Identity), &computed)?),
    }
}

pub(super) fn identity(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.moved_input(0)?;
    same(cx, x)
}

pub(super) fn dropout(cx: &mut NodeContext) -> RuleResult {
    // The ratio and the training mode became inputs in opset 12. Outside of training, Dropout returns its input.
    if cx.opset < 12 {
        cx.arity(1, 1)?;
        cx.ignore("ratio");
        if cx.opset < 7 && !cx.flag("is_test", false)? {
            return Err(NodeProblem::unsupported("attribute `is_test` is 0 (export for inference)"));
        }
    } else {
        cx.arity(1, 3)?;
        cx.ignore("seed");
        if cx.has_input(2) {
            let training = cx.known(2, "training_mode")?;
            let on = match &training {
                Known::Tensor(t) => match t.data() {
                    catc_ir::TensorData::Bool(v) => v.contains(&true),
                    _ => return Err(NodeProblem::input(2, "(training_mode) must be a truth value")),
                },
                Known::Sizes { .. } => return Err(NodeProblem::input(2, "(training_mode) must be a truth value")),
            };
            if on {
                return Err(NodeProblem::unsupported("training_mode is true (export for inference)"));
            }
        }
    }
    let x = cx.moved_input(0)?;
    let mut outputs = same(cx, x.clone())?;
    if cx.output_count() > 1 {
        // All elements pass, so the mask is true everywhere. In older opsets it consists of ones.
        let yes: Value = if cx.opset < 12 {
            super::build::real(1.0)
        } else {
            Known::from(Tensor::new(vec![], catc_ir::TensorData::Bool(vec![true]))).into()
        };
        let shape = cx.shape(&x);
        outputs.push(super::build::expand(cx, &yes, shape)?);
    }
    Ok(outputs)
}
