//! What the correction of the logits keeps and improves: folding keeps its values, lowering takes it, images that nothing
//! was fitted to gain, and the number of threads does not matter.

use catc_interp::images::map_images;
use catc_interp::metrics::mean_kl_divergence;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::text::{NoBlobs, parse};
use catc_ir::{Graph, Op, Tensor};
use catc_passes::registry::parse_passes;
use catc_passes::{ObjectiveChoice, PassContext, PassManager, Samples};

const NETWORK: &str = "graph @small float {
  c0 = const f32[12,2,3,3] random(3, normal, 0.4)
  c1 = const f32[16,12,3,3] random(4, normal, 0.2)
  c2 = const f32[10,16] random(5, normal, 2.5)
input(v0: f32[N,2,8,8] \"x\"):
  v1: f32[N,12,6,6] = conv2d v0, c0 {strides=[1,1], pads=[0,0,0,0]}
  v2: f32[N,12,6,6] = relu v1
  v3: f32[N,16,4,4] = conv2d v2, c1 {strides=[1,1], pads=[0,0,0,0]}
  v4: f32[N,16,4,4] = relu v3
  v5: f32[N,16] = reduce_mean v4 {axes=[2,3]}
  v6: f32[N,10] = linear v5, c2
  output v6 \"logits\"
}
";

/// Images of a few kinds with noise, from numbers that do not depend on how many there are.
fn images(first: usize, count: usize) -> Samples {
    let noise = |i: usize, j: usize| {
        let mixed = (i as u64 * 7919 + j as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let pixel = |i: usize, j: usize| ((j * (1 + i % 7)) as f32 * 0.3).sin() + 1.5 * noise(i, j);
    let image = |i| vec![Tensor::f32(&[1, 2, 8, 8], (0..128).map(|j| pixel(i, j)).collect())];
    Samples((first..first + count).map(image).collect())
}

/// The network after `passes`, with the float network.
fn compile(passes: &str, seed: u64) -> (Graph, Graph) {
    let mut graph = parse(NETWORK, &NoBlobs).unwrap();
    let float = graph.clone();
    let (calibration, cat) = (images(0, 32), images(1000, 400));
    let mut cx = PassContext::with_calibration(&calibration, seed);
    cx.objective = ObjectiveChoice::Logits;
    cx.cat_data = Some(&cat);
    let list = format!("calibrate{{method=mse}}, insert-qdq{{wbits=2, abits=2}}, {passes}");
    PassManager::new().run(&parse_passes(&list).unwrap(), &mut graph, &mut cx).unwrap();
    (graph, float)
}

fn outputs(graph: &Graph, images: &Samples) -> Vec<f32> {
    let interpreter = Interpreter::new(graph).unwrap();
    let rows = map_images(images.0.len(), |i| interpreter.run(&images.0[i]));
    rows.unwrap().iter().flat_map(|r| r[0].as_f32().unwrap().to_vec()).collect()
}

/// Rows that differ by more than `tolerance`, relative to the largest logit.
fn differing(a: &[f32], b: &[f32], tolerance: f32) -> usize {
    let largest = a.iter().fold(0f32, |m, x| m.max(x.abs()));
    let differ = |(a, b): (&[f32], &[f32])| a.iter().zip(b).any(|(a, b)| (a - b).abs() > tolerance * largest);
    a.chunks(10).zip(b.chunks(10)).filter(|&p| differ(p)).count()
}

#[test]
fn folding_keeps_the_values() {
    let unseen = images(5000, 500);
    for (options, nodes) in [("clusters=8, pca=4, alpha=0.5", 6), ("clusters=1", 2)] {
        let (appended, _) = compile(&format!("append-cat{{{options}}}"), 1);
        let (folded, _) = compile(&format!("append-cat{{{options}}}, fold-cat"), 1);
        let (plain, _) = compile("dead-code", 1);
        assert_eq!(folded.nodes().len() - plain.nodes().len(), nodes, "{options}");
        let (a, b) = (outputs(&appended, &unseen), outputs(&folded, &unseen));
        // Near-ties between clusters may round differently.
        assert!(differing(&a, &b, 1e-4) <= 1, "{options}: {}", differing(&a, &b, 1e-4));
        assert!(differing(&a, &outputs(&plain, &unseen), 1e-2) > 400, "{options} changes the logits");
    }
}

#[test]
fn unseen_images_gain() {
    let unseen = images(5000, 1000);
    let (plain, float) = compile("dead-code", 1);
    let (corrected, _) = compile("append-cat, fold-cat", 1);
    let fp = outputs(&float, &unseen);
    let kl = |graph: &Graph| mean_kl_divergence(&fp, &outputs(graph, &unseen), 10, 1.0);
    let (before, after) = (kl(&plain), kl(&corrected));
    assert!(after < 0.8 * before, "{before} -> {after}");
}

#[test]
fn lowering_takes_the_folded_correction() {
    let unseen = images(5000, 200);
    for options in ["clusters=8, pca=4, alpha=0.5", "clusters=1"] {
        let (folded, _) = compile(&format!("append-cat{{{options}}}, fold-cat"), 1);
        let (lowered, _) = compile(&format!("append-cat{{{options}}}, fold-cat, lower-integer, fold-scales"), 1);
        assert!(lowered.nodes().iter().any(|n| matches!(n.op, Op::Fused(_))));
        let different = differing(&outputs(&folded, &unseen), &outputs(&lowered, &unseen), 0.02);
        assert!(different <= 6, "{options}: {different} of 200");
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| compile("append-cat, fold-cat", 3).0.to_string())
    };
    assert_eq!(run(1), run(3));
}
