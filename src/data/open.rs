//! Opening of data sets: what a path holds, and whether it fits the network.

use std::path::{Path, PathBuf};

use super::array::{Array, MAX_IN_MEMORY};
use super::dataset::{ACCEPTS, ACCEPTS_WHOLE, DataSet, InputSpec, Source};
use super::error::DataError;
use super::folder;
use super::image_axes::ImageAxes;
use super::kind::Kind;
use super::npy::{Dtype, element_count};
use super::npz::Npz;
use super::pipeline::Pipeline;
use super::preprocess::Preprocess;

impl DataSet {
    /// Opens the samples for a network of one input; `expected` is the shape of one sample, without the batch axis.
    ///
    /// `path` is an `.npy` or `.npz` (of one array), an image, or a folder; recognised by content, not by name. Float
    /// arrays are `[n, expected...]` and taken as they are, with or without `preprocess`; uint8 arrays are images and need
    /// one, as image files do. Networks of whole numbers take arrays of any integer type as they are. Shapes are checked now, and the first file of a folder is decoded; the values of the others when
    /// they are read.
    ///
    /// # Errors
    /// Any [`DataError`] but those of labels, splits and outputs.
    pub fn open(path: &Path, preprocess: Option<&Preprocess>, expected: &[usize]) -> Result<DataSet, DataError> {
        let input = InputSpec::reals("", expected);
        let mut sets = DataSet::open_inputs(path, preprocess, std::slice::from_ref(&input))?;
        // One set per input, and there is one input.
        sets.pop().ok_or(DataError::SeveralInputs { place: path.display().to_string(), inputs: Vec::new() })
    }

    /// Opens the samples for every input of a network, one set per input, all of the same length.
    ///
    /// For one input everything is as in [`DataSet::open`], except that of an npz of several arrays the one with the input's
    /// name is taken. For several inputs `path` must be an npz with an array for each, of the input's name.
    pub fn open_inputs(
        path: &Path,
        preprocess: Option<&Preprocess>,
        inputs: &[InputSpec],
    ) -> Result<Vec<DataSet>, DataError> {
        let place = path.display().to_string();
        let options = Options { preprocess };
        let kind = Kind::of(path)?;
        if kind == Kind::Npz {
            return options.open_npz(path, inputs);
        }
        let [input] = inputs else {
            let inputs = inputs.iter().map(|input| input.name.clone()).collect();
            return Err(DataError::SeveralInputs { place, inputs });
        };
        let set = match kind {
            Kind::Folder => {
                let listing = folder::list(path)?;
                let mut set = options.open_files(place, listing.files, input)?;
                if let [first, ..] = &listing.left_out[..] {
                    let n = listing.left_out.len();
                    let note = format!("left out {n} of other kinds than .png, .jpg, .jpeg and .npy, first `{first}`.");
                    set.notes.push(format!("{}: {note}", set.place));
                }
                set
            }
            Kind::Image => options.open_files(place, vec![path.to_path_buf()], input)?,
            Kind::Npy | Kind::Npz => options.open_array(Array::open(path, accepts(input))?, input)?,
        };
        Ok(vec![set])
    }

    /// `n` samples of independent standard normal values, or whole numbers of equal probability, the same for the same seed.
    pub fn synthetic(input: &InputSpec, seed: u64, n: usize) -> Result<DataSet, DataError> {
        DataSet::synthetic_input(input, seed, n, 0)
    }

    /// Synthetic samples for every input of a network, independent of each other.
    pub fn synthetic_inputs(inputs: &[InputSpec], seed: u64, n: usize) -> Result<Vec<DataSet>, DataError> {
        (0u16..).zip(inputs).map(|(at, input)| DataSet::synthetic_input(input, seed, n, at)).collect()
    }

    fn synthetic_input(spec: &InputSpec, seed: u64, n: usize, input: u16) -> Result<DataSet, DataError> {
        let kind = match spec.whole {
            None => "standard normal".to_owned(),
            Some(whole) => format!("whole numbers from {} to {}", whole.drawn.0, whole.drawn.1),
        };
        let place = format!("synthetic samples ({kind}, seed {seed})");
        if n == 0 {
            return Err(DataError::Empty { place, reason: "0 samples were asked for".to_owned() });
        }
        Options { preprocess: None }.set(place, spec, n, Source::Synthetic { seed, input })
    }
}

/// What the samples are to be made of, besides their file.
struct Options<'a> {
    preprocess: Option<&'a Preprocess>,
}

impl Options<'_> {
    fn open_npz(&self, path: &Path, inputs: &[InputSpec]) -> Result<Vec<DataSet>, DataError> {
        let mut npz = Npz::open(path)?;
        let mut sets: Vec<DataSet> = Vec::new();
        for input in inputs {
            let name = match npz.names() {
                [only] if inputs.len() == 1 => only.clone(),
                names if input.name.is_empty() => {
                    return Err(DataError::SeveralArrays { place: npz.place().to_owned(), found: names.to_vec() });
                }
                _ => input.name.clone(),
            };
            let set = self.open_array(npz.array(&name, accepts(input))?, input)?;
            if let (Some(first), Some(other)) = (sets.first(), inputs.first())
                && first.len != set.len
            {
                return Err(DataError::SampleCounts {
                    place: npz.place().to_owned(),
                    first: other.name.clone(),
                    n: first.len,
                    second: input.name.clone(),
                    m: set.len,
                });
            }
            sets.push(set);
        }
        let unused: Vec<&str> = match (npz.names(), inputs) {
            ([_], [_]) => Vec::new(),
            (names, _) => names.iter().filter(|&n| inputs.iter().all(|i| i.name != **n)).map(String::as_str).collect(),
        };
        if let (false, Some(set)) = (unused.is_empty(), sets.first_mut()) {
            set.notes.push(format!("{}: left out arrays that belong to no input: {}.", npz.place(), unused.join(", ")));
        }
        Ok(sets)
    }

    fn open_array(&self, array: Array, input: &InputSpec) -> Result<DataSet, DataError> {
        let expected = &input.shape[..];
        let place = array.place().to_owned();
        let &[n, ref item @ ..] = array.shape() else {
            return Err(array.wrong_shape(with_batch(expected), ": the first axis counts the samples".to_owned()));
        };
        if n == 0 {
            return Err(DataError::Empty { place, reason: format!("its shape is {:?}", array.shape()) });
        }
        if array.is_plain(item, expected, input.whole) {
            if item != expected {
                let advice = if array.shape() == expected {
                    ": for a single sample save x[None], the first axis counts the samples"
                } else if moved_channels(item, expected) {
                    ": the channels stand elsewhere; move them with numpy.moveaxis"
                } else {
                    ": such arrays are taken as the network takes them"
                };
                return Err(array.wrong_shape(with_batch(expected), advice.to_owned()));
            }
            let mut set = self.set(place, input, n, Source::Plain(array))?;
            if self.preprocess.is_some() {
                set.notes.push(untouched(&set.place));
            }
            return Ok(set);
        }
        if array.dtype() != Dtype::U8 {
            return Err(array.wrong_dtype(ACCEPTS));
        }
        let Some(preprocess) = self.preprocess else {
            return Err(DataError::NeedsPreprocess { place, what: format!("uint8 {:?}", array.shape()) });
        };
        let pipeline = Box::new(Pipeline::new(preprocess, input, &place)?);
        let axes = ImageAxes::of(&array, item, preprocess.layout)?;
        pipeline.check(axes.height, axes.width, &place)?;
        self.set(place, input, n, Source::Images { array, axes, pipeline })
    }

    fn open_files(&self, place: String, files: Vec<PathBuf>, input: &InputSpec) -> Result<DataSet, DataError> {
        let len = files.len();
        let is_npy = |file: &PathBuf| file.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
        // A folder of float samples needs no pipeline, and must not fail for a preprocess file that does not fit it.
        let floats = match files.first().filter(|_| files.iter().all(is_npy)) {
            Some(first) => {
                let array = Array::open(first, accepts(input))?;
                array.is_plain(array.shape(), &input.shape, input.whole)
            }
            None => false,
        };
        let preprocess = match self.preprocess.filter(|_| !floats) {
            Some(preprocess) => Some((preprocess.layout, Box::new(Pipeline::new(preprocess, input, &place)?))),
            None => None,
        };
        let mut set = self.set(place, input, len, Source::Files { files, preprocess })?;
        if floats && self.preprocess.is_some() {
            set.notes.push(untouched(&set.place));
        }
        set.validate(&[0])?;
        Ok(set)
    }

    fn set(&self, place: String, input: &InputSpec, len: usize, source: Source) -> Result<DataSet, DataError> {
        let InputSpec { shape, whole, name: _ } = input;
        let elements = element_count(shape).unwrap_or(usize::MAX);
        if elements == 0 {
            let reason = format!("the network takes samples of shape {shape:?}, which are empty");
            return Err(DataError::Empty { place, reason });
        }
        // The shape comes from the network's file: it too is checked before memory is taken.
        let width = if whole.is_some() { size_of::<i64>() } else { size_of::<f32>() };
        let bytes = (elements as u64).saturating_mul(width as u64);
        if bytes > MAX_IN_MEMORY {
            let (what, limit) = (format!("a sample of shape {shape:?}"), MAX_IN_MEMORY);
            return Err(DataError::TooLarge {
                place,
                what,
                bytes,
                limit,
                advice: "is the network's input shape right?",
            });
        }
        Ok(DataSet { place, shape: shape.to_vec(), elements, len, whole: *whole, source, notes: Vec::new() })
    }
}

/// Element types that an input takes, in words.
fn accepts(input: &InputSpec) -> &'static str {
    if input.whole.is_some() { ACCEPTS_WHOLE } else { ACCEPTS }
}

/// Whether one shape is the other with the channels of an image moved from one end to the other.
fn moved_channels(found: &[usize], expected: &[usize]) -> bool {
    matches!((found, expected), (&[a, b, c], &[d, e, f]) if [a, b, c] == [e, f, d] || [a, b, c] == [f, d, e])
}

fn untouched(place: &str) -> String {
    format!("{place}: samples of its type are taken as the network takes them; the preprocess file was not applied.")
}

fn with_batch(expected: &[usize]) -> String {
    let axes: Vec<String> = std::iter::once("n".to_owned()).chain(expected.iter().map(usize::to_string)).collect();
    format!("[{}]", axes.join(", "))
}
