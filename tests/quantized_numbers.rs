//! Quantizers that kernels do not have, and codes that something else takes as numbers: machine code of every instruction set against
//! the evaluator on the graph as it was imported.

use catc_interp::{Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Tensor, TensorData};
use catc_passes::{PassContext, PassManager, QUANTIZED_RECIPE, parse_passes};
use catc_program::BuildInfo;
use catc_runtime::{ArrayData, InputArray, Model, SessionOptions, Tier};

const IMAGES: usize = 3;

/// The numbers of every output, by the evaluator and by machine code.
fn check(text: &str) {
    let mut graph = parse(text, &NoBlobs).unwrap();
    catc_ir::verify(&graph).unwrap();
    let shape = graph.value_type(graph.inputs[0].0).shape.at_batch(IMAGES);
    let count: usize = shape.iter().product();
    let mut x: Vec<f32> = (0..count).map(|i| ((i * 37) % 113) as f32 / 16.0 - 3.0).collect();
    x[1] = f32::NAN;
    x[2] = f32::INFINITY;
    let numbers = |t: &Tensor| match t.data() {
        TensorData::F32(v) => v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>(),
        TensorData::I64(v) => v.iter().map(|&n| n as f64).collect(),
        TensorData::Bool(_) | TensorData::Code(_) => panic!("no numbers"),
    };
    let expected = Interpreter::new(&graph).unwrap().run(&[Tensor::f32(&shape, x.clone())]).unwrap();
    let expected: Vec<Vec<f64>> = expected.iter().map(numbers).collect();
    let passes = parse_passes(QUANTIZED_RECIPE).unwrap();
    PassManager::new().run(&passes, &mut graph, &mut PassContext::empty()).unwrap();
    let model = Model::from_program(catc_codegen::lower(&graph, BuildInfo::default()).unwrap()).unwrap();
    for tier in Tier::available() {
        let session = model.session(&SessionOptions { threads: 1, tier: Some(tier), ..Default::default() }).unwrap();
        let found = session.run(&[InputArray::f32(&shape, &x)]).unwrap();
        for (output, expected) in found.iter().zip(&expected) {
            let found: Vec<f64> = match &output.data {
                ArrayData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
                ArrayData::Index(v) => v.iter().map(|&n| n.into()).collect(),
            };
            assert_eq!(found, *expected, "{tier:?}\n{text}");
        }
    }
}

/// `saturate(round(x / scale) + zero)`, and back.
fn round_trip(scale: &str, zero: &str, shape: &str, low: i32, high: i32) -> String {
    format!(
        "graph @g qdq {{\n  c0 = const f32{shape} {scale}\n  c1 = const f32{shape} {zero}\n\
         input(v0: f32[N,2,3,3] \"x\"):\n  v1: f32[N,2,3,3] = div v0, c0\n  v2: f32[N,2,3,3] = round v1\n  \
         v3: f32[N,2,3,3] = add v2, c1\n  v4: f32[N,2,3,3] = clip v3 {{min={low}.0, max={high}.0}}\n  \
         v5: i64[N,2,3,3] = cast_i64 v4\n  v6: f32[N,2,3,3] = cast_f32 v5\n  v7: f32[N,2,3,3] = sub v6, c1\n  \
         v8: f32[N,2,3,3] = mul v7, c0\n  v9: i64[N,3,2,3] = transpose v5 {{perm=[0,2,1,3]}}\n  \
         output v8 \"reals\"\n  output v5 \"codes\"\n  output v9 \"moved\"\n}}\n"
    )
}

#[test]
fn codes_of_sixteen_bits() {
    check(&round_trip("[0.0001]", "[32000.0]", "[1]", 0, 65535));
    check(&round_trip("[0.0001]", "[-7.0]", "[1]", -32768, 32767));
}

#[test]
fn a_scale_for_each_channel_and_scales_that_are_not_positive() {
    check(&round_trip("[0.5, 0.01]", "[3.0, -100.0]", "[2,1,1]", -128, 127));
    check(&round_trip("[-0.05]", "[9.0]", "[1]", 0, 255));
    check(&round_trip("[0.0]", "[9.0]", "[1]", 0, 255));
}

#[test]
fn codes_as_numbers() {
    check(
        "graph @g qdq {\n  q0 = quantizer u8 per_tensor scale [0.05] zero_point [100]\n  c0 = const f32[] [0.05]\n  \
         c1 = const f32[] [100.0]\n  c2 = const i64[2,1,1] [5, -3]\n  c3 = const i64[] [100]\n\
         input(v0: f32[N,2,3,3] \"x\"):\n  v1: u8<q0>[N,2,3,3] = quantize v0, q0\n  v2: f32[N,2,3,3] = dequantize v1\n  \
         v3: f32[N,2,3,3] = div v2, c0\n  v4: f32[N,2,3,3] = round v3\n  v5: f32[N,2,3,3] = add v4, c1\n  \
         v6: f32[N,2,3,3] = clip v5 {min=0.0, max=255.0}\n  v7: i64[N,2,3,3] = cast_i64 v6\n  \
         v8: i64[N,2,3,3] = add v7, c2\n  v9: f32[N,2,3,3] = cast_f32 v7\n  v10: i64[N,3,3] = argmin v9 {axis=1}\n  \
         v11: i64[N,2,3,3] = max v7, c3\n  \
         output v7 \"codes\"\n  output v8 \"sums\"\n  output v9 \"reals\"\n  output v10 \"least\"\n  output v11 \"larger\"\n}\n",
    );
}
