//! The description of a layer from which kernels decide whether they support it, and at what cost.

use crate::choose::KernelSet;
use crate::kernel::Refusal;
use crate::weights::{QuantizedWeights, WeightShape};
use std::cell::OnceCell;

/// The most taps of a filter that the depthwise kernels support, because some of them unroll all taps. Depthwise layers with more taps are
/// handled as grouped convolutions.
pub const MAX_DEPTHWISE_TAPS: usize = 128;

/// How a layer's filter moves over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Strides of the filter, `[y, x]`, in input pixels.
    pub strides: [usize; 2],
    /// Distances between its taps, `[y, x]`, in input pixels.
    pub dilations: [usize; 2],
    /// Output pixels, `[y, x]`.
    pub output: [usize; 2],
}

/// Weights and activations of a layer that multiplies codes.
#[derive(Clone, Copy, Debug)]
pub struct CodeOperands<'a> {
    /// The weights.
    pub weights: &'a QuantizedWeights<'a>,
    /// Width of the weight codes.
    pub weight_bits: u8,
    /// Width of the activation codes.
    pub activation_bits: u8,
    /// Zero-point of the activations, counted from the lowest code.
    pub activation_zero_point: i32,
}

impl CodeOperands<'_> {
    /// The highest activation code, counted from the lowest.
    pub fn levels(&self) -> u8 {
        ((1u16 << self.activation_bits) - 1) as u8
    }
}

/// The properties of a layer's epilogue on which the choice of a kernel depends.
#[derive(Clone, Debug, PartialEq)]
pub struct EpilogueQuery {
    /// Whether the precompiled epilogue ([`crate::epilogue`]) supports the steps and operands; if not, the reason.
    pub precompiled: Result<(), Refusal>,
    /// The smallest nonzero magnitude among the multipliers of the sums; infinite if all are 0.
    pub smallest_multiplier: f32,
}

impl EpilogueQuery {
    /// An epilogue that every kernel supports.
    pub const PLAIN: EpilogueQuery = EpilogueQuery { precompiled: Ok(()), smallest_multiplier: f32::INFINITY };
}

/// A layer and the kernels to choose from.
#[derive(Debug)]
pub struct Query<'a> {
    /// The extents of its weights.
    pub shape: WeightShape,
    /// Its operands if they are codes; `None` if they are floats.
    pub codes: Option<CodeOperands<'a>>,
    /// The window.
    pub window: Window,
    /// The epilogue.
    pub epilogue: EpilogueQuery,
    /// The kernels to choose from.
    pub kernels: KernelSet,
    largest_absolute: OnceCell<u32>,
    largest_absolute_sum: OnceCell<u64>,
}

impl<'a> Query<'a> {
    /// A layer of codes.
    pub fn codes(operands: CodeOperands<'a>, window: Window, epilogue: EpilogueQuery, kernels: KernelSet) -> Query<'a> {
        Query::new(*operands.weights.shape(), Some(operands), window, epilogue, kernels)
    }

    /// A layer of floats.
    pub fn floats(shape: WeightShape, window: Window, epilogue: EpilogueQuery, kernels: KernelSet) -> Query<'static> {
        Query::new(shape, None, window, epilogue, kernels)
    }

    fn new<'b>(
        shape: WeightShape,
        codes: Option<CodeOperands<'b>>,
        window: Window,
        epilogue: EpilogueQuery,
        kernels: KernelSet,
    ) -> Query<'b> {
        let (largest_absolute, largest_absolute_sum) = Default::default();
        Query { shape, codes, window, epilogue, kernels, largest_absolute, largest_absolute_sum }
    }

    /// Output pixels.
    pub fn pixels(&self) -> f64 {
        self.window.output.iter().product::<usize>() as f64
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> f64 {
        self.pixels() * (self.shape.total_outputs() * self.shape.reduction()) as f64
    }

    /// Whether the layer is served by the depthwise kernels, and by no others.
    pub fn is_depthwise(&self) -> bool {
        self.shape.is_depthwise() && self.shape.reduction() <= MAX_DEPTHWISE_TAPS
    }

    /// The operands.
    ///
    /// # Errors
    /// If they are floats.
    pub fn code_operands(&self) -> Result<&CodeOperands<'a>, Refusal> {
        self.codes.as_ref().ok_or_else(|| Refusal::new("needs quantized weights and activations"))
    }

    /// The largest `|w - zw|`; 0 for floats.
    pub fn largest_absolute(&self) -> u32 {
        *self.largest_absolute.get_or_init(|| self.codes.map_or(0, |codes| codes.weights.largest_absolute()))
    }

    /// The largest `sum |w - zw|` of an output channel; 0 for floats.
    pub fn largest_absolute_sum(&self) -> u64 {
        let sum = || self.codes.map_or(0, |codes| codes.weights.largest_absolute_sum());
        *self.largest_absolute_sum.get_or_init(sum)
    }

    /// A bound on the magnitude of every result, `|sum (a - za)(w - zw)|`; 0 for floats.
    pub fn largest_result(&self) -> u64 {
        let Some(codes) = &self.codes else { return 0 };
        let largest = (i32::from(codes.levels()) - codes.activation_zero_point).max(codes.activation_zero_point);
        self.largest_absolute_sum() * u64::from(largest.unsigned_abs())
    }

    /// A bound on the magnitude of every sum of raw codes, `|sum a (w - zw)|`; 0 for floats.
    pub fn largest_raw_sum(&self) -> u64 {
        self.codes.map_or(0, |codes| self.largest_absolute_sum().saturating_mul(codes.levels().into()))
    }

    /// Refuses depthwise layers; called by kernels for dense and grouped layers.
    ///
    /// # Errors
    /// If it is such a layer.
    pub fn dense(&self) -> Result<(), Refusal> {
        if self.is_depthwise() { Err(Refusal::new("depthwise layers have their own kernels")) } else { Ok(()) }
    }

    /// Refuses dense and grouped layers; called by depthwise kernels.
    ///
    /// # Errors
    /// If it is such a layer.
    pub fn depthwise(&self) -> Result<(), Refusal> {
        if self.is_depthwise() {
            return Ok(());
        }
        Err(Refusal::new(format!("needs a depthwise layer of up to {MAX_DEPTHWISE_TAPS} taps")))
    }

    /// Refuses layers with several groups.
    ///
    /// # Errors
    /// If it is such a layer.
    pub fn one_group(&self) -> Result<(), Refusal> {
        if self.shape.groups == 1 { Ok(()) } else { Err(Refusal::new("needs a layer with one group")) }
    }
}
