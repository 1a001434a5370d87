//! Graphs in text form (`tests/graphs`) and the programs they become.

use catc_codegen::lower;
use catc_ir::text::{NoBlobs, parse};
use catc_program::{BuildInfo, Program};

fn compile(text: &str) -> Result<Program, String> {
    let graph = parse(text, &NoBlobs).map_err(|e| e.to_string())?;
    let info = BuildInfo { method: "minmax".into(), weight_bits: 2, activation_bits: 2, ..Default::default() };
    let program = lower(&graph, info).map_err(|e| e.to_string())?;
    // What is lowered can be stored.
    let bytes = program.to_bytes().map_err(|e| e.to_string())?;
    assert_eq!(Program::from_bytes(&bytes).map_err(|e| e.to_string())?, program);
    Ok(program)
}

/// One snapshot for each graph.
#[test]
fn graphs_become_these_programs() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 7);
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let program = compile(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        insta::assert_snapshot!(name, program);
    }
}

#[test]
fn errors_name_the_node_and_the_reason() {
    let graph = |header: &str, body: &str| format!("graph @g integer {{\n{header}\n{body}\n}}");
    let cases = [
        (
            graph("input(v0: f32[N,4]):", "  v1: f32[2N,2] = reshape v0 {shape=[2N,2]} \"split\"\n  output v1 \"y\""),
            "cannot compile \"split\" (reshape): a tensor of it has shape [2N,2]: a compiled network works image by image",
        ),
        (
            graph("input(v0: f32[N,4]):", "  v1: f32[4,N] = transpose v0 {perm=[1,0]} \"t\"\n  output v1 \"y\""),
            "cannot compile \"t\" (transpose): a tensor of it has shape [4,N]",
        ),
        (
            graph("input(v0: f32[4] \"x\"):", "  v1: f32[4] = relu v0\n  output v1 \"y\""),
            "cannot compile input \"x\": has shape [4]",
        ),
        (
            graph(
                "input(v0: f32[N,2] \"x\", v1: f32[N,2] \"w\"):",
                "  v2: f32[N,N] = linear v0, v1\n  output v2 \"y\"",
            ),
            "the graph breaks 1 rules of the IR, the first at linear v2",
        ),
        (
            graph(
                "input(v0: f32[N,2,3,3] \"x\", v1: f32[1,2,1,1] \"w\"):",
                "  v2: f32[N,1,3,3] = conv2d v0, v1 {strides=[1,1], pads=[0,0,0,0]}\n  output v2 \"y\"",
            ),
            "cannot compile input \"w\"",
        ),
        (
            graph(
                "  q0 = quantizer u2 per_tensor scale [0.5] zero_point [0]\ninput(v0: u2<q0>[N,4] \"x\"):",
                "  output v0 \"y\"",
            ),
            "cannot compile input \"x\": a compiled network takes reals or whole numbers",
        ),
        (
            graph(
                "  q0 = quantizer u2 per_tensor scale [0.5] zero_point [0]\ninput(v0: f32[N,4] \"x\"):",
                "  v1: u2<q0>[N,4] = fused_map v0, q0 {scale=1.0, epilogue=[requantize]}\n  output v1 \"y\"",
            ),
            "cannot compile output \"y\": a compiled network gives f32 or indices",
        ),
        (
            graph(
                "  c0 = const f32[3,4] random(1, normal, 0.1)\n  c1 = const f32[2,1] [1.0, 2.0]\ninput(v0: f32[N,4]):",
                "  v1: f32[N,3] = linear v0, c0\n  v2: i64[N] = argmin v1 {axis=1}\n  v3: f32[3,N] = gather c0, v2 {axis=1} \"g\"\n  output v3 \"y\"",
            ),
            "cannot compile \"g\" (gather): it picks slices of axis 1 of a table",
        ),
        (
            graph(
                "input(v0: f32[N,4] \"x\"):",
                "  v1: f32[N,4] = max v0, v0 \"a\"\n  v2: f32[N,4] = relu v1 \"b\"\n  v3: f32[N,4] = min v0, v0 \"c\"\n  v4: f32[N,4] = add v2, v3\n  output v4 \"y\"",
            ),
            "2 parts of the network cannot be compiled:\n  - cannot compile \"a\" (max): a compiled network has no step for it where it \
             depends on an input; cut the model before it and compute the rest in the program that calls the network, or run the ONNX \
             file itself with `catc run`\n  - cannot compile \"c\" (min): a compiled",
        ),
        ("graph @g float {\ninput(v0: f32[N,4]):\n  output v0 \"y\"\n}".to_string(), "the graph is in the float phase"),
        (
            graph(
                "  q0 = quantizer i2 per_tensor scale [0.5] zero_point [0]\n  c0 = const f32[1] [inf]\n  c1 = const f32[1] [0.5]\n  c2 = const i2<q0>[1,2] [0, 1]\ninput(v0: f32[N,2]):",
                "  v1: i2<q0>[N,2] = fused_map v0, q0 {scale=1.0, epilogue=[requantize]}\n  v2: f32[N,1] = fused_linear v1, c2, c1, c0 \"fc\"\n  output v2 \"y\"",
            ),
            "the lowered graph cannot be run: the program is not valid: step 2 \"fc\": a value of its bias is not finite",
        ),
    ];
    for (text, message) in cases {
        let found = compile(&text).err().unwrap_or_else(|| panic!("compiled:\n{text}"));
        assert!(found.starts_with(message), "{found}\nshould start with\n{message}\nfor\n{text}");
    }
}
