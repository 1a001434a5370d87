//! Lowers a program step by step.

use super::bands;
use super::bounds;
use super::constants::Constants;
use super::forms::{Assignment, Forms, assign};
use super::memory::Region;
use super::wish::{TileWish, Wish};
use super::{Placed, PlanStep, Slot, StepCode};
use crate::buffer::{Buffer, Codes, Form, Halo};
use crate::emit::epilogue::{Epilogue, Factor};
use crate::error::JitError;
use crate::limits::{Limits, within};
use crate::steps;
use catc_kernels::{Choice, KernelId, KernelSet};
use catc_program::{Constant, ConstantData, ConstantId, Operand, Program, Step, TensorId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;

/// What a step needs of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// The one form it reads; any if `None`.
    pub form: Option<Form>,
    /// The least padding.
    pub halo: Halo,
    /// Whether it may read past elements, which the caller's memory does not allow.
    pub reads_past: bool,
}

impl Need {
    /// Anything.
    pub const ANY: Need = Need { form: None, halo: Halo::NONE, reads_past: false };
    /// Anything but row offsets.
    pub fn plain(buffer_format: &catc_program::Format) -> Need {
        Need { form: Some(Form::plain(buffer_format)), ..Need::ANY }
    }
}

/// An operand of an epilogue: the memory, and how to walk it along the dimensions of the step's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OperandWalk {
    /// Slot of the step's function.
    pub slot: usize,
    /// How an element is stored.
    pub form: Form,
    /// Bytes before the first element.
    pub origin: i64,
    /// Zero-point of codes.
    pub zero: i32,
    /// The highest of codes, counted from the lowest.
    pub levels: u8,
}

/// An epilogue as planned: the steps, and for each operand its walk and its strides (half bytes) along the output's dimensions.
#[derive(Clone, Debug)]
pub(crate) struct PlannedEpilogue {
    /// The steps.
    pub epilogue: Epilogue,
    /// Operands by number.
    pub operands: Vec<(OperandWalk, Vec<i64>)>,
}

/// The slots of one function, growing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
}

impl Slots {
    /// All of them, by number.
    pub fn as_slice(&self) -> &[Slot] {
        &self.slots
    }

    /// The number of a slot, added if it is new.
    pub fn add(&mut self, slot: Slot) -> usize {
        self.slots.iter().position(|&s| s == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        })
    }
}

/// The state of lowering.
pub(crate) struct Planner<'p> {
    /// The program.
    pub program: &'p Program,
    /// The kernels that steps may use.
    pub kernels: KernelSet,
    /// What is asked of the present step's tile.
    pub tile: TileWish,
    /// All constants so far.
    pub constants: Constants,
    /// Where weights lie once packed, by the constant and all that their packing depends on: layers may share weights.
    packed: HashMap<(ConstantId, String), [usize; 2]>,
    convs: Vec<Option<Choice>>,
    assignments: Vec<Assignment>,
    placed: Vec<Option<Placed>>,
    copies: Vec<(TensorId, Placed)>,
    regions: Vec<usize>,
    bounds: Vec<Option<f32>>,
    steps: Vec<PlanStep>,
}

/// A lowered program.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Functions to call, in order.
    pub steps: Vec<PlanStep>,
    /// All constants.
    pub constants: Constants,
    /// Regions with their lifetimes.
    pub regions: Vec<Region>,
    /// Where each program output lies.
    pub outputs: Vec<Placed>,
}

/// About the bytes that constants take once packed: codes as bytes, those of 3x3 filters almost twice.
fn room(program: &Program) -> usize {
    let bytes = |c: &Constant| match &c.data {
        ConstantData::F32(values) => 4 * values.len(),
        ConstantData::Codes { codes, .. } => 2 * codes.len(),
    };
    program.constants.iter().map(|c| bytes(c) + bytes(c) / 8 + 1024).sum()
}

/// Lowers a whole program.
pub(crate) fn plan(
    program: &Program,
    kernels: KernelSet,
    limits: &Limits,
    wishes: &[Wish],
) -> Result<Planned, JitError> {
    let stored: usize = program.constants.iter().map(|c| c.data.stored_bytes()).sum();
    let most_packed = limits.memory.saturating_add(Limits::PACKED.saturating_mul(stored as u64));
    let Forms { tensors, convs } = assign(program, kernels, wishes)?;
    let mut planner = Planner {
        program,
        kernels,
        tile: TileWish::Cheapest,
        constants: Constants::with_room(room(program))?,
        packed: HashMap::new(),
        convs,
        assignments: tensors,
        placed: vec![None; program.tensors.len()],
        copies: Vec::new(),
        regions: Vec::new(),
        bounds: vec![None; program.tensors.len()],
        steps: Vec::new(),
    };
    for (number, port) in program.inputs.iter().enumerate() {
        let buffer =
            Buffer::new(program.tensor(port.tensor), Form::plain(&program.tensor(port.tensor).format), Halo::NONE)?;
        planner.placed[port.tensor.0 as usize] = Some(Placed { slot: Slot::Input(number), buffer });
    }
    for (number, step) in program.steps.iter().enumerate() {
        let conv = planner.convs[number].take();
        planner.tile = wishes.get(number).map_or(TileWish::Cheapest, |wish| wish.tile);
        let before = planner.steps.len();
        steps::lower(&mut planner, step, conv)?;
        within("bytes of packed weights", planner.constants.len() as u64, "memory", most_packed)?;
        for step_code in &mut planner.steps[before..] {
            step_code.source = Some(number);
            if step_code.op.is_empty() {
                step_code.op = step.op.name();
            }
        }
    }
    planner.finish()
}

impl Planner<'_> {
    fn finish(mut self) -> Result<Planned, JitError> {
        let mut outputs = Vec::new();
        for port in &self.program.outputs {
            let placed = self.placed[port.tensor.0 as usize].clone();
            outputs.push(placed.ok_or_else(|| JitError::invalid(&port.name, "this output is never written"))?);
        }
        let kept: Vec<usize> = outputs
            .iter()
            .filter_map(|o| if let Slot::Region(region) = o.slot { Some(region) } else { None })
            .collect();
        self.steps = bands::join(self.steps, &mut self.regions, &kept);
        let end = self.steps.len();
        let mut regions: Vec<Region> =
            self.regions.iter().map(|&bytes| Region { bytes, first: end, last: 0 }).collect();
        for (at, step) in self.steps.iter().enumerate() {
            for &region in &step.regions {
                regions[region].first = regions[region].first.min(at);
                regions[region].last = regions[region].last.max(at);
            }
        }
        for output in &outputs {
            if let Slot::Region(region) = output.slot {
                regions[region].last = end;
            }
        }
        Ok(Planned { steps: self.steps, constants: self.constants, regions, outputs })
    }

    fn region(&mut self, bytes: usize) -> Slot {
        self.regions.push(bytes);
        Slot::Region(self.regions.len() - 1)
    }

    /// Two constants that `make` packs of weights and appends, unless weights of that constant were packed with the same `key`.
    pub fn packed(
        &mut self,
        weights: ConstantId,
        key: impl Debug,
        make: impl FnOnce(&mut Constants) -> Result<[usize; 2], JitError>,
    ) -> Result<[usize; 2], JitError> {
        match self.packed.entry((weights, format!("{key:?}"))) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(entry) => Ok(*entry.insert(make(&mut self.constants)?)),
        }
    }

    /// Appends a function.
    pub fn push(&mut self, name: &str, slots: Slots, units: usize, code: impl StepCode + 'static) -> &mut PlanStep {
        let regions = slots.slots.iter().filter_map(|s| if let Slot::Region(r) = s { Some(*r) } else { None });
        let regions = regions.collect();
        self.steps.push(PlanStep {
            name: name.to_string(),
            op: "",
            kernel: None,
            tile: None,
            source: None,
            macs: 0,
            slots: slots.slots,
            units,
            scratch: 0,
            code: Box::new(code),
            regions,
        });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// Memory of a tensor that a step writes.
    pub fn write(&mut self, tensor: TensorId) -> Result<Placed, JitError> {
        let assignment = self.assignments[tensor.0 as usize];
        let buffer = Buffer::new(self.program.tensor(tensor), assignment.form, assignment.halo)?;
        let slot = self.region(buffer.bytes);
        let placed = Placed { slot, buffer };
        self.placed[tensor.0 as usize] = Some(placed.clone());
        Ok(placed)
    }

    /// A view of another tensor: the same memory under other dimensions.
    pub fn view(&mut self, from: TensorId, to: TensorId) -> Result<(), JitError> {
        let source = self.placed(from)?;
        let decl = self.program.tensor(to);
        let buffer = Buffer::new(decl, source.buffer.form, Halo::NONE)?;
        if buffer.len() != source.buffer.len() || buffer.bytes != source.buffer.bytes || !source.buffer.is_dense() {
            return Err(JitError::invalid(&decl.name, "a view of a tensor of another size"));
        }
        self.placed[to.0 as usize] = Some(Placed { slot: source.slot, buffer });
        Ok(())
    }

    fn placed(&self, tensor: TensorId) -> Result<Placed, JitError> {
        let placed = self.placed[tensor.0 as usize].clone();
        placed.ok_or_else(|| JitError::invalid(&self.program.tensor(tensor).name, "read before it is written"))
    }

    /// Memory of a tensor in a form that a step can read, converted if it must be.
    pub fn read(&mut self, tensor: TensorId, need: Need) -> Result<Placed, JitError> {
        let fits = |placed: &Placed| {
            let form = need.form.is_none_or(|f| f == placed.buffer.form);
            let halo = placed.buffer.halo.union(need.halo) == placed.buffer.halo;
            form && halo && !(need.reads_past && matches!(placed.slot, Slot::Input(_)))
        };
        let primary = self.placed(tensor)?;
        if fits(&primary) {
            return Ok(primary);
        }
        if let Some((_, copy)) = self.copies.iter().find(|(t, p)| *t == tensor && fits(p)) {
            return Ok(copy.clone());
        }
        let form = need.form.unwrap_or(primary.buffer.form);
        let buffer = Buffer::new(self.program.tensor(tensor), form, need.halo)?;
        let slot = self.region(buffer.bytes);
        let copy = Placed { slot, buffer };
        steps::copy::convert(self, &self.program.tensor(tensor).name.clone(), &primary, &copy)?;
        self.copies.push((tensor, copy.clone()));
        Ok(copy)
    }

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
            let item = item.try_map_operand(|operand| {
                operands.push(self.operand(step, operand, slots, &output.dims, lane_dim, pairs_align)?);
                operand_bounds.push(self.operand_bound(operand));
                Ok::<_, JitError>(operands.len() - 1)
            })?;
            epilogue.steps.push(item.map_factor(&mut factor));
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
                return Ok((OperandWalk { slot, form: Form::Float, origin: 0, zero: 0, levels: 0 }, strides));
            }
            Operand::Tensor(tensor) => tensor,
        };
        let decl = self.program.tensor(tensor);
        let mut placed = self.read(tensor, Need::ANY)?;
        let mut strides = broadcast(&step.name, &placed.buffer.dims, &placed.buffer.strides, dims)?;
        let along = strides.get(lane_dim).copied().unwrap_or(0);
        let shifted = strides.iter().enumerate().any(|(dim, &s)| dim != lane_dim && s % 2 != 0);
        if placed.buffer.form == Form::RowOffset && (!pairs_align || along != 1 || shifted) {
            placed = self.read(tensor, Need::plain(&decl.format))?;
            strides = broadcast(&step.name, &placed.buffer.dims, &placed.buffer.strides, dims)?;
        }
        let Placed { slot, buffer } = placed;
        if buffer.form == Form::Index {
            return Err(JitError::invalid(&step.name, "an operand holds indices"));
        }
        let walk = OperandWalk {
            slot: slots.add(slot),
            form: buffer.form,
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

    /// The values of an f32 constant, or of codes once dequantized.
    pub fn floats(&self, name: &str, id: ConstantId) -> Result<Vec<f32>, JitError> {
        let constant = self.program.constant(id);
        let count: usize = constant.dims.iter().product();
        if constant.data.len() != count {
            return Err(JitError::invalid(name, "a constant does not have as many elements as its dimensions say"));
        }
        match &constant.data {
            ConstantData::F32(values) => Ok(values.clone()),
            ConstantData::Codes { codes, scale, zero_point } => {
                let slices = scale.len();
                if slices == 0 || zero_point.len() != slices || !count.is_multiple_of(slices) {
                    return Err(JitError::invalid(name, "a constant has neither one scale nor one for each slice"));
                }
                let each = (count / slices).max(1);
                let value = |(i, &code): (usize, &i16)| {
                    let slice = i / each;
                    scale[slice] * (i32::from(code) - zero_point[slice]) as f32
                };
                Ok(codes.to_vec().iter().enumerate().map(value).collect())
            }
        }
    }

    /// The values of an f32 constant with one value per output channel.
    pub fn channel_floats(&self, name: &str, id: ConstantId, channels: usize) -> Result<Vec<f32>, JitError> {
        let values = self.floats(name, id)?;
        if values.len() != channels {
            return Err(JitError::invalid(name, "multiplier or bias has not one value per output channel"));
        }
        Ok(values)
    }
}

impl PlanStep {
    /// Notes the kernel and its work.
    pub fn with_kernel(&mut self, kernel: KernelId, macs: u64) -> &mut Self {
        self.kernel = Some(kernel);
        self.macs = macs;
        self
    }
}

/// The largest magnitude; infinite if a value is NaN.
pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| if v.is_nan() { f32::INFINITY } else { v.abs().max(most) })
}

/// Strides of an operand along the dimensions of an output it broadcasts to.
pub(crate) fn broadcast(name: &str, own: &[usize], strides: &[i64], dims: &[usize]) -> Result<Vec<i64>, JitError> {
    let error = || JitError::invalid(name, format!("an operand of dimensions {own:?} does not broadcast to {dims:?}"));
    let missing = dims.len().checked_sub(own.len());
    // An operand may have leading dimensions of 1 that the output lacks.
    let surplus = own.len().saturating_sub(dims.len());
    if own[..surplus].iter().any(|&d| d != 1) {
        return Err(error());
    }
    let mut result = vec![0; dims.len()];
    for (i, (&size, &stride)) in own.iter().zip(strides).enumerate().skip(surplus) {
        let dim = i - surplus + missing.unwrap_or(0);
        if size == dims[dim] {
            result[dim] = if size == 1 { 0 } else { stride };
        } else if size != 1 {
            return Err(error());
        }
    }
    Ok(result)
}
