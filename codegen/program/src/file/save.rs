//! Writing model.bin: the whole file or nothing.

use crate::{InvalidProgram, Program};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a program was not written. No file is left behind, and one that was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A mistake of the compiler: the program could not be run.
    #[error(transparent)]
    Invalid(#[from] InvalidProgram),
    /// The path is a folder, a device or the like, which is not replaced.
    #[error("cannot write {}: it is there and no regular file. Give another output path", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("cannot write {}: {source}. Check that the folder exists, may be written to and has room", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Program {
    /// Writes model.bin and returns its size in bytes. It is written beside the path under another name and then renamed, so that a reader finds the old
    /// file or the new one and a failure leaves nothing behind. Links are followed.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<u64, SaveError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        let io = |source| SaveError::Io { path: path.to_path_buf(), source };
        let target = match std::fs::metadata(path) {
            Ok(found) if found.is_file() => std::fs::canonicalize(path).map_err(io)?,
            Ok(_) => return Err(SaveError::NotAFile { path: path.to_path_buf() }),
            Err(_) => path.to_path_buf(),
        };
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".catc-").suffix(".tmp");
        #[cfg(unix)]
        {
            // As a plain new file would have, less the umask; the default is for secrets.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&target).map_err(|e| io(e.error))?;
        Ok(bytes.len() as u64)
    }
}
