//! Ahead-of-time compilation of programs to object files.
//!
//! An [`ObjectFile`] is one relocatable ELF object for Linux: the functions of the steps, the packed weights as read-only data, and
//! one entry function in the platform's C calling convention, which calls the steps in order. It has no external references: it allocates
//! nothing and uses no library, not even for mathematical functions. The code is position-independent and contains no addresses, so that
//! it links into static, position-independent and shared programs without relocations of its text.
//!
//! Objects use emitted kernels only ([`catc_kernels::KernelSet::emitted`]), not the precompiled ones.

mod cpu_check;
mod entry;
mod header;

use crate::error::JitError;
use crate::functions::{Functions, Listing};
use crate::isa::{Destination, isa};
use crate::limits::Limits;
use crate::place::{PlacedProgram, PlacedStep, place};
use catc_kernels::{KernelRef, KernelSet, Tier};
use catc_program::Program;
use cranelift_module::{DataDescription, Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

/// Options for making an object file.
#[derive(Clone, Copy, Debug)]
pub struct ObjectOptions<'a> {
    /// The instruction set, which implies the architecture.
    pub tier: Tier,
    /// The prefix of the names of functions and macros; a C identifier.
    pub name: &'a str,
    /// Whether to include the functions as text.
    pub listing: bool,
}

/// An object file with its header and its statistics.
#[derive(Clone, Debug)]
pub struct ObjectFile {
    /// The ELF object.
    pub bytes: Vec<u8>,
    /// The C header.
    pub header: String,
    /// The functions as the input of Cranelift, if a listing was requested.
    pub clif: String,
    /// The functions as machine instructions, in Cranelift's notation, if a listing was requested.
    pub assembly: String,
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Bytes of packed weights and other constants.
    pub constant_bytes: usize,
    /// Bytes of the workspace that a run needs.
    pub workspace_bytes: usize,
    /// The steps in the order of their calls.
    pub steps: Vec<ObjectStep>,
}

/// A step of an object file.
#[derive(Clone, Debug)]
pub struct ObjectStep {
    /// The layer's name.
    pub name: String,
    /// The name of the program's operation, or `convert`.
    pub op: &'static str,
    /// The inner kernel, if it has one.
    pub kernel: Option<KernelRef>,
    /// The local symbol of its function, which steps with equal code share.
    pub symbol: String,
}

/// Compiles a program to an object file.
///
/// # Errors
/// If the name is no C identifier, or the program contradicts itself.
pub fn object(program: &Program, options: &ObjectOptions<'_>) -> Result<ObjectFile, JitError> {
    let name = options.name;
    if !is_c_identifier(name) {
        return Err(JitError::Name { name: name.into() });
    }
    let limits = Limits::default();
    let placed = place(program, KernelSet::emitted(options.tier), &limits, &[])?;
    let failed = |e: ModuleError| JitError::Codegen { step: name.into(), message: e.to_string() };
    let target = isa(options.tier, Destination::Object)?;
    let builder = ObjectBuilder::new(target, name, default_libcall_names()).map_err(failed)?;
    let mut module = ObjectModule::new(builder);
    let prefix = format!("{name}_");
    let mut functions = Functions::new(&mut module, options.tier, std::iter::empty(), limits.instructions)?;
    functions.prefix = prefix.clone();
    functions.listing = options.listing.then(Listing::default);
    let mut numbers = Vec::with_capacity(placed.steps.len());
    for placed_step in &placed.steps {
        let (step, surroundings) = (&placed_step.step, placed_step.surroundings(&placed.constants));
        numbers.push(functions.add(&mut module, &step.name, &step.code, &surroundings)?);
    }
    let data = module.declare_data(&format!("{name}_constants"), Linkage::Local, false, false).map_err(failed)?;
    let mut description = DataDescription::new();
    description.define(placed.constants.to_bytes().into_boxed_slice());
    description.set_align(ALIGNMENT as u64);
    module.define_data(data, &description).map_err(failed)?;
    let entry_bytes = entry::define(&mut functions, &mut module, name, &placed, &numbers, data)?;
    let product = module.finish();
    let bytes = product.emit().map_err(|e| JitError::Codegen { step: name.into(), message: e.to_string() })?;
    let Listing { clif, assembly } = functions.listing.take().unwrap_or_default();
    Ok(ObjectFile {
        bytes,
        header: header::text(program, options, &placed),
        clif,
        assembly,
        code_bytes: functions.ids.iter().map(|(_, bytes)| bytes).sum::<usize>() + entry_bytes,
        constant_bytes: placed.constants.len(),
        workspace_bytes: workspace(&placed).bytes,
        steps: placed
            .steps
            .into_iter()
            .zip(numbers)
            .map(|(PlacedStep { step, .. }, number)| ObjectStep {
                name: step.name,
                op: step.op,
                kernel: step.work.last().and_then(|work| work.kernel),
                symbol: format!("{prefix}step_{number}"),
            })
            .collect(),
    })
}

/// Alignment of the workspace and of the constants.
const ALIGNMENT: usize = 64;

/// The layout of the workspace.
struct WorkspaceLayout {
    /// Offset of the scratch memory, which follows the activations.
    scratch: usize,
    /// Total bytes, at least one cache line.
    bytes: usize,
}

fn workspace(placed: &PlacedProgram) -> WorkspaceLayout {
    let scratch = placed.activation_bytes.next_multiple_of(ALIGNMENT);
    let bytes = (scratch + placed.scratch_bytes).next_multiple_of(ALIGNMENT).max(ALIGNMENT);
    WorkspaceLayout { scratch, bytes }
}

/// Whether a text can be the prefix of names of C functions and macros.
pub fn is_c_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    bytes.next().is_some_and(letter) && bytes.all(|b| letter(b) || b.is_ascii_digit())
}
