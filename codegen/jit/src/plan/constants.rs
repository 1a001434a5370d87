//! Everything constant that the emitted code reads, in one block of memory.

/// The constants of a compiled program, growing.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    bytes: Vec<u8>,
}

/// Alignment of every entry.
const ALIGNMENT: usize = 64;

/// Bytes behind every entry that may be read, not used: vector loads reach past the last channel.
const SLACK: usize = 64;

impl Constants {
    /// Appends an entry and gives its offset.
    pub fn push<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        let end = (self.bytes.len() + SLACK).next_multiple_of(ALIGNMENT);
        self.bytes.resize(end, 0);
        at
    }

    /// The block.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
