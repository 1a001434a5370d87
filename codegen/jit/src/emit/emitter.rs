//! A function under construction: constants, memory access and loops, on top of Cranelift's builder.
//!
//! Every function has the signature `(slots: *const *mut u8, first: i64, last: i64)`. The slots are base pointers (see
//! [`crate::compiled`]); no absolute address is part of the code. `first..last` is the range of the step's
//! work units (usually rows of the output) that this call does, so that threads can share a step.

use super::call::Kernels;
use catc_kernels::Tier;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32X4, I8X16, I16X8, I32X4, I64};
use cranelift_codegen::ir::{
    Block, BlockArg, ConstantData, Endianness, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value,
};
use cranelift_frontend::FunctionBuilder;

/// Emits one function.
pub(crate) struct Emitter<'a> {
    /// Cranelift's builder, for single instructions.
    pub b: FunctionBuilder<'a>,
    slots: Value,
    /// The number in the function of the slot that the code calls 0, and a pointer that replaces the content of one slot.
    first_slot: usize,
    replaced: Option<(usize, Value)>,
    /// What the code is for.
    pub tier: Tier,
    /// Precompiled kernels that the function may call.
    pub kernels: &'a Kernels,
    /// First work unit.
    pub first: Value,
    /// One past the last work unit.
    pub last: Value,
    shared: Shared,
}

/// Vectors that one block of code has built or loaded, and uses again.
#[derive(Default)]
struct Shared {
    block: Option<Block>,
    /// Used on AArch64 alone, where building a constant takes instructions. On x86-64 the instruction that uses a constant reads it from
    /// memory.
    constants: Vec<([u8; 16], Value)>,
    /// Factors by slot and number.
    factors: Vec<(usize, usize, Value)>,
}

/// A pointer that a loop advances: its value at the start and the bytes added after each turn.
pub(crate) type Advance = (Value, i64);

impl<'a> Emitter<'a> {
    /// Starts the function's entry block.
    pub fn new(mut b: FunctionBuilder<'a>, tier: Tier, kernels: &'a Kernels) -> Self {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let (slots, first, last) = match *b.block_params(entry) {
            [slots, first, last] => (slots, first, last),
            _ => unreachable!("every step function has three parameters"),
        };
        Emitter::within(b, tier, kernels, [slots, first, last])
    }

    /// Goes on in a function whose first block exists.
    pub fn within(b: FunctionBuilder<'a>, tier: Tier, kernels: &'a Kernels, [slots, first, last]: [Value; 3]) -> Self {
        Emitter { b, slots, first_slot: 0, replaced: None, tier, kernels, first, last, shared: Shared::default() }
    }

    /// Ends the function.
    pub fn finish(mut self, config: cranelift_codegen::isa::TargetFrontendConfig) {
        self.b.ins().return_(&[]);
        self.b.seal_all_blocks();
        self.b.finalize(config);
    }

    /// The base pointer in a slot.
    pub fn slot(&mut self, index: usize) -> Value {
        let index = self.first_slot + index;
        if let Some((_, pointer)) = self.replaced.filter(|&(slot, _)| slot == index) {
            return pointer;
        }
        let flags = flags().with_readonly();
        self.b.ins().load(I64, flags, self.slots, (8 * index) as i32)
    }

    /// From here on the code's slot 0 is the function's slot `first`. `replaced` is the number of a slot in the function, and the base pointer
    /// that is used instead of its content.
    pub fn replace_slots(&mut self, first: usize, replaced: Option<(usize, Value)>) {
        (self.first_slot, self.replaced) = (first, replaced);
        self.shared.factors.clear();
    }

    /// A 64-bit integer.
    pub fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(I64, value)
    }

    /// `value + bytes`.
    pub fn offset(&mut self, value: Value, bytes: i64) -> Value {
        if bytes == 0 { value } else { self.b.ins().iadd_imm_s(value, bytes) }
    }

    /// `value * factor`.
    pub fn times(&mut self, value: Value, factor: i64) -> Value {
        match factor {
            0 => self.int(0),
            1 => value,
            _ => self.b.ins().imul_imm_s(value, factor),
        }
    }

    /// `base + index * stride`.
    pub fn index(&mut self, base: Value, index: Value, stride: i64) -> Value {
        if stride == 0 {
            return base;
        }
        let scaled = self.times(index, stride);
        self.b.ins().iadd(base, scaled)
    }

    /// Loads; any alignment.
    pub fn load(&mut self, ty: Type, pointer: Value, displacement: i64) -> Value {
        let (pointer, displacement) = self.reach(pointer, displacement);
        self.b.ins().load(ty, flags(), pointer, displacement)
    }

    /// Loads a byte, zero-extended to 64 bits.
    pub fn load_byte(&mut self, pointer: Value, displacement: i64) -> Value {
        let (pointer, displacement) = self.reach(pointer, displacement);
        self.b.ins().uload8(I64, flags(), pointer, displacement)
    }

    /// Stores; any alignment.
    pub fn store(&mut self, value: Value, pointer: Value, displacement: i64) {
        let (pointer, displacement) = self.reach(pointer, displacement);
        self.b.ins().store(flags(), value, pointer, displacement);
    }

    /// Stores the low byte of an integer.
    pub fn store_byte(&mut self, value: Value, pointer: Value, displacement: i64) {
        let (pointer, displacement) = self.reach(pointer, displacement);
        self.b.ins().istore8(flags(), value, pointer, displacement);
    }

    /// A pointer and a displacement that an instruction can hold.
    pub fn reach(&mut self, pointer: Value, displacement: i64) -> (Value, i32) {
        match i32::try_from(displacement) {
            Ok(small) => (pointer, small),
            Err(_) => (self.offset(pointer, displacement), 0),
        }
    }

    /// A 128-bit constant.
    pub fn constant(&mut self, ty: Type, bytes: [u8; 16]) -> Value {
        if let Some(&(_, value)) = self.shared().constants.iter().find(|(known, _)| *known == bytes) {
            return self.cast(ty, value);
        }
        let handle = self.b.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
        let value = self.b.ins().vconst(ty, handle);
        if self.is_arm() {
            self.shared().constants.push((bytes, value));
        }
        value
    }

    /// Vector `number` of the factors in a slot.
    pub fn factor(&mut self, slot: usize, number: usize) -> Value {
        if let Some(&(.., value)) = self.shared().factors.iter().find(|&&(s, n, _)| (s, n) == (slot, number)) {
            return value;
        }
        let factors = self.slot(slot);
        let value = self.load(F32X4, factors, 16 * number as i64);
        self.shared().factors.push((slot, number, value));
        value
    }

    fn shared(&mut self) -> &mut Shared {
        let block = self.b.current_block();
        if self.shared.block != block {
            self.shared = Shared { block, ..Shared::default() };
        }
        &mut self.shared
    }

    /// Four times a float.
    pub fn floats(&mut self, value: f32) -> Value {
        self.constant(F32X4, repeat(&value.to_le_bytes()))
    }

    /// Four times a 32-bit integer.
    pub fn ints(&mut self, value: i32) -> Value {
        self.constant(I32X4, repeat(&value.to_le_bytes()))
    }

    /// Eight times a 16-bit integer.
    pub fn shorts(&mut self, value: i16) -> Value {
        self.constant(I16X8, repeat(&value.to_le_bytes()))
    }

    /// Sixteen times a byte.
    pub fn bytes(&mut self, value: u8) -> Value {
        self.constant(I8X16, [value; 16])
    }

    /// The same 128 bits as another vector type.
    pub fn cast(&mut self, ty: Type, value: Value) -> Value {
        if self.b.func.dfg.value_type(value) == ty {
            return value;
        }
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
    }

    /// Memory of this call alone, 16-byte aligned.
    pub fn stack(&mut self, bytes: usize) -> Value {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 4);
        let slot = self.b.create_sized_stack_slot(data);
        self.b.ins().stack_addr(I64, slot, 0)
    }

    /// Memory of this call alone, on a cache line boundary.
    pub fn aligned_stack(&mut self, bytes: usize) -> Value {
        let start = self.stack(bytes + 64);
        let end = self.offset(start, 63);
        self.b.ins().band_imm_s(end, -64)
    }

    /// Runs `body` `count` times, a number that is known when the code is emitted. Pointers advance after each turn, `state` is handed
    /// from turn to turn and returned. Emits no loop for a single turn.
    pub fn repeat(
        &mut self,
        count: usize,
        pointers: &[Advance],
        state: Vec<Value>,
        body: impl FnOnce(&mut Self, &[Value], Vec<Value>) -> Vec<Value>,
    ) -> Vec<Value> {
        match count {
            0 => state,
            1 => {
                let now: Vec<Value> = pointers.iter().map(|p| p.0).collect();
                body(self, &now, state)
            }
            _ => {
                let zero = self.int(0);
                let end = self.int(count as i64);
                self.turns(zero, end, pointers, state, |e, _, pointers, state| body(e, pointers, state))
            }
        }
    }

    /// Runs `body` for each index in `first..last`, which may be empty. `body` gets the index and the pointers.
    pub fn range(
        &mut self,
        first: Value,
        last: Value,
        pointers: &[Advance],
        state: Vec<Value>,
        body: impl FnOnce(&mut Self, Value, &[Value], Vec<Value>) -> Vec<Value>,
    ) -> Vec<Value> {
        let run = self.b.create_block();
        let done = self.b.create_block();
        let out: Vec<Value> = state
            .iter()
            .map(|&v| {
                let ty = self.b.func.dfg.value_type(v);
                self.b.append_block_param(done, ty)
            })
            .collect();
        let any = self.b.ins().icmp(IntCC::SignedLessThan, first, last);
        let skipped = block_args(&state);
        self.b.ins().brif(any, run, &[], done, &skipped);
        self.b.switch_to_block(run);
        let state = self.turns(first, last, pointers, state, body);
        let state = block_args(&state);
        self.b.ins().jump(done, &state);
        self.b.switch_to_block(done);
        out
    }

    /// At least one turn.
    fn turns(
        &mut self,
        first: Value,
        last: Value,
        pointers: &[Advance],
        state: Vec<Value>,
        body: impl FnOnce(&mut Self, Value, &[Value], Vec<Value>) -> Vec<Value>,
    ) -> Vec<Value> {
        let head = self.b.create_block();
        let exit = self.b.create_block();
        let mut start: Vec<BlockArg> = vec![first.into()];
        let index = self.b.append_block_param(head, I64);
        let mut now = Vec::with_capacity(pointers.len());
        for (pointer, _) in pointers {
            start.push((*pointer).into());
            now.push(self.b.append_block_param(head, I64));
        }
        let mut carried = Vec::with_capacity(state.len());
        for value in &state {
            start.push((*value).into());
            let ty = self.b.func.dfg.value_type(*value);
            carried.push(self.b.append_block_param(head, ty));
        }
        self.b.ins().jump(head, &start);
        self.b.switch_to_block(head);
        let state = body(self, index, &now, carried);
        let next = self.offset(index, 1);
        let mut again: Vec<BlockArg> = vec![next.into()];
        for (pointer, (_, bytes)) in now.iter().zip(pointers) {
            again.push(self.offset(*pointer, *bytes).into());
        }
        again.extend(block_args(&state));
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, last);
        self.b.ins().brif(more, head, &again, exit, &[]);
        self.b.switch_to_block(exit);
        state
    }

    /// Runs `body` if the condition holds.
    pub fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        let run = self.b.create_block();
        let done = self.b.create_block();
        self.b.ins().brif(condition, run, &[], done, &[]);
        self.b.switch_to_block(run);
        body(self);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
    }
}

/// Accesses neither trap nor assume alignment.
pub(crate) fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

fn block_args(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|&v| v.into()).collect()
}

fn repeat<const N: usize>(pattern: &[u8; N]) -> [u8; 16] {
    std::array::from_fn(|i| pattern[i % N])
}
