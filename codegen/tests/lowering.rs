//! Graphs in text form and the programs they become.

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

fn listing(text: &str) -> String {
    match compile(text) {
        Ok(program) => program.to_string(),
        Err(e) => panic!("{e}"),
    }
}

/// Quantized residual block: image input, skip connection, projection left in f32, pooling, classifier.
#[test]
fn residual_network() {
    let text = r#"graph @residual integer {
  q0 = quantizer u8 per_tensor scale [0.0078125] zero_point [128]
  q1 = quantizer u2 per_tensor scale [0.5] zero_point [0]
  q2 = quantizer i2 per_axis 0 scale [0.5, 0.25] zero_point [0, -1]
  q3 = quantizer i8 per_tensor scale [0.01] zero_point [0]
  q4 = quantizer u8 per_tensor scale [0.02] zero_point [0]
  c0 = const i8<q3>[2,1,3,3] [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]
  c1 = const f32[2] [0.001, 0.002]
  c2 = const f32[2] [0.5, -0.5]
  c3 = const i2<q2>[2,2,1,1] [1, -2, 0, 1]
  c4 = const i8<q3>[3,2] [1, 2, 3, 4, 5, 6]
  c5 = const f32[3] [0.001, 0.002, 0.003]
  c6 = const f32[3] [0.0, 0.0, 0.0]
input(v0: f32[N,1,4,4] "image"):
  v1: u8<q0>[N,1,4,4] = fused_map v0, q0 {scale=1.0, epilogue=[requantize]} "quantize"
  v2: u2<q1>[N,2,4,4] = fused_conv2d v1, c0, c1, c2, q1 {strides=[1,1], pads=[1,1,1,1], epilogue=[relu, requantize]} "conv1"
  v3: f32[N,2,2,2] = fused_conv2d v2, c3, c1, c2 {strides=[2,2], pads=[0,0,0,0]} "projection"
  v4: u2<q1>[N,2,2,2] = max_pool v2 {kernel=[2,2], strides=[2,2], pads=[0,0,0,0]} "pool"
  v5: u2<q1>[N,2,2,2] = fused_conv2d v4, c3, c1, c2, v3, v4, q1 {strides=[1,1], pads=[0,0,0,0], epilogue=[add(4, 1.0), add(5, 0.5), relu, scale(2.0), round]} "conv2"
  v6: u8<q4>[N,2] = fused_mean v5, q4 {scale=0.5, axes=[2,3], epilogue=[requantize]} "gap"
  v7: f32[N,3] = fused_linear v6, c4, c5, c6 "fc"
  output v7 "logits"
}"#;
    insta::assert_snapshot!(listing(text));
}

/// A classifier over a flattened image, with a pooling that keeps its axes in front of a second one.
#[test]
fn flatten_is_a_convolution_over_the_image() {
    let text = r#"graph @flatten integer {
  q1 = quantizer u2 per_tensor scale [0.5] zero_point [0]
  q3 = quantizer i4 per_tensor scale [0.01] zero_point [0]
  c4 = const i4<q3>[3,8] [1, 2, 3, 4, 5, 6, 7, -8, 1, 2, 3, 4, 5, 6, 7, -8, 1, 2, 3, 4, 5, 6, 7, -8]
  c5 = const f32[3] [0.001, 0.002, 0.003]
  c7 = const i4<q3>[2,3] [1, 2, 3, 4, 5, 6]
  c8 = const f32[2] [0.001, 0.002]
input(v0: f32[N,2,2,2] "image"):
  v1: u2<q1>[N,2,2,2] = fused_map v0, q1 {scale=1.0, epilogue=[requantize]}
  v2: u2<q1>[N,2,2,2] = max_pool v1 {kernel=[1,1], strides=[1,1], pads=[0,0,0,0]} "pool"
  v3: u2<q1>[N,8] = reshape v2 {shape=[N,8]} "flatten"
  v4: u2<q1>[N,3] = fused_linear v3, c4, c5, c5, q1 {epilogue=[relu, requantize]} "fc1"
  v5: f32[N,2] = fused_linear v4, c7, c8, c8 "fc2"
  output v5 "y"
}"#;
    insta::assert_snapshot!(listing(text));
}

/// The cluster-wise correction of the logits, folded and not.
#[test]
fn correction_of_the_logits() {
    let text = r#"graph @tail integer {
  c0 = const f32[3,4] random(1, normal, 0.1)
  c1 = const f32[3] [0.0, 0.5, 1.0]
  c2 = const f32[3,4] random(2, normal, 0.1)
  c3 = const f32[3,4] random(3, normal, 0.1)
  c4 = const f32[4,2] random(4, normal, 0.1)
  c5 = const f32[5,2] random(5, normal, 0.1)
  c6 = const f32[5,4] random(6, normal, 0.1)
  c7 = const f32[4] [0.1, 0.2, 0.3, 0.4]
input(v0: f32[N,4] "logits"):
  v1: f32[N,3] = linear v0, c0, c1 "distances"
  v2: i64[N] = argmin v1 {axis=1}
  v3: f32[N,4] = gather c2, v2 {axis=0} "gamma"
  v4: f32[N,4] = gather c3, v2 {axis=0} "beta"
  v5: f32[N,4] = mul v0, v3
  v6: f32[N,4] = add v5, v4 "corrected"
  v7: f32[N,4] = sub v6, c7
  v8: f32[N,2] = matmul v7, c4 "projection"
  v9: f32[N,5] = squared_distance v8, c5
  v10: i64[N] = argmin v9 {axis=1}
  v11: f32[N,4] = gather c6, v10 {axis=0}
  v12: f32[N,4] = mul v6, v11
  v13: f32[N,4] = blend v6, v12 {alpha=0.25} "blend"
  v14: f32[N,4] = softmax v13 {axis=1}
  output v13 "corrected"
  output v14 "probabilities"
  output v2 "cluster"
}"#;
    insta::assert_snapshot!(listing(text));
}

/// Element-wise f32 nodes join the step before them; operands that do not have the output's shape are spread or swapped.
#[test]
fn elementwise_nodes() {
    let text = r#"graph @elementwise integer {
  c0 = const f32[2,3,1,1] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
  c1 = const f32[1,2,1,1] [0.5, 1.0]
  c2 = const f32[] [2.0]
  c3 = const f32[2] [1.0, 4.0]
  c4 = const f32[2] [0.0, 0.5]
input(v0: f32[N,3,4,4] "image"):
  v1: f32[N,2,4,4] = conv2d v0, c0 {strides=[1,1], pads=[0,0,0,0]} "conv"
  v2: f32[N,2,4,4] = add v1, c1
  v3: f32[N,2,4,4] = hard_swish v2 "act"
  v4: f32[N,2,1,1] = reduce_mean v3 {axes=[2,3], keep_dims=true} "squeeze"
  v5: f32[N,2,1,1] = sigmoid v4
  v6: f32[N,2,4,4] = mul v5, v3 "excite"
  v7: f32[N,2,4,4] = div c2, v6 "reciprocal"
  v8: f32[N,2,4,4] = sub c1, v7 "from constant"
  v9: f32[N,2,4,4] = batch_norm v8, c3, c4, c4, c3 {eps=0.0} "norm"
  v10: f32[N,2,4,1] = reduce_mean v9 {axes=[3], keep_dims=true} "rows"
  v11: f32[N,2,1,4] = reduce_mean v9 {axes=[2], keep_dims=true} "columns"
  v12: f32[N,2,4,4] = div v10, v11 "outer"
  v13: f32[N,2,4,4] = sub v4, v12 "difference"
  v14: f32[N,2,4,4] = mul v13, v13 "square"
  v15: f32[N,2,4,4] = avg_pool v14 {kernel=[3,3], strides=[1,1], pads=[1,1,1,1]}
  v16: f32[N,2,4,4] = clip v15 {min=0.0, max=6.0}
  v17: f32[N,2,4,4] = leaky_relu v16 {alpha=0.1} "dead"
  output v16 "y"
}"#;
    insta::assert_snapshot!(listing(text));
}

/// Rows of tokens: products of computed matrices, a classifier over rows of codes with operands by row and by column.
#[test]
fn rows_and_matrices() {
    let text = r#"graph @rows integer {
  q0 = quantizer u4 per_tensor scale [0.5] zero_point [3]
  q1 = quantizer i4 per_tensor scale [0.01] zero_point [0]
  c0 = const i4<q1>[2,4] [1, 2, 3, 4, 5, 6, 7, -8]
  c1 = const f32[2] [0.001, 0.002]
  c2 = const f32[3,2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
  c3 = const f32[3,1] [1.0, 2.0, 3.0]
  c4 = const f32[1,3,3] [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
  c5 = const f32[4,2] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
input(v0: f32[N,3,4] "tokens", v1: f32[N,1,2] "shift"):
  v2: u4<q0>[N,3,4] = fused_map v0, q0 {scale=1.0, epilogue=[requantize]}
  v3: f32[N,3,2] = fused_linear v2, c0, c1, c1, c2, v1 {epilogue=[add(4, 1.0), mul(5, 1.0)]} "by column"
  v4: f32[N,3,2] = relu v3
  v5: f32[N,2,3] = transpose v4 {perm=[0,2,1]}
  v6: f32[N,3,3] = matmul v4, v5 "scores"
  v7: f32[N,3,3] = softmax v6 {axis=2}
  v8: f32[N,3,3] = matmul c4, v7 "constant left"
  v9: f32[N,3,2] = matmul v8, v4 "mixed"
  v10: f32[N,3,2] = matmul v0, c5 "constant right"
  v11: f32[N,3,2] = add v9, v10
  v12: f32[N,1,6] = reshape v11 {shape=[N,1,6]}
  v13: f32[N,2,3] = reshape v12 {shape=[N,2,3]}
  output v13 "y"
  output v3 "z"
}"#;
    insta::assert_snapshot!(listing(text));
}

/// Four dimensions for each image: an operand that a column cannot take becomes a step of its own.
#[test]
fn operand_that_does_not_fit_a_column() {
    let text = r#"graph @column integer {
  q0 = quantizer u4 per_tensor scale [0.5] zero_point [3]
  q1 = quantizer i4 per_tensor scale [0.01] zero_point [0]
  c0 = const i4<q1>[2,2] [1, 2, 3, 4]
  c1 = const f32[2] [0.001, 0.002]
input(v0: f32[N,3,2,2] "x", v1: f32[N,1,2,2] "y"):
  v2: u4<q0>[N,3,2,2] = fused_map v0, q0 {scale=1.0, epilogue=[requantize]}
  v3: u4<q0>[N,3,2,2] = fused_linear v2, c0, c1, c1, v1, q0 {epilogue=[add(4, 1.0), relu, requantize]} "linear"
  v4: f32[N,3,2,2] = fused_map v3 {scale=0.5}
  output v4 "z"
}"#;
    insta::assert_snapshot!(listing(text));
}

/// What moves elements, between layouts and from one image layout to the other.
#[test]
fn moves() {
    let text = r#"graph @moves integer {
  q0 = quantizer u4 per_tensor scale [0.5] zero_point [3]
  q1 = quantizer i4 per_tensor scale [0.01] zero_point [0]
  c0 = const i4<q1>[2,2,1,1] [1, 2, 3, 4]
  c1 = const f32[2] [0.001, 0.002]
  c2 = const i64[2] [3, 1]
  c3 = const i64[] [0]
input(v0: f32[N,4,4,2] "nhwc"):
  v1: f32[N,2,4,4] = transpose v0 {perm=[0,3,1,2]} "to channels first"
  v2: u4<q0>[N,2,4,4] = fused_map v1, q0 {scale=1.0, epilogue=[requantize]} "quantize"
  v3: u4<q0>[N,2,6,5] = pad v2 {before=[0,0,1,0], after=[0,0,1,1]} "pad"
  v4: u4<q0>[N,2,6,5] = fused_conv2d v3, c0, c1, c1, q0 {strides=[1,1], pads=[0,0,0,0], epilogue=[requantize]} "conv"
  v5: u4<q0>[N,2,3,5] = slice v4 {axis=2, start=1, end=6, step=2} "slice"
  v6: u4<q0>[N,2,3,5] = slice v4 {axis=2, start=0, end=6, step=2}
  v7: u4<q0>[N,4,3,5] = concat v5, v6 {axis=1} "concat"
  v8: u4<q0>[N,2,3,5] = gather v7, c2 {axis=1} "pick"
  v9: u4<q0>[N,3,5] = gather v8, c3 {axis=1} "pick one"
  v10: f32[N,3,5] = fused_map v9 {scale=0.5} "dequantize"
  v11: f32[N,3,5] = identity v10
  v12: f32[N,6,5,2] = transpose v13 {perm=[0,2,3,1]}
  output v11 "y"
  output v11 "again"
  output v0 "echo"
  output v12 "nhwc out"
}"#;
    let text = text.replace("  v12:", "  v13: f32[N,2,6,5] = fused_map v4 {scale=0.5}\n  v12:");
    insta::assert_snapshot!(listing(&text));
}

#[test]
fn errors_name_the_node_and_the_reason() {
    let graph = |header: &str, body: &str| format!("graph @g integer {{\n{header}\n{body}\n}}");
    let cases = [
        (
            graph("input(v0: f32[N,4]):", "  v1: f32[2N,2] = reshape v0 {shape=[2N,2]} \"split\"\n  output v1 \"y\""),
            "cannot compile \"split\" (reshape): v1 has shape [2N,2]: a compiled network works image by image",
        ),
        (
            graph("input(v0: f32[N,4]):", "  v1: f32[4,N] = transpose v0 {perm=[1,0]} \"t\"\n  output v1 \"y\""),
            "cannot compile \"t\" (transpose): v1 has shape [4,N]",
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
            "cannot compile input \"x\": a compiled network takes f32",
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
            "cannot compile \"g\" (gather): it picks 1 slices of axis 1",
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
