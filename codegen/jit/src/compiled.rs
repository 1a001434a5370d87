//! Compiled programs, and how they run.
//!
//! Each step's function gets an array of *slots*: pointers to activation regions, constants, inputs of the program and scratch memory,
//! which are resolved for each run. So code contains no addresses of data. Any number of threads can run one compiled program, each with a
//! workspace of its own, and the same functions can be part of an object file.

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

/// The memory for an output tensor of one image, row-major.
#[derive(Debug)]
pub enum OutputMut<'a> {
    /// Of format f32.
    F32(&'a mut [f32]),
    /// Of format index.
    Index(&'a mut [i32]),
}

/// The activation and scratch memory of a run. Only one run at a time can use it.
pub struct Workspace {
    activations: Block,
    /// Scratch memory, one block for each worker.
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
    /// Estimated cycles on one thread.
    cycles: f64,
}

/// The slots of all steps, resolved to pointers for one worker.
struct Slots(Vec<*mut u8>);

// SAFETY: the pointers are only passed to step functions. Concurrent calls of these write different bytes (see the call).
unsafe impl Sync for Slots {}

impl Slots {
    fn of(&self, step: &CompiledStep) -> *const *mut u8 {
        self.0[step.slots.clone()].as_ptr()
    }
}

/// A function of a compiled program, for reports.
#[derive(Clone, Debug)]
pub struct StepReport<'a> {
    /// The layer's name, or the names of joined layers.
    pub name: &'a str,
    /// The name of the program's operation, or `convert` if the function converts a tensor to another layout for one of its consumers.
    pub op: &'static str,
    /// The steps of the program that it executes; one unless functions were joined.
    pub work: &'a [Work],
    /// The machine code, which steps with equal code share.
    pub code: &'a [u8],
}

impl StepReport<'_> {
    /// The inner kernel, if it has one; for joined layers, the kernel of the last.
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
/// It is `Send` and `Sync`: the code, constants and memory plan never change, and a run writes only to the [`Workspace`] and to the
/// caller's outputs.
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
/// If the CPU cannot run code of the requested tier, if the program contradicts itself, or if it exceeds a limit.
pub fn compile(program: &Program, options: &Options) -> Result<CompiledProgram, JitError> {
    let tier = available(options.tier)?;
    let kernels = KernelSet { list: options.kernels, ..KernelSet::all(tier) };
    let tuning = tuning_of(program, tier);
    let mut compiled = compile_with(program, kernels, &options.limits, &overrides(program, tuning, kernels))?;
    compiled.tuned = tuning.is_some();
    Ok(compiled)
}

/// Compiles a program for an instruction set of this architecture, which this CPU need not have, and proves that the code stays within its
/// memory. The code is not run.
///
/// # Errors
/// If the program contradicts itself, or the tier belongs to another architecture.
pub fn prove(program: &Program, tier: Tier) -> Result<(), JitError> {
    if Tier::detect().is_none_or(|here| here.architecture() != tier.architecture()) {
        return Err(JitError::Tier { tier });
    }
    compile_with(program, KernelSet::all(tier), &Limits::default(), &[]).map(drop)
}

/// The given tier, or the strongest tier of this CPU if `None`.
pub(crate) fn available(tier: Option<Tier>) -> Result<Tier, JitError> {
    match tier {
        Some(tier) if !tier.is_available() => Err(JitError::Tier { tier }),
        Some(tier) => Ok(tier),
        None => Tier::detect().ok_or(JitError::Cpu),
    }
}

/// The tuning of a program that was measured on this CPU with this instruction set, if there is one.
fn tuning_of(program: &Program, tier: Tier) -> Option<&Tuning> {
    let cpu = cpu_name()?;
    program.tunings.iter().find(|tuning| tuning.cpu == cpu && tuning.tier == tier.name())
}

/// Compiles a program for a set of kernels. Steps get the requested kernels and tiles, if possible.
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
    /// The instruction set of the code.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Whether a tuning that was measured on this CPU decided on kernels and tiles.
    pub fn is_tuned(&self) -> bool {
        self.tuned
    }

    /// Bytes of packed weights and other constants.
    pub fn constant_bytes(&self) -> usize {
        self.constant_bytes
    }

    /// Bytes of a [`Workspace`] for runs with this many workers.
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

    /// Allocates memory for runs with up to this many workers; 0 counts as 1.
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
    /// If the arrays do not have the sizes and formats of the program's ports, or the workspace is too small for the program.
    pub fn run(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [OutputMut<'_>],
        workspace: &mut Workspace,
    ) -> Result<(), JitError> {
        self.run_observed(inputs, outputs, workspace, None, |_, call| call())
    }

    /// As [`CompiledProgram::run`], but the workers of `parallel` share large steps, which does not change the outputs. If the workspace is for
    /// fewer workers, this thread runs alone. `observe` gets the number of each step and a function, which it must call and can time.
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
                // The proof assumes at least one unit.
                if units.is_empty() {
                    return;
                }
                let slots = slots[worker].of(step);
                // SAFETY: the function was emitted for this step. `crate::verify` has proved that, for any range of the step's units, it accesses
                // only the memory of its slots. Activations are within the planned regions of the workspace, which is borrowed mutably and
                // whose size was checked. Constants and inputs are only read; the lengths of inputs were checked. Scratch is within the
                // scratch bytes of the step, which are at most those of the workspace. Concurrent calls have different units and workers, as
                // `ParallelFor` promises. Each worker has its own scratch memory. The code of every step is written such that no unit accesses
                // bytes that another unit writes; `crate::verify` does not prove this.
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
            // SAFETY: the output's region, or the input of which it is a view, has `elements` values of four bytes (checked by `place`). `check`
            // has compared `bytes` with the same number. The caller's output is borrowed mutably, so it overlaps neither.
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
