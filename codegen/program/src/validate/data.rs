//! Rules for individual tensors and constants.

use super::{MAX_ELEMENTS, MAX_RANK, MAX_TOTAL_ELEMENTS, Validator, tensor_place};
use crate::tensor::{Constant, ConstantData, Format, Layout, TensorDecl};

impl Validator<'_> {
    pub(super) fn data(&mut self) {
        let p = self.program;
        let mut total = 0u64;
        for (i, t) in p.tensors.iter().enumerate() {
            self.check(|| tensor_place(p, i), tensor_rules(t, &mut total));
        }
        for (i, c) in p.constants.iter().enumerate() {
            self.check(|| format!("constant {i}"), constant_rules(c));
        }
    }
}

/// The number of elements of a tensor with these dimensions, or why the dimensions are not valid.
pub(crate) fn volume(dims: &[usize]) -> Result<usize, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("{} dimensions, at most {MAX_RANK} are allowed", dims.len()));
    }
    if dims.contains(&0) {
        return Err(format!("a dimension of {dims:?} is 0"));
    }
    let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d).filter(|n| *n < MAX_ELEMENTS));
    n.ok_or_else(|| format!("{dims:?} is too large: fewer than {MAX_ELEMENTS} elements are allowed"))
}

fn tensor_rules(t: &TensorDecl, total: &mut u64) -> Result<(), String> {
    *total += volume(&t.dims)? as u64;
    if *total > MAX_TOTAL_ELEMENTS {
        return Err(format!("the tensors up to this one have more than {MAX_TOTAL_ELEMENTS} elements"));
    }
    if t.layout == Layout::ChannelsLast && t.dims.len() != 3 {
        return Err(format!("channels-last needs [C,H,W], not {:?}", t.dims));
    }
    match t.format {
        Format::F32 | Format::Index => Ok(()),
        Format::Codes { signed, bits, scale, zero_point } => affine_rules(signed, bits, &[scale], &[zero_point]),
    }
}

fn affine_rules(signed: bool, bits: u8, scale: &[f32], zero_point: &[i32]) -> Result<(), String> {
    if !(2..=8).contains(&bits) {
        return Err(format!("codes of {bits} bits: 2 to 8 are allowed"));
    }
    if let Some(s) = scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
        return Err(format!("scale {s:?} is not a positive number"));
    }
    let (min, max) = (Format::min_code(signed, bits), Format::max_code(signed, bits));
    match zero_point.iter().find(|z| !(min..=max).contains(*z)) {
        Some(z) => Err(format!("zero-point {z} is outside {min}..={max}")),
        None => Ok(()),
    }
}

fn constant_rules(c: &Constant) -> Result<(), String> {
    let n = volume(&c.dims)?;
    if n != c.data.len() {
        return Err(format!("{} elements for {:?}", c.data.len(), c.dims));
    }
    let ConstantData::Codes { codes, scale, zero_point } = &c.data else {
        return Ok(());
    };
    affine_rules(codes.signed(), codes.bits(), scale, zero_point)?;
    let slices = c.dims.first().copied().unwrap_or(1);
    if scale.len() != zero_point.len() || (scale.len() != 1 && scale.len() != slices) {
        return Err(format!(
            "{} scales and {} zero-points for {:?}: one each, or one for each slice of the first dimension",
            scale.len(),
            zero_point.len(),
            c.dims
        ));
    }
    Ok(())
}
