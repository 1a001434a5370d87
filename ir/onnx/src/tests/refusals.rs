//! Tests of models that are rejected, and of the messages.

use super::*;
use crate::proto::SparseTensorProto;

#[test]
fn unknown_operators_are_listed_together() {
    let mut m = model(13)
        .input("x", &["N", "2"])
        .output("y")
        .node("Mystery", "x", "a", &[])
        .node("Relu", "a", "b", &[])
        .node("HardSwish", "b", "c", &[])
        .node("Twice", "c", "d", &[])
        .node(
            "Scan",
            "d",
            "e",
            &[AttributeProto { g: Some(Box::default()), ..attribute("body", AttributeType::Graph) }],
        )
        .node("Fused", "e", "y", &[])
        .node("NotLive", "x", "z", &[]);
    m.graph().node[5].domain = Some("com.example".into());
    m.graph().node[5].name = None;
    insta::assert_snapshot!(m.error());
}

#[test]
fn coordinates_off_their_axis() {
    let picks = |row: i64| {
        let m = model(13).input("x", &["2", "3"]).output("y").typed_input("n", DataType::Float, &["N", "4"]);
        m.initializer(i64_tensor("at", &[1, 2], &[row, 0])).node("GatherND", "x at", "y", &[])
    };
    for row in [-3, 2] {
        let error = picks(row).error();
        assert!(error.contains(&format!("input 1 holds the index {row} for an axis of size 2")), "{error}");
    }
    for row in [-2, 1] {
        assert!(picks(row).import().is_ok());
    }
}

#[test]
fn opsets() {
    let with = |imports: &[(&str, i64)]| {
        let mut m = one_node(7, "Relu", "", &[]);
        m.model.opset_import = (imports.iter())
            .map(|(d, v)| OperatorSetIdProto { domain: Some(d.to_string()), version: Some(*v) })
            .collect();
        m
    };
    let errors = [&[("", 5)][..], &[], &[("ai.onnx.ml", 3)], &[("", 13), ("ai.onnx", 14)]].map(|i| with(i).error());
    insta::assert_snapshot!(errors.join("\n"));
    assert_eq!(with(&[("ai.onnx", 9)]).import().unwrap().opset, 9);
    let newer = with(&[("", crate::NEWEST_OPSET + 1)]).import().unwrap();
    assert!(newer.warnings[0].contains("is newer than"), "{:?}", newer.warnings);
}

#[test]
fn graphs() {
    let two = || model(13).input("x", &["N", "2"]).output("y");
    let cases = [
        two().node("Relu", "x", "a", &[]),
        two().node("Relu", "gone", "y", &[]),
        two().node("Relu", "x", "y", &[]).node("Relu", "x", "y", &[]),
        two().node("Relu", "x", "x", &[]),
        two().node("Add", "x b", "a", &[]).node("Relu", "a", "b", &[]).node("Relu", "b", "y", &[]),
        two().input("x", &["N"]).node("Relu", "x", "y", &[]),
        two().f32("w", &[1], &[1.0]).f32("w", &[1], &[1.0]).node("Relu", "x", "y", &[]),
        two().output("y").node("Relu", "x", "y", &[]),
        model(13).input("x", &["N", "2"]),
        model(13).input("x", &["N", "2"]).output("y").node("Shape", "x", "y", &[]),
    ];
    insta::assert_snapshot!(cases.iter().map(|m| m.error()).collect::<Vec<_>>().join("\n"));
}

#[test]
fn forms_of_operators() {
    let conv = |weights: &[i64], attributes: &[AttributeProto]| {
        one_node(13, "Conv", "w", attributes).f32("w", weights, &[1.0])
    };
    let w = &[6, 3, 3, 3][..];
    let four = model(13)
        .input("x", &["N", "3", "8", "8", "8", "8"])
        .output("y")
        .f32("w", &[4, 3, 3, 3, 3, 3], &[1.0])
        .node("Conv", "x w", "y", &[]);
    let mut twice = conv(w, &[int("group", 1), int("group", 1)]);
    twice.graph().node[0].name = Some("a \"quoted\" name".into());
    let cases = [
        four,
        conv(&[6, 4, 3, 3], &[]),
        conv(w, &[int("group", 2)]),
        conv(w, &[int("group", 0)]),
        conv(w, &[ints("kernel_shape", &[5, 5])]),
        conv(w, &[ints("pads", &[1, 1])]),
        conv(w, &[ints("pads", &[-1, 0, 0, 0])]),
        conv(w, &[ints("strides", &[0, 1])]),
        conv(w, &[ints("dilations", &[9, 9])]),
        conv(w, &[word("auto_pad", "SAME")]),
        conv(w, &[word("auto_pad", "VALID"), ints("pads", &[1, 1, 1, 1])]),
        conv(w, &[int("strides", 2)]),
        conv(w, &[int("colour", 2)]),
        twice,
        one_node(13, "Conv", "", &[]),
        one_node(13, "Conv", "x", &[]),
        one_node(13, "Relu", "x", &[]),
        one_node(12, "MaxPool", "", &[]),
        one_node(12, "MaxPool", "", &[ints("kernel_shape", &[9, 9])]),
        one_node(12, "MaxPool", "", &[ints("kernel_shape", &[2, 2])]).node("Relu", "i", "z", &[]).output("z"),
        one_node(14, "BatchNormalization", "s s s s", &[int("training_mode", 1)]).f32("s", &[3], &[1.0]),
        one_node(7, "BatchNormalization", "s s s s", &[int("spatial", 0)]).f32("s", &[3], &[1.0]),
        one_node(13, "BatchNormalization", "s s s s", &[]).f32("s", &[4], &[1.0]),
        one_node(13, "Pad", "p", &[word("mode", "mirror")]).i64("p", &[0; 8]),
        one_node(13, "Pad", "p", &[]).i64("p", &[0; 6]),
        one_node(13, "Pad", "p", &[]).i64("p", &[1, 0, 0, 0, 0, 0, 0, 0]),
        one_node(13, "Clip", "x", &[]),
        one_node(13, "Add", "s", &[]).f32("s", &[4], &[1.0]),
        one_node(13, "Concat", "s", &[int("axis", 0)]).f32("s", &[4], &[1.0]),
        one_node(13, "Softmax", "", &[int("axis", 4)]),
        one_node(13, "ReduceMean", "", &[]),
        one_node(13, "Reshape", "t", &[]).i64("t", &[-1, 5]),
        one_node(13, "Reshape", "x", &[]),
        one_node(13, "Gather", "i", &[int("axis", 1)]).i64("i", &[3]),
        one_node(13, "Gather", "i", &[]).i64("i", &[0]),
        one_node(13, "Slice", "s e a t", &[]).i64("s", &[7]).i64("e", &[0]).i64("a", &[2]).i64("t", &[0]),
        one_node(13, "Cast", "", &[int("to", 8)]),
        one_node(13, "Squeeze", "", &[]).node("Squeeze", "y a", "z", &[]).i64("a", &[1]).output("z"),
        one_node(13, "Dropout", "_ t", &[]).initializer(raw_tensor("t", DataType::Bool, &[], vec![1])),
        one_node(13, "Gemm", "x", &[]),
        one_node(13, "ConstantOfShape", "", &[]),
        model(13).input("x", &["N"]).output("y").i64("s", &[1 << 40]).node("ConstantOfShape", "s", "y", &[]),
        model(13).input("x", &["N"]).output("y").node("Constant", "", "y", &[word("value_string", "text")]),
        model(13).typed_input("x", DataType::Bool, &["N", "2"]).output("y").node("Add", "x x", "y", &[]),
    ];
    let errors: Vec<String> = cases.iter().map(|m| m.error().replace("<memory>: ", "")).collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn inputs() {
    let with =
        |ty: DataType, dims: &[&str]| model(13).typed_input("x", ty, dims).output("y").node("Relu", "x", "y", &[]);
    let mut sequence = with(DataType::Float, &["N"]);
    sequence.graph().input[0].r#type.as_mut().unwrap().value =
        Some(type_proto::Value::SequenceType(Default::default()));
    let mut untyped = with(DataType::Float, &["N"]);
    untyped.graph().input[0].r#type = None;
    let mut shapeless = with(DataType::Float, &["N"]);
    if let Some(type_proto::Value::TensorType(t)) = &mut shapeless.graph().input[0].r#type.as_mut().unwrap().value {
        t.shape = None;
    }
    let cases = [
        with(DataType::Complex64, &["N", "3"]),
        with(DataType::String, &["N", "3"]),
        with(DataType::Float, &["N", "3", "0", "4"]),
        with(DataType::Float, &["N", "4294967296", "4294967296"]),
        sequence,
        untyped,
        shapeless,
    ];
    insta::assert_snapshot!(cases.iter().map(|m| m.error()).collect::<Vec<_>>().join("\n"));
    let half = with(DataType::Float16, &["N", "3"]).import().unwrap();
    assert_eq!(half.warnings, ["input `x` is float16 in the file and f32 here"]);
}

#[test]
fn sparse_initializers() {
    let mut m = one_node(13, "Relu", "", &[]);
    m.graph()
        .sparse_initializer
        .push(SparseTensorProto { values: Some(f32_tensor("s", &[1], &[1.0])), ..Default::default() });
    insta::assert_snapshot!(m.error());
}

/// A few bytes of a file must not require an unlimited amount of memory.
#[test]
fn what_is_spelled_out_is_bounded() {
    let pool = |side: i64, attributes: &[AttributeProto]| {
        let side = side.to_string();
        let m = model(13).input("x", &["2", "1", &side, &side]).output("y").output("places");
        m.node("MaxPool", "x", "y places", attributes).error()
    };
    let error = pool(4096, &[ints("kernel_shape", &[64, 64])]);
    assert!(error.contains("windows of up to 1024 places"), "{error}");
    let error = pool(1 << 14, &[ints("kernel_shape", &[2, 2])]);
    assert!(error.contains("more than the limit of 2147483648"), "{error}");
    let long = |length: i64| {
        let length = length.to_string();
        let shape = ["N", "1", &length, "8"];
        let m = model(23).input("q", &shape).input("k", &shape).input("v", &shape).output("y");
        m.node("Attention", "q k v", "y", &[int("is_causal", 1)])
    };
    assert!(long(64).import().is_ok());
    let error = long(1 << 15).error();
    assert!(error.contains("more than the limit of 2147483648"), "{error}");
}
