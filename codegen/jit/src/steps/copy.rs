//! Steps that move elements without changing them: conversion between forms, transpose, slice, pad, concatenation.

use super::walk::Walk;
use crate::buffer::{Buffer, Form};
use crate::emit::emitter::Emitter;
use crate::emit::halo::HaloFill;
use crate::emit::lanes::word_type;
use crate::emit::nest::{Cursor, Nest};
use crate::error::JitError;
use crate::plan::planner::{Need, Planner, Slots};
use crate::plan::{Placed, StepCode};
use catc_program::{Format, Step};
use cranelift_codegen::ir::Value;

/// Copies through one or more nests, each with cursor 0 writing and cursor 1 reading.
#[derive(Debug)]
struct CopyCode {
    nests: Vec<Nest>,
    /// What fills the output beforehand: the nest over all of it, and the element's bits.
    fill: Option<(Nest, u32)>,
    halo: Option<HaloFill>,
    /// Rows of an image output, all written by one call; `None` if the units are those of the only nest.
    whole: Option<usize>,
}

impl StepCode for CopyCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        if let Some(halo) = &self.halo {
            let rows = match self.whole {
                Some(rows) => (e.int(0), e.int(rows as i64)),
                None => (e.first, e.last),
            };
            halo.emit(e, rows.0, rows.1);
        }
        if let Some((nest, bits)) = &self.fill {
            let units = (e.int(0), e.int(nest.outer[0] as i64));
            e.nest(nest, units, &mut |e, pointers, count| {
                let access = nest.cursors[0].lanes;
                match access.form {
                    Form::Float | Form::Index => {
                        let value = e.ints(*bits as i32);
                        let value = e.cast(word_type(access.form), value);
                        e.store_words(access.step, pointers[0], 0, count, &vec![value; count.div_ceil(4)]);
                    }
                    _ => {
                        let value = e.bytes(*bits as u8);
                        e.store_bytes(access, pointers[0], 0, count, value);
                    }
                }
            });
        }
        for nest in &self.nests {
            let units = match self.whole {
                Some(_) => (e.int(0), e.int(nest.outer[0] as i64)),
                None => (e.first, e.last),
            };
            e.nest(nest, units, &mut |e, pointers, count| {
                move_elements(e, nest, pointers, count);
            });
        }
    }
}

/// Copies elements from cursor 1 of a nest to cursor 0.
pub(super) fn move_elements(e: &mut Emitter<'_>, nest: &Nest, pointers: &[Value], count: usize) {
    let (to, from) = (nest.cursors[0].lanes, nest.cursors[1].lanes);
    match from.form {
        Form::Float | Form::Index => {
            let ty = word_type(from.form);
            let values = e.load_words(ty, from.step, pointers[1], 0, count);
            e.store_words(to.step, pointers[0], 0, count, &values);
        }
        _ => {
            let bytes = e.load_bytes(from, pointers[1], 0, count);
            e.store_bytes(to, pointers[0], 0, count, bytes);
        }
    }
}

/// Appends the conversion of a tensor from one placement to another.
pub(crate) fn convert(p: &mut Planner<'_>, name: &str, from: &Placed, to: &Placed) -> Result<(), JitError> {
    let mut slots = Slots::default();
    let (out, input) = (slots.add(to.slot), slots.add(from.slot));
    let walk = Walk::of(&to.buffer);
    let nest = walk.nest(vec![whole(&walk, out, &to.buffer), whole(&walk, input, &from.buffer)]).simplified();
    let units = nest.outer[0];
    let code = CopyCode { nests: vec![nest], fill: None, halo: to.halo_fill(out), whole: None };
    p.push(&format!("{name} (copy)"), slots, units, code).op = "convert";
    Ok(())
}

fn whole(walk: &Walk, slot: usize, buffer: &Buffer) -> Cursor {
    walk.cursor(slot, buffer.form, buffer.origin, &buffer.strides)
}

/// The input and output of a copy, both in plain form.
pub(super) fn ends(p: &mut Planner<'_>, step: &Step) -> Result<(Placed, Placed), JitError> {
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
    p: &mut Planner<'_>,
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
        .nest(vec![whole(&walk, out, &output.buffer), walk.cursor(from, input.buffer.form, origin, strides)])
        .simplified();
    let units = nest.outer[0];
    let code = CopyCode { nests: vec![nest], fill: None, halo: output.halo_fill(out), whole: None };
    p.push(&step.name, slots, units, code);
    Ok(())
}

/// Lowers a transpose.
pub(crate) fn transpose(p: &mut Planner<'_>, step: &Step, perm: &[usize]) -> Result<(), JitError> {
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
    p: &mut Planner<'_>,
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
pub(crate) fn pad(p: &mut Planner<'_>, step: &Step, before: &[usize], value: f32) -> Result<(), JitError> {
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
    let target = inside.cursor(out, to.form, to.origin + shift, &to.strides);
    let nest = inside.nest(vec![target, whole(&inside, source, from)]).simplified();
    let rows = to.dims.get(1).copied().unwrap_or(1);
    let code = CopyCode { nests: vec![nest], fill: Some((fill, bits)), halo: output.halo_fill(out), whole: Some(rows) };
    p.push(&step.name, slots, 1, code);
    Ok(())
}

/// Lowers a concatenation.
pub(crate) fn concat(p: &mut Planner<'_>, step: &Step, axis: usize) -> Result<(), JitError> {
    let format = p.program.tensor(step.output).format;
    let mut parts = Vec::new();
    for &input in &step.inputs {
        parts.push(p.read(input, Need::plain(&format))?);
    }
    let output = p.write(step.output)?;
    let to = &output.buffer;
    let mut at = 0;
    // In functions of a bounded size, the first of which fills the padding.
    let mut halo = true;
    for parts in parts.chunks(MOST_PARTS) {
        at = concat_parts(p, step, axis, &output, parts, (at, std::mem::take(&mut halo)))?;
    }
    if to.dims.get(axis) != Some(&at) {
        return Err(JitError::invalid(&step.name, "the inputs do not fill the output"));
    }
    Ok(())
}

/// Inputs of a concatenation that one function copies.
const MOST_PARTS: usize = 64;

/// Appends the function that copies some inputs of a concatenation from slice `at` of the output on, and fills the padding if `halo` says so.
/// Gives the slice behind them.
fn concat_parts(
    p: &mut Planner<'_>,
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
            && from.form == to.form
            && from.dims.iter().zip(&to.dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !fits {
            return Err(JitError::invalid(&step.name, "the inputs contradict one another"));
        }
        let source = slots.add(part.slot);
        let walk = Walk::of(from);
        let origin = to.origin + at as i64 * to.strides[axis] / 2;
        let target = walk.cursor(out, to.form, origin, &to.strides);
        nests.push(walk.nest(vec![target, whole(&walk, source, from)]).simplified());
        at += from.dims[axis];
    }
    let rows = to.dims.get(1).copied().unwrap_or(1);
    let halo = if halo { output.halo_fill(out) } else { None };
    let code = CopyCode { nests, fill: None, halo, whole: Some(rows) };
    p.push(&step.name, slots, 1, code);
    Ok(at)
}
