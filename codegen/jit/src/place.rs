//! Lowers a program and places every slot in memory. Compiling to memory and compiling to an object file both start from the result.

use crate::assign::overrides::KernelOverride;
use crate::assign::{Assigned, assign};
use crate::builder::constants::{self, Constants};
use crate::builder::{Builder, Lowered, UnplacedStep};
use crate::error::JitError;
use crate::limits::{Limits, within};
use crate::memory::{self, Region};
use crate::parallel_for::cycles;
use crate::row_fusion;
use crate::steps;
use crate::storage::{Placed, Slot};
use crate::verify::{Extent, Surroundings};
use catc_kernels::{KernelSet, TileOverride};
use catc_program::{Format, Port, Program};

/// The place of a slot: a base and an offset in bytes, or the number of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pointer {
    Activations(usize),
    Constants(usize),
    Input(usize),
    Scratch,
}

/// A step with the places of its slots.
pub(crate) struct PlacedStep {
    pub step: UnplacedStep,
    pub slots: Vec<Pointer>,
    /// The memory behind each slot.
    extents: Vec<Extent>,
    /// Estimated cycles on one thread.
    pub cycles: f64,
}

impl PlacedStep {
    /// The information that the verifier needs besides the step's code.
    pub fn surroundings<'a>(&'a self, constants: &'a Constants) -> Surroundings<'a> {
        Surroundings { slots: &self.step.slots, constants, extents: &self.extents, units: self.step.units }
    }
}

/// An input or output of one image.
#[derive(Clone, Debug)]
pub(crate) struct PortShape {
    pub name: String,
    pub elements: usize,
    /// Whether elements are indices (i32) instead of floats.
    pub index: bool,
}

/// A program that is ready to be emitted.
pub(crate) struct PlacedProgram {
    /// The steps in the order of their calls.
    pub steps: Vec<PlacedStep>,
    pub constants: Constants,
    pub inputs: Vec<PortShape>,
    pub outputs: Vec<(PortShape, Pointer)>,
    pub activation_bytes: usize,
    /// The most scratch memory of a step.
    pub scratch_bytes: usize,
}

/// Lowers a validated program step by step.
fn lower(
    program: &Program,
    kernels: KernelSet,
    limits: &Limits,
    overrides: &[KernelOverride],
) -> Result<Lowered, JitError> {
    let stored: usize = program.constants.iter().map(|c| c.data.stored_bytes()).sum();
    let max_packed = limits.memory.saturating_add(Limits::PACKED.saturating_mul(stored as u64));
    let Assigned { tensors, convs } = assign(program, kernels, overrides, max_packed)?;
    let mut builder = Builder::new(program, kernels, tensors)?;
    for (number, (step, conv)) in program.steps.iter().zip(convs).enumerate() {
        builder.begin(number, overrides.get(number).map_or(TileOverride::Cheapest, |asked| asked.tile));
        steps::lower(&mut builder, step, conv)?;
        within("bytes of packed weights", builder.constants.len() as u64, "memory", max_packed)?;
    }
    builder.finish()
}

/// Joins steps, and determines the first and the last step that access each region.
fn with_lifetimes(
    steps: Vec<UnplacedStep>,
    mut bytes: Vec<usize>,
    outputs: &[Placed],
) -> (Vec<UnplacedStep>, Vec<Region>) {
    let region = |output: &Placed| if let Slot::Region(region) = output.slot { Some(region) } else { None };
    let kept: Vec<usize> = outputs.iter().filter_map(region).collect();
    let steps = row_fusion::join(steps, &mut bytes, &kept);
    let end = steps.len();
    let mut regions: Vec<Region> = bytes.into_iter().map(|bytes| Region { bytes, first: end, last: 0 }).collect();
    for (at, step) in steps.iter().enumerate() {
        for &region in &step.regions {
            regions[region].first = regions[region].first.min(at);
            regions[region].last = regions[region].last.max(at);
        }
    }
    for region in kept {
        regions[region].last = end;
    }
    (steps, regions)
}

/// Validates, lowers and places a program for a set of kernels.
pub(crate) fn place(
    program: &Program,
    kernels: KernelSet,
    limits: &Limits,
    overrides: &[KernelOverride],
) -> Result<PlacedProgram, JitError> {
    program.validate()?;
    let Lowered { steps, constants, regions, outputs } = lower(program, kernels, limits, overrides)?;
    let (steps, regions) = with_lifetimes(steps, regions, &outputs);
    let (offsets, activation_bytes) = memory::place(&regions);
    let resolve = |slot: &Slot| match *slot {
        Slot::Region(region) => Pointer::Activations(offsets[region]),
        Slot::Constant(at) => Pointer::Constants(at),
        Slot::Input(number) => Pointer::Input(number),
        Slot::Scratch => Pointer::Scratch,
    };
    let extent = |slot: &Slot, scratch: usize| match *slot {
        Slot::Region(region) => Extent { bytes: regions[region].bytes, slack: memory::SLACK, writable: true },
        Slot::Input(number) => {
            Extent { bytes: 4 * program.tensor(program.inputs[number].tensor).len(), slack: 0, writable: false }
        }
        Slot::Constant(at) => {
            Extent { bytes: constants.entry(at).unwrap_or(0), slack: constants::SLACK, writable: false }
        }
        Slot::Scratch => Extent { bytes: scratch, slack: 0, writable: true },
    };
    let steps: Vec<PlacedStep> = steps
        .into_iter()
        .map(|step| {
            let slots = step.slots.iter().map(resolve).collect();
            let extents: Vec<Extent> = step.slots.iter().map(|slot| extent(slot, step.scratch)).collect();
            let moved = step.slots.iter().zip(&extents).filter(|(s, _)| matches!(s, Slot::Region(_) | Slot::Input(_)));
            let cycles = cycles(&step.work, moved.map(|(_, extent)| extent.bytes).sum());
            PlacedStep { step, slots, extents, cycles }
        })
        .collect();
    let port = |port: &Port| {
        let decl = program.tensor(port.tensor);
        PortShape { name: port.name.clone(), elements: decl.len(), index: decl.format == Format::Index }
    };
    let mut output_ports = Vec::new();
    for (declared, placed) in program.outputs.iter().zip(&outputs) {
        if placed.buffer.codes.is_some() {
            return Err(JitError::invalid(&declared.name, "an output holds codes"));
        }
        let port = port(declared);
        if extent(&placed.slot, 0).bytes < 4 * port.elements {
            return Err(JitError::invalid(&declared.name, "an output is larger than its memory"));
        }
        output_ports.push((port, resolve(&placed.slot)));
    }
    if let Some(input) = program.inputs.iter().find(|i| matches!(program.tensor(i.tensor).format, Format::Codes { .. }))
    {
        return Err(JitError::invalid(&input.name, "an input holds codes"));
    }
    let scratch_bytes = steps.iter().map(|s| s.step.scratch).max().unwrap_or(0);
    within("bytes of activations for an image", (activation_bytes + scratch_bytes) as u64, "memory", limits.memory)?;
    Ok(PlacedProgram {
        scratch_bytes,
        steps,
        constants,
        inputs: program.inputs.iter().map(port).collect(),
        outputs: output_ports,
        activation_bytes,
    })
}
