//! A recorded evaluation that is split into parts of a few images each and runs on several threads.

use crate::tape::{Gradients, Tape, Wrt};
use crate::{EvalError, Evaluator, Interpreter};
use catc_ir::{Dim, Graph, Shape, Tensor, TensorData, ValueId};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// A recorded evaluation whose batch is split into parts ([`Interpreter::record_parts`]).
pub struct BatchTape<'a> {
    /// The parts in the order of their images. There is at least one.
    parts: Vec<Tape<'a>>,
}

/// Whether the first dimension of a value is the batch.
fn by_image(graph: &Graph, v: ValueId) -> bool {
    matches!(graph.value_type(v).shape.dims().first(), Some(Dim::Batch(_)))
}

/// Whether a dimension other than the first depends on the batch.
fn mixes(shape: &Shape) -> bool {
    shape.dims().iter().skip(1).any(|d| matches!(d, Dim::Batch(_)))
}

/// The images `images` of a tensor that holds `batch` images along its first dimension.
fn part(tensor: &Tensor, batch: usize, images: &Range<usize>) -> Tensor {
    fn cut<T: Clone>(data: &[T], batch: usize, images: &Range<usize>) -> Vec<T> {
        let each = data.len() / batch;
        data[images.start * each..images.end * each].to_vec()
    }
    let mut shape = tensor.shape().to_vec();
    shape[0] = shape[0] / batch * images.len();
    let data = match tensor.data() {
        TensorData::F32(x) => TensorData::F32(cut(x, batch, images)),
        TensorData::I64(x) => TensorData::I64(cut(x, batch, images)),
        TensorData::Bool(x) => TensorData::Bool(cut(x, batch, images)),
        TensorData::Code(x) => TensorData::Code(cut(x, batch, images)),
    };
    Tensor::new(shape, data)
}

/// Concatenates tensors of the same element type along their first dimension.
fn joined(parts: &[&Tensor]) -> Option<Tensor> {
    let first = parts.first()?;
    let mut shape = first.shape().to_vec();
    shape[0] = parts.iter().map(|t| t.shape()[0]).sum();
    let data = match first.data() {
        TensorData::F32(_) => TensorData::F32(parts.iter().filter_map(|t| t.as_f32()).flatten().copied().collect()),
        TensorData::I64(_) => TensorData::I64(parts.iter().filter_map(|t| t.as_i64()).flatten().copied().collect()),
        TensorData::Code(_) => TensorData::Code(parts.iter().filter_map(|t| t.as_codes()).flatten().copied().collect()),
        TensorData::Bool(_) => {
            let bools = parts.iter().filter_map(|t| match t.data() {
                TensorData::Bool(b) => Some(b),
                _ => None,
            });
            TensorData::Bool(bools.flatten().copied().collect())
        }
    };
    Some(Tensor::new(shape, data))
}

impl<'a> BatchTape<'a> {
    pub(crate) fn record(
        interpreter: &'a Interpreter,
        given: &[(ValueId, &'a Tensor)],
        wanted: &[ValueId],
        images: usize,
    ) -> Result<Self, EvalError> {
        let graph = interpreter.graph();
        let limit = interpreter.memory_limit();
        // The batch size, if the given tensors agree on one that can be split. Otherwise the evaluation runs as a whole and
        // reports any error in the tensors.
        let batches = given.iter().filter(|(v, _)| graph.has_value(*v) && by_image(graph, *v)).map(|(v, t)| {
            match (graph.value_type(*v).shape.dims().first(), t.shape().first()) {
                (Some(&Dim::Batch(k)), Some(&n)) if k > 0 && n % k == 0 => n / k,
                _ => 0,
            }
        });
        let (least, most) = batches.fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
        let whole = least != most
            || most <= images.max(1)
            || given.iter().any(|(v, _)| !graph.has_value(*v))
            || graph.nodes().iter().any(|n| mixes(&graph.value_type(n.output).shape))
            || given.iter().any(|(v, _)| mixes(&graph.value_type(*v).shape));
        if whole {
            let given = given.iter().map(|&(v, t)| (v, Cow::Borrowed(t))).collect();
            return Ok(BatchTape { parts: vec![interpreter.record_within(given, wanted, limit)?] });
        }
        let cuts: Vec<Range<usize>> =
            (0..most).step_by(images.max(1)).map(|i| i..(i + images.max(1)).min(most)).collect();
        let limit = limit / cuts.len();
        let record = |cut: &Range<usize>| {
            let given = given
                .iter()
                .map(|&(v, t)| (v, if by_image(graph, v) { Cow::Owned(part(t, most, cut)) } else { Cow::Borrowed(t) }));
            interpreter.record_within(given.collect(), wanted, limit)
        };
        let parts: Vec<_> = cuts.par_iter().with_max_len(1).map(record).collect();
        Ok(BatchTape { parts: parts.into_iter().collect::<Result<_, _>>()? })
    }

    /// The tapes of the parts, in the order of their images. They allow the caller to compute a loss image by image.
    pub fn parts(&self) -> &[Tape<'a>] {
        &self.parts
    }

    /// A value of the whole batch, concatenated from the parts. A value that does not depend on the batch is taken from the first
    /// part.
    pub fn value(&self, v: ValueId) -> Option<Tensor> {
        let all: Vec<&Tensor> = self.parts.iter().map(|t| t.value(v)).collect::<Option<_>>()?;
        if by_image(self.parts[0].graph(), v) { joined(&all) } else { all.first().map(|&t| t.clone()) }
    }

    /// [`Tape::gradients`] of the whole batch, with the parts in parallel. Gradients with respect to tensors that do not depend
    /// on the batch (constants, scales, given weights) are summed over the parts in the order of the images.
    ///
    /// # Errors
    /// As [`Tape::gradients`].
    pub fn gradients(&self, seeds: &[(ValueId, Tensor)], wrt: &[Wrt]) -> Result<Gradients, EvalError> {
        let [first, rest @ ..] = &self.parts[..] else { return Ok(Gradients::default()) };
        if rest.is_empty() {
            return first.gradients(seeds, wrt);
        }
        let graph = first.graph();
        let batch: usize = self.parts.iter().map(|t| t.batch()).sum();
        for (v, seed) in seeds {
            let bad = |message: String| EvalError::Gradient { place: v.to_string(), message };
            let value = first.value(*v).ok_or_else(|| bad("this value was not computed".into()))?;
            let mut shape = value.shape().to_vec();
            if by_image(graph, *v) {
                shape[0] = shape[0] / first.batch() * batch;
            }
            if seed.shape() != shape || seed.as_f32().is_none() {
                return Err(bad(format!("its gradient must be f32 {shape:?}")));
            }
        }
        let starts = self.parts.iter().scan(0, |next, t| {
            *next += t.batch();
            Some(*next - t.batch())
        });
        let places: Vec<_> = starts.zip(&self.parts).enumerate().collect();
        let pull = |&(i, (start, tape)): &(usize, (usize, &Tape))| {
            let own = seeds.iter().filter_map(|(v, seed)| {
                let seed = seed.as_f32()?;
                // The seed of a value that all parts share is applied only once.
                match by_image(graph, *v) {
                    true => Some((*v, &seed[seed.len() / batch * start..][..seed.len() / batch * tape.batch()])),
                    false => (i == 0).then_some((*v, seed)),
                }
            });
            tape.pull(&own.collect::<Vec<_>>(), wrt)
        };
        let parts: Vec<_> = places.par_iter().with_max_len(1).map(pull).collect();
        let parts: Vec<Gradients> = parts.into_iter().collect::<Result<_, _>>()?;
        let mut all = Gradients::default();
        for &w in wrt {
            let own: Vec<&Tensor> = parts.iter().filter_map(|g| g.get(w)).collect();
            let sum = match w {
                Wrt::Value(v) if by_image(graph, v) => joined(&own),
                _ => own.split_first().map(|(first, rest)| {
                    let mut sum = first.as_f32().unwrap_or_default().to_vec();
                    let terms = rest.iter().filter_map(|t| t.as_f32());
                    terms.for_each(|t| sum.iter_mut().zip(t).for_each(|(s, t)| *s += t));
                    Tensor::f32(first.shape(), sum)
                }),
            };
            all.0.extend(sum.map(|t| (w, t)));
        }
        Ok(all)
    }
}
