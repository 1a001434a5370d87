//! Inlining of the functions of a model at the nodes that call them.

use crate::error::ImportErrorKind;
use crate::names::Names;
use crate::opset;
use crate::order::{inside, label};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use prost::Message;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The largest depth of nested function calls.
const DEEPEST: usize = 32;
/// The bytes that each call counts in addition to the contents of its function.
const CALL_BYTES: usize = 256;
/// The bytes that each node counts in addition to its bytes in the file. They cover the message in memory and the results of its
/// import.
const NODE_BYTES: usize = 8 << 10;
/// The bytes in memory for each byte of a node in the file.
const PER_BYTE: usize = 16;
/// The number of characters of a call's name that prefix the names in its function.
const PREFIX_LETTERS: usize = 80;

type Functions<'m> = HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>;

/// The graph of a model with all function calls inlined.
pub(crate) fn inlined<'m>(
    model: &'m ModelProto,
    graph: &'m GraphProto,
    versions: &BTreeMap<String, i64>,
    memory: usize,
) -> Result<Cow<'m, GraphProto>, ImportErrorKind> {
    let key = |f: &'m FunctionProto| (opset::domain(f.domain()), f.name(), f.overload());
    let functions: Functions = model.functions.iter().map(|f| (key(f), f)).collect();
    if !graph.node.iter().any(|n| called(&functions, n).is_some()) {
        return Ok(Cow::Borrowed(graph));
    }
    let taken = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    let mut inliner = Inliner { functions, versions, taken, nodes: vec![], bytes: 0, memory };
    for node in &graph.node {
        inliner.node(node.clone(), 0)?;
    }
    Ok(Cow::Owned(GraphProto { node: inliner.nodes, ..graph.clone() }))
}

fn called<'m>(functions: &Functions<'m>, node: &NodeProto) -> Option<&'m FunctionProto> {
    functions.get(&(opset::domain(node.domain()), node.op_type(), node.overload())).copied()
}

fn fail<T>(node: &NodeProto, problem: String) -> Result<T, ImportErrorKind> {
    Err(ImportErrorKind::Graph(format!("calls the function {} in node {:?}, {problem}", node.op_type(), label(node))))
}

struct Inliner<'m, 'v> {
    functions: Functions<'m>,
    versions: &'v BTreeMap<String, i64>,
    /// The names of tensors so far.
    taken: Names,
    nodes: Vec<NodeProto>,
    /// The bytes that all calls have taken so far, and the limit.
    bytes: usize,
    memory: usize,
}

impl Inliner<'_, '_> {
    /// Appends a node, or the nodes of the function that it calls.
    fn node(&mut self, node: NodeProto, depth: usize) -> Result<(), ImportErrorKind> {
        let Some(function) = called(&self.functions, &node) else {
            self.nodes.push(node);
            return Ok(());
        };
        // The nodes that a call copies are only checked at the next call, so the limit is exceeded by at most one function.
        let prefix: String = label(&node).chars().take(PREFIX_LETTERS).collect();
        self.bytes = self.bytes.saturating_add(CALL_BYTES);
        if self.bytes > self.memory {
            let limit = self.memory;
            let problem = format!(
                "and all calls together take more than the limit of {limit} bytes; raise the limit (`--max-memory`) if the model is to \
                 be trusted"
            );
            return fail(&node, problem);
        }
        if depth >= DEEPEST {
            return fail(&node, format!("the {DEEPEST}th within one another; functions cannot call themselves"));
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return fail(&node, "with more inputs or outputs than it has".into());
        }
        if function.node.iter().any(|n| inside(n).next().is_some()) {
            return fail(&node, "which holds control flow; export it without".into());
        }
        for import in &function.opset_import {
            let domain = opset::domain(import.domain());
            if self.versions.get(domain).is_some_and(|v| *v != import.version()) {
                return fail(&node, format!("which is written for another opset of {domain} than the model"));
            }
        }
        let mut names: HashMap<&str, String> = HashMap::new();
        for (formal, actual) in function.input.iter().zip(node.input.iter().map(Some).chain(std::iter::repeat(None))) {
            names.insert(formal, actual.cloned().unwrap_or_default());
        }
        for (formal, actual) in function.output.iter().zip(&node.output) {
            // An output of the function that is also its input needs an `Identity` node.
            if let Some(input) = names.get(formal.as_str()) {
                let identity = NodeProto {
                    op_type: Some("Identity".into()),
                    input: vec![input.clone()],
                    output: vec![actual.clone()],
                    ..Default::default()
                };
                self.nodes.push(identity);
            } else if !actual.is_empty() {
                names.insert(formal, actual.clone());
            }
        }
        for inner in &function.node {
            let size = inner.encoded_len().saturating_mul(PER_BYTE).saturating_add(NODE_BYTES);
            self.bytes = self.bytes.saturating_add(size);
            let mut copy = inner.clone();
            copy.name = Some(format!("{prefix}/{}", label(inner)));
            copy.attribute = inner.attribute.iter().filter_map(|a| resolved(a, &node, function)).collect();
            let mut rename = |name: &mut String, formal: &str| {
                if formal.is_empty() {
                    return;
                }
                *name = match names.get(formal) {
                    Some(actual) => actual.clone(),
                    None => self.taken.fresh(&format!("{prefix}/{formal}")),
                };
            };
            copy.input.iter_mut().zip(&inner.input).for_each(|(name, formal)| rename(name, formal));
            copy.output.iter_mut().zip(&inner.output).for_each(|(name, formal)| rename(name, formal));
            for (formal, actual) in inner.input.iter().zip(&copy.input).chain(inner.output.iter().zip(&copy.output)) {
                names.entry(formal).or_insert_with(|| actual.clone());
            }
            self.node(copy, depth + 1)?;
        }
        Ok(())
    }
}

/// Resolves an attribute inside a function. A reference to an attribute of the call gets the value from the call or the default
/// of the function. `None` if there is neither.
fn resolved(inner: &AttributeProto, call: &NodeProto, function: &FunctionProto) -> Option<AttributeProto> {
    let refers_to = inner.ref_attr_name();
    if refers_to.is_empty() {
        return Some(inner.clone());
    }
    let given = call.attribute.iter().chain(&function.attribute_proto).find(|a| a.name() == refers_to)?;
    Some(AttributeProto { name: inner.name.clone(), ..given.clone() })
}
