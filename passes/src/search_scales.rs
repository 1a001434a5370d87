//! `search-scales`: loss-aware scales (LAPQ): the best of several L_p starts, then Powell's search of all scales together on the
//! distance of the network's outputs from the float network's ([`crate::objective`]).
//!
//! - Before: qdq phase, right after `calibrate` and `insert-qdq` (the context holds what was observed); calibration data; the
//!   float reference. After: other scales and zero-points of quantizers of up to 6
//!   bits, if the distance fell on calibration images that the search did not see; else nothing.
//! - Start: every such quantizer with the least L_p error, for p = 2, 2.4, 3 and 4, and for the minimum of the parabola through the distances of
//!   the best p and its neighbours.
//! - Search: Powell's method on the binary logarithms of the scales; the scales of a layer's weights have a common factor.
//! - Work: images follow from the graph's own work ([`crate::work`]) and `budget`. Memory: the inputs of those images.
//! - Other passes: instead of `refine-scales`; before `append-cat`.
//! - Example: one line changes for each quantizer that moves.
//!   ```text
//!   q0 = quantizer u2 per_tensor scale [0.41] zero_point [0]   -> q0 = quantizer u2 per_tensor scale [0.46] zero_point [0]
//!   ```
//! - Reference: Y. Nahshan et al., "Loss Aware Post-training Quantization", 2021.
//! - Deviations: the loss needs no labels; three evaluations a line instead of Brent's method; first and last layer are
//!   left as they are where they have 8 bits.

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::range::lp_search::DEFAULT_P;
use crate::range::{quantizer_by_lp, weight_quantizer_by_lp};
use crate::refine::comparison::{Comparison, Distance};
use crate::refine::needs::NodeNeeds;
use crate::refine::powell::{Found, PER_LINE, minimize};
use crate::refine::split::{FitSplit, MIN_IMAGES};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_interp::Interpreter;
use catc_ir::{Graph, Op, Operand, Phase, Quantizer, QuantizerId};
use std::collections::BTreeMap;

/// Quantizers of more bits than this are left alone: a step of theirs is too small to matter to the output.
const MAX_BITS: u8 = 6;
/// Exponents of the start.
const EXPONENTS: [f64; 4] = [2.0, DEFAULT_P as f64, 3.0, 4.0];
/// First steps of the search, in binary logarithms: a quarter of the scale.
const STEP: f64 = 0.32;

/// Searches scales on the network's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchScales {
    /// Sweeps of Powell's method.
    pub sweeps: usize,
    /// Images that the search uses, at most; half as many others decide whether it is kept.
    pub images: usize,
    /// Work to stay near, in 10^9 multiply-adds.
    pub budget: f64,
}

impl SearchScales {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "search-scales",
        summary: "finds scales by L_p starts and Powell's search on the network's output (LAPQ)",
        options: &[
            PassOption::new("sweeps", "1-16", "2", "sweeps of Powell's method"),
            PassOption::new(
                "images",
                "16-65536",
                "256",
                "images that the search uses, at most; half as many others decide whether it is kept",
            ),
            PassOption::new(
                "budget",
                "0.001-1000000000",
                "1000",
                "work to stay near, in 10^9 multiply-adds: it sets the number of images",
            ),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            Ok(Box::new(SearchScales {
                sweeps: o.number("sweeps", 2, 1..=16)?,
                images: o.number("images", 256, 16..=65536)?,
                budget: o.number("budget", 1000.0, 0.001..=1e9)?,
            }))
        },
    };
}

/// The start of the note that says why nothing was done.
const SKIPPED: &str = "scales are not searched";

impl Pass for SearchScales {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let data = cx.require_calibration()?;
        let objective = match cx.objective_of(graph)? {
            Ok(objective) => objective,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let needs = NodeNeeds::new(graph, &objective.values());
        let searched = searched(graph, &needs);
        let count = searched.len();
        if count == 0 {
            return cx.skip(SKIPPED, "every quantizer has more than 6 bits");
        }
        let reference = cx.require_reference()?;
        let lines = self.sweeps * (count + 1);
        let work = (lines * PER_LINE + EXPONENTS.len() + 1) as f64 * needs.remaining[0] as f64;
        let affordable = ((self.budget * 1e9 / work.max(1.0)) as usize).max(MIN_IMAGES);
        let split = match FitSplit::draw(data.len(), affordable.min(self.images), cx.seed) {
            Ok(split) => split,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let compare = Comparison { pass: self.name(), reference, data, objective: &objective };
        cx.progress.start("searching scales", (self.sweeps * count) as u64);
        let outcome = self.search(graph, &searched, &compare, &split, cx);
        cx.progress.finish();
        match outcome? {
            Outcome::Kept { quantizers, text } => {
                for (id, quantizer) in quantizers {
                    *graph.quantizer_mut(id) = quantizer;
                }
                cx.note(text);
                Ok(Changed::Yes)
            }
            Outcome::Dropped(reason) => cx.skip(SKIPPED, reason),
        }
    }
}

/// The result of a search.
enum Outcome {
    /// New quantizers, and what to say of them.
    Kept { quantizers: BTreeMap<QuantizerId, Quantizer>, text: String },
    /// None, and why.
    Dropped(String),
}

type Quantizers = BTreeMap<QuantizerId, Quantizer>;

impl SearchScales {
    fn search(
        &self,
        graph: &Graph,
        searched: &[QuantizerId],
        compare: &Comparison,
        split: &FitSplit,
        cx: &PassContext,
    ) -> Result<Outcome, PassError> {
        let mut interpreter = Interpreter::new(graph).map_err(|e| compare.error(e))?;
        let unseen = compare.wanted(&split.held_out)?;
        let before = compare.distance(&interpreter, &split.held_out, &unseen)?;
        let float = compare.wanted(&split.fit)?;
        let mut evaluate =
            |quantizers: &Quantizers, images: &[usize], float: &[Vec<f32>]| -> Result<Distance, PassError> {
                for (&id, quantizer) in quantizers {
                    interpreter.set_quantizer(id, quantizer.clone()).map_err(|e| compare.error(e))?;
                }
                compare.distance(&interpreter, images, float)
            };

        let mut starts: Vec<(f64, f64, Quantizers)> = vec![];
        for p in EXPONENTS {
            let quantizers = by_lp(graph, searched, p, cx)?;
            starts.push((p, evaluate(&quantizers, &split.fit, &float)?.loss, quantizers));
        }
        if let Some(p) = parabola(&starts.iter().map(|(p, loss, _)| (*p, *loss)).collect::<Vec<_>>()) {
            let quantizers = by_lp(graph, searched, p, cx)?;
            starts.push((p, evaluate(&quantizers, &split.fit, &float)?.loss, quantizers));
        }
        let Some((p, value, start)) = starts.into_iter().reduce(|a, b| if b.1 < a.1 { b } else { a }) else {
            return Ok(Outcome::Dropped("there is no start".into()));
        };

        let at = |point: &[f64]| -> Option<Quantizers> {
            let one = |(id, x): (&QuantizerId, &f64)| Some((*id, scaled(&start[id], x.exp2())?));
            searched.iter().zip(point).map(one).collect()
        };
        let first = Found { point: vec![0.0; searched.len()], value };
        let loss = |point: &[f64]| match at(point) {
            Some(quantizers) => Ok(evaluate(&quantizers, &split.fit, &float)?.loss),
            // A scale that no quantizer can have.
            None => Ok(f64::INFINITY),
        };
        let found = minimize(first, STEP, self.sweeps, loss, || cx.progress.advance(1))?;
        let Some(quantizers) = at(&found.point) else {
            return Ok(Outcome::Dropped("it leads to scales that no quantizer can have".into()));
        };
        let after = evaluate(&quantizers, &split.held_out, &unseen)?;
        let others = split.held_out.len();
        let (name, amount) = (compare.objective.name(), |d: &Distance| compare.objective.amount(d.loss));
        if after.improves_on(&before) {
            let text = format!(
                "searched {} scales on {} images from an L{p:.1} start; on {others} held-out images the {name} falls from {} to {}",
                searched.len(),
                split.fit.len(),
                amount(&before),
                amount(&after)
            );
            return Ok(Outcome::Kept { quantizers, text });
        }
        Ok(Outcome::Dropped(format!(
            "it does not lower the {name} on {others} held-out calibration images ({})",
            amount(&before)
        )))
    }
}

/// The quantizers that are searched, in the order of the network.
fn searched(graph: &Graph, needs: &NodeNeeds) -> Vec<QuantizerId> {
    let mut found = vec![];
    for (_, node) in graph.nodes().iter().enumerate().filter(|(i, _)| needs.is_needed(*i)) {
        if let Op::Quantize(q) = &node.op
            && graph.quantizer(q.quantizer).format.bits() <= MAX_BITS
            && !found.contains(&q.quantizer)
        {
            found.push(q.quantizer);
        }
    }
    found
}

/// A quantizer with all scales times a factor; `None` if one of them would be no scale.
fn scaled(quantizer: &Quantizer, factor: f64) -> Option<Quantizer> {
    let mut q = quantizer.clone();
    q.scale.iter_mut().for_each(|s| *s = (f64::from(*s) * factor) as f32);
    q.scale.iter().all(|s| s.is_normal() && *s > 0.0).then_some(q)
}

/// The quantizers by least L_p error of what they quantize; as they are where that is not known.
fn by_lp(graph: &Graph, searched: &[QuantizerId], p: f64, cx: &PassContext) -> Result<Quantizers, PassError> {
    let mut found: Quantizers = searched.iter().map(|&id| (id, graph.quantizer(id).clone())).collect();
    for node in graph.nodes() {
        let Op::Quantize(q) = &node.op else { continue };
        let Some(quantizer) = found.get_mut(&q.quantizer) else { continue };
        let format = quantizer.format;
        match node.inputs[0] {
            Operand::Value(v) => {
                if let Some(observed) = cx.activations.get(&v) {
                    *quantizer = quantizer_by_lp(&observed.histogram, format, p as f32);
                }
            }
            Operand::Const(c) => {
                let tensor = &graph.constant(c).tensor;
                if let (Some(weights), Some(&channels)) = (tensor.as_f32(), tensor.shape().first()) {
                    let fail =
                        |e| PassError::graph(SearchScales::ENTRY.name, graph.label(node), format!("its weights {e}"));
                    *quantizer = weight_quantizer_by_lp(weights, channels, format, p as f32).map_err(fail)?;
                }
            }
        }
    }
    Ok(found)
}

/// Where the parabola through the lowest of some points and its two neighbours is least; `None` where it has no minimum
/// between them.
fn parabola(points: &[(f64, f64)]) -> Option<f64> {
    let lowest = (0..points.len()).reduce(|a, b| if points[b].1 < points[a].1 { b } else { a })?;
    let [(x0, y0), (x1, y1), (x2, y2)] = *points.get(lowest.checked_sub(1)?..lowest + 2)? else { return None };
    let (a, b) = ((x1 - x0) * (y1 - y2), (x1 - x2) * (y1 - y0));
    let x = x1 - 0.5 * ((x1 - x0) * a - (x1 - x2) * b) / (a - b);
    (x > x0 && x < x2 && x != x1).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parabola_is_least_where_it_is_least() {
        let f = |x: f64| (x - 2.7).powi(2) + 1.0;
        let points: Vec<(f64, f64)> = EXPONENTS.iter().map(|&p| (p, f(p))).collect();
        assert!((parabola(&points).unwrap() - 2.7).abs() < 1e-9);
        let rising: Vec<(f64, f64)> = EXPONENTS.iter().map(|&p| (p, p)).collect();
        assert_eq!(parabola(&rising), None, "the lowest has one neighbour");
    }
}
