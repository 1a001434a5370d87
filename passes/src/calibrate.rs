//! `calibrate`: runs the calibration images through the float graph and keeps a histogram of every tensor that will be quantized.
//!
//! - Before: float phase, calibration data. After: the graph is the same; the context holds a histogram and the method
//!   for every tensor that feeds a layer ([`crate::placement`]).
//! - Other passes: `insert-qdq` makes quantizers of it, once it knows the bits of each tensor. Passes between the two
//!   must leave those tensors alone.
//! - One pass over the images. The memory does not depend on their number: for each thread a histogram (128 KiB) of every tensor and
//!   the values of one evaluation. Counts are integers in bins that do not depend on the order
//!   of the images ([`crate::range::histogram`]), so results are the same for any number of threads.
//! - Methods: `minmax`; `percentile` (99.99 by default, of each sign); `entropy` ([`crate::range::entropy`]); `mse`,
//!   the least L2.4 error ([`crate::range::lp_search`]); `aciq`, clipping by a formula ([`crate::range::aciq`]).
//! - Rejected: two passes over the images, one for the range and one for the histogram: twice the time for bins that
//!   are at most half as wide.

use crate::context::{PassContext, checked_sample};
use crate::pass::{Changed, Pass, PassError};
use crate::placement::Placement;
use crate::range::histogram::Histogram;
use crate::range::{Observed, RangeMethod};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Phase, Tensor, ValueId};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Observes the tensors that will be quantized.
#[derive(Clone, Copy, Debug)]
pub struct Calibrate {
    /// How `insert-qdq` will choose ranges.
    pub method: RangeMethod,
}

impl Calibrate {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "calibrate",
        summary: "observes the tensors that will be quantized on the calibration data",
        options: &[
            PassOption::new("method", RangeMethod::NAMES, "mse", "how ranges are chosen from what was seen"),
            PassOption::new("percentile", "50-100", "99.99", "where method=percentile cuts, for each sign"),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            let percentile = o.number("percentile", 99.99, 50.0..=100.0)?;
            let method = o.take("method", |name| RangeMethod::parse(name, percentile))?;
            Ok(Box::new(Calibrate { method: method.unwrap_or(RangeMethod::Mse) }))
        },
    };
}

/// A histogram for each observed tensor.
type Histograms = BTreeMap<ValueId, Histogram>;

impl Pass for Calibrate {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        cx.activations.clear();
        let tensors: Vec<ValueId> = Placement::find(graph).tensors(|_, _| 8).into_keys().collect();
        if tensors.is_empty() {
            return Ok(Changed::No("no tensor feeds a layer that can be quantized".into()));
        }
        let histograms = observe(graph, &tensors, cx)?;
        let method = self.method;
        cx.activations = histograms.into_iter().map(|(v, histogram)| (v, Observed { histogram, method })).collect();
        Ok(Changed::No(format!("it observed {} tensors for {}", tensors.len(), method.name())))
    }
}

fn observe(graph: &Graph, tensors: &[ValueId], cx: &PassContext) -> Result<Histograms, PassError> {
    let pass = Calibrate::ENTRY.name;
    let data = cx.require_calibration()?;
    let interpreter = Interpreter::new(graph).map_err(|e| PassError::evaluation(pass, e))?;
    let empty = || -> Histograms { tensors.iter().map(|&v| (v, Histogram::default())).collect() };
    // One set for each image in flight: which image goes into which does not matter.
    let sets: Mutex<Vec<Histograms>> = Mutex::new(vec![]);
    let lock = || sets.lock().unwrap_or_else(|e| e.into_inner());
    cx.progress.start("calibrating", data.len() as u64);
    let done = map_images(data.len(), |index| {
        let inputs = checked_sample(graph, data, index)?;
        let mut set = lock().pop().unwrap_or_else(empty);
        let mut bad = None;
        let mut add = |v: ValueId, tensor: &Tensor| {
            if let (Some(histogram), Some(values)) = (set.get_mut(&v), tensor.as_f32())
                && let Err(e) = histogram.add(values)
            {
                bad.get_or_insert((v, e));
            }
        };
        interpreter.run_observed(&inputs, &mut add).map_err(|e| PassError::evaluation(pass, e))?;
        if let Some((v, e)) = bad {
            let place = graph.nodes().iter().find(|n| n.output == v).map_or(v.to_string(), |n| graph.label(n));
            let message =
                format!("its output {e} on calibration sample {index}; check the model and the preprocessing");
            return Err(PassError::graph(pass, place, message));
        }
        lock().push(set);
        cx.progress.advance(1);
        Ok(())
    });
    cx.progress.finish();
    done?;
    let mut sets = sets.into_inner().unwrap_or_else(|e| e.into_inner()).into_iter();
    let mut total = sets.next().unwrap_or_else(empty);
    for set in sets {
        for (v, histogram) in set {
            total.entry(v).or_default().merge(&histogram);
        }
    }
    Ok(total)
}
