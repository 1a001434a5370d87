//! npz archives: zip files whose members are npy arrays, as `numpy.savez` and `numpy.savez_compressed` write them.
//!
//! What a member declares is checked: its unpacked size must be possible for DEFLATE given the packed bytes, must equal the size that its npy
//! header declares, and must be the size that the stream yields. Memory grows with the bytes that the stream yields, never with the size
//! that a header claims.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::read::ZipFile;

use super::array::{Array, check_memory, open_regular};
use super::error::DataError;
use super::npy::Header;

/// DEFLATE stores at most 258 bytes in two bits: no stream unpacks to more than 1,032 times its size.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Bytes read from a member at a time.
const CHUNK: usize = 1 << 20;

/// An archive opened, its members listed but not read.
pub struct Npz {
    place: String,
    archive: ZipArchive<BufReader<File>>,
    names: Vec<String>,
}

impl Npz {
    /// Opens an archive and lists its arrays.
    pub fn open(path: &Path) -> Result<Npz, DataError> {
        let place = path.display().to_string();
        let damaged = |reason: String| DataError::Npz { place: path.display().to_string(), reason };
        let (file, _) = open_regular(path)?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(error.to_string()))?;
        if archive.has_duplicate_names() {
            return Err(damaged("two members have the same name".to_owned()));
        }
        let mut names = Vec::with_capacity(archive.len());
        for name in archive.file_names() {
            let name = name.map_err(|error| damaged(error.to_string()))?;
            match name.strip_suffix(".npy") {
                Some(array) => names.push(array.to_owned()),
                None => return Err(damaged(format!("its member `{name}` is no npy array"))),
            }
        }
        if names.is_empty() {
            return Err(DataError::Empty { place, reason: "the archive has no arrays".to_owned() });
        }
        names.sort();
        Ok(Npz { place, archive, names })
    }

    /// The names of the arrays, sorted, without `.npy`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The archive as the caller named it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Reads one array. `accepts` says in words which element types are of use here, for errors.
    pub fn array(&mut self, name: &str, accepts: &str) -> Result<Array, DataError> {
        let place = format!("{}:{name}", self.place);
        let damaged = |reason: String| DataError::Npz { place: format!("{}:{name}", self.place), reason };
        if !self.names.iter().any(|known| known == name) {
            let (place, name) = (self.place.clone(), name.to_owned());
            return Err(DataError::MissingArray { place, name, found: self.names.clone() });
        }
        let mut member = self.archive.by_name(&format!("{name}.npy")).map_err(|error| damaged(error.to_string()))?;
        let (packed, unpacked) = (member.compressed_size(), member.size());
        if unpacked > packed.saturating_mul(MAX_DEFLATE_RATIO) {
            return Err(damaged(format!("{packed} packed bytes cannot unpack to the {unpacked} bytes it declares")));
        }
        let header = Header::read(&mut member, &place, accepts)?;
        header.check_bytes(&place, unpacked.saturating_sub(header.data_start))?;
        check_memory(&place, header.data_bytes, "save it as an .npy, which stays in the file")?;
        let bytes = unpack(&mut member, header.data_bytes).map_err(damaged)?;
        Ok(Array::from_memory(place, header, bytes))
    }
}

/// Reads the rest of a member, which must be exactly `declared` bytes.
fn unpack(member: &mut ZipFile<'_, BufReader<File>>, declared: u64) -> Result<Vec<u8>, String> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = member.read(&mut chunk).map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        if (bytes.len() + read) as u64 > declared {
            return Err(format!("it unpacks to more than the {declared} bytes its header declares"));
        }
        bytes.try_reserve(read).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&chunk[..read]);
    }
    if (bytes.len() as u64) < declared {
        let total = bytes.len();
        return Err(format!("it unpacks to {total} bytes where its header declares {declared}"));
    }
    Ok(bytes)
}
