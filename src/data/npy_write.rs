//! Writing npy and npz files, complete or not at all.

use std::io::{self, Write};
use std::path::Path;

use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use super::atomic::write_atomically;
use super::error::DataError;
use super::npy::{Dtype, Header, element_count};

/// The elements of an array to be written, in C order.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// float32.
    F32(&'a [f32]),
    /// int64.
    I64(&'a [i64]),
}

impl<'a> Elements<'a> {
    /// The reals; none of whole numbers.
    pub fn reals(&self) -> &'a [f32] {
        match self {
            Elements::F32(values) => values,
            Elements::I64(_) => &[],
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Elements::F32(_) => Dtype::F32,
            Elements::I64(_) => Dtype::I64,
        }
    }

    fn len(&self) -> usize {
        match self {
            Elements::F32(values) => values.len(),
            Elements::I64(values) => values.len(),
        }
    }

    fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Elements::F32(values) => values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes())),
            Elements::I64(values) => values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes())),
        }
    }
}

/// Writes an npy file.
///
/// # Errors
/// [`DataError::Write`] if `shape` is not that of `elements`, or as [`write_atomically`] says.
pub fn write_npy(path: &Path, shape: &[usize], elements: Elements<'_>) -> Result<(), DataError> {
    check(path, shape, &elements)?;
    write_atomically(path, |writer| {
        writer.write_all(&Header::to_bytes(elements.dtype(), shape))?;
        elements.write(writer)
    })
}

/// Writes an npz archive (not compressed, as `numpy.savez`) of named arrays, in the order given.
///
/// The same arrays give the same bytes: members carry no time.
///
/// # Errors
/// [`DataError::Write`] if a shape is not that of its elements, a name comes twice, or as [`write_atomically`] says.
pub fn write_npz(path: &Path, arrays: &[(&str, &[usize], Elements<'_>)]) -> Result<(), DataError> {
    for (_, shape, elements) in arrays {
        check(path, shape, elements)?;
    }
    write_atomically(path, |writer| {
        let mut archive = ZipWriter::new(writer);
        for (name, shape, elements) in arrays {
            let header = Header::to_bytes(elements.dtype(), shape);
            let bytes = header.len() as u64 + (elements.len() * elements.dtype().size()) as u64;
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(DateTime::default())
                .large_file(bytes >= u64::from(u32::MAX));
            archive.start_file(format!("{name}.npy"), options).map_err(io::Error::other)?;
            archive.write_all(&header)?;
            let mut buffered = io::BufWriter::with_capacity(1 << 16, &mut archive);
            elements.write(&mut buffered)?;
            buffered.flush()?;
        }
        archive.finish().map_err(io::Error::other)?;
        Ok(())
    })
}

fn check(path: &Path, shape: &[usize], elements: &Elements<'_>) -> Result<(), DataError> {
    if element_count(shape) == Some(elements.len()) {
        return Ok(());
    }
    let reason = format!("{} values do not fill the shape {shape:?}", elements.len());
    Err(DataError::Write { place: path.display().to_string(), reason })
}
