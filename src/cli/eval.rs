//! `catc eval MODEL --data X --labels Y.npy`

use super::args::EvalArgs;
use super::progress::Bars;
use super::{Failure, on_threads, preprocess, print, print_json, thread_count};
use crate::data::{DataSet, read_labels};
use crate::driver::OpenModel;
use catc_interp::metrics::in_top_k;
use serde_json::json;
use std::time::Instant;

/// Measures top-1 and top-5 accuracy.
pub fn run(args: &EvalArgs) -> Result<(), Failure> {
    let preprocess = preprocess(args.preprocess.as_deref())?;
    let bars = Bars::new();
    let threads = thread_count(args.threads);
    let (hits, n, seconds) = on_threads(args.threads, || -> Result<_, Failure> {
        let model = OpenModel::open(&args.model, threads, args.cpu, &args.shape, args.memory.max_memory)?;
        let (scores, classes) = model.scores(args.output.as_deref())?;
        let sets = DataSet::open_inputs(&args.data, preprocess.as_ref(), model.inputs())?;
        sets.iter().flat_map(|s| s.notes()).for_each(|note| eprintln!("note: {note}"));
        let labels = read_labels(&args.labels, &sets[0], classes)?;
        let start = Instant::now();
        let mut hits = [0usize; 2];
        model.run_all(&sets, &bars, &mut |i, outputs| {
            for (count, k) in hits.iter_mut().zip([1, 5]) {
                *count += usize::from(in_top_k(outputs[scores].reals(), labels[i], k));
            }
        })?;
        Ok((hits, labels.len(), start.elapsed().as_secs_f64()))
    })??;
    bars.clear();
    let [top1, top5] = hits.map(|h| h as f64 / n as f64);
    if args.json {
        return print_json(&json!({"top1": top1, "top5": top5, "n": n, "seconds": seconds}));
    }
    print(&format!(
        "{}: top-1 {:.2} %, top-5 {:.2} % of {n} inputs, {seconds:.1} s\n",
        args.model.display(),
        100.0 * top1,
        100.0 * top5
    ))
}
