//! Sizes that follow from a program: image sizes, padding, and strides of broadcast operands.

use super::buffer::{Halo, is_image};
use crate::error::JitError;
use catc_program::{Geometry, Program, Step, TensorId};

/// The padding that a convolution reads. It follows from the size of the output; the windows may not reach all of the declared padding.
pub(crate) fn needed_halo(program: &Program, step: &Step, geometry: &Geometry) -> Result<Halo, JitError> {
    let (_, height, width) = image(program, step.inputs[0])?;
    let (_, out_height, out_width) = image(program, step.output)?;
    let behind = |out: usize, axis: usize, before: usize, size: usize| {
        let reach = out.saturating_sub(1).saturating_mul(geometry.strides[axis]);
        let span = geometry.kernel[axis].saturating_sub(1).saturating_mul(geometry.dilations[axis]);
        reach.saturating_add(span).saturating_add(1).saturating_sub(before.saturating_add(size))
    };
    let halo = Halo {
        top: geometry.pads[0],
        left: geometry.pads[1],
        bottom: behind(out_height, 0, geometry.pads[0], height),
        right: behind(out_width, 1, geometry.pads[1], width),
    };
    if halo.bottom > geometry.pads[2] || halo.right > geometry.pads[3] {
        return Err(JitError::invalid(&step.name, "the output reaches beyond the padded input"));
    }
    Ok(halo)
}

/// Channels, height and width of an image tensor. Rank 3, channels last.
pub(crate) fn image(program: &Program, tensor: TensorId) -> Result<(usize, usize, usize), JitError> {
    let decl = program.tensor(tensor);
    match *decl.dims.as_slice() {
        [c, h, w] if is_image(decl) => Ok((c, h, w)),
        _ => Err(JitError::invalid(&decl.name, "not an image [C,H,W] with channels last")),
    }
}

/// Strides of an operand along the dimensions of the output to which it broadcasts.
pub(crate) fn broadcast(name: &str, own: &[usize], strides: &[i64], dims: &[usize]) -> Result<Vec<i64>, JitError> {
    let error = || JitError::invalid(name, format!("an operand of dimensions {own:?} does not broadcast to {dims:?}"));
    let missing = dims.len().checked_sub(own.len());
    // An operand may have leading dimensions of 1 that the output lacks.
    let surplus = own.len().saturating_sub(dims.len());
    if own[..surplus].iter().any(|&d| d != 1) {
        return Err(error());
    }
    let mut result = vec![0; dims.len()];
    for (i, (&size, &stride)) in own.iter().zip(strides).enumerate().skip(surplus) {
        let dim = i - surplus + missing.unwrap_or(0);
        if size == dims[dim] {
            result[dim] = if size == 1 { 0 } else { stride };
        } else if size != 1 {
            return Err(error());
        }
    }
    Ok(result)
}
