//! Operators that repeat or rearrange elements: Expand, Tile, DepthToSpace, SpaceToDepth, Trilu, the padding modes that copy
//! elements, CenterCropPad.

use super::build::{Built, cast, choose, concat, expand, indices, permute, pick, real, reshape, slice, whole};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, axes, one};
use crate::size::Size;
use crate::tensor::MAX_ELEMENTS;
use crate::value::{Known, Value};
use catc_ir::ops::{CastTo, Compare};
use catc_ir::{Dim, Element, Op, Shape, Tensor, TensorData, ops};

/// Converts sizes to dimensions. Negative or too large sizes are errors.
pub(super) fn dims(sizes: &[Size]) -> Result<Shape, NodeProblem> {
    let dim = |s: &Size| match *s {
        Size::Fixed(n) => usize::try_from(n).ok().filter(|&n| n <= MAX_ELEMENTS).map(Dim::Fixed),
        Size::Batch(k) => usize::try_from(k).ok().map(Dim::Batch),
    };
    let shape = sizes.iter().map(dim).collect::<Option<Vec<_>>>().map(Shape::new);
    shape.ok_or_else(|| NodeProblem::input(1, "holds sizes that no tensor has"))
}

/// The output has the shape to which the input and the target shape broadcast.
pub(super) fn expand_rule(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let target = cx.sizes(1, "the shape")?;
    let x = cx.input(0)?;
    let (shape, target) = (cx.shape(&x), dims(&target)?);
    let target = follow_batch(cx, &shape, target);
    let Some(both) = shape.broadcast(&target) else {
        return Err(NodeProblem::input(0, format!("has shape {shape}, which does not broadcast with {target}")));
    };
    let y = expand(cx, &x, both)?;
    super::layout::same(cx, y)
}

/// Replaces the batch size of the file in a target shape by the symbolic batch.
fn follow_batch(cx: &NodeContext, shape: &Shape, target: Shape) -> Shape {
    let Some(batch) = cx.file_batch() else { return target };
    let lead = target.rank().checked_sub(shape.rank());
    let follow = |(i, d): (usize, &Dim)| match lead.and_then(|l| shape.dims().get(i.checked_sub(l)?)) {
        Some(Dim::Batch(1)) if *d == Dim::Fixed(batch) || *d == Dim::Fixed(1) => Dim::N,
        _ => *d,
    };
    Shape::new(target.dims().iter().enumerate().map(follow))
}

pub(super) fn tile(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let repeats = cx.fixed_sizes(1, "the repeats")?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let counts = repeats.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n > 0 && n <= MAX_ELEMENTS));
    let Some(counts) = counts.collect::<Option<Vec<_>>>().filter(|c| c.len() == shape.rank()) else {
        return Err(NodeProblem::input(1, format!("must hold a positive number for each axis of {shape}")));
    };
    // Each repeated axis gets a new axis of size 1 before it. The new axis is broadcast, and the two axes are merged again.
    let mut y = x;
    for (i, &count) in counts.iter().enumerate().filter(|(_, c)| **c > 1) {
        let now = cx.shape(&y).dims().to_vec();
        let Dim::Fixed(size) = now[i] else { return Err(NodeProblem::unsupported("it repeats the batch")) };
        let with =
            |d: usize| Shape::new(now[..i].iter().copied().chain([Dim::Fixed(d)]).chain(now[i..].iter().copied()));
        y = reshape(cx, &y, with(1))?;
        y = expand(cx, &y, with(count))?;
        let mut joined = now.clone();
        joined[i] = Dim::Fixed(size.saturating_mul(count));
        y = reshape(cx, &y, Shape::new(joined))?;
    }
    super::layout::same(cx, y)
}

/// The input of a block rearrangement: its leading dimensions, its channels, rows and columns, and the block size.
///
/// Exporters write dilated convolutions with the batch in the place of the channels, so that blocks become separate images. The
/// file orders these images by block and then by image. Here they are ordered by image first, as a batch of `kN` requires. The
/// result for each image is the same.
struct Blocks {
    x: Value,
    lead: Vec<Dim>,
    sizes: [usize; 3],
    block: usize,
}

impl Blocks {
    /// The leading dimensions, followed by these sizes.
    fn shape(&self, sizes: &[usize]) -> Shape {
        Shape::new(self.lead.iter().copied().chain(sizes.iter().map(|&d| Dim::Fixed(d))))
    }

    /// A permutation that keeps the leading dimensions and permutes the others.
    fn perm(&self, perm: &[usize]) -> Vec<usize> {
        let lead = self.lead.len();
        (0..lead).chain(perm.iter().map(|p| p + lead)).collect()
    }

    /// The shape of the result. If the batch is in the place of the channels, `channels` counts the channels of each image.
    fn result(&self, [channels, height, width]: [usize; 3]) -> Shape {
        match self.lead[..] {
            [n, Dim::Batch(_)] => Shape::new([n, Dim::Batch(channels), Dim::Fixed(height), Dim::Fixed(width)]),
            _ => self.shape(&[channels, height, width]),
        }
    }
}

/// Reads the input and the block size.
fn blocks(cx: &mut NodeContext) -> Result<Blocks, NodeProblem> {
    cx.arity(1, 1)?;
    let size = cx.int("blocksize")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0 && n < 1 << 16);
    let Some(size) = size else { return Err(NodeProblem::attribute("blocksize", "is missing or not positive")) };
    let x = cx.moved_input(0)?;
    let shape = cx.shape(&x);
    match *shape.dims() {
        [n, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)] => {
            Ok(Blocks { x, lead: vec![n], sizes: [c, h, w], block: size })
        }
        [n @ Dim::Fixed(_), Dim::Batch(k), Dim::Fixed(h), Dim::Fixed(w)] => {
            Ok(Blocks { x, lead: vec![n, Dim::N], sizes: [k, h, w], block: size })
        }
        _ => Err(NodeProblem::input(0, format!("has shape {shape}, [N,C,H,W] is needed"))),
    }
}

pub(super) fn depth_to_space(cx: &mut NodeContext) -> RuleResult {
    let columns_first = match cx.word("mode")?.unwrap_or("DCR") {
        "DCR" => false,
        "CRD" => true,
        other => return Err(NodeProblem::attribute("mode", format!("is {other:?}, which is not defined"))),
    };
    let blocks = blocks(cx)?;
    let ([c, h, w], b) = (blocks.sizes, blocks.block);
    if c % (b * b) != 0 {
        return Err(NodeProblem::input(0, format!("has {c} channels, which blocks of {b} do not divide")));
    }
    let d = c / (b * b);
    if let [n] = blocks.lead[..] {
        return one(pixels_of_depth(cx, &blocks, n, (d, columns_first))?);
    }
    let (split, perm) = match columns_first {
        false => ([b, b, d, h, w], [2, 3, 0, 4, 1]),
        true => ([d, b, b, h, w], [0, 3, 1, 4, 2]),
    };
    let y = reshape(cx, &blocks.x, blocks.shape(&split))?;
    let y = permute(cx, &y, blocks.perm(&perm))?;
    one(reshape(cx, &y, blocks.result([d, h * b, w * b]))?)
}

/// Builds the rearrangement of `[N,C,H,W]` to `d` channels with the channels last, because images are stored so between layers. Without
/// `columns_first` the channels of each pixel then move as a whole.
fn pixels_of_depth(cx: &mut NodeContext, blocks: &Blocks, n: Dim, (d, columns_first): (usize, bool)) -> Built {
    let ([_, h, w], b) = (blocks.sizes, blocks.block);
    let (split, perm): (&[usize], &[usize]) = match columns_first {
        false => (&[h, w, b, b * d], &[0, 1, 3, 2, 4]),
        true => (&[h, w, d, b, b], &[0, 1, 4, 2, 5, 3]),
    };
    let with = |sizes: &[usize]| Shape::new([n].into_iter().chain(sizes.iter().map(|&s| Dim::Fixed(s))));
    let y = permute(cx, &blocks.x, vec![0, 2, 3, 1])?;
    let y = reshape(cx, &y, with(split))?;
    let y = permute(cx, &y, perm.to_vec())?;
    let y = reshape(cx, &y, with(&[h * b, w * b, d]))?;
    permute(cx, &y, vec![0, 3, 1, 2])
}

pub(super) fn space_to_depth(cx: &mut NodeContext) -> RuleResult {
    // Older files contain the mode, which has only one value.
    cx.ignore("mode");
    let blocks = blocks(cx)?;
    let ([c, h, w], b) = (blocks.sizes, blocks.block);
    if h % b != 0 || w % b != 0 {
        return Err(NodeProblem::input(0, format!("is {h} by {w}, which blocks of {b} do not divide")));
    }
    let y = reshape(cx, &blocks.x, blocks.shape(&[c, h / b, b, w / b, b]))?;
    let y = permute(cx, &y, blocks.perm(&[2, 4, 0, 1, 3]))?;
    one(reshape(cx, &y, blocks.result([c * b * b, h / b, w / b]))?)
}

/// The input positions of an axis after padding with a mode that copies elements.
fn copied(mode: &str, size: usize, before: usize, after: usize) -> Option<Vec<usize>> {
    let n = size as i64;
    let place = |i: i64| -> Option<usize> {
        let at = match mode {
            "edge" => i.clamp(0, n - 1),
            "wrap" => i.rem_euclid(n),
            // `reflect` goes back and forth between the ends without repeating them.
            _ if n == 1 => 0,
            _ => {
                let period = 2 * (n - 1);
                let at = i.rem_euclid(period);
                if at < n { at } else { period - at }
            }
        };
        usize::try_from(at).ok()
    };
    (-(before as i64)..n + after as i64).map(place).collect()
}

/// Builds padding that copies elements: `reflect`, `edge` or `wrap`.
pub(super) fn pad_by_copies(cx: &mut NodeContext, x: Value, mode: &str, before: &[usize], after: &[usize]) -> Built {
    let mut y = x;
    for i in (0..before.len()).filter(|&i| before[i] + after[i] > 0) {
        let shape = cx.shape(&y);
        let Dim::Fixed(size) = shape.dims()[i] else {
            return Err(NodeProblem::unsupported("it pads the batch"));
        };
        if size == 0 || before[i] + after[i] > 1 << 24 {
            return Err(NodeProblem::invalid(format!("pads axis {i} of {shape} too much")));
        }
        let places = copied(mode, size, before[i], after[i]).unwrap_or_default();
        y = pick(cx, &y, i, &places)?;
    }
    Ok(y)
}

/// Keeps a triangle of the last two axes. All other elements become 0.
pub(super) fn trilu(cx: &mut NodeContext) -> RuleResult {
    cx.arity(1, 2)?;
    let upper = cx.flag("upper", true)?;
    let k = if cx.has_input(1) { cx.fixed_sizes(1, "k")?.first().copied().unwrap_or(0) } else { 0 };
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let [.., Dim::Fixed(rows), Dim::Fixed(columns)] = *shape.dims() else {
        return Err(NodeProblem::input(0, format!("has shape {shape}, two fixed dimensions at the end are needed")));
    };
    let (rows, columns) = (rows as i64, columns as i64);
    let keeps = |i: i64| {
        let distance = (i % columns.max(1)) - (i / columns.max(1));
        if upper { distance >= k } else { distance <= k }
    };
    let mask: Vec<bool> = (0..rows.saturating_mul(columns)).map(keeps).collect();
    let mask: Value = Known::from(Tensor::new(vec![rows as usize, columns as usize], TensorData::Bool(mask))).into();
    match cx.element(&x) {
        Element::F32 => one(choose(cx, &mask, &x, &real(0.0))?),
        Element::I64 => one(choose(cx, &mask, &x, &whole(0))?),
        _ => {
            let operands = [cx.operand(0, &x)?, cx.operand(1, &mask)?];
            one(cx.emit(Op::Compare(Compare::And), &operands)?)
        }
    }
}

/// Crops or pads axes with zeros to the given sizes, equally on both sides.
pub(super) fn center_crop_pad(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let target = cx.fixed_sizes(1, "the shape")?;
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let list = cx.ints("axes")?.map_or_else(|| (0..shape.rank() as i64).collect(), |v| v.to_vec());
    axes(&list, shape.rank())?;
    if list.len() != target.len() {
        return Err(NodeProblem::input(1, "must hold a size for each axis"));
    }
    let mut y = x;
    for (&a, &to) in list.iter().zip(&target) {
        let a = crate::node::axis(a, shape.rank())?;
        let (Dim::Fixed(from), Ok(to)) = (shape.dims()[a], usize::try_from(to)) else {
            return Err(NodeProblem::unsupported("it crops or pads the batch"));
        };
        if to > MAX_ELEMENTS {
            return Err(NodeProblem::input(1, "holds a size that no tensor has"));
        }
        if to < from {
            let start = (from - to) / 2;
            y = slice(cx, &y, a, start, start + to, 1)?;
        } else if to > from {
            let (mut before, mut after) = (vec![0; shape.rank()], vec![0; shape.rank()]);
            before[a] = (to - from) / 2;
            after[a] = to - from - before[a];
            let real = cast(cx, &y, CastTo::F32)?;
            let padded = cx.emit_on(Op::Pad(ops::Pad { before, after, value: 0.0 }), &real)?;
            y = super::build::cast_like(cx, &padded, &y)?;
        }
    }
    super::layout::same(cx, y)
}

/// Reverses the first `length` positions of an axis for each image. The lengths must be known.
pub(super) fn reverse_sequence(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 2)?;
    let lengths = cx.fixed_sizes(1, "the lengths")?;
    let (batch, time) = (cx.int("batch_axis")?.unwrap_or(1), cx.int("time_axis")?.unwrap_or(0));
    let x = cx.input(0)?;
    let shape = cx.shape(&x);
    let (batch, time) = (crate::node::axis(batch, shape.rank())?, crate::node::axis(time, shape.rank())?);
    let (Dim::Fixed(n), Dim::Fixed(size)) = (shape.dims()[batch], shape.dims()[time]) else {
        return Err(NodeProblem::unsupported("it runs over the batch"));
    };
    if lengths.len() != n || lengths.iter().any(|&l| l < 0 || l > size as i64) {
        return Err(NodeProblem::input(1, "must hold a length for each sequence"));
    }
    let mut parts = vec![];
    for (i, &length) in lengths.iter().enumerate() {
        let length = length as usize;
        let part = slice(cx, &x, batch, i, i + 1, 1)?;
        let places: Vec<usize> = (0..length).rev().chain(length..size).collect();
        parts.push(pick(cx, &part, time, &places)?);
    }
    one(concat(cx, &parts, batch)?)
}

/// The numbers from a start up to a limit, which is excluded, with a step. All three must be known.
pub(super) fn range(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 3)?;
    let known = [cx.known(0, "the start")?, cx.known(1, "the limit")?, cx.known(2, "the step")?];
    const MOST: f64 = (1u32 << 24) as f64;
    if let [Some(&[start]), Some(&[limit]), Some(&[step])] = [known[0].as_f32(), known[1].as_f32(), known[2].as_f32()] {
        let count = ((f64::from(limit) - f64::from(start)) / f64::from(step)).ceil().max(0.0);
        if step == 0.0 || count.is_nan() || count > MOST {
            return Err(NodeProblem::invalid(format!("counts from {start} to {limit} by {step}")));
        }
        let items: Vec<f32> = (0..count as usize).map(|i| start + i as f32 * step).collect();
        return one(super::build::reals(&[items.len()], items));
    }
    let fixed = |i: usize| match known[i].as_sizes().as_deref() {
        Some(&[Size::Fixed(n)]) => Some(n),
        _ => None,
    };
    let (Some(start), Some(limit), Some(step)) = (fixed(0), fixed(1), fixed(2)) else {
        return Err(NodeProblem::unsupported("its bounds depend on the batch size or are not one number each"));
    };
    let count = ((limit as f64 - start as f64) / step as f64).ceil().max(0.0);
    if step == 0 || count > MOST {
        return Err(NodeProblem::invalid(format!("counts from {start} to {limit} by {step}")));
    }
    let items: Vec<i64> = (0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(step))).collect();
    one(indices(&[items.len()], items))
}
