//! Narrow element types: packed integers of 2 and 4 bits, and floats of 4 and 8 bits.

use crate::proto::tensor_proto::DataType;
use catc_ir::TensorData;

/// The number of bits of an element, for the types of this module.
pub(crate) fn bits(t: DataType) -> Option<usize> {
    use DataType::*;
    Some(match t {
        Int2 | Uint2 => 2,
        Int4 | Uint4 | Float4e2m1 => 4,
        Float8e4m3fn | Float8e4m3fnuz | Float8e5m2 | Float8e5m2fnuz => 8,
        _ => return None,
    })
}

/// Decodes `count` elements from bytes. The first element is in the lowest bits. `None` if there are too few bytes.
pub(crate) fn decode(t: DataType, bytes: impl Iterator<Item = u8>, count: usize) -> Option<TensorData> {
    let bits = bits(t)?;
    let codes = bytes.flat_map(|b| (0..8 / bits).map(move |i| (b >> (i * bits)) & (0xff >> (8 - bits))));
    let codes: Vec<u8> = codes.take(count).collect();
    if codes.len() < count {
        return None;
    }
    use DataType::*;
    Some(match t {
        Uint2 | Uint4 => TensorData::I64(codes.into_iter().map(i64::from).collect()),
        Int2 | Int4 => {
            let sign = 1i64 << (bits - 1);
            TensorData::I64(codes.into_iter().map(|c| (i64::from(c) ^ sign) - sign).collect())
        }
        _ => TensorData::F32(codes.into_iter().map(|c| float(t, c)).collect()),
    })
}

/// The value of a small float.
fn float(t: DataType, code: u8) -> f32 {
    use DataType::*;
    // The width of the type, the number of fraction bits, and the bias of the exponent.
    let (width, fraction, bias) = match t {
        Float4e2m1 => (4, 1, 1),
        Float8e4m3fn => (8, 3, 7),
        Float8e4m3fnuz => (8, 3, 8),
        Float8e5m2 => (8, 2, 15),
        _ => (8, 2, 16),
    };
    let sign = if code >> (width - 1) == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((code & ((1 << (width - 1)) - 1)) >> fraction);
    let rest = f32::from(code & ((1 << fraction) - 1)) / (1 << fraction) as f32;
    match t {
        Float8e4m3fn if code & 0x7f == 0x7f => return f32::NAN,
        Float8e4m3fnuz | Float8e5m2fnuz if code == 0x80 => return f32::NAN,
        Float8e5m2 if exponent == 31 => return if rest == 0.0 { sign * f32::INFINITY } else { f32::NAN },
        _ => {}
    }
    let size = if exponent == 0 { rest * 2f32.powi(1 - bias) } else { (1.0 + rest) * 2f32.powi(exponent - bias) };
    sign * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_numbers_and_small_floats() {
        let of = |t, bytes: &[u8], count| decode(t, bytes.iter().copied(), count);
        assert_eq!(of(DataType::Int4, &[0x8f, 0x07], 3), Some(TensorData::I64(vec![-1, -8, 7])));
        assert_eq!(of(DataType::Uint2, &[0b11_10_01_00], 4), Some(TensorData::I64(vec![0, 1, 2, 3])));
        assert_eq!(of(DataType::Int2, &[0b11_10_01_00], 4), Some(TensorData::I64(vec![0, 1, -2, -1])));
        assert_eq!(of(DataType::Uint4, &[0x21], 3), None);
        assert_eq!(of(DataType::Float4e2m1, &[0xf1], 2), Some(TensorData::F32(vec![0.5, -6.0])));
        assert_eq!(
            of(DataType::Float8e4m3fn, &[0x7e, 0x01, 0x38], 3),
            Some(TensorData::F32(vec![448.0, 1.0 / 512.0, 1.0]))
        );
        assert_eq!(of(DataType::Float8e5m2, &[0x7b, 0xfc], 2), Some(TensorData::F32(vec![57344.0, f32::NEG_INFINITY])));
    }
}
