//! Gathering and scattering of elements by computed index, sorting, and running sums. They are evaluated only.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, Attrs};
use super::reduce::check_axis;
use crate::infer::{InferError, Inputs};
use crate::types::{Dim, Element, Shape, TensorType};

fn whole_numbers(inputs: &Inputs, index: usize) -> Result<(), InferError> {
    match inputs.ty(index).element {
        Element::I64 => Ok(()),
        _ => Err(InferError::Element { index, expected: "i64" }),
    }
}

/// Gathers elements along one axis. The inputs are data and i64 indices of equal rank. The output has the shape of the indices.
/// Its element `i` is `data[.., indices[i], ..]`, where all other coordinates are those of `i`. Indices count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherElements {
    /// The axis, from 0.
    pub axis: usize,
}

impl GatherElements {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(GatherElements { axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))? })
    }
}

/// Whether every dimension of `b` except `axis` is at most that of `a`.
fn within(a: &Shape, b: &Shape, axis: usize) -> bool {
    let fits = |(i, (a, b)): (usize, (&Dim, &Dim))| match (a, b) {
        _ if i == axis => true,
        (Dim::Fixed(a), Dim::Fixed(b)) => b <= a,
        (a, b) => a == b,
    };
    a.rank() == b.rank() && a.dims().iter().zip(b.dims()).enumerate().all(fits)
}

impl OpAttributes for GatherElements {
    fn name(&self) -> &'static str {
        "gather_elements"
    }

    fn attrs(&self) -> Attrs {
        vec![("axis", self.axis.into())]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(2, 2, "2")?;
        whole_numbers(inputs, 1)?;
        check_axis(inputs.shape(0), self.axis)?;
        if !within(inputs.shape(0), inputs.shape(1), self.axis) {
            return Err(inputs.bad_shape(1, format!("one within {} but for axis {}", inputs.shape(0), self.axis)));
        }
        Ok(TensorType::new(inputs.ty(0).element, inputs.shape(1).clone()))
    }
}

/// How a scattered element is combined with the existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scatter {
    /// It replaces the existing element.
    Replace,
    /// The sum of both.
    Add,
    /// The product of both.
    Mul,
    /// The larger of both.
    Max,
    /// The smaller of both.
    Min,
}

/// Scatters elements by index. The inputs are data without a batch dimension, i64 indices (row-major positions in the data), and
/// one update for each index. The output is the data, where each update in order is combined with the element at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScatterFlat {
    /// How updates are combined with existing elements.
    pub join: Scatter,
}

impl ScatterFlat {
    const NAMES: [(Scatter, &str); 5] = [
        (Scatter::Replace, "scatter"),
        (Scatter::Add, "scatter_add"),
        (Scatter::Mul, "scatter_mul"),
        (Scatter::Max, "scatter_max"),
        (Scatter::Min, "scatter_min"),
    ];

    /// The operation with this name.
    pub fn parse(name: &str) -> Option<Self> {
        ScatterFlat::NAMES.iter().find(|(_, n)| *n == name).map(|&(join, _)| ScatterFlat { join })
    }
}

impl OpAttributes for ScatterFlat {
    fn name(&self) -> &'static str {
        ScatterFlat::NAMES.iter().find(|(join, _)| *join == self.join).map_or("scatter", |(_, n)| n)
    }

    fn attrs(&self) -> Attrs {
        vec![]
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(3, 3, "3")?;
        whole_numbers(inputs, 1)?;
        if inputs.ty(2).element != inputs.ty(0).element || inputs.ty(0).element.quantizer().is_some() {
            return Err(InferError::Element { index: 2, expected: "the same as input 0, and no codes" });
        }
        if inputs.shape(0).as_fixed().is_none() {
            return Err(inputs.bad_shape(0, "one without the batch"));
        }
        if inputs.shape(1).volume() != inputs.shape(2).volume() {
            return Err(inputs.bad_shape(2, format!("as many elements as {}", inputs.shape(1))));
        }
        Ok(inputs.ty(0).clone())
    }
}

/// The `k` largest or smallest elements along an axis, or their indices. They are sorted, and equal elements stay in the order of
/// their indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK {
    /// The axis, from 0.
    pub axis: usize,
    /// The number of elements.
    pub k: usize,
    /// Whether to select the largest elements instead of the smallest.
    pub largest: bool,
    /// Whether to output the indices (i64) instead of the elements.
    pub indices: bool,
}

impl TopK {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(TopK {
            axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))?,
            k: r.size("k")?.ok_or(AttrError::Missing("k"))?,
            largest: r.flag("largest")?,
            indices: r.flag("indices")?,
        })
    }
}

impl OpAttributes for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn attrs(&self) -> Attrs {
        let mut a: Attrs = vec![("axis", self.axis.into()), ("k", self.k.into())];
        a.extend(self.largest.then_some(("largest", true.into())));
        a.extend(self.indices.then_some(("indices", true.into())));
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        let element = inputs.ty(0).element;
        if !matches!(element, Element::F32 | Element::I64) {
            return Err(InferError::Element { index: 0, expected: "f32 or i64" });
        }
        let size = check_axis(inputs.shape(0), self.axis)?;
        if self.k > size {
            return Err(InferError::Attribute(format!("{} elements of an axis of {size}", self.k)));
        }
        let mut shape = inputs.shape(0).clone();
        shape.0[self.axis] = Dim::Fixed(self.k);
        Ok(TensorType::new(if self.indices { Element::I64 } else { element }, shape))
    }
}

/// Running sums or products along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cumulate {
    /// The axis, from 0.
    pub axis: usize,
    /// Whether to compute products instead of sums.
    pub product: bool,
    /// Whether to exclude the element at the output's own position.
    pub exclusive: bool,
    /// Whether to start from the end of the axis.
    pub reverse: bool,
}

impl Cumulate {
    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        Ok(Cumulate {
            axis: r.size("axis")?.ok_or(AttrError::Missing("axis"))?,
            product: r.flag("product")?,
            exclusive: r.flag("exclusive")?,
            reverse: r.flag("reverse")?,
        })
    }
}

impl OpAttributes for Cumulate {
    fn name(&self) -> &'static str {
        "cumulate"
    }

    fn attrs(&self) -> Attrs {
        let mut a: Attrs = vec![("axis", self.axis.into())];
        for (name, on) in [("product", self.product), ("exclusive", self.exclusive), ("reverse", self.reverse)] {
            a.extend(on.then_some((name, true.into())));
        }
        a
    }

    fn infer(&self, inputs: &Inputs) -> Result<TensorType, InferError> {
        inputs.arity(1, 1, "1")?;
        check_axis(inputs.shape(0), self.axis)?;
        match inputs.ty(0).element {
            Element::F32 | Element::I64 => Ok(inputs.ty(0).clone()),
            _ => Err(InferError::Element { index: 0, expected: "f32 or i64" }),
        }
    }
}
