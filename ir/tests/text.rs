//! The text form: what it prints, that it round-trips, and what it says of broken texts.

use catc_ir::ops::{Body, Conv2d, Epilogue, EpilogueEnd, EpilogueStep, Fused, Unary};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Dim, Element, Graph, Op, Phase, QFormat, Quantizer, Shape, Tensor, TensorType, verify};
use catc_scalar::Binary;

const QDQ: &str = r#"graph @tiny qdq {
  q0 = quantizer u2 per_tensor scale [0.41] zero_point [1]
  q3 = quantizer i2 per_axis 0 scale [0.11, 1e-8] zero_point [0, -1]
  c0 = const f32[2,4,3,3] random(7, normal, 0.1)
  c2 = const f32[2] [0.0, -inf]
input(v0: f32[N,4,8,8] "a \"quoted\" name"):
  v3: u2<q0>[N,4,8,8] = quantize v0, q0
  v4: f32[N,4,8,8] = dequantize v3
  v5: i2<q3>[2,4,3,3] = quantize c0, q3 // weights
  v6: f32[2,4,3,3] = dequantize v5
  v1: f32[N,2,6,6] = conv2d v4, v6, c2 {strides=[1,1], pads=[0,0,0,0]} "conv1"
  v7: f32[N,2,6,6] = clip v1 {min=0.0, max=inf}
  v8: f32[2N,36] = reshape v7 {shape=[2N,36]}
  output v8 "out"
}
"#;

#[test]
fn text_round_trips_and_keeps_its_numbers() {
    let graph = parse(QDQ, &NoBlobs).unwrap();
    verify(&graph).unwrap();
    let printed = graph.to_string();
    insta::assert_snapshot!(printed);
    let inline = printed.replace("blob 0 #", "random(7, normal, 0.1) //");
    assert_eq!(parse(&inline, &NoBlobs).unwrap().to_string(), printed);
}

#[test]
fn fused_nodes_round_trip() {
    let mut g = Graph::new("fused");
    g.phase = Phase::Integer;
    let u2 = QFormat::new(false, 2).unwrap();
    let q0 = g.add_quantizer(Quantizer::per_tensor(u2, 0.5, 1));
    let q1 = g.add_quantizer(Quantizer::per_axis(QFormat::new(true, 2).unwrap(), 0, vec![0.5; 3], vec![0; 3]));
    let x = g.add_input(
        "x",
        TensorType::new(Element::Code(q0), Shape::new([Dim::N, Dim::Fixed(1), Dim::Fixed(2), Dim::Fixed(2)])),
    );
    let w = g.add_codes(Tensor::codes(&[3, 1, 1, 1], vec![-2, 0, 1]), q1);
    let m = g.add_constant(Tensor::f32(&[3], vec![0.25; 3]));
    let steps = vec![
        EpilogueStep::Binary { op: Binary::Add, operand: 4, scale: 0.5 },
        EpilogueStep::Unary(Unary::Clip { min: 0.0, max: 6.0 }),
        EpilogueStep::Scale(2.0),
    ];
    let epilogue = Epilogue { steps, end: EpilogueEnd::Requantize };
    let fused = Fused { body: Body::Conv2d(Conv2d::default()), epilogue, output: Some(q0) };
    let skip = g.add_input("skip", TensorType::f32(Shape::fixed(&[1])));
    let y = g.append(Op::Fused(fused), [x.into(), w.into(), m.into(), m.into(), skip.into()], "conv").unwrap();
    g.add_output("y", y);
    verify(&g).unwrap();
    let text = g.to_string();
    insta::assert_snapshot!(text);
    assert_eq!(parse(&text, &NoBlobs).unwrap().to_string(), text);
}

/// `round` is a function in an epilogue without an output quantizer, and the end of one with.
#[test]
fn rounding_is_a_step_or_the_end() {
    let mut g = Graph::new("rounding");
    g.phase = Phase::Integer;
    let q0 = g.add_quantizer(Quantizer::per_tensor(QFormat::new(false, 4).unwrap(), 0.5, 1));
    let x = g.add_input("x", TensorType::f32(Shape::new([Dim::N, Dim::Fixed(2)])));
    let steps = vec![EpilogueStep::Unary(Unary::Round)];
    for (end, output) in
        [(EpilogueEnd::Real, None), (EpilogueEnd::Round, Some(q0)), (EpilogueEnd::Requantize, Some(q0))]
    {
        let fused = Fused { body: Body::Map { scale: 1.0 }, epilogue: Epilogue { steps: steps.clone(), end }, output };
        let y = g.append(Op::Fused(fused), [x.into()], "").unwrap();
        g.add_output(format!("{end:?}"), y);
    }
    let text = g.to_string();
    let read = parse(&text, &NoBlobs).unwrap();
    assert_eq!(
        read.nodes().iter().map(|n| &n.op).collect::<Vec<_>>(),
        g.nodes().iter().map(|n| &n.op).collect::<Vec<_>>()
    );
    let early = text.replacen("[round, requantize]", "[requantize, round]", 1);
    assert!(parse(&early, &NoBlobs).unwrap_err().to_string().contains("a list of steps"));
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        ("", "line 1, column 1: expected `graph`, found the end"),
        ("graph @g weird {", "line 1, column 10: `weird` is no phase: float, qdq or integer"),
        (&QDQ.replace("conv2d v4", "conv2d v9"), "line 11, column 29: v9 is not defined before it"),
        (&QDQ.replace("u2<q0>", "u3<q0>"), "line 7, column 7: q0 is u2, not u3"),
        (&QDQ.replace("strides", "stride"), "line 11, column 22: conv2d: unknown attribute `stride`"),
        (&QDQ.replace("c2 = ", "c2000000 = "), "line 5, column 3: ids go up to c1048576"),
        (&QDQ.replace("[0.0, -inf]", "[0.0]"), "line 5, column 21: 1 elements for [2]"),
        (&QDQ.replace("random(7, normal, 0.1)", "blob 0"), "line 4, column 27: blob 0 is not there"),
    ];
    for (text, message) in cases {
        let found = parse(text, &NoBlobs).unwrap_err().to_string();
        assert!(found.starts_with(message), "{found}\nshould start with\n{message}");
    }
}

#[test]
fn verifier_reports_everything_at_once() {
    let broken = QDQ
        .replace("scale [0.41]", "scale [-1.0]")
        .replace("zero_point [0, -1]", "zero_point [0, 7]")
        .replace("f32[N,2,6,6] = clip", "f32[N,2,6,7] = clip")
        .replace("tiny qdq", "tiny float");
    let found = verify(&parse(&broken, &NoBlobs).unwrap()).unwrap_err();
    insta::assert_snapshot!(found.iter().map(|v| v.to_string()).collect::<Vec<_>>().join("\n"));
}
