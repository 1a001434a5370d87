//! Networks and data measured elsewhere, where they are there: accuracy as documented, 8 bits as good as float.

mod common;
use common::{catc, shared};
use serde_json::Value;
use std::path::Path;

fn top1(folder: &Path, model: &Path, set: &str, preprocess: &Path) -> f64 {
    let mut command = catc();
    command.arg("eval").arg(model).arg("--data").arg(folder.join(set).join("test.npy"));
    command.arg("--labels").arg(folder.join(set).join("test_labels.npy")).arg("--preprocess").arg(preprocess);
    let out = command.arg("--json").assert().success();
    let report: Value = serde_json::from_slice(&out.get_output().stdout).expect("JSON");
    report["top1"].as_f64().expect("top1")
}

#[test]
fn accuracy_of_trained_networks() {
    let Some(folder) = shared().map(|f| f.join("data")) else { return };
    let dir = tempfile::tempdir().unwrap();
    for (name, set, expected) in
        [("cifar10_resnet20", "cifar10", 0.8862), ("tinyimagenet_resnet20", "tinyimagenet", 0.3395)]
    {
        let (model, preprocess) =
            (folder.join(format!("models/{name}.onnx")), folder.join(format!("models/{name}.toml")));
        let float = top1(&folder, &model, set, &preprocess);
        assert!((float - expected).abs() <= 0.001, "{name}: fp32 top-1 {float}, documented {expected}");
        let bin = dir.path().join("w8a8.bin");
        let mut command = catc();
        command.arg(&model).arg("-o").arg(&bin).arg("--calib").arg(folder.join(set).join("calib.npy"));
        command.arg("--preprocess").arg(&preprocess).args(["--method", "mse", "--no-cat", "--samples", "256"]);
        command.assert().success();
        let quantized = top1(&folder, &bin, set, &preprocess);
        assert!((quantized - float).abs() <= 0.005, "{name}: W8A8 top-1 {quantized}, fp32 {float}");
    }
}
