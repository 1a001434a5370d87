//! Runs every `tests/<pass>/*.catir` through its pass and compares what it did with a snapshot beside the file.
//!
//! A snapshot holds whether the graph changed, the notes, and the lines that went (`-`) and came (`+`). Comments at the
//! head of a file say what else the pass gets:
//! ```text
//! // options: wbits=2, abits=2
//! // before: calibrate{method=minmax}     passes that run first, not part of the snapshot
//! // calibration: 16                      that many random samples
//! // cat: 64                              that many others for the correction of the outputs
//! // objective: regression                how outputs are compared; class scores unless it says otherwise
//! // constants: hidden                    elements of new constants and scales are left out: the CPU's rounding shows in them
//! // again: changes                       a search that may go on from where it ended
//! ```
//! Every run is repeated on its own result: the second must change nothing, or refuse the phase that the first
//! produced.

use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Graph, Tensor};
use catc_passes::registry::{PASSES, parse_passes};
use catc_passes::{Changed, ObjectiveChoice, PassContext, PassError, PassManager, Samples};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn passes_do_what_their_snapshots_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in PASSES {
        let files = files(&root.join(entry.name));
        assert!(!files.is_empty(), "tests/{} holds no .catir file", entry.name);
        let mut fired = vec![];
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let stem = file.file_stem().unwrap().to_str().unwrap().to_string();
            let (snapshot, changed) = run(entry.name, &text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            fired.push(changed);
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(file.parent().unwrap());
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.bind(|| insta::assert_snapshot!(stem, snapshot));
        }
        // What calibration changes is the context, and quantizing always moves to the next phase.
        let both = fired.contains(&true) && fired.contains(&false);
        assert!(both || ["calibrate", "lower-integer"].contains(&entry.name), "`{}` needs a case for each", entry.name);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "catir"));
    files.sort();
    files
}

/// What the comment `// key: ..` at the head of a text says.
fn directive<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let lines = text.lines().map_while(|l| l.strip_prefix("//"));
    lines.filter_map(|l| l.trim().strip_prefix(key)?.strip_prefix(':')).map(str::trim).next()
}

fn run(pass: &str, text: &str) -> Result<(String, bool), Box<dyn std::error::Error>> {
    let mut graph = parse(text, &NoBlobs)?;
    let count = directive(text, "calibration").map_or(Ok(0), str::parse)?;
    let samples = random_samples(&graph, 0, count);
    let mut cx = PassContext::with_calibration(&samples, 7);
    cx.objective = directive(text, "objective").map_or(Ok(ObjectiveChoice::Logits), str::parse)?;
    let cat = random_samples(&graph, 1000, directive(text, "cat").map_or(Ok(0), str::parse)?);
    cx.cat_data = Some(&cat);
    if let Some(before) = directive(text, "before") {
        PassManager::new().run(&parse_passes(before)?, &mut graph, &mut cx)?;
    }
    cx.notes.clear();
    let passes = parse_passes(&format!("{pass}{{{}}}", directive(text, "options").unwrap_or("")))?;
    let before = graph.to_string();
    let report = match PassManager::new().run(&passes, &mut graph, &mut cx) {
        Ok(mut reports) => reports.remove(0),
        // A pass that refuses a graph is a case of its own: the message is the snapshot.
        Err(e @ (PassError::Graph { .. } | PassError::Missing { .. })) => return Ok((format!("error: {e}\n"), false)),
        Err(e) => return Err(e.into()),
    };
    let mut snapshot = match &report.changed {
        Changed::Yes => "changed: true\n".to_string(),
        Changed::No(reason) => format!("changed: false, {reason}\n"),
    };
    for note in &cx.notes {
        writeln!(snapshot, "note: {}", note.text)?;
    }
    if pass == "calibrate" {
        for (v, observed) in &cx.activations {
            writeln!(snapshot, "{v}: {observed}")?;
        }
    }
    let hidden = directive(text, "constants") == Some("hidden");
    for line in diff(&before, &graph.to_string()).lines() {
        let elements = ["] [", "] blob", " scale ["].iter().filter_map(|mark| line.find(mark)).min();
        let end = elements.filter(|_| hidden && (line.starts_with("+  c") || line.starts_with("+  q")));
        writeln!(snapshot, "{}", end.map_or(line.to_string(), |i| format!("{} ..", line[..=i].trim_end())))?;
    }
    let after = graph.to_string();
    let again = directive(text, "again") == Some("changes");
    match PassManager::new().run(&passes, &mut graph, &mut cx) {
        Ok(reports) => {
            assert!(again || !reports[0].changed.is_yes(), "a second run changes\n{}", diff(&after, &graph.to_string()))
        }
        Err(PassError::Phase { .. } | PassError::Missing { .. }) => {}
        Err(e) => return Err(e.into()),
    }
    Ok((snapshot, report.changed.is_yes()))
}

/// Samples of small multiples of 1/16 of both signs: with weights of that kind sums are exact, so that snapshots do not
/// depend on the order in which a processor adds.
fn random_samples(graph: &Graph, first: usize, count: usize) -> Samples {
    let tensor = |sample: usize, shape: Vec<usize>| {
        let n = shape.iter().product();
        let data = (0..n).map(|i| ((i * 37 + sample * 101) % 61) as f32 / 16.0 - 1.25).collect();
        Tensor::f32(&shape, data)
    };
    let sample = |i| graph.inputs.iter().map(|(v, _)| tensor(i, graph.value_type(*v).shape.at_batch(1))).collect();
    Samples((first..first + count).map(sample).collect())
}

/// The lines that went and came, from a longest common subsequence.
fn diff(before: &str, after: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            out += &format!("-{}\n", a[i]);
            i += 1;
        } else {
            out += &format!("+{}\n", b[j]);
            j += 1;
        }
    }
    out
}
