//! `batch-first`: moves the batch to the front of every tensor.
//!
//! - Before and after: float or qdq phase. A compiled network works image by image, so every tensor must start with `N`. Attention
//!   as torch writes it puts the batch elsewhere (`[196,N,768]`) or joins it with heads or windows (`[12N,196,64]`).
//! - A tensor `[A..,kN,B..]` becomes `[N,A..,k,B..]`: the elements of each image in the same order. What moves elements, acts on
//!   each or sums along other axes is the same operation with other axes; a reshape that keeps as many elements before the
//!   batch as there were is one of the elements of each image. Exact. Nodes that mix the batch with others stay, and what they
//!   take is put back.
//! - Other passes: after `canonicalize`, which runs again after it and joins the transposes that are left.
//! - Example:
//!   ```text
//!   v1: f32[197,N,768] = transpose v0 {perm=[1,0,2]}       -> v0
//!   v2: f32[197,N,64] = linear v1, c0                      -> v2: f32[N,197,64] = linear v0, c0
//!   v3: f32[197,4N,16] = reshape v2 {shape=[197,4N,16]}    -> v3: f32[N,197,4,16] = reshape v2 {..}
//!   v4: f32[4N,197,16] = transpose v3 {perm=[1,0,2]}       -> v4: f32[N,4,197,16] = transpose v3 {perm=[0,2,1,3]}
//!   ```

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::remove_dead_nodes;
use catc_ir::ops::{Concat, Expand, Gather, Interpolate, Pad, ReduceMean, Reshape, Slice, Softmax, Transpose};
use catc_ir::{Constant, Dim, Graph, Node, Op, Operand, Phase, Shape, ValueId};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Moves the batch to the front.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchFirst;

impl BatchFirst {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "batch-first",
        summary: "moves the batch to the front of every tensor",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(BatchFirst)) },
    };
}

impl Pass for BatchFirst {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float, Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        let elsewhere = |n: &Node| Batch::of(&graph.value_type(n.output).shape).is_some_and(|b| !b.is_first());
        if !graph.nodes().iter().any(elsewhere) {
            return Ok(Changed::No("every tensor starts with the batch".into()));
        }
        let nodes = graph.take_nodes();
        let mut mover = Mover { graph, moved: HashMap::new(), back: HashMap::new() };
        for node in nodes {
            mover.node(node)?;
        }
        for i in 0..mover.graph.outputs.len() {
            let v = mover.graph.outputs[i].value;
            mover.graph.outputs[i].value = mover.original(v)?;
        }
        remove_dead_nodes(graph);
        Ok(Changed::Yes)
    }
}

/// Where the batch of a tensor is: dimension `at` is `times` N.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Batch {
    at: usize,
    times: usize,
}

impl Batch {
    /// That of a shape with one dimension that holds the batch.
    fn of(shape: &Shape) -> Option<Batch> {
        let mut found = shape.dims().iter().enumerate().filter_map(|(at, d)| match d {
            Dim::Batch(times) => Some(Batch { at, times: *times }),
            Dim::Fixed(_) => None,
        });
        let batch = found.next()?;
        found.next().is_none().then_some(batch)
    }

    fn is_first(self) -> bool {
        self == Batch { at: 0, times: 1 }
    }

    /// The axis that another axis becomes.
    fn axis(self, a: usize) -> Option<usize> {
        match a.cmp(&self.at) {
            std::cmp::Ordering::Less => Some(a + 1),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(a + usize::from(self.times > 1)),
        }
    }

    /// One entry for each axis, with the batch in front; `batch` and `joined` stand for its two parts.
    fn arrange<T: Clone>(self, items: &[T], batch: T, joined: T) -> Vec<T> {
        let (before, after) = (&items[..self.at], &items[self.at + 1..]);
        let joined = (self.times > 1).then_some(joined);
        [batch].into_iter().chain(before.iter().cloned()).chain(joined).chain(after.iter().cloned()).collect()
    }

    /// The shape with the batch in front.
    fn moved(self, shape: &Shape) -> Shape {
        Shape::new(self.arrange(shape.dims(), Dim::N, Dim::Fixed(self.times)))
    }

    /// Elements before the batch.
    fn before(self, shape: &Shape) -> Option<usize> {
        shape.dims()[..self.at].iter().try_fold(1usize, |n, d| n.checked_mul(d.fixed()?))
    }
}

type Operands = SmallVec<[Operand; 4]>;

struct Mover<'g> {
    graph: &'g mut Graph,
    /// Values that are computed with the batch in front only, and as what.
    moved: HashMap<ValueId, ValueId>,
    /// Values that were put back.
    back: HashMap<ValueId, ValueId>,
}

impl Mover<'_> {
    fn shape(&self, o: Operand) -> Shape {
        self.graph.type_of(o).shape
    }

    fn push(&mut self, op: Op, inputs: Operands, name: &str) -> Result<ValueId, PassError> {
        self.graph.append(op, inputs, name).map_err(PassError::infer(BatchFirst::ENTRY.name, name))
    }

    /// A node as it is or with the batch in front.
    fn node(&mut self, mut node: Node) -> Result<(), PassError> {
        let batch = Batch::of(&self.graph.value_type(node.output).shape);
        let values = node.inputs.iter().filter_map(|o| o.value());
        let touched = values.into_iter().any(|v| self.moved.contains_key(&v));
        if let Some(batch) = batch.filter(|b| touched || !b.is_first())
            && let Some((op, inputs)) = self.rewritten(&node, batch)?
        {
            let v = self.push(op, inputs, &node.name)?;
            self.moved.insert(node.output, v);
            return Ok(());
        }
        for operand in &mut node.inputs {
            if let Operand::Value(v) = *operand {
                *operand = self.original(v)?.into();
            }
        }
        let place = self.graph.label(&node);
        self.graph.append_node(node).map_err(PassError::infer(BatchFirst::ENTRY.name, place))
    }

    /// A value as it was.
    fn original(&mut self, v: ValueId) -> Result<ValueId, PassError> {
        let Some(&moved) = self.moved.get(&v) else { return Ok(v) };
        if let Some(&back) = self.back.get(&v) {
            return Ok(back);
        }
        let shape = self.graph.value_type(v).shape.clone();
        let Some(batch) = Batch::of(&shape) else { return Ok(v) };
        let back = if batch.is_first() {
            moved
        } else {
            let rank = self.graph.value_type(moved).shape.rank();
            let perm = (1..=batch.at).chain([0]).chain(batch.at + 1..rank).collect();
            let turned = self.push(Op::Transpose(Transpose { perm }), [moved.into()].into_iter().collect(), "")?;
            self.push(Op::Reshape(Reshape { shape }), [turned.into()].into_iter().collect(), "")?
        };
        self.back.insert(v, back);
        Ok(back)
    }

    /// A value with its batch in front.
    fn in_front(&mut self, v: ValueId, batch: Batch) -> Result<ValueId, PassError> {
        if let Some(&moved) = self.moved.get(&v) {
            return Ok(moved);
        }
        if batch.is_first() {
            return Ok(v);
        }
        let dims = self.graph.value_type(v).shape.dims().to_vec();
        let parts = [Dim::N].into_iter().chain((batch.times > 1).then_some(Dim::Fixed(batch.times)));
        let split =
            Shape::new(dims[..batch.at].iter().copied().chain(parts).chain(dims[batch.at + 1..].iter().copied()));
        let rank = split.rank();
        let split = self.push(Op::Reshape(Reshape { shape: split }), [v.into()].into_iter().collect(), "")?;
        let perm = [batch.at].into_iter().chain(0..batch.at).chain(batch.at + 1..rank).collect();
        let moved = self.push(Op::Transpose(Transpose { perm }), [split.into()].into_iter().collect(), "")?;
        self.back.insert(v, v);
        self.moved.insert(v, moved);
        Ok(moved)
    }

    /// An operand that broadcasts to an output of this rank whose batch is there; `None` if it does not fit.
    fn aligned(&mut self, o: Operand, to: Batch, rank: usize) -> Result<Option<Operand>, PassError> {
        let shape = self.shape(o);
        let missing = rank - shape.rank();
        if let (Some(own), Some(v)) = (Batch::of(&shape), o.value()) {
            if own.at + missing != to.at || own.times != to.times {
                return Ok(None);
            }
            let v = self.in_front(v, own)?;
            if missing == 0 {
                return Ok(Some(v.into()));
            }
            let dims = self.graph.value_type(v).shape.dims().to_vec();
            let ones = std::iter::repeat_n(Dim::Fixed(1), missing);
            let shape = Shape::new(dims[..1].iter().copied().chain(ones).chain(dims[1..].iter().copied()));
            let v = self.push(Op::Reshape(Reshape { shape }), [v.into()].into_iter().collect(), "")?;
            return Ok(Some(v.into()));
        }
        let Some(sizes) = shape.as_fixed() else { return Ok(None) };
        let Some(at) = to.at.checked_sub(missing) else { return Ok(Some(o)) };
        if sizes.get(at).is_some_and(|&n| n != 1) {
            return Ok(None);
        }
        if at >= sizes.len() {
            return Ok(Some(o));
        }
        let own = Batch { at, times: to.times };
        let dims: Vec<usize> = own.arrange(&sizes, 1, 1)[1..].to_vec();
        Ok(Some(self.reshaped(o, &dims)?))
    }

    /// An operand without batch under another shape; constants become constants.
    fn reshaped(&mut self, o: Operand, dims: &[usize]) -> Result<Operand, PassError> {
        if self.shape(o) == Shape::fixed(dims) {
            return Ok(o);
        }
        if let Operand::Const(c) = o {
            let constant = self.graph.constant(c).clone();
            if let Some(tensor) = constant.tensor.as_ref().clone().reshaped(dims) {
                let constant = Constant { tensor: Arc::new(tensor), ..constant };
                return Ok(self.graph.push_constant(constant).into());
            }
        }
        let shape = Shape::fixed(dims);
        Ok(self.push(Op::Reshape(Reshape { shape }), [o].into_iter().collect(), "")?.into())
    }

    /// The first input in front, with where its batch was.
    fn first(&mut self, node: &Node) -> Result<Option<(Batch, Operand)>, PassError> {
        let Some(v) = node.inputs[0].value() else { return Ok(None) };
        let Some(batch) = Batch::of(&self.graph.value_type(v).shape) else { return Ok(None) };
        Ok(Some((batch, self.in_front(v, batch)?.into())))
    }

    /// The operation and its operands with the batch in front; `None` if there is no such.
    fn rewritten(&mut self, node: &Node, out: Batch) -> Result<Option<(Op, Operands)>, PassError> {
        let shape = self.graph.value_type(node.output).shape.clone();
        let rank = shape.rank();
        match &node.op {
            Op::Binary(_) | Op::Expand(_) => {
                let mut inputs = Operands::new();
                for &o in &node.inputs {
                    let Some(o) = self.aligned(o, out, rank)? else { return Ok(None) };
                    inputs.push(o);
                }
                let op = match &node.op {
                    Op::Expand(_) => Op::Expand(Expand { shape: out.moved(&shape) }),
                    op => op.clone(),
                };
                return Ok(Some((op, inputs)));
            }
            Op::MatMul(_) => return self.matmul(node, out, rank),
            Op::Concat(concat) => {
                let Some(axis) = out.axis(concat.axis) else { return Ok(None) };
                let mut inputs = Operands::new();
                for &o in &node.inputs {
                    match (o, Batch::of(&self.shape(o))) {
                        (Operand::Value(v), Some(b)) if b == out => inputs.push(self.in_front(v, b)?.into()),
                        _ => return Ok(None),
                    }
                }
                return Ok(Some((Op::Concat(Concat { axis }), inputs)));
            }
            _ => {}
        }
        let Some(from) = node.inputs[0].value().and_then(|v| Batch::of(&self.graph.value_type(v).shape)) else {
            return Ok(None);
        };
        let own = self.shape(node.inputs[0]);
        let last = own.rank() - 1;
        let op = match &node.op {
            Op::Unary(_) | Op::UncompiledUnary(_) | Op::Identity(_) | Op::Dequantize(_) => Some(node.op.clone()),
            Op::Quantize(q) if self.graph.quantizer(q.quantizer).axis.is_none() => Some(node.op.clone()),
            Op::Linear(_) | Op::LayerNorm(_) if from.at != last => Some(node.op.clone()),
            Op::Reshape(_) if from.before(&own).is_some() && from.before(&own) == out.before(&shape) => {
                Some(Op::Reshape(Reshape { shape: out.moved(&shape) }))
            }
            Op::Transpose(t) => {
                let mut perm = vec![0];
                for &a in &t.perm {
                    match from.axis(a) {
                        Some(a) => perm.push(a),
                        None if from.times > 1 => perm.push(from.at + 1),
                        None => {}
                    }
                }
                Some(Op::Transpose(Transpose { perm }))
            }
            Op::Softmax(s) => from.axis(s.axis).map(|axis| Op::Softmax(Softmax { axis })),
            Op::Slice(s) => from.axis(s.axis).map(|axis| Op::Slice(Slice { axis, ..*s })),
            Op::Gather(g) if node.inputs[1].constant().is_some() => {
                from.axis(g.axis).map(|axis| Op::Gather(Gather { axis }))
            }
            Op::Interpolate(i) => from.axis(i.axis).map(|axis| Op::Interpolate(Interpolate { axis })),
            Op::ReduceMean(m) => {
                let axes: Option<Vec<usize>> = m.axes.iter().map(|&a| from.axis(a)).collect();
                axes.map(|axes| Op::ReduceMean(ReduceMean { axes, keep_dims: m.keep_dims }))
            }
            Op::Pad(p) if p.before[from.at] == 0 && p.after[from.at] == 0 => Some(Op::Pad(Pad {
                before: from.arrange(&p.before, 0, 0),
                after: from.arrange(&p.after, 0, 0),
                value: p.value,
            })),
            _ => None,
        };
        let Some(op) = op else { return Ok(None) };
        let Some((_, x)) = self.first(node)? else { return Ok(None) };
        let inputs = [x].into_iter().chain(node.inputs[1..].iter().copied()).collect();
        Ok(Some((op, inputs)))
    }

    /// A product whose batch is among the leading dimensions of both, or among the rows of the left alone.
    fn matmul(&mut self, node: &Node, out: Batch, rank: usize) -> Result<Option<(Op, Operands)>, PassError> {
        let (a, b) = (self.shape(node.inputs[0]), self.shape(node.inputs[1]));
        let leading = |s: &Shape| Batch::of(s).is_some_and(|x| x.at + 2 < s.rank());
        if leading(&a) && leading(&b) && a.rank() == rank && b.rank() == rank {
            let mut inputs = Operands::new();
            for &o in &node.inputs {
                let Some(o) = self.aligned(o, out, rank)? else { return Ok(None) };
                inputs.push(o);
            }
            return Ok(Some((node.op.clone(), inputs)));
        }
        let rows = Batch::of(&a).is_some_and(|x| x.at + 1 < a.rank());
        if rows && b.rank() == 2 && b.as_fixed().is_some() {
            let Some((_, x)) = self.first(node)? else { return Ok(None) };
            return Ok(Some((node.op.clone(), [x, node.inputs[1]].into_iter().collect())));
        }
        Ok(None)
    }
}
