//! Class labels of a data set.
//!
//! Two forms: an npy file of integers of any width, one per sample in the order of the data; or a csv file of two columns, file
//! name and label, with or without a heading. The rows of a csv belong to the files of a folder by name, in any order; to the
//! samples of an array by their order.

use std::collections::HashMap;
use std::path::Path;

use super::array::{Array, open_regular};
use super::dataset::DataSet;
use super::error::DataError;
use super::npy::MAGIC;

/// Longest csv file that is read.
const MAX_CSV_BYTES: u64 = 256 << 20;

const ACCEPTS: &str = "integers, one class label per sample (convert with labels.astype('int64'))";

/// Reads the labels of the samples of `data`: one for each, each below `classes`.
pub fn read_labels(path: &Path, data: &DataSet, classes: usize) -> Result<Vec<usize>, DataError> {
    let place = path.display().to_string();
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let labels = if is_csv { from_csv(path, data)? } else { from_npy(path)? };
    if labels.len() != data.len() {
        return Err(DataError::LabelCount { place, labels: labels.len(), samples: data.len() });
    }
    labels
        .iter()
        .enumerate()
        .map(|(index, &label)| match usize::try_from(label) {
            Ok(class) if class < classes => Ok(class),
            _ => Err(DataError::LabelRange { place: place.clone(), index, label, classes }),
        })
        .collect()
}

fn from_npy(path: &Path) -> Result<Vec<i128>, DataError> {
    let place = path.display().to_string();
    let (file, _) = open_regular(path)?;
    let mut start = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAGIC.len() as u64), &mut start)
        .map_err(|error| DataError::Read { place: place.clone(), error })?;
    if start != MAGIC {
        let found = if start.is_empty() { "empty" } else { "no npy file" }.to_owned();
        let expected = "an .npy of integers, or a .csv of file names and labels";
        return Err(DataError::UnknownFormat { place, found, expected });
    }
    let array = Array::open(path, ACCEPTS)?;
    if array.shape().len() != 1 {
        return Err(DataError::Shape {
            place,
            found: format!("{:?}", array.shape()),
            expected: "[samples]".to_owned(),
            advice: ": one class index per sample (for one-hot rows, labels.argmax(1))".to_owned(),
        });
    }
    let found = array.dtype().name().to_owned();
    array.integers()?.ok_or(DataError::Dtype { place, found, expected: ACCEPTS.to_owned() })
}

fn from_csv(path: &Path, data: &DataSet) -> Result<Vec<i128>, DataError> {
    let wrong = |reason: String| DataError::Labels { place: path.display().to_string(), reason };
    let (_, length) = open_regular(path)?;
    if length > MAX_CSV_BYTES {
        return Err(wrong(format!("it is {length} bytes long, more than the limit of {MAX_CSV_BYTES}")));
    }
    let bytes = std::fs::read(path).map_err(|error| DataError::Read { place: path.display().to_string(), error })?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
    let mut rows: Vec<(&str, i128)> = Vec::new();
    for (line, row) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if row.trim().is_empty() {
            continue;
        }
        // File names may hold commas, labels do not.
        let (name, label) =
            row.rsplit_once(',').ok_or_else(|| wrong(format!("line {} is not `file,label`", line + 1)))?;
        match unquoted(label).parse() {
            Ok(label) => rows.push((unquoted(name), label)),
            // A heading, such as `file,label`.
            Err(_) if line == 0 && !label.contains(|c: char| c.is_ascii_digit()) => {}
            Err(_) => {
                return Err(wrong(format!("line {}: the label `{}` is not an integer", line + 1, label.trim())));
            }
        }
    }
    if data.sample_files().is_none() || rows.len() != data.len() {
        return Ok(rows.into_iter().map(|(_, label)| label).collect());
    }
    let files = data.sample_files().unwrap_or_default();
    let mut by_name = HashMap::with_capacity(rows.len());
    for (name, label) in rows {
        if by_name.insert(name, label).is_some() {
            return Err(wrong(format!("`{name}` is there twice")));
        }
    }
    files
        .iter()
        .map(|file| {
            let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            by_name.get(name.as_ref()).copied().ok_or_else(|| wrong(format!("there is no row for `{name}`")))
        })
        .collect()
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')).unwrap_or(field)
}
