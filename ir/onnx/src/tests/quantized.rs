//! Tests of quantized models, and of the export of quantized graphs.

use super::{float, i64_tensor, info, int, ints, model, raw_tensor};
use crate::proto::tensor_proto::DataType;
use crate::tests::ModelBuilder;
use crate::{ExportError, ImportOptions, export, import_bytes};
use catc_ir::Phase;
use catc_ir::text::{NoBlobs, parse};

/// Adds the scale `name_s` and the zero point `name_z` of a type.
fn quantizer(m: ModelBuilder, name: &str, scale: &[f32], ty: DataType, zero: &[u8]) -> ModelBuilder {
    let dims: Vec<i64> = if scale.len() == 1 { vec![] } else { vec![scale.len() as i64] };
    m.f32(&format!("{name}_s"), &dims, scale).initializer(raw_tensor(&format!("{name}_z"), ty, &dims, zero.to_vec()))
}

fn bytes(items: &[i8]) -> Vec<u8> {
    items.iter().map(|&x| x as u8).collect()
}

/// A convolution and a fully connected layer as static quantizers write them, with 8-bit codes, a 32-bit bias, and clips for
/// fewer than 8 bits.
fn network() -> ModelBuilder {
    let m = model(13).input("x", &["N", "2", "2", "2"]).output("y");
    let m = quantizer(m, "x", &[0.5], DataType::Int8, &[3]);
    let m = quantizer(m, "w", &[0.25, 0.5], DataType::Int8, &[0, 0]);
    let m = quantizer(m, "h", &[0.5], DataType::Uint8, &[0]);
    let m = quantizer(m, "v", &[0.125], DataType::Uint8, &[128]);
    let m = m.initializer(raw_tensor("w_q", DataType::Int8, &[2, 2, 1, 1], bytes(&[1, -2, 127, 0])));
    let m = m.initializer(raw_tensor("v_q", DataType::Uint8, &[2, 3], vec![129, 126, 128, 0, 130, 128]));
    let m = m.initializer(raw_tensor(
        "b_q",
        DataType::Int32,
        &[2],
        [2i32, -4].iter().flat_map(|x| x.to_le_bytes()).collect(),
    ));
    let m = m.f32("b_s", &[2], &[0.125, 0.25]).f32("lo", &[], &[0.0]).f32("hi", &[], &[1.5]).i64("flat", &[-1, 8]);
    m.node("QuantizeLinear", "x x_s x_z", "xq", &[])
        .node("DequantizeLinear", "xq x_s x_z", "xd", &[])
        .node("DequantizeLinear", "w_q w_s w_z", "wd", &[int("axis", 0)])
        .node("DequantizeLinear", "b_q b_s", "bd", &[int("axis", 0)])
        .node("Conv", "xd wd bd", "c", &[])
        .node("Clip", "c lo hi", "cc", &[])
        .node("QuantizeLinear", "cc h_s h_z", "hq", &[])
        .node("Reshape", "hq flat", "hf", &[])
        .node("DequantizeLinear", "hf h_s h_z", "hd", &[])
        .node("Slice", "hd starts ends axes", "hs", &[])
        .initializer(i64_tensor("starts", &[1], &[0]))
        .initializer(i64_tensor("ends", &[1], &[2]))
        .initializer(i64_tensor("axes", &[1], &[1]))
        .node("DequantizeLinear", "v_q v_s v_z", "vd", &[])
        .node("Gemm", "hs vd", "y", &[float("alpha", 1.0)])
}

#[test]
fn codes_stay_codes() {
    let text = network().text();
    insta::assert_snapshot!(text);
}

/// Quantizes and dequantizes `x` with the scale 0.5 and the zero point `z`, which `chain` defines.
fn round_trip(opset: i64, chain: impl Fn(ModelBuilder) -> ModelBuilder) -> ModelBuilder {
    let m = model(opset).input("x", &["N", "4"]).output("y").f32("s", &[], &[0.5]);
    chain(m).node("QuantizeLinear", "x s z", "q", &[]).node("DequantizeLinear", "q s z", "y", &[])
}

#[test]
fn what_cannot_be_codes_is_named_and_stays_quantized() {
    let of = |ty| round_trip(21, |m| m.initializer(raw_tensor("z", ty, &[], vec![0, 0])));
    let several = || {
        let m = quantizer(model(13).input("x", &["N", "2"]).output("y"), "x", &[0.5, 1.0], DataType::Int8, &[0, 1]);
        m.node("QuantizeLinear", "x x_s x_z", "q", &[]).node("DequantizeLinear", "q x_s x_z", "y", &[])
    };
    for (m, reason) in [
        (of(DataType::Uint16), "its codes are of type uint16, and kernels take those of 2 to 8 bits"),
        (of(DataType::Int16), "its codes are of type int16, and kernels take those of 2 to 8 bits"),
        (several(), "it has several scales for a computed tensor"),
    ] {
        let imported = m.import().unwrap();
        assert_eq!(imported.graph.phase, Phase::Qdq);
        let expected =
            format!("node \"/q\" (QuantizeLinear): its codes are computed in f32, not by integer kernels: {reason}");
        assert_eq!(imported.warnings, [expected]);
    }
}

#[test]
fn codes_that_something_else_takes_are_numbers_there() {
    let m = quantizer(model(13).input("x", &["N", "4"]).output("y").output("q"), "x", &[0.5], DataType::Uint8, &[9]);
    let m = m.node("QuantizeLinear", "x x_s x_z", "q", &[]).node("DequantizeLinear", "q x_s x_z", "y", &[]);
    let imported = m.import().unwrap();
    assert!(imported.warnings.is_empty(), "{:?}", imported.warnings);
    let text = imported.graph.to_string();
    for part in ["v1: u8<q0>[N,4] = quantize v0, q0", "= round ", "i64[N,4] = cast_i64 "] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// The type of a zero point determines the codes, even if there are nodes between it and its constant.
#[test]
fn types_of_zero_points_follow_from_constants() {
    let byte =
        |m: ModelBuilder, name: &str, dims: &[i64]| m.initializer(raw_tensor(name, DataType::Int8, dims, bytes(&[3])));
    let to = || int("to", DataType::Int8 as i64);
    type Chain<'c> = &'c dyn Fn(ModelBuilder) -> ModelBuilder;
    let chains: [(&str, Chain); 10] = [
        ("Cast", &|m| m.i64("z0", &[3]).node("Squeeze", "z0", "z1", &[]).node("Cast", "z1", "z", &[to()])),
        ("CastLike", &|m| byte(m.f32("z0", &[], &[3.0]), "t", &[]).node("CastLike", "z0 t", "z", &[])),
        ("Identity", &|m| byte(m, "z0", &[]).node("Identity", "z0", "z", &[])),
        ("Squeeze", &|m| byte(m, "z0", &[1]).node("Squeeze", "z0", "z", &[])),
        ("Reshape", &|m| byte(m, "z0", &[1, 1]).i64("to", &[1]).node("Reshape", "z0 to", "z", &[])),
        ("Unsqueeze", &|m| byte(m, "z0", &[]).i64("to", &[0]).node("Unsqueeze", "z0 to", "z", &[])),
        ("Transpose", &|m| byte(m, "z0", &[1]).node("Transpose", "z0", "z", &[])),
        ("Concat", &|m| byte(m, "z0", &[1]).node("Concat", "z0", "z", &[int("axis", 0)])),
        ("Gather", &|m| byte(m, "z0", &[1]).initializer(i64_tensor("at", &[], &[0])).node("Gather", "z0 at", "z", &[])),
        ("ConstantOfShape", &|m| {
            let value = raw_tensor("", DataType::Int8, &[1], bytes(&[3]));
            m.i64("shape", &[1]).node("ConstantOfShape", "shape", "z", &[super::tensor("value", value)])
        }),
    ];
    for (name, chain) in chains {
        let text = round_trip(15, chain).text();
        assert!(text.contains("i8 per_tensor scale [0.5] zero_point [3]"), "{name}:\n{text}");
    }
}

#[test]
fn a_computed_zero_point_keeps_its_type() {
    let m = round_trip(13, |m| m.typed_input("z0", DataType::Int8, &["1"]).node("Identity", "z0", "z", &[]));
    let text = m.text();
    assert!(text.contains("clip v") && text.contains("{min=-128.0, max=127.0}"), "{text}");
}

/// The wider type saturates at 5.5, before the bound of the clip.
#[test]
fn a_clip_beyond_the_codes_of_the_type_does_not_widen_them() {
    for (low, high) in [(0.0, 6.0), (0.0, f32::INFINITY), (-0.5, 9.0)] {
        let m = model(13).input("x", &["N", "4"]).output("y").f32("lo", &[], &[low]).f32("hi", &[], &[high]);
        let m = quantizer(m, "x", &[0.1], DataType::Uint8, &[200]).node("Clip", "x lo hi", "c", &[]);
        let m = m.node("QuantizeLinear", "c x_s x_z", "q", &[]).node("DequantizeLinear", "q x_s x_z", "y", &[]);
        let text = m.text();
        assert!(text.contains("u6 per_tensor") && text.contains("max=5.5}"), "{text}");
    }
}

#[test]
fn clipped_codes_have_as_few_bits_as_their_range_needs() {
    let m = quantizer(model(13).input("x", &["N", "4"]).output("y"), "x", &[0.5], DataType::Int8, &[0]);
    let m = m
        .initializer(raw_tensor("lo", DataType::Int8, &[], bytes(&[-8])))
        .initializer(raw_tensor("hi", DataType::Int8, &[], bytes(&[7])))
        .node("QuantizeLinear", "x x_s x_z", "q", &[])
        .node("Clip", "q lo hi", "c", &[])
        .node("DequantizeLinear", "c x_s x_z", "y", &[]);
    let text = m.text();
    assert!(text.contains("u4 per_tensor scale [0.5] zero_point [8]"), "{text}");
}

/// Codes with a negative scale are negated. Codes with scale 0 become 0.
#[test]
fn weights_of_odd_scales_stay_codes() {
    let m = quantizer(model(13).input("x", &["N", "2"]).output("y"), "x", &[0.5], DataType::Uint8, &[9]);
    let m = quantizer(m, "w", &[0.5, -0.25, 0.0], DataType::Int8, &[0, 0, 0]);
    let m = m
        .initializer(raw_tensor("w_q", DataType::Int8, &[3, 2], bytes(&[90, -2, 100, 5, 77, 78])))
        .node("QuantizeLinear", "x x_s x_z", "q", &[])
        .node("DequantizeLinear", "q x_s x_z", "d", &[])
        .node("DequantizeLinear", "w_q w_s w_z", "w", &[int("axis", 0)])
        .node("Gemm", "d w", "y", &[int("transB", 1)]);
    let text = m.text();
    assert!(text.contains("i8 per_axis 0 scale [0.5, 0.25, 1.0]"), "{text}");
    assert!(text.contains("[90, -2, -100, -5, 0, 0]"), "{text}");
}

#[test]
fn weights_without_axes_are_refused() {
    let m = quantizer(model(13).input("x", &["N", "2", "4", "4"]).output("y"), "x", &[0.5], DataType::Uint8, &[9]);
    let m = quantizer(m, "w", &[0.5], DataType::Int8, &[0]);
    let m = m.initializer(raw_tensor("w_q", DataType::Int8, &[], bytes(&[1])));
    let m = m.node("QuantizeLinear", "x x_s x_z", "q", &[]);
    let layers = [
        m.clone().node("QLinearConv", "q x_s x_z w_q w_s w_z x_s x_z", "y", &[]),
        m.node("ConvInteger", "q w_q x_z w_z", "y", &[]),
    ];
    for m in layers {
        let error = m.error();
        assert!(error.contains("has shape [], 4 dimensions are needed"), "{error}");
    }
}

#[test]
fn quantized_operators_are_quantized_layers() {
    let m = model(13).input("x", &["N", "2", "2", "2"]).output("y");
    let m = quantizer(m, "x", &[0.5], DataType::Uint8, &[3]);
    let m = quantizer(m, "w", &[0.25], DataType::Int8, &[0]);
    let m = quantizer(m, "h", &[0.75], DataType::Uint8, &[7]);
    let m = m.initializer(raw_tensor("w_q", DataType::Int8, &[2, 2, 1, 1], bytes(&[1, -2, 3, 0])));
    let m = m.initializer(raw_tensor(
        "b_q",
        DataType::Int32,
        &[2],
        [8i32, -16].iter().flat_map(|x| x.to_le_bytes()).collect(),
    ));
    let m = m
        .node("QuantizeLinear", "x x_s x_z", "xq", &[])
        .node("QLinearConv", "xq x_s x_z w_q w_s w_z h_s h_z b_q", "hq", &[])
        .node("DequantizeLinear", "hq h_s h_z", "y", &[]);
    insta::assert_snapshot!(m.text());
}

/// Covers every operator on codes of ONNX Runtime's quantizer. Codes stay codes in padding, resizing and splitting.
#[test]
fn operators_of_onnx_runtime_are_quantized_layers() {
    let m = model(18).input("x", &["N", "2", "2", "2"]).output("y");
    let m = quantizer(m, "x", &[0.5], DataType::Uint8, &[3]);
    let m = quantizer(m, "h", &[0.25], DataType::Uint8, &[7]);
    let m = quantizer(m, "w", &[0.25, 0.5], DataType::Int8, &[0, 0]);
    let m = m.initializer(raw_tensor("g", DataType::Uint8, &[1, 2, 1, 1], vec![9, 5]));
    let m = m.initializer(raw_tensor("w_q", DataType::Int8, &[2, 4], bytes(&[1, -2, 3, 0, 4, 5, -6, 127])));
    let m = m.initializer(raw_tensor(
        "b_q",
        DataType::Int32,
        &[2],
        [8i32, -16].iter().flat_map(|x| x.to_le_bytes()).collect(),
    ));
    let m = m.initializer(i64_tensor("pads", &[8], &[0, 0, 1, 0, 0, 0, 0, 1]));
    let m = m.initializer(raw_tensor("seven", DataType::Uint8, &[], vec![7])).f32("twice", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let mut m = m
        .node("QuantizeLinear", "x x_s x_z", "xq", &[])
        .node("QLinearMul", "xq x_s x_z g h_s h_z h_s h_z", "a", &[])
        .node("QLinearAdd", "xq x_s x_z a h_s h_z h_s h_z", "b", &[])
        .node("QLinearSigmoid", "b h_s h_z h_s h_z", "c", &[])
        .node("QLinearLeakyRelu", "c h_s h_z h_s h_z", "d", &[float("alpha", 0.1)])
        .node("Pad", "d pads seven", "e", &[])
        .node("Resize", "e _ twice", "f", &[])
        .node("Split", "f", "left right", &[int("axis", 1), int("num_outputs", 2)])
        .node("QLinearConcat", "h_s h_z left h_s h_z right h_s h_z", "i", &[int("axis", 1)])
        .node(
            "QLinearAveragePool",
            "i h_s h_z h_s h_z",
            "j",
            &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
        )
        .node("QLinearConcat", "h_s h_z j h_s h_z j h_s h_z", "k", &[int("axis", 1)])
        .node("QLinearGlobalAveragePool", "k h_s h_z h_s h_z", "l", &[])
        .node("Flatten", "l", "m", &[])
        .node("QGemm", "m h_s h_z w_q w_s w_z b_q h_s h_z", "n", &[int("transB", 1)])
        .node("QLinearSoftmax", "n h_s h_z h_s h_z", "o", &[int("axis", -1), int("opset", 18)])
        .node("DequantizeLinear", "o h_s h_z", "y", &[]);
    for node in &mut m.graph().node {
        let own = node.op_type().starts_with('Q') && node.op_type() != "QuantizeLinear";
        node.domain = own.then(|| "com.microsoft".into());
    }
    insta::assert_snapshot!(m.text());
}

/// A graph with every kind of quantizer.
const GRAPH: &str = r#"
graph @net qdq {
  q0 = quantizer u2 per_tensor scale [0.5] zero_point [1]
  q1 = quantizer i3 per_axis 0 scale [0.25, 0.5] zero_point [-1, 2]
  q2 = quantizer u8 per_tensor scale [0.125] zero_point [9]
  c0 = const f32[2,2,1,1] [0.5, -0.25, 0.5, 1.5]
  c1 = const f32[2] [0.5, -1.0]
  c2 = const i3<q1>[2,3] [-2, 1, 3, 0, 1, -4]
input(v0: f32[N,2,3,3] "x"):
  v1: u2<q0>[N,2,3,3] = quantize v0, q0
  v2: f32[N,2,3,3] = dequantize v1
  v3: i3<q1>[2,2,1,1] = quantize c0, q1
  v4: f32[2,2,1,1] = dequantize v3
  v5: f32[N,2,3,3] = conv2d v2, v4, c1 {strides=[1,1], pads=[0,0,0,0]} "conv"
  v6: f32[N,2,3,3] = hard_swish v5
  v7: u8<q2>[N,2,3,3] = quantize v6, q2
  v8: u8<q2>[N,2,2,2] = max_pool v7 {kernel=[2,2], strides=[1,1], pads=[0,0,0,0]}
  v9: f32[N,2,2,2] = dequantize v8
  v10: f32[N,2,2,3] = pad v9 {before=[0,0,0,0], after=[0,0,0,1]}
  v11: f32[2,3] = dequantize c2
  v12: f32[N,2,2,2] = linear v10, v11, c1 "fc"
  v13: f32[N,2,2,2] = softmax v12 {axis=3}
  v14: f32[N,2] = reduce_mean v13 {axes=[2,3]}
  v15: i64[N] = argmin v14 {axis=1}
  output v14 "y"
  output v15 "least"
}
"#;

#[test]
fn written_graphs_come_back() {
    let graph = parse(GRAPH, &NoBlobs).unwrap();
    let written = export(&graph, &[]).unwrap();
    let again = import_bytes(&written, None, &ImportOptions::default()).unwrap();
    assert_eq!((again.opset, again.warnings.len()), (14, 0), "{:?}", again.warnings);
    let text = again.graph.to_string();
    // Activations keep their bits, and weights get the bits that their codes need. The weights of a product are transposed.
    for part in
        ["u2 per_tensor scale [0.5] zero_point [1]", "i2 per_axis 0", "u8 per_tensor scale [0.125]", "i3 per_axis 1"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    insta::assert_snapshot!(text);
    let twice = import_bytes(&export(&again.graph, &[]).unwrap(), None, &ImportOptions::default()).unwrap();
    let operators = |g: &catc_ir::Graph| g.nodes().iter().map(|n| n.op.name()).collect::<Vec<_>>();
    assert_eq!(operators(&twice.graph), operators(&again.graph));
}

#[test]
fn what_has_no_form_in_the_format_is_an_error() {
    let top = "graph @g float {\ninput(v0: f32[N,4] \"x\"):\n  v1: f32[N,2] = top_k v0 {axis=1, k=2} \"best\"\n  output v1 \"y\"\n}\n";
    let error = export(&parse(top, &NoBlobs).unwrap(), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"best\" (top_k) cannot be written as ONNX: no compiled network holds it; cut the model before it, and compute the rest in the program that calls the network"
    );
    let fused = "graph @g integer {\ninput(v0: f32[N,4] \"x\"):\n  v1: f32[N,4] = relu v0\n  output v1 \"y\"\n}\n";
    assert_eq!(export(&parse(fused, &NoBlobs).unwrap(), &[]), Err(ExportError::Phase));
}

#[test]
fn inputs_of_whole_numbers_keep_their_type() {
    for (ty, name, cast) in
        [(DataType::Uint8, "uint8", true), (DataType::Int32, "int32", true), (DataType::Int64, "int64", false)]
    {
        let m = model(13).typed_input("x", ty, &["N", "4"]).output("y");
        let read = m.node("Cast", "x", "y", &[int("to", 1)]).import().unwrap();
        let written = export(&read.graph, &read.whole).unwrap();
        let again = import_bytes(&written, None, &ImportOptions::default()).unwrap();
        assert_eq!(again.whole[0].as_ref().map(|w| w.name.as_str()), Some(name));
        assert_eq!(again.operators.contains_key("x_whole"), cast, "{:?}", again.operators);
    }
}

#[test]
fn inputs_may_be_wherever_the_file_has_them() {
    // The model has an f32 and an integer input. Only one of them has the batch.
    let m = model(13).input("x", &["N", "4"]).typed_input("i", DataType::Int64, &["2"]).output("y").output("z");
    let mut m = m.f32("c", &[4], &[1.0]).node("Add", "x c", "y", &[]).node("Gather", "c i", "z", &[]);
    m.graph().output[1] = info("z", DataType::Float, &["2"]);
    let graph = m.import().unwrap().graph;
    let written = import_bytes(&export(&graph, &[]).unwrap(), None, &ImportOptions::default()).unwrap();
    let inputs = |g: &catc_ir::Graph| g.to_string().lines().filter(|l| l.starts_with("input(")).collect::<String>();
    assert_eq!(inputs(&written.graph), inputs(&graph));
    let outputs =
        |g: &catc_ir::Graph| g.outputs.iter().map(|o| (o.name.clone(), g.value_type(o.value).clone())).collect();
    let (found, expected): (Vec<_>, Vec<_>) = (outputs(&written.graph), outputs(&graph));
    assert_eq!(found, expected);
}
