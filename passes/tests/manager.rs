//! What the manager checks, and what it leaves in the context.

use catc_ir::ops::Unary;
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Graph, Op, Phase};
use catc_passes::{Changed, Pass, PassContext, PassError, PassManager, parse_passes};

/// A pass that does what a test wants.
#[derive(Debug)]
struct Misbehaving {
    act: fn(&mut Graph),
    reports: Changed,
}

impl Pass for Misbehaving {
    fn name(&self) -> &'static str {
        "misbehaving"
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        (self.act)(graph);
        cx.note("ran");
        Ok(self.reports.clone())
    }
}

fn graph() -> Graph {
    let text = "graph @g float {\ninput(v0: f32[N,2] \"x\"):\n  v1: f32[N,2] = relu v0\n  output v1 \"y\"\n}\n";
    parse(text, &NoBlobs).unwrap()
}

fn error(act: fn(&mut Graph), reports: Changed) -> String {
    let passes: Vec<Box<dyn Pass>> = vec![Box::new(Misbehaving { act, reports })];
    PassManager::new().run(&passes, &mut graph(), &mut PassContext::empty()).unwrap_err().to_string()
}

#[test]
fn faults_of_a_pass_are_errors_that_name_it() {
    let unsound = error(|g| g.retain_nodes(|_| false), Changed::Yes);
    assert_eq!(unsound, "the graph is unsound after `misbehaving`:\n  output \"y\": v1 is not defined");
    let moved = error(|g| g.phase = Phase::Qdq, Changed::Yes);
    assert_eq!(moved, "`misbehaving` at @g: left the graph in phase qdq, not float");
    // The text is compared in debug builds only.
    if cfg!(debug_assertions) {
        assert!(error(|_| {}, Changed::Yes).contains("the text of the graph says otherwise"));
        let silent = error(|g| g.nodes_mut()[0].op = Op::Unary(Unary::Sigmoid), Changed::No("nothing".into()));
        assert!(silent.contains("the text of the graph says otherwise"));
    }
}

#[test]
fn phases_and_unsound_graphs_are_refused() {
    let mut g = graph();
    let passes = parse_passes("lower-integer").unwrap();
    let refused = PassManager::new().run(&passes, &mut g, &mut PassContext::empty()).unwrap_err().to_string();
    assert_eq!(refused, "`lower-integer` takes a graph in phase qdq, this one is in phase float");
    g.outputs.clear();
    let unsound = PassManager::new().run(&[], &mut g, &mut PassContext::empty()).unwrap_err().to_string();
    assert!(unsound.starts_with("the graph is unsound before all passes:"), "{unsound}");
}

#[test]
fn reports_observer_notes_and_reference() {
    let mut g = graph();
    let mut cx = PassContext::empty();
    let mut passes = parse_passes("dead-code,insert-qdq{abits=32},lower-integer").unwrap();
    passes.insert(0, Box::new(Misbehaving { act: |_| {}, reports: Changed::No("it has nothing to do".into()) }));
    let mut seen = vec![];
    let mut manager = PassManager::new().observe(|report, graph| seen.push((report.pass, graph.phase)));
    let reports = manager.run(&passes, &mut g, &mut cx).unwrap();
    drop(manager);
    let phases = [Phase::Float, Phase::Float, Phase::Qdq, Phase::Integer];
    assert!(seen.into_iter().eq(reports.iter().map(|r| r.pass).zip(phases)));
    assert_eq!(reports[0].changed.to_string(), "unchanged, it has nothing to do");
    assert_eq!((cx.notes[0].pass, cx.notes[0].text.as_str()), ("misbehaving", "ran"));
    let reference = cx.reference.unwrap();
    assert_eq!((reference.phase, reference.nodes()), (Phase::Float, graph().nodes()));
}
