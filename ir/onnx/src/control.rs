//! Expansion of `If` and `Loop`, if the condition or the number of iterations is known at import. `If` is replaced by the branch
//! that is taken, and `Loop` by one copy of its body for each iteration. TorchScript writes both around computations that only
//! depend on shapes.

use crate::error::{ImportErrorKind, NodeProblem};
use crate::node::{NodeContext, Outputs};
use crate::ops::stacked;
use crate::opset::{self, STANDARD};
use crate::order::{defined, live_nodes};
use crate::proto::{GraphProto, NodeProto};
use crate::support::check_supported;
use crate::translate::{Importer, at_node};
use crate::value::{Known, Value};
use catc_ir::{Tensor, TensorData};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The largest total number of nodes in subgraphs. Each node counts as often as it is translated.
const MAX_NODES: usize = 1 << 16;

type Versions = BTreeMap<String, i64>;

/// Whether a node is control flow that can be expanded.
pub(crate) fn written_out(node: &NodeProto) -> bool {
    opset::domain(node.domain()) == STANDARD && matches!(node.op_type(), "If" | "Loop")
}

fn graph<'m>(node: &'m NodeProto, name: &'static str) -> Result<&'m GraphProto, NodeProblem> {
    let attribute = node.attribute.iter().find(|a| a.name() == name);
    attribute.and_then(|a| a.g.as_deref()).ok_or_else(|| NodeProblem::attribute(name, "holds no graph"))
}

/// The known boolean of a value, if it has one.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Known(Known::Tensor(t)) => match t.data() {
            TensorData::Bool(v) if v.len() == 1 => Some(v[0]),
            _ => None,
        },
        _ => None,
    }
}

fn known_truth(value: &Value, index: usize, what: &str) -> Result<bool, NodeProblem> {
    truth(value).ok_or_else(|| NodeProblem::computed(index, what))
}

fn of_truth(b: bool) -> Value {
    Known::from(Tensor::new(vec![], TensorData::Bool(vec![b]))).into()
}

impl<'m> Importer<'_, 'm> {
    /// Translates a control flow node and returns its outputs.
    pub fn control(&mut self, node: &'m NodeProto, versions: &Versions) -> Result<Outputs, ImportErrorKind> {
        match node.op_type() {
            "If" => self.branch(node, versions),
            _ => self.rounds(node, versions),
        }
    }

    fn optional(&mut self, node: &'m NodeProto, index: usize) -> Result<Option<Value>, NodeProblem> {
        node.input.get(index).filter(|n| !n.is_empty()).map(|n| self.value(n, index)).transpose()
    }

    fn branch(&mut self, node: &'m NodeProto, versions: &Versions) -> Result<Outputs, ImportErrorKind> {
        let fail = |problem| at_node(node, versions, problem);
        let condition = self.optional(node, 0).map_err(fail)?;
        let condition = condition.ok_or_else(|| fail(NodeProblem::input(0, "is missing")))?;
        let taken = match known_truth(&condition, 0, "the condition").map_err(fail)? {
            true => graph(node, "then_branch"),
            false => graph(node, "else_branch"),
        };
        let taken = taken.map_err(fail)?;
        if taken.output.len() != node.output.len() {
            return Err(fail(NodeProblem::invalid("its branch has another number of outputs")));
        }
        self.enter(taken, node, versions)?;
        let outputs = self.inner(taken, vec![], node, versions);
        taken.output.iter().zip(&node.output).for_each(|(inner, outer)| self.pass_type(inner.name(), outer));
        self.leave(taken);
        Ok(outputs?.into())
    }

    fn rounds(&mut self, node: &'m NodeProto, versions: &Versions) -> Result<Outputs, ImportErrorKind> {
        let fail = |problem| at_node(node, versions, problem);
        let body = graph(node, "body").map_err(fail)?;
        let most = match self.optional(node, 0).map_err(fail)? {
            None => None,
            Some(Value::Known(known)) => match known.as_sizes().as_deref() {
                Some([size]) if size.fixed().is_some() => size.fixed(),
                _ => return Err(fail(NodeProblem::input(0, "(the number of rounds) must be one number"))),
            },
            Some(Value::Computed(_)) => return Err(fail(NodeProblem::computed(0, "the number of rounds"))),
        };
        let condition = self.optional(node, 1).map_err(fail)?;
        let checked = condition.is_some();
        let mut goes_on = match &condition {
            Some(c) => known_truth(c, 1, "the condition").map_err(fail)?,
            None => true,
        };
        let carried = node.input.len().saturating_sub(2);
        let scanned = node.output.len().checked_sub(carried);
        let Some(scanned) = scanned.filter(|s| body.output.len() == 1 + carried + s && body.input.len() == 2 + carried)
        else {
            return Err(fail(NodeProblem::invalid("its body has another number of inputs or outputs")));
        };
        let mut state = (2..node.input.len())
            .map(|i| self.optional(node, i)?.ok_or_else(|| NodeProblem::input(i, "is missing")))
            .collect::<Result<Vec<Value>, _>>()
            .map_err(fail)?;
        let mut scans: Vec<Vec<Value>> = vec![vec![]; scanned];
        self.enter(body, node, versions)?;
        node.input.iter().zip(&body.input).skip(2).for_each(|(outer, inner)| self.pass_type(outer, inner.name()));
        let mut round = 0;
        while goes_on && most.is_none_or(|most| round < most) {
            if most.is_none() && !checked {
                return Err(fail(NodeProblem::invalid(
                    "never ends: it has neither a number of rounds nor a condition",
                )));
            }
            let number = Known::from(Tensor::i64(&[], vec![round])).into();
            let inputs = [number, of_truth(true)].into_iter().chain(state).collect();
            let mut outputs = self.inner(body, inputs, node, versions)?.into_iter();
            let after = outputs.next().unwrap_or_else(|| of_truth(true));
            state = outputs.by_ref().take(carried).collect();
            scans.iter_mut().zip(outputs).for_each(|(scan, value)| scan.push(value));
            if checked {
                goes_on = known_truth(&after, 1, "the condition after a round").map_err(fail)?;
            }
            round += 1;
        }
        body.output.iter().skip(1).zip(&node.output).for_each(|(inner, outer)| self.pass_type(inner.name(), outer));
        self.leave(body);
        let mut outputs = Outputs::from_vec(state);
        for scan in scans {
            if scan.is_empty() {
                return Err(fail(NodeProblem::unsupported("it runs no round, so that an output is empty")));
            }
            let mut cx = NodeContext::new(self, node, versions[STANDARD]);
            outputs.extend(stacked(&mut cx, &scan).map_err(fail)?);
        }
        Ok(outputs)
    }

    /// Binds the names of the constants of a subgraph. The names must be free.
    fn enter(
        &mut self,
        graph: &'m GraphProto,
        node: &'m NodeProto,
        versions: &Versions,
    ) -> Result<(), ImportErrorKind> {
        let mut own = HashSet::new();
        if let Some(name) = defined(graph).find(|n| self.knows(n)) {
            let problem = format!("a graph inside it defines `{name}`, which is defined around it");
            return Err(at_node(node, versions, NodeProblem::invalid(problem)));
        }
        for proto in &graph.initializer {
            let tensor = self.read_tensor(proto);
            let tensor = tensor.map_err(|problem| ImportErrorKind::Tensor { name: proto.name().into(), problem })?;
            if own.insert(proto.name()) {
                self.bind(proto.name(), Value::Known(Known::Tensor(Arc::new(tensor))));
            }
        }
        Ok(())
    }

    /// Unbinds all names of a subgraph.
    fn leave(&mut self, graph: &'m GraphProto) {
        defined(graph).for_each(|name| self.unbind(name));
    }

    /// Translates a subgraph and returns its outputs.
    fn inner(
        &mut self,
        graph: &'m GraphProto,
        inputs: Vec<Value>,
        node: &'m NodeProto,
        versions: &Versions,
    ) -> Result<Vec<Value>, ImportErrorKind> {
        let nodes = live_nodes(graph, |name| self.knows(name))?;
        check_supported(&nodes, versions)?;
        self.nodes_inside = self.nodes_inside.saturating_add(graph.node.len() + 1);
        if self.nodes_inside > MAX_NODES {
            let problem = format!("control flow written out comes to more than {MAX_NODES} nodes");
            return Err(at_node(node, versions, NodeProblem::unsupported(problem)));
        }
        for (info, value) in graph.input.iter().zip(inputs) {
            self.bind(info.name(), value);
        }
        self.inside.push(graph);
        let done = self.nodes(&nodes, versions);
        self.inside.pop();
        done?;
        let outputs = graph.output.iter().enumerate().map(|(i, o)| self.value(o.name(), i)).collect::<Result<_, _>>();
        outputs.map_err(|problem| at_node(node, versions, problem))
    }
}
