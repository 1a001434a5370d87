//! The container of a model file: the header, the table of sections, and the sections.

use super::{FormatError, VERSION};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The first bytes of a model file. As in PNG's signature, a non-ASCII byte and the name are followed by line ends that a
/// text-mode copy would change.
pub const MAGIC: [u8; 8] = *b"\x89CATC\r\n\x1a";
/// The size of the header in bytes.
pub(super) const HEADER: usize = 64;
/// The byte offset of the header's checksum.
const CHECKSUM: usize = 56;
/// The size of a table entry in bytes.
const ENTRY: usize = 32;
/// Sections, and the constants within them, start at multiples of this many bytes.
pub(super) const ALIGNMENT: usize = 64;
/// The largest accepted number of sections. No version of the format needs more.
const MAX_SECTIONS: usize = 256;
/// The flag of a section that a reader may skip if it does not know its kind.
const OPTIONAL: u32 = 1;

/// The kinds of sections. The numbers are stored in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Metadata = 1,
    Codes = 2,
    Reals = 3,
    Tunings = 4,
}

impl Section {
    const ALL: [Section; 4] = [Section::Metadata, Section::Codes, Section::Reals, Section::Tunings];

    /// Tunings do not change results, so older readers may skip them.
    fn flags(self) -> u32 {
        if self == Section::Tunings { OPTIONAL } else { 0 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Section::Metadata => "metadata section",
            Section::Codes => "section of codes",
            Section::Reals => "section of reals",
            Section::Tunings => "section of tunings",
        }
    }
}

/// Rounds `n` up to a multiple of the alignment.
pub(super) fn aligned(n: usize) -> usize {
    n.next_multiple_of(ALIGNMENT)
}

/// Assembles a file from these sections.
pub(super) fn assemble(sections: &[(Section, &[u8])]) -> Vec<u8> {
    assemble_any(&sections.iter().map(|(kind, bytes)| (*kind as u32, kind.flags(), *bytes)).collect::<Vec<_>>())
}

/// Like [`assemble`], for arbitrary kinds and flags.
pub(super) fn assemble_any(sections: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut offset = aligned(HEADER + ENTRY * sections.len());
    let mut table = Vec::with_capacity(ENTRY * sections.len());
    let mut length = offset;
    for (kind, flags, bytes) in sections {
        table.extend(kind.to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend((offset as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(xxh3_64(bytes).to_le_bytes());
        length = offset + bytes.len();
        offset = aligned(length);
    }
    let mut file = Vec::with_capacity(length);
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend((sections.len() as u32).to_le_bytes());
    file.extend((length as u64).to_le_bytes());
    file.resize(CHECKSUM, 0);
    file.extend(header_checksum(&file, &table).to_le_bytes());
    file.extend(table);
    for (_, _, bytes) in sections {
        file.resize(aligned(file.len()), 0);
        file.extend_from_slice(bytes);
    }
    file
}

/// The checksum over the table and the header, excluding the checksum field.
fn header_checksum(header: &[u8], table: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&header[..CHECKSUM]);
    hash.update(table);
    hash.digest()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn malformed(message: impl Into<String>) -> FormatError {
    FormatError::Malformed { section: "header", message: message.into() }
}

/// A file whose header, table and checksums have been checked.
pub(super) struct Container<'a> {
    sections: Vec<(u32, &'a [u8])>,
}

impl<'a> Container<'a> {
    pub(super) fn open(file: &'a [u8]) -> Result<Self, FormatError> {
        let count = check_header(file)?;
        let table_end = HEADER + ENTRY * count;
        let mut sections: Vec<(u32, &[u8])> = Vec::with_capacity(count);
        let mut end = table_end;
        for i in 0..count {
            let entry = &file[HEADER + ENTRY * i..][..ENTRY];
            let (kind, flags) = (u32_at(entry, 0), u32_at(entry, 4));
            let known = Section::ALL.into_iter().find(|s| *s as u32 == kind);
            if known.is_none() && flags & OPTIONAL == 0 {
                return Err(FormatError::UnknownSection { kind });
            }
            if sections.iter().any(|(k, _)| *k == kind) {
                return Err(malformed(format!("two sections of kind {kind}")));
            }
            let start = aligned(end);
            let length = usize::try_from(u64_at(entry, 16)).ok();
            let stop = length.and_then(|n| start.checked_add(n)).filter(|stop| *stop <= file.len());
            let (true, Some(stop)) = (u64_at(entry, 8) == start as u64, stop) else {
                return Err(malformed(format!("section {i} does not follow the one before it within the file")));
            };
            if file[end..start].iter().any(|b| *b != 0) {
                return Err(malformed(format!("bytes between the sections before section {i} are not 0")));
            }
            if xxh3_64(&file[start..stop]) != u64_at(entry, 24) {
                return Err(FormatError::Checksum { section: known.map_or("section of unknown kind", Section::name) });
            }
            sections.push((kind, &file[start..stop]));
            end = stop;
        }
        if end != file.len() {
            return Err(malformed(format!("the sections end at {end} of {} bytes", file.len())));
        }
        Ok(Container { sections })
    }

    /// The bytes of an optional section, or `None` if the file does not have it.
    pub(super) fn find(&self, section: Section) -> Option<&'a [u8]> {
        self.sections.iter().find(|(kind, _)| *kind == section as u32).map(|(_, bytes)| *bytes)
    }

    pub(super) fn section(&self, section: Section) -> Result<&'a [u8], FormatError> {
        self.find(section).ok_or_else(|| malformed(format!("the {} is missing", section.name())))
    }
}

/// Checks the header and the table, and returns the number of sections.
fn check_header(file: &[u8]) -> Result<usize, FormatError> {
    let found = file.len() as u64;
    let shared = file.len().min(MAGIC.len());
    if file[..shared] != MAGIC[..shared] {
        return Err(FormatError::NotAModel);
    }
    if file.len() < HEADER {
        return Err(FormatError::Truncated { needed: HEADER as u64, found });
    }
    // The version is checked before the checksum, because a newer version may use a different header.
    let version = u32_at(file, 8);
    if version > VERSION {
        return Err(FormatError::NewerVersion { found: version });
    }
    let (count, length) = (u32_at(file, 12) as usize, u64_at(file, 16));
    if version == 0 || count > MAX_SECTIONS {
        return Err(malformed(format!("version {version}, {count} sections")));
    }
    let table_end = HEADER + ENTRY * count;
    if file.len() < table_end {
        return Err(FormatError::Truncated { needed: table_end as u64, found });
    }
    if header_checksum(file, &file[HEADER..table_end]) != u64_at(file, CHECKSUM) {
        return Err(FormatError::Checksum { section: "header" });
    }
    if file[24..CHECKSUM].iter().any(|b| *b != 0) {
        return Err(malformed("reserved bytes are not 0"));
    }
    match found {
        _ if found < length => Err(FormatError::Truncated { needed: length, found }),
        _ if found > length => Err(FormatError::TrailingBytes { expected: length, found }),
        _ => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sections_are_skipped_only_if_they_say_so() {
        let build = |flags| assemble_any(&[(1, 0, b"meta".as_slice()), (77, flags, b"tuning"), (3, 0, b"")]);
        let file = build(OPTIONAL);
        let container = Container::open(&file).unwrap();
        assert_eq!(container.section(Section::Metadata).unwrap(), b"meta");
        assert_eq!(container.section(Section::Reals).unwrap(), b"");
        assert!(container.section(Section::Codes).unwrap_err().to_string().contains("section of codes is missing"));
        assert!(matches!(Container::open(&build(0)), Err(FormatError::UnknownSection { kind: 77 })));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let good = assemble(&[(Section::Metadata, b"abc"), (Section::Codes, b"de"), (Section::Reals, b"")]);
        // Changes one byte and updates the header's checksum.
        let with = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            let checksum = header_checksum(&file, &file[HEADER..HEADER + 3 * ENTRY]);
            file[CHECKSUM..HEADER].copy_from_slice(&checksum.to_le_bytes());
            Container::open(&file).err().map(|e| e.to_string())
        };
        assert_eq!(with(0, MAGIC[0]), None);
        let cases = [
            (8, 2, "format version 2"),
            (8, 0, "version 0"),
            (15, 1, "16777219 sections"),
            (12, 255, "cut off"),
            (12, 2, "checksum"),
            (16, 1, "appended"),
            (18, 1, "cut off"),
            (30, 1, "reserved"),
            (HEADER, 2, "two sections of kind 2"),
            (HEADER + ENTRY, 9, "kind 9"),
            (HEADER + 8, 1, "section 0 does not follow"),
            (HEADER + 23, 255, "section 0 does not follow"),
            (HEADER + 16, 2, "damaged"),
            (HEADER + 24, 0, "metadata section is damaged"),
            (HEADER + ENTRY + 16, 1, "damaged"),
        ];
        for (at, byte, message) in cases {
            let found = with(at, byte).unwrap_or_default();
            assert!(found.contains(message), "byte {at} = {byte}: {found:?} should contain {message:?}");
        }
    }
}
