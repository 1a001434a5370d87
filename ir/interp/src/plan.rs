//! Determines which nodes an evaluation runs, when it frees values, and how much memory it needs.

use catc_ir::{Dim, Element, Graph, Operand, Shape, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};

/// The sizes of a shape for `batch` images, and their product. `None` on overflow.
pub(crate) fn sizes(shape: &Shape, batch: usize) -> Option<(Vec<usize>, usize)> {
    let one = |d: &Dim| match *d {
        Dim::Fixed(n) => Some(n),
        Dim::Batch(k) => k.checked_mul(batch),
    };
    let sizes: Vec<usize> = shape.dims().iter().map(one).collect::<Option<_>>()?;
    let volume = sizes.iter().try_fold(1usize, |a, &b| a.checked_mul(b))?;
    Some((sizes, volume))
}

/// The number of elements of a shape for `batch` images.
fn elements(shape: &Shape, batch: usize) -> u128 {
    shape.dims().iter().fold(1u128, |n, d| {
        let d = match *d {
            Dim::Fixed(k) => k as u128,
            Dim::Batch(k) => (k as u128).saturating_mul(batch as u128),
        };
        n.saturating_mul(d)
    })
}

/// The nodes to run in order, each with the values that are freed after it.
pub(crate) struct EvaluationPlan {
    pub steps: Vec<EvaluationStep>,
}

pub(crate) struct EvaluationStep {
    /// The index of the node.
    pub node: usize,
    /// The values that neither a later step nor the caller needs.
    pub ends: Vec<ValueId>,
}

/// A needed graph input is not known.
pub(crate) struct Unreached(pub ValueId);

impl EvaluationPlan {
    /// Plans the nodes between the `known` and the `wanted` values, or all nodes if `everything` is true. Neither `known` nor
    /// `wanted` values are freed.
    pub fn new(
        graph: &Graph,
        known: &EntitySet<ValueId>,
        wanted: &[ValueId],
        everything: bool,
    ) -> Result<EvaluationPlan, Unreached> {
        let mut needed: EntitySet<ValueId> = EntitySet::new();
        wanted.iter().for_each(|&v| {
            needed.insert(v);
        });
        let mut last: SecondaryMap<ValueId, bool> = SecondaryMap::new();
        wanted.iter().for_each(|&v| last[v] = true);
        let mut steps = vec![];
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            if known.contains(node.output) || !(everything || needed.contains(node.output)) {
                continue;
            }
            let mut ends = vec![];
            // A value that nothing uses is freed after the node that computes it.
            if !needed.contains(node.output) {
                ends.push(node.output);
            }
            for v in node.inputs.iter().filter_map(|o| o.value()) {
                needed.insert(v);
                if !last[v] && !known.contains(v) {
                    last[v] = true;
                    ends.push(v);
                }
            }
            steps.push(EvaluationStep { node: i, ends });
        }
        steps.reverse();
        let missing = graph.inputs.iter().map(|(v, _)| *v).find(|&v| needed.contains(v) && !known.contains(v));
        match missing {
            Some(v) => Err(Unreached(v)),
            None => Ok(EvaluationPlan { steps }),
        }
    }

    /// The peak size of the values that are alive at once, in bytes. Known values do not count.
    pub fn peak_bytes(&self, graph: &Graph, batch: usize) -> u128 {
        let bytes = |v: ValueId| {
            let ty = graph.value_type(v);
            let width = match ty.element {
                Element::F32 => 4u128,
                Element::I64 => 8,
                Element::Bool => 1,
                Element::Code(_) => 2,
            };
            elements(&ty.shape, batch).saturating_mul(width)
        };
        let (mut alive, mut peak) = (0u128, 0u128);
        for step in &self.steps {
            let node = &graph.nodes()[step.node];
            alive = alive.saturating_add(bytes(node.output));
            // Integer convolutions also hold their input as f32, which takes twice the bytes of the codes.
            let extra = node.inputs.first().map_or(0, |o| match o {
                Operand::Value(v) => bytes(*v).saturating_mul(2),
                Operand::Const(_) => 0,
            });
            peak = peak.max(alive.saturating_add(extra));
            step.ends.iter().for_each(|&v| alive = alive.saturating_sub(bytes(v)));
        }
        peak
    }
}
