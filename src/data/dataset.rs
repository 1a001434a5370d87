//! A set of samples for one input of a network, whatever it is stored as.

use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::array::{Array, open_regular};
use super::error::DataError;
use super::image;
use super::image_axes::ImageAxes;
use super::kind::Kind;
use super::npy::{Dtype, element_count};
use super::number::Number;
use super::pipeline::Pipeline;
use super::preprocess::ImageLayout;

/// Longest image file that is read: 1 GiB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Element types of samples.
pub(super) const ACCEPTS: &str = "float32 samples as the network takes them (float16 and float64 are converted; convert \
    others with x.astype('<f4')), or uint8 images";

/// Element types of samples of whole numbers.
pub(super) const ACCEPTS_WHOLE: &str =
    "whole numbers, as the network takes them: of any integer type or bool, or reals that are whole";

/// An input of a network: what samples for it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name, which is the name of its array in an npz.
    pub name: String,
    /// The shape of one sample, without the batch axis.
    pub shape: Vec<usize>,
    /// The whole numbers that it takes; `None` if it takes reals.
    pub whole: Option<WholeNumbers>,
}

impl InputSpec {
    /// An input of reals.
    pub fn reals(name: impl Into<String>, shape: &[usize]) -> InputSpec {
        InputSpec { name: name.into(), shape: shape.to_vec(), whole: None }
    }
}

/// What an input of whole numbers, or of truth values as 0 and 1, takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeNumbers {
    /// The least number.
    pub low: i64,
    /// The greatest number.
    pub high: i64,
    /// The least and the greatest of the synthetic ones.
    pub drawn: (i64, i64),
}

impl WholeNumbers {
    /// Whether the numbers are those of pixels.
    pub(super) fn are_pixels(&self) -> bool {
        (self.low, self.high) == (0, 255)
    }
}

/// Samples of one shape, read when asked for, by any thread.
#[derive(Debug)]
pub struct DataSet {
    pub(super) place: String,
    pub(super) shape: Vec<usize>,
    /// Elements of one sample.
    pub(super) elements: usize,
    pub(super) len: usize,
    /// What the samples are, where they are no reals.
    pub(super) whole: Option<WholeNumbers>,
    pub(super) source: Source,
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Source {
    /// `[n, shape...]`, as the network takes it: reals or whole numbers.
    Plain(Array),
    /// uint8 `[n, H, W, C]`, `[n, C, H, W]` or `[n, H, W]`.
    Images { array: Array, axes: ImageAxes, pipeline: Box<Pipeline> },
    /// One sample a file.
    Files { files: Vec<PathBuf>, preprocess: Option<(ImageLayout, Box<Pipeline>)> },
    /// Standard normal numbers, or whole numbers of equal probability.
    Synthetic { seed: u64, input: u16 },
}

impl DataSet {
    /// Number of samples; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The shape of one sample, without the batch axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The file or folder, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Notes for the user, in whole sentences: samples that were left out, a preprocess file that was not needed.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether the samples are synthetic.
    pub fn is_synthetic(&self) -> bool {
        matches!(self.source, Source::Synthetic { .. })
    }

    /// One line on what the samples are of which `used` are used, such as `calib.npy: 256 (of 1024) samples, uint8 [32, 32, 3]`.
    pub fn describe(&self, used: usize) -> String {
        let of = match &self.source {
            Source::Plain(array) | Source::Images { array, .. } => {
                format!("{} {:?}", array.dtype().name(), array.shape().get(1..).unwrap_or(&[]))
            }
            Source::Files { .. } => "one file each".to_owned(),
            Source::Synthetic { .. } => {
                format!("{} {:?}", if self.whole.is_some() { "whole numbers" } else { "float32" }, self.shape)
            }
        };
        let all = if used < self.len { format!(" (of {})", self.len) } else { String::new() };
        format!("{}: {used}{all} samples, {of}", self.place)
    }

    /// The sample files of a folder in their order; `None` for arrays.
    pub fn sample_files(&self) -> Option<&[PathBuf]> {
        match &self.source {
            Source::Files { files, .. } => Some(files),
            _ => None,
        }
    }

    /// The whole numbers that the samples are of; `None` if they are reals.
    pub fn whole(&self) -> Option<WholeNumbers> {
        self.whole
    }

    /// Sample `index` as the network takes it, in C order: as f32, or as i64 where it takes whole numbers.
    ///
    /// # Errors
    /// [`DataError::NotFinite`] for NaN and infinity, [`DataError::NotWhole`] for what is no whole number that the network takes, and
    /// whatever decoding and reading finds.
    pub fn sample<T: Number>(&self, index: usize) -> Result<Vec<T>, DataError> {
        let mut sample = vec![T::default(); self.elements];
        self.sample_into(index, &mut sample)?;
        Ok(sample)
    }

    /// The samples `indices` one after the other, decoded in parallel. The error, if any, is that of the first that fails.
    pub fn samples<T: Number>(&self, indices: &[usize]) -> Result<Vec<T>, DataError> {
        let total = self.elements.saturating_mul(indices.len());
        let mut samples: Vec<T> = Vec::new();
        samples.try_reserve_exact(total).map_err(|_| DataError::TooLarge {
            place: self.place.clone(),
            what: format!("{} samples of shape {:?}", indices.len(), self.shape),
            bytes: (total as u64).saturating_mul(size_of::<T>() as u64),
            limit: isize::MAX as u64,
            advice: "there is not so much memory, use fewer samples",
        })?;
        samples.resize(total, T::default());
        let failed = samples
            .par_chunks_mut(self.elements)
            .zip(indices)
            .map(|(sample, &index)| self.sample_into(index, sample).err())
            .find_first(Option::is_some);
        match failed.flatten() {
            Some(error) => Err(error),
            None => Ok(samples),
        }
    }

    /// Reads every sample once, in parallel, and reports the first that fails.
    pub fn validate_all(&self) -> Result<(), DataError> {
        self.validate(&(0..self.len).collect::<Vec<_>>())
    }

    /// Reads the samples `indices`, in parallel, and reports the first that fails.
    pub fn validate(&self, indices: &[usize]) -> Result<(), DataError> {
        let read = |index| match self.whole {
            Some(_) => self.sample::<i64>(index).err(),
            None => self.sample::<f32>(index).err(),
        };
        let failed = indices.par_iter().map(|&index| read(index)).find_first(Option::is_some);
        failed.flatten().map_or(Ok(()), Err)
    }

    /// A hash (XXH3, 64 bits) of the samples, as stored: the same for the same samples in an npy or an npz.
    ///
    /// It reads all of them once. For folders it covers the names of the files too.
    pub fn content_hash(&self) -> Result<u64, DataError> {
        let mut hash = Xxh3::new();
        match &self.source {
            Source::Plain(array) | Source::Images { array, .. } => {
                hash.update(array.dtype().name().as_bytes());
                let item = array.shape().get(1..).unwrap_or(&[]);
                for &axis in [self.len].iter().chain(item) {
                    hash.update(&(axis as u64).to_le_bytes());
                }
                let item = element_count(item).unwrap_or(0);
                for index in 0..self.len {
                    hash.update(&array.bytes(index * item..(index + 1) * item)?);
                }
            }
            Source::Files { files, .. } => {
                for file in files {
                    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    let bytes = read_file(file)?;
                    for part in [name.as_bytes(), &bytes] {
                        hash.update(&(part.len() as u64).to_le_bytes());
                        hash.update(part);
                    }
                }
            }
            Source::Synthetic { seed, input } => {
                for number in [*seed, u64::from(*input), self.len as u64].iter().chain(&[self.elements as u64]) {
                    hash.update(&number.to_le_bytes());
                }
            }
        }
        Ok(hash.digest())
    }

    fn sample_into<T: Number>(&self, index: usize, sample: &mut [T]) -> Result<(), DataError> {
        if index >= self.len {
            return Err(DataError::Index { place: self.place.clone(), index, len: self.len });
        }
        match &self.source {
            Source::Plain(array) => T::copy(self, array, index, index * self.elements, sample),
            Source::Images { array, axes, pipeline } => {
                let size = axes.height * axes.width * axes.channels;
                let bytes = array.bytes(index * size..(index + 1) * size)?;
                pipeline.apply(axes.pixels(bytes), sample, &self.place)
            }
            Source::Files { files, preprocess } => self.read_file(&files[index], index, preprocess.as_ref(), sample),
            Source::Synthetic { seed, input } => {
                T::draw(sample, self.whole, *seed, *input, index as u64);
                Ok(())
            }
        }
    }

    fn read_file<T: Number>(
        &self,
        file: &Path,
        index: usize,
        preprocess: Option<&(ImageLayout, Box<Pipeline>)>,
        sample: &mut [T],
    ) -> Result<(), DataError> {
        let place = file.display().to_string();
        let needs = |what: &str| DataError::NeedsPreprocess { place: place.clone(), what: what.to_owned() };
        if Kind::of(file)? != Kind::Npy {
            let (_, pipeline) = preprocess.ok_or_else(|| needs("an image"))?;
            return pipeline.apply(image::decode(&read_file(file)?, &place)?, sample, &place);
        }
        let accepts = if self.whole.is_some() { ACCEPTS_WHOLE } else { ACCEPTS };
        let array = Array::open(file, accepts)?;
        // A batch of one is accepted as a sample.
        let shape = match array.shape() {
            [1, rest @ ..] if rest.len() == self.shape.len() => rest,
            shape => shape,
        };
        if array.is_plain(shape, &self.shape, self.whole) {
            if shape != self.shape {
                let advice = ": in a folder each .npy is one sample".to_owned();
                return Err(array.wrong_shape(format!("{:?}", self.shape), advice));
            }
            return T::copy(self, &array, index, 0, sample);
        }
        if array.dtype() != Dtype::U8 {
            return Err(array.wrong_dtype(ACCEPTS));
        }
        let (layout, pipeline) = preprocess.ok_or_else(|| needs("a uint8 image"))?;
        let axes = ImageAxes::of(&array, shape, *layout)?;
        pipeline.check(axes.height, axes.width, &place)?;
        pipeline.apply(axes.pixels(array.bytes(0..array.elements())?), sample, &place)
    }
}

impl Array {
    /// Whether the elements are taken as they are, and not as pixels that a preprocess file makes reals or other pixels of; `item` is the
    /// shape of one sample here, `expected` that of the network.
    pub(super) fn is_plain(&self, item: &[usize], expected: &[usize], whole: Option<WholeNumbers>) -> bool {
        match whole {
            None => self.dtype().is_float(),
            Some(whole) => item == expected || self.dtype() != Dtype::U8 || !whole.are_pixels(),
        }
    }
}

/// The bytes of a whole regular file.
fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let place = || path.display().to_string();
    let (file, length) = open_regular(path)?;
    if length > MAX_FILE_BYTES {
        return Err(DataError::TooLarge {
            place: place(),
            what: "the file".to_owned(),
            bytes: length,
            limit: MAX_FILE_BYTES,
            advice: "no image is so long",
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(|error| DataError::Read { place: place(), error })?;
    Ok(bytes)
}
