//! The work of evaluating a graph, computed from its shapes alone. Searches derive their effort from it, so that results do not depend
//! on a clock.

use catc_ir::{Graph, Node, Op};

/// What an element of an output costs beside its products, in multiply-adds: reading, writing, rounding. Searches depend on it.
const PER_ELEMENT: u64 = 8;
/// The same in time, where tensors are written and read again node by node: what is announced.
const PER_ELEMENT_IN_TIME: u64 = 35;

/// The cost of a node for one image, in multiply-adds.
pub fn node_work(graph: &Graph, node: &Node) -> u64 {
    cost(graph, node, PER_ELEMENT)
}

/// The time that a node takes for one image when networks are learned, in that of so many multiply-adds. Nothing but the time that is
/// announced follows from it.
pub fn node_time(graph: &Graph, node: &Node) -> u64 {
    cost(graph, node, PER_ELEMENT_IN_TIME)
}

/// The time of a whole graph: the sum of [`node_time`].
pub fn graph_time(graph: &Graph) -> f64 {
    graph.nodes().iter().map(|n| node_time(graph, n) as f64).sum()
}

fn cost(graph: &Graph, node: &Node, per_element: u64) -> u64 {
    let elements = |sizes: &[usize]| sizes.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    let sizes = |i: usize| graph.type_of(node.inputs[i]).shape.at_batch(1);
    let output = elements(&graph.value_type(node.output).shape.at_batch(1));
    let depth = match &node.op {
        Op::Conv2d(_) => elements(&sizes(1)[1..]),
        Op::Linear(_) => sizes(1).get(1).map_or(0, |&k| k as u64),
        Op::MatMul(_) => sizes(0).last().map_or(0, |&k| k as u64),
        Op::SquaredDistance(_) => sizes(1).get(1).map_or(0, |&p| p as u64),
        Op::MaxPool(p) => elements(&p.0.kernel),
        Op::AvgPool(p) => elements(&p.window.kernel),
        Op::Interpolate(_) => sizes(2).last().map_or(0, |&taps| taps as u64),
        Op::ReduceMean(_) => return elements(&sizes(0)),
        _ => 0,
    };
    output.saturating_mul(depth.saturating_add(per_element))
}

/// The work of a network that budgets are given for, in multiply-adds: that of a small residual network on 32x32 images.
const USUAL: f64 = 4e7;
/// The exponent by which budgets grow with the work of a network. A network of 45 times the work gets 4.6 times the budget: it is learned in
/// fewer iterations, each of which gains more.
const GROWTH: f64 = 0.4;

/// The multiply-adds to spend on a network whose evaluation takes `work` of them, for a `budget` in 10^9 that is meant for one of 40
/// million.
pub fn scaled_budget(budget: f64, work: f64) -> f64 {
    budget * 1e9 * (work.max(1.0) / USUAL).powf(GROWTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use catc_ir::text::{NoBlobs, parse};

    #[test]
    fn budgets_grow_more_slowly_than_work() {
        assert_eq!(scaled_budget(3.0, 4e7), 3e9);
        let larger = scaled_budget(3.0, 45.0 * 4e7);
        assert!(larger > 4.0 * 3e9 && larger < 5.0 * 3e9, "{larger}");
    }

    #[test]
    fn products_and_elements_are_counted() {
        let text = "graph @g float {
  c0 = const f32[8,2,3,3] random(1, normal, 1.0)
  c1 = const f32[5,8] random(2, normal, 1.0)
input(v0: f32[N,4,6,6] \"x\"):
  v1: f32[N,8,4,4] = conv2d v0, c0 {strides=[1,1], pads=[0,0,0,0], groups=2}
  v2: f32[N,8,4,4] = relu v1
  v3: f32[N,8] = reduce_mean v2 {axes=[2,3]}
  v4: f32[N,5] = linear v3, c1
  output v4 \"y\"
}
";
        let graph = parse(text, &NoBlobs).unwrap();
        let work: Vec<u64> = graph.nodes().iter().map(|n| node_work(&graph, n)).collect();
        assert_eq!(work, [128 * (18 + 8), 128 * 8, 128, 5 * (8 + 8)]);
        assert_eq!(graph_time(&graph), (128 * (18 + 35) + 128 * 35 + 128 + 5 * (8 + 35)) as f64);
    }
}
