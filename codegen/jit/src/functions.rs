//! Emits the functions of a program's steps into a module, which becomes callable code or an object file.

use crate::emit::SharedCode;
use crate::emit::call::Kernels;
use crate::emit::emitter::Emitter;
use crate::error::JitError;
use crate::limits::within;
use crate::verify::{Footprint, Surroundings, footprint};
use catc_kernels::{Function, Tier};
use cranelift_codegen::ir::AbiParam;
use cranelift_codegen::ir::types::I64;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// The functions emitted so far. Steps with equal code share a function.
pub(crate) struct Functions {
    tier: Tier,
    /// The prefix of the names of functions.
    pub prefix: String,
    context: FunctionBuilderContext,
    /// The number of each function, by its work units and code.
    known: HashMap<(usize, SharedCode), usize>,
    /// Identifier and code bytes of each function, by its number.
    pub ids: Vec<(FuncId, usize)>,
    /// The memory that each function accesses, by its number.
    footprints: Vec<Footprint>,
    kernels: Kernels,
    /// The functions as text, if requested.
    pub listing: Option<Listing>,
    /// Total instructions of all functions, as the input of Cranelift.
    instructions: u64,
    max_instructions: u64,
}

/// The functions as text.
#[derive(Default)]
pub(crate) struct Listing {
    /// The input of Cranelift.
    pub clif: String,
    /// Machine instructions.
    pub assembly: String,
}

impl Functions {
    /// For a tier. Code may call the precompiled functions in `callable`. All functions together may have `instructions` instructions.
    pub fn new(
        module: &mut impl Module,
        tier: Tier,
        callable: impl Iterator<Item = &'static Function>,
        instructions: u64,
    ) -> Result<Functions, JitError> {
        let mut signature = module.make_signature();
        signature.params.push(AbiParam::new(I64));
        let mut kernels = Kernels { signature, numbers: BTreeMap::new() };
        for function in callable {
            let symbol = function.symbol();
            let id = module
                .declare_function(symbol, Linkage::Import, &kernels.signature)
                .map_err(|e| JitError::Codegen { step: symbol.into(), message: e.to_string() })?;
            kernels.numbers.insert(symbol, (id.as_u32(), function));
        }
        Ok(Functions {
            tier,
            prefix: String::new(),
            context: FunctionBuilderContext::new(),
            known: HashMap::new(),
            ids: Vec::new(),
            footprints: Vec::new(),
            kernels,
            listing: None,
            instructions: 0,
            max_instructions: instructions,
        })
    }

    /// Emits a step's function, unless an equal one exists, and returns its number.
    ///
    /// # Errors
    /// If the function is not proved to stay within the memory of the step ([`crate::verify`]).
    pub fn add(
        &mut self,
        module: &mut impl Module,
        name: &str,
        code: &SharedCode,
        step: &Surroundings<'_>,
    ) -> Result<usize, JitError> {
        let key = (step.units, code.clone());
        if let Some(&number) = self.known.get(&key) {
            self.footprints[number].check(name, step)?;
            return Ok(number);
        }
        let mut context = module.make_context();
        for _ in 0..3 {
            context.func.signature.params.push(AbiParam::new(I64));
        }
        let builder = FunctionBuilder::new(&mut context.func, &mut self.context);
        let mut e = Emitter::new(builder, self.tier, &self.kernels);
        code.emit(&mut e);
        e.finish(module.target_config());
        self.instructions += context.func.dfg.num_insts() as u64;
        within("instructions for the code", self.instructions, "instructions", self.max_instructions)?;
        let touched = footprint(&context.func, &self.kernels, step)
            .map_err(|reason| JitError::Unproved { step: name.to_string(), reason })?;
        touched.check(name, step)?;
        let number = self.ids.len();
        let symbol = format!("{}step_{number}", self.prefix);
        let failed = |message: String| JitError::Codegen { step: name.to_string(), message };
        let id = module
            .declare_function(&symbol, Linkage::Local, &context.func.signature)
            .map_err(|e| failed(e.to_string()))?;
        let size = self.define(module, id, &symbol, name, context).map_err(failed)?;
        self.ids.push((id, size));
        self.footprints.push(touched);
        self.known.insert(key, number);
        Ok(number)
    }

    /// An emitter for a function that calls steps. The function already has a current block. `nothing` is used in place of slots and units.
    #[cfg(feature = "object")]
    pub fn emitter<'a>(&'a self, b: FunctionBuilder<'a>, nothing: cranelift_codegen::ir::Value) -> Emitter<'a> {
        Emitter::within(b, self.tier, &self.kernels, [nothing; 3])
    }

    /// Compiles one function and returns the bytes of its code.
    pub fn define(
        &mut self,
        module: &mut impl Module,
        id: FuncId,
        symbol: &str,
        comment: &str,
        mut context: cranelift_codegen::Context,
    ) -> Result<usize, String> {
        if let Some(listing) = &mut self.listing {
            let _ = writeln!(listing.clif, "; {symbol}: {comment}\n{}", context.func);
            context.set_disasm(true);
        }
        module.define_function(id, &mut context).map_err(|e| format!("{e:?}"))?;
        let compiled = context.compiled_code();
        if let Some((listing, text)) = self.listing.as_mut().zip(compiled.and_then(|c| c.vcode.as_ref())) {
            let _ = writeln!(listing.assembly, "; {symbol}: {comment}\n{text}");
        }
        Ok(compiled.map_or(0, |c| c.code_buffer().len()))
    }
}
