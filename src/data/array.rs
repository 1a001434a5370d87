//! One array of an npy file or of an npz member, read item by item.
//!
//! An item is what one index of the first axis selects. An npy file in C order is read item by item when they are needed, so that a set of
//! many gigabytes takes no memory. Arrays in Fortran order (whose items are scattered over the file) and members of archives are held in
//! memory in their own element type. In both cases the size that the header declares is first checked against the bytes present.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

use half::f16;

use super::error::DataError;
use super::npy::{Dtype, Header, element_count};

/// Most bytes of one array that are held in memory: 4 GiB.
pub const MAX_IN_MEMORY: u64 = 4 << 30;

/// An array of known type and shape whose elements can be read.
#[derive(Debug)]
pub struct Array {
    place: String,
    dtype: Dtype,
    shape: Vec<usize>,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// C order, in a file from this byte on.
    File { file: File, start: u64 },
    /// The whole array, or of an array in C order at least the items that are of use.
    Memory { bytes: Vec<u8>, fortran_order: bool },
}

impl Array {
    /// Opens an npy file. `accepts` says in words which element types are of use here, for errors.
    pub fn open(path: &Path, accepts: &str) -> Result<Array, DataError> {
        let place = path.display().to_string();
        let (file, length) = open_regular(path)?;
        let mut reader = BufReader::new(file);
        let header = Header::read(&mut reader, &place, accepts)?;
        let found = length.saturating_sub(header.data_start);
        header.check_bytes(&place, found)?;
        let file = reader.into_inner();
        if !header.fortran_order {
            let storage = Storage::File { file, start: header.data_start };
            return Ok(Array { place, dtype: header.dtype, shape: header.shape, storage });
        }
        check_memory(
            &place,
            header.data_bytes,
            "save it in C order (numpy.ascontiguousarray), then it stays in the file",
        )?;
        let mut bytes = vec![0; header.data_bytes as usize];
        read_at(&file, header.data_start, &mut bytes)
            .map_err(|error| DataError::Read { place: place.clone(), error })?;
        Ok(Array::from_memory(place, header, bytes))
    }

    /// An array whose elements are in memory, as the header describes them.
    ///
    /// Of an array in C order `bytes` may stop after the items that are of use.
    pub(super) fn from_memory(place: String, header: Header, bytes: Vec<u8>) -> Array {
        let storage = Storage::Memory { bytes, fortran_order: header.fortran_order };
        Array { place, dtype: header.dtype, shape: header.shape, storage }
    }

    /// The file, and the member of an archive, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        // The header was refused if this overflows.
        element_count(&self.shape).unwrap_or(0)
    }

    /// The raw little-endian bytes of the elements `range`, counted in C order whatever the order in the file.
    pub fn bytes(&self, range: Range<usize>) -> Result<Vec<u8>, DataError> {
        let size = self.dtype.size();
        let within = range.start <= range.end && range.end <= self.elements();
        let outside = || DataError::Index { place: self.place.clone(), index: range.end, len: self.elements() };
        if !within {
            return Err(outside());
        }
        match &self.storage {
            Storage::File { file, start } => {
                let mut bytes = vec![0; range.len() * size];
                read_at(file, start + (range.start * size) as u64, &mut bytes)
                    .map_err(|error| DataError::Read { place: self.place.clone(), error })?;
                Ok(bytes)
            }
            Storage::Memory { bytes, fortran_order: false } => {
                bytes.get(range.start * size..range.end * size).map(<[u8]>::to_vec).ok_or_else(outside)
            }
            Storage::Memory { bytes, fortran_order: true } => Ok(self.gather(bytes, range)),
        }
    }

    /// The elements `range` of C order as float32.
    ///
    /// float64 is rounded to the nearest float32 (beyond its range: to infinity), float16 is exact. `None` for other types.
    pub fn floats(&self, range: Range<usize>) -> Result<Option<Vec<f32>>, DataError> {
        if !self.dtype.is_float() {
            return Ok(None);
        }
        let bytes = self.bytes(range)?;
        Ok(Some(match self.dtype {
            Dtype::F16 => map_chunks(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::F64 => map_chunks(&bytes, |b| f64::from_le_bytes(b) as f32),
            _ => map_chunks(&bytes, f32::from_le_bytes),
        }))
    }

    /// One element of C order as float64; exact for every float type. `None` for other types.
    pub fn float_at(&self, index: usize) -> Result<Option<f64>, DataError> {
        if !self.dtype.is_float() {
            return Ok(None);
        }
        Ok(self.doubles(index..index + 1)?.first().copied())
    }

    /// All elements in C order as integers. `None` where the elements are no integers.
    pub fn integers(&self) -> Result<Option<Vec<i128>>, DataError> {
        if !self.dtype.is_integer() {
            return Ok(None);
        }
        self.integers_in(0..self.elements()).map(Some)
    }

    /// The elements `range` of C order as whole numbers, truth values as 0 and 1; `None` for each that is none, or beyond i64.
    pub fn whole_numbers(&self, range: Range<usize>) -> Result<Vec<Option<i64>>, DataError> {
        if !self.dtype.is_float() {
            return Ok(self.integers_in(range)?.into_iter().map(|n| n.try_into().ok()).collect());
        }
        // Beyond 2^53 float64 does not hold every whole number, so the intended one is unknown.
        const LAST: f64 = (1u64 << 53) as f64;
        let whole = |x: f64| (x.fract() == 0.0 && x.abs() <= LAST).then_some(x as i64);
        Ok(self.doubles(range)?.into_iter().map(whole).collect())
    }

    /// One element of C order as text, for messages.
    pub(super) fn text_at(&self, index: usize) -> String {
        let text = if self.dtype.is_float() {
            self.doubles(index..index + 1).map(|x| x.first().map(f64::to_string))
        } else {
            self.integers_in(index..index + 1).map(|n| n.first().map(i128::to_string))
        };
        text.ok().flatten().unwrap_or_default()
    }

    /// Elements of a float type as float64, exactly.
    fn doubles(&self, range: Range<usize>) -> Result<Vec<f64>, DataError> {
        let bytes = self.bytes(range)?;
        Ok(match self.dtype {
            Dtype::F16 => map_chunks(&bytes, |b| f16::from_le_bytes(b).to_f64()),
            Dtype::F64 => map_chunks(&bytes, f64::from_le_bytes),
            _ => map_chunks(&bytes, |b| f64::from(f32::from_le_bytes(b))),
        })
    }

    /// Elements of an integer type, or truth values.
    fn integers_in(&self, range: Range<usize>) -> Result<Vec<i128>, DataError> {
        let bytes = self.bytes(range)?;
        Ok(match self.dtype {
            Dtype::Bool => map_chunks(&bytes, |[b]| i128::from(b != 0)),
            Dtype::I8 => map_chunks(&bytes, |b| i8::from_le_bytes(b).into()),
            Dtype::I16 => map_chunks(&bytes, |b| i16::from_le_bytes(b).into()),
            Dtype::I32 => map_chunks(&bytes, |b| i32::from_le_bytes(b).into()),
            Dtype::I64 => map_chunks(&bytes, |b| i64::from_le_bytes(b).into()),
            Dtype::U16 => map_chunks(&bytes, |b| u16::from_le_bytes(b).into()),
            Dtype::U32 => map_chunks(&bytes, |b| u32::from_le_bytes(b).into()),
            Dtype::U64 => map_chunks(&bytes, |b| u64::from_le_bytes(b).into()),
            _ => map_chunks(&bytes, |b| u8::from_le_bytes(b).into()),
        })
    }

    /// The error for a shape that is of no use; `advice` starts with punctuation.
    pub(super) fn wrong_shape(&self, expected: String, advice: String) -> DataError {
        let found = format!("{} {:?}", self.dtype.name(), self.shape);
        DataError::Shape { place: self.place.clone(), found, expected, advice }
    }

    /// The error for an element type that is of no use.
    pub(super) fn wrong_dtype(&self, accepts: &str) -> DataError {
        let found = self.dtype.name().to_owned();
        DataError::Dtype { place: self.place.clone(), found, expected: accepts.to_owned() }
    }

    /// Collects elements of an array in Fortran order: an odometer over the indices in C order.
    fn gather(&self, bytes: &[u8], range: Range<usize>) -> Vec<u8> {
        let size = self.dtype.size();
        let mut strides = Vec::with_capacity(self.shape.len());
        let mut stride = size;
        for &axis in &self.shape {
            strides.push(stride);
            stride *= axis;
        }
        let mut index = unravel(range.start, &self.shape);
        let mut offset: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        let mut gathered = Vec::with_capacity(range.len() * size);
        for _ in range {
            gathered.extend_from_slice(&bytes[offset..offset + size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                offset += strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                offset -= index[axis] * strides[axis];
                index[axis] = 0;
            }
        }
        gathered
    }
}

impl Header {
    /// An error unless exactly the declared bytes are there after the header.
    pub(super) fn check_bytes(&self, place: &str, found: u64) -> Result<(), DataError> {
        if found == self.data_bytes {
            return Ok(());
        }
        Err(DataError::ByteCount {
            place: place.to_owned(),
            dtype: self.dtype.name(),
            shape: self.shape.clone(),
            expected: self.data_bytes,
            found,
        })
    }
}

/// The index along each axis of the element `flat` of C order.
pub(super) fn unravel(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut index = vec![0; shape.len()];
    for (at, &axis) in index.iter_mut().zip(shape).rev() {
        // An axis of 0 means there is no element; the index is never used then.
        *at = rest % axis.max(1);
        rest /= axis.max(1);
    }
    index
}

/// Refuses an array that is too large to be held in memory.
pub(super) fn check_memory(place: &str, bytes: u64, advice: &'static str) -> Result<(), DataError> {
    if bytes <= MAX_IN_MEMORY {
        return Ok(());
    }
    let what = "the array".to_owned();
    Err(DataError::TooLarge { place: place.to_owned(), what, bytes, limit: MAX_IN_MEMORY, advice })
}

/// Opens a regular file and gives its length; anything else is refused before it is opened, for opening a pipe may block.
pub(super) fn open_regular(path: &Path) -> Result<(File, u64), DataError> {
    let place = || path.display().to_string();
    let failed = |error| DataError::Read { place: place(), error };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(DataError::NotRegular { place: place(), found: "a folder" });
    }
    if !metadata.is_file() {
        return Err(DataError::NotRegular { place: place(), found: "a pipe, socket or device" });
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

fn map_chunks<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect()
}

/// Fills `bytes` from a position of the file, without moving a cursor that other threads share.
#[cfg(unix)]
fn read_at(file: &File, position: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, position)
}

/// Fills `bytes` from a position of the file; every read names its position, so the moving cursor does no harm.
#[cfg(windows)]
fn read_at(file: &File, mut position: u64, mut bytes: &mut [u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, position)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        position += read as u64;
        bytes = &mut bytes[read..];
    }
    Ok(())
}
