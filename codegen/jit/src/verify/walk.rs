//! From a function in Cranelift's form to its footprint.
//!
//! All functions come from the emitter, so they have a simple form. Blocks lie in the order in which they first run. A loop is entered at its
//! head, ends at the branch back to the head, and its blocks lie together. A function of any other form is refused.

use super::affine::{Affine, Symbol, Symbols};
use super::kernels::{self, Reach};
use super::{Footprint, Surroundings, Touched};
use crate::emit::call::Kernels;
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    Block, BlockArg, ExternalName, FuncRef, Function, Inst, InstructionData, Opcode, StackSlot, Type, Value, ValueDef,
    types,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Result<T> = std::result::Result<T, String>;

/// What an address starts at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// The list of slots.
    Slots,
    /// The pointer in a slot.
    Slot(usize),
    /// Memory on the function's stack.
    Stack(StackSlot),
}

/// A pointer, or a number where there is no base.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub base: Option<Base>,
    pub offset: Affine,
}

/// A value that was stored to stack memory.
struct Stored {
    block: Block,
    /// Its place in the order of instructions.
    order: usize,
    value: Option<Known>,
}

/// Stack memory at a byte.
type Place = (StackSlot, i128);

/// A loop whose body is being walked.
struct OpenLoop {
    /// The block with the branch back.
    latch: Block,
    /// The order of its first instruction.
    start: usize,
    /// Stack memory that calls in it have read as it was before the loop.
    relied: BTreeSet<Place>,
}

/// Where control comes from: the branch, and what it hands to the parameters.
#[derive(Clone)]
struct Edge {
    from: Block,
    branch: Inst,
    arguments: Vec<Value>,
}

/// What a function touches. `kernels` are those that it may call.
pub(crate) fn footprint(function: &Function, kernels: &Kernels, step: &Surroundings<'_>) -> Result<Footprint> {
    let graph = ControlFlowGraph::with_function(function);
    let dominators = DominatorTree::with_function(function, &graph);
    let blocks: Vec<Block> = function.layout.blocks().collect();
    let mut edges: HashMap<Block, Vec<Edge>> = HashMap::new();
    for &from in &blocks {
        let Some(branch) = function.layout.last_inst(from) else { continue };
        let targets =
            function.dfg.insts[branch].branch_destination(&function.dfg.jump_tables, &function.dfg.exception_tables);
        for target in targets {
            let mut arguments = vec![];
            for argument in target.args(&function.dfg.value_lists) {
                let BlockArg::Value(value) = argument else { return Err("a branch hands over no plain value".into()) };
                arguments.push(function.dfg.resolve_aliases(value));
            }
            edges.entry(target.block(&function.dfg.value_lists)).or_default().push(Edge { from, branch, arguments });
        }
    }
    let mut walk = Walk {
        function,
        kernels,
        step,
        dominators,
        place: blocks.iter().enumerate().map(|(at, &block)| (block, at)).collect(),
        edges,
        symbols: Symbols::default(),
        known: HashMap::new(),
        bounds: HashMap::new(),
        stored: BTreeMap::new(),
        blurred: BTreeSet::new(),
        loops: vec![],
        order: 0,
        footprint: Footprint::default(),
    };
    walk.parameters(blocks.first().copied().ok_or("it has no code")?)?;
    for &block in &blocks {
        walk.block(block)?;
    }
    Ok(walk.footprint)
}

pub(super) struct Walk<'a> {
    function: &'a Function,
    kernels: &'a Kernels,
    pub step: &'a Surroundings<'a>,
    dominators: DominatorTree,
    /// The number of each block in memory order.
    place: HashMap<Block, usize>,
    edges: HashMap<Block, Vec<Edge>>,
    pub symbols: Symbols,
    /// Values that could be followed.
    known: HashMap<Value, Known>,
    /// Bounds of their offsets, once asked for.
    bounds: HashMap<Value, (i128, i128)>,
    /// What was stored to stack memory, 8 bytes each.
    stored: BTreeMap<Place, Vec<Stored>>,
    /// Stack memory that was written otherwise.
    blurred: BTreeSet<StackSlot>,
    loops: Vec<OpenLoop>,
    order: usize,
    pub footprint: Footprint,
}

const TOO_LARGE: &str = "numbers in its addresses are too large";

/// The bytes of a value.
fn bytes(ty: Type) -> i128 {
    i128::from(ty.bytes())
}

impl Walk<'_> {
    /// The parameters of the function: `slots`, and units `first..last`, of which there is one at least.
    fn parameters(&mut self, entry: Block) -> Result<()> {
        let &[slots, first, last] = self.function.dfg.block_params(entry) else {
            return Err("it has other parameters than a step's function".into());
        };
        let units = self.step.units as i128;
        let start = self.symbols.between(0, units - 1);
        let after = start.offset(1).ok_or(TOO_LARGE)?;
        let end = self.symbols.add(Symbol::Range(after, Affine::number(units)));
        self.known.insert(slots, Known { base: Some(Base::Slots), offset: Affine::number(0) });
        self.known.insert(first, Known { base: None, offset: start });
        self.known.insert(last, Known { base: None, offset: end });
        Ok(())
    }

    fn block(&mut self, block: Block) -> Result<()> {
        let here = self.place[&block];
        let edges = self.edges.get(&block).cloned().unwrap_or_default();
        let (back, ahead): (Vec<Edge>, Vec<Edge>) = edges.into_iter().partition(|e| self.place[&e.from] >= here);
        match (back.as_slice(), ahead.as_slice()) {
            ([], _) => {}
            ([back], [entry]) => self.enter(block, entry, back)?,
            _ => return Err("a loop has several entries".into()),
        }
        for inst in self.function.layout.block_insts(block) {
            self.order += 1;
            self.instruction(block, inst)?;
        }
        while self.loops.last().is_some_and(|open| open.latch == block) {
            self.loops.pop();
        }
        Ok(())
    }

    fn value(&self, value: Value) -> Option<Known> {
        self.known.get(&self.function.dfg.resolve_aliases(value)).cloned()
    }

    fn number(&self, value: Value) -> Option<Affine> {
        self.value(value).filter(|v| v.base.is_none()).map(|v| v.offset)
    }

    /// The instruction that gives a value.
    fn source(&self, value: Value) -> Option<InstructionData> {
        match self.function.dfg.value_def(self.function.dfg.resolve_aliases(value)) {
            ValueDef::Result(inst, _) => Some(self.function.dfg.insts[inst]),
            ValueDef::Param(..) | ValueDef::Union(..) => None,
        }
    }

    /// The constant `c` if `value` is `parameter + c`.
    fn advance(&self, value: Value, parameter: Value) -> Option<i128> {
        if self.function.dfg.resolve_aliases(value) == parameter {
            return Some(0);
        }
        let InstructionData::Binary { opcode: Opcode::Iadd, args: [from, by] } = self.source(value)? else {
            return None;
        };
        let InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } = self.source(by)? else { return None };
        (self.function.dfg.resolve_aliases(from) == parameter).then(|| i128::from(imm.bits()))
    }

    /// The operands of the comparison `first < second` that holds where a branch leads to `target`.
    fn less(&self, branch: Inst, target: Block) -> Option<(Value, Value)> {
        let InstructionData::Brif { arg, blocks: [taken, otherwise], .. } = self.function.dfg.insts[branch] else {
            return None;
        };
        let pool = &self.function.dfg.value_lists;
        let InstructionData::IntCompare { cond: IntCC::SignedLessThan, args, .. } = self.source(arg)? else {
            return None;
        };
        (taken.block(pool) == target && otherwise.block(pool) != target)
            .then(|| (self.function.dfg.resolve_aliases(args[0]), self.function.dfg.resolve_aliases(args[1])))
    }

    /// Enters the head of a loop: each parameter is its value at the start plus a multiple of the number of the turn.
    fn enter(&mut self, head: Block, entry: &Edge, back: &Edge) -> Result<()> {
        let parameters = self.function.dfg.block_params(head).to_vec();
        let (next, last) = self.less(back.branch, head).ok_or("a loop does not end at a number of turns")?;
        let number = |at: &Value| parameters.iter().position(|p| self.advance(next, *p) == Some(1) && p == at);
        let index = parameters.iter().find_map(number).filter(|&i| back.arguments.get(i) == Some(&next));
        let index = index.ok_or("a loop does not count its turns")?;
        let first = entry.arguments[index];
        let (Some(start), Some(end)) = (self.number(first), self.number(last)) else {
            return Err("the turns of a loop are not known".into());
        };
        let turns = end.plus(&start, -1).ok_or(TOO_LARGE)?;
        let some = self.symbols.least(&turns).is_some_and(|least| least > 0);
        if !some && !self.is_guarded(entry, first, last) {
            return Err("a loop may have no turn, and is not skipped then".into());
        }
        for count in [&start, &end] {
            self.in_words(count).ok_or("the turns of a loop are too many")?;
        }
        let turn = self.symbols.add(Symbol::Range(Affine::number(0), turns.offset(-1).ok_or(TOO_LARGE)?));
        for (at, &parameter) in parameters.iter().enumerate() {
            let Some(before) = self.value(entry.arguments[at]) else { continue };
            let Some(by) = self.advance(back.arguments[at], parameter) else { continue };
            let offset = before.offset.plus(&turn, by).ok_or(TOO_LARGE)?;
            self.known.insert(parameter, Known { base: before.base, offset });
        }
        self.loops.push(OpenLoop { latch: back.from, start: self.order, relied: BTreeSet::new() });
        Ok(())
    }

    /// Whether a loop is entered only where `first < last`.
    fn is_guarded(&self, entry: &Edge, first: Value, last: Value) -> bool {
        let Some([guard]) = self.edges.get(&entry.from).map(Vec::as_slice) else { return false };
        self.less(guard.branch, entry.from) == Some((first, self.function.dfg.resolve_aliases(last)))
    }

    /// `Some` if the number fits a signed 64-bit integer, so that the machine computes the same number.
    fn in_words(&self, number: &Affine) -> Option<()> {
        let (least, greatest) = (self.symbols.least(number)?, self.symbols.greatest(number)?);
        (least >= i64::MIN.into() && greatest <= i64::MAX.into()).then_some(())
    }

    fn instruction(&mut self, block: Block, inst: Inst) -> Result<()> {
        let data = self.function.dfg.insts[inst];
        match data {
            InstructionData::Load { opcode, arg, offset, .. } => self.load(inst, opcode, arg, offset.into()),
            InstructionData::Store { opcode, args: [value, pointer], offset, .. } => {
                self.store(block, opcode, value, pointer, offset.into())
            }
            InstructionData::Call { func_ref, .. } => self.call(block, inst, func_ref),
            _ if data.opcode().can_load() || data.opcode().can_store() || data.opcode().is_call() => {
                Err(format!("it touches memory by `{}`", data.opcode()))
            }
            _ => {
                if let Some(&result) = self.function.dfg.inst_results(inst).first()
                    && let Some(known) = self.result(&data, result)
                {
                    self.known.insert(result, known);
                }
                Ok(())
            }
        }
    }

    /// What an instruction gives, if it can be followed.
    fn result(&mut self, data: &InstructionData, result: Value) -> Option<Known> {
        let plain = |offset: Affine| Some(Known { base: None, offset });
        match *data {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => plain(Affine::number(imm.bits().into())),
            InstructionData::StackAddr { stack_slot, offset, .. } => {
                Some(Known { base: Some(Base::Stack(stack_slot)), offset: Affine::number(i64::from(offset).into()) })
            }
            _ if self.function.dfg.value_type(result) != types::I64 => None,
            InstructionData::Unary { opcode: Opcode::Uextend, arg } => {
                let most = (1 << self.function.dfg.value_type(arg).bits()) - 1;
                plain(self.symbols.between(0, most))
            }
            InstructionData::Binary { opcode, args: [a, b] } => self.binary(opcode, a, b),
            _ => None,
        }
    }

    fn binary(&mut self, opcode: Opcode, a: Value, b: Value) -> Option<Known> {
        let plain = |offset: Affine| Some(Known { base: None, offset });
        match opcode {
            Opcode::Iadd | Opcode::Isub => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                let base = match (a.base, b.base) {
                    (base, None) => base,
                    (None, base) if opcode == Opcode::Iadd => base,
                    _ => return None,
                };
                let offset = a.offset.plus(&b.offset, if opcode == Opcode::Iadd { 1 } else { -1 })?;
                Some(Known { base, offset })
            }
            Opcode::Imul => {
                let (a, b) = (self.number(a)?, self.number(b)?);
                plain(match (a.as_number(), b.as_number()) {
                    (_, Some(factor)) => a.times(factor)?,
                    (Some(factor), None) => b.times(factor)?,
                    (None, None) => return None,
                })
            }
            Opcode::Udiv => {
                let (of, by) = (self.number(a)?, self.number(b)?.as_number()?);
                self.in_words(&of)?;
                (by > 0 && self.symbols.least(&of)? >= 0)
                    .then(|| Known { base: None, offset: self.symbols.add(Symbol::Quotient(of, by)) })
            }
            Opcode::Smin | Opcode::Smax => {
                // Numbers that are not known, such as those that were loaded, are bounded on one side.
                let bounded = |value: Value| {
                    let number = self.number(value);
                    number.filter(|number| self.in_words(number).is_some())
                };
                let (a, b) = (bounded(a), bounded(b));
                let symbol = match (a, b, opcode) {
                    (Some(a), Some(b), Opcode::Smin) => Symbol::Least(a, b),
                    (Some(a), Some(b), _) => Symbol::Greatest(a, b),
                    (None, Some(one), Opcode::Smin) | (Some(one), None, Opcode::Smin) => {
                        Symbol::Range(Affine::number(i64::MIN.into()), one)
                    }
                    (None, Some(one), _) | (Some(one), None, _) => Symbol::Range(one, Affine::number(i64::MAX.into())),
                    (None, None, _) => return None,
                };
                plain(self.symbols.add(symbol))
            }
            Opcode::Band => {
                let mask = self.number(b)?.as_number()?;
                if mask >= 0 {
                    return plain(self.symbols.between(0, mask));
                }
                // Down to a multiple of a power of two.
                let (a, unit) = (self.value(a)?, -mask);
                (unit & (unit - 1) == 0).then_some(())?;
                let rest = self.symbols.between(0, unit - 1);
                Some(Known { base: a.base, offset: a.offset.plus(&rest, -1)? })
            }
            _ => None,
        }
    }

    fn load(&mut self, inst: Inst, opcode: Opcode, pointer: Value, displacement: i64) -> Result<()> {
        let result = self.function.dfg.first_result(inst);
        let ty = self.function.dfg.value_type(result);
        let size = match opcode {
            Opcode::Load => bytes(ty),
            Opcode::Uload8 => 1,
            _ => return Err(format!("it loads by `{opcode}`")),
        };
        let known = self.value(pointer).ok_or("it reads at an address that cannot be followed")?;
        if known.base == Some(Base::Slots) {
            let at = known.offset.as_number().and_then(|at| at.checked_add(displacement.into()));
            let slot = at.filter(|at| *at >= 0 && at % 8 == 0 && ty == types::I64).map(|at| (at / 8) as usize);
            let slot = slot.filter(|&slot| slot < self.step.slots.len()).ok_or("it reads a slot that is not there")?;
            self.known.insert(result, Known { base: Some(Base::Slot(slot)), offset: Affine::number(0) });
            return Ok(());
        }
        self.access(pointer, &known, displacement.into(), size, false)?;
        if opcode == Opcode::Uload8 {
            let offset = self.symbols.between(0, 255);
            self.known.insert(result, Known { base: None, offset });
        }
        Ok(())
    }

    fn store(&mut self, block: Block, opcode: Opcode, value: Value, pointer: Value, displacement: i64) -> Result<()> {
        let ty = self.function.dfg.value_type(value);
        let size = match opcode {
            Opcode::Store => bytes(ty),
            Opcode::Istore8 => 1,
            _ => return Err(format!("it stores by `{opcode}`")),
        };
        let known = self.value(pointer).ok_or("it writes at an address that cannot be followed")?;
        self.access(pointer, &known, displacement.into(), size, true)?;
        let Some(Base::Stack(slot)) = known.base else { return Ok(()) };
        match known.offset.as_number() {
            Some(at) if opcode == Opcode::Store && ty == types::I64 => {
                let place = (slot, at + i128::from(displacement));
                if self.loops.iter().any(|open| open.relied.contains(&place)) {
                    return Err("arguments of a call change from turn to turn".into());
                }
                let stored = Stored { block, order: self.order, value: self.value(value) };
                self.stored.entry(place).or_default().push(stored);
            }
            _ => {
                self.blurred.insert(slot);
            }
        }
        Ok(())
    }

    /// Notes an access at an emitted address, whose bounds are found once.
    fn access(&mut self, pointer: Value, known: &Known, displacement: i128, size: i128, write: bool) -> Result<()> {
        let pointer = self.function.dfg.resolve_aliases(pointer);
        let (low, high) = match self.bounds.get(&pointer) {
            Some(&bounds) => bounds,
            None => {
                let bounds = self.symbols.least(&known.offset).zip(self.symbols.greatest(&known.offset));
                *self.bounds.entry(pointer).or_insert(bounds.ok_or(TOO_LARGE)?)
            }
        };
        self.touch(known.base, Touched(low + displacement, high + displacement + size), write)
    }

    /// Notes what a kernel does behind one of its pointers.
    pub fn reach(&mut self, pointer: &Known, reach: &Reach, write: bool) -> Result<()> {
        let low = pointer.offset.plus(&reach.low, 1).and_then(|low| self.symbols.least(&low));
        let high = pointer.offset.plus(&reach.high, 1).and_then(|high| self.symbols.greatest(&high));
        let (low, high) = low.zip(high).ok_or(TOO_LARGE)?;
        if let (Some(Base::Stack(slot)), true) = (pointer.base, write) {
            self.blurred.insert(slot);
        }
        self.touch(pointer.base, Touched(low, high), write)
    }

    fn touch(&mut self, base: Option<Base>, touched: Touched, write: bool) -> Result<()> {
        match base {
            Some(Base::Slot(slot)) => self.footprint.touch(slot, touched, write),
            Some(Base::Stack(slot)) => {
                let size = i128::from(self.function.sized_stack_slots[slot].size);
                if touched.0 < 0 || touched.1 > size {
                    let Touched(low, high) = touched;
                    return Err(format!("it touches bytes {low}..{high} of {size} on its stack"));
                }
            }
            Some(Base::Slots) | None => return Err("it touches memory that is in no slot".into()),
        }
        Ok(())
    }

    fn call(&mut self, block: Block, inst: Inst, function: FuncRef) -> Result<()> {
        let ExternalName::User(name) = self.function.dfg.ext_funcs[function].name else {
            return Err("it calls what is no kernel".into());
        };
        let index = self.function.params.user_named_funcs()[name].index;
        let called = self.kernels.numbers.values().find(|(number, _)| *number == index);
        let &(_, function) = called.ok_or("it calls what is no kernel")?;
        let &[argument] = self.function.dfg.inst_args(inst) else { return Err("a kernel takes one argument".into()) };
        let place = self.value(argument).and_then(|known| Some((known.base?, known.offset.as_number()?)));
        let Some((Base::Stack(slot), 0)) = place else {
            return Err("the arguments of a kernel do not lie in stack memory of their own".into());
        };
        if self.blurred.contains(&slot) {
            return Err("the arguments of a kernel are overwritten".into());
        }
        kernels::touch(self, function.contract(), &kernels::Arguments { block, slot })
            .map_err(|reason| format!("{function:?}: {reason}"))
    }

    /// The argument at a byte of a block of arguments, as it is when a call in that block is made.
    pub fn argument(&mut self, arguments: &kernels::Arguments, at: usize) -> Result<Known> {
        let size = self.function.sized_stack_slots[arguments.slot].size as usize;
        let place = (arguments.slot, at as i128);
        let stored = self.stored.get(&place).and_then(|all| all.last()).filter(|_| at + 8 <= size);
        let stored = stored.ok_or_else(|| format!("argument {at} is never set"))?;
        if !self.dominators.block_dominates(stored.block, arguments.block) {
            return Err(format!("argument {at} may not be set"));
        }
        for open in self.loops.iter_mut().filter(|open| stored.order <= open.start) {
            open.relied.insert(place);
        }
        stored.value.clone().ok_or_else(|| format!("argument {at} cannot be followed"))
    }
}
