//! The list of what passes and the page of counts.

use crate::cases::Case;
use crate::run::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

type Results<'a> = [(&'a Case, Outcome)];

/// Counts: cases, passed on the evaluator, passed compiled.
#[derive(Default, Clone, Copy)]
struct Count([usize; 3]);

impl Count {
    fn add(&mut self, outcome: &Outcome) {
        let [all, evaluated, compiled] = &mut self.0;
        *all += 1;
        *evaluated += usize::from(outcome.evaluated.is_ok());
        *compiled += usize::from(outcome.compiled.is_ok());
    }
}

/// Writes the names of what passes.
pub fn write_list(path: &Path, results: &Results) {
    let mut text = String::from(
        "# ONNX backend tests that pass, ` compiled` where machine code passes as well.\n\
         # Written by: CATC_CONFORMANCE=write cargo test --release --test conformance\n",
    );
    for (case, outcome) in results.iter().filter(|(_, o)| o.evaluated.is_ok()) {
        let compiled = if outcome.compiled.is_ok() { " compiled" } else { "" };
        let _ = writeln!(text, "{}{compiled}", case.name);
    }
    std::fs::write(path, text).expect("the list");
}

/// Writes why each other case does not pass, for whoever works on it.
pub fn write_reasons(path: &Path, results: &Results) {
    let mut text = String::new();
    for (case, outcome) in results {
        match (&outcome.evaluated, &outcome.compiled) {
            (Err(e), _) => drop(writeln!(text, "{} {}: E {e}", case.operator, case.name)),
            (_, Err(e)) => drop(writeln!(text, "{} {}: C {e}", case.operator, case.name)),
            _ => {}
        }
    }
    std::fs::write(path, text).expect("the reasons");
}

/// Writes the page.
pub fn write_page(path: &Path, results: &Results) {
    let mut suites: BTreeMap<&str, Count> = BTreeMap::new();
    let mut operators: BTreeMap<&str, Count> = BTreeMap::new();
    for (case, outcome) in results {
        let suite = case.name.split('/').next().unwrap_or_default();
        suites.entry(suite).or_default().add(outcome);
        if suite == "node" {
            operators.entry(&case.operator).or_default().add(outcome);
        }
    }
    let mut text = String::from(
        "# ONNX conformance\n\n\
         The backend tests of the Python package `onnx` 1.22.0: each is a model with inputs and expected outputs, compared\n\
         within 1e-3 relative and 1e-7 absolute as ONNX's own runner does. *Evaluator* counts the cases that the reference\n\
         evaluator passes, *compiled* those of them that also compile to a program whose machine code gives the same\n\
         result (to the last bit, but for sums of float convolutions). Types narrower or wider than f32 and i64 are\n\
         computed in f32 and i64; inputs that a network holds as constants (shapes, axes, weights) are given to the import\n\
         as constants. What passes is listed case by case in `tests/conformance/passing.txt`, and the test fails on any\n\
         difference.\n\n\
         Written by `CATC_CONFORMANCE=write cargo test --release --test conformance`.\n\n\
         | suite | cases | evaluator | compiled |\n|---|---:|---:|---:|\n",
    );
    let row = |text: &mut String, name: &str, Count([all, evaluated, compiled]): Count| {
        let _ = writeln!(text, "| {name} | {all} | {evaluated} | {compiled} |");
    };
    let mut total = Count::default();
    for (name, count) in &suites {
        row(&mut text, name, *count);
        (0..3).for_each(|i| total.0[i] += count.0[i]);
    }
    row(&mut text, "all", total);
    text.push_str(
        "\nBy operator, the node tests (models that spell an operator out in simpler ones count with the operator):\n\n\
         | operator | cases | evaluator | compiled |\n|---|---:|---:|---:|\n",
    );
    for (name, count) in &operators {
        row(&mut text, name, *count);
    }
    std::fs::write(path, text).expect("the page");
}
