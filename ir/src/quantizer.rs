//! Quantizers: affine maps between real numbers and low-bit codes.
//!
//! The arithmetic follows ONNX QuantizeLinear and DequantizeLinear, and appendix A of the CAT paper:
//! `q = saturate(round_half_even(x / scale) + zero_point)` and `x' = scale * (q - zero_point)`. Each step is computed in f32.

use std::fmt;

/// An integer format of 2 to 8 bits: `u2`..`u8` or `i2`..`i8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QFormat {
    signed: bool,
    bits: u8,
}

impl QFormat {
    /// A format of `bits` bits, or `None` if the width is not 2 to 8.
    pub fn new(signed: bool, bits: u8) -> Option<Self> {
        (2..=8).contains(&bits).then_some(QFormat { signed, bits })
    }

    /// Parses `u2`, `i8`, ...
    pub fn parse(text: &str) -> Option<Self> {
        let signed = match text.as_bytes().first()? {
            b'i' => true,
            b'u' => false,
            _ => return None,
        };
        match text.as_bytes() {
            [_, d @ b'2'..=b'8'] => QFormat::new(signed, d - b'0'),
            _ => None,
        }
    }

    /// Whether the format is two's complement.
    pub fn signed(self) -> bool {
        self.signed
    }

    /// The width in bits.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The smallest code.
    pub fn min(self) -> i32 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// The largest code.
    pub fn max(self) -> i32 {
        self.min() + (1 << self.bits) - 1
    }
}

impl fmt::Display for QFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.signed { 'i' } else { 'u' }, self.bits)
    }
}

/// A quantizer. It is either per tensor, with one scale and no `axis`, or per channel, with one scale for each slice of `axis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantizer {
    /// The format of the codes.
    pub format: QFormat,
    /// The axis whose slices have separate scales.
    pub axis: Option<usize>,
    /// One finite positive scale, or one for each slice.
    pub scale: Vec<f32>,
    /// One zero point for each scale. Each is a code of the format.
    pub zero_point: Vec<i32>,
}

impl Quantizer {
    /// A per-tensor quantizer.
    pub fn per_tensor(format: QFormat, scale: f32, zero_point: i32) -> Self {
        Quantizer { format, axis: None, scale: vec![scale], zero_point: vec![zero_point] }
    }

    /// A quantizer with a scale and a zero point for each slice of `axis`.
    pub fn per_axis(format: QFormat, axis: usize, scale: Vec<f32>, zero_point: Vec<i32>) -> Self {
        Quantizer { format, axis: Some(axis), scale, zero_point }
    }

    /// A function from the row-major index of an element to its slice, for tensors of this shape. It returns 0 for a per-tensor
    /// quantizer.
    pub fn slice_of(&self, shape: &[usize]) -> impl Fn(usize) -> usize + use<> {
        slice_along(self.axis, shape)
    }

    /// The code of `x` in slice `slice` (0 for a per-tensor quantizer). NaN becomes the zero point.
    pub fn quantize(&self, x: f32, slice: usize) -> i32 {
        round_to_code(x / self.scale[slice], self.zero_point[slice], self.format)
    }

    /// The real value of `code` in slice `slice`.
    pub fn dequantize(&self, code: i32, slice: usize) -> f32 {
        self.scale[slice] * (code - self.zero_point[slice]) as f32
    }
}

/// A function from the row-major index of an element to its slice of `axis`, for tensors of this shape. It returns 0 if there is
/// no axis.
pub fn slice_along(axis: Option<usize>, shape: &[usize]) -> impl Fn(usize) -> usize + use<> {
    let (run, slices) = match axis {
        None => (1, 1),
        Some(axis) => (shape[axis + 1..].iter().product::<usize>().max(1), shape[axis].max(1)),
    };
    move |i| i / run % slices
}

/// `saturate(round_half_even(t) + zero_point)` to `format`. This is the last step of every quantization, in the evaluator and in
/// generated code.
pub fn round_to_code(t: f32, zero_point: i32, format: QFormat) -> i32 {
    // Clamping before the conversion to i32 keeps the sum exact. NaN converts to 0, which gives the zero point.
    let lo = (format.min() - zero_point) as f32;
    let hi = (format.max() - zero_point) as f32;
    t.round_ties_even().clamp(lo, hi) as i32 + zero_point
}

/// Stores constant codes in the narrowest format that kernels accept. The formats are tried in this order: signed with 2, 3, 4
/// and 8 bits, then unsigned with 8 bits. `centered` holds the codes minus their zero points. The result represents the same real
/// values. `None` if not even 8 bits suffice. `quantizer` provides the scales, the axis, and the preferred zero points of the
/// unsigned format.
pub fn narrowed(centered: &[i32], shape: &[usize], quantizer: Quantizer) -> Option<(Vec<i16>, Quantizer)> {
    let slice = quantizer.slice_of(shape);
    let mut bounds = vec![(0i32, 0i32); quantizer.scale.len()];
    for (i, &c) in centered.iter().enumerate() {
        let (low, high) = &mut bounds[slice(i)];
        (*low, *high) = ((*low).min(c), (*high).max(c));
    }
    for (signed, bits) in [(true, 2), (true, 3), (true, 4), (true, 8), (false, 8)] {
        let Some(format) = QFormat::new(signed, bits) else { continue };
        let zero = |(&(low, high), &wish): (&(i32, i32), &i32)| {
            let (least, most, wish) = match (signed, bits) {
                // Kernels only accept signed 8-bit weights with zero point 0.
                (true, 8) => (0, 0, 0),
                (true, _) => (format.min(), format.max(), 0),
                (false, _) => (format.min(), format.max(), wish),
            };
            let (from, to) = ((format.min() - low).max(least), (format.max() - high).min(most));
            (from <= to).then(|| wish.clamp(from, to))
        };
        if let Some(zero_point) = bounds.iter().zip(&quantizer.zero_point).map(zero).collect::<Option<Vec<i32>>>() {
            let codes = centered.iter().enumerate().map(|(i, c)| (c + zero_point[slice(i)]) as i16).collect();
            return Some((codes, Quantizer { format, zero_point, ..quantizer }));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_codes_take_the_fewest_bits() {
        let of = |centered: &[i32], zero: i32| {
            let q = Quantizer::per_tensor(QFormat { signed: false, bits: 8 }, 1.0, zero);
            narrowed(centered, &[centered.len()], q).map(|(c, q)| (c, q.format.to_string(), q.zero_point[0]))
        };
        assert_eq!(of(&[0, 3], 0), Some((vec![-2, 1], "i2".into(), -2)));
        assert_eq!(of(&[-8, 7], 0), Some((vec![-8, 7], "i4".into(), 0)));
        assert_eq!(of(&[-128, 127], 0), Some((vec![-128, 127], "i8".into(), 0)));
        assert_eq!(of(&[-3, 252], 3), Some((vec![0, 255], "u8".into(), 3)));
        assert_eq!(of(&[-128, 128], 0), None);
    }

    #[test]
    fn formats_have_their_ranges() {
        let ranges: Vec<_> = ["u2", "i2", "u8", "i8"].map(|t| QFormat::parse(t).map(|f| (f.min(), f.max()))).into();
        assert_eq!(ranges, [Some((0, 3)), Some((-2, 1)), Some((0, 255)), Some((-128, 127))]);
        for bad in ["", "u", "u1", "u9", "f4", "i10"] {
            assert_eq!(QFormat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn quantize_rounds_half_to_even_and_saturates() {
        let q = Quantizer::per_tensor(QFormat::parse("u2").unwrap(), 0.5, 1);
        let codes: Vec<_> = [-9.0, -0.25, 0.25, 0.75, 9.0, f32::NAN].map(|x| q.quantize(x, 0)).into();
        assert_eq!(codes, [0, 1, 1, 3, 3, 1]);
        assert_eq!(q.dequantize(3, 0), 1.0);
    }
}
