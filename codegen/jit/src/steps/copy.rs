//! Steps that move elements without changing them: transpose, slice, pad, concatenation.

use crate::builder::{Builder, Need, Slots};
use crate::emit::copy::{CopyCode, whole};
use crate::emit::walk::Walk;
use crate::error::JitError;
use crate::storage::Placed;
use catc_program::{Format, Step};

/// The input and output of a copy, both in plain form.
pub(super) fn ends(p: &mut Builder<'_>, step: &Step) -> Result<(Placed, Placed), JitError> {
    let format = &p.program.tensor(step.inputs[0]).format;
    let same = match (format, &p.program.tensor(step.output).format) {
        (Format::Codes { signed: s, bits: b, .. }, Format::Codes { signed: t, bits: c, .. }) => (s, b) == (t, c),
        (a, b) => a == b,
    };
    if !same {
        return Err(JitError::invalid(&step.name, "its input and output have different formats"));
    }
    let input = p.read(step.inputs[0], Need::plain(format))?;
    let output = p.write(step.output)?;
    Ok((input, output))
}

/// A copy through one nest, the input walked with the given strides (half bytes) along the output's dimensions.
fn copy(
    p: &mut Builder<'_>,
    step: &Step,
    input: &Placed,
    output: &Placed,
    origin: i64,
    strides: &[i64],
) -> Result<(), JitError> {
    let mut slots = Slots::default();
    let (out, from) = (slots.add(output.slot), slots.add(input.slot));
    let walk = Walk::of(&output.buffer);
    let nest = walk
        .nest(vec![whole(&walk, out, &output.buffer), walk.cursor(from, input.buffer.format, origin, strides)])
        .simplified();
    let units = nest.outer[0];
    let code = CopyCode { nests: vec![nest], fill: None, halo: output.halo_fill(out), whole: None };
    p.push(&step.name, slots, units, code);
    Ok(())
}

/// Lowers a transpose.
pub(crate) fn transpose(p: &mut Builder<'_>, step: &Step, perm: &[usize]) -> Result<(), JitError> {
    let (input, output) = ends(p, step)?;
    let from = &input.buffer;
    let mut seen = vec![false; from.dims.len()];
    let permutes = perm.len() == from.dims.len()
        && perm.len() == output.buffer.dims.len()
        && perm.iter().enumerate().all(|(i, &d)| {
            d < seen.len() && !std::mem::replace(&mut seen[d], true) && from.dims[d] == output.buffer.dims[i]
        });
    if !permutes {
        return Err(JitError::invalid(&step.name, "the permutation contradicts the dimensions"));
    }
    let strides: Vec<i64> = perm.iter().map(|&d| from.strides[d]).collect();
    copy(p, step, &input, &output, from.origin, &strides)
}

/// Lowers a slice.
pub(crate) fn slice(
    p: &mut Builder<'_>,
    step: &Step,
    axis: usize,
    start: usize,
    distance: usize,
) -> Result<(), JitError> {
    let (input, output) = ends(p, step)?;
    let (from, to) = (&input.buffer, &output.buffer);
    let fits = from.dims.len() == to.dims.len()
        && axis < from.dims.len()
        && from.dims.iter().zip(&to.dims).enumerate().all(|(i, (a, b))| i == axis || a == b)
        && (to.dims[axis] == 0
            || (to.dims[axis] - 1)
                .checked_mul(distance)
                .and_then(|d| d.checked_add(start))
                .is_some_and(|l| l < from.dims[axis]));
    if !fits {
        return Err(JitError::invalid(&step.name, "the slice reaches beyond its input"));
    }
    let mut strides = from.strides.clone();
    let origin = from.origin + strides[axis] / 2 * start as i64;
    strides[axis] *= distance as i64;
    copy(p, step, &input, &output, origin, &strides)
}

/// Lowers constant padding.
pub(crate) fn pad(p: &mut Builder<'_>, step: &Step, before: &[usize], value: f32) -> Result<(), JitError> {
    let (input, output) = ends(p, step)?;
    let (from, to) = (&input.buffer, &output.buffer);
    let fits = before.len() == from.dims.len()
        && before.len() == to.dims.len()
        && before.iter().enumerate().all(|(i, &b)| from.dims[i].checked_add(b).is_some_and(|n| n <= to.dims[i]));
    if !fits {
        return Err(JitError::invalid(&step.name, "the padding contradicts the dimensions"));
    }
    let mut slots = Slots::default();
    let (out, source) = (slots.add(output.slot), slots.add(input.slot));
    let all = Walk::of(to);
    let fill = all.nest(vec![whole(&all, out, to)]).simplified();
    let bits = if from.codes.is_some() { u32::from(to.zero()) } else { value.to_bits() };
    let inside = Walk::of(from);
    let shift: i64 = before.iter().zip(&to.strides).map(|(&b, &s)| b as i64 * s / 2).sum();
    let target = inside.cursor(out, to.format, to.origin + shift, &to.strides);
    let nest = inside.nest(vec![target, whole(&inside, source, from)]).simplified();
    let rows = to.dims.get(1).copied().unwrap_or(1);
    let code = CopyCode { nests: vec![nest], fill: Some((fill, bits)), halo: output.halo_fill(out), whole: Some(rows) };
    p.push(&step.name, slots, 1, code);
    Ok(())
}

/// Lowers a concatenation.
pub(crate) fn concat(p: &mut Builder<'_>, step: &Step, axis: usize) -> Result<(), JitError> {
    let format = p.program.tensor(step.output).format;
    let mut parts = Vec::new();
    for &input in &step.inputs {
        parts.push(p.read(input, Need::plain(&format))?);
    }
    let output = p.write(step.output)?;
    let to = &output.buffer;
    let mut at = 0;
    // Several functions copy many inputs, so that the size of a function is bounded. The first one fills the padding.
    let mut halo = true;
    for parts in parts.chunks(MAX_PARTS) {
        at = concat_parts(p, step, axis, &output, parts, (at, std::mem::take(&mut halo)))?;
    }
    if to.dims.get(axis) != Some(&at) {
        return Err(JitError::invalid(&step.name, "the inputs do not fill the output"));
    }
    Ok(())
}

/// The most inputs of a concatenation that one function copies.
const MAX_PARTS: usize = 64;

/// Appends the function that copies some inputs of a concatenation from slice `at` of the output on, and fills the padding if `halo` says so.
/// Gives the number of the first slice behind them.
fn concat_parts(
    p: &mut Builder<'_>,
    step: &Step,
    axis: usize,
    output: &Placed,
    parts: &[Placed],
    (mut at, halo): (usize, bool),
) -> Result<usize, JitError> {
    let to = &output.buffer;
    let mut slots = Slots::default();
    let out = slots.add(output.slot);
    let mut nests = Vec::new();
    for part in parts {
        let from = &part.buffer;
        let fits = axis < to.dims.len()
            && from.dims.len() == to.dims.len()
            && from.format == to.format
            && from.dims.iter().zip(&to.dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !fits {
            return Err(JitError::invalid(&step.name, "the inputs contradict one another"));
        }
        let source = slots.add(part.slot);
        let walk = Walk::of(from);
        let origin = to.origin + at as i64 * to.strides[axis] / 2;
        let target = walk.cursor(out, to.format, origin, &to.strides);
        nests.push(walk.nest(vec![target, whole(&walk, source, from)]).simplified());
        at += from.dims[axis];
    }
    let rows = to.dims.get(1).copied().unwrap_or(1);
    let halo = if halo { output.halo_fill(out) } else { None };
    let code = CopyCode { nests, fill: None, halo, whole: Some(rows) };
    p.push(&step.name, slots, 1, code);
    Ok(at)
}
