//! A planned program with every slot placed: what both ways of compiling, to memory and to an object file, start from.

use crate::error::JitError;
use crate::limits::{Limits, within};
use crate::parallel_for::cycles;
use crate::plan::constants::{self, Constants};
use crate::plan::planner::{Planned, plan};
use crate::plan::wish::Wish;
use crate::plan::{PlanStep, Slot, memory};
use crate::verify::{Extent, Surroundings};
use catc_kernels::KernelSet;
use catc_program::{Format, Port, Program};

/// A slot that is ready to be resolved: a base and an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pointer {
    Activations(usize),
    Constants(usize),
    Input(usize),
    Scratch,
}

/// A step and where its slots point.
pub(crate) struct ArrangedStep {
    pub step: PlanStep,
    pub slots: Vec<Pointer>,
    /// The memory behind each slot.
    extents: Vec<Extent>,
    /// Cycles on one thread, roughly.
    pub cycles: f64,
}

impl ArrangedStep {
    /// What the step's code is checked against.
    pub fn surroundings<'a>(&'a self, constants: &'a Constants) -> Surroundings<'a> {
        Surroundings { slots: &self.step.slots, constants, extents: &self.extents, units: self.step.units }
    }
}

/// An input or output of one image.
#[derive(Clone, Debug)]
pub(crate) struct PortShape {
    pub name: String,
    pub elements: usize,
    /// Whether elements are indices (i32), not floats.
    pub index: bool,
}

/// A program ready to be emitted.
pub(crate) struct Arranged {
    /// In the order of their calls.
    pub steps: Vec<ArrangedStep>,
    pub constants: Constants,
    pub inputs: Vec<PortShape>,
    pub outputs: Vec<(PortShape, Pointer)>,
    pub activation_bytes: usize,
    /// The most scratch memory of a step.
    pub scratch_bytes: usize,
}

/// Validates, plans and places a program for a set of kernels.
pub(crate) fn arrange(
    program: &Program,
    kernels: KernelSet,
    limits: &Limits,
    wishes: &[Wish],
) -> Result<Arranged, JitError> {
    program.validate()?;
    let Planned { steps, constants, regions, outputs } = plan(program, kernels, limits, wishes)?;
    let (offsets, activation_bytes) = memory::plan(&regions);
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
    let steps: Vec<ArrangedStep> = steps
        .into_iter()
        .map(|step| {
            let slots = step.slots.iter().map(resolve).collect();
            let extents: Vec<Extent> = step.slots.iter().map(|slot| extent(slot, step.scratch)).collect();
            let moved = step.slots.iter().zip(&extents).filter(|(s, _)| matches!(s, Slot::Region(_) | Slot::Input(_)));
            let cycles = cycles(step.kernel, step.macs, moved.map(|(_, extent)| extent.bytes).sum());
            ArrangedStep { step, slots, extents, cycles }
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
    Ok(Arranged {
        scratch_bytes,
        steps,
        constants,
        inputs: program.inputs.iter().map(port).collect(),
        outputs: output_ports,
        activation_bytes,
    })
}
