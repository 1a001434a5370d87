//! The graphs of `tests/graphs`, lowered, compiled and run, against the evaluator: bit for bit where no convolution is left in f32.

mod support;

use catc_ir::text::{NoBlobs, parse};

#[test]
fn compiled_graphs_compute_what_the_evaluator_does() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let graph = parse(&text, &NoBlobs).unwrap();
        let exact = !text.contains("= conv2d");
        let mut inputs = support::inputs(&graph, 5);
        support::compare(&name, &graph, &inputs, exact);
        if exact {
            support::make_special(&mut inputs);
            support::compare(&format!("{name} (special values)"), &graph, &inputs, exact);
        }
    }
}
