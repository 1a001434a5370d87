//! `refine-scales`: moves scales and zero-points so that the network's output comes nearer to that of the float network,
//! without gradients.
//!
//! - Before: qdq phase; calibration data; the float reference; an output of logits or a softmax of them. After: other scales and
//!   zero-points of quantizers of up to 6 bits, if the divergence fell on calibration images that the search did not see;
//!   else nothing. Nodes and constants stay as they are.
//! - Minimises `KL(softmax(fp / T) || softmax(lq / T)) + lambda Σ (((δ - δ0)/δ0)² + ((z - z0)/(2^b - 1))²)` by coordinate
//!   search: for each quantizer in the order of the network, the scale (for weights all scales by a common factor) up or
//!   down by 25 % in the first sweep, half of that in each later one, and for activations the zero-point by one code. Weights
//!   that stand as reals behind a `quantize` are rounded anew for a new scale; those that stand as codes keep them.
//! - After each sweep the divergence is measured on a third of the images, which the search does not see; the best sweep is kept,
//!   and the search ends when a sweep does not improve on it.
//! - Work: images and sweeps are chosen from the graph's own work in multiply-adds ([`crate::work`]) to stay near `budget`,
//!   never from a clock. Memory: for each image of the search the values that are alive at one point of the network, at most
//!   1 GiB in all (fewer images where that is not enough), and what the evaluation of one image a thread takes.
//! - Other passes: after `insert-qdq` and whatever else finds scales or rounds weights; before `append-cat`, which fits what
//!   is left, on images of its own.
//! - Example: one line changes for each quantizer that moves.
//!   ```text
//!   q0 = quantizer u2 per_tensor scale [0.41] zero_point [1]   -> q0 = quantizer u2 per_tensor scale [0.5125] zero_point [1]
//!   ```
//! - Reference: arXiv 2509.26277, equations 1 to 3.
//! - Deviations: coordinate search instead of Adam; the regularizer is relative, and lambda is in parts of the divergence at the
//!   start, since scales of different tensors and networks do not compare otherwise; T = 1 instead of 0.4.
//! - Rejected: trying every candidate on all images (four times the work for the same moves); moving 8-bit quantizers (no
//!   visible gain).

use crate::context::PassContext;
use crate::logits::find_logits;
use crate::pass::{Changed, Pass, PassError};
use crate::refine::comparison::Comparison;
use crate::refine::parameters::{Layout, Offset, Parameter};
use crate::refine::search::{Objective, Search};
use crate::refine::split::{MIN_IMAGES, Split};
use crate::refine::tail::{Tail, images_that_fit};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_interp::Interpreter;
use catc_ir::{Graph, Phase};

/// How often the network behind a quantizer is evaluated on all images in one sweep, as measured: one direction or two
/// that fail on a quarter of the images, now and then one that succeeds.
const EVALUATIONS: f64 = 1.2;

/// Refines scales on the network's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefineScales {
    /// Sweeps over all quantizers, at most.
    pub rounds: usize,
    /// Images that the search uses, at most; half as many decide whether it is kept.
    pub images: usize,
    /// Temperature T of both softmaxes.
    pub temperature: f64,
    /// Weight lambda of the regularizer, in parts of the divergence at the start.
    pub lambda: f64,
    /// Work to stay near, in 10^9 multiply-adds.
    pub budget: f64,
}

impl Default for RefineScales {
    fn default() -> Self {
        RefineScales { rounds: 3, images: 512, temperature: 1.0, lambda: 0.001, budget: 1000.0 }
    }
}

impl RefineScales {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "refine-scales",
        summary: "moves scales and zero-points to bring the output nearer to the float network's",
        options: &[
            PassOption { name: "rounds", values: "1-16", default: "3", help: "sweeps over all quantizers, at most" },
            PassOption {
                name: "images",
                values: "16-65536",
                default: "512",
                help: "images that the search uses, at most; half as many others decide whether it is kept",
            },
            PassOption {
                name: "temperature",
                values: "0.01-100",
                default: "1",
                help: "temperature of the softmaxes that are compared",
            },
            PassOption {
                name: "lambda",
                values: "0-1000",
                default: "0.001",
                help: "weight of the distance from the starting scales, in parts of the starting divergence",
            },
            PassOption {
                name: "budget",
                values: "0.001-1000000000",
                default: "1000",
                help: "work to stay near, in 10^9 multiply-adds: it sets the number of images and sweeps",
            },
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            let d = RefineScales::default();
            Ok(Box::new(RefineScales {
                rounds: o.number("rounds", d.rounds, 1..=16)?,
                images: o.number("images", d.images, MIN_IMAGES..=65536)?,
                temperature: o.number("temperature", d.temperature, 0.01..=100.0)?,
                lambda: o.number("lambda", d.lambda, 0.0..=1000.0)?,
                budget: o.number("budget", d.budget, 0.001..=1e9)?,
            }))
        },
    };
}

impl Pass for RefineScales {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        let skip = |cx: &mut PassContext, reason: String| {
            cx.note(format!("scales are not refined: {reason}"));
            Ok(Changed::No(reason))
        };
        let target = match find_logits(graph) {
            Ok(target) => target,
            Err(reason) => return skip(cx, reason),
        };
        let layout = Layout::new(graph, target);
        let parameters = layout.parameters(graph);
        if parameters.is_empty() {
            return skip(cx, "every quantizer has more than 6 bits".into());
        }
        let data = cx.require_calibration()?;
        let reference = cx.require_reference()?;
        if !reference.has_value(target) || reference.definitions()[target].is_none() {
            return skip(cx, format!("the float graph does not compute {target}"));
        }
        let (images, rounds) = self.plan(graph, &layout, &parameters);
        let split = match Split::draw(data.len(), images, cx.seed) {
            Ok(split) => split,
            Err(reason) => return skip(cx, reason),
        };
        let compare = Comparison { pass: self.name(), reference, data, target, temperature: self.temperature };
        cx.progress.start("refining scales", (parameters.len() * rounds) as u64);
        let outcome = self.search(graph, &layout, parameters, &compare, &split, rounds, cx);
        cx.progress.finish();
        match outcome? {
            Outcome::Kept { parameters, text } => {
                for p in &parameters {
                    if let Some(quantizer) = p.at(p.offset) {
                        *graph.quantizer_mut(p.id) = quantizer;
                    }
                }
                cx.note(text);
                Ok(Changed::Yes)
            }
            Outcome::Dropped(reason) => skip(cx, reason),
        }
    }
}

/// What came of a search.
enum Outcome {
    /// Moved parameters, and what to say of them.
    Kept { parameters: Vec<Parameter>, text: String },
    /// Nothing, and why.
    Dropped(String),
}

impl RefineScales {
    /// How many images to search on, and in how many sweeps.
    fn plan(&self, graph: &Graph, layout: &Layout, parameters: &[Parameter]) -> (usize, usize) {
        let whole = layout.remaining[0] as f64;
        let tails: f64 = parameters.iter().map(|p| layout.remaining[p.start] as f64).sum();
        // Beside the tries: advancing through the network, its start, and half an image more for each one, that decides.
        let sweep = EVALUATIONS * tails + 2.5 * whole;
        let affordable = |rounds: usize| (self.budget * 1e9 / (rounds as f64 * sweep + 2.0 * whole)) as usize;
        let rounds = (1..=self.rounds).rev().find(|r| affordable(*r) >= MIN_IMAGES).unwrap_or(1);
        let kept = parameters.iter().map(|p| layout.frontier_bytes(graph, p.start)).max().unwrap_or(0);
        (affordable(rounds).min(self.images).min(images_that_fit(kept)), rounds)
    }

    #[allow(clippy::too_many_arguments)]
    fn search(
        &self,
        graph: &Graph,
        layout: &Layout,
        parameters: Vec<Parameter>,
        compare: &Comparison,
        split: &Split,
        rounds: usize,
        cx: &PassContext,
    ) -> Result<Outcome, PassError> {
        let unseen = compare.float_logits(&split.held_out)?;
        let divergence = |of: &Interpreter| compare.mean_divergence(of, &split.held_out, &unseen);
        let interpreter = Interpreter::new(graph).map_err(|e| compare.error(e))?;
        let start = divergence(&interpreter)?;
        let objective = Objective {
            reference: compare.float_logits(&split.fit)?,
            temperature: self.temperature,
            penalty: self.lambda * start,
        };
        let mut best = (start, vec![Offset::NONE; parameters.len()], 0);
        let mut search = Search { interpreter, layout, target: compare.target, objective: &objective, parameters };
        for round in 0..rounds {
            let tail = Tail::new(&search.interpreter, compare.inputs(&split.fit)?);
            let moves = search.sweep(round, tail, || cx.progress.advance(1)).map_err(|e| compare.error(e))?;
            if moves == 0 {
                continue;
            }
            let reached = divergence(&search.interpreter)?;
            // Written so that NaN ends the search.
            if reached < best.0 {
                best = (reached, search.offsets(), round + 1);
            } else {
                break;
            }
        }
        let (reached, offsets, sweeps) = best;
        let others = split.held_out.len();
        if sweeps == 0 {
            return Ok(Outcome::Dropped(format!(
                "no move lowers the divergence to the float network on {others} calibration images that the search did not \
                 see ({start:.4} nats)"
            )));
        }
        search.restore(&offsets).map_err(|e| compare.error(e))?;
        let moved = offsets.iter().filter(|o| o.factor != 1.0).count();
        let shifted = offsets.iter().filter(|o| o.shift != 0).count();
        let text = format!(
            "moved {moved} of {} scales and {shifted} zero-points in {sweeps} sweeps on {} images; on {others} others the \
             divergence to the float network falls from {start:.4} to {reached:.4} nats",
            offsets.len(),
            split.fit.len()
        );
        Ok(Outcome::Kept { parameters: search.parameters, text })
    }
}
