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
