//! Access to a few elements of a buffer that lie along one dimension, 1 to 16 of them.
//!
//! The code reads and writes exactly the elements that it is asked for, never their neighbours. There is one exception: the row offset of an
//! odd last channel also holds the code of a phantom channel. That code is written as 0.

use super::emitter::Emitter;
use crate::storage::{LaneAccess, LaneStep, StorageFormat};
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8, I8X16, I16, I16X8, I32, I32X4, I64, I64X2};
use cranelift_codegen::ir::{InstBuilder, Type, Value};

impl Emitter<'_> {
    /// `count` elements as f32, four to a vector: floats as they are, codes less their zero-point.
    pub fn load_floats(
        &mut self,
        access: LaneAccess,
        pointer: Value,
        displacement: i64,
        count: usize,
        zero_point: i32,
    ) -> Vec<Value> {
        if access.format == StorageFormat::Float {
            return self.load_words(F32X4, access.step, pointer, displacement, count);
        }
        let codes = self.load_codes(access, pointer, displacement, count);
        codes
            .into_iter()
            .map(|v| {
                let centred = if zero_point == 0 {
                    v
                } else {
                    let zero = self.ints(zero_point);
                    self.b.ins().isub(v, zero)
                };
                self.b.ins().fcvt_from_sint(F32X4, centred)
            })
            .collect()
    }

    /// `count` codes (or indices) as i32, four to a vector.
    pub fn load_codes(&mut self, access: LaneAccess, pointer: Value, displacement: i64, count: usize) -> Vec<Value> {
        if access.format == StorageFormat::Index {
            return self.load_words(I32X4, access.step, pointer, displacement, count);
        }
        let bytes = self.load_bytes(access, pointer, displacement, count);
        let mut vectors = Vec::new();
        let halves = if count > 8 { 2 } else { 1 };
        for half in 0..halves {
            let shorts = if half == 0 { self.b.ins().uwiden_low(bytes) } else { self.b.ins().uwiden_high(bytes) };
            vectors.push(self.b.ins().uwiden_low(shorts));
            vectors.push(self.b.ins().uwiden_high(shorts));
        }
        vectors.truncate(count.div_ceil(4));
        vectors
    }

    /// `count` codes as bytes, one to a lane from lane 0 on.
    pub fn load_bytes(&mut self, access: LaneAccess, pointer: Value, displacement: i64, count: usize) -> Value {
        match (access.format, access.step) {
            (StorageFormat::RowOffset, _) => {
                let offsets = self.load_contiguous(pointer, displacement, count.div_ceil(2));
                self.codes_of_row_offsets(offsets)
            }
            (_, LaneStep::Unit) => self.load_contiguous(pointer, displacement, count),
            (_, LaneStep::Broadcast) => {
                let byte = self.load(I8, pointer, displacement);
                self.b.ins().splat(I8X16, byte)
            }
            (_, LaneStep::Bytes(step)) => {
                let mut vector = self.bytes(0);
                for lane in 0..count {
                    let byte = self.load(I8, pointer, displacement + step * lane as i64);
                    vector = self.b.ins().insertlane(vector, byte, lane as u8);
                }
                vector
            }
        }
    }

    /// 1 to 16 bytes that lie together; the lanes beyond are 0.
    pub fn load_contiguous(&mut self, pointer: Value, displacement: i64, count: usize) -> Value {
        match count {
            16 => return self.load(I8X16, pointer, displacement),
            8 => {
                let word = self.load(I64, pointer, displacement);
                let vector = self.b.ins().scalar_to_vector(I64X2, word);
                return self.cast(I8X16, vector);
            }
            4 => {
                let word = self.load(I32, pointer, displacement);
                let vector = self.b.ins().scalar_to_vector(I32X4, word);
                return self.cast(I8X16, vector);
            }
            _ => {}
        }
        let mut vector = self.bytes(0);
        for (at, size) in pieces(count) {
            let (scalar, lanes) = piece_types(size);
            let piece = self.load(scalar, pointer, displacement + at as i64);
            vector = self.cast(lanes, vector);
            vector = self.b.ins().insertlane(vector, piece, (at / size) as u8);
        }
        self.cast(I8X16, vector)
    }

    /// Stores the first `count` lanes of bytes.
    pub fn store_bytes(&mut self, access: LaneAccess, pointer: Value, displacement: i64, count: usize, bytes: Value) {
        match (access.format, access.step) {
            (StorageFormat::RowOffset, _) => {
                let bytes = if count % 2 == 1 {
                    let zero = self.b.ins().iconst(I8, 0);
                    self.b.ins().insertlane(bytes, zero, count as u8)
                } else {
                    bytes
                };
                let offsets = self.row_offsets(bytes);
                self.store_contiguous(pointer, displacement, count.div_ceil(2), offsets);
            }
            (_, LaneStep::Bytes(step)) => {
                for lane in 0..count {
                    let byte = self.b.ins().extractlane(bytes, lane as u8);
                    self.store(byte, pointer, displacement + step * lane as i64);
                }
            }
            _ => self.store_contiguous(pointer, displacement, count, bytes),
        }
    }

    pub fn store_contiguous(&mut self, pointer: Value, displacement: i64, count: usize, bytes: Value) {
        if count == 16 {
            return self.store(bytes, pointer, displacement);
        }
        for (at, size) in pieces(count) {
            let (_, lanes) = match (at, size) {
                // The lowest lane of a float vector is a float register: stored without a detour.
                (0, 8) => (F64, F64X2),
                (0, 4) => (F32, F32X4),
                _ => piece_types(size),
            };
            let vector = self.cast(lanes, bytes);
            let piece = self.b.ins().extractlane(vector, (at / size) as u8);
            self.store(piece, pointer, displacement + at as i64);
        }
    }

    /// `count` 32-bit elements, four to a vector; missing lanes of the last vector are 0.
    pub fn load_words(
        &mut self,
        ty: Type,
        step: LaneStep,
        pointer: Value,
        displacement: i64,
        count: usize,
    ) -> Vec<Value> {
        let scalar = ty.lane_type();
        if step == LaneStep::Broadcast {
            let word = self.load(scalar, pointer, displacement);
            return vec![self.b.ins().splat(ty, word); count.div_ceil(4)];
        }
        let bytes = match step {
            LaneStep::Bytes(bytes) => bytes,
            _ => 4,
        };
        let mut vectors = Vec::with_capacity(count.div_ceil(4));
        for at in (0..count).step_by(4) {
            let here = displacement + bytes * at as i64;
            let lanes = (count - at).min(4);
            if lanes == 4 && bytes == 4 {
                vectors.push(self.load(ty, pointer, here));
                continue;
            }
            let word = self.load(scalar, pointer, here);
            let mut vector = self.b.ins().scalar_to_vector(ty, word);
            for lane in 1..lanes {
                let word = self.load(scalar, pointer, here + bytes * lane as i64);
                vector = self.b.ins().insertlane(vector, word, lane as u8);
            }
            vectors.push(vector);
        }
        vectors
    }

    /// Stores the first `count` lanes of 32-bit vectors.
    pub fn store_words(&mut self, step: LaneStep, pointer: Value, displacement: i64, count: usize, vectors: &[Value]) {
        let bytes = match step {
            LaneStep::Bytes(bytes) => bytes,
            _ => 4,
        };
        for (group, &vector) in vectors.iter().enumerate() {
            let here = displacement + bytes * 4 * group as i64;
            let lanes = (count - 4 * group).min(4);
            if lanes == 4 && bytes == 4 {
                self.store(vector, pointer, here);
                continue;
            }
            for lane in 0..lanes {
                let word = self.b.ins().extractlane(vector, lane as u8);
                self.store(word, pointer, here + bytes * lane as i64);
            }
        }
    }
}

/// `count` bytes cut into aligned pieces of 8, 4, 2 and 1: offset and size.
fn pieces(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    [8, 4, 2, 1].into_iter().filter_map(move |size| {
        if count - at >= size {
            at += size;
            Some((at - size, size))
        } else {
            None
        }
    })
}

fn piece_types(size: usize) -> (Type, Type) {
    match size {
        8 => (I64, I64X2),
        4 => (I32, I32X4),
        2 => (I16, I16X8),
        _ => (I8, I8X16),
    }
}

/// The vector type for elements of a storage format of four bytes.
pub(crate) fn word_type(format: StorageFormat) -> Type {
    match format {
        StorageFormat::Float => F32X4,
        _ => I32X4,
    }
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_cover_every_byte() {
        for count in 0..16 {
            let mut next = 0;
            for (at, size) in pieces(count) {
                assert_eq!((at, at % size), (next, 0));
                next += size;
            }
            assert_eq!(next, count);
        }
    }
}
