//! Folders of image and npy files, one sample each.
//!
//! The samples are the PNG, JPEG and npy files sorted by the bytes of their names (`sorted()` of Python for ASCII names).
//! Hidden files are skipped silently. Other files are skipped and named in a note. A folder within the folder is an error, because the order
//! of the samples and their labels would be ambiguous.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::DataError;

/// Extensions of sample files, compared without regard to case.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "npy"];

/// The sample files of a folder.
#[derive(Debug)]
pub struct Listing {
    /// Sample files in the order of their names.
    pub files: Vec<PathBuf>,
    /// Names of files of other kinds, sorted.
    pub left_out: Vec<String>,
}

/// Lists the sample files of a folder.
pub fn list(folder: &Path) -> Result<Listing, DataError> {
    let place = || folder.display().to_string();
    let failed = |error| DataError::Read { place: place(), error };
    let mut names: Vec<OsString> = Vec::new();
    let mut left_out = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let readable = name.to_string_lossy().into_owned();
        if readable.starts_with('.') {
            continue;
        }
        let path = folder.join(&name);
        // Links are followed, so that a set can be put together of links.
        let metadata =
            std::fs::metadata(&path).map_err(|error| DataError::Read { place: path.display().to_string(), error })?;
        if metadata.is_dir() {
            return Err(DataError::SubFolder { place: place(), name: readable });
        }
        if is_sample(&path) {
            names.push(name);
        } else {
            left_out.push(readable);
        }
    }
    names.sort();
    left_out.sort();
    if names.is_empty() {
        let reason = match left_out.len() {
            0 => "the folder is empty".to_owned(),
            n => format!("none of its {n} files is a .png, .jpg, .jpeg or .npy"),
        };
        return Err(DataError::Empty { place: place(), reason });
    }
    Ok(Listing { files: names.into_iter().map(|name| folder.join(name)).collect(), left_out })
}

fn is_sample(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
