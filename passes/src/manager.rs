//! Runs passes one after the other: checks phases, verifies the graph after each, times them, and calls an observer.

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::reference::float_reference;
use catc_ir::{Graph, Phase, verify};
use std::time::{Duration, Instant};

/// What one pass did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PassReport {
    /// The pass.
    pub pass: &'static str,
    /// Whether it changed the graph.
    pub changed: Changed,
    /// How long it took, checks included.
    pub time: Duration,
}

/// What is called after each pass.
type Observer<'o> = Box<dyn FnMut(&PassReport, &Graph) + 'o>;

/// Runs a list of passes over a graph.
#[derive(Default)]
pub struct PassManager<'o> {
    observer: Option<Observer<'o>>,
}

impl<'o> PassManager<'o> {
    /// A manager without an observer.
    pub fn new() -> Self {
        PassManager::default()
    }

    /// Calls `observer` after each pass with its report and the graph it left.
    pub fn observe(mut self, observer: impl FnMut(&PassReport, &Graph) + 'o) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Runs the passes in order and reports each. Errors name the pass; the graph is then unspecified.
    ///
    /// The graph is verified before the first pass and after each. Debug builds also compare its text before and after
    /// with what the pass reported. Where a pass takes the graph from the float to a later phase, the float graph
    /// becomes the reference of the context; for a graph that starts in the qdq phase it is made by
    /// [`float_reference`].
    pub fn run(
        &mut self,
        passes: &[Box<dyn Pass>],
        graph: &mut Graph,
        cx: &mut PassContext,
    ) -> Result<Vec<PassReport>, PassError> {
        check(graph, || "before all passes".into())?;
        if graph.phase == Phase::Qdq && cx.reference.is_none() {
            cx.reference = Some(float_reference(graph));
        }
        let mut reports = Vec::with_capacity(passes.len());
        for pass in passes {
            let report = run_one(pass.as_ref(), graph, cx)?;
            if let Some(observer) = &mut self.observer {
                observer(&report, graph);
            }
            reports.push(report);
        }
        Ok(reports)
    }
}

fn check(graph: &Graph, when: impl FnOnce() -> String) -> Result<(), PassError> {
    verify(graph).map_err(|violations| PassError::Unsound { when: when(), violations })
}

fn run_one(pass: &dyn Pass, graph: &mut Graph, cx: &mut PassContext) -> Result<PassReport, PassError> {
    let name = pass.name();
    let start = Instant::now();
    if !pass.phases().contains(&graph.phase) {
        let expected = pass.phases().iter().map(|p| p.name()).collect::<Vec<_>>().join(" or ");
        return Err(PassError::Phase { pass: name, expected, found: graph.phase });
    }
    let before = cfg!(debug_assertions).then(|| graph.to_string());
    let target = pass.produces().unwrap_or(graph.phase);
    if graph.phase == Phase::Float && target > Phase::Float {
        cx.reference = Some(graph.clone());
    }
    cx.pass = name;
    let changed = pass.run(graph, cx);
    cx.pass = "";
    let changed = changed?;
    check(graph, || format!("after `{name}`"))?;
    if graph.phase != target {
        let message = format!("left the graph in phase {}, not {}", graph.phase.name(), target.name());
        return Err(PassError::graph(name, format!("@{}", graph.name), message));
    }
    if before.is_some_and(|before| (before != graph.to_string()) != changed.is_yes()) {
        return Err(PassError::Misreported { pass: name, reported: changed });
    }
    Ok(PassReport { pass: name, changed, time: start.elapsed() })
}
