//! Rewriting a graph node by node, for the passes that make local changes.
//!
//! A sweep visits the nodes in topological order. A rule looks at one node and at the already rewritten nodes before
//! it, and may replace it. Sweeps repeat until no rule fires.

use crate::pass::PassError;
use catc_ir::{ConstId, Graph, Node, Op, Operand, ValueId};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};

/// What a rule makes of a node.
pub(crate) enum Rewrite {
    /// The consumers of its output take this instead.
    Forward(Operand),
    /// The node computes its output with this operation from these operands.
    Replace(Op, SmallVec<[Operand; 4]>),
    /// The node takes over a node before it and its name.
    TakeOver(String, Op, SmallVec<[Operand; 4]>),
    /// A new node, then this operation on its output and the other operands.
    Split { first: (Op, SmallVec<[Operand; 4]>), then: Op, others: SmallVec<[Operand; 4]> },
}

/// A sweep in progress.
pub(crate) struct Sweep<'g> {
    pass: &'static str,
    /// The graph; its nodes are those rewritten so far.
    pub(crate) graph: &'g mut Graph,
    defined_at: HashMap<ValueId, usize>,
    uses: HashMap<ValueId, usize>,
    forwarded: HashMap<ValueId, Operand>,
}

impl<'g> Sweep<'g> {
    /// Sweeps once over `graph`; tells how often `rule` fired. Nodes that lost their last use stay:
    /// [`remove_dead_nodes`].
    pub(crate) fn once(
        pass: &'static str,
        graph: &'g mut Graph,
        mut rule: impl FnMut(&mut Sweep, &Node) -> Option<Rewrite>,
    ) -> Result<usize, PassError> {
        let mut uses: HashMap<ValueId, usize> = HashMap::new();
        for v in graph.nodes().iter().flat_map(|n| &n.inputs).filter_map(|o| o.value()) {
            *uses.entry(v).or_default() += 1;
        }
        for o in &graph.outputs {
            // An output of the graph counts as two uses: nothing may take the value's place.
            *uses.entry(o.value).or_default() += 2;
        }
        let nodes = graph.take_nodes();
        let mut sweep = Sweep { pass, graph, defined_at: HashMap::new(), uses, forwarded: HashMap::new() };
        let mut fired = 0;
        for mut node in nodes {
            for operand in &mut node.inputs {
                *operand = sweep.resolve(*operand);
            }
            match rule(&mut sweep, &node) {
                None => sweep.push(node)?,
                Some(rewrite) => {
                    fired += 1;
                    sweep.apply(node, rewrite)?;
                }
            }
        }
        let Sweep { graph, forwarded, .. } = sweep;
        for output in &mut graph.outputs {
            if let Some(Operand::Value(v)) = forwarded.get(&output.value) {
                output.value = *v;
            }
        }
        Ok(fired)
    }

    /// Sweeps until nothing changes; tells how often `rule` fired. Dead nodes are removed.
    pub(crate) fn to_fixpoint(
        pass: &'static str,
        graph: &mut Graph,
        mut rule: impl FnMut(&mut Sweep, &Node) -> Option<Rewrite>,
    ) -> Result<usize, PassError> {
        let mut total = 0;
        loop {
            let fired = Sweep::once(pass, graph, &mut rule)?;
            total += fired;
            if fired == 0 {
                return Ok(total);
            }
            remove_dead_nodes(graph);
        }
    }

    /// The rewritten node that computes a value.
    pub(crate) fn definition(&self, operand: Operand) -> Option<&Node> {
        self.graph.nodes().get(*self.defined_at.get(&operand.value()?)?)
    }

    /// Whether a value has one use, in a node.
    pub(crate) fn single_use(&self, v: ValueId) -> bool {
        self.uses.get(&v) == Some(&1)
    }

    /// Whether a value is an output of the graph.
    pub(crate) fn is_output(&self, v: ValueId) -> bool {
        self.graph.outputs.iter().any(|o| o.value == v)
    }

    /// The elements of an f32 constant.
    pub(crate) fn f32_constant(&self, operand: Operand) -> Option<(ConstId, &[f32])> {
        let id = operand.constant()?;
        Some((id, self.graph.constant(id).tensor.as_f32()?))
    }

    /// The one element of an f32 constant that has one.
    pub(crate) fn scalar(&self, operand: Operand) -> Option<f32> {
        match self.f32_constant(operand)?.1 {
            [x] => Some(*x),
            _ => None,
        }
    }

    /// A new node before the one that a rule looks at.
    pub(crate) fn insert(&mut self, op: Op, inputs: &[Operand], name: &str) -> Option<Operand> {
        let index = self.graph.nodes().len();
        let v = self.graph.append(op, inputs.iter().copied(), name).ok()?;
        self.defined_at.insert(v, index);
        for u in inputs.iter().filter_map(|o| o.value()) {
            *self.uses.entry(u).or_default() += 1;
        }
        Some(v.into())
    }

    fn resolve(&self, operand: Operand) -> Operand {
        let Operand::Value(v) = operand else { return operand };
        // Replacements are resolved when they are recorded, so one step is enough.
        self.forwarded.get(&v).copied().unwrap_or(operand)
    }

    fn push(&mut self, node: Node) -> Result<(), PassError> {
        self.defined_at.insert(node.output, self.graph.nodes().len());
        let place = self.graph.label(&node);
        self.graph.append_node(node).map_err(PassError::infer(self.pass, place))
    }

    fn apply(&mut self, node: Node, rewrite: Rewrite) -> Result<(), PassError> {
        let count = |uses: &mut HashMap<ValueId, usize>, operands: &[Operand], by: isize| {
            for v in operands.iter().filter_map(|o| o.value()) {
                let n = uses.entry(v).or_default();
                *n = n.saturating_add_signed(by);
            }
        };
        count(&mut self.uses, &node.inputs, -1);
        match rewrite {
            Rewrite::Forward(to) => {
                let moved = self.uses.get(&node.output).copied().unwrap_or(0);
                count(&mut self.uses, &[to], moved as isize);
                self.forwarded.insert(node.output, to);
                Ok(())
            }
            Rewrite::Replace(op, inputs) => {
                count(&mut self.uses, &inputs, 1);
                self.push(Node { op, inputs, ..node })
            }
            Rewrite::TakeOver(name, op, inputs) => {
                count(&mut self.uses, &inputs, 1);
                self.push(Node { op, inputs, name, ..node })
            }
            Rewrite::Split { first: (op, inputs), then, others } => {
                count(&mut self.uses, &inputs, 1);
                let place = self.graph.label(&node);
                let index = self.graph.nodes().len();
                let v = self.graph.append(op, inputs, &node.name).map_err(PassError::infer(self.pass, place))?;
                self.defined_at.insert(v, index);
                let inputs: SmallVec<[Operand; 4]> = [v.into()].into_iter().chain(others).collect();
                count(&mut self.uses, &inputs, 1);
                self.push(Node { op: then, inputs, ..node })
            }
        }
    }
}

/// Removes the nodes whose outputs nothing takes, and frees the constants that nothing takes; tells how many nodes.
pub(crate) fn remove_dead_nodes(graph: &mut Graph) -> usize {
    let before = graph.nodes().len();
    let mut live: HashSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    for node in graph.nodes().iter().rev() {
        if live.contains(&node.output) {
            live.extend(node.inputs.iter().filter_map(|o| o.value()));
        }
    }
    graph.retain_nodes(|n| live.contains(&n.output));
    graph.release_unused_constants();
    before - graph.nodes().len()
}
