//! `catc run MODEL --input X.npy --output Y.npy`

use super::args::RunArgs;
use super::files::Files;
use super::progress::Bars;
use super::{Failure, on_threads, preprocess, thread_count};
use crate::data::{DataSet, Elements, write_npy, write_npz};
use crate::driver::OpenModel;

/// Computes a model's outputs and writes them, `[n, ..]`.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    Files::new()
        .read("the model", args.model.as_path())
        .read("--input", args.input.as_path())
        .read("--preprocess", args.preprocess.as_deref())
        .write("--output", args.output.as_path())
        .check()?;
    let extension = args.output.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    // Devices and pipes have names of their own.
    let named = !args.output.exists() || args.output.is_file();
    if named && !matches!(extension.as_deref(), Some("npy" | "npz")) {
        let place = args.output.display();
        return Err(Failure::Usage(format!(
            "--output {place}: outputs are written as .npy, or .npz if there are several"
        )));
    }
    let preprocess = preprocess(args.preprocess.as_deref())?;
    let bars = Bars::new();
    let threads = thread_count(args.threads);
    let (model, n, columns) = on_threads(args.threads, || -> Result<_, Failure> {
        let model = OpenModel::open(&args.model, threads, args.cpu, &args.shape, args.memory.max_memory)?;
        let sets = DataSet::open_inputs(&args.input, preprocess.as_ref(), model.inputs())?;
        sets.iter().flat_map(|s| s.notes()).for_each(|note| eprintln!("note: {note}"));
        let mut columns = vec![Column::default(); model.outputs().len()];
        model.run_all(&sets, &bars, &mut |_, outputs| {
            columns.iter_mut().zip(outputs).for_each(|(column, output)| column.extend(output));
        })?;
        Ok((model, sets[0].len(), columns))
    })??;
    bars.clear();
    let shapes: Vec<Vec<usize>> =
        model.outputs().iter().map(|o| [n].iter().chain(&o.shape).copied().collect()).collect();
    match (columns.as_slice(), shapes.as_slice()) {
        ([column], [shape]) => write_npy(&args.output, shape, column.elements())?,
        _ => {
            let arrays: Vec<(&str, &[usize], Elements)> = model
                .outputs()
                .iter()
                .zip(&shapes)
                .zip(&columns)
                .map(|((output, shape), column)| (output.name.as_str(), shape.as_slice(), column.elements()))
                .collect();
            write_npz(&args.output, &arrays)?;
        }
    }
    Ok(())
}

/// An output of all inputs, of one kind.
#[derive(Clone, Default)]
struct Column {
    reals: Vec<f32>,
    whole: Vec<i64>,
}

impl Column {
    fn extend(&mut self, row: &Elements) {
        match row {
            Elements::F32(v) => self.reals.extend_from_slice(v),
            Elements::I64(v) => self.whole.extend_from_slice(v),
        }
    }

    fn elements(&self) -> Elements<'_> {
        if self.whole.is_empty() { Elements::F32(&self.reals) } else { Elements::I64(&self.whole) }
    }
}
