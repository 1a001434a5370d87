//! What is refused before any work: files that would be overwritten, networks that will not compile, options that do not fit.

mod common;
use assert_cmd::Command;
use catc_ir::text::{NoBlobs, parse};
use common::{catc, compile_digits, digits};
use std::fs;
use std::path::Path;

fn stderr(command: &mut Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}

/// Writes a graph in text form as ONNX.
fn onnx(path: &Path, text: &str) {
    let graph = parse(text, &NoBlobs).unwrap_or_else(|e| panic!("{e}"));
    fs::write(path, catc_onnx::export(&graph, &[]).unwrap()).unwrap();
}

#[test]
fn inputs_are_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::copy(digits("digits_resnet.onnx"), at("net.onnx")).unwrap();
    fs::copy(digits("test.npy"), at("x.npy")).unwrap();
    fs::hard_link(at("net.onnx"), at("same.bin")).unwrap();
    compile_digits(&at("q.bin"), &["--method", "minmax", "--samples", "16", "--no-cat"]);
    let before = fs::read(at("net.onnx")).unwrap();
    let all = [
        vec!["net.onnx", "-o", "net.onnx"],
        vec!["net.onnx", "-o", "same.bin"],
        vec!["net.onnx", "-o", "y.bin", "--calib", "x.npy", "--loss-curve", "x.npy"],
        vec!["net.onnx", "-o", "y.bin", "--emit", "obj=./y.bin"],
        vec!["net.onnx", "--emit", "qdq-onnx=net.onnx"],
        vec!["q.bin", "--tune", "-o", "./q.bin"],
        vec!["run", "q.bin", "--input", "x.npy", "--output", "q.bin"],
        vec!["run", "net.onnx", "--input", "x.npy", "--output", "x.npy"],
        vec!["opt", "net.onnx", "--passes", "canonicalize", "-o", "net.onnx"],
    ];
    for args in all {
        let text = stderr(catc().current_dir(dir.path()).args(&args), 2);
        assert!(text.contains("would overwrite") || text.contains("are the same file"), "{args:?}: {text}");
    }
    assert_eq!(fs::read(at("net.onnx")).unwrap(), before);
    assert_eq!(fs::read(at("x.npy")).unwrap(), fs::read(digits("test.npy")).unwrap());
    assert!(!at("y.bin").exists());
}

#[test]
fn all_that_will_not_compile_is_named_before_calibration() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("net.onnx");
    onnx(
        &model,
        r#"graph @net float {
  c0 = const f32[4,4] random(1, normal, 0.5)
input(v0: f32[N,4] "x"):
  v1: f32[N,4] = linear v0, c0 "fc"
  v2: f32[N,4] = max v1, v0 "largest"
  v3: bool[N,4] = less v2, v1 "smaller"
  v4: f32[N,4] = where v3, v1, v0 "chosen"
  output v4 "y"
}
"#,
    );
    let mut command = catc();
    command.arg(&model).arg("-o").arg(dir.path().join("out.bin")).args(["--samples", "4"]);
    let text = stderr(&mut command, 1);
    assert!(text.contains("\"largest\" (Max): a compiled network has no step for it"), "{text}");
    assert!(!text.contains("calibration"), "before calibration: {text}");
    // Other problems are said with it.
    let text = stderr(command.args(["--keep-float", "nothing"]), 1);
    assert!(text.contains("2 things must be changed first") && text.contains("`nothing`"), "{text}");
}

#[test]
fn one_of_several_outputs_holds_the_scores() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("net.onnx");
    onnx(
        &model,
        r#"graph @net float {
  c0 = const f32[10,64] random(1, normal, 0.5)
  c1 = const f32[5,64] random(2, normal, 0.5)
input(v0: f32[N,1,8,8] "x"):
  v1: f32[N,64] = reshape v0 {shape=[N,64]}
  v2: f32[N,10] = linear v1, c0 "first"
  v3: f32[N,10] = linear v1, c0 "second"
  v4: f32[N,1,8,8] = relu v0
  output v2 "a"
  output v3 "b"
  output v4 "picture"
}
"#,
    );
    let eval = |more: &[&str]| {
        let mut command = catc();
        command.arg("eval").arg(&model).arg("--data").arg(digits("test.npy"));
        command
            .arg("--labels")
            .arg(digits("test_labels.npy"))
            .arg("--preprocess")
            .arg(digits("digits.toml"))
            .args(more);
        command
    };
    let text = stderr(&mut eval(&[]), 1);
    assert!(text.contains("\"a\", \"b\": name one with --output NAME"), "{text}");
    eval(&["--output", "b"]).assert().success();
    assert!(stderr(&mut eval(&["--output", "c"]), 1).contains("has no output \"c\"; it has \"a\", \"b\", \"picture\""));
    let text = stderr(&mut eval(&["--output", "picture"]), 1);
    assert!(text.contains("output \"picture\" is [1, 8, 8] of reals for one input"), "{text}");
}

#[test]
fn outputs_have_the_form_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = catc();
    command.arg("run").arg(digits("digits_resnet.onnx")).arg("--input").arg(digits("test.npy"));
    command.arg("--preprocess").arg(digits("digits.toml")).arg("--output").arg(dir.path().join("y.txt"));
    assert!(stderr(&mut command, 2).contains("y.txt: outputs are written as .npy"));
}

#[test]
fn passes_on_random_inputs_say_so() {
    let model = digits("digits_resnet.onnx");
    let opt = |passes: &str| stderr(catc().arg("opt").arg(&model).args(["--passes", passes]), 0);
    assert!(opt("canonicalize,calibrate").contains("NO CALIBRATION DATA"));
    assert!(!opt("canonicalize").contains("NO CALIBRATION DATA"));
}
