//! Sliding windows, and pooling over them.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

/// The geometry of a sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of taps, `[y, x]`.
    pub kernel: [usize; 2],
    /// The strides, `[y, x]`.
    pub strides: [usize; 2],
    /// Padding `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// The distance between taps, `[y, x]`.
    pub dilations: [usize; 2],
    /// Whether there is a last window that extends beyond the padded input. It must start inside the input or its leading
    /// padding.
    pub ceil_mode: bool,
}

impl Window {
    /// The output size for an input of `[h, w]`, or why the window does not fit.
    pub fn output(&self, input: [usize; 2]) -> Result<[usize; 2], String> {
        let mut out = [0; 2];
        for i in 0..2 {
            let (k, s, d) = (self.kernel[i], self.strides[i], self.dilations[i]);
            if k == 0 || s == 0 || d == 0 {
                return Err("kernel, strides and dilations must be at least 1".into());
            }
            let span = (k - 1).checked_mul(d).and_then(|x| x.checked_add(1)).ok_or("window too large")?;
            let padded = [input[i], self.pads[i], self.pads[i + 2]]
                .iter()
                .try_fold(0usize, |a, &b| a.checked_add(b))
                .ok_or("padding too large")?;
            if padded < span {
                return Err(format!("a window of {span} does not fit in {padded} padded positions"));
            }
            let room = padded - span;
            out[i] = if self.ceil_mode { room.div_ceil(s) } else { room / s } + 1;
            if self.ceil_mode && (out[i] - 1) * s >= input[i] + self.pads[i] {
                out[i] -= 1;
            }
        }
        Ok(out)
    }

    fn attrs(&self) -> Attrs {
        let mut a: Attrs = vec![
            ("kernel", self.kernel[..].into()),
            ("strides", self.strides[..].into()),
            ("pads", self.pads[..].into()),
        ];
        if self.dilations != [1, 1] {
            a.push(("dilations", self.dilations[..].into()));
        }
        if self.ceil_mode {
            a.push(("ceil_mode", true.into()));
        }
        a
    }

    fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Window {
            kernel: r.array("kernel")?.ok_or(AttrError::Missing("kernel"))?,
            strides: r.array("strides")?.unwrap_or([1, 1]),
            pads: r.array("pads")?.unwrap_or([0; 4]),
            dilations: r.array("dilations")?.unwrap_or([1, 1]),
            ceil_mode: r.flag("ceil_mode")?,
        })
    }

    /// The output shape for input 0.
    fn pooled(&self, inputs: &Inputs) -> Result<Shape, InferError> {
        inputs.arity(1, 1, "1")?;
        let (n, c, h, w) = inputs.nchw(0)?;
        let [h, w] = self.output([h, w]).map_err(InferError::Attribute)?;
        Ok(Shape::new([n, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)]))
    }
}

/// Maximum over each window of `[N,C,H,W]`. Padding and NaN are ignored. A window that covers only padding gives -inf or the
/// lowest code. The input is f32 or codes. Codes have the same order as the values that they represent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPool(pub Window);

impl MaxPool {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(MaxPool(Window::read(r)?))
    }
}

impl OpAttributes for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn attrs(&self) -> Attrs {
        self.0.attrs()
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        let shape = self.0.pooled(inputs)?;
        match inputs.ty(0).element {
            e @ (Element::F32 | Element::Code(_)) => Ok(TensorType::new(e, shape)),
            _ => Err(InferError::Element { index: 0, expected: "f32 or codes" }),
        }
    }
}

/// Average over each window of `[N,C,H,W]`: the sum divided by the number of taps that count, or by 1 if no tap counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// The window.
    pub window: Window,
    /// Whether taps in the padding count. Taps that `ceil_mode` adds beyond the padding never count.
    pub count_include_pad: bool,
}

impl AvgPool {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(AvgPool { window: Window::read(r)?, count_include_pad: r.flag("count_include_pad")? })
    }

    pub(crate) fn pooled(&self, inputs: &Inputs) -> Result<Shape, InferError> {
        self.window.pooled(inputs)
    }
}

impl OpAttributes for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool"
    }

    fn attrs(&self) -> Attrs {
        let mut a = self.window.attrs();
        if self.count_include_pad {
            a.push(("count_include_pad", true.into()));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        let shape = self.pooled(inputs)?;
        inputs.all_f32()?;
        Ok(TensorType::f32(shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceil_mode_drops_windows_that_start_in_trailing_padding() {
        let mut w = Window { kernel: [2, 2], strides: [3, 3], pads: [1, 1, 1, 1], dilations: [1, 1], ceil_mode: true };
        assert_eq!(w.output([5, 6]), Ok([2, 3]));
        w.pads = [0; 4];
        assert_eq!(w.output([3, 4]), Ok([1, 2]));
        w.kernel = [9, 1];
        assert!(w.output([3, 4]).unwrap_err().contains("does not fit"));
    }
}
