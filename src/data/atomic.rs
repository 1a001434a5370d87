//! Outputs that are either complete or absent.
//!
//! An output is written to a temporary file in the folder of its target and renamed over it when complete. On any error the
//! temporary file is removed and an earlier file of that name stays as it was.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error::DataError;

/// Temporary files being written, for [`remove_unfinished`].
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Writes a file so that it is complete or not there.
///
/// `write` gets a buffered writer (which can seek too); its own failures that are not of the file go into
/// [`io::Error::other`]. A symbolic link is followed: the file it points to is replaced. A target that is neither a file nor
/// a link to one (`/dev/null`, `/dev/stdout`, a pipe) is written directly.
///
/// # Errors
/// [`DataError::Write`] if the folder is missing or not writable, the disk is full, or `write` failed.
pub fn write_atomically<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> Result<T, DataError> {
    let failed = |reason: String| DataError::Write { place: path.display().to_string(), reason };
    let (target, folder) = match check_target(path)? {
        Target::Direct => {
            let file = OpenOptions::new().write(true).open(path).map_err(|error| failed(error.to_string()))?;
            let mut writer = BufWriter::new(file);
            let value = write(&mut writer).map_err(|error| failed(error.to_string()))?;
            writer.flush().map_err(|error| failed(error.to_string()))?;
            return Ok(value);
        }
        Target::Replaced { file, folder } => (file, folder),
    };
    let (file, unfinished) = temporary(&folder).map_err(|error| failed(error.to_string()))?;
    let mut writer = BufWriter::new(file);
    let value = write(&mut writer).map_err(|error| failed(error.to_string()))?;
    let file = writer.into_inner().map_err(|error| failed(error.error().to_string()))?;
    // The disk may report only now that it is full, and the data must reach it before the rename does.
    file.sync_all().map_err(|error| failed(error.to_string()))?;
    drop(file);
    unfinished.rename_to(&target).map_err(|error| failed(error.to_string()))?;
    Ok(value)
}

/// How an output is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// As it is: a device or a pipe.
    Direct,
    /// Under another name in `folder`, which then takes the place of `file`.
    Replaced {
        /// The file, links followed.
        file: PathBuf,
        /// The folder it is in.
        folder: PathBuf,
    },
}

/// How a path can be written, as far as that can be known before it is.
///
/// # Errors
/// [`DataError::Write`] if it is a folder, is read-only, or its folder is missing.
pub fn check_target(path: &Path) -> Result<Target, DataError> {
    let failed = |reason: String| DataError::Write { place: path.display().to_string(), reason };
    let existing = std::fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|target| target.is_dir()) {
        return Err(failed("it is a folder; name a file in it".to_owned()));
    }
    if existing.as_ref().is_some_and(|target| !target.is_file()) {
        return Ok(Target::Direct);
    }
    // Renaming over a link would replace the link; what it points to is meant.
    let file = match existing {
        Some(_) => std::fs::canonicalize(path).map_err(|error| failed(error.to_string()))?,
        None => path.to_path_buf(),
    };
    if existing.is_some_and(|target| target.permissions().readonly()) {
        return Err(failed("the file is there and read-only".to_owned()));
    }
    if file.file_name().is_none() {
        return Err(failed("it names no file".to_owned()));
    }
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if !folder.is_dir() {
        return Err(failed(format!("there is no folder {}; create it first", folder.display())));
    }
    Ok(Target::Replaced { file, folder })
}

/// Removes the temporary files of outputs being written, for a program about to exit on a signal.
pub fn remove_unfinished() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // Nothing can be done about a failure here: the program is ending.
        let _ = std::fs::remove_file(path);
    }
}

/// A temporary file that is removed when dropped, and known to [`remove_unfinished`] until then.
struct Unfinished(Option<tempfile::TempPath>);

impl Unfinished {
    fn rename_to(mut self, target: &Path) -> io::Result<()> {
        let Some(path) = self.0.take() else {
            return Ok(());
        };
        let name = path.to_path_buf();
        let renamed = path.persist(target).map_err(|error| error.error);
        forget(&name);
        renamed
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let name = path.to_path_buf();
            drop(path);
            forget(&name);
        }
    }
}

fn forget(path: &Path) {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
}

fn temporary(folder: &Path) -> io::Result<(File, Unfinished)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".catc-").suffix(".part");
    // Outputs are for others to read as far as the umask allows; temporary files are private unless told otherwise.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Held while the file is made, so that no moment is left in which a signal would miss it.
    let mut unfinished = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    let (file, path) = builder.tempfile_in(folder)?.into_parts();
    unfinished.insert(path.to_path_buf());
    Ok((file, Unfinished(Some(path))))
}
