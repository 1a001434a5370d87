//! Progress bars on standard error, with the name of the work and the time left. They are drawn on a terminal only.

use crate::sweep::Status;
use catc_passes::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Mutex;

/// What a core does when networks are learned, by [`catc_passes::work::node_time`], as measured: for the time that is announced, nothing
/// else depends on it.
const MULTIPLY_ADDS_A_SECOND: f64 = 5e10;

/// One bar at a time, for whatever is being done now.
pub struct Bars {
    /// What is being done and its bar.
    current: Mutex<Option<(String, ProgressBar)>>,
    /// The group that its bars belong to, if there are others.
    group: Option<MultiProgress>,
}

impl Bars {
    /// Bars on standard error (indicatif draws nothing there unless it is a terminal).
    pub fn new() -> Self {
        Bars { current: Mutex::new(None), group: None }
    }

    /// Takes the bar away, before other messages are printed.
    pub fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, bar: Option<(String, ProgressBar)>) {
        let mut current = self.current.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, old)) = std::mem::replace(&mut *current, bar) {
            old.finish_and_clear();
        }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Bars::new()
    }
}

impl Progress for Bars {
    fn start(&self, what: &str, total: u64) {
        let bar = match &self.group {
            Some(group) => group.add(ProgressBar::new(total)),
            None => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()),
        };
        let style = ProgressStyle::with_template("{msg:<40} {wide_bar} {pos}/{len} {eta:>5} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(what.to_string());
        self.replace(Some((what.to_string(), bar)));
    }

    fn advance(&self, steps: u64) {
        if let Some((_, bar)) = &*self.current.lock().unwrap_or_else(|e| e.into_inner()) {
            bar.inc(steps);
        }
    }

    fn expect(&self, what: &str, multiply_adds: f64) {
        if self.group.is_some() {
            return;
        }
        let threads = rayon::current_num_threads();
        let seconds = multiply_adds / (MULTIPLY_ADDS_A_SECOND * threads as f64);
        if seconds >= 5.0 {
            let time = if seconds < 120.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) };
            eprintln!("catc: {what}: about {time} where {threads} threads have a core each");
        }
    }

    fn status(&self, text: &str) {
        if let Some((what, bar)) = &*self.current.lock().unwrap_or_else(|e| e.into_inner()) {
            bar.set_message(format!("{what}, {text}"));
        }
    }

    fn finish(&self) {
        self.clear();
    }
}

/// A bar for a whole sweep, and under it one for what each job does now.
pub struct SweepBars {
    group: MultiProgress,
    whole: ProgressBar,
    /// For each job.
    pub jobs: Vec<Bars>,
}

impl SweepBars {
    /// Bars for this many jobs.
    pub fn new(jobs: usize) -> Self {
        let group = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let whole = group.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("sweep {wide_bar} {pos}/{len} {eta:>5} left, {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        whole.set_style(style);
        let jobs = (0..jobs).map(|_| Bars { current: Mutex::new(None), group: Some(group.clone()) }).collect();
        SweepBars { group, whole, jobs }
    }

    /// Shows how far the sweep is.
    pub fn advance(&self, status: &Status) {
        self.whole.set_length(status.total as u64);
        self.whole.set_position(status.done as u64);
        self.whole.set_message(status.last.clone());
    }

    /// Takes all bars away, before other messages are printed.
    pub fn clear(&self) {
        self.jobs.iter().for_each(Bars::clear);
        self.whole.finish_and_clear();
        // What is left of the group's lines; a terminal that is gone needs none of it.
        let _ = self.group.clear();
    }
}
