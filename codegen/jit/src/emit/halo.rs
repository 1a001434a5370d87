//! Writing the padding around an image.

use super::emitter::Emitter;
use crate::storage::{Buffer, Halo, Placed, StorageFormat};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::I8X16;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The halo of an image that a step writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HaloFill {
    slot: usize,
    halo: Halo,
    height: usize,
    width: usize,
    row_bytes: i64,
    pixel_bytes: i64,
    fill: u8,
    /// The last byte of a pixel, if it differs from the others: the row offset of an odd last channel and its phantom.
    last: Option<u8>,
}

impl HaloFill {
    /// The halo of a buffer, if it has one.
    pub fn new(slot: usize, buffer: &Buffer) -> Option<HaloFill> {
        if buffer.halo == Halo::NONE {
            return None;
        }
        let odd = buffer.format == StorageFormat::RowOffset && !buffer.dims[0].is_multiple_of(2) && buffer.zero() != 0;
        Some(HaloFill {
            slot,
            halo: buffer.halo,
            height: buffer.dims[1],
            width: buffer.dims[2],
            row_bytes: buffer.stride(1),
            pixel_bytes: buffer.stride(2),
            fill: buffer.fill(),
            last: odd.then(|| catc_kernels::pairs::rows::row_offset(buffer.zero(), 0)),
        })
    }

    /// Writes the padding that belongs to the rows `first..last`: between each row and the next, and above the first and below the last row
    /// of the image.
    pub fn emit(&self, e: &mut Emitter<'_>, first: Value, last: Value) {
        let base = e.slot(self.slot);
        let Halo { top, left, bottom, right } = self.halo;
        let row_pixels = (self.row_bytes / self.pixel_bytes) as usize;
        if top + left > 0 {
            let at_top = e.b.ins().icmp_imm_s(IntCC::Equal, first, 0);
            e.when(at_top, |e| self.pixels(e, base, top * row_pixels + left));
        }
        let row_end = self.row_bytes * top as i64 + self.pixel_bytes * (left + self.width) as i64;
        let ends = e.offset(base, row_end);
        if right + left > 0 {
            let inner = e.int(self.height as i64 - 1);
            let to = e.b.ins().smin(last, inner);
            let start = e.index(ends, first, self.row_bytes);
            e.range(first, to, &[(start, self.row_bytes)], vec![], |e, _, pointers, _| {
                self.pixels(e, pointers[0], right + left);
                vec![]
            });
        }
        if right + bottom > 0 {
            let at_bottom = e.b.ins().icmp_imm_s(IntCC::Equal, last, self.height as i64);
            e.when(at_bottom, |e| {
                let end = e.offset(ends, self.row_bytes * (self.height as i64 - 1));
                self.pixels(e, end, right + bottom * row_pixels);
            });
        }
    }

    fn pixels(&self, e: &mut Emitter<'_>, pointer: Value, count: usize) {
        let bytes = count * self.pixel_bytes as usize;
        let fill = e.bytes(self.fill);
        fill_bytes(e, pointer, bytes, fill);
        if let Some(last) = self.last {
            let byte = e.int(i64::from(last));
            e.repeat(count, &[(pointer, self.pixel_bytes)], vec![], |e, pointers, _| {
                e.store_byte(byte, pointers[0], self.pixel_bytes - 1);
                vec![]
            });
        }
    }
}

/// Fills `bytes` bytes with a vector of equal bytes.
pub(crate) fn fill_bytes(e: &mut Emitter<'_>, pointer: Value, bytes: usize, fill: Value) {
    let turns = bytes / 16;
    e.repeat(turns, &[(pointer, 16)], vec![], |e, pointers, _| {
        e.store(fill, pointers[0], 0);
        vec![]
    });
    let rest = bytes % 16;
    if rest > 0 {
        let fill = e.cast(I8X16, fill);
        e.store_contiguous(pointer, 16 * turns as i64, rest, fill);
    }
}

impl Placed {
    /// The halo of this tensor, which the step that writes the tensor must fill.
    pub fn halo_fill(&self, slot: usize) -> Option<HaloFill> {
        HaloFill::new(slot, &self.buffer)
    }
}
