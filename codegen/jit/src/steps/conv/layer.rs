//! A convolution that is being lowered: its operands, and what follows from the values of its multipliers.

use super::plan::ConvPlan;
use crate::assign::ConvAssignment;
use crate::builder::{Builder, PackingKey, largest};
use crate::error::JitError;
use crate::weights::{PreparedWeights, conv_shape};
use catc_kernels::{Choice, KernelRef, PackError, QuantizedWeights, WeightLayout, WeightShape};
use catc_program::{ConstantId, Geometry, Op, Step};

/// A convolution that is being lowered, and what its operands are.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub step: &'a Step,
    pub geometry: &'a Geometry,
    pub choice: &'a Choice,
    /// The constant that holds its weights.
    pub constant: ConstantId,
    pub shape: WeightShape,
    operands: LayerOperands<'a>,
}

/// Weights of a convolution: codes as they were prepared, or floats.
#[derive(Clone, Copy)]
enum LayerOperands<'a> {
    Codes(&'a PreparedWeights),
    Floats { bias: ConstantId },
}

impl<'a> Layer<'a> {
    /// The layer of a step and what was decided for it.
    pub fn of(
        p: &Builder<'_>,
        step: &'a Step,
        geometry: &'a Geometry,
        assigned: &'a ConvAssignment,
    ) -> Result<Layer<'a>, JitError> {
        let choice = &assigned.choice;
        match (&step.op, &assigned.weights) {
            (Op::Conv { weights, .. }, Some(prepared)) => {
                let operands = LayerOperands::Codes(prepared);
                Ok(Layer { step, geometry, choice, constant: *weights, shape: prepared.shape(), operands })
            }
            (Op::FloatConv { weights, groups, bias, .. }, None) => {
                let shape = conv_shape(&step.name, p.program.constant(*weights), geometry, *groups)?;
                let operands = LayerOperands::Floats { bias: *bias };
                Ok(Layer { step, geometry, choice, constant: *weights, shape, operands })
            }
            _ => Err(JitError::invalid(&step.name, "its weights are not what its kernel was chosen for")),
        }
    }

    pub fn kernel(&self) -> KernelRef {
        self.choice.kernel
    }

    /// The weights of a layer of codes.
    pub fn codes(&self) -> Result<&'a PreparedWeights, JitError> {
        match self.operands {
            LayerOperands::Codes(prepared) => Ok(prepared),
            LayerOperands::Floats { .. } => Err(JitError::invalid(&self.step.name, "not a convolution of codes")),
        }
    }

    /// The weights of a layer of codes, for packing.
    pub fn view(&self) -> Result<QuantizedWeights<'a>, JitError> {
        self.codes()?.view().map_err(|source| self.failed(source))
    }

    /// Weights that could not be packed.
    pub fn failed(&self, source: PackError) -> JitError {
        JitError::Weights { step: self.step.name.clone(), source }
    }

    /// Weights and biases of a layer of floats.
    pub fn floats(&self, p: &Builder<'_>) -> Result<(Vec<f32>, Vec<f32>), JitError> {
        let name = &self.step.name;
        let LayerOperands::Floats { bias } = self.operands else {
            return Err(JitError::invalid(name, "not a convolution of floats"));
        };
        Ok((p.floats(name, self.constant)?, p.channel_floats(name, bias, self.shape.total_outputs())?))
    }

    /// What all convolutions do before they pack weights. `bound` bounds the magnitude of results before the epilogue.
    pub fn plan(&self, p: &mut Builder<'_>, bound: Option<f32>) -> Result<ConvPlan, JitError> {
        let kernel = self.kernel().kernel();
        super::plan::plan(p, (self.step, self.geometry), (self.constant, self.shape), kernel.info(), bound)
    }

    /// The packing of its weights in that order, which it may share with other layers.
    pub fn packing(&self, plan: &ConvPlan, layout: Option<WeightLayout>) -> PackingKey {
        let activations = (plan.input.zero().into(), plan.input.codes.map_or(0, |codes| codes.levels));
        PackingKey { weights: self.constant, kernel: self.kernel(), layout, activations }
    }
}

/// Multipliers and biases of a convolution of codes, and a bound on `sum as f32 * multiplier + bias`.
pub(crate) struct Scaling {
    pub multiplier: Vec<f32>,
    pub bias: Vec<f32>,
    pub bound: Option<f32>,
}

impl Scaling {
    /// Those of a layer of codes.
    pub fn of(p: &Builder<'_>, layer: &Layer<'_>) -> Result<Scaling, JitError> {
        let step = layer.step;
        let Op::Conv { multiplier, bias, .. } = &step.op else {
            return Err(JitError::invalid(&step.name, "not a convolution of codes"));
        };
        let outputs = layer.shape.total_outputs();
        let multiplier = p.channel_floats(&step.name, *multiplier, outputs)?;
        let bias = p.channel_floats(&step.name, *bias, outputs)?;
        let largest_sum = layer.choice.largest_result;
        let bound = (1.001 * largest_sum as f32 * largest(&multiplier) + largest(&bias)) * 1.001;
        Ok(Scaling { multiplier, bias, bound: bound.is_finite().then_some(bound) })
    }
}
