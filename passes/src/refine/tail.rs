//! Evaluates the tail of a network repeatedly on the same images, from the values at a cut, which are kept for each image.

use crate::refine::needs::NodeNeeds;
use catc_interp::images::map_images;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::{Tensor, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of values that are kept.
const MAX_KEPT_BYTES: usize = 1 << 30;

/// How many images can be kept if each takes `bytes` at the worst cut: while the cut moves on, values before and behind it
/// are held.
pub(crate) fn images_that_fit(bytes: usize) -> usize {
    MAX_KEPT_BYTES / bytes.saturating_mul(2).max(1)
}

/// Images with the values that nodes from a cut on take.
pub(crate) struct Tail {
    cut: usize,
    images: Vec<BTreeMap<ValueId, Arc<Tensor>>>,
}

impl Tail {
    /// Images that are not evaluated yet: `inputs` holds the graph's inputs of each.
    pub fn new(interpreter: &Interpreter, inputs: Vec<Vec<Tensor>>) -> Tail {
        let values: Vec<ValueId> = interpreter.graph().inputs.iter().map(|(v, _)| *v).collect();
        let image = |tensors: Vec<Tensor>| values.iter().copied().zip(tensors.into_iter().map(Arc::new)).collect();
        Tail { cut: 0, images: inputs.into_iter().map(image).collect() }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Moves the cut forward to node `cut`.
    pub fn advance(&mut self, interpreter: &Interpreter, needs: &NodeNeeds, cut: usize) -> Result<(), EvalError> {
        if cut <= self.cut {
            return Ok(());
        }
        let frontier = needs.frontier(interpreter.graph(), cut);
        self.images = map_images(self.images.len(), |i| {
            let kept = &self.images[i];
            let missing: Vec<ValueId> = frontier.iter().copied().filter(|v| !kept.contains_key(v)).collect();
            let given: Vec<(ValueId, &Tensor)> = kept.iter().map(|(v, t)| (*v, t.as_ref())).collect();
            let computed = interpreter.run_from(&given, &missing)?;
            let computed = missing.into_iter().zip(computed.into_iter().map(Arc::new));
            let retained = frontier.iter().filter_map(|v| Some((*v, kept.get(v)?.clone())));
            Ok(retained.chain(computed).collect())
        })?;
        self.cut = cut;
        Ok(())
    }

    /// The value `target` of an image, from the cut on.
    pub fn value(&self, interpreter: &Interpreter, target: ValueId, image: usize) -> Result<Tensor, EvalError> {
        let given: Vec<(ValueId, &Tensor)> = self.images[image].iter().map(|(v, t)| (*v, t.as_ref())).collect();
        Ok(interpreter.run_from(&given, &[target])?.remove(0))
    }
}
