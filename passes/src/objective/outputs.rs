//! Which values of a graph are compared: its outputs, or the class scores that a softmax, an argmax or the like makes them of.

use crate::context::{CalibrationData, Progress, checked_sample};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::ops::{ArgMin, Binary, Reduce, Softmax, TopK, Unary};
use catc_ir::{Definition, Dim, Element, Graph, Node, Op, Operand, ValueId};
use nalgebra::DMatrix;
use std::collections::HashSet;

/// A value that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub value: ValueId,
    /// The name of the output.
    pub output: String,
    /// The axis of the class scores, and the operation that shows that they are class scores.
    pub scores: Option<(usize, &'static str)>,
    /// Why it holds no class scores whatever its values are, if that is so.
    pub no_scores: Option<&'static str>,
}

/// The values to compare, one for each output that depends on the inputs; outputs made of the same value count once. Else why there are none
/// (a sentence fragment).
pub(crate) fn candidates(graph: &Graph) -> Result<Vec<Candidate>, String> {
    let varying = varying(graph);
    let mut found: Vec<Candidate> = vec![];
    let mut skipped: Vec<String> = vec![];
    for output in &graph.outputs {
        let (value, scores) = scores_behind(graph, output.value);
        let ty = graph.value_type(value);
        let dims = ty.shape.dims();
        let sized = dims.len() >= 2 && dims[0] == Dim::Batch(1) && dims[1..].iter().all(|d| d.fixed().is_some());
        if ty.element != Element::F32 || !sized {
            skipped.push(format!("\"{}\" is {}", output.name, graph.type_text(ty)));
        } else if !matches!(graph.definitions()[value], Some(Definition::Node(_))) || !varying.contains(&value) {
            skipped.push(format!("\"{}\" is an input or a constant", output.name));
        } else if let Some(same) = found.iter_mut().find(|c| c.value == value) {
            same.scores = same.scores.or(scores);
        } else {
            let no_scores = if node_of(graph, value).is_some_and(is_bounded) {
                Some("a function to a bounded range makes it")
            } else if value != output.value && scores.is_none() {
                Some("the least component is chosen")
            } else {
                None
            };
            found.push(Candidate { value, output: output.name.clone(), scores, no_scores });
        }
    }
    if found.is_empty() { Err(format!("no output holds reals to compare: {}", skipped.join(", "))) } else { Ok(found) }
}

/// The values that depend on the inputs.
fn varying(graph: &Graph) -> HashSet<ValueId> {
    let mut found: HashSet<ValueId> = graph.inputs.iter().map(|(v, _)| *v).collect();
    for node in graph.nodes() {
        if node.inputs.iter().any(|o| o.value().is_some_and(|v| found.contains(&v))) {
            found.insert(node.output);
        }
    }
    found
}

fn node_of(graph: &Graph, v: ValueId) -> Option<&Node> {
    match graph.definitions()[v] {
        Some(Definition::Node(i)) => Some(&graph.nodes()[i]),
        _ => None,
    }
}

/// Whether a node gives values of a bounded range: probabilities of several labels, angles.
fn is_bounded(node: &Node) -> bool {
    matches!(node.op, Op::Unary(Unary::Sigmoid | Unary::HardSigmoid { .. } | Unary::Tanh))
}

/// The value whose softmax, log-softmax, argmax or largest elements an output is, possibly rearranged, with the axis and what shows it; else
/// the output itself.
fn scores_behind(graph: &Graph, output: ValueId) -> (ValueId, Option<(usize, &'static str)>) {
    let mut at = output;
    let mut found = (output, None);
    while let Some(node) = node_of(graph, at) {
        let Some(input) = node.inputs.first().and_then(|o| o.value()) else { break };
        match &node.op {
            Op::Softmax(Softmax { axis }) => return (input, Some((*axis, "a softmax"))),
            // The largest is the least of what is negated; where a layer has taken the sign, its outputs are values.
            Op::ArgMin(ArgMin { axis }) => match negated(graph, input) {
                Some(v) => found = (v, Some((*axis, "an argmax"))),
                None => found = (input, None),
            },
            Op::TopK(TopK { axis, largest: true, .. }) => found = (input, Some((*axis, "a choice of the largest"))),
            Op::Binary(Binary::Sub) => match log_softmax(graph, node) {
                Some((scores, axis)) => return (scores, Some((axis, "a log-softmax"))),
                None => break,
            },
            Op::Reshape(_) | Op::Transpose(_) | Op::Identity(_) | Op::Cast(_) | Op::Slice(_) | Op::Gather(_) => {
                at = input;
                continue;
            }
            _ => break,
        }
        // What an argmax takes may itself be a softmax.
        at = found.0;
    }
    found
}

/// What a value is the negative of: a product with a negative number.
fn negated(graph: &Graph, v: ValueId) -> Option<ValueId> {
    let node = node_of(graph, v).filter(|n| n.op == Op::Binary(Binary::Mul))?;
    let factor = graph.constant(node.inputs[1].constant()?).tensor.as_f32()?.first().copied()?;
    node.inputs[0].value().filter(|_| factor < 0.0)
}

/// The scores and the axis of `y - log(sum(exp(y)))` with `y = x - max(x)`: the scores are x.
fn log_softmax(graph: &Graph, node: &Node) -> Option<(ValueId, usize)> {
    let shifted = node.inputs[0].value()?;
    let input = |v: ValueId, wanted: &dyn Fn(&Op) -> bool| {
        let n = node_of(graph, v).filter(|n| wanted(&n.op))?;
        Some((n.inputs.first()?.value()?, n))
    };
    let (mut sum, _) = input(node.inputs[1].value()?, &|op| matches!(op, Op::Unary(Unary::Log)))?;
    if let Some((mean, _)) = input(sum, &|op| matches!(op, Op::Binary(Binary::Mul))) {
        sum = mean;
    }
    let (exponential, reduction) = input(sum, &|op| matches!(op, Op::ReduceMean(_) | Op::Reduce(_)))?;
    let axes = match &reduction.op {
        Op::ReduceMean(r) => &r.axes,
        Op::Reduce(Reduce { axes, .. }) => axes,
        _ => return None,
    };
    let (of, _) = input(exponential, &|op| matches!(op, Op::Unary(Unary::Exp)))?;
    let axis = *axes.first()?;
    if of != shifted {
        return None;
    }
    match input(shifted, &|op| matches!(op, Op::Binary(Binary::Sub))) {
        Some((scores, _)) => Some((scores, axis)),
        None => Some((shifted, axis)),
    }
}

/// The value that holds the class scores `[N,classes]` of a classifier's first output: the output, or what a softmax over the
/// classes makes it of. Else why there is none (a sentence fragment). For a network that is known to be a classifier.
pub fn class_scores(graph: &Graph) -> Result<ValueId, String> {
    let output = graph.outputs.first().ok_or("the graph has no output")?;
    let (value, _) = scores_behind(graph, output.value);
    let ty = graph.value_type(value);
    match (ty.element, ty.shape.dims()) {
        (Element::F32, [Dim::Batch(1), Dim::Fixed(classes)]) if *classes >= 2 => {}
        (Element::F32, [Dim::Batch(1), Dim::Fixed(_)]) => return Err("the output has a single class".into()),
        _ => return Err(format!("the output has shape {}, not [N,classes] in f32", ty.shape)),
    }
    match node_of(graph, value) {
        Some(node) if is_bounded(node) => {
            Err(format!("{} makes the output, which is no distribution over classes", graph.label(node)))
        }
        Some(_) => Ok(value),
        None => Err("the output is an input of the graph".into()),
    }
}

/// What `graph` computes for `value` (one row for each image) on every sample of `data`, which must not be empty:
/// `C x N`, a sample a column. `pass` is who asks, for errors.
pub fn evaluate_rows(
    graph: &Graph,
    value: ValueId,
    data: &dyn CalibrationData,
    pass: &'static str,
    progress: &dyn Progress,
) -> Result<DMatrix<f64>, PassError> {
    let interpreter = Interpreter::new(graph).map_err(|e| PassError::evaluation(pass, e))?;
    progress.start("outputs", data.len() as u64);
    let rows = map_images(data.len(), |index| {
        let inputs = checked_sample(graph, data, index)?;
        let tensors = interpreter.run_to(&inputs, &[value]).map_err(|e| PassError::evaluation(pass, e))?;
        progress.advance(1);
        let row = tensors.iter().flat_map(|t| t.as_f32().unwrap_or(&[]));
        Ok::<_, PassError>(row.map(|&z| f64::from(z)).collect::<Vec<f64>>())
    });
    progress.finish();
    let rows = rows?;
    let (components, count) = (rows.first().map_or(0, Vec::len), rows.len());
    Ok(DMatrix::from_iterator(components, count, rows.into_iter().flatten()))
}

/// The values that an operand's value is computed from and that depend on it: everything downstream of `from`.
pub(crate) fn downstream(graph: &Graph, from: ValueId) -> HashSet<ValueId> {
    let mut found: HashSet<ValueId> = [from].into();
    for node in graph.nodes() {
        let takes = |o: &Operand| o.value().is_some_and(|v| found.contains(&v));
        if node.inputs.iter().any(takes) {
            found.insert(node.output);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use catc_ir::text::{NoBlobs, parse};

    fn found(nodes: &str, outputs: &[&str]) -> Vec<String> {
        let outputs: String = outputs.iter().map(|v| format!("  output {v} \"{v}\"\n")).collect();
        let text = format!(
            "graph @g float {{\n  c0 = const f32[6,4] random(1, normal, 1.0)\n  c1 = const f32[] [2.0]\n  c2 = const f32[] [-1.0]\n\
             input(v0: f32[N,4] \"x\"):\n  v1: f32[N,6] = linear v0, c0\n{nodes}{outputs}}}\n"
        );
        let graph = parse(&text, &NoBlobs).unwrap();
        match candidates(&graph) {
            Err(reason) => vec![reason],
            Ok(all) => {
                let text = |c: &Candidate| match c.scores {
                    Some((axis, what)) => format!("{} {what} {axis}", c.value),
                    None => format!("{} {}", c.value, c.no_scores.unwrap_or("")).trim_end().to_string(),
                };
                all.iter().map(text).collect()
            }
        }
    }

    #[test]
    fn scores_are_found_behind_what_makes_outputs_of_them() {
        assert_eq!(found("", &["v1"]), ["v1"]);
        assert_eq!(found("  v2: f32[N,6] = softmax v1 {axis=1}\n", &["v2"]), ["v1 a softmax 1"]);
        let tempered =
            "  v2: f32[N,6] = mul v1, c1\n  v3: f32[N,6] = softmax v2 {axis=1}\n  v4: f32[N,6] = identity v3\n";
        assert_eq!(found(tempered, &["v4"]), ["v2 a softmax 1"]);
        let both =
            "  v2: f32[N,6] = softmax v1 {axis=1}\n  v3: f32[N,6] = mul v2, c2\n  v4: i64[N] = argmin v3 {axis=1}\n";
        assert_eq!(found(both, &["v1", "v2", "v4"]), ["v1 a softmax 1"]);
        assert_eq!(found("  v2: i64[N] = argmin v1 {axis=1}\n", &["v2"]), ["v1 the least component is chosen"]);
        let largest = "  v2: f32[N,2] = top_k v1 {axis=1, k=2, largest=true}\n";
        assert_eq!(found(largest, &["v2"]), ["v1 a choice of the largest 1"]);
        let folded = "  v2: f32[N,2,3] = reshape v1 {shape=[N,2,3]}\n  v3: f32[N,2,3] = softmax v2 {axis=2}\n  \
                      v4: f32[N,3,2] = transpose v3 {perm=[0,2,1]}\n";
        assert_eq!(found(folded, &["v4"]), ["v2 a softmax 2"]);
        assert_eq!(found("  v2: f32[N,3,2] = reshape v1 {shape=[N,3,2]}\n", &["v2"]), ["v2"]);
        assert_eq!(
            found("  v2: f32[N,6] = sigmoid v1\n", &["v2", "v1"]),
            ["v2 a function to a bounded range makes it", "v1"]
        );
    }

    #[test]
    fn logarithms_of_probabilities_are_made_of_scores() {
        let nodes = "  v2: f32[N,1] = reduce_max v1 {axes=[1], keep_dims=true}\n  v3: f32[N,6] = sub v1, v2\n  \
                     v4: f32[N,6] = exp v3\n  v5: f32[N,1] = reduce_mean v4 {axes=[1], keep_dims=true}\n  \
                     v6: f32[N,1] = mul v5, c1\n  v7: f32[N,1] = log v6\n  v8: f32[N,6] = sub v3, v7\n";
        assert_eq!(found(nodes, &["v8"]), ["v1 a log-softmax 1"]);
    }

    #[test]
    fn outputs_that_hold_nothing_to_compare_are_named() {
        assert_eq!(found("", &["v0"]), ["no output holds reals to compare: \"v0\" is an input or a constant"]);
        assert_eq!(found("", &["v0", "v1"]), ["v1"]);
    }
}
