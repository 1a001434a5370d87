//! What the command says of bad input: one paragraph, no panic, exit code 1 (2 for usage), no file left behind.

mod common;
use assert_cmd::Command;
use common::{catc, compile_digits, digits};
use std::fs;
use std::path::{Path, PathBuf};

/// Runs the command, demands failure with this code, and returns its message.
fn message(command: &mut Command, code: i32) -> String {
    let out = command.assert().failure().code(code);
    let text = String::from_utf8(out.get_output().stderr.clone()).expect("a message in UTF-8");
    assert!(!text.contains("panicked"), "{text}");
    assert!(out.get_output().stdout.is_empty(), "nothing on standard output");
    text
}

/// The last paragraph of a failed run: the error.
fn failure(command: &mut Command) -> String {
    let text = message(command, 1);
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one paragraph: {text}");
    assert!(text.trim_end().ends_with(errors[0]), "the error comes last: {text}");
    errors[0].to_string()
}

/// A compilation of `model` with calibration data `calib` into `folder`.
fn compiling(model: &Path, calib: &Path, folder: &Path) -> Command {
    let mut command = catc();
    command.arg(model).arg("-o").arg(folder.join("out.bin")).arg("--calib").arg(calib);
    command.arg("--preprocess").arg(digits("digits.toml"));
    command
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

/// An .npy file with this header dictionary and these bytes after it.
fn npy(path: &Path, header: &str, data: &[u8]) {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let padded = format!("{header:<width$}\n", width = (header.len() + 1 + 10).div_ceil(64) * 64 - 11);
    bytes.extend((padded.len() as u16).to_le_bytes());
    bytes.extend(padded.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn floats(shape: &str) -> String {
    format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
}

#[test]
fn broken_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let onnx = fs::read(digits("digits_resnet.onnx")).unwrap();
    let out = tempfile::tempdir().unwrap();
    for (name, bytes) in [("empty", &onnx[..0]), ("truncated", &onnx[..onnx.len() / 2])] {
        let model = dir.path().join(format!("{name}.onnx"));
        fs::write(&model, bytes).unwrap();
        let text = failure(&mut compiling(&model, &digits("calib.npy"), out.path()));
        assert!(text.contains(&format!("{name}.onnx")), "{text}");
    }
    let text = failure(&mut compiling(&dir.path().join("missing.onnx"), &digits("calib.npy"), out.path()));
    assert!(text.contains("missing.onnx"), "{text}");
    assert!(files_in(out.path()).is_empty(), "nothing is written");
}

#[test]
fn flipped_bits_of_an_onnx_file_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let onnx = fs::read(digits("digits_resnet.onnx")).unwrap();
    let model = dir.path().join("flipped.onnx");
    for i in 0..12 {
        let mut bytes = onnx.clone();
        let at = if i < 6 { i * 17 } else { onnx.len() - 1 - (i - 6) * 31 };
        bytes[at] ^= 1 << (i % 8);
        fs::write(&model, bytes).unwrap();
        let mut command = catc();
        command.arg("opt").arg(&model).args(["--passes", "dead-code"]);
        let out = command.output().unwrap();
        // A flipped bit of a weight or a name is no error; anything else is one.
        assert!(matches!(out.status.code(), Some(0 | 1)), "byte {at}: {:?}", out.status);
        assert!(!String::from_utf8_lossy(&out.stderr).contains("panicked"), "byte {at}");
    }
}

#[test]
fn broken_compiled_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.bin");
    compile_digits(&good, &["--wbits", "2", "--abits", "2", "--method", "minmax", "--no-cat", "--samples", "16"]);
    let bytes = fs::read(&good).unwrap();
    let bad = dir.path().join("bad.bin");
    let refused = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        failure(catc().arg("bench").arg(&bad))
    };
    refused(&[]);
    for length in [1, 7, 63, bytes.len() / 2, bytes.len() - 1] {
        refused(&bytes[..length]);
    }
    for i in 0..24 {
        let mut flipped = bytes.clone();
        let at = if i < 8 { i * 9 } else { (i * 7919) % bytes.len() };
        flipped[at] ^= 1 << (i % 8);
        let text = refused(&flipped);
        assert!(text.contains("bad.bin"), "{text}");
    }
}

#[test]
fn wrong_calibration_arrays_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let calib = dir.path().join("calib.npy");
    let model = digits("digits_resnet.onnx");
    let refused = || failure(&mut compiling(&model, &calib, out.path()));

    npy(&calib, &floats("(2, 3, 8, 8)"), &[0; 2 * 3 * 64 * 4]);
    let text = refused();
    assert!(text.contains("calib.npy") && text.contains("1, 8, 8"), "{text}");
    npy(&calib, &floats("(99999999, 1, 8, 8)"), &[0; 256]);
    refused();
    npy(&calib, "{'descr': '|O', 'fortran_order': False, 'shape': (2, 1, 8, 8), }", &[0; 1024]);
    let text = refused();
    assert!(text.contains("object"), "{text}");
    npy(&calib, "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 1, 8, 8), }", &[0; 1024]);
    refused();
    let mut values = [0u8; 2 * 64 * 4];
    values[4 * 70..4 * 71].copy_from_slice(&f32::NAN.to_le_bytes());
    npy(&calib, &floats("(2, 1, 8, 8)"), &values);
    let text = refused();
    assert!(text.contains("NaN") && text.contains("sample 1"), "{text}");
    fs::write(&calib, []).unwrap();
    refused();
    fs::remove_file(&calib).unwrap();
    refused();
    let text = failure(&mut compiling(&model, &dir.path().join("no_such_folder/"), out.path()));
    assert!(text.contains("no_such_folder"), "{text}");
    assert!(files_in(out.path()).is_empty(), "nothing is written");
}

#[test]
fn an_output_that_cannot_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = catc();
    command.arg(digits("digits_resnet.onnx")).args(["--calib"]).arg(digits("calib.npy")).args(["--samples", "8"]);
    command.arg("--preprocess").arg(digits("digits.toml")).args(["--method", "minmax", "--no-cat"]);
    let text = failure(command.arg("-o").arg(dir.path().join("no/such/folder/out.bin")));
    assert!(text.contains("no/such/folder"), "{text}");
    assert!(files_in(dir.path()).is_empty());
}

#[test]
fn wrong_labels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let labels = dir.path().join("labels.npy");
    let refused = |header: &str, data: &[u8]| {
        npy(&labels, header, data);
        let mut command = catc();
        command.arg("eval").arg(digits("digits_resnet.onnx")).arg("--data").arg(digits("test.npy"));
        failure(command.arg("--labels").arg(&labels).arg("--preprocess").arg(digits("digits.toml")))
    };
    let text = refused("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", &[0; 24]);
    assert!(text.contains("597"), "{text}");
    refused("{'descr': '|i1', 'fortran_order': False, 'shape': (597,), }", &[77; 597]);
    refused("{'descr': '<f4', 'fortran_order': False, 'shape': (597,), }", &[0; 597 * 4]);
}

#[test]
fn usage_errors_exit_with_two() {
    let model = digits("digits_resnet.onnx");
    let model = model.to_str().unwrap();
    for args in [
        vec![],
        vec![model],
        vec![model, "-o", "x.bin", "--wbits", "1"],
        vec![model, "-o", "x.bin", "--wbits", "9"],
        vec![model, "-o", "x.bin", "--method", "magic"],
        vec![model, "-o", "x.bin", "--threads", "0"],
        vec![model, "-o", "x.bin", "--print-after", "no-such-pass"],
        vec![model, "-o", "x.bin", "--no-cat", "--cat-alpha", "0.5"],
        vec![model, "-o", "x.bin", "--cat-alpha", "2"],
        vec!["opt", model, "--passes", "no-such-pass"],
        vec!["opt", model, "--passes", "insert-qdq{wbits=77}"],
        vec!["bench"],
    ] {
        message(catc().args(&args), 2);
    }
    assert!(!Path::new(env!("CARGO_MANIFEST_DIR")).join("x.bin").exists());
}

#[test]
fn instruction_sets_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("digits.bin");
    compile_digits(&bin, &["--method", "minmax", "--samples", "16", "--no-cat"]);
    let text = message(catc().arg("bench").arg(&bin).args(["--cpu", "z80"]), 2);
    assert!(text.contains("\"z80\"") && text.contains("native"), "{text}");
    let error = failure(catc().arg("bench").arg(&bin).env("CATC_CPU", "z80"));
    assert!(error.contains("CATC_CPU") && error.contains("\"z80\""), "{error}");
    let mut eval = catc();
    eval.arg("eval").arg(digits("digits_resnet.onnx")).args(["--cpu", "native"]);
    eval.arg("--data").arg(digits("test.npy")).arg("--labels").arg(digits("test_labels.npy"));
    let error = failure(eval.arg("--preprocess").arg(digits("digits.toml")));
    assert!(error.contains("not a compiled model"), "{error}");
}
