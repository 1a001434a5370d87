//! Runs a sweep: takes known outcomes from the journal, measures the others, and writes the results after every network.

use super::context::SweepContext;
use super::journal::{Journal, Outcome};
use super::measure::{float_outcome, measure, outcome_key};
use super::plan::{Axis, Network, SweepOptions, SweepPlan, Variant};
use super::summary::{Measured, Results};
use super::{curves, settings, tables};
use crate::data::{DataError, write_atomically};
use crate::driver::{CompileError, ModelError};
use catc_passes::Progress;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The file in the folder of a sweep that keeps what was measured.
const JOURNAL: &str = "journal.jsonl";

/// Why a sweep ended early. What was measured until then is in the journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// A network that cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A model that cannot be opened or run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Data, or a file of results.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file that cannot be read or written.
    #[error("cannot use {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// A folder with the results of another sweep.
    #[error(
        "{folder} holds the results of a sweep with other options: {}; name another folder with --out, or give the same options to go \
         on with that sweep", .differences.join("; ")
    )]
    Options {
        /// The folder.
        folder: String,
        /// What differs, in words.
        differences: Vec<String>,
    },
    /// Threads that cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(String),
}

/// The progress of a sweep.
#[derive(Clone, Debug)]
pub struct Status {
    /// Measurements that are known.
    pub done: usize,
    /// Measurements in all.
    pub total: usize,
    /// The last one, in words.
    pub last: String,
}

/// Measures whatever of the plan is not known yet and writes the results to the folder `options.out`.
///
/// `progress` has an entry for each job to report to. `measured` is called after every measurement, from several threads.
pub fn run(
    options: &SweepOptions,
    progress: &[&dyn Progress],
    measured: &(dyn Fn(&Status) + Sync),
) -> Result<Results, SweepError> {
    let at = |path: &Path, error: io::Error| SweepError::File { path: path.display().to_string(), error };
    let logits = options.out.join("logits");
    std::fs::create_dir_all(&logits).map_err(|e| at(&logits, e))?;
    settings::claim(options)?;
    let path = options.out.join(JOURNAL);
    let journal = Journal::open(&path).map_err(|e| at(&path, e))?;
    let (networks, variants) = (options.plan.networks(), options.plan.variants());
    let total = networks.len() * variants.len() + 1;
    let jobs = options.jobs.clamp(1, progress.len().max(1)).min(networks.len().max(1));
    let threads = (options.threads / jobs).max(1);
    let pool = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map_err(|e| SweepError::Threads(e.to_string()))
    };
    let done = AtomicUsize::new(0);
    let tell = |last: String| measured(&Status { done: done.fetch_add(1, Ordering::Relaxed) + 1, total, last });
    let first = pool()?;
    let context = first.install(|| SweepContext::open(options))?;
    let key = context.float_key().text();
    let float = match journal.get(&key) {
        Some(known) => known,
        None => {
            let found = first.install(|| float_outcome(&context, threads, progress[0]))?;
            journal.add(&key, "float".into(), &found).map_err(|e| at(&path, e))?;
            found
        }
    };
    drop(first);
    tell("float".into());
    let results = Mutex::new(Results::new(options, float));
    let add = |network: &Network, variant: Variant, outcome: Outcome| {
        let measured = Measured { network: network.clone(), variant, outcome };
        results.lock().unwrap_or_else(PoisonError::into_inner).add(measured);
        tell(format!("{network}, {variant}"));
    };
    let one = |network: &Network, progress: &dyn Progress| -> Result<(), SweepError> {
        let mut missing = vec![];
        for &variant in &variants {
            match journal.get(&outcome_key(&context, network, variant).text()) {
                Some(known) => add(network, variant, known),
                None => missing.push(variant),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        measure(&context, network, &missing, threads, progress, &|variant, outcome| {
            let key = outcome_key(&context, network, variant).text();
            let what = format!("{}: {network}, {variant}", options.model.display());
            journal.add(&key, what, &outcome).map_err(|e| at(&path, e))?;
            add(network, variant, outcome);
            Ok(())
        })?;
        write(options, &results.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let next = AtomicUsize::new(0);
    let work = |progress: &dyn Progress| -> Result<(), SweepError> {
        let pool = pool()?;
        while let Some(network) = networks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = pool.install(|| one(network, progress));
            if result.is_err() {
                // No other job begins anything new.
                next.store(networks.len(), Ordering::Relaxed);
            }
            result?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = progress.iter().take(jobs).map(|&p| scope.spawn(|| work(p))).collect();
        let stopped = || SweepError::Threads("one stopped".into());
        handles.into_iter().try_for_each(|h| h.join().unwrap_or_else(|_| Err(stopped())))
    })?;
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    write(options, &results)?;
    Ok(results)
}

/// The names of the files that a sweep writes to its folder, beside its logits.
pub fn file_names(plan: &SweepPlan) -> impl Iterator<Item = String> {
    let curves = Axis::ALL.into_iter().filter(|&axis| !plan.curve(axis).is_empty());
    let tables = [JOURNAL, "results.csv", "results.json", "results.md"].map(String::from);
    tables.into_iter().chain(curves.map(|axis| format!("{}.svg", axis.name())).collect::<Vec<_>>())
}

/// Writes tables and curves.
fn write(options: &SweepOptions, results: &Results) -> Result<(), SweepError> {
    let file = |name: &str, text: String| {
        write_atomically(&options.out.join(name), |f| io::Write::write_all(f, text.as_bytes()))
    };
    file("results.csv", tables::csv(results))?;
    file("results.json", format!("{:#}\n", tables::json(results)))?;
    file("results.md", tables::markdown(results))?;
    for (axis, figure) in curves::figures(results) {
        file(&format!("{}.svg", axis.name()), figure)?;
    }
    Ok(())
}
