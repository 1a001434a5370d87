//! Files with the logits of quantized networks: another correction of a network that took an hour to make then takes seconds.

use super::key::Key;
use crate::data::{DataError, Elements, Npz, write_npz};
use nalgebra::DMatrix;
use std::path::{Path, PathBuf};

/// Logits of one network, a row for each image.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Number of classes.
    pub classes: usize,
    /// On the images that corrections are fitted to; empty where there are none.
    pub fit: Vec<f32>,
    /// On the test inputs.
    pub test: Vec<f32>,
}

impl Logits {
    /// The file of a network's logits in a folder.
    pub fn file(folder: &Path, key: &Key) -> PathBuf {
        folder.join(format!("{}.npz", key.text()))
    }

    /// Reads a file; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Logits>, DataError> {
        if !path.exists() {
            return Ok(None);
        }
        let mut npz = Npz::open(path)?;
        let (mut classes, mut rows) = (0, vec![]);
        for name in ["fit", "test"] {
            let array = npz.array(name, "float32")?;
            classes = array.shape().get(1).copied().unwrap_or(0);
            rows.push(array.floats(0..array.elements())?.unwrap_or_default());
        }
        let test = rows.pop().unwrap_or_default();
        Ok(Some(Logits { classes, fit: rows.pop().unwrap_or_default(), test }))
    }

    /// Writes a file.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let shape = |rows: &[f32]| [rows.len() / self.classes.max(1), self.classes];
        let (fit, test) = (shape(&self.fit), shape(&self.test));
        write_npz(path, &[("fit", &fit, Elements::F32(&self.fit)), ("test", &test, Elements::F32(&self.test))])
    }

    /// The fitting logits, `C x N`.
    pub fn fit_matrix(&self) -> DMatrix<f64> {
        let count = self.fit.len() / self.classes.max(1);
        DMatrix::from_iterator(self.classes, count, self.fit.iter().map(|&z| f64::from(z)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = Logits::file(dir.path(), &Key::default());
        assert_eq!(Logits::read(&path).unwrap(), None);
        for fit in [vec![1.0, -2.5, 3.0, 1e-40], vec![]] {
            let logits = Logits { classes: 2, fit, test: vec![0.5, 7.0] };
            logits.write(&path).unwrap();
            assert_eq!(Logits::read(&path).unwrap(), Some(logits));
        }
    }
}
