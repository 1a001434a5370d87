//! The epilogue of a step: its factors among the constants, its operands read in a format that it can walk.

use super::bounds;
use super::{Builder, Need, Slots};
use crate::emit::epilogue::{Epilogue, EpilogueStep, Factor};
use crate::error::JitError;
use crate::storage::{Codes, Placed, Slot, StorageFormat, broadcast};
use catc_program::{ConstantData, ConstantId, Operand, Step, TensorId};

/// An operand of an epilogue: the memory, and how to walk it along the dimensions of the step's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OperandWalk {
    /// Slot of the step's function.
    pub slot: usize,
    /// How an element is stored.
    pub format: StorageFormat,
    /// Bytes before the first element.
    pub origin: i64,
    /// Zero-point of codes.
    pub zero: i32,
    /// The highest of codes, counted from the lowest.
    pub levels: u8,
}

/// An epilogue with its operands: the steps, and for each operand its walk and its strides (half bytes) along the output's dimensions.
#[derive(Clone, Debug)]
pub(crate) struct PlannedEpilogue {
    /// The steps.
    pub epilogue: Epilogue,
    /// Operands by number.
    pub operands: Vec<(OperandWalk, Vec<i64>)>,
}

impl Builder<'_> {
    /// The epilogue of a step whose lanes run along `lane_dim` of its output. `pairs_align` says that lane groups always start at
    /// even places, so that row offsets can be read; `bound` bounds the magnitude of the values before the epilogue.
    pub fn epilogue(
        &mut self,
        step: &Step,
        slots: &mut Slots,
        lane_dim: usize,
        pairs_align: bool,
        bound: Option<f32>,
    ) -> Result<PlannedEpilogue, JitError> {
        let output = self.program.tensor(step.output);
        let mut factors: Vec<[f32; 4]> = Vec::new();
        let mut factor = |value: f32| {
            factors.push([value; 4]);
            Factor { value, number: factors.len() - 1 }
        };
        let mut epilogue = Epilogue { requantize: step.epilogue.requantize.map(&mut factor), ..Epilogue::default() };
        let mut operands = Vec::new();
        let mut operand_bounds = Vec::new();
        for item in &step.epilogue.steps {
            epilogue.steps.push(match *item {
                catc_program::EpilogueStep::Scale(value) => EpilogueStep::Scale(factor(value)),
                catc_program::EpilogueStep::Activation(function) => EpilogueStep::Activation(function),
                catc_program::EpilogueStep::Binary { op, operand, scale } => {
                    operands.push(self.operand(step, operand, slots, &output.dims, lane_dim, pairs_align)?);
                    operand_bounds.push(self.operand_bound(operand));
                    EpilogueStep::Binary(op, operands.len() - 1, factor(scale))
                }
            });
        }
        let bound = bounds::after(&epilogue, bound, &operand_bounds);
        epilogue.small = bounds::are_small(bound, epilogue.requantize.map(|f| f.value));
        epilogue.simplify(Codes::of(&output.format));
        if !factors.is_empty() {
            epilogue.factor_slot = slots.add(Slot::Constant(self.constants.push(&factors)));
        }
        self.bounds[step.output.0 as usize] = bound;
        Ok(PlannedEpilogue { epilogue, operands })
    }

    /// A bound on the magnitude of an operand before its factor.
    fn operand_bound(&self, operand: Operand) -> Option<f32> {
        match operand {
            Operand::Tensor(tensor) => self.bound(tensor),
            Operand::Constant(id) => match &self.program.constant(id).data {
                ConstantData::F32(values) => Some(largest(values)),
                ConstantData::Codes { .. } => None,
            },
        }
    }

    /// A bound on the magnitude of a tensor's elements: floats, or codes less their zero-point.
    pub fn bound(&self, tensor: TensorId) -> Option<f32> {
        match Codes::of(&self.program.tensor(tensor).format) {
            Some(codes) => Some(f32::from(codes.levels)),
            None => self.bounds[tensor.0 as usize],
        }
    }

    fn operand(
        &mut self,
        step: &Step,
        operand: Operand,
        slots: &mut Slots,
        dims: &[usize],
        lane_dim: usize,
        pairs_align: bool,
    ) -> Result<(OperandWalk, Vec<i64>), JitError> {
        let tensor = match operand {
            Operand::Constant(id) => {
                let (slot, strides) = self.float_operand(step, id, dims)?;
                let slot = slots.add(slot);
                return Ok((
                    OperandWalk { slot, format: StorageFormat::Float, origin: 0, zero: 0, levels: 0 },
                    strides,
                ));
            }
            Operand::Tensor(tensor) => tensor,
        };
        let decl = self.program.tensor(tensor);
        let mut placed = self.read(tensor, Need::ANY)?;
        let mut strides = broadcast(&step.name, &placed.buffer.dims, &placed.buffer.strides, dims)?;
        let along = strides.get(lane_dim).copied().unwrap_or(0);
        let shifted = strides.iter().enumerate().any(|(dim, &s)| dim != lane_dim && s % 2 != 0);
        if placed.buffer.format == StorageFormat::RowOffset && (!pairs_align || along != 1 || shifted) {
            placed = self.read(tensor, Need::plain(&decl.format))?;
            strides = broadcast(&step.name, &placed.buffer.dims, &placed.buffer.strides, dims)?;
        }
        let Placed { slot, buffer } = placed;
        if buffer.format == StorageFormat::Index {
            return Err(JitError::invalid(&step.name, "an operand holds indices"));
        }
        let walk = OperandWalk {
            slot: slots.add(slot),
            format: buffer.format,
            origin: buffer.origin,
            zero: i32::from(buffer.zero()),
            levels: buffer.codes.map_or(0, |c| c.levels),
        };
        Ok((walk, strides))
    }

    /// An f32 constant that broadcasts to `dims`: its slot and its strides in half bytes.
    pub fn float_operand(&mut self, step: &Step, id: ConstantId, dims: &[usize]) -> Result<(Slot, Vec<i64>), JitError> {
        let constant = self.program.constant(id);
        let values = self.floats(&step.name, id)?;
        let mut own = vec![8i64; constant.dims.len()];
        for i in (1..own.len()).rev() {
            own[i - 1] = own[i] * constant.dims[i] as i64;
        }
        let strides = broadcast(&step.name, &constant.dims, &own, dims)?;
        Ok((Slot::Constant(self.constants.push(&values)), strides))
    }
}

/// The largest magnitude; infinite if a value is NaN.
pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| if v.is_nan() { f32::INFINITY } else { v.abs().max(most) })
}
