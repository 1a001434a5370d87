//! A program under construction. Steps can still change and move, equal constants are shared, and [`Builder::finish`] removes
//! unused parts.

use catc_program::{
    BuildInfo, Constant, ConstantData, ConstantId, Epilogue, Op, Operand, Port, Program, Step, TensorDecl, TensorId,
};
use std::collections::HashMap;
use xxhash_rust::xxh3::Xxh3;

/// The tensors, constants and steps of a program under construction.
#[derive(Default)]
pub(crate) struct Builder {
    tensors: Vec<TensorDecl>,
    constants: Vec<Constant>,
    /// The constants with each content hash.
    by_content: HashMap<u64, Vec<ConstantId>>,
    /// The steps in order. A slot is `None` if its step was taken out to be pushed again at the end.
    slots: Vec<Option<Step>>,
    /// The slot of the step that writes each tensor. `None` for inputs and for tensors whose step was taken out.
    writers: Vec<Option<usize>>,
}

impl Builder {
    pub(crate) fn add_tensor(&mut self, tensor: TensorDecl) -> TensorId {
        self.tensors.push(tensor);
        self.writers.push(None);
        TensorId(self.tensors.len() as u32 - 1)
    }

    pub(crate) fn tensor(&self, id: TensorId) -> &TensorDecl {
        &self.tensors[id.0 as usize]
    }

    pub(crate) fn tensor_mut(&mut self, id: TensorId) -> &mut TensorDecl {
        &mut self.tensors[id.0 as usize]
    }

    /// Adds a constant, or returns the id of an identical one.
    pub(crate) fn add_constant(&mut self, constant: Constant) -> ConstantId {
        let same = self.by_content.entry(content_hash(&constant)).or_default();
        if let Some(&id) = same.iter().find(|id| identical(&self.constants[id.0 as usize], &constant)) {
            return id;
        }
        let id = ConstantId(self.constants.len() as u32);
        self.constants.push(constant);
        same.push(id);
        id
    }

    pub(crate) fn add_reals(&mut self, dims: &[usize], data: Vec<f32>) -> ConstantId {
        self.add_constant(Constant { dims: dims.to_vec(), data: ConstantData::F32(data) })
    }

    pub(crate) fn constant(&self, id: ConstantId) -> &Constant {
        &self.constants[id.0 as usize]
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.writers[step.output.0 as usize] = Some(self.slots.len());
        self.slots.push(Some(step));
    }

    /// The step that writes a tensor.
    pub(crate) fn writer(&self, tensor: TensorId) -> Option<&Step> {
        self.slots[self.writers[tensor.0 as usize]?].as_ref()
    }

    /// Takes out the step that writes a tensor, so that the caller can push it again after all other steps.
    pub(crate) fn take_writer(&mut self, tensor: TensorId) -> Option<Step> {
        self.slots[self.writers[tensor.0 as usize].take()?].take()
    }

    /// Builds the program. Steps, tensors and constants that no output needs are removed. Tensors and constants are numbered in
    /// the order in which the inputs and steps first mention them.
    pub(crate) fn finish(self, name: String, info: BuildInfo, inputs: Vec<Port>, outputs: Vec<Port>) -> Program {
        let mut needed = vec![false; self.tensors.len()];
        outputs.iter().for_each(|p| needed[p.tensor.0 as usize] = true);
        let mut steps: Vec<Step> = vec![];
        for step in self.slots.into_iter().rev().flatten().collect::<Vec<_>>() {
            if needed[step.output.0 as usize] {
                step.reads().for_each(|t| needed[t.0 as usize] = true);
                steps.push(step);
            }
        }
        steps.reverse();
        let (mut tensors, mut constants) = (Numbering::default(), Numbering::default());
        let port = |p: Port, tensors: &mut Numbering| Port { tensor: TensorId(tensors.of(p.tensor.0)), ..p };
        let inputs = inputs.into_iter().map(|p| port(p, &mut tensors)).collect();
        for step in &mut steps {
            for t in &mut step.inputs {
                t.0 = tensors.of(t.0);
            }
            step.output.0 = tensors.of(step.output.0);
            renumber_op(&mut step.op, &mut constants);
            renumber_epilogue(&mut step.epilogue, &mut tensors, &mut constants);
        }
        let outputs = outputs.into_iter().map(|p| port(p, &mut tensors)).collect();
        Program {
            name,
            info,
            tensors: tensors.arrange(self.tensors),
            constants: constants.arrange(self.constants),
            inputs,
            outputs,
            steps,
            tunings: vec![],
        }
    }
}

/// Assigns new numbers in the order of first mention.
#[derive(Default)]
struct Numbering {
    new: HashMap<u32, u32>,
    old: Vec<u32>,
}

impl Numbering {
    fn of(&mut self, old: u32) -> u32 {
        *self.new.entry(old).or_insert_with(|| {
            self.old.push(old);
            self.old.len() as u32 - 1
        })
    }

    /// The mentioned items, in the order of their new numbers.
    fn arrange<T>(self, items: Vec<T>) -> Vec<T> {
        let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
        self.old.into_iter().filter_map(|i| items[i as usize].take()).collect()
    }
}

fn renumber_op(op: &mut Op, constants: &mut Numbering) {
    let mut set = |c: &mut ConstantId| c.0 = constants.of(c.0);
    match op {
        Op::Conv { weights, multiplier, bias, .. } => [weights, multiplier, bias].into_iter().for_each(set),
        Op::FloatConv { weights, bias, .. } | Op::FloatLinear { weights, bias } => {
            [weights, bias].into_iter().for_each(set);
        }
        Op::SquaredDistance { centroids: c }
        | Op::GatherRow { table: c }
        | Op::Interpolate { weights: c, .. }
        | Op::Constant { constant: c } => set(c),
        Op::MatMul { .. }
        | Op::MaxPool { .. }
        | Op::AvgPool { .. }
        | Op::Mean { .. }
        | Op::Map { .. }
        | Op::View
        | Op::Concat { .. }
        | Op::Transpose { .. }
        | Op::Pad { .. }
        | Op::Slice { .. }
        | Op::Pick { .. }
        | Op::Softmax { .. }
        | Op::ArgMin { .. } => {}
    }
}

fn renumber_epilogue(epilogue: &mut Epilogue, tensors: &mut Numbering, constants: &mut Numbering) {
    for step in &mut epilogue.steps {
        match step.operand_mut() {
            Some(Operand::Tensor(t)) => t.0 = tensors.of(t.0),
            Some(Operand::Constant(c)) => c.0 = constants.of(c.0),
            None => {}
        }
    }
}

fn content_hash(c: &Constant) -> u64 {
    let mut hash = Xxh3::new();
    c.dims.iter().for_each(|n| hash.update(&(*n as u64).to_le_bytes()));
    match &c.data {
        ConstantData::F32(v) => hash.update(bytemuck::cast_slice(v)),
        ConstantData::Codes { codes, scale, .. } => {
            hash.update(codes.bytes());
            hash.update(bytemuck::cast_slice(scale));
        }
    }
    hash.digest()
}

/// Whether two constants are identical. f32 elements are compared bit by bit, so `-0.0` differs from `0.0`, and a NaN equals
/// itself.
fn identical(a: &Constant, b: &Constant) -> bool {
    let same = |x: &[f32], y: &[f32]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits());
    a.dims == b.dims
        && match (&a.data, &b.data) {
            (ConstantData::F32(x), ConstantData::F32(y)) => same(x, y),
            (ConstantData::Codes { .. }, ConstantData::Codes { .. }) => a.data == b.data,
            _ => false,
        }
}
