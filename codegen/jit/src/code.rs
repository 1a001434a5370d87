//! Machine code in memory.

use crate::emit::SharedCode;
use crate::error::JitError;
use crate::functions::Functions;
use crate::isa::{Destination, isa};
use crate::verify::Surroundings;
use catc_kernels::{KernelSet, functions};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::default_libcall_names;
use std::mem::ManuallyDrop;

/// A step's function: slots, first unit, one past the last unit.
pub(crate) type StepFunction = unsafe extern "C" fn(*const *mut u8, i64, i64);

/// A module whose code memory is freed on drop, which `JITModule` itself does not do.
struct OwnedModule(ManuallyDrop<JITModule>);

impl Drop for OwnedModule {
    fn drop(&mut self) {
        // SAFETY: the module is taken once, here, and not touched afterwards. Function pointers leave `Code` only through a shared
        // borrow of it, and none is kept beyond a call; so with exclusive access no code of this module runs or can be called any
        // more.
        unsafe { ManuallyDrop::take(&mut self.0).free_memory() };
    }
}

/// Functions that have been emitted and can be called.
pub(crate) struct Code {
    _module: OwnedModule,
    functions: Vec<(StepFunction, usize)>,
}

// SAFETY: after `finish` the module is never touched again until it is dropped: functions are only called, through pointers to
// read-only executable memory that stays mapped as long as `Code` lives. Freeing happens on drop, with exclusive access.
unsafe impl Sync for Code {}

impl Code {
    /// The function of a number, as handed out by [`CodeBuilder::add`].
    pub fn function(&self, number: usize) -> StepFunction {
        self.functions[number].0
    }

    /// The bytes of a function.
    pub fn bytes(&self, number: usize) -> &[u8] {
        let (function, size) = self.functions[number];
        // SAFETY: Cranelift placed `size` bytes of code at this address, and they stay mapped and unchanged while `self` lives.
        unsafe { std::slice::from_raw_parts(function as *const u8, size) }
    }
}

/// Emits functions.
pub(crate) struct CodeBuilder {
    module: OwnedModule,
    functions: Functions,
}

impl CodeBuilder {
    /// For a set of kernels, and no more than that many instructions.
    pub fn new(kernels: KernelSet, instructions: u64) -> Result<CodeBuilder, JitError> {
        let tier = kernels.tier;
        let mut builder = JITBuilder::with_isa(isa(tier, Destination::Here)?, default_libcall_names());
        let usable: Vec<_> =
            functions(kernels.list).into_iter().filter(|f| kernels.has_precompiled(f.tier())).collect();
        builder.symbols(usable.iter().map(|f| (f.symbol(), f.pointer() as *const u8)));
        let mut module = OwnedModule(ManuallyDrop::new(JITModule::new(builder)));
        let functions = Functions::new(&mut *module.0, tier, usable.into_iter(), instructions)?;
        Ok(CodeBuilder { module, functions })
    }

    /// Emits a step's function, unless an equal one exists, and gives its number.
    pub fn add(&mut self, name: &str, code: &SharedCode, step: &Surroundings<'_>) -> Result<usize, JitError> {
        self.functions.add(&mut *self.module.0, name, code, step)
    }

    /// Makes the functions callable.
    pub fn finish(mut self) -> Result<Code, JitError> {
        self.module
            .0
            .finalize_definitions()
            .map_err(|e| JitError::Codegen { step: "all".into(), message: e.to_string() })?;
        let functions = self
            .functions
            .ids
            .iter()
            .map(|&(id, size)| {
                let pointer = self.module.0.get_finalized_function(id);
                // SAFETY: the function was emitted with exactly this signature and the platform's C calling convention.
                (unsafe { std::mem::transmute::<*const u8, StepFunction>(pointer) }, size)
            })
            .collect();
        Ok(Code { _module: self.module, functions })
    }
}
