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

/// A step's function. Its arguments are the slots, the first unit, and one past the last unit.
pub(crate) type StepFunction = unsafe extern "C" fn(*const *mut u8, i64, i64);

/// A module whose code memory is freed on drop; `JITModule` itself does not free it.
struct OwnedModule(ManuallyDrop<JITModule>);

impl Drop for OwnedModule {
    fn drop(&mut self) {
        // SAFETY: the module is taken only here, and not used afterwards. Function pointers are obtained only through a shared borrow of
        // `Code`, and none is kept after a call. This method has exclusive access, so no code of the module is running or can be called
        // later.
        unsafe { ManuallyDrop::take(&mut self.0).free_memory() };
    }
}

/// Emitted functions that can be called.
pub(crate) struct Code {
    _module: OwnedModule,
    functions: Vec<(StepFunction, usize)>,
}

// SAFETY: between `finish` and drop the module is not used. Functions are called through pointers to read-only executable memory, which
// stays mapped as long as `Code` lives. It is freed on drop, with exclusive access.
unsafe impl Sync for Code {}

impl Code {
    /// The function with a number that [`CodeBuilder::add`] has returned.
    pub fn function(&self, number: usize) -> StepFunction {
        self.functions[number].0
    }

    /// The machine code of a function.
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
    /// For a set of kernels, and for at most `instructions` instructions.
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

    /// Emits a step's function, unless an equal one exists, and returns its number.
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
