//! Memory-mapped files, whose bytes are read on access.

use bytes::Bytes;
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Why a file cannot be mapped.
pub(crate) enum MapError {
    Io(io::Error),
    NotAFile,
}

impl From<io::Error> for MapError {
    fn from(e: io::Error) -> Self {
        MapError::Io(e)
    }
}

/// Maps a regular file.
pub(crate) fn map(path: &Path) -> Result<Bytes, MapError> {
    // The check comes before the file is opened, because opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(MapError::NotAFile);
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and only read. As with every mapped file, another process that shortens or rewrites it during
    // the import can crash this process or change the bytes that it reads. No byte is trusted without a check.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
