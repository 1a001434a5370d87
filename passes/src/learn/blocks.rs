//! Finds the parts of a graph that are fitted to the float network one after the other.
//!
//! Wherever a single value carries everything from the nodes before it to those after it, the graph can be cut. What lies between
//! two cuts is a block: a residual block with its join, parallel branches with their concatenation, or a single layer. Activations that
//! follow belong to the block before them, pooling and shape operations to the block behind them. An inverted residual without a skip
//! (a pointwise layer that widens, a depthwise layer, a pointwise layer that narrows) is one block as well. The blocks follow from the
//! graph alone.

use crate::learn::layers::Layer;
use catc_ir::{Definition, Dim, Element, Graph, Op, Operand, ValueId};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How much is fitted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// One layer with its activation.
    Layer,
    /// One block.
    Block,
}

/// What is fitted at once: the nodes between its inputs and its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub inputs: Vec<ValueId>,
    pub output: ValueId,
    /// Its layers, by index in the list of layers.
    pub layers: Vec<usize>,
    /// Whether all that comes later depends on this unit through its output alone.
    pub separates: bool,
}

/// Nodes between two cuts of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What later nodes take of those before: one value, but for the first block.
    pub inputs: Vec<ValueId>,
    /// The same at its end: one value, but for the last block of a graph with several outputs.
    pub outputs: Vec<ValueId>,
    pub units: Vec<Unit>,
}

/// A stretch of nodes between cuts.
struct Segment {
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    layers: Vec<usize>,
    /// Whether it holds nothing but activations.
    activations: bool,
}

/// The blocks of a graph that have layers, in order. What follows the last layer belongs to the last block up to one of `ends`, the values
/// that the network is compared by: a softmax behind the class scores is no part of it.
pub(crate) fn find_blocks(graph: &Graph, layers: &[Layer], granularity: Granularity, ends: &[ValueId]) -> Vec<Block> {
    let block = |s: Segment| {
        let whole = |output| Unit { inputs: s.inputs.clone(), output, layers: s.layers.clone(), separates: true };
        let units = match s.outputs[..] {
            [output] if granularity == Granularity::Block || s.layers.len() == 1 => vec![whole(output)],
            _ => s.layers.iter().map(|&l| layer_unit(graph, layers, l, &s.outputs)).collect(),
        };
        Block { inputs: s.inputs, outputs: s.outputs, units }
    };
    merge(graph, segments(graph, layers), layers, ends).into_iter().map(block).collect()
}

/// A layer alone: from what its input's quantizer takes to its activation.
fn layer_unit(graph: &Graph, layers: &[Layer], index: usize, ends: &[ValueId]) -> Unit {
    let (definitions, uses) = (graph.definitions(), graph.uses());
    let node = |v: ValueId| match definitions[v] {
        Some(Definition::Node(i)) => Some(&graph.nodes()[i]),
        _ => None,
    };
    let taken = graph.nodes()[layers[index].node].inputs[0];
    let before =
        |v: ValueId, wanted: fn(&Op) -> bool| node(v).filter(|n| wanted(&n.op)).and_then(|n| n.inputs[0].value());
    let input = taken.value().map(|v| {
        let codes = before(v, |op| matches!(op, Op::Dequantize(_)));
        codes.and_then(|c| before(c, |op| matches!(op, Op::Quantize(_)))).unwrap_or(v)
    });
    let mut output = layers[index].output;
    if let [(only, _)] = uses[output][..]
        && matches!(graph.nodes()[only].op, Op::Unary(_))
        && !graph.outputs.iter().any(|o| o.value == output)
    {
        output = graph.nodes()[only].output;
    }
    Unit { inputs: input.into_iter().collect(), output, layers: vec![index], separates: ends == [output] }
}

/// The stretches between all cuts.
fn segments(graph: &Graph, layers: &[Layer]) -> Vec<Segment> {
    let nodes = graph.nodes();
    let mut wanted: HashSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    let mut varying: HashSet<ValueId> = graph.inputs.iter().map(|(v, _)| *v).collect();
    for node in nodes {
        if node.inputs.iter().any(|o| o.value().is_some_and(|v| varying.contains(&v))) {
            varying.insert(node.output);
        }
    }
    let mut last: HashMap<ValueId, usize> = wanted.iter().map(|v| (*v, usize::MAX)).collect();
    let mut needed = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate().rev() {
        if wanted.contains(&node.output) {
            needed[i] = varying.contains(&node.output);
            for v in node.inputs.iter().filter_map(|o| o.value()) {
                wanted.insert(v);
                last.entry(v).or_insert(i);
            }
        }
    }
    let at: HashMap<usize, usize> = layers.iter().enumerate().map(|(l, layer)| (layer.node, l)).collect();
    let mut live: BTreeSet<ValueId> = graph.inputs.iter().map(|(v, _)| *v).filter(|v| last.contains_key(v)).collect();
    let mut found = vec![];
    let mut open =
        Segment { inputs: live.iter().copied().collect(), outputs: vec![], layers: vec![], activations: true };
    let mut empty = true;
    for (i, node) in nodes.iter().enumerate().filter(|(i, _)| needed[*i]) {
        empty = false;
        open.layers.extend(at.get(&i));
        open.activations &= matches!(node.op, Op::Unary(_));
        live.insert(node.output);
        live.retain(|v| last[v] > i);
        let mut values = live.iter().copied();
        if let (Some(v), None) = (values.next(), values.next())
            && v == node.output
            && !matches!(node.op, Op::Dequantize(_))
            && is_batch_of_reals(graph, v)
        {
            open.outputs = vec![v];
            let next = Segment { inputs: vec![v], outputs: vec![], layers: vec![], activations: true };
            found.push(std::mem::replace(&mut open, next));
            empty = true;
        }
    }
    if !empty {
        open.outputs = live.into_iter().collect();
        found.push(open);
    }
    found
}

/// Whether a value is `[N, ..]` of reals, everything but the batch known.
pub(crate) fn is_batch_of_reals(graph: &Graph, v: ValueId) -> bool {
    let ty = graph.value_type(v);
    let dims = ty.shape.dims();
    ty.element == Element::F32
        && dims.first() == Some(&Dim::Batch(1))
        && dims[1..].iter().all(|d| matches!(d, Dim::Fixed(_)))
}

/// Joins segments until each has layers.
fn merge(graph: &Graph, segments: Vec<Segment>, layers: &[Layer], ends: &[ValueId]) -> Vec<Segment> {
    let is_end = |outputs: &[ValueId]| matches!(outputs, [v] if ends.contains(v));
    let mut merged: Vec<Segment> = vec![];
    let mut waiting: Option<Segment> = None;
    // Where the segments that wait reach an end.
    let mut reached: Option<Vec<ValueId>> = None;
    for mut s in segments {
        if let Some(before) = waiting.take() {
            s.inputs = before.inputs;
            s.activations = false;
        }
        let ended = merged.last().is_some_and(|before| is_end(&before.outputs));
        if !s.layers.is_empty() {
            reached = None;
            merged.push(s);
        } else if let (true, false, Some(before)) = (s.activations, ended, merged.last_mut()) {
            before.outputs = s.outputs;
        } else {
            if is_end(&s.outputs) {
                reached = Some(s.outputs.clone());
            }
            waiting = Some(s);
        }
    }
    if let (Some(outputs), Some(before)) = (reached, merged.last_mut()) {
        before.outputs = outputs;
    }
    let mut i = 0;
    while i + 2 < merged.len() {
        if is_inverted_residual(graph, layers, &merged[i..i + 3]) {
            let tail: Vec<Segment> = merged.drain(i + 1..i + 3).collect();
            merged[i].layers.extend(tail.iter().flat_map(|s| s.layers.iter().copied()));
            merged[i].outputs.clone_from(&tail[1].outputs);
        }
        i += 1;
    }
    merged
}

/// Whether three segments of one layer each widen, filter channel by channel, and narrow.
fn is_inverted_residual(graph: &Graph, layers: &[Layer], segments: &[Segment]) -> bool {
    let conv = |s: &Segment| {
        let [l] = s.layers[..] else { return None };
        let node = &graph.nodes()[layers[l].node];
        let Op::Conv2d(conv) = &node.op else { return None };
        let weight = graph.type_of(node.inputs[1]).shape.as_fixed()?;
        let channels = weight[1] * conv.groups;
        Some((conv.groups, weight[0], channels, weight[2..] == [1, 1]))
    };
    match [conv(&segments[0]), conv(&segments[1]), conv(&segments[2])] {
        [Some((1, wide, narrow, true)), Some((groups, out, channels, _)), Some((1, end, start, true))] => {
            wide > narrow && groups > 1 && groups == channels && out >= channels && end < start
        }
        _ => false,
    }
}

/// The nodes between a unit's inputs and its output, by index in order; those that depend on constants alone included.
pub(crate) fn unit_nodes(graph: &Graph, unit: &Unit) -> Vec<usize> {
    let mut wanted: HashSet<ValueId> = [unit.output].into();
    let mut found = vec![];
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        if wanted.contains(&node.output) && !unit.inputs.contains(&node.output) {
            found.push(i);
            wanted.extend(node.inputs.iter().filter_map(|o| match o {
                Operand::Value(v) => Some(*v),
                Operand::Const(_) => None,
            }));
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::layers::prepare;
    use catc_ir::text::{NoBlobs, parse};

    fn blocks(text: &str, granularity: Granularity) -> Vec<String> {
        let graph = parse(text, &NoBlobs).unwrap();
        let (prepared, layers) = prepare("test", &graph, &graph).unwrap();
        let names = |v: &[ValueId]| v.iter().map(|v| v.to_string()).collect::<Vec<_>>().join("+");
        let unit = |u: &Unit| {
            format!("{}>{}:{:?}{}", names(&u.inputs), u.output, u.layers, if u.separates { "" } else { "~" })
        };
        let ends: Vec<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
        let found = find_blocks(&prepared, &layers, granularity, &ends);
        found.iter().map(|b| b.units.iter().map(unit).collect::<Vec<_>>().join(" ")).collect()
    }

    const RESIDUAL: &str = "graph @g float {
  c0 = const f32[4,2,3,3] random(1, normal, 1.0)
  c1 = const f32[4,4,3,3] random(2, normal, 1.0)
  c2 = const f32[4,4,1,1] random(3, normal, 1.0)
  c3 = const f32[5,4] random(4, normal, 1.0)
input(v0: f32[N,2,8,8] \"x\"):
  v1: f32[N,4,8,8] = conv2d v0, c0 {pads=[1,1,1,1]}
  v2: f32[N,4,8,8] = relu v1
  v3: f32[N,4,8,8] = conv2d v2, c1 {pads=[1,1,1,1]}
  v4: f32[N,4,8,8] = relu v3
  v5: f32[N,4,8,8] = conv2d v4, c1 {pads=[1,1,1,1]}
  v6: f32[N,4,8,8] = conv2d v2, c2 {}
  v7: f32[N,4,8,8] = add v5, v6
  v8: f32[N,4,8,8] = relu v7
  v9: f32[N,4] = reduce_mean v8 {axes=[2,3]}
  v10: f32[N,5] = linear v9, c3
  output v10 \"y\"
}
";

    #[test]
    fn residual_blocks_end_behind_the_activation_of_their_join() {
        assert_eq!(blocks(RESIDUAL, Granularity::Block), ["v0>v2:[0]", "v2>v8:[1, 2, 3]", "v8>v10:[4]"]);
        assert_eq!(
            blocks(RESIDUAL, Granularity::Layer),
            ["v0>v2:[0]", "v2>v4:[1]~ v4>v5:[2]~ v2>v6:[3]~", "v8>v10:[4]"]
        );
    }

    #[test]
    fn inverted_residuals_without_skip_are_blocks_and_separable_layers_are_not() {
        let text = |wide: usize, end: usize| {
            format!(
                "graph @g float {{
  c0 = const f32[{wide},4,1,1] random(1, normal, 1.0)
  c1 = const f32[{wide},1,3,3] random(2, normal, 1.0)
  c2 = const f32[{end},{wide},1,1] random(3, normal, 1.0)
input(v0: f32[N,4,8,8] \"x\"):
  v1: f32[N,{wide},8,8] = conv2d v0, c0 {{}}
  v2: f32[N,{wide},8,8] = relu v1
  v3: f32[N,{wide},4,4] = conv2d v2, c1 {{strides=[2,2], pads=[1,1,1,1], groups={wide}}}
  v4: f32[N,{wide},4,4] = relu v3
  v5: f32[N,{end},4,4] = conv2d v4, c2 {{}}
  output v5 \"y\"
}}
"
            )
        };
        assert_eq!(blocks(&text(16, 6), Granularity::Block), ["v0>v5:[0, 1, 2]"]);
        assert_eq!(blocks(&text(16, 32), Granularity::Block), ["v0>v2:[0]", "v2>v4:[1]", "v4>v5:[2]"]);
    }

    #[test]
    fn parallel_branches_are_one_block_and_several_outputs_leave_layers() {
        let branches = RESIDUAL
            .replace("add v5, v6", "concat v5, v6 {axis=1}")
            .replace("c3 = const f32[5,4]", "c3 = const f32[5,8]");
        let branches =
            branches.replace("v7: f32[N,4,8,8]", "v7: f32[N,8,8,8]").replace("v8: f32[N,4,8,8]", "v8: f32[N,8,8,8]");
        let branches = branches.replace("v9: f32[N,4]", "v9: f32[N,8]");
        assert_eq!(blocks(&branches, Granularity::Block), ["v0>v2:[0]", "v2>v8:[1, 2, 3]", "v8>v10:[4]"]);
        let two = RESIDUAL.replace("output v10 \"y\"", "output v10 \"y\"\n  output v4 \"z\"");
        assert_eq!(blocks(&two, Granularity::Block), ["v0>v2:[0]", "v2>v4:[1]~ v4>v5:[2]~ v2>v6:[3]~ v9>v10:[4]~"]);
    }

    #[test]
    fn the_last_block_ends_at_what_is_compared() {
        let tail = |rest: &str, output: &str, end: &str| {
            let text = RESIDUAL.replace("  output v10 \"y\"\n", &format!("{rest}  output {output} \"y\"\n"));
            let graph = parse(&text, &NoBlobs).unwrap();
            let (prepared, layers) = prepare("test", &graph, &graph).unwrap();
            let end = graph.nodes().iter().find(|n| n.output.to_string() == end).unwrap().output;
            let found = find_blocks(&prepared, &layers, Granularity::Block, &[end]);
            found.last().unwrap().units[0].output.to_string()
        };
        let softmax = "  v11: f32[N,5] = softmax v10 {axis=1}\n";
        assert_eq!(tail(softmax, "v11", "v10"), "v10");
        let sigmoid = "  v11: f32[N,5] = sigmoid v10\n";
        assert_eq!(tail(sigmoid, "v11", "v10"), "v10");
        assert_eq!(tail(sigmoid, "v11", "v11"), "v11");
        let tempered = "  c9 = const f32[] [0.5]\n";
        let text = RESIDUAL.replace("input(v0", &format!("{tempered}input(v0"));
        let text = text.replace(
            "  output v10 \"y\"\n",
            "  v11: f32[N,5] = mul v10, c9\n  v12: f32[N,5] = softmax v11 {axis=1}\n  output v12 \"y\"\n",
        );
        let graph = parse(&text, &NoBlobs).unwrap();
        let (prepared, layers) = prepare("test", &graph, &graph).unwrap();
        let end = graph.nodes().iter().find(|n| n.output.to_string() == "v11").unwrap().output;
        let found = find_blocks(&prepared, &layers, Granularity::Block, &[end]);
        assert_eq!(found.last().unwrap().units[0].output, end);
    }

    #[test]
    fn attention_and_the_layers_after_it_are_a_block_each() {
        let text = "graph @g float {
  c0 = const f32[8] random(1, normal, 1.0)
  c1 = const f32[24,8] random(2, normal, 1.0)
  c2 = const f32[8,8] random(3, normal, 1.0)
  c3 = const f32[16,8] random(4, normal, 1.0)
  c4 = const f32[8,16] random(5, normal, 1.0)
  c5 = const f32[1,1,8] random(6, normal, 1.0)
input(v0: f32[N,4,8] \"x\"):
  v1: f32[N,1,8] = expand c5 {shape=[N,1,8]}
  v2: f32[N,5,8] = concat v1, v0 {axis=1}
  v3: f32[N,5,8] = layer_norm v2, c0, c0 {eps=1e-6}
  v4: f32[N,5,24] = linear v3, c1
  v5: f32[N,5,8] = slice v4 {axis=2, start=0, end=8}
  v6: f32[N,5,8] = slice v4 {axis=2, start=8, end=16}
  v7: f32[N,5,8] = slice v4 {axis=2, start=16, end=24}
  v8: f32[N,8,5] = transpose v6 {perm=[0,2,1]}
  v9: f32[N,5,5] = matmul v5, v8
  v10: f32[N,5,5] = softmax v9 {axis=2}
  v11: f32[N,5,8] = matmul v10, v7
  v12: f32[N,5,8] = linear v11, c2
  v13: f32[N,5,8] = add v2, v12
  v14: f32[N,5,8] = layer_norm v13, c0, c0 {eps=1e-6}
  v15: f32[N,5,16] = linear v14, c3
  v16: f32[N,5,16] = gelu v15
  v17: f32[N,5,8] = linear v16, c4
  v18: f32[N,5,8] = add v13, v17
  v19: f32[N,5,8] = layer_norm v18, c0, c0 {eps=1e-6}
  v20: f32[N,1,8] = slice v19 {axis=1, start=0, end=1}
  v21: f32[N,1,8] = linear v20, c2
  output v21 \"y\"
}
";
        assert_eq!(blocks(text, Granularity::Block), ["v0>v13:[0, 1]", "v13>v18:[2, 3]", "v18>v21:[4]"]);
    }
}
