//! The kind of data at a path, recognised by its first bytes and not by its name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::array::open_regular;
use super::error::DataError;
use super::image::ImageFormat;
use super::npy::MAGIC;

/// The forms that samples come in.
const FORMS: &str = "an .npy, an .npz, a PNG or JPEG image, or a folder of .png, .jpg, .jpeg or .npy files";

/// The kind of data at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder, of whatever.
    Folder,
    /// One array.
    Npy,
    /// An archive of arrays.
    Npz,
    /// A PNG or JPEG file.
    Image,
}

impl Kind {
    /// The kind of what is at `path`; pipes and devices are refused.
    pub(super) fn of(path: &Path) -> Result<Kind, DataError> {
        let place = || path.display().to_string();
        let failed = |error| DataError::Read { place: place(), error };
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Ok(Kind::Folder);
        }
        let mut start = Vec::new();
        let (file, _) = open_regular(path)?;
        File::take(file, 8).read_to_end(&mut start).map_err(failed)?;
        if start.starts_with(MAGIC) {
            Ok(Kind::Npy)
        } else if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            Ok(Kind::Npz)
        } else if ImageFormat::of(&start).is_some() {
            Ok(Kind::Image)
        } else {
            let found = if start.is_empty() {
                "empty".to_owned()
            } else {
                format!("no data file known here (it starts with {start:02x?})")
            };
            Err(DataError::UnknownFormat { place: place(), found, expected: FORMS })
        }
    }
}
