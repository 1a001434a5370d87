//! Codes at their own width: a stream of bits, the first code in the lowest bits of the first byte, two's complement if signed.

/// Bytes of `count` codes of `bits` bits.
pub(super) fn packed_len(count: usize, bits: u8) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Appends codes of `bits` bits (2 to 8); bits left over in the last byte are 0.
pub(super) fn pack(codes: &[i16], bits: u8, out: &mut Vec<u8>) {
    let mask = (1u64 << bits) - 1;
    // Eight codes are as many bytes as a code has bits.
    for group in codes.chunks(8) {
        let word = group.iter().enumerate().fold(0, |w, (i, &code)| w | ((code as u64 & mask) << (i * bits as usize)));
        out.extend(&word.to_le_bytes()[..packed_len(group.len(), bits)]);
    }
}

/// The codes of a stream of exactly their length.
pub(super) fn unpack(packed: &[u8], count: usize, signed: bool, bits: u8) -> Vec<i16> {
    let mask = (1u64 << bits) - 1;
    let sign = if signed { 1i16 << (bits - 1) } else { 0 };
    let mut codes = Vec::with_capacity(count);
    for group in packed.chunks(bits.into()) {
        let mut word = [0; 8];
        word[..group.len()].copy_from_slice(group);
        let word = u64::from_le_bytes(word);
        let left = (count - codes.len()).min(8);
        codes.extend((0..left).map(|i| {
            let code = (word >> (i * bits as usize) & mask) as i16;
            (code ^ sign) - sign
        }));
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_is_in_the_lowest_bits() {
        let mut packed = vec![];
        pack(&[1, 2, 3, 0, 1], 2, &mut packed);
        assert_eq!(packed, [0b00_11_10_01, 0b01]);
        packed.clear();
        pack(&[-1, 2, -4], 3, &mut packed);
        assert_eq!(packed, [0b00_010_111, 0b1]);
    }

    #[test]
    fn every_width_round_trips_at_every_length() {
        for bits in 2..=8u8 {
            for signed in [false, true] {
                let min = if signed { -(1i16 << (bits - 1)) } else { 0 };
                for count in 0..20usize {
                    let codes: Vec<i16> = (0..count).map(|i| min + (i * 37 % (1 << bits)) as i16).collect();
                    let mut packed = vec![];
                    pack(&codes, bits, &mut packed);
                    assert_eq!(packed.len(), packed_len(count, bits));
                    assert_eq!(unpack(&packed, count, signed, bits), codes, "{bits} bits, signed {signed}");
                }
            }
        }
    }
}
