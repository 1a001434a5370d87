//! The command line: results on standard output, messages on standard error, exit code 0, 1 (it failed) or 2
//! (usage error).

mod args;
mod bench;
mod compile;
mod emit;
mod eval;
mod files;
mod inspect;
mod opt;
mod profile;
mod progress;
mod run;
mod sweep;
mod table;
mod targets;

use crate::data::{DataError, Preprocess};
use args::{Cli, Command};
use catc_passes::{Override, RecipeError, Renamed};
use clap::Parser;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why a command ended without its result.
pub(crate) enum Failure {
    /// The command line asks for what cannot be: exit code 2.
    Usage(String),
    /// Everything else: exit code 1.
    Failed(String),
}

impl<E: Error> From<E> for Failure {
    /// The error with its sources, one paragraph.
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text += &format!(": {cause_text}");
            }
            source = cause.source();
        }
        Failure::Failed(text)
    }
}

/// The message to a user who interrupts the command.
static ADVICE: OnceLock<String> = OnceLock::new();

/// The warning that ranges come from random inputs.
const NO_CALIBRATION_DATA: &str = "warning: NO CALIBRATION DATA: ranges come from random inputs and the outputs are not corrected. Sizes \
    and speed are real, accuracy is not; give a few hundred unlabelled inputs with --calib.";

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Without the handler an interruption only leaves a temporary file behind.
    let _ = ctrlc::set_handler(|| {
        crate::data::remove_unfinished();
        if let Some(advice) = ADVICE.get() {
            eprintln!("\n{advice}");
        }
        std::process::exit(130);
    });
    let result = match cli.command {
        Some(Command::Eval(args)) => eval::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Opt(args)) => opt::run(&args),
        Some(Command::Sweep(args)) => sweep::run(&args),
        Some(Command::Targets(args)) => targets::run(&args),
        None => compile::run(&cli.compile),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Reads a preprocessing file if one was given.
fn preprocess(path: Option<&Path>) -> Result<Option<Preprocess>, DataError> {
    path.map(Preprocess::from_file).transpose()
}

/// The options of passes that `--augment` and `--set` replace.
fn overrides(set: &[String], augment: Option<&[String]>) -> Result<Vec<Override>, Failure> {
    let augment = augment.map(|given| Override {
        pass: "refine-scales".into(),
        option: "augment".into(),
        value: given.join("+"),
    });
    let set = set.iter().map(|s| s.parse().map_err(|e: RecipeError| Failure::Usage(e.to_string())));
    augment.into_iter().map(Ok).chain(set).collect()
}

/// Tells the user the present names of what was written by its former name, each once.
fn note_renamed(renamed: impl IntoIterator<Item = Renamed>) {
    let mut told = vec![];
    for name in renamed {
        if !told.contains(&name) {
            eprintln!("note: {name}");
            told.push(name);
        }
    }
}

/// Runs `work` on this many threads, all cores by default.
fn on_threads<T: Send>(threads: Option<u16>, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, usize::from)).build()?;
    Ok(pool.install(work))
}

/// The number of threads that `--threads` asks for.
fn thread_count(threads: Option<u16>) -> usize {
    threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// Prints to standard output; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints a JSON object on one line.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

/// A count of bytes for people to read.
fn human_bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.2} MB", n as f64 / 1e6),
    }
}
