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
    let passes_not = |outcome: &Outcome| outcome.evaluated.as_ref().err().cloned();
    text.push_str("\n## What the evaluator does not pass, by reason\n\n");
    reasons(&mut text, results, |case, outcome| Some(not_evaluated(case, &passes_not(outcome)?)));
    text.push_str(
        "\n## What the evaluator passes and does not compile, by reason\n\n\
         A compiled network takes reals and works image by image: the first axis of all that it computes is the batch. Most\n\
         of these cases are vectors and scalars, or other types, of operators that compile on pictures and sequences. What is\n\
         computed from shapes and constants alone is worked out at import, whatever the operator.\n\n",
    );
    reasons(&mut text, results, |_, outcome| match (&outcome.evaluated, &outcome.compiled) {
        (Ok(()), Err(e)) => Some(not_compiled(e)),
        _ => None,
    });
    std::fs::write(path, text).expect("the page");
}

/// A table of reasons, the commonest first, each with its cases by operator.
fn reasons(text: &mut String, results: &Results, reason: impl Fn(&Case, &Outcome) -> Option<String>) {
    let mut found: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for (case, outcome) in results {
        if let Some(reason) = reason(case, outcome) {
            *found.entry(reason).or_default().entry(&case.operator).or_default() += 1;
        }
    }
    let mut found: Vec<_> = found.into_iter().map(|(r, o)| (o.values().sum::<usize>(), r, o)).collect();
    found.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    text.push_str("| reason | cases | operators |\n|---|---:|---|\n");
    for (count, reason, operators) in found {
        let operators: Vec<String> = operators.iter().map(|(o, n)| format!("{o} {n}")).collect();
        let _ = writeln!(text, "| {} | {count} | {} |", reason.replace('|', "/"), operators.join(", "));
    }
}

/// Operators outside of what inference on pictures needs, by subject.
const OUTSIDE: [(&str, &[&str]); 8] = [
    (
        "training: optimizers, losses, gradients",
        &["Adagrad", "Adam", "Dropout", "Gradient", "Momentum", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"],
    ),
    ("random numbers", &["Bernoulli"]),
    (
        "recurrent networks and state between calls",
        &["CausalConvWithState", "GRU", "LSTM", "LinearAttention", "RNN", "Scan", "TensorScatter"],
    ),
    (
        "strings, dictionaries, sequences, optional values",
        &[
            "Identity",
            "If",
            "LabelEncoder",
            "Loop",
            "OptionalGetElement",
            "OptionalHasElement",
            "RegexFullMatch",
            "SequenceInsert",
            "SequenceMap",
            "SplitToSequence",
            "StringConcat",
            "StringNormalizer",
            "StringSplit",
            "TfIdfVectorizer",
        ],
    ),
    (
        "sampling at computed places, boxes: what surrounds a detector",
        &["AffineGrid", "Col2Im", "DeformConv", "GridSample", "MaxUnpool", "NonMaxSuppression", "RoiAlign"],
    ),
    (
        "signals: transforms and windows",
        &["BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"],
    ),
    ("bits of whole numbers", &["BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"]),
    (
        "trees and features of classical learning, image files, others",
        &["ArrayFeatureExtractor", "Binarizer", "Det", "FlexAttention", "ImageDecoder", "TreeEnsemble", "Unique"],
    ),
];

/// Why a case does not pass on the evaluator, in words of the page; the message itself where none fit.
fn not_evaluated(case: &Case, error: &str) -> String {
    let has = |part: &str| error.contains(part);
    let reason = if has("of type string") || has("Sequence") || has("impossible dimensions") || has("in segments") {
        OUTSIDE[3].0
    } else if has("(Gradient,") {
        OUTSIDE[0].0
    } else if has("float8")
        || has("float4")
        || (has("wrong") && case.name.contains("FLOAT") && case.operator.starts_with("Cast"))
    {
        "floats of 4, 8 and 16 bits as results: reals are f32 throughout (weights of 16 bits are read)"
    } else if has("empty tensor") || case.name.contains("empty_set") || has("no element") {
        "empty tensors"
    } else if has("too old") {
        "models of opset 1: 6 is the oldest that is read"
    } else if has("fit in f32") {
        "doubles beyond the range of f32"
    } else if case.operator == "Resize" && case.name.contains("align_corners") {
        "align_corners with a size that is cut to a whole number: computed as ONNX Runtime and PyTorch do, the suite differs"
    } else {
        match OUTSIDE.iter().find(|(_, operators)| operators.contains(&case.operator.as_str())) {
            Some((subject, _)) => subject,
            None => return error.to_string(),
        }
    };
    reason.to_string()
}

/// Why a case does not compile.
fn not_compiled(error: &str) -> String {
    let has = |part: &str| error.contains(part);
    if let (Some(from), true) = (error.find(" ("), has("has no step for it")) {
        let operation = error[from + 2..].split(')').next().unwrap_or_default();
        return format!("evaluated only: `{operation}`");
    }
    let reason = if has("image by image") {
        "no batch: vectors, scalars, or an operation along the first axis"
    } else if has("takes f32")
        || has("neither f32 nor codes")
        || has("other inputs than reals")
        || has("whole numbers or truth values")
    {
        "whole numbers or truth values as data"
    } else if has("batch") {
        "it works along the batch"
    } else if has("constant") || has("computed from the data") {
        "all of it is constant, or a shape or an axis is data"
    } else if has("empty tensor") {
        "empty tensors"
    } else {
        return error.to_string();
    };
    reason.to_string()
}
