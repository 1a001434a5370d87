//! Operators that change only the shape: Reshape (5, 13, 14, ...), Flatten, Squeeze and Unsqueeze (1, 11, 13, ...).

use crate::error::NodeProblem;
use crate::fold;
use crate::node::{NodeContext, RuleResult, axes, axis, one};
use crate::size::Size;
use crate::value::{Known, Value};
use catc_ir::{Dim, Op, Shape, ops};

pub(super) fn reshape(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let allow_zero = cx.opset >= 14 && cx.flag("allowzero", false)?;
    let target = cx.sizes(1, "the shape")?;
    let x = cx.moved_input(0)?;
    let shape = cx.shape(&x);
    if let Value::Known(Known::Sizes { .. }) = x {
        // Its dimensions do not depend on the batch, even though its elements do.
        let sizes = target_shape(&shape, &target, allow_zero, None)?.0;
        return one(reshaped(cx, &x, sizes)?);
    }
    let (to, batch_of_one) = target_shape(&shape, &target, allow_zero, cx.file_batch())?;
    if batch_of_one {
        let written = target.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(",");
        cx.warn(format!("the shape [{written}] holds for a batch of 1 only; it is taken as {to}"));
    }
    one(reshaped(cx, &x, to)?)
}

/// Changes the shape of a value. A known value is reshaped at import, and any other by the graph.
pub(super) fn reshaped(cx: &mut NodeContext, x: &Value, shape: Shape) -> Result<Value, NodeProblem> {
    if let Value::Known(known) = x
        && let Some(sizes) = shape.as_fixed()
        && cx.folds(known, known.len())
    {
        if shape.volume() != known.ir_shape().volume() {
            return Err(NodeProblem::input(
                0,
                format!("has shape {}, not as many elements as {shape}", known.ir_shape()),
            ));
        }
        return Ok(fold::reshape(known, sizes).into());
    }
    cx.emit_on(Op::Reshape(ops::Reshape { shape }), x)
}

fn product(sizes: &[Size]) -> Option<Size> {
    sizes.iter().try_fold(Size::Fixed(1), |n, &s| n.mul(s))
}

/// The output shape of a Reshape with the second input `target`, for an input of `shape`. The boolean tells whether a shape
/// written for a batch of 1 was reinterpreted for any batch.
///
/// If the file fixes the batch size `file_batch`, its constants contain this number instead of `N`. The batch then belongs to the
/// dimension that has as many elements before it as the batch had in the input, so each image keeps its elements.
pub(super) fn target_shape(
    shape: &Shape,
    target: &[Size],
    allow_zero: bool,
    file_batch: Option<usize>,
) -> Result<(Shape, bool), NodeProblem> {
    let text = || format!("[{}]", target.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(","));
    let mismatch = || NodeProblem::input(0, format!("has shape {shape}, which cannot become {}", text()));
    let mut sizes = target.to_vec();
    let mut open = None;
    for (i, size) in sizes.iter_mut().enumerate() {
        match *size {
            Size::Fixed(0) if !allow_zero => *size = shape.dims().get(i).copied().ok_or_else(mismatch)?.into(),
            Size::Fixed(-1) if open.is_none() => open = Some(i),
            Size::Fixed(n) if n < 0 => return Err(NodeProblem::input(1, format!("holds the shape {}", text()))),
            _ => {}
        }
    }
    let follows_batch = sizes.iter().any(|s| s.fixed().is_none());
    let (elements, batches) = shape.volume().ok_or_else(mismatch)?;
    let elements = i64::try_from(elements).map_err(|_| mismatch())?;
    // The batch size that the constants contain: that of the file, or 1 for a file that is made for single images.
    let assumed = match (batches, follows_batch, file_batch) {
        (1, false, Some(b)) => Some(b),
        (1, false, None) if open.is_none() && product(&sizes) == Some(Size::Fixed(elements)) => Some(1),
        _ => None,
    };
    let total = match (batches, assumed) {
        (0, _) => Size::Fixed(elements),
        (1, Some(b)) => Size::Fixed(i64::try_from(b).ok().and_then(|b| b.checked_mul(elements)).ok_or_else(mismatch)?),
        (1, None) => Size::Batch(elements),
        _ => return Err(NodeProblem::unsupported(format!("its input of shape {shape} contains the batch twice"))),
    };
    if let Some(i) = open {
        sizes[i] = Size::Fixed(1);
        let others = product(&sizes).ok_or_else(mismatch)?;
        let rest = total.div(others).ok_or_else(mismatch)?;
        if rest.mul(others) != Some(total) {
            return Err(mismatch());
        }
        sizes[i] = rest;
    }
    if product(&sizes) != Some(total) {
        return Err(mismatch());
    }
    if let Some(b) = assumed {
        place_batch(shape, &mut sizes, b).ok_or_else(|| {
            NodeProblem::unsupported(format!(
                "the shape {} has no dimension that the batch of {shape} could be in",
                text()
            ))
        })?;
    }
    let dim = |s: &Size| match *s {
        Size::Fixed(n) => usize::try_from(n).ok().map(Dim::Fixed),
        Size::Batch(k) => usize::try_from(k).ok().map(Dim::Batch),
    };
    let to = sizes.iter().map(dim).collect::<Option<Vec<_>>>().ok_or_else(mismatch)?;
    Ok((Shape::new(to), assumed.is_some() && file_batch.is_none()))
}

/// Converts the size that contains the batch to a multiple of `N`.
fn place_batch(shape: &Shape, sizes: &mut [Size], file_batch: usize) -> Option<()> {
    let file_batch = i64::try_from(file_batch).ok()?;
    let before = shape
        .dims()
        .iter()
        .take_while(|d| d.fixed().is_some())
        .try_fold(1i64, |n, d| n.checked_mul(i64::try_from(d.fixed()?).ok()?))?;
    let mut passed = 1i64;
    for size in sizes.iter_mut() {
        let n = size.fixed()?;
        if passed == before && n % file_batch == 0 {
            *size = Size::Batch(n / file_batch);
            return Some(());
        }
        passed = passed.checked_mul(n)?;
    }
    None
}

pub(super) fn flatten(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 1)?;
    let x = cx.moved_input(0)?;
    let shape = cx.shape(&x);
    let rank = shape.rank();
    let split = match cx.int("axis")?.unwrap_or(1) {
        // The axis may be one past the last.
        n if n == rank as i64 => rank,
        n => axis(n, rank)?,
    };
    let volume = |dims: &[Dim]| match Shape::new(dims.iter().copied()).volume() {
        Some((n, 0)) => Ok(Size::from(Dim::Fixed(n))),
        Some((n, 1)) => Ok(Size::from(Dim::Batch(n))),
        _ => Err(NodeProblem::input(0, format!("has shape {shape}, which cannot be flattened"))),
    };
    let (rows, columns) = (volume(&shape.dims()[..split])?, volume(&shape.dims()[split..])?);
    // If the batch ends up in the columns, the file means a constant number of columns.
    let target = match (cx.file_batch(), columns) {
        (Some(_), Size::Batch(_)) => [rows, Size::Fixed(-1)],
        _ => [rows, columns],
    };
    let to = target_shape(&shape, &target, true, cx.file_batch())?.0;
    one(reshaped(cx, &x, to)?)
}

/// The axes of Squeeze and Unsqueeze. They are an attribute up to opset 12, and an input from opset 13 on.
fn axes_of(cx: &mut NodeContext) -> Result<Option<Vec<i64>>, NodeProblem> {
    if cx.opset < 13 {
        cx.arity(1, 1)?;
        return Ok(cx.ints("axes")?.map(|v| v.to_vec()));
    }
    cx.arity(1, 2)?;
    cx.has_input(1).then(|| cx.fixed_sizes(1, "axes")).transpose()
}

pub(super) fn squeeze(cx: &mut NodeContext) -> RuleResult {
    let list = axes_of(cx)?;
    let x = cx.moved_input(0)?;
    let shape = cx.shape(&x);
    let drop = match list {
        Some(list) => axes(&list, shape.rank())?,
        None if cx.file_batch() == Some(1) && shape.volume().is_some_and(|(_, batches)| batches > 0) => {
            return Err(NodeProblem::unsupported("without axes it removes the batch of 1"));
        }
        None => (0..shape.rank()).filter(|&i| shape.dims()[i] == Dim::Fixed(1)).collect(),
    };
    if let Some(i) = drop.iter().find(|&&i| shape.dims()[i] != Dim::Fixed(1)) {
        return Err(NodeProblem::input(0, format!("has shape {shape}, whose axis {i} is not of size 1")));
    }
    let dims = shape.dims().iter().enumerate().filter(|(i, _)| !drop.contains(i)).map(|(_, d)| *d);
    let to = Shape::new(dims);
    one(reshaped(cx, &x, to)?)
}

pub(super) fn unsqueeze(cx: &mut NodeContext) -> RuleResult {
    let Some(list) = axes_of(cx)? else {
        return Err(NodeProblem::invalid("has no axes"));
    };
    let x = cx.moved_input(0)?;
    let shape = cx.shape(&x);
    let rank = shape.rank() + list.len();
    let new = axes(&list, rank)?;
    let mut old = shape.dims().iter();
    let dims = (0..rank).filter_map(|i| if new.contains(&i) { Some(Dim::Fixed(1)) } else { old.next().copied() });
    let to = Shape::new(dims);
    one(reshaped(cx, &x, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shape in which a negative size `-k` means `k` times the batch.
    fn shape(dims: &[i64]) -> Shape {
        Shape::new(dims.iter().map(|&d| if d < 0 { Dim::Batch(-d as usize) } else { Dim::Fixed(d as usize) }))
    }

    fn target(shape: &Shape, to: &[i64], file_batch: Option<usize>) -> String {
        let sizes: Vec<Size> = to.iter().map(|&n| Size::Fixed(n)).collect();
        match target_shape(shape, &sizes, false, file_batch) {
            Ok((s, false)) => s.to_string(),
            Ok((s, true)) => format!("{s} from a batch of 1"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn numbers_written_for_a_batch_follow_it() {
        let pooled = shape(&[-1, 512, 1, 1]);
        assert_eq!(target(&pooled, &[1, 512], Some(1)), "[N,512]");
        assert_eq!(target(&pooled, &[1, -1], Some(1)), "[N,512]");
        assert_eq!(target(&pooled, &[-1, 512], Some(1)), "[N,512]");
        assert_eq!(target(&pooled, &[8, 512], Some(8)), "[N,512]");
        assert_eq!(target(&pooled, &[16, 256], Some(8)), "[2N,256]");
        assert_eq!(target(&pooled, &[1, 512], None), "[N,512] from a batch of 1");
        assert_eq!(target(&pooled, &[-1, 512], None), "[N,512]");
        assert_eq!(target(&pooled, &[0, -1], None), "[N,512]");
        assert_eq!(target(&pooled, &[1, -1], None), "[1,512N]");
    }

    #[test]
    fn the_batch_keeps_what_stands_before_it() {
        // In torch's attention, the batch is the second axis, and the heads are merged with it.
        let sequence = shape(&[196, -1, 768]);
        assert_eq!(target(&sequence, &[196, 12, 64], Some(1)), "[196,12N,64]");
        assert_eq!(target(&sequence, &[1, 196, 12, 64], Some(1)), "[1,196,12N,64]");
        assert_eq!(target(&shape(&[-12, 196, 64]), &[1, 12, 196, 64], Some(1)), "[N,12,196,64]");
        assert!(target(&sequence, &[128, 1176], Some(1)).contains("no dimension that the batch of [196,N,768]"));
        assert!(target(&shape(&[-1, 6]), &[4, 3], Some(2)).starts_with("[2N,3]"));
        assert!(target(&shape(&[-1, 6]), &[3, 4], Some(2)).contains("no dimension"));
    }

    #[test]
    fn wrong_targets_are_refused() {
        let x = shape(&[-1, 6]);
        for (to, file_batch) in
            [(&[4, -1][..], None), (&[5, 2], Some(1)), (&[-1, -1], None), (&[-2, 3], None), (&[0, 0, 0], None)]
        {
            assert!(target(&x, to, file_batch).starts_with("input"), "{to:?}");
        }
        assert!(target(&shape(&[-1, -1]), &[1], Some(1)).contains("the batch twice"));
        assert!(target(&shape(&[i32::MAX as i64, i32::MAX as i64, 1 << 40]), &[-1], None).starts_with("input"));
    }
}
