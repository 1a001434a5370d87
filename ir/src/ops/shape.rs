//! Operations that move elements without computing anything. They accept any element type, including codes.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, AttrValue, Attrs};
use super::reduce::check_axis;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// The same elements in row-major order with another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The shape of the output, including the batch dimension.
    pub shape: Shape,
}

impl Reshape {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Reshape { shape: r.shape("shape")?.ok_or(AttrError::Missing("shape"))? })
    }
}

impl OpAttributes for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn attrs(&self) -> Attrs {
        vec![("shape", (&self.shape).into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        let volume = inputs.shape(0).volume();
        if volume.is_none() || volume != self.shape.volume() {
            return Err(inputs.bad_shape(0, format!("as many elements as {}", self.shape)));
        }
        Ok(TensorType::new(inputs.ty(0).element, self.shape.clone()))
    }
}

/// Permutes the axes: axis `i` of the output is axis `perm[i]` of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// A permutation of the axes.
    pub perm: Vec<usize>,
}

impl Transpose {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Transpose { perm: r.sizes("perm")?.ok_or(AttrError::Missing("perm"))? })
    }
}

impl OpAttributes for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn attrs(&self) -> Attrs {
        vec![("perm", self.perm[..].into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..inputs.shape(0).rank()) {
            return Err(InferError::Attribute(format!("{:?} is no permutation of the axes", self.perm)));
        }
        let dims = self.perm.iter().map(|&i| inputs.shape(0).dims()[i]);
        Ok(TensorType::new(inputs.ty(0).element, Shape::new(dims)))
    }
}

/// Concatenates tensors of the same element type along an axis. Codes must have the same quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis, from 0.
    pub axis: usize,
}

impl Concat {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Concat { axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))? })
    }
}

impl OpAttributes for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", self.axis.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, usize::MAX, "at least 1")?;
        let mut ty = inputs.ty(0).clone();
        let mut total = check_axis(&ty.shape, self.axis)?;
        for i in 1..inputs.len() {
            if inputs.ty(i).element != ty.element {
                return Err(InferError::Element { index: i, expected: "the same as input 0" });
            }
            let mut shape = inputs.shape(i).clone();
            let n = match shape.0.get(self.axis) {
                Some(Dim::Fixed(n)) => *n,
                _ => {
                    return Err(inputs.bad_shape(i, format!("{} but for axis {}", inputs.shape(0), self.axis)));
                }
            };
            shape.0[self.axis] = inputs.shape(0).dims()[self.axis];
            if shape != *inputs.shape(0) {
                return Err(inputs.bad_shape(i, format!("{} but for axis {}", inputs.shape(0), self.axis)));
            }
            total += n;
        }
        ty.shape.0[self.axis] = Dim::Fixed(total);
        Ok(ty)
    }
}

/// Constant padding. Codes are padded with their zero point, and `value` must then be 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// The number of padding elements before each axis.
    pub before: Vec<usize>,
    /// The number of padding elements after each axis.
    pub after: Vec<usize>,
    /// The padding value.
    pub value: f32,
}

impl Pad {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Pad {
            before: r.sizes("before")?.ok_or(AttrError::Missing("before"))?,
            after: r.sizes("after")?.ok_or(AttrError::Missing("after"))?,
            value: r.float("value")?.unwrap_or(0.0),
        })
    }
}

impl OpAttributes for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn attrs(&self) -> Attrs {
        let mut a: Attrs = vec![("before", self.before[..].into()), ("after", self.after[..].into())];
        if self.value != 0.0 {
            a.push(("value", self.value.into()));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        let mut ty = inputs.ty(0).clone();
        if self.before.len() != ty.shape.rank() || self.after.len() != ty.shape.rank() {
            return Err(InferError::Attribute(format!("padding for each axis of {} is needed", ty.shape)));
        }
        match ty.element {
            Element::F32 => {}
            Element::Code(_) if self.value == 0.0 => {}
            Element::Code(_) => {
                return Err(InferError::Attribute("codes can only be padded with zero".into()));
            }
            _ => {
                return Err(InferError::Element { index: 0, expected: "f32 or codes" });
            }
        }
        for (i, d) in ty.shape.0.iter_mut().enumerate() {
            match (*d, self.before[i].checked_add(self.after[i])) {
                (_, Some(0)) => {}
                (Dim::Fixed(n), Some(p)) if n.checked_add(p).is_some() => *d = Dim::Fixed(n + p),
                _ => {
                    return Err(InferError::Attribute(format!("axis {i} cannot be padded by this much")));
                }
            }
        }
        Ok(ty)
    }
}

/// Every `step`-th slice of an axis in `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The axis, from 0.
    pub axis: usize,
    /// The first index.
    pub start: usize,
    /// One past the last index, at most the size of the axis.
    pub end: usize,
    /// The distance between indices, at least 1.
    pub step: usize,
}

impl Slice {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Slice {
            axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))?,
            start: r.size("start")?.ok_or(AttrError::Missing("start"))?,
            end: r.size("end")?.ok_or(AttrError::Missing("end"))?,
            step: r.size("step")?.unwrap_or(1),
        })
    }
}

impl OpAttributes for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn attrs(&self) -> Attrs {
        let mut a: Attrs = vec![("axis", self.axis.into()), ("start", self.start.into()), ("end", self.end.into())];
        if self.step != 1 {
            a.push(("step", self.step.into()));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        let size = check_axis(inputs.shape(0), self.axis)?;
        if self.start > self.end || self.end > size || self.step == 0 {
            return Err(InferError::Attribute(format!(
                "no slice {}..{} by {} of an axis of {size}",
                self.start, self.end, self.step
            )));
        }
        let mut ty = inputs.ty(0).clone();
        ty.shape.0[self.axis] = Dim::Fixed((self.end - self.start).div_ceil(self.step));
        Ok(ty)
    }
}

/// Gathers slices of a table by index. The inputs are data `[..,A,..]` and i64 indices `[I..]`. In the output, the shape of the
/// indices replaces the axis. Indices lie in `-A..A`. Negative indices count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis of the data, from 0.
    pub axis: usize,
}

impl Gather {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Gather { axis: r.size("axis")?.unwrap_or(0) })
    }
}

impl OpAttributes for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", AttrValue::from(self.axis))]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        check_axis(inputs.shape(0), self.axis)?;
        if inputs.ty(1).element != Element::I64 {
            return Err(InferError::Element { index: 1, expected: "i64" });
        }
        let data = inputs.shape(0).dims();
        let dims = data[..self.axis].iter().chain(inputs.shape(1).dims()).chain(&data[self.axis + 1..]);
        Ok(TensorType::new(inputs.ty(0).element, Shape::new(dims.copied())))
    }
}

/// Broadcasts the input to a shape, as in numpy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The shape of the output.
    pub shape: Shape,
}

impl Expand {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Expand { shape: r.shape("shape")?.ok_or(AttrError::Missing("shape"))? })
    }
}

impl OpAttributes for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn attrs(&self) -> Attrs {
        vec![("shape", (&self.shape).into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        if inputs.shape(0).broadcast(&self.shape).as_ref() != Some(&self.shape) {
            return Err(inputs.bad_shape(0, format!("one that broadcasts to {}", self.shape)));
        }
        if inputs.ty(0).element.quantizer().is_some() {
            return Err(InferError::Element { index: 0, expected: "f32, i64 or bool" });
        }
        Ok(TensorType::new(inputs.ty(0).element, self.shape.clone()))
    }
}

/// Returns the input. The importer creates it for Identity and Dropout, and the pass `canonicalize` removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity;

impl OpAttributes for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        Ok(inputs.ty(0).clone())
    }
}
