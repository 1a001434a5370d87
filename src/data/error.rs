//! The one error type of the data side.
//!
//! Each text says which file, what was found, what was expected and what to do about it, in one paragraph,
//! so that the command line can print it as it is.

use std::io;

/// Why a data file could not be used, or an output could not be written.
///
/// `place` is the file as the caller named it, followed by `:NAME` for an array within an `.npz` archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to open or read a file or folder.
    #[error("cannot read {place}: {error}")]
    Read {
        /// The file or folder.
        place: String,
        /// What the operating system said.
        error: io::Error,
    },

    /// A path that is neither a regular file nor a folder (a pipe, a device, a socket).
    #[error("{place} is {found}, not a regular file: samples are read by position, so copy the data into a file first")]
    NotRegular {
        /// The path.
        place: String,
        /// What it is.
        found: &'static str,
    },

    /// The first bytes belong to no format that is read here.
    #[error("{place} is {found}; expected {expected}")]
    UnknownFormat {
        /// The file.
        place: String,
        /// What its first bytes look like.
        found: String,
        /// The formats taken in this place.
        expected: &'static str,
    },

    /// The header of an `.npy` array is damaged.
    #[error("{place} has a damaged npy header: {reason}; write it again with numpy.save")]
    NpyHeader {
        /// The file or archive member.
        place: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An array holds elements of a type that is not taken in this place.
    #[error("{place} holds {found}; expected {expected}")]
    Dtype {
        /// The file or archive member.
        place: String,
        /// The element type found, in words.
        found: String,
        /// The element types taken, with how to convert.
        expected: String,
    },

    /// The bytes present do not agree with the header.
    #[error(
        "{place} declares {dtype} {shape:?}, which takes {expected} bytes after the header, but {found} are there: \
         the file is {} or its header is damaged", if found < expected { "truncated" } else { "longer than it says" }
    )]
    ByteCount {
        /// The file or archive member.
        place: String,
        /// The element type declared.
        dtype: &'static str,
        /// The shape declared.
        shape: Vec<usize>,
        /// Bytes the declared array takes.
        expected: u64,
        /// Bytes present.
        found: u64,
    },

    /// An array, or an image after preprocessing, has another shape than the network takes.
    #[error("{place} gives shape {found}; expected {expected}{advice}")]
    Shape {
        /// The file or archive member.
        place: String,
        /// The shape found.
        found: String,
        /// The shape the network takes.
        expected: String,
        /// What to do, starting with punctuation; may be empty.
        advice: String,
    },

    /// There is nothing in the file or folder.
    #[error("{place} holds no samples: {reason}")]
    Empty {
        /// The file or folder.
        place: String,
        /// What was looked for.
        reason: String,
    },

    /// Something would take more memory than is allowed for it.
    #[error("{place}: {what} takes {bytes} bytes, more than the limit of {limit} bytes; {advice}")]
    TooLarge {
        /// The file or archive member.
        place: String,
        /// What is too large.
        what: String,
        /// The size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// What to do.
        advice: &'static str,
    },

    /// An `.npz` archive is damaged or uses what is not read here.
    #[error("{place} is not a usable npz archive: {reason}")]
    Npz {
        /// The archive, or archive and member.
        place: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An `.npz` archive lacks the array for a network input.
    #[error(
        "{place} has no array named `{name}` for the network input of that name; it holds {}", listed(.found)
    )]
    MissingArray {
        /// The archive.
        place: String,
        /// The input without an array.
        name: String,
        /// The arrays it holds.
        found: Vec<String>,
    },

    /// An `.npz` archive with several arrays where one is wanted.
    #[error(
        "{place} holds several arrays, {}: save the samples alone, as an .npy or as an .npz of one array", listed(.found)
    )]
    SeveralArrays {
        /// The archive.
        place: String,
        /// The arrays it holds.
        found: Vec<String>,
    },

    /// One array or folder for a network of several inputs.
    #[error(
        "{place} gives one value per sample, but the network takes {} inputs, {}: save an .npz with one array for each, \
         named as the inputs are", .inputs.len(), listed(.inputs)
    )]
    SeveralInputs {
        /// The file or folder.
        place: String,
        /// The names of the network's inputs.
        inputs: Vec<String>,
    },

    /// The arrays for two network inputs hold different numbers of samples.
    #[error(
        "{place} holds {n} samples for input `{first}` but {m} for input `{second}`; they must be the same samples"
    )]
    SampleCounts {
        /// The archive.
        place: String,
        /// One input.
        first: String,
        /// Its number of samples.
        n: usize,
        /// Another input.
        second: String,
        /// Its number of samples.
        m: usize,
    },

    /// NaN, infinity, or a number too large for float32.
    #[error(
        "{place}: sample {sample} holds {} at position {position:?}; networks take finite numbers of float32: remove or repair the \
         sample", not_finite(*.value)
    )]
    NotFinite {
        /// The file or archive member.
        place: String,
        /// Index of the sample, from 0.
        sample: usize,
        /// Position within the sample, one index per axis.
        position: Vec<usize>,
        /// The value as stored.
        value: f64,
    },

    /// A number that an input of whole numbers does not take.
    #[error(
        "{place}: sample {sample} holds {value} at position {position:?}; the network takes whole numbers{} there",
        bounds(*.low, *.high)
    )]
    NotWhole {
        /// The file or archive member.
        place: String,
        /// Index of the sample, from 0.
        sample: usize,
        /// Position within the sample, one index per axis.
        position: Vec<usize>,
        /// The value as stored.
        value: Box<str>,
        /// The least number.
        low: i64,
        /// The greatest number.
        high: i64,
    },

    /// An image that cannot be decoded.
    #[error("cannot decode image {place}: {reason}; remove it or save it again")]
    Image {
        /// The file.
        place: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Images without a preprocess file.
    #[error(
        "{place} holds {what}, and how to turn pixels into the network's input is not known: give a preprocess file with \
         --preprocess P.toml (keys layout, network_layout, color, scale, mean, std, resize, crop), or save float32 samples as the network \
         takes them"
    )]
    NeedsPreprocess {
        /// The file or folder.
        place: String,
        /// What was found.
        what: String,
    },

    /// A preprocess file that cannot be used.
    #[error("preprocess file {place}: {reason}")]
    Preprocess {
        /// The file.
        place: String,
        /// The line and what is wrong with it.
        reason: String,
    },

    /// A folder of images with a folder in it.
    #[error(
        "{place} holds the folder `{name}`: sub-folders are not walked, because the order of the samples would not be \
         plain; put all files in one folder"
    )]
    SubFolder {
        /// The folder.
        place: String,
        /// The first folder within it.
        name: String,
    },

    /// A label file that cannot be used.
    #[error("label file {place}: {reason}")]
    Labels {
        /// The file.
        place: String,
        /// What is wrong with it.
        reason: String,
    },

    /// Not one label per sample.
    #[error("label file {place} holds {labels} labels, but the data has {samples} samples")]
    LabelCount {
        /// The label file.
        place: String,
        /// Labels found.
        labels: usize,
        /// Samples in the data.
        samples: usize,
    },

    /// A label that is no class of the network.
    #[error(
        "label file {place}: label {index} (from 0) is {label}, but the network has {classes} classes, \
         so labels run from 0 to {}", .classes.saturating_sub(1)
    )]
    LabelRange {
        /// The label file.
        place: String,
        /// Which label, from 0.
        index: usize,
        /// Its value.
        label: i128,
        /// Number of classes.
        classes: usize,
    },

    /// A sample that is not in the data set.
    #[error("sample {index} was asked for, but {place} has {len}")]
    Index {
        /// The file or folder.
        place: String,
        /// The index asked for.
        index: usize,
        /// Number of samples.
        len: usize,
    },

    /// A split that leaves one side empty.
    #[error("cannot hold out {held_out} of {n} samples: each part needs at least one")]
    Split {
        /// Number of samples.
        n: usize,
        /// Number to hold out.
        held_out: usize,
    },

    /// An output that could not be written; nothing is left behind.
    #[error("cannot write {place}: {reason}")]
    Write {
        /// The output path.
        place: String,
        /// What went wrong.
        reason: String,
    },
}

/// Names in backquotes, separated by commas; at most eight of them.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        text.push(format!("and {} more", names.len() - SHOWN));
    }
    if text.is_empty() { "none".to_owned() } else { text.join(", ") }
}

/// From which number to which; of 64 bits nothing is left to say.
fn bounds(low: i64, high: i64) -> String {
    if (low, high) == (i64::MIN, i64::MAX) { String::new() } else { format!(" from {low} to {high}") }
}

fn not_finite(value: f64) -> String {
    if value.is_finite() { format!("{value:e}, which float32 cannot hold,") } else { format!("{value}") }
}
