//! ONNX's backend tests: each model with its inputs and expected outputs, on the evaluator and, where it compiles, as
//! machine code. What must pass is listed in `passing.txt`; a case that passes and is not listed fails the run as one
//! that is listed and does not pass.
//!
//! The data is that of the Python package `onnx`, version 1.22.0, the last that has it: `$CATC_ONNX_TESTS` names the
//! folder (`.../onnx/backend/test/data`), otherwise `python3` is asked. `CATC_CONFORMANCE=write` writes the list and
//! `docs/conformance.md` anew.

mod cases;
mod compare;
mod page;
mod run;

use cases::{Case, data_folder};
use rayon::prelude::*;
use run::Outcome;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of the list: `suite/case`, with ` compiled` behind it where machine code passes as well.
fn listed() -> BTreeMap<String, bool> {
    let text = std::fs::read_to_string(in_repository("tests/conformance/passing.txt")).expect("the list");
    text.lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(|l| match l.strip_suffix(" compiled") {
            Some(name) => (name.to_string(), true),
            None => (l.to_string(), false),
        })
        .collect()
}

#[test]
fn cases_pass_as_listed() {
    let Some(folder) = data_folder() else {
        println!("skipped: no ONNX backend tests; pip install onnx==1.22.0, or set CATC_ONNX_TESTS to their folder");
        return;
    };
    let cases = cases::find(&folder);
    assert!(cases.len() > 1800, "{} cases in {}", cases.len(), folder.display());
    let results: Vec<(&Case, Outcome)> = cases.par_iter().map(|c| (c, run::run(c))).collect();
    if std::env::var("CATC_CONFORMANCE").is_ok_and(|v| v == "write") {
        page::write_list(&in_repository("tests/conformance/passing.txt"), &results);
        page::write_page(&in_repository("docs/conformance.md"), &results);
    }
    if let Ok(path) = std::env::var("CATC_CONFORMANCE_REASONS") {
        page::write_reasons(Path::new(&path), &results);
    }
    let listed = listed();
    let mut wrong = vec![];
    for (case, outcome) in &results {
        let expected = listed.get(&case.name).map(|&compiled| (true, compiled)).unwrap_or((false, false));
        let found = (outcome.evaluated.is_ok(), outcome.compiled.is_ok());
        if found != expected {
            let text = |(evaluated, compiled): (bool, bool)| match (evaluated, compiled) {
                (true, true) => "passes compiled",
                (true, false) => "passes on the evaluator",
                _ => "does not pass",
            };
            wrong.push(format!(
                "{}: {} and is listed as: {} ({}; {})",
                case.name,
                text(found),
                text(expected),
                outcome.evaluated.as_ref().err().map_or("evaluated", |e| e),
                outcome.compiled.as_ref().err().map_or("compiled", |e| e),
            ));
        }
        // A wrong result of machine code is never accepted, listed or not.
        if outcome.compiled_wrong {
            wrong.push(format!("{}: machine code gives another result than the evaluator", case.name));
        }
    }
    let known: std::collections::HashSet<&str> = cases.iter().map(|c| c.name.as_str()).collect();
    wrong.extend(listed.keys().filter(|n| !known.contains(n.as_str())).map(|n| format!("{n}: listed, but no case")));
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
