//! Scaled-down networks of torchvision (`tests/networks/make_small.py`), by both exporters of torch: the evaluator against ONNX
//! Runtime's outputs, and at 8 and 4 bits machine code against the evaluator.

#[path = "networks/check.rs"]
mod check;

use catc::data::Array;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::Tensor;
use catc_onnx::{ImportOptions, import};
use check::{compile, distance};
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const PICTURES: usize = 4;
const CLASSES: usize = 10;

fn floats(path: &Path, count: usize) -> Vec<f32> {
    Array::open(path, "float32").unwrap().floats(0..count).unwrap().unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/small")
}

fn pictures() -> Vec<Vec<Tensor>> {
    let all = floats(&folder().join("pictures.npy"), PICTURES * 3 * SIDE * SIDE);
    all.chunks(3 * SIDE * SIDE).map(|p| vec![Tensor::f32(&[1, 3, SIDE, SIDE], p.to_vec())]).collect()
}

/// Checks a network by each exporter it was written by.
fn check(name: &str, exporters: &[&str]) {
    let pictures = pictures();
    for exporter in exporters {
        let path = folder().join(format!("{name}_{exporter}.onnx"));
        let imported = import(&path, &ImportOptions::default()).unwrap_or_else(|e| panic!("{name} {exporter}: {e}"));
        let interpreter = Interpreter::new(&imported.graph).unwrap();
        let found = pictures.iter().flat_map(|p| interpreter.run(p).unwrap()[0].as_f32().unwrap().to_vec());
        let (found, expected) = (found.collect::<Vec<_>>(), floats(&path.with_extension("npy"), PICTURES * CLASSES));
        assert!(distance(&found, &expected) < 1e-5, "{name} {exporter}: {}", distance(&found, &expected));
        for bits in [8, 4] {
            let what = format!("{name} {exporter} W{bits}A{bits}");
            let compiled =
                compile(&imported.graph, bits, &pictures).unwrap_or_else(|(at, e)| panic!("{what}: {at}: {e}"));
            assert_eq!(compiled.float_layers(), [""; 0], "{what}: {:?}", compiled.notes);
            let mut outputs = vec![];
            for picture in &pictures {
                let compared = compiled.compare(picture).unwrap_or_else(|(at, e)| panic!("{what}: {at}: {e}"));
                assert!(compared.equal, "{what}: {} apart", compared.apart);
                outputs.extend(compared.found);
            }
            // Codes of 8 bits are close to the reals; those of 4 are another network, but no constant.
            let bound = if bits == 8 { 0.1 } else { 1.0 };
            assert!(distance(&outputs, &expected) < bound, "{what}: {}", distance(&outputs, &expected));
        }
    }
}

#[test]
fn mobilenet_v3() {
    check("mobilenet_v3", &["torchscript", "dynamo"]);
}

#[test]
fn shufflenet_v2() {
    check("shufflenet_v2", &["torchscript", "dynamo"]);
}

#[test]
fn convnext() {
    check("convnext", &["torchscript"]);
}

#[test]
fn vision_transformer() {
    check("vit", &["torchscript", "dynamo"]);
}

#[test]
fn shifted_windows() {
    check("swin", &["torchscript", "dynamo"]);
}
