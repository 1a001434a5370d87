//! Tests on trained networks, if these are available.

use crate::{ImportOptions, import};
use catc_ir::{Dim, Shape};
use std::path::{Path, PathBuf};

/// The folder of shared models: `CATC_SHARED`, or `shared` beside the checkout.
fn shared_models() -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("CATC_SHARED").map_or(checkout.join("../shared"), PathBuf::from);
    let models = shared.join("data/models");
    models.is_dir().then_some(models)
}

#[test]
fn trained_networks_import() {
    let Some(folder) = shared_models() else {
        println!("skipped: no shared models beside the checkout, and CATC_SHARED is not set");
        return;
    };
    for (name, classes, nodes) in [
        ("cifar10_resnet20", 10, 71),
        ("tinyimagenet_resnet20", 200, 73),
        ("imagenet_squeezenet11", 1000, 65),
        ("imagenet_mobilenetv1_025", 1000, 84),
    ] {
        let imported = import(&folder.join(format!("{name}.onnx")), &ImportOptions::default()).unwrap();
        assert_eq!(imported.opset, 17, "{name}");
        assert!(imported.producer.starts_with("pytorch "), "{name}: {}", imported.producer);
        assert_eq!(imported.warnings, [""; 0], "{name}");
        let graph = &imported.graph;
        assert_eq!(graph.nodes().len(), nodes, "{name}");
        assert_eq!((graph.inputs.len(), graph.outputs.len()), (1, 1), "{name}");
        assert_eq!(graph.outputs[0].name, "logits", "{name}");
        assert_eq!(graph.value_type(graph.outputs[0].value).shape, Shape::new([Dim::N, Dim::Fixed(classes)]), "{name}");
    }
}
