//! Lowers the epilogue of a step: appends its factors to the constants, and reads its operands in a layout that the step can access.

use super::bounds;
use super::{Builder, Need, Slots};
use crate::emit::epilogue::{Epilogue, Factor};
use crate::error::JitError;
use crate::storage::{Codes, Placed, Slot, StorageFormat, broadcast};
use catc_program::{ConstantData, ConstantId, Operand, Step, TensorId};
use catc_scalar::{EpilogueStep, Unary};

/// An operand of an epilogue: its slot and its format.
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
    /// Highest code, counted from the lowest.
    pub levels: u8,
}

/// A factor and its number among the factors of the epilogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ValuedFactor {
    pub value: f32,
    pub number: usize,
}

impl ValuedFactor {
    fn code(self) -> Factor {
        Factor { number: self.number, is_one: self.value == 1.0 }
    }
}

/// A step on the running value, with the number of its operand.
pub(crate) type ValuedStep = EpilogueStep<usize, ValuedFactor>;

/// An epilogue with the values of its factors and with its operands.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlannedEpilogue {
    /// The steps, in order.
    pub steps: Vec<ValuedStep>,
    /// The factor before rounding.
    pub requantize: Option<ValuedFactor>,
    /// Whether the values to be rounded are known to be below `2^21` in magnitude, and not NaN.
    pub small: bool,
    /// Operands by number, each with its strides, in half bytes, along the dimensions of the output.
    pub operands: Vec<(OperandWalk, Vec<i64>)>,
    pub factor_slot: usize,
}

impl PlannedEpilogue {
    /// The part of the epilogue on which code depends.
    pub fn code(&self) -> Epilogue {
        Epilogue {
            steps: self.steps.iter().map(|step| step.map_factor(ValuedFactor::code)).collect(),
            requantize: self.requantize.map(ValuedFactor::code),
            factor_slot: self.factor_slot,
            small: self.small,
        }
    }

    /// Removes all steps, because the kernel applies them by other means.
    pub fn forget_steps(&mut self) {
        *self = PlannedEpilogue::default();
    }

    /// Removes a final ReLU that clamping to codes makes redundant: only positive factors follow it, and the lowest code represents 0.
    fn simplify(&mut self, codes: Option<Codes>) {
        let Some(codes) = codes else { return };
        if codes.zero != 0 || self.requantize.is_some_and(|f| f.value.is_nan() || f.value <= 0.0) {
            return;
        }
        let tail = self.steps.iter().rev().take_while(|s| matches!(s, ValuedStep::Scale(f) if f.value > 0.0)).count();
        let at = self.steps.len() - tail;
        if at > 0 && self.steps[at - 1] == ValuedStep::Unary(Unary::Relu) {
            self.steps.remove(at - 1);
        }
    }
}

impl Builder<'_> {
    /// The epilogue of a step whose lanes run along `lane_dim` of its output. `pairs_align` says that groups of lanes always start at even
    /// positions, so that row offsets can be read. `bound` is a bound on the magnitude of the values before the epilogue.
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
            ValuedFactor { value, number: factors.len() - 1 }
        };
        let mut epilogue =
            PlannedEpilogue { requantize: step.epilogue.requantize.map(&mut factor), ..PlannedEpilogue::default() };
        let mut operands = Vec::new();
        let mut operand_bounds = Vec::new();
        for item in &step.epilogue.steps {
            let item = item.try_map_operand(|operand| {
                operands.push(self.operand(step, operand, slots, &output.dims, lane_dim, pairs_align)?);
                operand_bounds.push(self.operand_bound(operand));
                Ok::<_, JitError>(operands.len() - 1)
            })?;
            epilogue.steps.push(item.map_factor(&mut factor));
        }
        let bound = bounds::after(&epilogue.steps, bound, &operand_bounds);
        epilogue.small = bounds::are_small(bound, epilogue.requantize.map(|f| f.value));
        epilogue.simplify(Codes::of(&output.format));
        if !factors.is_empty() {
            epilogue.factor_slot = slots.add(Slot::Constant(self.constants.push(&factors)));
        }
        self.bounds[step.output.0 as usize] = bound;
        epilogue.operands = operands;
        Ok(epilogue)
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

    /// A bound on the magnitude of a tensor's elements: of floats, or of codes minus their zero-point.
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
