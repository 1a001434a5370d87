//! Names of earlier versions are still read, with one note that tells the present name, and change nothing else.

mod common;
use catc_program::Program;
use common::{catc, digits};
use std::fs;
use std::path::Path;

/// Compiles the example with these options; returns the bytes of the model and the notes that tell a present name.
fn compile(out: &Path, more: &[&str]) -> (Vec<u8>, Vec<String>) {
    let mut command = catc();
    command.arg(digits("digits_resnet.onnx")).arg("-o").arg(out).args(["--wbits", "2", "--abits", "2", "--seed", "4"]);
    command.arg("--calib").arg(digits("calib.npy")).arg("--preprocess").arg(digits("digits.toml"));
    let done = command.args(["--samples", "64"]).args(more).assert().success();
    (fs::read(out).unwrap(), renamings(&done.get_output().stderr))
}

fn renamings(stderr: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stderr);
    text.lines().filter(|l| l.contains(" is now called ")).map(str::to_string).collect()
}

#[test]
fn former_names_of_methods_options_and_flags_compile_to_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.bin");
    let few = ["--iters", "3", "--set", "refine-scales.steps=2"];
    let former =
        ["--method", "cat", "--set", "reconstruct.pd=2", "--set", "reconstruct.drop=0.25", "--cat-held-back", "16"];
    let (bytes, told) = compile(&out, &[&former[..], &few].concat());
    let notes = [
        "note: method `cat` is now called `end-to-end`",
        "note: option of `reconstruct` `pd` is now called `prediction_weight`",
        "note: option of `reconstruct` `drop` is now called `quant_drop_prob`",
        "note: option `--cat-held-back` is now called `--cat-holdout`",
    ];
    assert_eq!(told, notes);
    let weight = ["--set", "reconstruct.prediction_weight=2", "--set", "reconstruct.quant_drop_prob=0.25"];
    let present = [&["--method", "end-to-end", "--cat-holdout", "16"], &weight[..], &few].concat();
    assert_eq!(compile(&out, &present), (bytes, vec![]));

    let (bytes, told) = compile(&out, &["--method", "correct", "--effort", "fast", "--no-cat"]);
    assert_eq!(told, ["note: method `correct` is now called `channel-correction`"]);
    let present = ["--method", "channel-correction", "--effort", "fast", "--no-cat"];
    assert_eq!(compile(&out, &present), (bytes, vec![]));
}

#[test]
fn lists_of_passes_and_sweeps_read_former_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = catc();
    command.args(["opt", "tests/networks/residual.catir", "--samples", "4", "--passes"]);
    let list = "canonicalize,calibrate,insert-qdq{wbits=2,abits=2},reconstruct{iters=1,pd=1,mix=0.5,pd_images=2}";
    let done = command.arg(list).assert().success();
    let told = renamings(&done.get_output().stderr);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[1], "note: option of `reconstruct` `mix` is now called `input_mix_prob`");

    // Refused for its augmentation only after methods and flags were read.
    let mut command = catc();
    command.arg("sweep").arg(digits("digits_resnet.onnx")).arg("--out").arg(dir.path());
    command.arg("--calib").arg(digits("calib.npy")).arg("--data").arg(digits("test.npy"));
    command.arg("--labels").arg(digits("test_labels.npy")).args(["--method", "correct,cat", "--cat-held-back", "9"]);
    let done = command.args(["--augment", "turn"]).assert().code(2);
    let told = renamings(&done.get_output().stderr);
    let names = ["`channel-correction`", "`end-to-end`", "`--cat-holdout`"];
    assert!(told.len() == 3 && told.iter().zip(names).all(|(line, name)| line.ends_with(name)), "{told:?}");
    let both = ["--cat-held-back", "9", "--cat-holdout", "9"];
    let mut command = catc();
    command.arg(digits("digits_resnet.onnx")).args(["-o", "x.bin", "--calib", "x.npy"]).args(both).assert().code(2);
}

#[test]
fn a_model_that_names_a_former_method_is_loaded_and_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.bin");
    compile(&path, &["--method", "minmax", "--no-cat"]);
    let mut program = Program::load(&path).unwrap();
    for method in ["cat", "correct"] {
        program.info.method = method.into();
        program.save(&path).unwrap();
        let done = catc().arg("inspect").arg(&path).assert().success();
        let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
        assert!(text.contains(&format!("method {method}")), "{text}");
    }
}
