//! Convolution.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::pool::Window;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Shape, TensorType};

/// 2-D convolution (cross-correlation): x `[N,C,H,W]`, w `[O,C/groups,KH,KW]`, optional bias `[O]` -> `[N,O,H',W']`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// The strides of the window, `[y, x]`.
    pub strides: [usize; 2],
    /// Zero padding `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// The distance between taps, `[y, x]`.
    pub dilations: [usize; 2],
    /// Number of channel groups; `groups == C` is a depthwise convolution.
    pub groups: usize,
}

impl Default for Conv2d {
    fn default() -> Self {
        Conv2d { strides: [1, 1], pads: [0; 4], dilations: [1, 1], groups: 1 }
    }
}

impl Conv2d {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        let d = Conv2d::default();
        Ok(Conv2d {
            strides: r.array("strides")?.unwrap_or(d.strides),
            pads: r.array("pads")?.unwrap_or(d.pads),
            dilations: r.array("dilations")?.unwrap_or(d.dilations),
            groups: r.size("groups")?.unwrap_or(d.groups),
        })
    }

    /// The window for a kernel of this size.
    pub fn window(&self, kernel: [usize; 2]) -> Window {
        Window { kernel, strides: self.strides, pads: self.pads, dilations: self.dilations, ceil_mode: false }
    }

    /// The output shape for inputs 0 (x) and 1 (w) of any element type.
    pub(crate) fn output_shape(&self, inputs: &Inputs) -> Result<Shape, InferError> {
        let (n, c, h, w) = inputs.nchw(0)?;
        let Some(&[o, ci, kh, kw]) = inputs.shape(1).as_fixed().as_deref() else {
            return Err(inputs.bad_shape(1, "[O,C/groups,KH,KW]"));
        };
        if self.groups == 0 || c % self.groups != 0 || o % self.groups != 0 {
            return Err(InferError::Attribute(format!(
                "{} groups do not divide {c} input and {o} output channels",
                self.groups
            )));
        }
        if ci != c / self.groups {
            return Err(inputs.bad_shape(1, format!("[O,{},KH,KW]", c / self.groups)));
        }
        let [h, w] = self.window([kh, kw]).output([h, w]).map_err(InferError::Attribute)?;
        Ok(Shape::new([n, Dim::Fixed(o), Dim::Fixed(h), Dim::Fixed(w)]))
    }
}

impl OpAttributes for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn attrs(&self) -> Attrs {
        let d = Conv2d::default();
        let mut a: Attrs = vec![("strides", self.strides[..].into()), ("pads", self.pads[..].into())];
        if self.dilations != d.dilations {
            a.push(("dilations", self.dilations[..].into()));
        }
        if self.groups != d.groups {
            a.push(("groups", self.groups.into()));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 3, "2 or 3")?;
        inputs.all_f32()?;
        let shape = self.output_shape(inputs)?;
        if inputs.len() == 3 {
            inputs.expect_shape(2, &Shape::new([shape.dims()[1]]))?;
        }
        Ok(TensorType::f32(shape))
    }
}
