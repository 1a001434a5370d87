//! The state of lowering: the constants, placed tensors and functions so far.

mod bounds;
pub(crate) mod constants;
mod convert;
mod epilogue;
mod slots;
mod step;

#[cfg(test)]
pub(crate) use epilogue::ValuedFactor;
pub(crate) use epilogue::{OperandWalk, PlannedEpilogue, ValuedStep, largest};
pub(crate) use slots::Slots;
pub(crate) use step::UnplacedStep;
pub use step::Work;

use crate::emit::{SharedCode, StepCode};
use crate::error::JitError;
use crate::storage::{Assignment, Buffer, Halo, Placed, Slot, StorageFormat};
use catc_kernels::{KernelRef, KernelSet, TileOverride, WeightLayout};
use catc_program::{Constant, ConstantData, ConstantId, Program, TensorId};
use constants::Constants;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The requirements of a step on the storage of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// The only format that it can read; any if `None`.
    pub format: Option<StorageFormat>,
    /// The least halo.
    pub halo: Halo,
    /// Whether it may read past the last element, which inputs of the program do not allow, because their memory is the caller's.
    pub reads_past: bool,
}

impl Need {
    /// No requirements.
    pub const ANY: Need = Need { format: None, halo: Halo::NONE, reads_past: false };
    /// The plain storage format of a tensor's format: not row offsets.
    pub fn plain(buffer_format: &catc_program::Format) -> Need {
        Need { format: Some(StorageFormat::plain(buffer_format)), ..Need::ANY }
    }
}

/// Everything on which the packing of a constant depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackingKey {
    /// The constant.
    pub weights: ConstantId,
    /// The kernel.
    pub kernel: KernelRef,
    /// The order of the weights, for kernels with several orders.
    pub layout: Option<WeightLayout>,
    /// Zero-point and highest code of the activations.
    pub activations: (i32, u8),
}

/// The state of lowering.
pub(crate) struct Builder<'p> {
    /// The program.
    pub program: &'p Program,
    /// The kernels that steps may use.
    pub kernels: KernelSet,
    /// The requested tile of the present step.
    pub tile: TileOverride,
    /// All constants so far.
    pub constants: Constants,
    packed: HashMap<PackingKey, [usize; 2]>,
    assignments: Vec<Assignment>,
    placed: Vec<Option<Placed>>,
    copies: Vec<(TensorId, Placed)>,
    regions: Vec<usize>,
    bounds: Vec<Option<f32>>,
    steps: Vec<UnplacedStep>,
    /// The number of the program's step that is being lowered.
    source: usize,
}

/// A lowered program.
#[derive(Debug)]
pub(crate) struct Lowered {
    /// Functions to call, in order.
    pub steps: Vec<UnplacedStep>,
    /// All constants.
    pub constants: Constants,
    /// Bytes of each region.
    pub regions: Vec<usize>,
    /// The slot and layout of each program output.
    pub outputs: Vec<Placed>,
}

/// Estimated bytes of the packed constants, with two bytes per code: Winograd kernels with 2x2 tiles take almost two, most others one.
fn room(program: &Program) -> usize {
    let bytes = |c: &Constant| match &c.data {
        ConstantData::F32(values) => 4 * values.len(),
        ConstantData::Codes { codes, .. } => 2 * codes.len(),
    };
    program.constants.iter().map(|c| bytes(c) + bytes(c) / 8 + 1024).sum()
}

impl<'p> Builder<'p> {
    /// For a program whose tensors are stored as assigned. Places the program's inputs.
    pub fn new(program: &'p Program, kernels: KernelSet, assignments: Vec<Assignment>) -> Result<Self, JitError> {
        let mut placed = vec![None; program.tensors.len()];
        for (number, port) in program.inputs.iter().enumerate() {
            let decl = program.tensor(port.tensor);
            let buffer = Buffer::new(decl, StorageFormat::plain(&decl.format), Halo::NONE)?;
            placed[port.tensor.0 as usize] = Some(Placed { slot: Slot::Input(number), buffer });
        }
        Ok(Builder {
            program,
            kernels,
            tile: TileOverride::Cheapest,
            constants: Constants::with_room(room(program))?,
            packed: HashMap::new(),
            assignments,
            placed,
            copies: Vec::new(),
            regions: Vec::new(),
            bounds: vec![None; program.tensors.len()],
            steps: Vec::new(),
            source: 0,
        })
    }

    /// Begins step number `source` of the program, for which `tile` is requested. Functions that are appended next belong to it.
    pub fn begin(&mut self, source: usize, tile: TileOverride) {
        (self.source, self.tile) = (source, tile);
    }

    /// Completes lowering.
    ///
    /// # Errors
    /// If an output was never written.
    pub fn finish(self) -> Result<Lowered, JitError> {
        let mut outputs = Vec::new();
        for port in &self.program.outputs {
            let placed = self.placed[port.tensor.0 as usize].clone();
            outputs.push(placed.ok_or_else(|| JitError::invalid(&port.name, "this output is never written"))?);
        }
        Ok(Lowered { steps: self.steps, constants: self.constants, regions: self.regions, outputs })
    }

    fn region(&mut self, bytes: usize) -> Slot {
        self.regions.push(bytes);
        Slot::Region(self.regions.len() - 1)
    }

    /// The offsets of two constants that `make` packs from weights and appends. If a layer has packed weights with the same key, its constants
    /// are shared.
    pub fn packed(
        &mut self,
        key: PackingKey,
        make: impl FnOnce(&mut Constants) -> Result<[usize; 2], JitError>,
    ) -> Result<[usize; 2], JitError> {
        match self.packed.entry(key) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(entry) => Ok(*entry.insert(make(&mut self.constants)?)),
        }
    }

    /// Appends a function of the present step.
    pub fn push(&mut self, name: &str, slots: Slots, units: usize, code: impl StepCode + 'static) -> &mut UnplacedStep {
        let op = self.program.steps[self.source].op.name();
        self.steps.push(UnplacedStep {
            name: name.to_string(),
            op,
            work: vec![Work { source: self.source, kernel: None, tile: None, macs: 0, cycles: None }],
            regions: slots.regions(),
            slots: slots.into_vec(),
            units,
            scratch: 0,
            code: SharedCode::new(code),
        });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// Allocates memory for a tensor that a step writes.
    pub fn write(&mut self, tensor: TensorId) -> Result<Placed, JitError> {
        let assignment = self.assignments[tensor.0 as usize];
        let buffer = Buffer::new(self.program.tensor(tensor), assignment.format, assignment.halo)?;
        let slot = self.region(buffer.bytes);
        let placed = Placed { slot, buffer };
        self.placed[tensor.0 as usize] = Some(placed.clone());
        Ok(placed)
    }

    /// Places a view of another tensor: the same memory with other dimensions.
    pub fn view(&mut self, from: TensorId, to: TensorId) -> Result<(), JitError> {
        let source = self.placed(from)?;
        let decl = self.program.tensor(to);
        let buffer = Buffer::new(decl, source.buffer.format, Halo::NONE)?;
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

    /// The memory of a tensor in a layout that a step can read. Appends a conversion if necessary.
    pub fn read(&mut self, tensor: TensorId, need: Need) -> Result<Placed, JitError> {
        let fits = |placed: &Placed| {
            let format = need.format.is_none_or(|f| f == placed.buffer.format);
            let halo = placed.buffer.halo.union(need.halo) == placed.buffer.halo;
            format && halo && !(need.reads_past && matches!(placed.slot, Slot::Input(_)))
        };
        let primary = self.placed(tensor)?;
        if fits(&primary) {
            return Ok(primary);
        }
        if let Some((_, copy)) = self.copies.iter().find(|(t, p)| *t == tensor && fits(p)) {
            return Ok(copy.clone());
        }
        let format = need.format.unwrap_or(primary.buffer.format);
        let buffer = Buffer::new(self.program.tensor(tensor), format, need.halo)?;
        let slot = self.region(buffer.bytes);
        let copy = Placed { slot, buffer };
        self.convert(&self.program.tensor(tensor).name, &primary, &copy);
        self.copies.push((tensor, copy.clone()));
        Ok(copy)
    }

    /// The values of an f32 constant, or the dequantized values of codes.
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
