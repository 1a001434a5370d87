//! model.bin: the bytes of a program.
//!
//! A header with a table of sections, then the sections, each with a checksum: the metadata (protocol buffers), the
//! codes of constants packed at their own width, and the reals. `docs/model-format.md` describes it byte by byte.
//!
//! Reading trusts nothing: sizes are checked against the length of the file before memory is taken (constants take as many
//! bytes as in the file), and the program is validated before it is handed out. Checksums find damage; they do
//! not prove where a file comes from.

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

/// The version of the format that this crate writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// The largest section of metadata, or of tunings, that is read, in bytes.
pub const MAX_METADATA: usize = 1 << 24;

/// Why bytes are no program.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The first bytes are not those of a model.bin.
    #[error(
        "this is no model.bin: its first bytes are not the format's. Compile a network with `catc MODEL.onnx -o model.bin`"
    )]
    NotAModel,
    /// Bytes are missing at the end.
    #[error("the file is cut off: {found} bytes of {needed} are there. Copy or compile it again")]
    Truncated {
        /// Bytes that the header, or what is known of it, asks for.
        needed: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Bytes that do not belong to the file.
    #[error("{found} bytes where the header says {expected}: something was appended. Copy or compile the file again")]
    TrailingBytes {
        /// The length in the header.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Written by a newer catc.
    #[error(
        "the file has format version {found}, this catc reads up to {VERSION}: run it with a newer catc, or compile the network again with this one"
    )]
    NewerVersion {
        /// The version in the file.
        found: u32,
    },
    /// A section that must be understood and is not.
    #[error(
        "the file has a section of kind {kind} that this catc does not know: run it with a newer catc, or compile the network again with this one"
    )]
    UnknownSection {
        /// Its kind.
        kind: u32,
    },
    /// Bytes have changed since the file was written.
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
    /// What the file says is no program that can be run.
    #[error("{0}. Compile the network again")]
    Invalid(#[from] InvalidProgram),
}

/// Why a file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no regular file.
    #[error("cannot read {}: not a regular file. Give the path of a model.bin", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// What it holds is no program.
    #[error("cannot load {}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
}

impl Program {
    /// The bytes of model.bin; equal programs give equal bytes. The program is validated first, so that what is written can be read.
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

    /// The program in the bytes of a model.bin, checked and validated.
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

    /// Reads a model.bin and the program in it. The file is copied first: another process that changes it meanwhile can at worst make
    /// the checks fail.
    pub fn load(path: impl AsRef<Path>) -> Result<Program, LoadError> {
        let path = path.as_ref();
        let io = |source| LoadError::Io { path: path.to_path_buf(), source };
        // Asked before it is opened: opening a pipe would wait for its writer.
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
