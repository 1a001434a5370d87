//! The choice of each convolution's kernel by `catc_kernels`. It is made once for each layer, and is final.

use crate::error::JitError;
use crate::limits::within;
use crate::storage::{Buffer, Codes, Halo, StorageFormat, broadcast, image, lane_access};
use crate::weights::{PreparedWeights, conv_shape};
use catc_kernels::epilogue::{OperandAccess, OperandElement, epilogue_steps};
use catc_kernels::{
    Choice, CodeOperands, EpilogueQuery, Execution, KernelRef, KernelSet, Query, Refusal, Window, candidates, choose,
};
use catc_program::{ConstantData, ConstantId, Format, Geometry, Op, Operand, Program, Step};
use std::collections::HashMap;
use std::rc::Rc;

/// The decisions for a convolution.
#[derive(Clone, Debug)]
pub(crate) struct ConvAssignment {
    /// Its kernel.
    pub choice: Choice,
    /// Its weights, if they are codes.
    pub weights: Option<Rc<PreparedWeights>>,
}

/// Layers with the same constant and the same number of groups have the same weights.
type WeightKey = (ConstantId, usize);

/// The choices for a program. Weights that several layers share are unpacked once.
pub(crate) struct Choices<'p> {
    program: &'p Program,
    kernels: KernelSet,
    /// Whether each tensor is an input of the program, or views one.
    inputs: Vec<bool>,
    prepared: HashMap<WeightKey, Rc<PreparedWeights>>,
    bytes: u64,
    max_bytes: u64,
}

impl<'p> Choices<'p> {
    /// For a program, before any choice. Unpacked weights may take at most `max_bytes` bytes.
    pub fn new(program: &'p Program, kernels: KernelSet, max_bytes: u64) -> Choices<'p> {
        let mut inputs = vec![false; program.tensors.len()];
        for port in &program.inputs {
            inputs[port.tensor.0 as usize] = true;
        }
        for step in program.steps.iter().filter(|step| step.op == Op::View) {
            inputs[step.output.0 as usize] = inputs[step.inputs[0].0 as usize];
        }
        Choices { program, kernels, inputs, prepared: HashMap::new(), bytes: 0, max_bytes }
    }

    /// The kernel of a step, if the step is a convolution: the requested one if it serves the layer, else the cheapest.
    ///
    /// # Errors
    /// If the layer contradicts itself or no kernel serves it.
    pub fn choose(&mut self, step: &Step, asked: Option<KernelRef>) -> Result<Option<ConvAssignment>, JitError> {
        self.query(step, |query, weights| {
            let asked = asked.and_then(|kernel| candidates(query).into_iter().find(|choice| choice.kernel == kernel));
            let choice = match asked {
                Some(choice) => choice,
                None => choose(query).map_err(|reason| JitError::invalid(&step.name, reason.to_string()))?,
            };
            if query.largest_raw_sum() > i32::MAX as u64 {
                return Err(JitError::invalid(&step.name, "its sums do not fit 32 bits"));
            }
            Ok(ConvAssignment { choice, weights })
        })
    }

    /// Calls `answer` with the query of a step, if it is a convolution, and with its weights, if they are codes.
    pub fn query<R>(
        &mut self,
        step: &Step,
        answer: impl FnOnce(&Query<'_>, Option<Rc<PreparedWeights>>) -> Result<R, JitError>,
    ) -> Result<Option<R>, JitError> {
        let (Op::Conv { geometry, .. } | Op::FloatConv { geometry, .. }) = &step.op else { return Ok(None) };
        let (_, height, width) = image(self.program, step.output)?;
        let Geometry { strides, dilations, .. } = *geometry;
        let window = Window { strides, dilations, output: [height, width] };
        let epilogue = EpilogueQuery {
            precompiled: precompiled_epilogue(self.program, step, &self.inputs)?,
            smallest_multiplier: smallest_multiplier(self.program, step),
        };
        if let Op::FloatConv { groups, weights, .. } = &step.op {
            let shape = conv_shape(&step.name, self.program.constant(*weights), geometry, *groups)?;
            return answer(&Query::floats(shape, window, epilogue, self.kernels), None).map(Some);
        }
        let Format::Codes { signed, bits, zero_point, .. } = self.program.tensor(step.inputs[0]).format else {
            return Err(JitError::invalid(&step.name, "the input of an integer convolution is not codes"));
        };
        let prepared = self.weights(step)?;
        let weights = &prepared.view().map_err(|source| JitError::Weights { step: step.name.clone(), source })?;
        let operands = CodeOperands {
            weights,
            weight_bits: prepared.bits,
            activation_bits: bits,
            activation_zero_point: zero_point - Format::min_code(signed, bits),
        };
        answer(&Query::codes(operands, window, epilogue, self.kernels), Some(prepared.clone())).map(Some)
    }

    fn weights(&mut self, step: &Step) -> Result<Rc<PreparedWeights>, JitError> {
        let Op::Conv { weights, groups, .. } = step.op else {
            return Err(JitError::invalid(&step.name, "not a convolution of codes"));
        };
        if let Some(known) = self.prepared.get(&(weights, groups)) {
            return Ok(known.clone());
        }
        let prepared = Rc::new(PreparedWeights::of(self.program, step, self.kernels)?);
        self.bytes += prepared.bytes() as u64;
        within("bytes of unpacked weights", self.bytes, "memory", self.max_bytes)?;
        self.prepared.insert((weights, groups), prepared.clone());
        Ok(prepared)
    }
}

/// The kernels that serve a step; none if there is nothing to choose, that is, only one kernel without several tiles.
pub(crate) fn kernels_of(choices: &mut Choices<'_>, step: &Step) -> Result<Vec<KernelRef>, JitError> {
    let all = choices
        .query(step, |query, _| Ok(candidates(query).into_iter().map(|choice| choice.kernel).collect::<Vec<_>>()))?;
    let all = all.unwrap_or_default();
    let tiled = |kernel: &KernelRef| matches!(kernel.execution(), Execution::SumTiles(_));
    Ok(if all.len() == 1 && !tiled(&all[0]) { vec![] } else { all })
}

/// Whether the precompiled epilogue supports the epilogue of a step.
fn precompiled_epilogue(program: &Program, step: &Step, inputs: &[bool]) -> Result<Result<(), Refusal>, JitError> {
    let dims = &program.tensor(step.output).dims;
    let mut operands = Vec::new();
    let mut steps = Vec::new();
    for item in &step.epilogue.steps {
        steps.push(item.try_map_operand(|operand| {
            operands.push(operand_access(program, step, operand, dims, inputs)?);
            Ok::<_, JitError>(operands.len() - 1)
        })?);
    }
    Ok(epilogue_steps(&steps, &operands).map(drop))
}

/// The layout that an operand will have along the channels of a step's output.
fn operand_access(
    program: &Program,
    step: &Step,
    operand: Operand,
    dims: &[usize],
    inputs: &[bool],
) -> Result<OperandAccess, JitError> {
    Ok(match operand {
        Operand::Constant(id) => {
            let own = &program.constant(id).dims;
            let mut strides = vec![StorageFormat::Float.half_bytes() as i64; own.len()];
            for i in (1..own.len()).rev() {
                strides[i - 1] = strides[i] * own[i] as i64;
            }
            let along = broadcast(&step.name, own, &strides, dims)?[0];
            let layout = lane_access(StorageFormat::Float, along).along_channels();
            OperandAccess { element: OperandElement::Float, layout, readable: true }
        }
        Operand::Tensor(tensor) => {
            let decl = program.tensor(tensor);
            let buffer = Buffer::new(decl, StorageFormat::plain(&decl.format), Halo::NONE)?;
            let along = broadcast(&step.name, &buffer.dims, &buffer.strides, dims)?[0];
            let layout = lane_access(buffer.format, along).along_channels();
            let element = match Codes::of(&decl.format) {
                Some(codes) => OperandElement::Code { zero: codes.zero.into(), levels: codes.levels },
                None => OperandElement::Float,
            };
            OperandAccess { element, layout, readable: !inputs[tensor.0 as usize] }
        }
    })
}

/// The smallest nonzero magnitude among the multipliers of a step's sums; infinite if there is none.
fn smallest_multiplier(program: &Program, step: &Step) -> f32 {
    let Op::Conv { multiplier, .. } = &step.op else { return f32::INFINITY };
    let ConstantData::F32(values) = &program.constant(*multiplier).data else { return 0.0 };
    values.iter().map(|m| m.abs()).filter(|&m| m != 0.0).fold(f32::INFINITY, f32::min)
}
