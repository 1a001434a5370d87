//! Tests of which dimension becomes the batch.

use super::*;
use crate::BatchPolicy;

/// A network exported for `batch` images, whose reshapes have constant shapes.
fn exported(batch: i64) -> ModelBuilder {
    let b = batch.to_string();
    let mut m = model(17)
        .input("x", &[&b, "4", "2", "2"])
        .f32("w", &[3, 16], &[1.0])
        .i64("target", &[batch, 16])
        .node("Reshape", "x target", "flat", &[])
        .node("Gemm", "flat w", "y", &[int("transB", 1)]);
    m.graph().output.push(info("y", DataType::Float, &[&b, "3"]));
    m
}

fn policy(batch: BatchPolicy) -> ImportOptions {
    ImportOptions { batch, ..Default::default() }
}

#[test]
fn a_fixed_batch_becomes_symbolic() {
    for batch in [1, 8] {
        let imported = exported(batch).import().unwrap();
        assert_eq!(imported.file_batch, Some(batch as usize));
        assert_eq!(imported.warnings, [""; 0]);
        insta::assert_snapshot!("fixed_batch", imported.graph.to_string());
    }
}

#[test]
fn a_fixed_batch_stays_on_request() {
    let imported = exported(8).import_with(&policy(BatchPolicy::AsDeclared)).unwrap();
    assert_eq!(imported.file_batch, None);
    insta::assert_snapshot!(imported.graph.to_string());
}

#[test]
fn a_batch_that_images_share_stays() {
    let m =
        |opset| model(opset).input("x", &["4", "6"]).output("y").i64("first", &[0]).node("Gather", "x first", "y", &[]);
    insta::assert_snapshot!(m(13).text());
    insta::assert_snapshot!(m(13).import_with(&policy(BatchPolicy::Symbolic)).unwrap_err());
}

/// Gathers elements of the flattened input `[batch,2,2]` at these indices.
fn flat_pick(batch: i64, shape: &[i64], indices: &[i64]) -> ModelBuilder {
    let mut m = model(13).input("x", &[&batch.to_string(), "2", "2"]).output("y").i64("all", &[-1]);
    m = m.node("Reshape", "x all", "flat", &[]).i64("at", indices).i64("shape", shape);
    m.node("Reshape", "at shape", "indices", &[]).node("Gather", "flat indices", "y", &[])
}

#[test]
fn what_each_image_gives_of_its_own_is_picked_in_each() {
    for (batch, indices) in [(1, &[0, 2, 1, 3][..]), (2, &[0, 2, 1, 3, 4, 6, 5, 7])] {
        let imported = flat_pick(batch, &[batch, 2, 2], indices).import().unwrap();
        assert_eq!(imported.warnings, [""; 0]);
        insta::assert_snapshot!("picks_in_images", imported.graph.to_string());
    }
    insta::assert_snapshot!("views_of_images", flat_pick(2, &[4, 2], &[0, 1, 2, 3, 4, 5, 6, 7]).text());
    // The cases: the second image selects different elements than the first, the images are swapped, and one index list serves
    // both images.
    for indices in [&[0, 2, 1, 3, 4, 5, 6, 7][..], &[4, 5, 6, 7, 0, 1, 2, 3], &[0, 1]] {
        let text = flat_pick(2, &[-1, 2], indices).text();
        assert!(text.contains("it picks along the batch, axis 0 of [4N]"), "{text}");
    }
}

#[test]
fn an_output_that_contradicts_its_declaration_keeps_the_batch() {
    let mut m = model(13).input("x", &["2", "3"]).node("Relu", "x", "y", &[]);
    m.graph().output.push(info("y", DataType::Float, &["5", "3"]));
    assert!(m.text().contains("warning: output `y` is declared as [5,3] that comes out as [2,3]"), "{}", m.text());
}

#[test]
fn sizes_can_be_given() {
    let m = model(17).input("x", &["N", "3", "height", "?"]).output("y").node("Relu", "x", "y", &[]);
    insta::assert_snapshot!(m.error());
    let shapes =
        |name: &str, sizes: &[usize]| ImportOptions { shapes: vec![(name.into(), sizes.into())], ..Default::default() };
    let text = m.text_with(&shapes("x", &[1, 3, 16, 8]));
    assert!(text.contains("v0: f32[N,3,16,8]"), "{text}");
    let errors = [
        shapes("z", &[1, 3, 16, 8]),
        shapes("x", &[1, 3, 16]),
        shapes("x", &[1, 3, 0, 8]),
        ImportOptions { shapes: vec![("x".into(), vec![1, 3, 4, 4]); 2], ..Default::default() },
    ];
    let errors = errors.map(|o| m.import_with(&o).unwrap_err());
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn several_inputs() {
    let m = |second: &[&str]| {
        model(17).input("a", &["batch", "3"]).typed_input("b", DataType::Int64, second).output("y").node(
            "Relu",
            "a",
            "y",
            &[],
        )
    };
    assert!(m(&["batch"]).text().contains("v0: f32[N,3] \"a\", v1: i64[N] \"b\""));
    assert!(m(&["7", "batch"]).text().contains("v1: i64[7,N] \"b\""));
    assert!(m(&["2"]).text().contains("v1: i64[2] \"b\""));
    insta::assert_snapshot!(m(&["other"]).error());
    insta::assert_snapshot!(m(&["2", "length"]).error());
}

#[test]
fn initializers_are_no_inputs() {
    let m = model(13).input("x", &["N", "2"]).input("w", &["2"]).f32("w", &[2], &[1.0]).output("y").node(
        "Mul",
        "x w",
        "y",
        &[],
    );
    assert_eq!(m.import().unwrap().graph.inputs.len(), 1);
}

#[test]
fn inputs_can_be_given_a_value() {
    let m = model(13).input("x", &["N", "6"]).typed_input("target", DataType::Int64, &["3"]).output("y").node(
        "Reshape",
        "x target",
        "y",
        &[],
    );
    let options = |name: &str, value| ImportOptions { values: vec![(name.into(), value)], ..Default::default() };
    let target = |n| catc_ir::Tensor::i64(&[n], vec![-1; n]);
    let mut sizes = target(3);
    *sizes.data_mut() = catc_ir::TensorData::I64(vec![0, 2, 3]);
    let text = m.text_with(&options("target", sizes));
    assert!(text.contains("input(v0: f32[N,6] \"x\"):\n  v1: f32[N,2,3] = reshape v0 {shape=[N,2,3]}"), "{text}");
    let errors = [options("none", target(3)), options("target", target(2)), options("x", target(3))];
    insta::assert_snapshot!(errors.map(|o| m.import_with(&o).unwrap_err()).join("\n"));
}

#[test]
fn an_input_without_a_shape_needs_one() {
    let mut m = model(13).input("x", &[]).output("y").node("Relu", "x", "y", &[]);
    if let Some(type_proto::Value::TensorType(t)) = &mut m.graph().input[0].r#type.as_mut().unwrap().value {
        t.shape = None;
    }
    insta::assert_snapshot!(m.error());
    let given = ImportOptions { shapes: vec![("x".into(), vec![1, 3, 4, 4])], ..Default::default() };
    assert!(m.text_with(&given).contains("v0: f32[N,3,4,4]"));
}

#[test]
fn rows_of_a_sequence_and_the_batch_in_one_gemm() {
    let m = model(13)
        .input("x", &["1", "3", "4"])
        .output("y")
        .i64("m", &[3, 4])
        .i64("n", &[3, 1, 5])
        .f32("w", &[5, 4], &[0.1])
        .node("Transpose", "x", "t", &[ints("perm", &[1, 0, 2])])
        .node("Reshape", "t m", "r", &[])
        .node("Gemm", "r w", "g", &[int("transB", 1)])
        .node("Reshape", "g n", "u", &[])
        .node("Transpose", "u", "y", &[ints("perm", &[1, 0, 2])]);
    let text = m.text_with(&ImportOptions::default());
    assert!(text.contains("f32[3,N,5] = linear"), "{text}");
    assert!(text.contains("f32[N,3,5] = transpose"), "{text}");
    assert!(!text.contains("warning"), "{text}");
}

#[test]
fn sizes_that_are_given_replace_those_of_the_file() {
    let m = || {
        let mut m = model(17).input("x", &["10", "3", "8", "8"]).f32("w", &[4, 3, 1, 1], &[1.0]);
        m = m.node("Conv", "x w", "y", &[]);
        m.graph().output.push(info("y", DataType::Float, &["10", "4", "8", "8"]));
        m
    };
    for batch in [1, 10] {
        let options = ImportOptions { shapes: vec![("x".into(), vec![batch, 3, 16, 20])], ..Default::default() };
        let imported = m().import_with(&options).unwrap();
        assert_eq!(imported.warnings, [""; 0]);
        let output = &imported.graph.value_type(imported.graph.outputs[0].value).shape;
        assert_eq!(output.to_string(), "[N,4,16,20]", "the batch stays open: {batch}");
    }
}

#[test]
fn a_batch_that_is_given_is_fixed_where_no_other_works() {
    let m = || {
        let m = model(17).input("x", &["N", "4"]).output("y").node("Shape", "x", "shape", &[]);
        m.node("ConstantOfShape", "shape", "zeros", &[]).node("Add", "x zeros", "y", &[])
    };
    let error = m().error();
    assert!(
        error.contains(
            "depends on the batch size. With a fixed batch size the model can be evaluated: give `--shape x=1x4`"
        ),
        "{error}"
    );
    let options = ImportOptions { shapes: vec![("x".into(), vec![1, 4])], ..Default::default() };
    let imported = m().import_with(&options).unwrap();
    assert_eq!(imported.graph.value_type(imported.graph.outputs[0].value).shape.to_string(), "[1,4]");
    assert!(
        imported.warnings[0].starts_with("the batch stays at 1: with a symbolic batch, "),
        "{:?}",
        imported.warnings
    );
}

#[test]
fn slices_to_beyond_any_batch_keep_all_of_it() {
    let cut = |start: i64, end: i64| {
        let m = model(17).input("x", &["N", "4"]).output("y").i64("start", &[start, 0]).i64("end", &[end, 4]);
        m.node("Slice", "x start end", "c", &[]).node("Relu", "c", "y", &[])
    };
    for end in [1_000_000, 1_000_000_000, i64::from(i32::MAX), i64::MAX] {
        assert!(!cut(0, end).text().contains("slice"), "{end}");
        assert!(!cut(i64::MIN, end).text().contains("slice"), "{end}");
    }
    assert!(cut(0, 8).error().contains("it cuts the batch, axis 0, from 0 to 8"));
}

#[test]
fn blocks_of_an_image_become_images_where_the_batch_stands_in_place_of_channels() {
    let blocks =
        |op: &str, from: &[&str]| model(13).input("x", from).output("y").node(op, "x", "y", &[int("blocksize", 2)]);
    let shape = |m: ModelBuilder| {
        let graph = m.import().unwrap().graph;
        graph.value_type(graph.outputs[0].value).shape.to_string()
    };
    // As in exported dilated convolutions, the batch is moved to the channels and back.
    let m = model(13).input("x", &["N", "3", "8", "8"]).output("y");
    let m = m.node("Transpose", "x", "t", &[ints("perm", &[1, 0, 2, 3])]);
    let m = m.node("SpaceToDepth", "t", "s", &[int("blocksize", 2)]);
    assert_eq!(shape(m.clone().node("Identity", "s", "y", &[])), "[3,4N,4,4]");
    assert_eq!(shape(m.node("DepthToSpace", "s", "y", &[int("blocksize", 2)])), "[3,N,8,8]");
    assert!(blocks("SpaceToDepth", &["N", "3", "7", "8"]).error().contains("blocks of 2 do not divide"));
}

#[test]
fn dimensions_keep_the_case_of_their_names() {
    let error = model(13).input("x", &["batch", "3", "Height", "w"]).output("y").node("Relu", "x", "y", &[]).error();
    assert!(error.contains("--shape x=1x3xHeightxw"), "{error}");
}
