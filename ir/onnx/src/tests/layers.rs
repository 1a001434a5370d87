//! Tests of operators that compute, in their forms in different opsets.

use super::*;

/// The nodes of the text form.
fn nodes(m: &ModelBuilder) -> String {
    let text = m.text();
    let body = text.lines().skip_while(|l| !l.starts_with("input(")).skip(1);
    body.take_while(|l| !l.starts_with("  output")).map(|l| l.trim()).collect::<Vec<_>>().join("\n")
}

#[test]
fn small_network() {
    let m = model(17)
        .input("image", &["batch", "3", "8", "8"])
        .output("logits")
        .f32("conv.weight", &[4, 3, 3, 3], &[0.5, -0.25, 1.0])
        .f32("conv.bias", &[4], &[0.0, 1.0])
        .f32("bn.scale", &[4], &[2.0])
        .f32("bn.shift", &[4], &[0.5])
        .f32("bn.mean", &[4], &[0.0])
        .f32("bn.var", &[4], &[1.0])
        .f32("fc.weight", &[2, 4], &[1.0, 2.0, 3.0, 4.0])
        .f32("fc.bias", &[2], &[0.1, 0.2])
        .node("Conv", "image conv.weight conv.bias", "a", &[ints("pads", &[1, 1, 1, 1]), ints("kernel_shape", &[3, 3])])
        .node(
            "BatchNormalization",
            "a bn.scale bn.shift bn.mean bn.var",
            "b",
            &[float("epsilon", 1e-3), float("momentum", 0.9)],
        )
        .node("Relu", "b", "c", &[])
        .node("GlobalAveragePool", "c", "d", &[])
        .node("Flatten", "d", "e", &[])
        .node("Gemm", "e fc.weight fc.bias", "logits", &[int("transB", 1), float("alpha", 1.0), float("beta", 1.0)]);
    insta::assert_snapshot!(m.text());
}

#[test]
fn convolution() {
    let conv = |weights: &[i64], attributes: &[AttributeProto]| {
        nodes(&one_node(13, "Conv", "w", attributes).f32("w", weights, &[1.0]))
    };
    let w = &[6, 3, 3, 3][..];
    let text = [
        conv(w, &[]),
        conv(w, &[ints("strides", &[2, 1]), ints("pads", &[0, 1, 2, 3])]),
        conv(&[3, 1, 3, 3], &[int("group", 3), ints("dilations", &[2, 2])]),
        conv(&[2, 3, 2, 2], &[word("auto_pad", "SAME_UPPER")]),
        conv(&[2, 3, 2, 2], &[word("auto_pad", "SAME_LOWER")]),
        conv(w, &[word("auto_pad", "SAME_UPPER"), ints("strides", &[3, 3])]),
        conv(w, &[word("auto_pad", "VALID")]),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn transposed_convolution() {
    let deconv = |weights: &[i64], attributes: &[AttributeProto]| {
        nodes(&one_node(13, "ConvTranspose", "w", attributes).f32("w", weights, &[1.0]))
    };
    let two = ints("strides", &[2, 2]);
    let text = [
        "// one window for all phases",
        &deconv(&[3, 2, 2, 2], std::slice::from_ref(&two)),
        "// its outputs are cropped",
        &deconv(&[3, 2, 4, 4], &[two.clone(), ints("pads", &[1, 1, 1, 1])]),
        "// phases of a row alone",
        &deconv(&[3, 2, 1, 2], &[ints("strides", &[1, 2])]),
        "// single channels in groups: a convolution for each phase",
        &deconv(&[3, 1, 1, 2], &[ints("strides", &[1, 2]), int("group", 3)]),
        "// no stride: a convolution",
        &deconv(&[3, 2, 3, 3], &[ints("pads", &[1, 0, 3, 2]), ints("dilations", &[1, 2])]),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn interpolation() {
    let linear = |scales: &[f32], attributes: &[AttributeProto]| {
        let all = [&[word("mode", "linear")], attributes].concat();
        let m = model(18).input("x", &["N", "2", "4", "4"]).output("y").f32("s", &[4], scales);
        nodes(&m.node("Resize", "x _ s", "y", &all))
    };
    let asymmetric = word("coordinate_transformation_mode", "asymmetric");
    let text = [
        "// the axis that grows less comes first",
        &linear(&[1.0, 1.0, 1.5, 2.0], &[]),
        "// positions of the input alone: a choice",
        &linear(&[1.0, 1.0, 1.0, 0.5], &[asymmetric]),
        "// more taps against aliasing",
        &linear(&[1.0, 1.0, 1.0, 0.5], &[int("antialias", 1)]),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn convolution_of_a_line() {
    let m = model(13)
        .input("x", &["N", "3", "8"])
        .output("y")
        .f32("w", &[4, 3, 3], &[1.0])
        .node("Conv", "x w", "c", &[ints("pads", &[1, 0]), ints("strides", &[2])])
        .node("MaxPool", "c", "y", &[ints("kernel_shape", &[2])]);
    insta::assert_snapshot!(nodes(&m));
}

#[test]
fn pooling() {
    let k = ints("kernel_shape", &[3, 3]);
    let s = ints("strides", &[2, 2]);
    let text = [
        nodes(&one_node(8, "MaxPool", "", &[k.clone(), s.clone(), int("storage_order", 0)])),
        nodes(&one_node(12, "MaxPool", "", &[k.clone(), s.clone(), int("ceil_mode", 1), ints("dilations", &[2, 2])])),
        nodes(&one_node(12, "MaxPool", "", &[k.clone(), s.clone(), word("auto_pad", "SAME_UPPER")])),
        nodes(&one_node(7, "AveragePool", "", &[k.clone(), ints("pads", &[1, 1, 1, 1]), int("count_include_pad", 1)])),
        nodes(&one_node(
            19,
            "AveragePool",
            "",
            &[k.clone(), s.clone(), int("ceil_mode", 1), ints("dilations", &[1, 2])],
        )),
        nodes(&one_node(13, "GlobalAveragePool", "", &[])),
        nodes(&one_node(13, "GlobalMaxPool", "", &[])),
        nodes(&one_node(13, "ReduceMean", "", &[ints("axes", &[-1, 2]), int("keepdims", 0)])),
        nodes(&one_node(18, "ReduceMean", "axes", &[]).i64("axes", &[-1])),
        nodes(&one_node(18, "ReduceMean", "", &[int("noop_with_empty_axes", 1)])),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn activations() {
    let scalar = |m: ModelBuilder, name: &str, x: f32| m.f32(name, &[], &[x]);
    let text = [
        nodes(&one_node(13, "Relu", "", &[])),
        nodes(&one_node(13, "LeakyRelu", "", &[])),
        nodes(&one_node(16, "LeakyRelu", "", &[float("alpha", 0.1)])),
        nodes(&one_node(13, "Sigmoid", "", &[])),
        nodes(&one_node(13, "HardSigmoid", "", &[])),
        nodes(&one_node(22, "HardSigmoid", "", &[float("alpha", 1.0 / 6.0)])),
        nodes(&one_node(14, "HardSwish", "", &[])),
        nodes(&one_node(7, "Clip", "", &[float("min", 0.0), float("max", 6.0)])),
        nodes(&one_node(7, "Clip", "", &[float("min", f32::MIN), float("max", f32::MAX)])),
        nodes(&scalar(scalar(one_node(11, "Clip", "lo hi", &[]), "lo", 0.0), "hi", 6.0)),
        nodes(&scalar(one_node(13, "Clip", "_ hi", &[]), "hi", 1.0)),
        nodes(&scalar(scalar(one_node(13, "Clip", "lo hi", &[]), "lo", 9.0), "hi", 6.0)),
        nodes(&one_node(13, "Softmax", "", &[])),
        nodes(&one_node(13, "Softmax", "", &[int("axis", 1)])),
        nodes(&one_node(11, "Softmax", "", &[])),
        nodes(&one_node(11, "Softmax", "", &[int("axis", -1)])),
    ];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn elementwise() {
    let m = model(14)
        .input("a", &["N", "3", "8", "8"])
        .input("b", &["N", "3", "1", "1"])
        .output("y")
        .f32("c", &[3, 1, 1], &[1.0, 2.0, 3.0])
        .f32("two", &[], &[2.0])
        .f32("three", &[1], &[3.0])
        .node("Mul", "two three", "six", &[])
        .node("Add", "a b", "s", &[])
        .node("Mul", "s c", "m", &[])
        .node("Sub", "six m", "d", &[])
        .node("Div", "d six", "y", &[]);
    insta::assert_snapshot!(m.text());
}

#[test]
fn elementwise_before_numpy() {
    let add =
        |attributes: &[AttributeProto], b: &[i64]| nodes(&one_node(6, "Add", "b", attributes).f32("b", b, &[1.0]));
    let text = [
        add(&[int("broadcast", 1), int("axis", 1)], &[3]),
        add(&[int("broadcast", 1), int("axis", 2)], &[8, 8]),
        add(&[int("broadcast", 1)], &[8]),
    ];
    insta::assert_snapshot!(text.join("\n"), @r#"
    v1: f32[N,3,8,8] = add v0, c0 "/y"
    v1: f32[N,3,8,8] = add v0, c0 "/y"
    v1: f32[N,3,8,8] = add v0, c0 "/y"
    "#);
    let text = one_node(6, "Add", "b", &[int("broadcast", 1), int("axis", 1)]).f32("b", &[3], &[1.0]).text();
    assert!(text.contains("c0 = const f32[3,1,1] [1.0, 1.0, 1.0]"), "{text}");
}

#[test]
fn gemm() {
    let gemm = |attributes: &[AttributeProto], weights: &[i64], addend: &[i64]| {
        let m = model(13).input("x", &["N", "3"]).output("y").node("Gemm", "x w c", "y", attributes);
        m.f32("w", weights, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).f32("c", addend, &[10.0, 20.0]).text()
    };
    let text = [
        gemm(&[int("transB", 1)], &[2, 3], &[2]),
        gemm(&[float("alpha", 0.5), float("beta", 2.0)], &[3, 2], &[1, 2]),
        gemm(&[float("beta", 0.0)], &[3, 2], &[2]),
        gemm(&[], &[3, 2], &[1]),
        model(11)
            .input("x", &["N", "3"])
            .output("y")
            .f32("w", &[3, 2], &[1.0])
            .node("Transpose", "x", "t", &[])
            .node("Gemm", "t w", "y", &[int("transA", 1)])
            .text(),
    ];
    insta::assert_snapshot!(text.join("\n"));
    let both = model(13).input("a", &["N", "3"]).input("b", &["2", "3"]).input("c", &["N", "1"]).output("y").node(
        "Gemm",
        "a b c",
        "y",
        &[int("transB", 1), float("alpha", 0.5), float("beta", 3.0)],
    );
    insta::assert_snapshot!("gemm_of_computed", both.text());
}

#[test]
fn matmul() {
    let m = model(13)
        .input("x", &["N", "4", "3"])
        .output("y")
        .f32("w", &[3, 2], &[1.0])
        .f32("column", &[2], &[1.0])
        .f32("row", &[4], &[1.0])
        .node("MatMul", "x w", "a", &[])
        .node("MatMul", "a column", "b", &[])
        .node("Unsqueeze", "b one", "c", &[])
        .i64("one", &[-1])
        .node("MatMul", "row c", "y", &[]);
    insta::assert_snapshot!(nodes(&m));
}

#[test]
fn layout() {
    let text = [
        nodes(&one_node(13, "Transpose", "", &[])),
        nodes(&one_node(13, "Transpose", "", &[ints("perm", &[0, 2, 3, 1])])),
        nodes(&one_node(13, "Concat", "x", &[int("axis", -3)])),
        nodes(&one_node(7, "Pad", "", &[ints("pads", &[0, 0, 1, 1, 0, 0, 2, 2]), float("value", 1.0)])),
        nodes(&one_node(13, "Pad", "p v", &[]).i64("p", &[0, 0, 0, 0, 0, 0, 0, 0]).f32("v", &[], &[0.0])),
        nodes(&one_node(18, "Pad", "p _ a", &[]).i64("p", &[1, -2, 1, 0]).i64("a", &[-1, -2])),
        nodes(&one_node(10, "Dropout", "", &[float("ratio", 0.5)])),
        nodes(&one_node(13, "Dropout", "r", &[int("seed", 1)]).f32("r", &[], &[0.5])),
        nodes(&one_node(13, "Identity", "", &[])),
        nodes(&one_node(9, "Cast", "", &[int("to", 11)])),
        nodes(&one_node(9, "Slice", "", &[ints("starts", &[1, 0]), ints("ends", &[-1, 100]), ints("axes", &[2, 3])])),
        nodes(
            &one_node(13, "Slice", "s e a t", &[])
                .i64("s", &[0, -3])
                .i64("e", &[i64::MAX, i64::MAX])
                .i64("a", &[0, 3])
                .i64("t", &[1, 2]),
        ),
        nodes(
            &one_node(13, "Slice", "s e a t", &[])
                .i64("s", &[-1, 6])
                .i64("e", &[i64::MIN, 1])
                .i64("a", &[1, 2])
                .i64("t", &[-1, -2]),
        ),
        nodes(&one_node(13, "Gather", "i", &[int("axis", 1)]).i64("i", &[-1, 0])),
        nodes(&one_node(11, "Split", "", &[int("axis", 1), ints("split", &[3])])),
    ];
    insta::assert_snapshot!(text.join("\n"));
    let split = model(18)
        .input("x", &["N", "8"])
        .output("y")
        .node("Split", "x", "a b c", &[int("axis", 1), int("num_outputs", 3)])
        .node("Concat", "c a", "y", &[int("axis", 1)]);
    insta::assert_snapshot!("split", nodes(&split));
}

#[test]
fn maxima_are_max_poolings() {
    // Each run of neighbouring axes becomes one pooling.
    for (axes, count) in [(&[1, 3][..], 2), (&[2, 3], 1), (&[1, 2, 3], 1)] {
        let text = nodes(&one_node(13, "ReduceMax", "", &[ints("axes", axes)]));
        assert!(!text.contains("reduce_max") && text.matches("max_pool").count() == count, "{axes:?}: {text}");
    }
    // A clip with the range of a narrow type is next to the cast, so that passes know that the maxima are exact.
    for (ty, bounds) in [(DataType::Uint8, Some("min=0.0, max=255.0")), (DataType::Int32, None)] {
        let m = model(13).typed_input("x", ty, &["N", "2", "4", "4"]).output("y");
        let text = nodes(&m.node("MaxPool", "x", "p", &[ints("kernel_shape", &[2, 2])]).node(
            "Cast",
            "p",
            "y",
            &[int("to", 1)],
        ));
        assert_eq!(text.contains("clip"), bounds.is_some(), "{text}");
        assert!(text.contains(bounds.unwrap_or("max_pool")), "{text}");
    }
}
