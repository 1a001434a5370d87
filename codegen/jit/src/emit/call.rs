//! Calls of precompiled kernels.

use super::emitter::Emitter;
use catc_kernels::Function;
use cranelift_codegen::ir::{ExtFuncData, ExternalName, FuncRef, InstBuilder, Signature, UserExternalName, Value};
use std::collections::BTreeMap;

/// The precompiled kernels of the module's tier: the one signature they have, and the module's number of each.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// A pointer to the block of arguments.
    pub signature: Signature,
    /// By symbol.
    pub numbers: BTreeMap<&'static str, (u32, &'static Function)>,
}

/// A kernel and its block of arguments on the stack of the function that calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    function: FuncRef,
    block: Value,
}

impl Emitter<'_> {
    /// Room for a call of a kernel whose argument block has `bytes` bytes. Its content is arbitrary until it is [set](Self::set).
    pub fn prepare(&mut self, function: &'static Function, bytes: usize) -> Call {
        let Some(&(index, _)) = self.kernels.numbers.get(function.symbol()) else {
            unreachable!("{function:?} is no function of this tier: the kernel was chosen from the same list");
        };
        let signature = self.b.import_signature(self.kernels.signature.clone());
        let name = self.b.func.declare_imported_user_function(UserExternalName { namespace: 0, index });
        let function = self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated: false,
            patchable: false,
        });
        Call { function, block: self.stack(bytes) }
    }

    /// Sets the argument at a byte offset of the block.
    pub fn set(&mut self, call: &Call, offset: usize, value: Value) {
        self.store(value, call.block, offset as i64);
    }

    /// Sets the argument to a number that is known when the code is emitted.
    pub fn set_int(&mut self, call: &Call, offset: usize, value: i64) {
        let value = self.int(value);
        self.set(call, offset, value);
    }

    /// Calls the kernel.
    pub fn call(&mut self, call: &Call) {
        self.b.ins().call(call.function, &[call.block]);
    }
}
