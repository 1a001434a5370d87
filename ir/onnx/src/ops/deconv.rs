//! ConvTranspose (1, 11, 22) in one and two dimensions. With a stride `s`, the outputs at positions `r`, `r + s`, `r + 2 s`, ..
//! form phase `r`, and each phase is a convolution of the input with some of the taps ([`super::phases`]).

use super::phases::{Axis, Transposed};
use super::window::{lift, lower, spatial_rank};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, one};
use crate::tensor::MAX_ELEMENTS;
use catc_ir::Dim;

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
    let mut axes = vec![];
    for i in 0..2 {
        let outputs = full(i) - crop[i][0] - crop[i][1];
        if outputs < 1 {
            return Err(NodeProblem::invalid("its padding leaves nothing"));
        }
        axes.push(Axis::new(input[i], kernel[i], (strides[i], dilations[i]), crop[i][0], outputs as usize)?);
    }
    let Ok(axes) = <[Axis; 2]>::try_from(axes) else { return Err(NodeProblem::invalid("it has no two axes")) };
    let bias = if cx.has_input(2) { Some(cx.input(2)?) } else { None };
    let layer = Transposed { groups, depth: c / groups, outputs: og, axes, bias };
    let y = layer.build(cx, &x, &w)?;
    one(lower(cx, y, spatial)?)
}
