//! `catc run MODEL --input X.npy --output Y.npy`

use super::args::RunArgs;
use super::progress::Bars;
use super::{Failure, on_threads, preprocess, thread_count};
use crate::data::{DataSet, Elements, write_npy, write_npz};
use crate::driver::OpenModel;

/// Computes a model's outputs and writes them, `[n, ..]`.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let preprocess = preprocess(args.preprocess.as_deref())?;
    let bars = Bars::new();
    let threads = thread_count(args.threads);
    let (model, n, columns) = on_threads(args.threads, || -> Result<_, Failure> {
        let model = OpenModel::open(&args.model, threads, args.cpu, &args.shape)?;
        let sets = DataSet::open_inputs(&args.input, preprocess.as_ref(), model.inputs())?;
        sets.iter().flat_map(|s| s.notes()).for_each(|note| eprintln!("note: {note}"));
        let mut columns: Vec<Vec<f32>> = vec![vec![]; model.outputs().len()];
        model.run_all(&sets, &bars, &mut |_, outputs| {
            columns.iter_mut().zip(outputs).for_each(|(column, output)| column.extend_from_slice(output));
        })?;
        Ok((model, sets[0].len(), columns))
    })??;
    bars.clear();
    let shapes: Vec<Vec<usize>> =
        model.outputs().iter().map(|o| [n].iter().chain(&o.shape).copied().collect()).collect();
    match (columns.as_slice(), shapes.as_slice()) {
        ([column], [shape]) => write_npy(&args.output, shape, Elements::F32(column))?,
        _ => {
            let arrays: Vec<(&str, &[usize], Elements)> = model
                .outputs()
                .iter()
                .zip(&shapes)
                .zip(&columns)
                .map(|((output, shape), column)| (output.name.as_str(), shape.as_slice(), Elements::F32(column)))
                .collect();
            write_npz(&args.output, &arrays)?;
        }
    }
    Ok(())
}
