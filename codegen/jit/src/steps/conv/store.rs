//! From the values of a convolution to what it stores.

use super::loops::ConvCursor;
use crate::emit::emitter::Emitter;
use crate::emit::epilogue::{Epilogue, Output};
use crate::emit::halo::HaloFill;
use crate::storage::{LaneAccess, RowAccess, RowPlace};
use cranelift_codegen::ir::{InstBuilder, Value};

/// An operand of the epilogue, as the loops of a convolution meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvOperand {
    pub access: LaneAccess,
    /// Half bytes from channel to channel.
    pub channel: i64,
    pub pixel: i64,
    pub zero: i32,
    /// The highest code, of codes.
    pub levels: u8,
}

/// From values to the store: the cursors of output and operands are numbered from `first_cursor` on, output first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvStore {
    pub first_cursor: usize,
    pub output: Output,
    pub channel: i64,
    pub pixel: i64,
    pub operands: Vec<ConvOperand>,
    pub epilogue: Epilogue,
    pub halo: Option<HaloFill>,
}

impl ConvStore {
    /// How a function of work units with these cursors reaches its tensors, cursor 0 being its input.
    pub fn rows(&self, cursors: &[ConvCursor]) -> Option<RowAccess> {
        let rows = |cursor: &ConvCursor| RowPlace { slot: cursor.slot, origin: cursor.origin, row: cursor.unit };
        let mut ends = cursors[self.first_cursor..].iter().map(rows);
        Some(RowAccess { input: cursors[0].slot, output: ends.next()?, operands: ends.collect() })
    }

    /// Applies the epilogue to `count` values from channel `channel` of the tile on, at pixel `pixel` of the tile, and stores them.
    pub fn emit(
        &self,
        e: &mut Emitter<'_>,
        pointers: &[Value],
        pixel: usize,
        channel: usize,
        count: usize,
        values: Vec<Value>,
    ) {
        let place = |half: i64, bytes: i64| channel as i64 * half / 2 + pixel as i64 * bytes;
        let values = e.apply(&self.epilogue, values, |e, number| {
            let operand = &self.operands[number];
            let at = place(operand.channel, operand.pixel);
            e.load_floats(operand.access, pointers[self.first_cursor + 1 + number], at, count, operand.zero)
        });
        let at = place(self.channel, self.pixel);
        e.store_results(&self.output, &self.epilogue, pointers[self.first_cursor], at, count, values);
    }
}

impl ConvStore {
    /// Stores `count` codes, a byte each, of channels from `channel` of the tile on.
    pub fn emit_codes(
        &self,
        e: &mut Emitter<'_>,
        pointers: &[Value],
        pixel: usize,
        channel: usize,
        count: usize,
        codes: Value,
    ) {
        let at = channel as i64 * self.channel / 2 + pixel as i64 * self.pixel;
        e.store_bytes(self.output.access, pointers[self.first_cursor], at, count, codes);
    }
}

/// Loads the parameters of `count` channels from an f32 array, four to a vector; arrays are padded, so whole vectors are read.
pub(crate) fn channel_vectors(e: &mut Emitter<'_>, pointer: Value, channel: usize, count: usize) -> Vec<Value> {
    let ty = cranelift_codegen::ir::types::F32X4;
    (0..count.div_ceil(4)).map(|i| e.load(ty, pointer, (channel + 4 * i) as i64 * 4)).collect()
}

/// `sum as f32 * multiplier + bias` for `count` channels from `channel` of the tile on.
pub(crate) fn scale_sums(
    e: &mut Emitter<'_>,
    sums: Vec<Value>,
    (multiplier, bias): (Value, Value),
    channel: usize,
    count: usize,
) -> Vec<Value> {
    let factors = channel_vectors(e, multiplier, channel, count);
    let terms = channel_vectors(e, bias, channel, count);
    sums.into_iter()
        .zip(factors.into_iter().zip(terms))
        .map(|(sum, (factor, term))| scale(e, sum, factor, term))
        .collect()
}

/// The same for the four channels from `channel` on, one vector for each pixel.
pub(crate) fn scale_pixels(
    e: &mut Emitter<'_>,
    sums: Vec<Value>,
    (multiplier, bias): (Value, Value),
    channel: usize,
) -> Vec<Value> {
    let (factor, term) = (channel_vectors(e, multiplier, channel, 4)[0], channel_vectors(e, bias, channel, 4)[0]);
    sums.into_iter().map(|sum| scale(e, sum, factor, term)).collect()
}

fn scale(e: &mut Emitter<'_>, sum: Value, factor: Value, term: Value) -> Value {
    let sum = e.b.ins().fcvt_from_sint(cranelift_codegen::ir::types::F32X4, sum);
    let scaled = e.b.ins().fmul(sum, factor);
    e.b.ins().fadd(scaled, term)
}
