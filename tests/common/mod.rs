//! What the tests of the command share: running it, the example's files, the data set beside the checkout.
#![allow(dead_code)] // Each test binary uses its own part.

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The command, outside any terminal.
pub fn catc() -> Command {
    let mut command = Command::cargo_bin("catc").expect("the catc binary");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// A file of the example.
pub fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits").join(name)
}

/// The folder of measured models and data, if it is there: `$CATC_SHARED`, or `../shared` beside the checkout.
pub fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("CATC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let found = folder.join("data/models").is_dir();
    if !found {
        println!("skipped: no data at {}", folder.display());
    }
    found.then_some(folder)
}

/// Compiles the example with these further arguments.
pub fn compile_digits(output: &Path, more: &[&str]) {
    catc()
        .arg(digits("digits_resnet.onnx"))
        .arg("-o")
        .arg(output)
        .arg("--calib")
        .arg(digits("calib.npy"))
        .arg("--preprocess")
        .arg(digits("digits.toml"))
        .args(more)
        .assert()
        .success();
}

/// Top-1 of a model on the example's test images.
pub fn eval_digits(model: &Path) -> f64 {
    let out = catc()
        .arg("eval")
        .arg(model)
        .arg("--data")
        .arg(digits("test.npy"))
        .arg("--labels")
        .arg(digits("test_labels.npy"))
        .arg("--preprocess")
        .arg(digits("digits.toml"))
        .arg("--json")
        .assert()
        .success();
    let report: Value = serde_json::from_slice(&out.get_output().stdout).expect("a JSON report");
    assert_eq!(report["n"], 597);
    assert!(report["top5"].as_f64() >= report["top1"].as_f64());
    assert!(report["seconds"].is_f64());
    report["top1"].as_f64().expect("top1")
}
