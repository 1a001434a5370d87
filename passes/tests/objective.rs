//! What outputs are compared by: values keep their signal-to-noise ratio, classifiers are learned up to their scores whatever follows these,
//! several and dense outputs are refined, and nothing depends on the magnitude of activations.

use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Graph, Tensor};
use catc_passes::registry::parse_passes;
use catc_passes::{ObjectiveChoice, PassContext, PassManager, Samples};

/// Thirteen numbers to four in the hundreds.
const REGRESSOR: &str = "graph @regressor float {
  c0 = const f32[32,13] random(1, normal, 0.5)
  c1 = const f32[32,32] random(2, normal, 0.25)
  c2 = const f32[4,32] random(3, normal, 30.0)
  c3 = const f32[4] [200.0, 300.0, 120.0, 80.0]
input(v0: f32[N,13] \"x\"):
  v1: f32[N,32] = linear v0, c0
  v2: f32[N,32] = relu v1
  v3: f32[N,32] = linear v2, c1
  v4: f32[N,32] = relu v3
  v5: f32[N,4] = linear v4, c2, c3
  output v5 \"y\"
}
";

fn noise(i: usize, j: usize) -> f32 {
    let mixed = (i as u64 * 7919 + j as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 24) as f32 - 0.5
}

/// Samples of this shape, their elements about as large as `size`, from numbers that do not depend on how many there are.
fn samples(shape: &[usize], first: usize, count: usize, size: f32) -> Samples {
    let n: usize = shape.iter().product();
    let value = |i: usize, j: usize| size * (noise(i, j) + noise(i, j + n) + noise(i % 9, j) * 2.0);
    Samples((first..first + count).map(|i| vec![Tensor::f32(shape, (0..n).map(|j| value(i, j)).collect())]).collect())
}

struct Compiled {
    float: Graph,
    graph: Graph,
    notes: Vec<String>,
}

fn compile(text: &str, calibration: &Samples, passes: &str, objective: ObjectiveChoice) -> Compiled {
    let mut graph = parse(text, &NoBlobs).unwrap();
    let float = graph.clone();
    let mut cx = PassContext::with_calibration(calibration, 1);
    cx.cat_data = Some(calibration);
    cx.objective = objective;
    let list = format!("calibrate{{method=mse}}, {passes}");
    PassManager::new().run(&parse_passes(&list).unwrap(), &mut graph, &mut cx).unwrap();
    Compiled { float, graph, notes: cx.notes.into_iter().map(|n| n.text).collect() }
}

/// The signal-to-noise ratio of an output in dB.
fn snr(c: &Compiled, output: usize, unseen: &Samples) -> f64 {
    let run = |g: &Graph| {
        let interpreter = Interpreter::new(g).unwrap();
        map_images(unseen.0.len(), |i| interpreter.run(&unseen.0[i])).unwrap()
    };
    let (wanted, found) = (run(&c.float), run(&c.graph));
    let (mut signal, mut error) = (0.0, 0.0);
    for (w, f) in wanted.iter().zip(&found) {
        for (w, f) in w[output].as_f32().unwrap().iter().zip(f[output].as_f32().unwrap()) {
            signal += f64::from(*w).powi(2);
            error += f64::from(f - w).powi(2);
        }
    }
    10.0 * (signal / error).log10()
}

#[test]
fn no_method_lowers_the_signal_to_noise_ratio_of_values() {
    let calibration = samples(&[1, 13], 0, 512, 1.5);
    let unseen = samples(&[1, 13], 10_000, 500, 1.5);
    for bits in [2, 4, 8] {
        let insert = format!("insert-qdq{{wbits={bits}, abits={bits}}}");
        let run =
            |passes: &str| compile(REGRESSOR, &calibration, &format!("{insert}, {passes}"), ObjectiveChoice::Auto);
        let plain = snr(&run("dead-code"), 0, &unseen);
        for passes in [
            "append-cat",
            "correct-channels, append-cat",
            "search-scales",
            "reconstruct{iters=60, prediction_weight=1}, refine-scales{steps=60, code_rate=0.008}, append-cat",
            "reconstruct{iters=60, loss=fisher}",
        ] {
            let c = run(passes);
            let reached = snr(&c, 0, &unseen);
            // Unseen samples are others than those that decided: a hundredth of a dB is chance.
            assert!(reached > plain - 0.01, "{passes} at {bits} bits: {plain} -> {reached}: {:?}", c.notes);
            let gain = if passes.contains("refine") && bits == 2 { 2.0 } else { -0.01 };
            assert!(reached > plain + gain, "{passes} at {bits} bits: {plain} -> {reached}: {:?}", c.notes);
            let decided = c.notes.iter().any(|n| n.starts_with("compares output \"y\" as values"));
            assert!(decided || (passes == "search-scales" && bits == 8), "{:?}", c.notes);
        }
    }
}

const CLASSIFIER: &str = "graph @classifier float {
  c0 = const f32[8,2,3,3] random(3, normal, 0.5)
  c1 = const f32[8,8,3,3] random(4, normal, 0.25)
  c2 = const f32[6,8] random(7, normal, 0.5)
  c3 = const f32[] [0.5]
input(v0: f32[N,2,6,6] \"x\"):
  v1: f32[N,8,6,6] = conv2d v0, c0 {strides=[1,1], pads=[1,1,1,1]}
  v2: f32[N,8,6,6] = relu v1
  v3: f32[N,8,6,6] = conv2d v2, c1 {strides=[1,1], pads=[1,1,1,1]}
  v4: f32[N,8,6,6] = relu v3
  v5: f32[N,8] = reduce_mean v4 {axes=[2,3]}
  v6: f32[N,6] = linear v5, c2
";

const LEARNED: [&str; 3] = [
    "reconstruct{iters=4, loss=fisher}",
    "reconstruct{iters=4, prediction_weight=1, quant_drop_prob=0.5, input_mix_prob=0.5}",
    "reconstruct{iters=4, prediction_weight=1}, refine-scales{steps=20, batch=16}, append-cat, fold-cat",
];

#[test]
fn classifiers_are_learned_whatever_follows_their_scores() {
    let calibration = samples(&[1, 2, 6, 6], 0, 96, 2.0);
    for (tail, target) in [
        ("  v7: f32[N,6] = softmax v6 {axis=1}\n  output v7 \"y\"\n", "a softmax follows"),
        ("  v7: f32[N,6] = mul v6, c3\n  v8: f32[N,6] = softmax v7 {axis=1}\n  output v8 \"y\"\n", "a softmax follows"),
        (
            "  v7: f32[N,6] = softmax v6 {axis=1}\n  v8: f32[N,6] = identity v7\n  output v8 \"y\"\n",
            "a softmax follows",
        ),
        ("  v7: i64[N] = argmin v6 {axis=1}\n  output v7 \"y\"\n", "the least component is chosen"),
        (
            "  v7: f32[N,2] = top_k v6 {axis=1, k=2, largest=true}\n  output v7 \"y\"\n",
            "a choice of the largest follows",
        ),
        ("  v7: f32[N,6] = sigmoid v6\n  output v7 \"y\"\n", "a function to a bounded range makes it"),
        (
            "  v7: f32[N,6] = softmax v6 {axis=1}\n  output v7 \"y\"\n  output v6 \"z\"\n  output v2 \"map\"\n",
            "a softmax follows",
        ),
    ] {
        for passes in LEARNED {
            let list = format!("insert-qdq{{wbits=2, abits=2}}, {passes}, lower-integer");
            let c = compile(&format!("{CLASSIFIER}{tail}}}\n"), &calibration, &list, ObjectiveChoice::Auto);
            let notes = c.notes.join("\n");
            assert!(notes.contains(target), "{tail}: {notes}");
            // Kept, or learned and then given up for what it did to held-out images.
            let learned = notes.contains("learned") || notes.contains("held-out calibration images");
            assert!(!notes.contains("alone") && learned, "{tail} {passes}: {notes}");
        }
    }
}

#[test]
fn several_and_dense_outputs_are_refined() {
    // A map of three channels and four values of each image.
    let text = "graph @dense float {
  c0 = const f32[8,2,3,3] random(3, normal, 0.5)
  c1 = const f32[8,8,3,3] random(4, normal, 0.25)
  c2 = const f32[3,8,1,1] random(7, normal, 0.5)
  c3 = const f32[4,8] random(8, normal, 4.0)
input(v0: f32[N,2,6,6] \"x\"):
  v1: f32[N,8,6,6] = conv2d v0, c0 {strides=[1,1], pads=[1,1,1,1]}
  v2: f32[N,8,6,6] = relu v1
  v3: f32[N,8,6,6] = conv2d v2, c1 {strides=[1,1], pads=[1,1,1,1]}
  v4: f32[N,8,6,6] = relu v3
  v5: f32[N,3,6,6] = conv2d v4, c2 {strides=[1,1], pads=[0,0,0,0]}
  v6: f32[N,8] = reduce_mean v4 {axes=[2,3]}
  v7: f32[N,4] = linear v6, c3
  output v5 \"map\"
  output v7 \"values\"
}
";
    let calibration = samples(&[1, 2, 6, 6], 0, 200, 2.0);
    let unseen = samples(&[1, 2, 6, 6], 10_000, 200, 2.0);
    let run = |passes: &str, max_memory: usize| {
        let mut graph = parse(text, &NoBlobs).unwrap();
        let float = graph.clone();
        let mut cx = PassContext::with_calibration(&calibration, 1);
        cx.max_memory = max_memory;
        let list = format!("calibrate{{method=mse}}, insert-qdq{{wbits=2, abits=2}}, {passes}");
        PassManager::new().run(&parse_passes(&list).unwrap(), &mut graph, &mut cx).unwrap();
        Compiled { float, graph, notes: cx.notes.into_iter().map(|n| n.text).collect() }
    };
    let plain = run("dead-code", 1 << 30);
    for passes in ["correct-channels", "refine-scales{steps=100, batch=16, augment=none}"] {
        let c = run(passes, 1 << 30);
        for output in 0..2 {
            let (before, after) = (snr(&plain, output, &unseen), snr(&c, output, &unseen));
            assert!(after > before, "{passes}, output {output}: {before} -> {after}: {:?}", c.notes);
        }
    }
    // Outputs that do not fit the memory are computed again for each batch, by the way of recorded evaluations: the same but for rounding.
    let refine = "refine-scales{steps=20, batch=16, augment=none}";
    let (kept, again) = (run(refine, 1 << 20), run(refine, 120 * 448 * 4));
    for output in 0..2 {
        let (kept, again) = (snr(&kept, output, &unseen), snr(&again, output, &unseen));
        assert!((kept - again).abs() < 0.1, "{kept} {again}");
    }
}

#[test]
fn what_is_learned_does_not_depend_on_the_magnitude_of_activations() {
    // Input and first weights, or the weights of two layers in turn, by a factor and its inverse: the same network.
    let text = |first: f32, second: f32, third: f32| {
        format!(
            "graph @scaled float {{
  c0 = const f32[8,2,3,3] random(3, normal, {})
  c1 = const f32[8,8,3,3] random(4, normal, {})
  c2 = const f32[6,8] random(7, normal, {})
input(v0: f32[N,2,6,6] \"x\"):
  v1: f32[N,8,6,6] = conv2d v0, c0 {{strides=[1,1], pads=[1,1,1,1]}}
  v2: f32[N,8,6,6] = relu v1
  v3: f32[N,8,6,6] = conv2d v2, c1 {{strides=[1,1], pads=[1,1,1,1]}}
  v4: f32[N,8,6,6] = relu v3
  v5: f32[N,8] = reduce_mean v4 {{axes=[2,3]}}
  v6: f32[N,6] = linear v5, c2
  output v6 \"y\"
}}
",
            0.5 * first,
            0.25 * second,
            0.5 * third
        )
    };
    let run = |input: f32, weights: [f32; 3]| {
        let passes = "insert-qdq{wbits=2, abits=2}, reconstruct{iters=40, prediction_weight=1, scale_rate=auto, bias_rate=auto}, \
                      refine-scales{steps=40, batch=16, augment=none}";
        let calibration = samples(&[1, 2, 6, 6], 0, 120, 2.0 * input);
        let [a, b, c] = weights;
        let compiled = compile(&text(a, b, c), &calibration, passes, ObjectiveChoice::Regression);
        assert!(compiled.notes.iter().any(|n| n.starts_with("moved")), "{input} {weights:?}: {:?}", compiled.notes);
        snr(&compiled, 0, &samples(&[1, 2, 6, 6], 10_000, 200, 2.0 * input))
    };
    let plain = run(1.0, [1.0; 3]);
    for k in [1e-4, 1e-3, 1e3, 1e4] {
        for (input, weights) in [(k, [1.0 / k, 1.0, 1.0]), (1.0, [k, 1.0 / k, 1.0]), (1.0, [1.0, k, 1.0 / k])] {
            let scaled = run(input, weights);
            assert!((scaled - plain).abs() < 1.0, "{input} {weights:?}: {scaled} dB, {plain} unscaled");
        }
    }
}

#[test]
fn an_objective_that_no_output_has_is_an_error() {
    let text = REGRESSOR.replace("f32[4,32]", "f32[1,32]").replace("[200.0, 300.0, 120.0, 80.0]", "[200.0]");
    let text = text.replace("c3 = const f32[4]", "c3 = const f32[1]").replace("v5: f32[N,4]", "v5: f32[N,1]");
    let calibration = samples(&[1, 13], 0, 64, 1.0);
    let mut graph = parse(&text, &NoBlobs).unwrap();
    let mut cx = PassContext::with_calibration(&calibration, 1);
    cx.objective = ObjectiveChoice::Logits;
    let list = parse_passes("calibrate, insert-qdq{wbits=2, abits=2}, refine-scales{steps=2}").unwrap();
    let error = PassManager::new().run(&list, &mut graph, &mut cx).unwrap_err().to_string();
    assert!(error.contains("no output holds scores of two or more classes: \"y\" [N,1]"), "{error}");
}
