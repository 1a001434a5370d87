//! Conversion of tensors of the file to tensors of the IR. Floating-point types become f32, and integer types become i64. Values
//! that do not fit are errors. Sizes are compared with the data before memory is allocated.

use crate::error::TensorProblem;
use crate::external::ExternalData;
use crate::proto::TensorProto;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::small;
use bytes::Bytes;
use catc_ir::{Tensor, TensorData};
use half::{bf16, f16};

/// The largest number of elements of a tensor. It is far above the needs of any model, and sums of a few such numbers do not
/// overflow.
pub(crate) const MAX_ELEMENTS: usize = 1 << 40;

/// The name of an element type in messages.
pub(crate) fn type_name(data_type: i32) -> String {
    match DataType::try_from(data_type) {
        Ok(t) => t.as_str_name().to_ascii_lowercase(),
        Err(_) => format!("number {data_type}"),
    }
}

/// Converts dimensions of the file to sizes, and returns them with their product. `None` if a size is negative or the product
/// exceeds [`MAX_ELEMENTS`].
pub(crate) fn checked_dims(dims: &[i64]) -> Option<(Vec<usize>, usize)> {
    let sizes: Vec<usize> = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    // Zeros count as ones, so that the product of the other sizes is bounded as well.
    let bound = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    bound.filter(|&n| n <= MAX_ELEMENTS)?;
    let count = sizes.iter().product();
    Some((sizes, count))
}

/// Reads a tensor.
pub(crate) fn read(proto: &TensorProto, external: &mut ExternalData) -> Result<Tensor, TensorProblem> {
    let data_type = DataType::try_from(proto.data_type()).unwrap_or(DataType::Undefined);
    let packed = small::bits(data_type);
    let Some(width) = width(data_type).or(packed.map(|_| 1)) else {
        return Err(TensorProblem::ElementType(type_name(proto.data_type())));
    };
    let Some((shape, count)) = checked_dims(&proto.dims) else {
        return Err(TensorProblem::Dimensions(proto.dims.clone()));
    };
    if proto.segment.is_some() {
        return Err(TensorProblem::Form("is stored in segments; export the model again"));
    }
    let bytes_needed = match packed {
        Some(bits) => (count * bits).div_ceil(8),
        None => count * width,
    };
    let raw = if proto.data_location() == DataLocation::External {
        Some(external.bytes(&proto.external_data, bytes_needed)?)
    } else {
        proto.raw_data.clone()
    };
    let source = Source { proto, count };
    let data = match raw {
        // Some writers add an empty raw field beside the typed one.
        Some(raw) if !(raw.is_empty() && count > 0 && source.typed_len() > 0) => {
            if raw.len() != bytes_needed {
                return Err(source.length(bytes_needed, raw.len(), "bytes"));
            }
            match packed {
                Some(_) => source.packed(data_type, raw.iter().copied())?,
                None => from_raw(data_type, &raw)?,
            }
        }
        _ if packed.is_some() => {
            // Each number of the field holds one byte.
            let bytes = proto.int32_data.iter().map(|&x| x as u8);
            source.packed(data_type, bytes)?
        }
        _ => source.typed(data_type)?,
    };
    Ok(Tensor::new(shape, data))
}

/// The number of bytes of an element in raw data, for the supported types.
fn width(data_type: DataType) -> Option<usize> {
    use DataType::*;
    Some(match data_type {
        Float | Int32 | Uint32 => 4,
        Double | Int64 | Uint64 => 8,
        Float16 | Bfloat16 | Int16 | Uint16 => 2,
        Int8 | Uint8 | Bool => 1,
        _ => return None,
    })
}

/// The elements of raw data, each `W` bytes wide. Raw data is little-endian and often not aligned.
fn elements<const W: usize>(raw: &Bytes) -> impl Iterator<Item = [u8; W]> {
    raw.as_chunks::<W>().0.iter().copied()
}

fn from_raw(data_type: DataType, raw: &Bytes) -> Result<TensorData, TensorProblem> {
    use DataType::*;
    Ok(match data_type {
        Float => TensorData::F32(elements(raw).map(f32::from_le_bytes).collect()),
        Int64 => TensorData::I64(elements(raw).map(i64::from_le_bytes).collect()),
        Float16 => TensorData::F32(elements(raw).map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Bfloat16 => TensorData::F32(elements(raw).map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        Double => TensorData::F32(elements(raw).map(|b| narrow(f64::from_le_bytes(b))).collect::<Result<_, _>>()?),
        Int32 => TensorData::I64(elements(raw).map(|b| i32::from_le_bytes(b).into()).collect()),
        Int16 => TensorData::I64(elements(raw).map(|b| i16::from_le_bytes(b).into()).collect()),
        Int8 => TensorData::I64(elements(raw).map(|b| i8::from_le_bytes(b).into()).collect()),
        Uint32 => TensorData::I64(elements(raw).map(|b| u32::from_le_bytes(b).into()).collect()),
        Uint16 => TensorData::I64(elements(raw).map(|b| u16::from_le_bytes(b).into()).collect()),
        Uint8 => TensorData::I64(elements::<1>(raw).map(|[b]| b.into()).collect()),
        Uint64 => TensorData::I64(elements(raw).map(|b| signed(u64::from_le_bytes(b))).collect::<Result<_, _>>()?),
        Bool => TensorData::Bool(elements::<1>(raw).map(|[b]| b != 0).collect()),
        other => return Err(TensorProblem::ElementType(type_name(other as i32))),
    })
}

/// Converts a double to f32. Overflow is an error.
fn narrow(x: f64) -> Result<f32, TensorProblem> {
    let y = x as f32;
    if y.is_infinite() && x.is_finite() { Err(TensorProblem::Range(format!("{x:e}"), "f32")) } else { Ok(y) }
}

fn signed(x: u64) -> Result<i64, TensorProblem> {
    x.try_into().map_err(|_| TensorProblem::Range(x.to_string(), "i64"))
}

/// A tensor whose elements are in a typed field of its message.
struct Source<'a> {
    proto: &'a TensorProto,
    count: usize,
}

impl Source<'_> {
    fn length(&self, expected: usize, found: usize, unit: &'static str) -> TensorProblem {
        TensorProblem::Length { dims: self.proto.dims.clone(), expected, found, unit }
    }

    /// Decodes elements of a narrow type from their bytes.
    fn packed(&self, data_type: DataType, bytes: impl Iterator<Item = u8>) -> Result<TensorData, TensorProblem> {
        let found = self.proto.int32_data.len();
        small::decode(data_type, bytes, self.count).ok_or_else(|| self.length(self.count, found, "elements"))
    }

    fn typed_len(&self) -> usize {
        let p = self.proto;
        [p.float_data.len(), p.int32_data.len(), p.int64_data.len(), p.double_data.len(), p.uint64_data.len()]
            .into_iter()
            .sum()
    }

    /// The elements of a field. Their number must be correct.
    fn field<'f, T>(&self, field: &'f [T]) -> Result<&'f [T], TensorProblem> {
        if field.len() == self.count { Ok(field) } else { Err(self.length(self.count, field.len(), "elements")) }
    }

    /// The elements of the 32-bit field, which also holds narrower types. Each element must be in the range of its type.
    fn narrow_ints(&self, min: i32, max: i32, name: &'static str) -> Result<Vec<i64>, TensorProblem> {
        let check = |&x: &i32| {
            if (min..=max).contains(&x) { Ok(x.into()) } else { Err(TensorProblem::Range(x.to_string(), name)) }
        };
        self.field(&self.proto.int32_data)?.iter().map(check).collect()
    }

    fn typed(&self, data_type: DataType) -> Result<TensorData, TensorProblem> {
        use DataType::*;
        let p = self.proto;
        let bits = || self.narrow_ints(0, 0xffff, "16 bits");
        Ok(match data_type {
            Float => TensorData::F32(self.field(&p.float_data)?.to_vec()),
            Double => {
                TensorData::F32(self.field(&p.double_data)?.iter().map(|&x| narrow(x)).collect::<Result<_, _>>()?)
            }
            Float16 => TensorData::F32(bits()?.into_iter().map(|x| f16::from_bits(x as u16).to_f32()).collect()),
            Bfloat16 => TensorData::F32(bits()?.into_iter().map(|x| bf16::from_bits(x as u16).to_f32()).collect()),
            Int64 => TensorData::I64(self.field(&p.int64_data)?.to_vec()),
            Int32 => TensorData::I64(self.narrow_ints(i32::MIN, i32::MAX, "int32")?),
            Int16 => TensorData::I64(self.narrow_ints(i16::MIN.into(), i16::MAX.into(), "int16")?),
            Int8 => TensorData::I64(self.narrow_ints(i8::MIN.into(), i8::MAX.into(), "int8")?),
            Uint16 => TensorData::I64(self.narrow_ints(0, u16::MAX.into(), "uint16")?),
            Uint8 => TensorData::I64(self.narrow_ints(0, u8::MAX.into(), "uint8")?),
            Bool => TensorData::Bool(self.field(&p.int32_data)?.iter().map(|&x| x != 0).collect()),
            Uint32 | Uint64 => {
                TensorData::I64(self.field(&p.uint64_data)?.iter().map(|&x| signed(x)).collect::<Result<_, _>>()?)
            }
            other => return Err(TensorProblem::ElementType(type_name(other as i32))),
        })
    }
}
