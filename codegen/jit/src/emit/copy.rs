//! Code that moves elements without changing them.

use super::emitter::Emitter;
use super::halo::HaloFill;
use super::lanes::word_type;
use super::nest::{Cursor, Nest};
use super::step_code::StepCode;
use super::walk::Walk;
use crate::storage::{Buffer, StorageFormat};
use cranelift_codegen::ir::Value;

/// Copies through one or more nests, each with cursor 0 writing and cursor 1 reading.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CopyCode {
    pub nests: Vec<Nest>,
    /// What fills the output beforehand: the nest over all of it, and the element's bits.
    pub fill: Option<(Nest, u32)>,
    pub halo: Option<HaloFill>,
    /// Rows of an image output, all written by one call; `None` if the units are those of the only nest.
    pub whole: Option<usize>,
}

impl StepCode for CopyCode {
    fn emit(&self, e: &mut Emitter<'_>) {
        if let Some(halo) = &self.halo {
            let rows = match self.whole {
                Some(rows) => (e.int(0), e.int(rows as i64)),
                None => (e.first, e.last),
            };
            halo.emit(e, rows.0, rows.1);
        }
        if let Some((nest, bits)) = &self.fill {
            let units = (e.int(0), e.int(nest.outer[0] as i64));
            e.nest(nest, units, &mut |e, pointers, count| {
                let access = nest.cursors[0].lanes;
                match access.format {
                    StorageFormat::Float | StorageFormat::Index => {
                        let value = e.ints(*bits as i32);
                        let value = e.cast(word_type(access.format), value);
                        e.store_words(access.step, pointers[0], 0, count, &vec![value; count.div_ceil(4)]);
                    }
                    _ => {
                        let value = e.bytes(*bits as u8);
                        e.store_bytes(access, pointers[0], 0, count, value);
                    }
                }
            });
        }
        for nest in &self.nests {
            let units = match self.whole {
                Some(_) => (e.int(0), e.int(nest.outer[0] as i64)),
                None => (e.first, e.last),
            };
            e.nest(nest, units, &mut |e, pointers, count| {
                move_elements(e, nest, pointers, count);
            });
        }
    }
}

/// Copies elements from cursor 1 of a nest to cursor 0.
pub(crate) fn move_elements(e: &mut Emitter<'_>, nest: &Nest, pointers: &[Value], count: usize) {
    let (to, from) = (nest.cursors[0].lanes, nest.cursors[1].lanes);
    match from.format {
        StorageFormat::Float | StorageFormat::Index => {
            let ty = word_type(from.format);
            let values = e.load_words(ty, from.step, pointers[1], 0, count);
            e.store_words(to.step, pointers[0], 0, count, &values);
        }
        _ => {
            let bytes = e.load_bytes(from, pointers[1], 0, count);
            e.store_bytes(to, pointers[0], 0, count, bytes);
        }
    }
}

/// The cursor of a whole buffer.
pub(crate) fn whole(walk: &Walk, slot: usize, buffer: &Buffer) -> Cursor {
    walk.cursor(slot, buffer.format, buffer.origin, &buffer.strides)
}
