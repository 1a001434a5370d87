//! Keys: hashes of everything that determines a result, so that a journal never gives the result of something else.

use crate::data::{DataError, DataSet};
use catc_ir::{Graph, TensorData};
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// A hash of parts, each with its length, so that different parts never run into one another.
#[derive(Clone, Default)]
pub struct Key(Xxh3);

impl Key {
    /// With one more part.
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Key {
        self.0.update(&(part.as_ref().len() as u64).to_le_bytes());
        self.0.update(part.as_ref());
        self
    }

    /// With a number.
    pub fn with_number(self, n: u64) -> Key {
        self.with(n.to_le_bytes())
    }

    /// As 32 hexadecimal digits.
    pub fn text(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

/// The hash of an imported network: its text and every element of its constants.
pub fn of_graph(graph: &Graph) -> String {
    let mut key = Key::default().with(graph.to_string());
    for (_, constant) in graph.constants() {
        key = match constant.tensor.data() {
            TensorData::F32(v) => v.iter().fold(key, |k, x| k.with(x.to_bits().to_le_bytes())),
            TensorData::I64(v) => v.iter().fold(key, |k, x| k.with(x.to_le_bytes())),
            // Only quantized graphs hold codes; their text and shapes are in the key.
            TensorData::Code(_) | TensorData::Bool(_) => key,
        };
    }
    key.text()
}

/// The hash of data sets, one for each input of a network.
pub fn of_data(sets: &[DataSet]) -> Result<String, DataError> {
    let key = sets.iter().try_fold(Key::default(), |k, set| Ok::<_, DataError>(k.with_number(set.content_hash()?)))?;
    Ok(key.text())
}

/// The hash of a file's bytes.
pub fn of_file(path: &Path) -> io::Result<String> {
    Ok(Key::default().with(std::fs::read(path)?).text())
}

/// The hash of this program.
pub fn of_build() -> io::Result<String> {
    of_file(&std::env::current_exe()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_one_another() {
        let key = |parts: &[&str]| parts.iter().fold(Key::default(), |k, p| k.with(p)).text();
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["ab", ""]));
        assert_eq!(key(&["x"]).len(), 32);
    }
}
