//! All constants that emitted code reads, in one block of memory.

use crate::block::Block;
use crate::error::JitError;

/// The constants of a compiled program, while they are appended.
#[derive(Debug)]
pub(crate) struct Constants {
    block: Block,
    bytes: usize,
    /// Offset and bytes of each entry, in ascending order of offsets.
    entries: Vec<(usize, usize)>,
}

/// Alignment of every entry.
const ALIGNMENT: usize = 64;

/// Bytes past every entry that may be read but not used, because vector loads reach past the last channel.
pub(crate) const SLACK: usize = 64;

impl Constants {
    /// No constants yet. Reserves address space for `bytes` bytes, which is backed by memory only as constants are appended. Constants that
    /// exceed it are moved to a larger block.
    pub fn with_room(bytes: usize) -> Result<Constants, JitError> {
        Ok(Constants { block: Block::with_room(bytes)?, bytes: 0, entries: vec![] })
    }

    /// Appends an entry and returns its offset.
    pub fn push<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> usize {
        let at = self.bytes;
        self.block.extend(bytemuck::cast_slice(values));
        self.bytes = (at + size_of_val(values) + SLACK).next_multiple_of(ALIGNMENT);
        self.block.resize(self.bytes);
        self.entries.push((at, size_of_val(values)));
        at
    }

    /// Bytes of the entry at an offset that [`Constants::push`] has returned.
    pub fn entry(&self, at: usize) -> Option<usize> {
        let found = self.entries.binary_search_by_key(&at, |&(start, _)| start).ok()?;
        Some(self.entries[found].1)
    }

    /// The first `count` 32-bit words of an entry; `None` if it is shorter.
    pub fn words(&self, at: usize, count: usize) -> Option<Vec<u32>> {
        if self.entry(at)? < 4 * count {
            return None;
        }
        let word = |at: usize| {
            let line = &self.block.lines[at / 64].0;
            u32::from_le_bytes([0, 1, 2, 3].map(|byte| line[at % 64 + byte]))
        };
        Some((0..count).map(|number| word(at + 4 * number)).collect())
    }

    /// Total bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// The block.
    pub fn into_block(self) -> Block {
        self.block
    }

    /// A copy of the bytes.
    #[cfg(feature = "object")]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.block.lines.iter().flat_map(|line| line.0).collect()
    }
}
