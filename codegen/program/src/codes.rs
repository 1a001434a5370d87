//! Codes packed at their own bit width.
//!
//! The packed bytes are a bit stream. The first code is in the lowest bits of the first byte. Signed codes are two's complement.

use crate::Format;

/// Why codes could not be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// The bit width is not supported.
    #[error("codes of {bits} bits: 2 to 8 are allowed")]
    Width {
        /// The width.
        bits: u8,
    },
    /// A code is outside the range of the format.
    #[error("code {code} is outside {lowest}..={highest}")]
    Range {
        /// The code.
        code: i16,
        /// The lowest code of the format.
        lowest: i32,
        /// The highest code of the format.
        highest: i32,
    },
}

/// Codes of 2 to 8 bits, packed densely at their own width. Memory and `model.bin` use the same packing. Each code is within the
/// range of its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedCodes {
    signed: bool,
    bits: u8,
    count: usize,
    bytes: Vec<u8>,
}

impl PackedCodes {
    /// Packs codes of this format. Fails if the width is not 2 to 8 or if a code is out of range.
    pub fn new(signed: bool, bits: u8, codes: &[i16]) -> Result<PackedCodes, CodeError> {
        if !(2..=8).contains(&bits) {
            return Err(CodeError::Width { bits });
        }
        let (lowest, highest) = (Format::min_code(signed, bits), Format::max_code(signed, bits));
        if let Some(&code) = codes.iter().find(|&&code| !(lowest..=highest).contains(&i32::from(code))) {
            return Err(CodeError::Range { code, lowest, highest });
        }
        let mut bytes = vec![];
        pack(codes, bits, &mut bytes);
        Ok(PackedCodes { signed, bits, count: codes.len(), bytes })
    }

    /// An empty list that [`PackedCodes::fill`] fills later. The width is not checked here; the caller must check it.
    pub(crate) fn announced(signed: bool, bits: u8) -> PackedCodes {
        PackedCodes { signed, bits, count: 0, bytes: vec![] }
    }

    /// Sets the codes from their packed bytes. `bytes` must have exactly the length of `count` codes. Returns false if the unused
    /// bits of the last byte are not 0.
    pub(crate) fn fill(&mut self, bytes: &[u8], count: usize) -> bool {
        let used = count * usize::from(self.bits) % 8;
        let clean = used == 0 || bytes.last().is_none_or(|last| last >> used == 0);
        (self.bytes, self.count) = (bytes.to_vec(), count);
        clean
    }

    /// Whether the codes are two's complement.
    pub fn signed(&self) -> bool {
        self.signed
    }

    /// The width of a code in bits, 2..=8.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The lowest code of the format.
    pub fn lowest(&self) -> i32 {
        Format::min_code(self.signed, self.bits)
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no codes.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bit stream. The unused bits of the last byte are 0.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The codes as integers.
    pub fn to_vec(&self) -> Vec<i16> {
        let lowest = self.lowest() as i16;
        self.unsigned().into_iter().map(|code| i16::from(code) + lowest).collect()
    }

    /// The distance of each code from the lowest code of the format.
    pub fn unsigned(&self) -> Vec<u8> {
        let mut codes = vec![0; self.count];
        // With a constant width the compiler knows the shift counts. This matters because networks have tens of millions of
        // codes.
        match self.bits {
            2 => spread::<4>(&self.bytes, 0x03, if self.signed { 0x02 } else { 0 }, &mut codes),
            3 => unpack::<3>(&self.bytes, self.signed, &mut codes),
            4 => spread::<2>(&self.bytes, 0x0f, if self.signed { 0x08 } else { 0 }, &mut codes),
            5 => unpack::<5>(&self.bytes, self.signed, &mut codes),
            6 => unpack::<6>(&self.bytes, self.signed, &mut codes),
            7 => unpack::<7>(&self.bytes, self.signed, &mut codes),
            _ => unpack::<8>(&self.bytes, self.signed, &mut codes),
        }
        codes
    }
}

/// The number of bytes that `count` codes of `bits` bits take.
pub(crate) fn packed_len(count: usize, bits: u8) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Appends codes of `bits` bits (2 to 8). The unused bits of the last byte are 0.
fn pack(codes: &[i16], bits: u8, out: &mut Vec<u8>) {
    let mask = (1u64 << bits) - 1;
    // Eight codes of `bits` bits take exactly `bits` bytes.
    let (groups, left) = codes.as_chunks::<8>();
    let word = |group: &[i16]| {
        let mut word = 0;
        for (i, &code) in group.iter().enumerate() {
            word |= (code as u64 & mask) << (i * bits as usize);
        }
        word.to_le_bytes()
    };
    out.reserve(packed_len(codes.len(), bits));
    for group in groups {
        out.extend_from_slice(&word(group)[..bits.into()]);
    }
    out.extend_from_slice(&word(left)[..packed_len(left.len(), bits)]);
}

/// Unpacks `EACH` codes from each byte. `mask` selects the code in the lowest bits. `sign` is the bit that must be flipped to
/// turn a two's complement code into its distance from the lowest code (0 for unsigned codes).
fn spread<const EACH: usize>(packed: &[u8], mask: u8, sign: u8, codes: &mut [u8]) {
    let all = |byte: u8| -> [u8; EACH] { std::array::from_fn(|i| (byte >> (i * 8 / EACH)) & mask ^ sign) };
    let (outputs, rest) = codes.as_chunks_mut::<EACH>();
    let (whole, left) = packed.split_at(outputs.len());
    for (out, &byte) in outputs.iter_mut().zip(whole) {
        *out = all(byte);
    }
    if let Some(&last) = left.first() {
        rest.copy_from_slice(&all(last)[..rest.len()]);
    }
}

/// Like [`spread`], for widths where a code may cross a byte boundary, and for 8 bits.
fn unpack<const BITS: usize>(packed: &[u8], signed: bool, codes: &mut [u8]) {
    // Flipping the highest bit turns a two's complement code into its distance from the lowest code.
    let sign = if signed { 1u8 << (BITS - 1) } else { 0 };
    // Eight codes of `BITS` bits take exactly `BITS` bytes.
    let group = |bytes: &[u8; BITS]| -> [u8; 8] {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        std::array::from_fn(|i| (word >> (i * BITS)) as u8 & ((1u16 << BITS) - 1) as u8 ^ sign)
    };
    let (outputs, rest) = codes.as_chunks_mut::<8>();
    let (whole, left) = packed.split_at(outputs.len() * BITS);
    for (out, bytes) in outputs.iter_mut().zip(whole.as_chunks::<BITS>().0) {
        *out = group(bytes);
    }
    let mut last = [0; BITS];
    last[..left.len()].copy_from_slice(left);
    rest.copy_from_slice(&group(&last)[..rest.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_is_in_the_lowest_bits() {
        assert_eq!(PackedCodes::new(false, 2, &[1, 2, 3, 0, 1]).unwrap().bytes(), [0b00_11_10_01, 0b01]);
        assert_eq!(PackedCodes::new(true, 3, &[-1, 2, -4]).unwrap().bytes(), [0b00_010_111, 0b1]);
    }

    #[test]
    fn every_width_round_trips_at_every_length() {
        for bits in 2..=8u8 {
            for signed in [false, true] {
                let min = if signed { -(1i16 << (bits - 1)) } else { 0 };
                for count in 0..20usize {
                    let codes: Vec<i16> = (0..count).map(|i| min + (i * 37 % (1 << bits)) as i16).collect();
                    let packed = PackedCodes::new(signed, bits, &codes).unwrap();
                    assert_eq!(packed.bytes().len(), packed_len(count, bits));
                    assert_eq!(packed.to_vec(), codes, "{bits} bits, signed {signed}");
                    let mut read = PackedCodes::announced(signed, bits);
                    assert!(read.fill(packed.bytes(), count));
                    assert_eq!(read, packed);
                }
            }
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let error = PackedCodes::new(true, 2, &[1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "code 2 is outside -2..=1");
        assert_eq!(PackedCodes::new(true, 9, &[]).unwrap_err(), CodeError::Width { bits: 9 });
        assert!(!PackedCodes::announced(false, 3).fill(&[0b1000], 1));
    }
}
