//! ConvTranspose (1, 11, 22) in one and two dimensions. Zeros are inserted between the elements, and a convolution with the
//! flipped kernels follows.

use super::build::{permute, pick, reshape, slice};
use super::window::{lift, lower, spatial_rank};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::tensor::MAX_ELEMENTS;
use crate::value::Value;
use catc_ir::ops::{Conv2d, Pad};
use catc_ir::{Dim, Op, Shape};

/// Values for height and width from a list of one or two numbers.
fn pair(name: &str, list: Option<&[i64]>, spatial: usize, default: usize) -> Result<[usize; 2], NodeProblem> {
    let size = |n: i64| usize::try_from(n).ok().filter(|&n| n <= i32::MAX as usize);
    let found = match (list, spatial) {
        (None, _) => {
            return Ok(if spatial == 1 {
                [if name == "output_padding" { 0 } else { 1 }, default]
            } else {
                [default; 2]
            });
        }
        (Some(&[x]), 1) => size(x).map(|x| [if name == "output_padding" { 0 } else { 1 }, x]),
        (Some(&[y, x]), 2) => size(y).zip(size(x)).map(|(y, x)| [y, x]),
        _ => None,
    };
    found.ok_or_else(|| NodeProblem::attribute(name, format!("does not fit {spatial} dimensions")))
}

pub(super) fn conv_transpose(cx: &mut NodeContext) -> RuleResult {
    cx.arity(2, 3)?;
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let spatial = spatial_rank(&cx.shape(&x), "a transposed convolution")?;
    let strides = pair("strides", cx.ints("strides")?, spatial, 1)?;
    let dilations = pair("dilations", cx.ints("dilations")?, spatial, 1)?;
    let extra = pair("output_padding", cx.ints("output_padding")?, spatial, 0)?;
    let wanted = cx.ints("output_shape")?;
    let auto = cx.word("auto_pad")?.unwrap_or("NOTSET");
    let groups = cx.int("group")?.map_or(Some(1), |g| usize::try_from(g).ok()).filter(|&g| g > 0);
    let Some(groups) = groups else { return Err(NodeProblem::attribute("group", "must be at least 1")) };
    let written = cx.ints("pads")?;
    cx.ints("kernel_shape")?;
    let (x, w) = (lift(cx, x)?, lift(cx, w)?);
    let shape = cx.shape(&x);
    let &[_, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(width)] = shape.dims() else {
        return Err(NodeProblem::input(0, format!("has shape {shape}, [N,C,..] is needed")));
    };
    let Some(&[ci, og, kh, kw]) = cx.shape(&w).as_fixed().as_deref() else {
        return Err(NodeProblem::input(1, format!("has shape {}, [C,O/groups,..] is needed", cx.shape(&w))));
    };
    if ci != c || c % groups != 0 || [kh, kw, h, width].contains(&0) || strides.contains(&0) || dilations.contains(&0) {
        return Err(NodeProblem::invalid(format!("its weights of {ci} channels do not fit {c} in {groups} groups")));
    }
    let (input, kernel) = ([h, width], [kh, kw]);
    let spread = |n: usize, by: usize| (n - 1).checked_mul(by).filter(|&n| n <= MAX_ELEMENTS);
    if (0..2).any(|i| spread(kernel[i], dilations[i]).is_none() || spread(input[i], strides[i]).is_none()) {
        return Err(NodeProblem::invalid("its output is too large"));
    }
    let span = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
    // The amounts to crop before and after. Negative amounts pad.
    let mut crop = [[0i64; 2]; 2];
    let full = |i: usize| ((input[i] - 1) * strides[i] + span(i) + extra[i]) as i64;
    let total: Option<[i64; 2]> = match (wanted, auto) {
        (Some(list), _) => {
            let list = &list[list.len().saturating_sub(spatial)..];
            match (list, spatial) {
                (&[x], 1) => Some([full(0) - 1, full(1) - x]),
                (&[y, x], 2) => Some([full(0) - y, full(1) - x]),
                _ => return Err(NodeProblem::attribute("output_shape", "does not fit the dimensions")),
            }
        }
        (None, "SAME_UPPER" | "SAME_LOWER") => {
            Some([0, 1].map(|i| full(i) - if spatial == 1 && i == 0 { 1 } else { (input[i] * strides[i]) as i64 }))
        }
        _ => None,
    };
    match (total, written) {
        (Some(total), _) => {
            for (crop, total) in crop.iter_mut().zip(total) {
                let (less, more) = (total / 2, total - total / 2);
                *crop = match total < 0 {
                    // Missing elements are padded at the end.
                    true => [0, total],
                    false if auto == "SAME_UPPER" => [less, more],
                    false => [more, less],
                };
            }
        }
        (None, Some(list)) => match (list, spatial) {
            (&[a, b], 1) => crop[1] = [a, b],
            (&[t, l, b, r], 2) => crop = [[t, b], [l, r]],
            _ => return Err(NodeProblem::attribute("pads", "does not fit the dimensions")),
        },
        (None, None) => {}
    }
    let mut y = x;
    for (i, (&stride, &size)) in strides.iter().zip(&input).enumerate().filter(|(_, (s, _))| **s > 1) {
        y = spaced(cx, &y, 2 + i, stride, size)?;
    }
    // The padding that the window needs around the input, minus the amounts to crop.
    let mut pads = [0usize; 4];
    let mut cuts = [[0usize; 2]; 2];
    for i in 0..2 {
        for (side, more) in [(0, 0), (1, extra[i] as i64)] {
            let need = span(i) as i64 - 1 + more - crop[i][side];
            if need >= 0 {
                pads[i + 2 * side] = need as usize;
            } else {
                cuts[i][side] = need.unsigned_abs() as usize;
            }
        }
    }
    for (i, cut) in cuts.iter().enumerate().filter(|(_, c)| **c != [0, 0]) {
        let size = (input[i] - 1) * strides[i] + 1;
        if cut[0] + cut[1] >= size {
            return Err(NodeProblem::invalid("its padding leaves nothing"));
        }
        y = slice(cx, &y, 2 + i, cut[0], size - cut[1], 1)?;
    }
    let weights = turned(cx, &w, groups, [c / groups, og, kh, kw])?;
    let mut operands = vec![cx.operand(0, &y)?, cx.operand(1, &weights)?];
    if cx.has_input(2) {
        operands.push(cx.input_operand(2)?);
    }
    let y = cx.emit(Op::Conv2d(Conv2d { strides: [1, 1], pads, dilations, groups }), &operands)?;
    one(lower(cx, y, spatial)?)
}

/// Inserts zeros between the elements of an axis.
fn spaced(cx: &mut NodeContext, x: &Value, axis: usize, stride: usize, size: usize) -> Result<Value, NodeProblem> {
    let dims = cx.shape(x).dims().to_vec();
    let with = |d: usize, more: Option<usize>| {
        let mut now = dims.clone();
        now[axis] = Dim::Fixed(d);
        if let Some(m) = more {
            now.insert(axis + 1, Dim::Fixed(m));
        }
        Shape::new(now)
    };
    let y = reshape(cx, x, with(size, Some(1)))?;
    let mut after = vec![0; dims.len() + 1];
    after[axis + 1] = stride - 1;
    let y = cx.emit_on(Op::Pad(Pad { before: vec![0; after.len()], after, value: 0.0 }), &y)?;
    let y = reshape(cx, &y, with(size.saturating_mul(stride), None))?;
    slice(cx, &y, axis, 0, (size - 1) * stride + 1, 1)
}

/// Rearranges weights `[C,O/g,KH,KW]` to `[O,C/g,KH,KW]` and flips the kernels.
fn turned(cx: &mut NodeContext, w: &Value, groups: usize, sizes: [usize; 4]) -> Result<Value, NodeProblem> {
    let [cg, og, kh, kw] = sizes;
    let w = pick(cx, w, 2, &(0..kh).rev().collect::<Vec<_>>())?;
    let w = pick(cx, &w, 3, &(0..kw).rev().collect::<Vec<_>>())?;
    let w = reshape(cx, &w, Shape::fixed(&[groups, cg, og, kh * kw]))?;
    let w = permute(cx, &w, vec![0, 2, 1, 3])?;
    reshape(cx, &w, Shape::fixed(&[groups * og, cg, kh, kw]))
}
