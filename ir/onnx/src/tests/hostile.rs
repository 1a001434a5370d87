//! Damaged and hostile files must give an error and never a panic.

use super::*;
use crate::proto::{FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};
use crate::{ImportOptions, import};
use proptest::prelude::*;

/// A model with most of the features that the importer reads.
fn victim() -> ModelBuilder {
    model(13)
        .input("x", &["1", "3", "8", "8"])
        .output("y")
        .f32("w", &[4, 3, 3, 3], &[0.5, -0.25])
        .f32("s", &[4], &[1.0])
        .f32("fc", &[5, 16], &[1.0])
        .f32("hi", &[], &[6.0])
        .i64("zero", &[0])
        .i64("pads", &[0, 0, 1, 1, 0, 0, 1, 1])
        .i64("minus", &[-1])
        .node("Pad", "x pads", "p", &[])
        .node("Conv", "p w s", "a", &[ints("strides", &[2, 2]), ints("dilations", &[1, 1]), int("group", 1)])
        .node("BatchNormalization", "a s s s s", "b", &[float("epsilon", 1e-5)])
        .node("Clip", "b zerof hi", "c", &[])
        .f32("zerof", &[], &[0.0])
        .node("MaxPool", "c", "d", &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2]), int("ceil_mode", 1)])
        .node("Shape", "d", "shape", &[])
        .node("Gather", "shape zero", "n", &[int("axis", 0)])
        .node("Concat", "n minus", "target", &[int("axis", 0)])
        .node("Reshape", "d target", "flat", &[])
        .node("Slice", "flat zero minus one", "cut", &[])
        .i64("one", &[1])
        .node("Concat", "cut last", "wide", &[int("axis", 1)])
        .node("Slice", "flat minus end one", "last", &[])
        .i64("end", &[i64::MAX])
        .node("Gemm", "wide fc", "g", &[int("transB", 1), float("alpha", 0.5)])
        .node("Softmax", "g", "y", &[int("axis", -1)])
}

fn import_is_total(bytes: &[u8]) {
    let _ = import_bytes(bytes, None, &ImportOptions::default());
}

#[test]
fn the_victim_is_whole() {
    insta::assert_snapshot!(victim().text());
}

#[test]
fn every_truncation_is_an_answer() {
    let bytes = victim().bytes();
    for length in 0..bytes.len() {
        let error = import_bytes(&bytes[..length], None, &ImportOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with("<memory>: ") && error.len() > 20, "{error}");
    }
}

#[test]
fn every_flipped_bit_is_an_answer() {
    let bytes = victim().bytes();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            import_is_total(&damaged);
        }
    }
}

/// Numbers that cause overflow or underflow in unchecked arithmetic.
fn odd_number() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..10,
        Just(i64::MAX),
        Just(i64::MIN),
        Just(i64::from(i32::MAX)),
        Just(1 << 31),
        Just(1 << 40),
        Just(1 << 62),
        any::<i64>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Changes, inserts and removes several bytes.
    #[test]
    fn damage(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..8)) {
        let mut bytes = victim().bytes();
        for (place, value, kind) in edits {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = value,
                1 => bytes.insert(place, value),
                _ => { bytes.remove(place); }
            }
        }
        import_is_total(&bytes);
    }

    /// Well-formed messages with unusual numbers in attributes, dimensions and lists, and with swapped inputs.
    #[test]
    fn odd_numbers(
        opset in 7i64..30,
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), odd_number(), 0u8..6),
            1..5,
        ),
    ) {
        let mut m = victim();
        m.model.opset_import[0].version = Some(opset);
        for (first, second, number, kind) in edits {
            let graph = m.graph();
            let names: Vec<String> = graph.node.iter().flat_map(|n| n.output.clone()).collect();
            match kind {
                0 => {
                    let t = first.get(&graph.initializer).name().to_string();
                    let t = graph.initializer.iter_mut().find(|x| x.name() == t).unwrap();
                    let count = t.dims.iter().fold(1i64, |n, &d| n.saturating_mul(d)).clamp(0, 9);
                    t.raw_data = Some(Bytes::from(number.to_le_bytes().repeat(count as usize)));
                }
                1 => {
                    let i = first.index(graph.initializer.len());
                    graph.initializer[i].dims.push(number);
                }
                2 => {
                    let node = first.index(graph.node.len());
                    for a in &mut graph.node[node].attribute {
                        a.i = a.i.map(|_| number);
                        let at = second.index(a.ints.len() + 1);
                        if let Some(x) = a.ints.get_mut(at) { *x = number }
                    }
                }
                3 => {
                    let node = first.index(graph.node.len());
                    let name = second.get(&names).clone();
                    if let Some(x) = graph.node[node].input.first_mut() { *x = name }
                }
                4 => graph.input[0] = info("x", DataType::Float, &["1", "3", &number.to_string(), "8"]),
                _ => {
                    let (a, b) = (first.index(graph.node.len()), second.index(graph.node.len()));
                    let op = graph.node[a].op_type.clone();
                    graph.node[b].op_type = op;
                }
            }
        }
        import_is_total(&m.bytes());
    }
}

#[test]
fn deep_nesting_is_an_answer() {
    // Graphs are nested so deeply that recursion would overflow the stack. Field 1 of a graph is a node, field 5 of a node is an
    // attribute, and field 6 of an attribute is a graph.
    let mut bytes: Vec<u8> = vec![];
    for field in [6, 5, 1].into_iter().cycle().take(9000).chain([7]) {
        let mut outer = vec![field << 3 | 2u8];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    let error = import_bytes(&bytes, None, &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");

    let mut graph = GraphProto::default();
    for _ in 0..40 {
        let attribute = AttributeProto { g: Some(Box::new(graph)), ..attribute("body", AttributeType::Graph) };
        graph = GraphProto {
            node: vec![NodeProto { attribute: vec![attribute], ..Default::default() }],
            ..Default::default()
        };
    }
    let mut m = super::model(13);
    m.model.graph = Some(graph);
    let error = m.error();
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn doubling_is_stopped() {
    // Each node doubles the size, so 60 nodes require 2^60 elements.
    let mut known = model(13).input("x", &["N"]).output("y").i64("t0", &[1]);
    let mut computed = model(13).input("x", &["N", "2"]).output("y").node("Relu", "x", "t0", &[]);
    for i in 0..60 {
        let (inputs, output) = (format!("t{i} t{i}"), format!("t{}", i + 1));
        known = known.node("Concat", &inputs, &output, &[int("axis", 0)]);
        computed = computed.node("Concat", &inputs, &output, &[int("axis", 1)]);
    }
    assert!(known.node("Identity", "t60", "y", &[]).error().contains("too large"));
    assert!(computed.node("Identity", "t60", "y", &[]).error().contains("too large"));
}

/// A function that calls the one before it twice.
fn calls_of_calls(depth: usize) -> ModelProto {
    let call = |name: String, input: &str, output: &str| NodeProto {
        domain: Some("own".into()),
        op_type: Some(name),
        input: vec![input.into()],
        output: vec![output.into()],
        ..Default::default()
    };
    let bytes = model(17).input("x", &["N", "4"]).output("y").node("Relu", "x", "y", &[]).bytes();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let relu = |input: &str, output: &str| NodeProto { domain: None, ..call("Relu".into(), input, output) };
    for level in 0..depth {
        let inner = |input, output| {
            if level == 0 { relu(input, output) } else { call(format!("f{}", level - 1), input, output) }
        };
        model.functions.push(FunctionProto {
            name: Some(format!("f{level}")),
            domain: Some("own".into()),
            input: vec!["a".into()],
            output: vec!["c".into()],
            node: vec![inner("a", "b"), inner("b", "c")],
            ..Default::default()
        });
    }
    let graph = model.graph.as_mut().unwrap();
    graph.node = vec![call(format!("f{}", depth - 1), "x", "y")];
    model.opset_import.push(OperatorSetIdProto { domain: Some("own".into()), version: Some(1) });
    model
}

#[test]
fn what_a_file_asks_for_is_limited() {
    // A few hundred bytes that expand to a million calls.
    let bytes = calls_of_calls(20).encode_to_vec();
    let error = import_bytes(&bytes, None, &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("all calls together take more than the limit of 2147483648 bytes"), "{error}");
    assert!(error.contains("--max-memory"), "{error}");
    let few = calls_of_calls(3).encode_to_vec();
    import_bytes(&few, None, &ImportOptions::default()).unwrap();
    let tight = ImportOptions { memory: 1 << 12, ..Default::default() };
    assert!(import_bytes(&few, None, &tight).unwrap_err().to_string().contains("the limit of 4096 bytes"));
    // Two numbers that expand to a tensor of a quarter of a gigabyte.
    let expand = |rows| {
        model(13)
            .input("x", &["N", "1", "1"])
            .output("y")
            .f32("one", &[1, 1], &[1.0])
            .i64("shape", &[rows, 1 << 14])
            .node("Expand", "one shape", "wide", &[])
            .node("Add", "x wide", "y", &[])
            .bytes()
    };
    let error = import_bytes(&expand(1 << 13), None, &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("takes 4294967296 bytes that the file does not hold"), "{error}");
    let more = ImportOptions { memory: 5 << 30, ..Default::default() };
    import_bytes(&expand(1 << 13), None, &more).unwrap();
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let error = import(&folder.path().join(name), &ImportOptions::default()).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    let errors = [
        at("empty.onnx", b""),
        at("text.onnx", b"<html>404: not found</html>"),
        at("zeros.onnx", &[0; 64]),
        at("no_graph.onnx", &ModelProto { ir_version: Some(8), ..Default::default() }.encode_to_vec()),
    ];
    insta::assert_snapshot!(errors.join("\n"));
    let missing = import(&folder.path().join("gone.onnx"), &ImportOptions::default()).unwrap_err().to_string();
    assert!(missing.contains("gone.onnx: cannot be read: "), "{missing}");
    let is_folder = import(folder.path(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(is_folder.ends_with("is not a regular file; give the path of an .onnx file"), "{is_folder}");
}
