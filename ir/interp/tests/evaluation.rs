//! What an evaluation runs, shows and refuses, and that neither threads nor the batch change its results.

use catc_interp::images::map_images;
use catc_interp::{EvalError, Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{ConstId, Graph, QFormat, Quantizer, QuantizerId, Shape, Tensor, ValueId};
use cranelift_entity::EntityRef;
use std::sync::Arc;

const NET: &str = r#"graph @net qdq {
  q0 = quantizer u4 per_tensor scale [0.25] zero_point [8]
  q1 = quantizer i4 per_axis 0 scale [0.05, 0.06, 0.07, 0.08] zero_point [0, 1, 0, -1]
  c0 = const f32[4,3,3,3] random(1, normal, 0.2)
  c1 = const f32[4] [0.1, -0.1, 0.2, 0.0]
  c2 = const f32[5,4] random(2, normal, 0.5)
input(v0: f32[N,3,9,9] "x"):
  v1: u4<q0>[N,3,9,9] = quantize v0, q0
  v2: f32[N,3,9,9] = dequantize v1
  v3: i4<q1>[4,3,3,3] = quantize c0, q1
  v4: f32[4,3,3,3] = dequantize v3
  v5: f32[N,4,5,5] = conv2d v2, v4, c1 {strides=[2,2], pads=[1,1,1,1]}
  v6: f32[N,4,5,5] = relu v5
  v7: f32[N,4,5,5] = add v6, v6
  v8: f32[N,4] = reduce_mean v7 {axes=[2,3]}
  v9: f32[N,5] = linear v8, c2
  v10: f32[N,5] = sigmoid v9
  output v9 "logits"
}
"#;

fn graph() -> Graph {
    parse(NET, &NoBlobs).unwrap()
}

fn images(n: usize) -> Tensor {
    let data = (0..n * 243).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::f32(&[n, 3, 9, 9], data)
}

fn v(i: usize) -> ValueId {
    ValueId::new(i)
}

#[test]
fn batches_and_threads_do_not_change_results() {
    let net = Interpreter::new(&graph()).unwrap();
    let all = images(13);
    let together = net.run(std::slice::from_ref(&all)).unwrap().remove(0);
    let one = |i: usize| Tensor::f32(&[1, 3, 9, 9], all.as_f32().unwrap()[i * 243..][..243].to_vec());
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let rows = pool.install(|| map_images(13, |i| net.run(&[one(i)]))).unwrap();
        let rows: Vec<f32> = rows.iter().flat_map(|r| r[0].as_f32().unwrap()).copied().collect();
        assert_eq!(rows, together.as_f32().unwrap());
    }
}

#[test]
fn the_tail_runs_from_given_values() {
    let net = Interpreter::new(&graph()).unwrap();
    let x = images(2);
    let all = net.run_to(std::slice::from_ref(&x), &[v(6), v(9), v(4), v(0), v(6)]).unwrap();
    assert_eq!((&all[3], &all[4]), (&x, &all[0]));
    let tail = net.run_from(&[(v(6), &all[0])], &[v(9), v(6), v(10)]).unwrap();
    assert_eq!((&tail[0], &tail[1]), (&all[1], &all[0]));
    assert_eq!(net.run_from(&[(v(7), &all[0])], &[v(6)]), Err(EvalError::NotGiven(v(0))));
    assert_eq!(net.run_from(&[], &[v(4)]).unwrap()[0], all[2]);
}

#[test]
fn observers_see_every_value_in_order() {
    let net = Interpreter::new(&graph()).unwrap();
    let x = images(1);
    let mut seen = vec![];
    let out = net.run_observed(std::slice::from_ref(&x), &mut |v, t| seen.push((v, t.clone()))).unwrap();
    let ids: Vec<_> = seen.iter().map(|(v, _)| *v).collect();
    assert_eq!(ids, [0, 1, 2, 5, 6, 7, 8, 9, 10].map(v));
    assert_eq!(out[0], seen[7].1);
    let wanted = net.run_to(&[x], &ids).unwrap();
    assert!(wanted.iter().zip(&seen).all(|(a, (_, b))| a == b));
}

#[test]
fn replaced_quantizers_and_constants_act_as_a_new_graph() {
    let x = images(1);
    let q0 = Quantizer::per_tensor(QFormat::new(false, 4).unwrap(), 0.125, 7);
    let mut q1 = graph().quantizer(QuantizerId::new(1)).clone();
    q1.scale[2] = 0.03;
    let c0 = Arc::new(Tensor::f32(&[4, 3, 3, 3], (0..108).map(|i| i as f32 * 0.01 - 0.5).collect()));

    let mut net = Interpreter::new(&graph()).unwrap();
    let before = net.clone();
    net.set_quantizer(QuantizerId::new(0), q0.clone()).unwrap();
    net.set_quantizer(QuantizerId::new(1), q1.clone()).unwrap();
    net.set_constant(ConstId::new(0), c0.clone()).unwrap();

    let mut changed = graph();
    *changed.quantizer_mut(QuantizerId::new(0)) = q0.clone();
    *changed.quantizer_mut(QuantizerId::new(1)) = q1;
    let element = changed.constant(ConstId::new(0)).element;
    changed.set_constant(ConstId::new(0), catc_ir::Constant { element, tensor: c0 });
    let fresh = Interpreter::new(&changed).unwrap();
    let run = |net: &Interpreter| net.run(std::slice::from_ref(&x)).unwrap();
    assert_eq!(run(&net), run(&fresh));
    assert_ne!(run(&net), run(&before));

    let mut bad = q0.clone();
    bad.scale[0] = 0.0;
    assert!(matches!(net.set_quantizer(QuantizerId::new(0), bad), Err(EvalError::Replacement { .. })));
    assert!(matches!(net.set_quantizer(QuantizerId::new(1), q0), Err(EvalError::Replacement { .. })));
    let short = Arc::new(Tensor::f32(&[4], vec![0.0; 4]));
    assert!(matches!(net.set_constant(ConstId::new(0), short), Err(EvalError::Replacement { .. })));
    assert_eq!(run(&net), run(&fresh));
}

#[test]
fn wrong_tensors_are_refused() {
    let net = Interpreter::new(&graph()).unwrap();
    assert_eq!(net.run(&[]), Err(EvalError::InputCount { expected: 1, found: 0 }));
    let bad = Tensor::f32(&[1, 3, 9, 8], vec![0.0; 216]);
    let expected = "v0: a tensor of shape [1, 3, 9, 8] was given, [N,3,9,9] is needed";
    assert_eq!(net.run(&[bad]).unwrap_err().to_string(), expected);
    let bad = Tensor::i64(&[1, 3, 9, 9], vec![0; 243]);
    assert_eq!(net.run(&[bad]).unwrap_err().to_string(), "v0: f32 elements are needed");
    let codes = Tensor::codes(&[1, 3, 9, 9], vec![16; 243]);
    let found = net.run_from(&[(v(1), &codes)], &[v(2)]).unwrap_err().to_string();
    assert_eq!(found, "v1: 16 is no code of u4");
    let (a, b) = (images(2), images(3));
    let found = net.run_from(&[(v(0), &a), (v(2), &b)], &[v(9)]);
    assert_eq!(found, Err(EvalError::Batch { value: v(2), expected: 2, found: 3 }));
    assert_eq!(net.run_to(&[a], &[v(99)]), Err(EvalError::Unknown(v(99))));
}

#[test]
fn memory_is_bounded_before_it_is_taken() {
    let net = Interpreter::new(&graph()).unwrap();
    assert!(net.peak_bytes(1) > 243 * 6 && net.peak_bytes(1) < 20_000);
    let small = net.clone().with_memory_limit(10_000);
    small.run(&[images(1)]).unwrap();
    assert!(matches!(small.run(&[images(4)]), Err(EvalError::Memory { batch: 4, limit: 10_000, .. })));

    let mut huge = Graph::new("huge");
    let x = huge.add_input("x", catc_ir::TensorType::f32(Shape::fixed(&[1])));
    let pad = catc_ir::ops::Pad { before: vec![1 << 60], after: vec![1 << 60], value: 0.0 };
    let y = huge.append(catc_ir::Op::Pad(pad), [x.into()], "").unwrap();
    huge.add_output("y", y);
    let net = Interpreter::new(&huge).unwrap();
    assert!(matches!(net.run(&[Tensor::f32(&[1], vec![0.0])]), Err(EvalError::Memory { .. })));
}

#[test]
fn invalid_graphs_are_refused() {
    let mut g = graph();
    g.phase = catc_ir::Phase::Float;
    let Err(EvalError::Invalid(message)) = Interpreter::new(&g) else { panic!("accepted") };
    assert!(message.contains("codes in the float phase"), "{message}");
}
