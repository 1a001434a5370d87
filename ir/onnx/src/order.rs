//! Finds the nodes that outputs depend on, and their order.

use crate::error::ImportErrorKind;
use crate::proto::{GraphProto, NodeProto};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// The name of a node in messages. A node without a name is named after its first output.
pub(crate) fn label(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.iter().map(String::as_str).find(|o| !o.is_empty()).unwrap_or("without a name"),
        name => name,
    }
}

fn fail<T>(problem: String) -> Result<T, ImportErrorKind> {
    Err(ImportErrorKind::Graph(problem))
}

/// The inputs of a node that are present, and the names that its subgraphs capture. Omitted optional inputs have empty names.
pub(crate) fn takes(node: &NodeProto) -> impl Iterator<Item = &str> {
    let inputs = node.input.iter().map(String::as_str).filter(|n| !n.is_empty());
    inputs.chain(inside(node).flat_map(captured))
}

/// The subgraphs in a node's attributes.
pub(crate) fn inside(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.as_deref().into_iter().chain(&a.graphs))
}

/// The names that a subgraph captures from the graphs around it.
pub(crate) fn captured(graph: &GraphProto) -> Vec<&str> {
    let own: HashSet<&str> = defined(graph).collect();
    let outputs = graph.output.iter().map(|o| o.name()).filter(|n| !n.is_empty());
    graph.node.iter().flat_map(takes).chain(outputs).filter(|n| !own.contains(n)).collect()
}

/// The names that a graph defines.
pub(crate) fn defined(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let made = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).filter(|o| !o.is_empty());
    graph.initializer.iter().map(|t| t.name()).chain(graph.input.iter().map(|i| i.name())).chain(made)
}

/// The nodes that outputs depend on, in topological order and otherwise in the order of the file. For a subgraph, `around` tells
/// which names the graphs around it define.
pub(crate) fn live_nodes(
    graph: &GraphProto,
    around: impl Fn(&str) -> bool,
) -> Result<Vec<&NodeProto>, ImportErrorKind> {
    let initializers: HashSet<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    let mut given: HashSet<&str> = HashSet::new();
    for name in graph.initializer.iter().map(|t| t.name()) {
        if !given.insert(name) {
            return fail(format!("has two initializers named `{name}`"));
        }
    }
    // Up to IR version 3, initializers are listed as inputs as well.
    for name in graph.input.iter().map(|i| i.name()).filter(|n| !initializers.contains(n)) {
        if !given.insert(name) {
            return fail(format!("has two inputs named `{name}`"));
        }
    }
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().map(String::as_str).filter(|o| !o.is_empty()) {
            if given.contains(output) || makers.insert(output, i).is_some() {
                return fail(format!("has two sources of `{output}`, one of them node {:?}", label(node)));
            }
        }
    }

    let mut live = vec![false; graph.node.len()];
    let mut todo: Vec<usize> = vec![];
    for output in graph.output.iter().map(|o| o.name()).filter(|n| !given.contains(n)) {
        match makers.get(output) {
            Some(&i) => todo.push(i),
            None if around(output) => {}
            None => return fail(format!("has an output `{output}` that no node computes")),
        }
    }
    while let Some(i) = todo.pop() {
        if std::mem::replace(&mut live[i], true) {
            continue;
        }
        for name in takes(&graph.node[i]).filter(|n| !given.contains(n)) {
            match makers.get(name) {
                Some(&maker) => todo.push(maker),
                None if around(name) => {}
                None => {
                    let node = label(&graph.node[i]);
                    return fail(format!("has a node {node:?} that takes `{name}`, which nothing gives"));
                }
            }
        }
    }
    sort(graph, &live, &makers)
}

/// Sorts the live nodes topologically. It repeatedly takes the first node of the file whose inputs are available.
fn sort<'m>(
    graph: &'m GraphProto,
    live: &[bool],
    makers: &HashMap<&str, usize>,
) -> Result<Vec<&'m NodeProto>, ImportErrorKind> {
    let mut waits_for = vec![0usize; graph.node.len()];
    let mut users: Vec<Vec<usize>> = vec![vec![]; graph.node.len()];
    let mut ready = BinaryHeap::new();
    for (i, node) in graph.node.iter().enumerate().filter(|(i, _)| live[*i]) {
        for &maker in takes(node).filter_map(|n| makers.get(n)) {
            users[maker].push(i);
            waits_for[i] += 1;
        }
        if waits_for[i] == 0 {
            ready.push(Reverse(i));
        }
    }
    let mut sorted = vec![];
    while let Some(Reverse(i)) = ready.pop() {
        sorted.push(&graph.node[i]);
        for &user in &users[i] {
            waits_for[user] -= 1;
            if waits_for[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    match (0..graph.node.len()).find(|&i| live[i] && waits_for[i] > 0) {
        Some(i) => fail(format!("has a cycle: node {:?} depends on what it computes", label(&graph.node[i]))),
        None => Ok(sorted),
    }
}
