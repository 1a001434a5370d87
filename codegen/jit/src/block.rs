//! Memory for activations, scratch and constants.

use crate::error::JitError;

/// A cache line; its alignment makes blocks start on a cache line boundary.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub [u8; 64]);

/// Memory that starts on a cache line boundary.
#[derive(Debug)]
pub(crate) struct Block {
    /// The memory.
    pub lines: Vec<Line>,
}

/// Blocks of at least this many bytes request large pages.
const LARGE: usize = 4 << 20;

/// Bytes of a large page on x86-64 and AArch64.
const LARGE_PAGE: usize = 2 << 20;

impl Block {
    /// A block of zero bytes.
    pub fn new(bytes: usize) -> Result<Block, JitError> {
        let mut lines = Block::room(bytes)?;
        lines.resize(bytes.div_ceil(64), Line([0; 64]));
        Ok(Block { lines })
    }

    /// An empty block with room for `bytes` bytes. The operating system supplies memory only as the block is filled.
    pub fn with_room(bytes: usize) -> Result<Block, JitError> {
        Ok(Block { lines: Block::room(bytes)? })
    }

    /// Appends bytes, and pads the last line with 0.
    pub fn extend(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks();
        self.lines.extend(whole.iter().map(|&line| Line(line)));
        if !rest.is_empty() {
            let mut line = Line([0; 64]);
            line.0[..rest.len()].copy_from_slice(rest);
            self.lines.push(line);
        }
    }

    /// Sets the length to `bytes` bytes, rounded up to whole lines.
    pub fn resize(&mut self, bytes: usize) {
        self.lines.resize(bytes.div_ceil(64), Line([0; 64]));
    }

    fn room(bytes: usize) -> Result<Vec<Line>, JitError> {
        let count = bytes.div_ceil(64);
        let mut lines: Vec<Line> = Vec::new();
        lines
            .try_reserve_exact(count)
            .map_err(|_| JitError::Run(format!("no memory for {bytes} bytes of activations or weights")))?;
        if bytes >= LARGE {
            advise_large_pages(lines.as_mut_ptr().cast(), count * 64);
        }
        Ok(lines)
    }
}

/// Requests large pages for the part of the memory that consists of whole ones, before it is first accessed. Weights are read only once per
/// run, and would otherwise wait for address translations. A refusal only affects speed.
#[cfg(target_os = "linux")]
fn advise_large_pages(start: *mut u8, bytes: usize) {
    let before = start.align_offset(LARGE_PAGE);
    let whole = bytes.saturating_sub(before) / LARGE_PAGE * LARGE_PAGE;
    if whole > 0 {
        // SAFETY: the range is within one allocation of this crate, and the advice changes neither its content nor its protection.
        unsafe { libc::madvise(start.add(before).cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_large_pages(_start: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_zero_and_hold_a_copy() {
        let bytes: Vec<u8> = (0..5 << 20).map(|i| (i % 251) as u8).collect();
        let zero = Block::new(bytes.len()).unwrap();
        assert!(zero.lines.iter().all(|line| line.0 == [0; 64]));
        let mut copy = Block::with_room(bytes.len() / 2).unwrap();
        copy.extend(&bytes[..64]);
        copy.extend(&bytes[64..]);
        assert!(copy.lines.iter().flat_map(|line| line.0).take(bytes.len()).eq(bytes));
    }
}
