//! A compiled program and how it is run.
//!
//! Each step's function gets an array of *slots*: pointers to activation regions, constants, inputs of the program and scratch
//! memory, resolved for each run. So code holds no address, one compiled program serves any number of threads, each with a
//! workspace of its own, and the same functions could be linked from an object file.

use crate::Options;
use crate::assign::overrides::{KernelOverride, overrides};
use crate::block::Block;
use crate::builder::{UnplacedStep, Work};
use crate::code::{Code, CodeBuilder};
use crate::error::JitError;
use crate::limits::Limits;
use crate::parallel_for::ParallelFor;
use crate::place::{PlacedProgram, PlacedStep, Pointer, PortShape, place};
use catc_kernels::{KernelRef, KernelSet, Tier, cpu_name};
use catc_program::{Program, Tuning};
use std::ops::Range;

/// An input tensor of one image, row-major.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Of format f32.
    F32(&'a [f32]),
    /// Of format index.
    Index(&'a [i32]),
}

/// Where an output tensor of one image goes, row-major.
#[derive(Debug)]
pub enum OutputMut<'a> {
    /// Of format f32.
    F32(&'a mut [f32]),
    /// Of format index.
    Index(&'a mut [i32]),
}

/// The activation memory of one run at a time.
pub struct Workspace {
    activations: Block,
    /// Memory that single calls use: one for each worker that shares a step.
    scratch: Vec<Block>,
    bytes: usize,
}

impl Workspace {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A step as compiled.
struct CompiledStep {
    name: String,
    op: &'static str,
    work: Vec<Work>,
    function: usize,
    slots: Range<usize>,
    units: usize,
    /// Cycles on one thread, roughly.
    cycles: f64,
}

/// The slots of all steps, resolved for one worker.
struct Slots(Vec<*mut u8>);

// SAFETY: the pointers are handed to step functions only, whose calls at the same time touch different bytes (see the call).
unsafe impl Sync for Slots {}

impl Slots {
    fn of(&self, step: &CompiledStep) -> *const *mut u8 {
        self.0[step.slots.clone()].as_ptr()
    }
}

/// A function of a compiled program, for reports.
#[derive(Clone, Debug)]
pub struct StepReport<'a> {
    /// The layer's name; of joined layers their names.
    pub name: &'a str,
    /// What it does: the name of the program's operation, or `convert` where a tensor is stored in another format for one of its readers.
    pub op: &'static str,
    /// The steps of the program that it does: one, unless functions were joined.
    pub work: &'a [Work],
    /// The machine code, shared by steps of the same shape.
    pub code: &'a [u8],
}

impl StepReport<'_> {
    /// The inner kernel, if it has one; of joined layers that of the last.
    pub fn kernel(&self) -> Option<&'static str> {
        self.work.last().and_then(|work| work.kernel).map(KernelRef::name)
    }

    /// Multiply-accumulates per image.
    pub fn macs(&self) -> u64 {
        self.work.iter().map(|work| work.macs).sum()
    }
}

/// Machine code for a program, with packed weights and a memory plan.
///
/// It is `Send` and `Sync`: code, constants and plan never change once made, and all memory that a run writes is in the
/// [`Workspace`] or belongs to the caller.
pub struct CompiledProgram {
    code: Code,
    constants: Block,
    constant_bytes: usize,
    steps: Vec<CompiledStep>,
    pointers: Vec<Pointer>,
    inputs: Vec<PortShape>,
    outputs: Vec<(PortShape, Pointer)>,
    activation_bytes: usize,
    scratch_bytes: usize,
    tier: Tier,
    tuned: bool,
}

/// Compiles a program.
///
/// # Errors
/// If the CPU or the tier asked for cannot run the code, or the program contradicts itself.
pub fn compile(program: &Program, options: &Options) -> Result<CompiledProgram, JitError> {
    let tier = available(options.tier)?;
    let kernels = KernelSet { list: options.kernels, ..KernelSet::all(tier) };
    let tuning = tuning_of(program, tier);
    let mut compiled = compile_with(program, kernels, &options.limits, &overrides(program, tuning, kernels))?;
    compiled.tuned = tuning.is_some();
    Ok(compiled)
}

/// Compiles a program for an instruction set of this architecture, which this CPU need not have, and runs nothing of it: that the code
/// stays within its memory is proved all the same.
///
/// # Errors
/// If the program contradicts itself, or the tier belongs to another architecture.
pub fn prove(program: &Program, tier: Tier) -> Result<(), JitError> {
    if Tier::detect().is_none_or(|here| here.architecture() != tier.architecture()) {
        return Err(JitError::Tier { tier });
    }
    compile_with(program, KernelSet::all(tier), &Limits::default(), &[]).map(drop)
}

/// The tier, or the best of this CPU.
pub(crate) fn available(tier: Option<Tier>) -> Result<Tier, JitError> {
    match tier {
        Some(tier) if !tier.is_available() => Err(JitError::Tier { tier }),
        Some(tier) => Ok(tier),
        None => Tier::detect().ok_or(JitError::Cpu),
    }
}

/// What a program holds of measurements on this CPU with that instruction set.
fn tuning_of(program: &Program, tier: Tier) -> Option<&Tuning> {
    let cpu = cpu_name()?;
    program.tunings.iter().find(|tuning| tuning.cpu == cpu && tuning.tier == tier.name())
}

/// Compiles a program for kernels of this CPU, those and their tiles that are asked for among them.
pub(crate) fn compile_with(
    program: &Program,
    kernels: KernelSet,
    limits: &Limits,
    overrides: &[KernelOverride],
) -> Result<CompiledProgram, JitError> {
    let PlacedProgram { steps, constants, inputs, outputs, activation_bytes, scratch_bytes } =
        place(program, kernels, limits, overrides)?;
    let mut builder = CodeBuilder::new(kernels, limits.instructions)?;
    let mut pointers = Vec::new();
    let mut compiled = Vec::with_capacity(steps.len());
    for placed in steps {
        let function = builder.add(&placed.step.name, &placed.step.code, &placed.surroundings(&constants))?;
        let PlacedStep { step, slots, cycles, .. } = placed;
        let UnplacedStep { name, op, work, units, .. } = step;
        let start = pointers.len();
        pointers.extend(slots);
        compiled.push(CompiledStep { name, op, work, function, slots: start..pointers.len(), units, cycles });
    }
    Ok(CompiledProgram {
        code: builder.finish()?,
        constant_bytes: constants.len(),
        constants: constants.into_block(),
        steps: compiled,
        pointers,
        inputs,
        outputs,
        activation_bytes,
        scratch_bytes,
        tier: kernels.tier,
        tuned: false,
    })
}

impl CompiledProgram {
    /// The instruction set the code uses.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether kernels and tiles are those that were measured on this CPU.
    pub fn is_tuned(&self) -> bool {
        self.tuned
    }

    /// Bytes of packed weights and other constants.
    pub fn constant_bytes(&self) -> usize {
        self.constant_bytes
    }

    /// Bytes of a [`Workspace`] for runs that this many workers share.
    pub fn workspace_bytes(&self, workers: usize) -> usize {
        self.activation_bytes + self.scratch_bytes * workers
    }

    /// Bytes of machine code.
    pub fn code_bytes(&self) -> usize {
        let mut seen = vec![false; self.steps.len()];
        let fresh = self.steps.iter().filter(|s| !std::mem::replace(&mut seen[s.function], true));
        fresh.map(|s| self.code.bytes(s.function).len()).sum()
    }

    /// The steps in order.
    pub fn steps(&self) -> impl Iterator<Item = StepReport<'_>> {
        self.steps.iter().map(|s| StepReport {
            name: &s.name,
            op: s.op,
            work: &s.work,
            code: self.code.bytes(s.function),
        })
    }

    /// Memory for runs that up to this many workers (at least one) share.
    pub fn workspace(&self, workers: usize) -> Result<Workspace, JitError> {
        let workers = workers.max(1);
        Ok(Workspace {
            activations: Block::new(self.activation_bytes)?,
            scratch: (0..workers).map(|_| Block::new(self.scratch_bytes)).collect::<Result<_, _>>()?,
            bytes: self.workspace_bytes(workers),
        })
    }

    /// Runs one image on this thread.
    ///
    /// # Errors
    /// If the arrays do not have the sizes and formats of the program's ports, or the workspace is another program's.
    pub fn run(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [OutputMut<'_>],
        workspace: &mut Workspace,
    ) -> Result<(), JitError> {
        self.run_observed(inputs, outputs, workspace, None, |_, call| call())
    }

    /// As [`CompiledProgram::run`], large steps shared by the workers of `parallel` (no more than the workspace is for), which changes no
    /// bit of the outputs; `observe` gets the number of each step and must call what it is handed, so that it can time it.
    pub fn run_observed(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [OutputMut<'_>],
        workspace: &mut Workspace,
        parallel: Option<&dyn ParallelFor>,
        mut observe: impl FnMut(usize, &mut dyn FnMut()),
    ) -> Result<(), JitError> {
        self.check(inputs, outputs, workspace)?;
        let activations = workspace.activations.lines.as_mut_ptr().cast::<u8>();
        let constants = self.constants.lines.as_ptr().cast::<u8>().cast_mut();
        let resolve = |pointer: &Pointer, scratch: *mut u8| match *pointer {
            Pointer::Activations(at) => activations.wrapping_add(at),
            Pointer::Constants(at) => constants.wrapping_add(at),
            Pointer::Input(number) => match inputs[number] {
                Input::F32(values) => values.as_ptr().cast::<u8>().cast_mut(),
                Input::Index(values) => values.as_ptr().cast::<u8>().cast_mut(),
            },
            Pointer::Scratch => scratch,
        };
        let workers = parallel.map_or(1, |p| p.workers()).min(workspace.scratch.len());
        let parallel = parallel.filter(|p| p.workers() == workers);
        let slots: Vec<Slots> = workspace.scratch[..workers]
            .iter_mut()
            .map(|scratch| scratch.lines.as_mut_ptr().cast::<u8>())
            .map(|scratch| Slots(self.pointers.iter().map(|pointer| resolve(pointer, scratch)).collect()))
            .collect();
        for (number, step) in self.steps.iter().enumerate() {
            let function = self.code.function(step.function);
            let part = |worker: usize, units: Range<usize>| {
                let known = worker < slots.len() && units.start <= units.end && units.end <= step.units;
                assert!(known, "worker {worker} was given units {units:?} of {}", step.units);
                // Code is proved for one unit at least.
                if units.is_empty() {
                    return;
                }
                let slots = slots[worker].of(step);
                // SAFETY: the function was emitted for this step, and `crate::verify` has proved that for any of the step's units it reads
                // and writes through its slots only: activations within the planned regions of the workspace, whose size was checked
                // and which is borrowed mutably; constants and inputs, which it only reads, inputs within the length that was checked;
                // and scratch within the step's own, of which the workspace has the maximum. Calls at the same time are for different
                // units and workers, as `ParallelFor` promises: units write different bytes and read nothing that another one writes, and
                // workers have scratch of their own.
                unsafe { function(slots, units.start as i64, units.end as i64) }
            };
            observe(number, &mut || match parallel {
                Some(parallel) => parallel.parallel_for(step.units, step.cycles, &part),
                None => part(0, 0..step.units),
            });
        }
        for ((port, pointer), output) in self.outputs.iter().zip(outputs) {
            let from = resolve(pointer, std::ptr::null_mut()).cast_const();
            let bytes: &mut [u8] = match output {
                OutputMut::F32(values) => bytemuck::cast_slice_mut(values),
                OutputMut::Index(values) => bytemuck::cast_slice_mut(values),
            };
            // SAFETY: the output's region (or the input it is a view of) holds `elements` four-byte values, as many as `bytes` was checked
            // to have; the caller's output array overlaps neither, being borrowed mutably.
            unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), port.elements * 4) };
        }
        Ok(())
    }

    fn check(&self, inputs: &[Input<'_>], outputs: &[OutputMut<'_>], workspace: &Workspace) -> Result<(), JitError> {
        if inputs.len() != self.inputs.len() || outputs.len() != self.outputs.len() {
            let (a, b, c, d) = (self.inputs.len(), self.outputs.len(), inputs.len(), outputs.len());
            return Err(JitError::Run(format!("the network has {a} inputs and {b} outputs, given were {c} and {d}")));
        }
        let given_in = inputs.iter().map(|i| match i {
            Input::F32(v) => (v.len(), false),
            Input::Index(v) => (v.len(), true),
        });
        let given_out = outputs.iter().map(|o| match o {
            OutputMut::F32(v) => (v.len(), false),
            OutputMut::Index(v) => (v.len(), true),
        });
        let ports = self.inputs.iter().chain(self.outputs.iter().map(|(port, _)| port));
        for (port, (elements, index)) in ports.zip(given_in.chain(given_out)) {
            if port.elements != elements || port.index != index {
                let kind = |index| if index { "indices" } else { "floats" };
                return Err(JitError::Run(format!(
                    "`{}` takes {} {} per image, given were {elements} {}",
                    port.name,
                    port.elements,
                    kind(port.index),
                    kind(index)
                )));
            }
        }
        if workspace.activations.lines.len() * 64 < self.activation_bytes
            || workspace.scratch.iter().any(|s| s.lines.len() * 64 < self.scratch_bytes)
        {
            return Err(JitError::Run("the workspace belongs to another program".into()));
        }
        Ok(())
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<CompiledProgram>();
    const fn sent<T: Send>() {}
    sent::<Workspace>();
};
