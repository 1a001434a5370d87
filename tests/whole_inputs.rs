//! Networks that take whole numbers: token ids, masks, pixels. By the evaluator and compiled, from arrays of any type.

mod common;
use assert_cmd::Command;
use catc::data::{DataError, DataSet, InputSpec, Preprocess, WholeNumbers};
use catc_ir::text::{NoBlobs, parse};
use common::catc;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

mod npy_bytes;
use npy_bytes::{f32_bytes, npy};

/// Ten rows of a table, of which four are picked, and what they give with a mask.
const TOKENS: &str = r#"graph @tokens float {
  c0 = const f32[10,8] random(1, normal, 1.0)
  c1 = const f32[4,8] random(2, normal, 0.5)
  c2 = const f32[1] [0.25]
input(v0: i64[N,3] "ids", v1: bool[N,3,1] "mask"):
  v2: f32[N,3,8] = gather c0, v0 {axis=0}
  v3: f32[N,3,1] = cast_f32 v1
  v4: f32[N,3,8] = mul v2, v3
  v5: f32[N,3,4] = linear v4, c1 "fc"
  output v5 "y"
}
"#;

struct Net {
    folder: TempDir,
    model: PathBuf,
}

fn net(text: &str) -> Net {
    let folder = tempfile::tempdir().unwrap();
    let graph = parse(text, &NoBlobs).unwrap_or_else(|e| panic!("{e}"));
    let model = folder.path().join("net.onnx");
    fs::write(&model, catc_onnx::export(&graph, &[]).unwrap()).unwrap();
    Net { folder, model }
}

impl Net {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn compile(&self, more: &[&str]) -> PathBuf {
        let bin = self.path("net.bin");
        catc().arg(&self.model).arg("-o").arg(&bin).args(more).assert().success();
        bin
    }

    fn run(&self, model: &Path, input: &Path) -> Command {
        let mut command = catc();
        command.arg("run").arg(model).arg("--input").arg(input).arg("--output").arg(self.path("y.npy"));
        command
    }

    /// The reals of the only output.
    fn outputs(&self, model: &Path, input: &Path) -> Vec<f32> {
        self.run(model, input).assert().success();
        let bytes = fs::read(self.path("y.npy")).unwrap();
        bytes[128..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// An .npz of ids and a mask for two samples.
    fn samples(&self, name: &str, ids: &[i64; 6]) -> PathBuf {
        let path = self.path(name);
        let mask = [1, 1, 0, 1, 0, 1];
        let arrays: [(&str, &[usize], _); 2] =
            [("ids", &[2, 3], catc::data::Elements::I64(ids)), ("mask", &[2, 3, 1], catc::data::Elements::I64(&mask))];
        catc::data::write_npz(&path, &arrays).unwrap();
        path
    }
}

#[test]
fn compiled_look_ups_are_those_of_the_evaluator() {
    let net = net(TOKENS);
    let input = net.samples("x.npz", &[0, 9, 4, -1, -10, 3]);
    let expected = net.outputs(&net.model, &input);
    assert_eq!(expected.len(), 24);
    assert!(expected[..4].iter().any(|x| *x != 0.0) && expected[8..12].iter().all(|x| *x == 0.0), "{expected:?}");
    let largest = |found: &[f32]| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let float = net.compile(&["--wbits", "32", "--abits", "32", "--first-last-bits", "32"]);
    assert!(largest(&net.outputs(&float, &input)) < 1e-5);
    let calib = input.to_str().unwrap();
    for more in [&["--calib", calib][..], &["--samples", "4"]] {
        let found = net.outputs(&net.compile(more), &input);
        assert!((1e-7..0.1).contains(&largest(&found)), "{more:?}: {}", largest(&found));
    }
    catc().arg("bench").arg(net.path("net.bin")).args(["--runs", "1"]).assert().success();
}

#[test]
fn an_index_outside_of_its_table_is_refused_before_the_run() {
    let net = net(TOKENS);
    let bad = net.samples("bad.npz", &[0, 1, 2, 3, 10, 5]);
    let bin = net.compile(&["--samples", "4"]);
    for model in [&net.model, &bin] {
        let text = net.run(model, &bad).assert().code(1).get_output().stderr.clone();
        let text = String::from_utf8(text).unwrap();
        let expected = "sample 1 holds 10 at position [1]; the network takes whole numbers from -10 to 9 there";
        assert!(text.contains(expected), "{text}");
        assert!(!net.path("y.npy").exists());
    }
    catc().arg(&net.model).arg("-o").arg(net.path("no.bin")).arg("--calib").arg(&bad).assert().code(1);
    assert!(!net.path("no.bin").exists());
}

fn open(bytes: &[u8], shape: &[usize], whole: WholeNumbers, text: Option<&str>) -> Result<Vec<i64>, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    fs::write(&path, bytes).unwrap();
    let preprocess = text.map(|t| Preprocess::from_toml(t, "p.toml").unwrap());
    let input = InputSpec { name: "x".into(), shape: shape.to_vec(), whole: Some(whole) };
    let sets = DataSet::open_inputs(&path, preprocess.as_ref(), &[input])?;
    sets[0].samples(&(0..sets[0].len()).collect::<Vec<_>>())
}

#[test]
fn whole_numbers_come_from_any_type_that_holds_them() {
    let byte = WholeNumbers { low: 0, high: 255, drawn: (0, 255) };
    let shape = "(2, 2)";
    let numbers = [0u8, 1, 7, 255];
    let all: [(&str, Vec<u8>); 6] = [
        ("|u1", numbers.to_vec()),
        ("<i2", numbers.iter().flat_map(|&n| i16::from(n).to_le_bytes()).collect()),
        ("<i8", numbers.iter().flat_map(|&n| i64::from(n).to_le_bytes()).collect()),
        ("<u8", numbers.iter().flat_map(|&n| u64::from(n).to_le_bytes()).collect()),
        ("<f4", f32_bytes(&numbers.map(f32::from))),
        ("<f8", numbers.iter().flat_map(|&n| f64::from(n).to_le_bytes()).collect()),
    ];
    for (descr, bytes) in all {
        assert_eq!(open(&npy(descr, false, shape, &bytes), &[2], byte, None).unwrap(), [0, 1, 7, 255], "{descr}");
    }
    assert_eq!(open(&npy("|b1", false, shape, &[0, 1, 1, 0]), &[2], byte, None).unwrap(), [0, 1, 1, 0]);
    let refused =
        |descr, bytes: &[u8]| open(&npy(descr, false, shape, bytes), &[2], byte, None).unwrap_err().to_string();
    let text = refused("<f4", &f32_bytes(&[0.0, 1.0, 2.5, 3.0]));
    assert!(
        text.contains("sample 1 holds 2.5 at position [0]; the network takes whole numbers from 0 to 255"),
        "{text}"
    );
    let text = refused("<f4", &f32_bytes(&[0.0, f32::NAN, 2.0, 3.0]));
    assert!(text.contains("sample 0 holds NaN at position [1]"), "{text}");
    let text = refused("<i2", &[0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(text.contains("sample 0 holds 256 at position [1]"), "{text}");
}

#[test]
fn pixels_stay_numbers_where_the_network_takes_them() {
    let byte = WholeNumbers { low: 0, high: 255, drawn: (0, 255) };
    let pixels: Vec<u8> = (0..2 * 2 * 3).collect();
    let bytes = npy("|u1", false, "(1, 2, 2, 3)", &pixels);
    let wide: Vec<i64> = pixels.iter().map(|&p| p.into()).collect();
    let planes = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11];
    assert_eq!(open(&bytes, &[2, 2, 3], byte, None).unwrap(), wide, "as the network takes them");
    assert_eq!(open(&bytes, &[3, 2, 2], byte, Some("")).unwrap(), planes, "channels moved");
    let text = open(&bytes, &[3, 2, 2], byte, Some("scale = 0.5")).unwrap_err().to_string();
    assert!(text.contains("leave out `scale`, `mean` and `std`"), "{text}");
}

#[test]
fn networks_that_take_channels_last_get_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let pixels: Vec<u8> = (0..2 * 4 * 3).collect();
    fs::write(&path, npy("|u1", false, "(1, 2, 4, 3)", &pixels)).unwrap();
    let expected: Vec<f32> = pixels.iter().map(|&p| f32::from(p) * 0.5).collect();
    for text in ["scale = 0.5", "scale = 0.5\nnetwork_layout = \"nhwc\""] {
        let preprocess = Preprocess::from_toml(text, "p.toml").unwrap();
        let set = DataSet::open(&path, Some(&preprocess), &[2, 4, 3]).unwrap();
        assert_eq!(set.sample::<f32>(0).unwrap(), expected, "{text}");
    }
    let other = Preprocess::from_toml("network_layout = \"nchw\"", "p.toml").unwrap();
    let text = DataSet::open(&path, Some(&other), &[2, 4, 3]).unwrap_err().to_string();
    assert!(text.contains("`network_layout` to \"nchw\" or \"nhwc\""), "{text}");
}
