//! The format of model.bin, the file that holds a program.
//!
//! The file starts with a header and a table of sections. The sections follow, each with a checksum: the metadata (protocol
//! buffers), the packed codes of constants, the f32 values of constants, and optionally the tunings. `docs/model-format.md`
//! describes the format byte by byte.
//!
//! The reader does not trust the file. It checks sizes against the length of the file before it allocates memory; constants take
//! as many bytes in memory as in the file. It validates the program before it returns it. Checksums detect damage. They do not
//! prove where a file comes from.

mod constants;
mod container;
mod metadata;
mod save;
mod schema;
mod tunings;

pub use container::MAGIC;
pub use save::SaveError;

use crate::{InvalidProgram, Program};
use container::{Container, Section};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The version of the format that this crate writes. It is also the newest version that the crate reads.
pub const VERSION: u32 = 1;

/// The largest accepted size of the metadata section and of the section of tunings, in bytes.
pub const MAX_METADATA: usize = 1 << 24;

/// Why bytes could not be decoded as a program.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file does not start with [`MAGIC`].
    #[error(
        "this is no model.bin: its first bytes are not the format's. Compile a network with `catc MODEL.onnx -o model.bin`"
    )]
    NotAModel,
    /// The file is too short.
    #[error("the file is cut off: {found} bytes of {needed} are there. Copy or compile it again")]
    Truncated {
        /// The length that the header requires, or a lower bound if the header itself is cut off.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The file is longer than its header says.
    #[error("{found} bytes where the header says {expected}: something was appended. Copy or compile the file again")]
    TrailingBytes {
        /// The length in the header.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The file was written by a newer catc.
    #[error(
        "the file has format version {found}, this catc reads up to {VERSION}: run it with a newer catc, or compile the network again with this one"
    )]
    NewerVersion {
        /// The version in the file.
        found: u32,
    },
    /// The kind of a required section is unknown.
    #[error(
        "the file has a section of kind {kind} that this catc does not know: run it with a newer catc, or compile the network again with this one"
    )]
    UnknownSection {
        /// Its kind.
        kind: u32,
    },
    /// A checksum does not match: bytes have changed since the file was written.
    #[error("the {section} is damaged: its checksum does not match. Copy or compile the file again")]
    Checksum {
        /// Which part of the file.
        section: &'static str,
    },
    /// The header, or a section, contradicts itself.
    #[error("the {section} makes no sense: {message}. Compile the network again")]
    Malformed {
        /// Which part of the file.
        section: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The program in the file is not valid.
    #[error("{0}. Compile the network again")]
    Invalid(#[from] InvalidProgram),
}

/// Why a file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The path is not a regular file.
    #[error("cannot read {}: not a regular file. Give the path of a model.bin", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file does not hold a valid program.
    #[error("cannot load {}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
}

impl Program {
    /// Encodes the program as the bytes of a model.bin. Equal programs give equal bytes. The program is validated first, so every
    /// written file can be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InvalidProgram> {
        self.validate()?;
        let (codes, reals) = constants::store(&self.constants);
        let (metadata, tunings) = (metadata::encode(self), tunings::encode(&self.tunings));
        let mut sections = vec![(Section::Metadata, &metadata[..]), (Section::Codes, &codes), (Section::Reals, &reals)];
        if !self.tunings.is_empty() {
            sections.push((Section::Tunings, &tunings));
        }
        Ok(container::assemble(&sections))
    }

    /// Decodes and validates the program in the bytes of a model.bin.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, FormatError> {
        let container = Container::open(bytes)?;
        let encoded = container.section(Section::Metadata)?;
        let malformed = |section: Section| move |message| FormatError::Malformed { section: section.name(), message };
        let tunings = container.find(Section::Tunings).unwrap_or_default();
        for (section, bytes) in [(Section::Metadata, encoded), (Section::Tunings, tunings)] {
            if bytes.len() > MAX_METADATA {
                let message = format!("{} bytes, at most {MAX_METADATA} are read", bytes.len());
                return Err(malformed(section)(message));
            }
        }
        let mut program = metadata::decode(encoded).map_err(malformed(Section::Metadata))?;
        let (codes, reals) = (container.section(Section::Codes)?, container.section(Section::Reals)?);
        constants::load(&mut program.constants, codes, reals)
            .map_err(|(section, message)| malformed(section)(message))?;
        program.tunings = tunings::decode(tunings).map_err(malformed(Section::Tunings))?;
        program.validate()?;
        Ok(program)
    }

    /// Loads the program in a model.bin file. The file is read into memory first, so if another process changes it in the
    /// meantime, the worst outcome is that the checks fail.
    pub fn load(path: impl AsRef<Path>) -> Result<Program, LoadError> {
        let path = path.as_ref();
        let io = |source| LoadError::Io { path: path.to_path_buf(), source };
        // The check comes before the file is opened, because opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(LoadError::NotAFile { path: path.to_path_buf() });
        }
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let format = |source| LoadError::Format { path: path.to_path_buf(), source };
        if length == 0 {
            return Err(format(FormatError::Truncated { needed: container::HEADER as u64, found: 0 }));
        }
        let mut bytes = Vec::new();
        let size = usize::try_from(length).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
        bytes.try_reserve_exact(size).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
        file.by_ref().take(length).read_to_end(&mut bytes).map_err(io)?;
        Program::from_bytes(&bytes).map_err(format)
    }
}
