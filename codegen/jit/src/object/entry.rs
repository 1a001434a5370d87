//! The entry function: fills the slots of each step and calls it.

use super::{ALIGNMENT, workspace};
use crate::emit::emitter::{Emitter, flags};
use crate::error::JitError;
use crate::functions::Functions;
use crate::place::{PlacedProgram, Pointer};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I32, I64};
use cranelift_codegen::ir::{AbiParam, InstBuilder, Value};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, Linkage, Module};
use cranelift_object::ObjectModule;

/// The return value of the entry function for a workspace that is null or not aligned.
pub(super) const BAD_WORKSPACE: i64 = 1;

/// Defines `int NAME_run(inputs.., outputs.., workspace)` and returns the bytes of its code. `numbers` are the numbers of the steps' functions.
pub(super) fn define(
    functions: &mut Functions,
    module: &mut ObjectModule,
    name: &str,
    placed: &PlacedProgram,
    numbers: &[usize],
    constants: DataId,
) -> Result<usize, JitError> {
    let failed = |message: String| JitError::Codegen { step: name.into(), message };
    let symbol = format!("{name}_run");
    let mut context = module.make_context();
    let (inputs, outputs) = (placed.inputs.len(), placed.outputs.len());
    for _ in 0..inputs + outputs + 1 {
        context.func.signature.params.push(AbiParam::new(I64));
    }
    context.func.signature.returns.push(AbiParam::new(I32));
    let id = module
        .declare_function(&symbol, Linkage::Export, &context.func.signature)
        .map_err(|e| failed(e.to_string()))?;
    let callees: Vec<_> =
        functions.ids.iter().map(|&(id, _)| module.declare_func_in_func(id, &mut context.func)).collect();
    let data = module.declare_data_in_func(constants, &mut context.func);

    let mut builder_context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut context.func, &mut builder_context);
    let start = b.create_block();
    b.append_block_params_for_function_params(start);
    b.switch_to_block(start);
    let params: Vec<Value> = b.block_params(start).to_vec();
    let (arguments, workspace_pointer) = params.split_at(inputs + outputs);
    let base = workspace_pointer[0];
    refuse_bad_workspace(&mut b, base);

    let zero = b.ins().iconst(I64, 0);
    let mut e = functions.emitter(b, zero);
    let most = placed.steps.iter().map(|s| s.slots.len()).max().unwrap_or(0);
    let slots = e.stack(8 * most.max(1));
    let constants = e.b.ins().symbol_value(I64, data);
    let scratch = workspace(placed).scratch;
    let resolve = |e: &mut Emitter<'_>, pointer: &Pointer| match *pointer {
        Pointer::Activations(at) => e.offset(base, at as i64),
        Pointer::Constants(at) => e.offset(constants, at as i64),
        Pointer::Input(number) => arguments[number],
        Pointer::Scratch => e.offset(base, scratch as i64),
    };
    for (step, &number) in placed.steps.iter().zip(numbers) {
        for (at, pointer) in step.slots.iter().enumerate() {
            let pointer = resolve(&mut e, pointer);
            e.b.ins().store(flags(), pointer, slots, 8 * at as i32);
        }
        let units = e.int(step.step.units as i64);
        e.b.ins().call(callees[number], &[slots, zero, units]);
    }
    for ((port, pointer), &to) in placed.outputs.iter().zip(&arguments[inputs..]) {
        let from = resolve(&mut e, pointer);
        copy_words(&mut e, from, to, port.elements);
    }
    let done = e.b.ins().iconst(I32, 0);
    e.b.ins().return_(&[done]);
    e.b.seal_all_blocks();
    e.b.finalize(module.target_config());
    functions.define(module, id, &symbol, "the entry", context).map_err(failed)
}

/// Returns early if the workspace is null or not aligned.
fn refuse_bad_workspace(b: &mut FunctionBuilder<'_>, base: Value) {
    let (bad, good) = (b.create_block(), b.create_block());
    let low = b.ins().band_imm_s(base, ALIGNMENT as i64 - 1);
    let aligned = b.ins().icmp_imm_s(IntCC::Equal, low, 0);
    let present = b.ins().icmp_imm_s(IntCC::NotEqual, base, 0);
    let fine = b.ins().band(aligned, present);
    b.ins().brif(fine, good, &[], bad, &[]);
    b.switch_to_block(bad);
    let code = b.ins().iconst(I32, BAD_WORKSPACE);
    b.ins().return_(&[code]);
    b.switch_to_block(good);
}

/// Copies `count` four-byte values.
fn copy_words(e: &mut Emitter<'_>, from: Value, to: Value, count: usize) {
    e.repeat(count / 4, &[(from, 16), (to, 16)], vec![], |e, pointers, _| {
        let four = e.load(I8X16, pointers[0], 0);
        e.store(four, pointers[1], 0);
        vec![]
    });
    for at in count / 4 * 4..count {
        let one = e.load(I32, from, 4 * at as i64);
        e.store(one, to, 4 * at as i64);
    }
}
