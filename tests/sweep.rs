//! `catc sweep` on the example: its figures are those of compiling and evaluating, and it goes on where it was interrupted.

mod common;
use common::{catc, compile_digits, digits, eval_digits};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn sweep(out: &Path, more: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = catc();
    command.arg("sweep").arg(digits("digits_resnet.onnx")).arg("--out").arg(out);
    command.arg("--calib").arg(digits("calib.npy")).arg("--preprocess").arg(digits("digits.toml"));
    command.arg("--data").arg(digits("test.npy")).arg("--labels").arg(digits("test_labels.npy"));
    command.args(more).assert()
}

fn json(out: &Path, more: &[&str]) -> Value {
    let done = sweep(out, &[more, &["--json"]].concat()).success();
    serde_json::from_slice(&done.get_output().stdout).expect("JSON")
}

/// The measurements without the seconds that they took.
fn measured(report: &Value) -> Vec<Value> {
    let mut all = report["measurements"].as_array().unwrap().clone();
    all.iter_mut().for_each(|m| m["seconds"] = Value::Null);
    all
}

#[test]
fn a_sweep_measures_what_compiling_and_evaluating_does() {
    let dir = tempfile::tempdir().unwrap();
    let fixed = ["--cat-alpha", "1", "--cat-clusters", "3", "--cat-pca", "4", "--cat-holdout", "128"];
    let more = [&["--wbits", "2", "--abits", "2", "--method", "minmax", "--seed", "5"], &fixed[..]].concat();
    let report = json(&dir.path().join("out"), &more);
    let all = measured(&report);
    assert_eq!(all.len(), 2);
    let bin = dir.path().join("m.bin");
    compile_digits(&bin, &more);
    assert_eq!(all[1]["top1"].as_f64().unwrap(), eval_digits(&bin), "{all:?}");
    assert_eq!(all[1]["correction"]["clusters"], 3);
    assert_ne!(all[0]["top1"], all[1]["top1"], "{all:?}");
    assert!((report["float"]["top1"].as_f64().unwrap() - 590.0 / 597.0).abs() < 1e-9);
}

#[test]
fn an_interrupted_sweep_goes_on_and_jobs_and_threads_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let more = ["--wbits", "2", "--abits", "2,8", "--method", "minmax,mse", "--cat", "on,off,plain", "--seeds", "2"];
    let more = [&more[..], &["--samples", "256", "--cat-alpha", "0:1:0.5", "--cat-clusters", "1,4"]].concat();
    let whole = json(&a, &[&more[..], &["--threads", "1"]].concat());
    assert_eq!(measured(&whole).len(), 8 * (3 + 3 + 2));
    for name in ["results.csv", "results.md", "alpha.svg", "clusters.svg"] {
        assert!(fs::metadata(a.join(name)).unwrap().len() > 100, "{name}");
    }
    assert!(!a.join("pca.svg").exists());

    // Half of the journal, its last line torn, and none of the results; logits of some networks.
    let journal = fs::read(a.join("journal.jsonl")).unwrap();
    fs::create_dir_all(&b).unwrap();
    fs::write(b.join("journal.jsonl"), &journal[..journal.len() / 2]).unwrap();
    let again = json(&b, &[&more[..], &["--threads", "2", "--jobs", "2"]].concat());
    assert_eq!(measured(&again), measured(&whole));
    assert_eq!(fs::read(a.join("results.md")).unwrap(), fs::read(b.join("results.md")).unwrap());

    // All of it is known now: nothing is added, and other data is other data.
    let before = fs::read(b.join("journal.jsonl")).unwrap();
    json(&b, &more);
    assert_eq!(fs::read(b.join("journal.jsonl")).unwrap(), before);
    let results = fs::read(b.join("results.json")).unwrap();
    let other = ["--method", "minmax", "--wbits", "2", "--abits", "2", "--samples", "255"];
    let stderr = sweep(&b, &other).code(2).get_output().stderr.clone();
    let text = String::from_utf8_lossy(&stderr);
    assert!(text.contains("--samples was 256, and is 255; ") && text.contains("--abits was 2,8, and is 2"), "{text}");
    assert_eq!(fs::read(b.join("results.json")).unwrap(), results, "the results stay");
    // Other data is other data, whatever the journal knows.
    fs::remove_file(b.join("options.json")).unwrap();
    fs::remove_file(b.join("results.json")).unwrap();
    json(&b, &other);
    assert!(fs::metadata(b.join("journal.jsonl")).unwrap().len() > before.len() as u64);
}

#[test]
fn what_cannot_be_swept_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for (more, message) in [
        (&["--method", "adaptive"][..], "there is no method `adaptive`; there are "),
        (&["--cat", "perhaps"], "--cat: there is no `perhaps`; there are on, off, plain"),
        (
            &["--set", "reconstruct.rate=0.1"],
            "no recipe of the sweep has a pass `reconstruct`; there are batch-first, ",
        ),
        (
            &["--augment", "flip,turn", "--method", "end-to-end"],
            "augment=flip+turn is not possible; it takes auto, none, or flip, ",
        ),
        (&["--cat-clusters", "1.5"], "--cat-clusters: 1.5 is no whole number"),
        (&["--cat-alpha", "0:2:1"], "--cat-alpha: 2 is not from 0 to 1"),
        (&["--cat-alpha", "1:0:0.1"], "FROM:TO:STEP"),
    ] {
        let stderr = sweep(dir.path(), more).code(2).get_output().stderr.clone();
        assert!(String::from_utf8_lossy(&stderr).contains(message), "{}", String::from_utf8_lossy(&stderr));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
}
