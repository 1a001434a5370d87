//! Atomic writing of model.bin: either the whole file is written, or nothing is.

use crate::{InvalidProgram, Program};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a program was not written. In that case no new file remains, and an existing file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The program is not valid. This is a bug in the compiler.
    #[error(transparent)]
    Invalid(#[from] InvalidProgram),
    /// The path exists and is not a regular file, for example a folder or a device. It is not replaced.
    #[error("cannot write {}: it is there and no regular file. Give another output path", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error("cannot write {}: {source}. Check that the folder exists, may be written to and has room", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Program {
    /// Writes model.bin and returns its size in bytes. The bytes are written to a temporary file in the same folder, which is
    /// then renamed. A reader therefore finds either the old file or the new one, and a failure leaves nothing behind. Symbolic
    /// links are followed.
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
            // These are the permissions of an ordinary new file before the umask is applied. The default of `tempfile` is private
            // to the user.
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
