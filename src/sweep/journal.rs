//! The journal: a line for each finished measurement, so that an interrupted sweep can be resumed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What was measured of one variant of one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Test inputs whose class was right.
    pub top1: usize,
    /// Test inputs whose class was among the five largest outputs.
    pub top5: usize,
    /// Test inputs.
    pub n: usize,
    /// The fitted correction, if there is one.
    pub correction: Option<Fitted>,
    /// Why there is no correction although one was asked for.
    pub note: Option<String>,
    /// How long it took. The first variant of a network includes the time to make the network.
    pub seconds: f64,
}

/// A correction that was fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Weight.
    pub alpha: f64,
    /// Clusters.
    pub clusters: usize,
    /// Dimensions that they were formed in.
    pub dims: usize,
    /// Images it was fitted to.
    pub samples: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    what: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Finished measurements by their keys, in a file that only one sweep has open.
pub struct Journal {
    state: Mutex<(File, BTreeMap<String, Outcome>)>,
}

impl Journal {
    /// Opens or creates the file. An incomplete last line, left by an interruption, is removed; lines of other builds stay.
    ///
    /// # Errors
    /// If the file cannot be read and written, or another sweep has it open.
    pub fn open(path: &Path) -> io::Result<Journal> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another sweep is writing it")),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64)?;
        }
        let lines = text[..whole].lines().filter_map(|l| serde_json::from_str::<Line>(l).ok());
        let known = lines.map(|l| (l.key, l.outcome)).collect();
        Ok(Journal { state: Mutex::new((file, known)) })
    }

    /// The outcome with this key, if it is known.
    pub fn get(&self, key: &str) -> Option<Outcome> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.get(key).cloned()
    }

    /// Writes an outcome; `what` is for readers of the file.
    pub fn add(&self, key: &str, what: String, outcome: &Outcome) -> io::Result<()> {
        let line = Line { key: key.into(), what, outcome: outcome.clone() };
        let text = format!("{}\n", serde_json::to_string(&line)?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // One write: an interruption leaves the line whole, absent, or incomplete at the end, which `open` removes.
        state.0.write_all(text.as_bytes())?;
        state.1.insert(line.key, line.outcome);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(top1: usize) -> Outcome {
        let correction = Some(Fitted { alpha: 0.4, clusters: 4, dims: 5, samples: 64 });
        Outcome { top1, top5: 9, n: 10, correction, note: None, seconds: 0.5 }
    }

    #[test]
    fn a_torn_line_is_cut_off_and_the_others_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::open(&path).unwrap();
        journal.add("a", "first".into(), &outcome(7)).unwrap();
        journal.add("b", "second".into(), &outcome(8)).unwrap();
        assert!(Journal::open(&path).is_err(), "two sweeps at once");
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!((journal.get("a"), journal.get("b")), (Some(outcome(7)), None));
        journal.add("b", "second".into(), &outcome(8)).unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}
