//! What `--emit qdq-onnx` writes, read by others: `tests/emitted/check.py` runs ONNX's checker, ONNX Runtime and OpenVINO on it
//! where `python3` has them, in the folder `$CATC_ONNX_READERS` or anywhere else, and says so where it has not.

mod common;
use catc_ir::text::{NoBlobs, parse};
use common::catc;
use std::path::Path;
use std::process::Command;

/// Networks between the parts that all have: a layer before and one behind, whose nodes have one name, as those have that an importer
/// makes of one node. Each line computes `v20: f32[N,4,..]` from `v4: f32[N,4,7,6]`, and says the sides of what it gives.
const PARTS: &[(&str, &str, [usize; 2])] = &[
    (
        "max_pool",
        "v20: f32[N,4,3,3] = max_pool v4 {kernel=[2,2], strides=[3,3], pads=[1,1,1,1], ceil_mode=true} \"n\"",
        [3, 3],
    ),
    (
        "max_pool_over",
        "v20: f32[N,4,3,3] = max_pool v4 {kernel=[3,3], strides=[3,2], pads=[0,0,0,0], ceil_mode=true} \"n\"",
        [3, 3],
    ),
    (
        "avg_pool",
        "v20: f32[N,4,3,3] = avg_pool v4 {kernel=[3,3], strides=[3,2], pads=[0,0,0,0], ceil_mode=true} \"n\"",
        [3, 3],
    ),
    (
        "avg_pool_counting",
        "v20: f32[N,4,3,3] = avg_pool v4 {kernel=[3,3], strides=[3,3], pads=[1,1,1,1], ceil_mode=true, count_include_pad=true} \"n\"",
        [3, 3],
    ),
    (
        "norm",
        "v5: f32[N,4,42] = reshape v4 {shape=[N,4,42]} \"n\"\n  v6: f32[N,4,42] = layer_norm v5 {eps=0.001} \"n\"\n  \
         v20: f32[N,4,7,6] = reshape v6 {shape=[N,4,7,6]} \"n\"",
        [7, 6],
    ),
    (
        "spaced",
        "v5: f32[N,4,7,1,6] = reshape v4 {shape=[N,4,7,1,6]} \"n\"\n  \
         v6: f32[N,4,7,2,6] = pad v5 {before=[0,0,0,0,0], after=[0,0,0,1,0]} \"n\"\n  \
         v7: f32[N,4,14,6] = reshape v6 {shape=[N,4,14,6]} \"n\"\n  \
         v20: f32[N,4,13,6] = slice v7 {axis=2, start=0, end=13} \"n\"",
        [13, 6],
    ),
    (
        "turned",
        "v5: f32[N,4,7,3] = gather v4, c5 {axis=3} \"n\"\n  v6: f32[N,4,3,7] = transpose v5 {perm=[0,1,3,2]} \"n\"\n  \
         v20: f32[N,4,6,7] = concat v6, v6 {axis=2} \"n\"",
        [6, 7],
    ),
    (
        "between",
        "v5: f32[N,4,7,9] = interpolate v4, c6, c7 {axis=3} \"n\"\n  v20: f32[N,4,9,9] = interpolate v5, c6, c7 {axis=2} \"n\"",
        [9, 9],
    ),
    (
        "functions",
        "v5: f32[N,4,7,6] = hard_swish v4 \"n\"\n  v6: f32[N,4,7,6] = sigmoid v4 \"n\"\n  v7: f32[N,4,7,6] = mul v5, v6 \"n\"\n  \
         v8: f32[N,4,7,6] = gelu v4 \"n\"\n  v9: f32[N,4,7,6] = clip v8 {min=-1.0, max=2.0} \"n\"\n  \
         v10: f32[N,4,7,6] = softmax v4 {axis=1} \"n\"\n  v11: f32[N,4,7,6] = add v7, v9 \"n\"\n  \
         v20: f32[N,4,7,6] = sub v11, v10 \"n\"",
        [7, 6],
    ),
    (
        "gate",
        "v5: f32[N,4,1,1] = reduce_mean v4 {axes=[2,3], keep_dims=true} \"n\"\n  v6: f32[N,4,1,1] = hard_sigmoid v5 {alpha=0.2, \
         beta=0.5} \"n\"\n  v20: f32[N,4,7,6] = mul v4, v6 \"n\"",
        [7, 6],
    ),
    ("tensor", "v20: f32[N,4,7,6] = leaky_relu v4 {alpha=0.1} \"v3\"", [7, 6]),
];

/// The network around a part.
fn network(part: &str) -> String {
    let weights = |count: usize, by: usize| {
        let items = (0..count).map(|i| format!("{:?}", ((i * by) % 19) as f32 / 16.0 - 0.5));
        items.collect::<Vec<_>>().join(", ")
    };
    format!(
        "graph @net float {{\n  c0 = const f32[4,3,1,1] [{}]\n  c1 = const f32[4] [0.5, -0.25, 0.0, 1.0]\n  \
         c2 = const f32[5,4,1,1] [{}]\n  c3 = const f32[5] [{}]\n  c5 = const i64[3] [4, 0, 2]\n  \
         c6 = const i64[9,2] [0, 1, 0, 0, 1, 2, 1, 1, 2, 3, 3, 2, 4, 3, 4, 5, 5, 5]\n  c7 = const f32[9,2] [{}]\n\
         input(v0: f32[N,3,7,6] \"x\"):\n  v3: f32[N,4,7,6] = conv2d v0, c0, c1 {{strides=[1,1], pads=[0,0,0,0]}} \"n\"\n  \
         v4: f32[N,4,7,6] = relu v3 \"n\"\n  {part}\n  SIDES conv2d v20, c2, c3 {{strides=[1,1], pads=[0,0,0,0]}} \"n\"\n  \
         output v21 \"y\"\n}}\n",
        weights(12, 7),
        weights(20, 11),
        weights(5, 3),
        weights(18, 5),
    )
}

fn npy(path: &Path, shape: &[usize], items: &[f32]) {
    let shape: Vec<String> = shape.iter().map(|n| n.to_string()).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", shape.join(", "));
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(items.iter().flat_map(|x| x.to_le_bytes()));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn written_models_are_read_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: String| dir.path().join(name);
    let images: Vec<f32> = (0..8 * 126).map(|i| ((i * 37) % 101) as f32 / 32.0 - 1.5).collect();
    let calibration = tempfile::tempdir().unwrap();
    let source = calibration.path().join("x.npy");
    npy(&source, &[8, 3, 7, 6], &images);
    for (name, part, [height, width]) in PARTS {
        let text = network(part).replace("SIDES", &format!("v21: f32[N,5,{height},{width}] ="));
        let graph = parse(&text, &NoBlobs).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
        catc_ir::verify(&graph).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let float = at(format!("{name}.onnx"));
        std::fs::write(&float, catc_onnx::export(&graph, &[]).unwrap()).unwrap();
        let run = |model: &Path, stem: &str| {
            std::fs::copy(&source, at(format!("{stem}.input.npy"))).unwrap();
            let output = at(format!("{stem}.output.npy"));
            catc().arg("run").arg(model).arg("--input").arg(&source).arg("--output").arg(output).assert().success();
        };
        run(&float, name);
        for bits in ["8", "3"] {
            let stem = format!("{name}_{bits}");
            let (written, bin) = (at(format!("{stem}.onnx")), at(format!("{stem}.bin")));
            let mut command = catc();
            command.arg(&float).arg("-o").arg(&bin).args(["--wbits", bits, "--abits", bits, "--method", "minmax"]);
            command.args(["--first-last-bits", bits, "--no-cat", "--calib"]).arg(&source);
            command.arg("--emit").arg(format!("qdq-onnx={}", written.display())).assert().success();
            run(&bin, &stem);
        }
    }
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emitted/check.py")).arg(dir.path());
    if let Some(folder) = std::env::var_os("CATC_ONNX_READERS") {
        python.env("PYTHONPATH", folder);
    }
    match python.output() {
        Err(error) => println!("skipped: python3 cannot be run: {error}"),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            print!("{said}");
            assert!(out.status.success(), "{said}");
        }
    }
}
