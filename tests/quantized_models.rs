//! Quantized networks out as ONNX and in from it.

mod common;
use common::{catc, compile_digits, digits, eval_digits};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The outputs of a model on the example's test images, row by row.
fn outputs(model: &Path, folder: &Path) -> Vec<f32> {
    let path = folder.join("out.npy");
    let mut command = catc();
    command.arg("run").arg(model).arg("--input").arg(digits("test.npy")).arg("--output").arg(&path);
    command.arg("--preprocess").arg(digits("digits.toml")).assert().success();
    let array = catc::data::Array::open(&path, "float32").unwrap();
    array.floats(0..5970).unwrap().unwrap()
}

fn classes(rows: &[f32]) -> Vec<usize> {
    let class = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    rows.chunks(10).map(class).collect()
}

/// Element type and count of the weights of each layer.
fn weights(model: &Path) -> Vec<String> {
    let out = catc().arg("inspect").arg(model).arg("--json").assert().success();
    let report: Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    let layers = report["layers"].as_array().unwrap().iter();
    layers.filter_map(|l| l["weights"].as_str()).map(String::from).collect()
}

/// Compiles the example, writes it as quantized ONNX and compiles that: both compiled models and the ONNX file.
fn there_and_back(folder: &Path, more: &[&str]) -> [PathBuf; 3] {
    let [first, onnx, second] = ["first.bin", "quantized.onnx", "second.bin"].map(|n| folder.join(n));
    let emit = format!("qdq-onnx={}", onnx.display());
    compile_digits(&first, &[&["--method", "minmax", "--samples", "64", "--emit", &emit], more].concat());
    let out = catc().arg(&onnx).arg("-o").arg(&second).assert().success();
    let stderr = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
    assert!(stderr.contains("quantized already") && !stderr.contains("warning"), "{stderr}");
    [first, onnx, second]
}

#[test]
fn a_quantized_network_goes_out_and_comes_back() {
    let cat = ["--cat-alpha", "0.4", "--cat-clusters", "4", "--cat-pca", "3"];
    for more in
        [&["--wbits", "2", "--abits", "2"][..], &["--wbits", "8", "--abits", "8"], &["--wbits", "4", "--abits", "3"]]
    {
        let dir = tempfile::tempdir().unwrap();
        let [first, onnx, second] = there_and_back(dir.path(), &[more, &cat].concat());
        let [a, b, c] = [&first, &second, &onnx].map(|m| outputs(m, dir.path()));
        assert_eq!(weights(&first), weights(&second), "{more:?}");
        // The same codes and scales; a product of scales may be rounded elsewhere.
        let same = |x: &[f32]| classes(&a).iter().zip(classes(x)).filter(|(p, q)| *p == q).count();
        assert!(same(&b) >= 596 && same(&c) >= 594, "{more:?}: {} and {} of 597", same(&b), same(&c));
        let top = a.iter().fold(0f32, |m, x| m.max(x.abs()));
        let apart = a.iter().zip(&b).filter(|(p, q)| (*p - *q).abs() > 1e-4 * top).count();
        assert!(apart <= 60, "{more:?}: {apart} of 5970 outputs differ");
    }
}

#[test]
fn what_is_quantized_is_not_quantized_again() {
    let dir = tempfile::tempdir().unwrap();
    let [first, onnx, _] = there_and_back(dir.path(), &["--wbits", "4", "--abits", "4", "--no-cat"]);
    assert!((eval_digits(&first) - eval_digits(&onnx)).abs() < 0.01);
    let mut command = catc();
    command.arg(&onnx).arg("-o").arg(dir.path().join("x.bin")).args(["--keep-float", ".*"]);
    let out = command.assert().failure().code(1);
    let stderr = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
    assert!(stderr.contains("is quantized already"), "{stderr}");
}

#[test]
fn files_of_other_quantizers_compile_to_codes() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("static.bin");
    catc().arg("tests/networks/static_qdq.onnx").arg("-o").arg(&bin).assert().success();
    let weights = weights(&bin);
    assert!(weights.len() == 4 && weights.iter().all(|w| w.starts_with("i8[")), "{weights:?}");
    // What ONNX Runtime computes for the images beside it.
    let out = dir.path().join("out.npy");
    let mut command = catc();
    command.arg("run").arg(&bin).args(["--input", "tests/networks/static_qdq_inputs.npy"]).arg("--output").arg(&out);
    command.assert().success();
    let read = |path: &Path| catc::data::Array::open(path, "float32").unwrap().floats(0..640).unwrap().unwrap();
    let (found, expected) = (read(&out), read(Path::new("tests/networks/static_qdq_outputs.npy")));
    let same = classes(&found).iter().zip(classes(&expected)).filter(|(a, b)| *a == b).count();
    assert!(same >= 63, "{same} of 64");
}

#[test]
fn open_sizes_are_given_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("open.bin");
    let compile = |more: &[&str]| {
        let mut command = catc();
        command.arg("tests/networks/open_sizes.onnx").arg("-o").arg(&bin).args(more);
        command.assert()
    };
    let out = compile(&[]).failure().code(1);
    let stderr = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
    assert!(stderr.contains("--shape image=1x3xheightxwidth"), "{stderr}");
    compile(&["--shape", "image=1x3x16"]).failure().code(1);
    compile(&["--shape", "16x16"]).failure().code(2);
    compile(&["--shape", "image=1x3x16x12"]).success();
    let out = catc().arg("inspect").arg(&bin).arg("--json").assert().success();
    let report: Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    assert_eq!(report["layers"][0]["input"], "f32[3,16,12]");
}
