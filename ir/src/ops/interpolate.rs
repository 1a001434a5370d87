//! Interpolation along one axis.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::reduce::check_axis;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// Weighted sums of a few slices of one axis. The inputs are x `[..,A,..]`, i64 indices `[I,T]` and f32 weights `[I,T]` with at
/// least one tap, `T >= 1`. The output has size `I` along the axis: slice `i` is `Σ_t weights[i,t] * x[indices[i,t]]`. The sum
/// starts with the product of tap 0 and adds the others in order. Every product and every sum is rounded to f32. Indices lie in
/// `0..A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpolate {
    /// The axis, from 0.
    pub axis: usize,
}

impl Interpolate {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Interpolate { axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))? })
    }

    /// The output shape. Input 0 may hold f32 or codes.
    pub(crate) fn output_shape(&self, inputs: &Inputs) -> Result<Shape, InferError> {
        let mut shape = inputs.shape(0).clone();
        check_axis(&shape, self.axis)?;
        if inputs.ty(1).element != Element::I64 {
            return Err(InferError::Element { index: 1, expected: "i64" });
        }
        inputs.f32(2)?;
        let &[Dim::Fixed(size), Dim::Fixed(1..)] = inputs.shape(1).dims() else {
            return Err(inputs.bad_shape(1, "[I,T] with at least one tap"));
        };
        inputs.expect_shape(2, inputs.shape(1))?;
        shape.0[self.axis] = Dim::Fixed(size);
        Ok(shape)
    }
}

impl OpAttributes for Interpolate {
    fn name(&self) -> &'static str {
        "interpolate"
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", self.axis.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(3, 3, "3")?;
        inputs.f32(0)?;
        Ok(TensorType::f32(self.output_shape(inputs)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(axis: usize, indices: &[usize], weights: &[usize]) -> Result<TensorType, InferError> {
        let x = TensorType::f32(Shape::new([Dim::N, Dim::Fixed(3), Dim::Fixed(4)]));
        let indices = TensorType::new(Element::I64, Shape::fixed(indices));
        Interpolate { axis }.infer(&Inputs(&[x, indices, TensorType::f32(Shape::fixed(weights))]))
    }

    #[test]
    fn the_axis_takes_the_number_of_rows() {
        let shape = Shape::new([Dim::N, Dim::Fixed(3), Dim::Fixed(7)]);
        assert_eq!(infer(2, &[7, 2], &[7, 2]), Ok(TensorType::f32(shape)));
        for (axis, indices, weights) in
            [(0, [7, 2], [7, 2]), (3, [7, 2], [7, 2]), (2, [7, 0], [7, 0]), (2, [7, 2], [7, 3])]
        {
            assert!(infer(axis, &indices, &weights).is_err(), "{axis} {indices:?} {weights:?}");
        }
    }
}
