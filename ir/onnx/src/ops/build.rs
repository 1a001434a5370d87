//! Building blocks for rules. They add nodes to the graph, or fold the operation at import if all operands are known and small.

use crate::error::NodeProblem;
use crate::fold::{FOLD_ELEMENTS, zip, zip_sizes};
use crate::node::NodeContext;
use crate::size::Size;
use crate::value::{Known, Value};
use catc_ir::ops::{
    Binary, Cast, CastTo, Compare, Expand, MatMul, ReduceMean, Reshape, Slice, Transpose, Unary, Where,
};
use catc_ir::{Element, Op, Shape, Tensor, TensorData};

/// The result of a building block.
pub(super) type Built = Result<Value, NodeProblem>;

/// A known f32.
pub(super) fn real(x: f32) -> Value {
    Known::from(Tensor::scalar(x)).into()
}

/// A known integer.
pub(super) fn whole(n: i64) -> Value {
    Known::from(Tensor::i64(&[], vec![n])).into()
}

/// A known tensor of f32.
pub(super) fn reals(shape: &[usize], items: Vec<f32>) -> Value {
    Known::from(Tensor::f32(shape, items)).into()
}

/// A known tensor of integers.
pub(super) fn indices(shape: &[usize], items: Vec<i64>) -> Value {
    Known::from(Tensor::i64(shape, items)).into()
}

/// The known tensor of a value, if it is small enough to fold.
pub(super) fn small(x: &Value) -> Option<&Known> {
    match x {
        Value::Known(k) if k.len() <= FOLD_ELEMENTS => Some(k),
        _ => None,
    }
}

/// Builds `f(x)`. Integers are converted to f32 and back.
pub(super) fn apply(cx: &mut NodeContext, f: Unary, x: &Value) -> Built {
    if let Some(known) = small(x)
        && let Some(items) = known.as_f32()
    {
        return Ok(reals(known.shape(), items.iter().map(|&x| f.apply(x)).collect()));
    }
    if cx.element(x) == Element::I64 {
        let x = cast(cx, x, CastTo::F32)?;
        let y = apply(cx, f, &x)?;
        return cast(cx, &y, CastTo::I64);
    }
    cx.emit_on(Op::Unary(f), x)
}

/// A binary function on sizes.
fn on_sizes(f: Binary) -> impl Fn(Size, Size) -> Option<Size> {
    move |a, b| match (f, a, b) {
        (Binary::Add, ..) => a.add(b),
        (Binary::Sub, ..) => a.sub(b),
        (Binary::Mul, ..) => a.mul(b),
        (Binary::Div, ..) => a.div(b),
        (_, Size::Fixed(a), Size::Fixed(b)) => Some(Size::Fixed(f.apply_whole(a, b))),
        // A batch size is at least 1, so its multiple by `k` is at least `k`.
        (Binary::Max, s @ Size::Batch(k), Size::Fixed(n)) | (Binary::Max, Size::Fixed(n), s @ Size::Batch(k)) => {
            (n <= k).then_some(s)
        }
        _ => None,
    }
}

/// Builds `f(a, b)` with broadcasting.
pub(super) fn combine(cx: &mut NodeContext, f: Binary, a: &Value, b: &Value) -> Built {
    if let (Value::Known(a), Value::Known(b)) = (a, b)
        && let Some(folded) = fold_binary(a, b, f)?
    {
        return Ok(folded.into());
    }
    for (i, v) in [a, b].into_iter().enumerate() {
        if !matches!(cx.element(v), Element::F32 | Element::I64) {
            return Err(NodeProblem::input(i, "holds no numbers"));
        }
    }
    let operands = [cx.operand(0, a)?, cx.operand(1, b)?];
    cx.emit(Op::Binary(f), &operands)
}

/// Folds the operation for small known tensors. Large tensors are left to the graph.
fn fold_binary(a: &Known, b: &Known, f: Binary) -> Result<Option<Known>, NodeProblem> {
    let no_fit =
        || NodeProblem::input(1, format!("has shape {}, which does not broadcast with {}", b.ir_shape(), a.ir_shape()));
    let elements = a.ir_shape().broadcast(&b.ir_shape()).ok_or_else(no_fit)?.volume().map(|(n, _)| n);
    if elements.is_none_or(|n| n > FOLD_ELEMENTS) {
        return Ok(None);
    }
    if let (Some(x), Some(y)) = (a.as_f32(), b.as_f32()) {
        let (shape, items) = zip((a.shape(), x), (b.shape(), y), |p, q| f.apply(p, q)).ok_or_else(no_fit)?;
        return Ok(Some(Tensor::f32(&shape, items).into()));
    }
    match zip_sizes(a, b, on_sizes(f)) {
        None => Ok(None),
        Some(result) => result.map(Some).map_err(|pair| {
            NodeProblem::unsupported(format!("its result for {pair} is no multiple of the batch size N nor a number"))
        }),
    }
}

/// The elements of a known boolean tensor.
pub(super) fn truths(known: &Known) -> Option<&[bool]> {
    match known {
        Known::Tensor(t) => match t.data() {
            TensorData::Bool(v) => Some(v),
            _ => None,
        },
        Known::Sizes { .. } => None,
    }
}

/// The result of a comparison of sizes, if it is the same for every batch size.
fn compare_sizes(f: Compare, a: Size, b: Size) -> Option<bool> {
    match (a, b) {
        (Size::Fixed(a), Size::Fixed(b)) => Some(f.apply(a, b, 0)),
        (Size::Batch(a), Size::Batch(b)) => Some(f.apply(a, b, 0)),
        // The batch size is at least 1, so its multiple by `k` exceeds every number below `k`.
        (Size::Batch(k), Size::Fixed(n)) if k > 0 && n < k => Some(f.apply(1, 0, 0)),
        (Size::Fixed(n), Size::Batch(k)) if k > 0 && n < k => Some(f.apply(0, 1, 0)),
        _ => None,
    }
}

/// Builds the comparison `f(a, b)`, whose result is boolean.
pub(super) fn compare(cx: &mut NodeContext, f: Compare, a: &Value, b: &Value) -> Built {
    if let (Some(x), Some(y)) = (small(a), small(b)) {
        let found = if let (Some(p), Some(q)) = (x.as_f32(), y.as_f32()) {
            zip((x.shape(), p), (y.shape(), q), |p, q| Some(f.apply(p, q, 0.0)))
        } else if let (Some(p), Some(q)) = (x.as_sizes(), y.as_sizes()) {
            zip((x.shape(), &p), (y.shape(), &q), |p, q| compare_sizes(f, p, q))
        } else if let (Some(p), Some(q)) = (truths(x), truths(y)) {
            zip((x.shape(), p), (y.shape(), q), |p, q| Some(f.apply(p, q, false)))
        } else {
            return Err(NodeProblem::input(1, "holds another kind of elements than input 0"));
        };
        let Some((shape, items)) = found else {
            return Err(NodeProblem::input(1, format!("has shape {}, which does not broadcast", y.ir_shape())));
        };
        let Some(items) = items.into_iter().collect::<Option<Vec<bool>>>() else {
            return Err(NodeProblem::unsupported("its result depends on the batch size"));
        };
        if items.len() <= FOLD_ELEMENTS {
            return Ok(Known::from(Tensor::new(shape, TensorData::Bool(items))).into());
        }
    }
    let operands = [cx.operand(0, a)?, cx.operand(1, b)?];
    cx.emit(Op::Compare(f), &operands)
}

/// Builds the negation of booleans.
pub(super) fn not(cx: &mut NodeContext, x: &Value) -> Built {
    let no = Known::from(Tensor::new(vec![], TensorData::Bool(vec![false]))).into();
    compare(cx, Compare::Equal, x, &no)
}

/// Builds `condition ? a : b` with broadcasting.
pub(super) fn choose(cx: &mut NodeContext, condition: &Value, a: &Value, b: &Value) -> Built {
    let shapes = [condition, a, b].map(|v| cx.shape(v));
    let no_fit = || NodeProblem::invalid("its inputs do not broadcast");
    let shape = shapes[0].broadcast(&shapes[1]).and_then(|s| s.broadcast(&shapes[2])).ok_or_else(no_fit)?;
    if let (Some(c), Some(x), Some(y)) = (small(condition), small(a), small(b))
        && let Some(truth) = truths(c)
        && let Some(sizes) = shape.as_fixed()
        && sizes.iter().product::<usize>() <= FOLD_ELEMENTS
    {
        let places = |k: &Known| crate::fold::spread(k.shape(), &sizes);
        let (pc, px, py) = (places(c), places(x), places(y));
        let pick = |i: usize| truth[pc[i]];
        let count = pc.len();
        if let (Some(x), Some(y)) = (x.as_sizes(), y.as_sizes()) {
            let items = (0..count).map(|i| if pick(i) { x[px[i]] } else { y[py[i]] }).collect();
            return Ok(Known::sizes(sizes, items).into());
        }
        if let (Some(x), Some(y)) = (x.as_f32(), y.as_f32()) {
            let items = (0..count).map(|i| if pick(i) { x[px[i]] } else { y[py[i]] }).collect();
            return Ok(reals(&sizes, items));
        }
        if let (Some(x), Some(y)) = (truths(x), truths(y)) {
            let items = (0..count).map(|i| if pick(i) { x[px[i]] } else { y[py[i]] }).collect();
            return Ok(Known::from(Tensor::new(sizes, TensorData::Bool(items))).into());
        }
    }
    let operands = [cx.operand(0, condition)?, cx.operand(1, a)?, cx.operand(2, b)?];
    cx.emit(Op::Where(Where), &operands)
}

/// Builds a cast to another element type.
pub(super) fn cast(cx: &mut NodeContext, x: &Value, to: CastTo) -> Built {
    let element = match to {
        CastTo::F32 => Element::F32,
        CastTo::I64 => Element::I64,
        CastTo::Bool => Element::Bool,
    };
    if cx.element(x) == element {
        return Ok(x.clone());
    }
    if let Some(Known::Tensor(t)) = small(x) {
        let data = match (t.data(), to) {
            (TensorData::I64(v), CastTo::F32) => TensorData::F32(v.iter().map(|&n| n as f32).collect()),
            (TensorData::Bool(v), CastTo::F32) => TensorData::F32(v.iter().map(|&b| f32::from(u8::from(b))).collect()),
            (TensorData::F32(v), CastTo::I64) => TensorData::I64(v.iter().map(|&x| x as i64).collect()),
            (TensorData::Bool(v), CastTo::I64) => TensorData::I64(v.iter().map(|&b| b.into()).collect()),
            (TensorData::F32(v), CastTo::Bool) => TensorData::Bool(v.iter().map(|&x| x != 0.0).collect()),
            (TensorData::I64(v), CastTo::Bool) => TensorData::Bool(v.iter().map(|&n| n != 0).collect()),
            (data, _) => data.clone(),
        };
        return Ok(Known::from(Tensor::new(t.shape().to_vec(), data)).into());
    }
    cx.emit_on(Op::Cast(Cast { to }), x)
}

/// Builds a cast to the element type of another value.
pub(super) fn cast_like(cx: &mut NodeContext, x: &Value, like: &Value) -> Built {
    let to = match cx.element(like) {
        Element::I64 => CastTo::I64,
        Element::Bool => CastTo::Bool,
        _ => CastTo::F32,
    };
    cast(cx, x, to)
}

/// Builds a reshape.
pub(super) fn reshape(cx: &mut NodeContext, x: &Value, shape: Shape) -> Built {
    if cx.shape(x) == shape {
        return Ok(x.clone());
    }
    if matches!(x, Value::Known(_)) && shape.as_fixed().is_some() {
        return super::reshape::reshaped(cx, x, shape);
    }
    cx.emit_on(Op::Reshape(Reshape { shape }), x)
}

/// Builds a permutation of the axes.
pub(super) fn permute(cx: &mut NodeContext, x: &Value, perm: Vec<usize>) -> Built {
    if perm.iter().copied().eq(0..perm.len()) {
        return Ok(x.clone());
    }
    match x {
        Value::Known(known) if cx.folds(known, known.len()) => Ok(crate::fold::transpose(known, &perm).into()),
        _ => cx.emit_on(Op::Transpose(Transpose { perm }), x),
    }
}

/// Swaps the last two axes.
pub(super) fn swap_last(cx: &mut NodeContext, x: &Value) -> Built {
    let rank = cx.shape(x).rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    permute(cx, x, perm)
}

/// Builds a broadcast to a shape.
pub(super) fn expand(cx: &mut NodeContext, x: &Value, shape: Shape) -> Built {
    if cx.shape(x) == shape {
        return Ok(x.clone());
    }
    if let (Some(known), Some(sizes)) = (small(x), shape.as_fixed())
        && sizes.iter().product::<usize>() <= FOLD_ELEMENTS
        && known.ir_shape().broadcast(&shape).as_ref() == Some(&shape)
    {
        let places = crate::fold::spread(known.shape(), &sizes);
        return Ok(crate::fold::pick(known, sizes, &places).into());
    }
    // A value that depends only on constants is computed before compilation, so its memory counts.
    if let (Value::Known(_), Some(sizes)) = (x, shape.as_fixed()) {
        cx.fill(&sizes)?;
    }
    cx.emit_on(Op::Expand(Expand { shape }), x)
}

/// Builds a slice of one axis.
pub(super) fn slice(cx: &mut NodeContext, x: &Value, axis: usize, start: usize, end: usize, step: usize) -> Built {
    if let Value::Known(known) = x
        && cx.folds(known, known.len())
    {
        return Ok(crate::fold::pick_along(known, axis, &(start..end).step_by(step).collect::<Vec<_>>()).into());
    }
    cx.emit_on(Op::Slice(Slice { axis, start, end, step }), x)
}

/// Selects slices at known indices.
pub(super) fn pick(cx: &mut NodeContext, x: &Value, axis: usize, picks: &[usize]) -> Built {
    if let Value::Known(known) = x
        && let Some(size) = known.shape().get(axis)
        && cx.folds(known, (known.len() / (*size).max(1)).saturating_mul(picks.len()))
    {
        return Ok(crate::fold::pick_along(known, axis, picks).into());
    }
    let items = indices(&[picks.len()], picks.iter().map(|&i| i as i64).collect());
    let operands = [cx.operand(0, x)?, cx.operand(1, &items)?];
    cx.emit(Op::Gather(catc_ir::ops::Gather { axis }), &operands)
}

/// Builds a concatenation.
pub(super) fn concat(cx: &mut NodeContext, parts: &[Value], axis: usize) -> Built {
    if let [one] = parts {
        return Ok(one.clone());
    }
    let operands = parts.iter().map(|p| cx.operand(0, p)).collect::<Result<Vec<_>, _>>()?;
    cx.emit(Op::Concat(catc_ir::ops::Concat { axis }), &operands)
}

/// Builds a mean over axes.
pub(super) fn mean(cx: &mut NodeContext, x: &Value, axes: Vec<usize>, keep_dims: bool) -> Built {
    cx.emit_on(Op::ReduceMean(ReduceMean { axes, keep_dims }), x)
}

/// Builds a matrix product.
pub(super) fn matmul(cx: &mut NodeContext, a: &Value, b: &Value) -> Built {
    let operands = [cx.operand(0, a)?, cx.operand(1, b)?];
    cx.emit(Op::MatMul(MatMul), &operands)
}
