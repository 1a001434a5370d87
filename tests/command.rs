//! What the command prints and writes when all is well.

mod common;
use catc_ir::text::{NoBlobs, parse};
use common::{catc, compile_digits, digits};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Runs the command and returns standard output and standard error.
fn output(command: &mut assert_cmd::Command) -> (String, String) {
    let out = command.assert().success();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&out.get_output().stdout), text(&out.get_output().stderr))
}

fn json(command: &mut assert_cmd::Command) -> Value {
    let (stdout, _) = output(command.arg("--json"));
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
}

fn compiled(folder: &Path, more: &[&str]) -> std::path::PathBuf {
    let bin = folder.join("digits.bin");
    compile_digits(&bin, &[&["--method", "minmax", "--samples", "64"], more].concat());
    bin
}

#[test]
fn a_compilation_reports_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("digits.bin");
    let mut command = catc();
    command.arg(digits("digits_resnet.onnx")).arg("-o").arg(&bin).args(["--wbits", "3", "--abits", "5"]);
    command.arg("--calib").arg(digits("calib.npy")).arg("--preprocess").arg(digits("digits.toml"));
    command.args(["--samples", "64", "--seed", "9", "--print-after", "insert-qdq", "--json"]);
    command.args(["--iters", "5", "--set", "refine-scales.steps=5"]);
    let (stdout, stderr) = output(&mut command);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["bytes"], fs::metadata(&bin).unwrap().len());
    assert_eq!((&report["wbits"], &report["abits"], &report["seed"]), (&3.into(), &5.into(), &9.into()));
    let passes: Vec<&str> = report["passes"].as_array().unwrap().iter().map(|p| p["pass"].as_str().unwrap()).collect();
    for pass in ["fold-batch-norm", "calibrate", "insert-qdq", "append-cat", "fold-cat", "lower-integer", "fold-scales"]
    {
        assert!(passes.contains(&pass), "{pass} is not in {passes:?}");
    }
    for echo in
        ["3-bit weights", "5-bit activations", "64 (of 512) samples", "seed 9", "// after insert-qdq", " = quantize v"]
    {
        assert!(stderr.contains(echo), "{echo:?} is not in\n{stderr}");
    }
    assert!(!stderr.contains('\r') && !stderr.contains('\x1b'), "no progress bars in a pipe");
}

#[test]
fn without_calibration_data_it_warns_and_corrects_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("digits.bin");
    let mut command = catc();
    command.arg(digits("digits_resnet.onnx")).arg("-o").arg(&bin).args(["--wbits", "2", "--abits", "2"]);
    let (_, stderr) = output(&mut command);
    assert!(stderr.contains("warning: NO CALIBRATION DATA"), "{stderr}");
    let report = json(catc().arg("inspect").arg(&bin));
    let ops: Vec<&str> = report["layers"].as_array().unwrap().iter().map(|l| l["op"].as_str().unwrap()).collect();
    assert!(!ops.contains(&"argmin"), "{ops:?}");
}

#[test]
fn a_forced_correction_is_part_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("digits.bin");
    let bits = ["--method", "mse", "--wbits", "2", "--abits", "2"];
    let more = [&bits[..], &["--cat-alpha", "0.4", "--cat-clusters", "4", "--cat-pca", "3"]].concat();
    compile_digits(&bin, &more);
    let report = json(catc().arg("inspect").arg(&bin));
    let ops: Vec<&str> = report["layers"].as_array().unwrap().iter().map(|l| l["op"].as_str().unwrap()).collect();
    assert!(ops.contains(&"argmin"), "{ops:?}");
}

#[test]
fn inspect_and_bench_report_what_scripts_read() {
    let dir = tempfile::tempdir().unwrap();
    let bin = compiled(dir.path(), &["--wbits", "2", "--abits", "2", "--no-cat"]);
    let report = json(catc().arg("inspect").arg(&bin));
    assert_eq!(report["bytes"], fs::metadata(&bin).unwrap().len());
    // 308,074 trained parameters and the running statistics of 672 normalized channels.
    assert_eq!(report["float_bytes"], 4 * (308_074 + 2 * 672));
    let layer = report["layers"].as_array().unwrap().iter().find(|l| l["name"] == "stage2_1_conv").unwrap();
    assert_eq!(layer["weights"], "i2[64,32,3,3]");
    assert_eq!(layer["macs"], 64 * 32 * 9 * 16);
    assert!(layer["kernel"].is_string() && layer.get("considered").is_none());
    let report = json(catc().arg("bench").arg(&bin).args(["--runs", "5", "--batch", "3", "--threads", "2"]));
    assert_eq!((&report["threads"], &report["batch"]), (&2.into(), &3.into()));
    let ms = |key: &str| report[key].as_f64().unwrap();
    assert!(0.0 < ms("min_ms") && ms("min_ms") <= ms("median_ms") && ms("median_ms") <= ms("p90_ms"));
    assert!(report["packed_bytes"].as_u64() > Some(0) && report["workspace_bytes"].as_u64() > Some(0));
    assert!(report.get("profile").is_none());
    let report = json(catc().arg("bench").arg(&bin).args(["--runs", "2", "--profile", "--cpu", "x86-64-v2"]));
    assert_eq!(report["tier"], "x86-64-v2");
    let layers = report["profile"]["layers"].as_array().unwrap();
    let layer = layers.iter().find(|l| l["name"] == "stage2_1_conv").unwrap();
    assert_eq!((&layer["macs"], &layer["op"]), (&(64 * 32 * 9 * 16).into(), &"conv".into()));
    assert!(layer["min_us"].as_f64() > Some(0.0) && layer["min_us"].as_f64() <= layer["median_us"].as_f64());
    let shares: f64 = layers.iter().map(|l| l["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-6);
    let kinds = report["profile"]["kinds"].as_array().unwrap();
    let counted: u64 = kinds.iter().map(|kind| kind["layers"].as_u64().unwrap()).sum();
    assert_eq!(counted, layers.len() as u64);
    assert!(kinds.iter().any(|kind| kind["kind"] == layer["kernel"]), "{kinds:?}");
    let (text, _) =
        output(catc().arg("bench").arg(&bin).args(["--runs", "2", "--profile"]).env("CATC_CPU", "x86-64-v2"));
    assert!(text.contains("stage2_1_conv") && text.contains("MAC/cycle") && text.contains("x86-64-v2"), "{text}");
    let (text, _) = output(catc().arg("inspect").arg(&bin));
    assert!(text.contains("stage2_1_conv") && text.contains("i2[64,32,3,3]"), "{text}");
}

#[test]
fn inspect_says_why_a_layer_has_its_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let bin = compiled(dir.path(), &["--wbits", "2", "--abits", "2", "--no-cat"]);
    let why = ["--why", "--cpu", "x86-64-v2"];
    let report = json(catc().arg("inspect").arg(&bin).args(why));
    let layer = report["layers"].as_array().unwrap().iter().find(|l| l["name"] == "stage2_1_conv").unwrap();
    let considered = layer["considered"].as_array().unwrap();
    let cycles = |kernel: &&serde_json::Value| kernel["cycles"].as_f64();
    let best =
        considered.iter().filter(|k| cycles(k).is_some()).min_by(|a, b| cycles(a).partial_cmp(&cycles(b)).unwrap());
    assert_eq!(best.unwrap()["kernel"], layer["kernel"]);
    let depthwise = considered.iter().find(|k| k["kernel"] == "depthwise-maddubs").unwrap();
    assert!(depthwise["refused"].as_str().unwrap().contains("depthwise"), "{depthwise}");
    let (text, _) = output(catc().arg("inspect").arg(&bin).args(why));
    let chosen = format!("* {}", layer["kernel"].as_str().unwrap());
    assert!(
        text.contains(&chosen) && text.contains("kilocycles") && text.contains("no: needs a depthwise layer"),
        "{text}"
    );
}

#[test]
fn single_layers_have_the_bits_they_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--wbits", "4", "--abits", "4", "--no-cat", "--layer-bits", "stage2_.*conv=2/3"];
    let bin = compiled(dir.path(), &[&more[..], &["--keep-float", "stage2_1_conv|fc"]].concat());
    let report = json(catc().arg("inspect").arg(&bin));
    assert_eq!(report["layer_bits"], serde_json::json!(["stage2_.*conv=2/3", "stage2_1_conv|fc=32/32"]));
    let weights = |name: &str| {
        let layer = report["layers"].as_array().unwrap().iter().find(|l| l["name"] == name).unwrap();
        [&layer["weights"], &layer["input"]].map(|t| t.as_str().unwrap().split('[').next().unwrap().to_string())
    };
    assert_eq!(weights("stage2_1_conv"), ["f32", "f32"]);
    assert_eq!(weights("stage3_1_conv"), ["i4", "u4"]);
    let (text, _) = output(catc().arg("inspect").arg(&bin));
    assert!(text.contains("bits of single layers: stage2_.*conv=2/3, "), "{text}");
}

#[test]
fn run_writes_the_outputs_of_either_kind_of_model() {
    let dir = tempfile::tempdir().unwrap();
    let bin = compiled(dir.path(), &["--wbits", "8", "--abits", "8", "--no-cat"]);
    let outputs = [bin, digits("digits_resnet.onnx")].map(|model| {
        let path = dir.path().join("out.npy");
        let mut command = catc();
        command.arg("run").arg(model).arg("--input").arg(digits("test.npy")).arg("--output").arg(&path);
        output(command.arg("--preprocess").arg(digits("digits.toml")));
        let array = catc::data::Array::open(&path, "float32").unwrap();
        assert_eq!(array.shape(), [597, 10]);
        array.floats(0..5970).unwrap().unwrap()
    });
    let class = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let same = outputs[0].chunks(10).zip(outputs[1].chunks(10)).filter(|(a, b)| class(a) == class(b)).count();
    assert!(same >= 590, "{same} of 597 classes agree");
}

#[test]
fn opt_runs_passes_on_text_and_keeps_large_constants_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, text) = (dir.path().join("digits.npz"), dir.path().join("digits.catir"));
    let mut command = catc();
    command.arg("opt").arg(digits("digits_resnet.onnx")).args(["--passes", "fold-batch-norm,dead-code"]);
    output(command.arg("--emit-blobs").arg(&blobs).arg("-o").arg(&text));
    let mut command = catc();
    command.arg("opt").arg(&text).arg("--blobs").arg(&blobs).args(["--passes", "dead-code"]);
    let (stdout, stderr) = output(&mut command);
    assert_eq!(stdout, fs::read_to_string(&text).unwrap());
    assert!(stderr.starts_with("dead-code: "), "{stderr}");

    let mut command = catc();
    command.args(["opt", "tests/networks/residual.catir", "--samples", "4", "--passes"]);
    let list = "canonicalize,calibrate{method=minmax},insert-qdq{wbits=2,abits=2},lower-integer,fold-scales";
    let (stdout, _) = output(command.arg(list));
    assert!(stdout.starts_with("graph @residual integer {") && stdout.contains("fused_conv2d"), "{stdout}");
    assert!(parse(&stdout, &NoBlobs).is_err_and(|e| e.message.contains("blob")), "large constants are blobs");
    let (list, _) = output(catc().args(["opt", "--list"]));
    assert!(list.contains("refine-scales") && list.contains("insert-qdq"), "{list}");
}

#[test]
fn tuning_keeps_the_outputs_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let model = compiled(folder.path(), &["--wbits", "2", "--abits", "2"]);
    let tuned = folder.path().join("tuned.bin");
    let report = json(catc().arg(&model).args(["--tune", "-o"]).arg(&tuned));
    assert!(report["tuning"]["before_ms"].as_f64() >= report["tuning"]["after_ms"].as_f64(), "{report}");
    let before = json(catc().arg("inspect").arg(&model));
    let after = json(catc().arg("inspect").arg(&tuned));
    assert_eq!(before["tuned"], false);
    assert_eq!(after["tuned"].as_bool(), Some(report["tuning"]["layers"].as_u64() > Some(0)));
    // In place, as well.
    json(catc().arg(&tuned).arg("--tune"));
    for args in [&["--tune", "--emit", "obj=x.o"][..], &["--tune", "--calib", "x.npy"]] {
        catc().arg(&model).args(args).current_dir(folder.path()).assert().code(2);
    }
}

/// An output of classes, from the evaluator and from machine code.
#[test]
fn run_writes_indices_as_whole_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = "graph @g float {\ninput(v0: f32[N,4] \"x\"):\n  v1: f32[N,4] = relu v0\n  \
        v2: i64[N] = argmin v1 {axis=1}\n  output v2 \"least\"\n}\n";
    fs::write(path("m.onnx"), catc_onnx::export(&parse(text, &NoBlobs).unwrap(), &[]).unwrap()).unwrap();
    let x = [3.0, 1.0, 2.0, 5.0, 0.5, 2.0, 9.0, 0.25];
    catc::data::write_npy(&path("x.npy"), &[2, 4], catc::data::Elements::F32(&x)).unwrap();
    catc().arg(path("m.onnx")).arg("-o").arg(path("m.bin")).assert().success();
    for model in ["m.onnx", "m.bin"] {
        let mut command = catc();
        command.arg("run").arg(path(model)).arg("--input").arg(path("x.npy")).arg("--output").arg(path("y.npy"));
        command.assert().success();
        let bytes = fs::read(path("y.npy")).unwrap();
        assert!(String::from_utf8_lossy(&bytes[..128]).contains("'<i8'"), "{model}");
        let found: Vec<i64> = bytes[128..].chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(found, [1, 3], "{model}");
    }
}
