//! `catc opt FILE.catir --passes a,b{opt=..}`

use super::args::OptArgs;
use super::files::Files;
use super::progress::Bars;
use super::{Failure, NO_CALIBRATION_DATA, note_renamed, on_threads, preprocess, print};
use crate::data::{Elements, Npz, write_atomically, write_npz};
use crate::driver::{Calibration, CalibrationSource};
use catc_ir::text::{Blobs, INLINE_ELEMENTS, NoBlobs, parse};
use catc_ir::{Graph, Tensor, TensorData};
use catc_onnx::WholeType;
use catc_passes::{PassContext, PassManager, PassReport, parse_passes, pass_help, pass_names, renamed_options};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Runs passes on a graph in text form.
pub fn run(args: &OptArgs) -> Result<(), Failure> {
    if args.list {
        return print(&pass_help());
    }
    let (Some(path), Some(list)) = (&args.graph, &args.passes) else {
        return Err(Failure::Usage("a graph and --passes are needed, or --list".into()));
    };
    let passes = parse_passes(list).map_err(|e| Failure::Usage(e.to_string()))?;
    note_renamed(renamed_options(list).map_err(|e| Failure::Usage(e.to_string()))?);
    if let Some(pass) = &args.print_after {
        check_print_after(pass)?;
    }
    Files::new()
        .read("the graph", path.as_path())
        .read("--blobs", args.blobs.as_deref())
        .read("--calib", args.calibration.calib.as_deref())
        .read("--preprocess", args.calibration.preprocess.as_deref())
        .write("-o", args.output.as_deref())
        .write("--emit-blobs", args.emit_blobs.as_deref())
        .check()?;
    let (mut graph, whole) = read_graph(path, args.blobs.as_deref(), &args.shape, args.memory.max_memory)?;
    let preprocess = preprocess(args.calibration.preprocess.as_deref())?;
    let source = CalibrationSource {
        path: args.calibration.calib.as_deref(),
        preprocess: preprocess.as_ref(),
        limit: args.calibration.samples.map(|n| n as usize),
        correction: None,
        holdout: 0,
    };
    // No correction is fitted on random inputs, which say nothing of the outputs.
    let calibration = Calibration::open(&source, &graph, &whole, source.path.is_some(), args.seed)?;
    calibration.notes.iter().for_each(|n| eprintln!("note: {n}"));
    let bars = Bars::new();
    let result = on_threads(args.threads, || {
        let mut cx = PassContext::with_calibration(&calibration.ranges, args.seed);
        cx.cat_data = calibration.correction.as_ref().map(|c| c as &dyn catc_passes::CalibrationData);
        cx.progress = &bars;
        cx.objective = args.objective;
        let after = |report: &PassReport, graph: &Graph| print_after(args.print_after.as_deref(), report, graph);
        PassManager::new().observe(after).run(&passes, &mut graph, &mut cx).map(|reports| (reports, cx.notes))
    })?;
    bars.clear();
    let (reports, notes) = result?;
    if calibration.synthetic && calibration.ranges.was_read() {
        eprintln!("{NO_CALIBRATION_DATA}");
    }
    for report in reports {
        eprintln!("{}: {}", report.pass, report.changed);
    }
    for note in notes {
        eprintln!("note: {}: {}", note.pass, note.text);
    }
    if let Some(path) = &args.emit_blobs {
        emit_blobs(&graph, path)?;
    }
    let text = graph.to_string();
    match &args.output {
        Some(path) => Ok(write_atomically(path, |file| std::io::Write::write_all(file, text.as_bytes()))?),
        None => print(&text),
    }
}

/// A usage error unless `pass` is `all` or the name of a pass.
pub fn check_print_after(pass: &str) -> Result<(), Failure> {
    let names = pass_names();
    if pass == "all" || names.contains(&pass) {
        return Ok(());
    }
    Err(Failure::Usage(format!("--print-after: there is no pass `{pass}`; there are {}, and all", names.join(", "))))
}

/// Prints the graph after a pass if `--print-after` names it.
pub fn print_after(which: Option<&str>, report: &PassReport, graph: &Graph) {
    if which.is_some_and(|w| w == "all" || w == report.pass) {
        eprintln!("// after {}: {}\n{graph}", report.pass, report.changed);
    }
}

/// Reads the text form, from standard input for `-`, or imports an ONNX model; with the types of the inputs that hold whole numbers.
fn read_graph(
    path: &Path,
    blobs: Option<&Path>,
    shapes: &[(String, Vec<usize>)],
    memory: Option<usize>,
) -> Result<Typed, Failure> {
    if path.extension().is_some_and(|e| e == "onnx") {
        let memory = memory.unwrap_or(catc_onnx::ImportOptions::MEMORY);
        let options = catc_onnx::ImportOptions { shapes: shapes.to_vec(), memory, ..Default::default() };
        let imported = catc_onnx::import(path, &options)?;
        return Ok((imported.graph, imported.whole));
    }
    if !shapes.is_empty() {
        return Err(Failure::Usage("--shape is for ONNX models: the text of a graph has its shapes".into()));
    }
    let place = path.display();
    let text = read_text(path).map_err(|e| Failure::Failed(format!("cannot read {place}: {e}")))?;
    let graph = match blobs {
        Some(blobs) => parse(&text, &NpzBlobs::read(blobs)?),
        None => parse(&text, &NoBlobs),
    };
    graph.map(|graph| (graph, vec![])).map_err(|e| Failure::Failed(format!("{place}: {e}")))
}

/// The longest text of a graph, in bytes.
const MAX_TEXT: u64 = 1 << 30;

/// Reads a regular file, or standard input for `-`.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let source: &mut dyn Read = if path == Path::new("-") {
        &mut std::io::stdin()
    } else if std::fs::metadata(path)?.is_file() {
        // Checked before the file is opened: opening a pipe would wait for its writer, and some devices never end.
        &mut std::fs::File::open(path)?
    } else {
        return Err(std::io::Error::other("not a regular file; give the path of one, or `-` for standard input"));
    };
    if source.take(MAX_TEXT + 1).read_to_string(&mut text)? as u64 > MAX_TEXT {
        return Err(std::io::Error::other(format!(
            "more than {MAX_TEXT} bytes, the most that a graph's text may have"
        )));
    }
    Ok(text)
}

/// A graph, and for each input the type in the model's file if that holds whole numbers.
type Typed = (Graph, Vec<Option<WholeType>>);

/// Blobs from an .npz of arrays `blob_N`.
struct NpzBlobs(BTreeMap<u32, Tensor>);

impl NpzBlobs {
    fn read(path: &Path) -> Result<Self, Failure> {
        let mut npz = Npz::open(path)?;
        let mut blobs = BTreeMap::new();
        for name in npz.names().to_vec() {
            let place = format!("{}: array `{name}`", path.display());
            let Some(index) = name.strip_prefix("blob_").and_then(|n| n.parse().ok()) else {
                return Err(Failure::Failed(format!("{place} is no blob: they are called blob_N")));
            };
            let array = npz.array(&name, "float32 or int64")?;
            let data = if let Some(reals) = array.floats(0..array.elements())? {
                TensorData::F32(reals)
            } else if let Some(integers) = array.integers()? {
                let integers: Option<Vec<i64>> = integers.into_iter().map(|n| n.try_into().ok()).collect();
                TensorData::I64(integers.ok_or_else(|| Failure::Failed(format!("{place} holds more than int64")))?)
            } else {
                return Err(Failure::Failed(format!("{place} holds neither reals nor integers")));
            };
            blobs.insert(index, Tensor::new(array.shape().to_vec(), data));
        }
        Ok(NpzBlobs(blobs))
    }
}

impl Blobs for NpzBlobs {
    fn blob(&self, index: u32) -> Option<Tensor> {
        self.0.get(&index).cloned()
    }
}

/// Writes the constants that the text names `blob N`; codes and truth values as int64.
fn emit_blobs(graph: &Graph, path: &Path) -> Result<(), Failure> {
    let used = graph.used_constants();
    let large = graph.constants().filter(|(id, c)| used.contains(id) && c.tensor.len() > INLINE_ELEMENTS);
    let arrays: Vec<(String, Vec<usize>, TensorData)> = large
        .map(|(id, c)| {
            let data = match c.tensor.data() {
                TensorData::Code(v) => TensorData::I64(v.iter().map(|&x| x.into()).collect()),
                TensorData::Bool(v) => TensorData::I64(v.iter().map(|&x| x.into()).collect()),
                data => data.clone(),
            };
            (format!("blob_{}", id.as_u32()), c.tensor.shape().to_vec(), data)
        })
        .collect();
    let entries: Vec<(&str, &[usize], Elements)> = arrays
        .iter()
        .map(|(name, shape, data)| {
            let elements = match data {
                TensorData::F32(v) => Elements::F32(v),
                TensorData::I64(v) => Elements::I64(v),
                TensorData::Code(_) | TensorData::Bool(_) => Elements::I64(&[]),
            };
            (name.as_str(), shape.as_slice(), elements)
        })
        .collect();
    Ok(write_npz(path, &entries)?)
}
