//! Codes at their own width: a stream of bits, the first code in the lowest bits of the first byte, two's complement if signed.

/// Bytes of `count` codes of `bits` bits.
pub(super) fn packed_len(count: usize, bits: u8) -> usize {
    (count * bits as usize).div_ceil(8)
}

/// Appends codes of `bits` bits (2 to 8); bits left over in the last byte are 0.
pub(super) fn pack(codes: &[i16], bits: u8, out: &mut Vec<u8>) {
    let mask = (1u64 << bits) - 1;
    // Eight codes are as many bytes as a code has bits.
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

/// The codes of a stream of exactly their length.
pub(super) fn unpack(packed: &[u8], count: usize, signed: bool, bits: u8) -> Vec<i16> {
    let mut codes = vec![0; count];
    // A width known to the compiler makes the shifts below constants: networks have tens of millions of codes.
    match bits {
        2 => unpack_width::<2>(packed, signed, &mut codes),
        3 => unpack_width::<3>(packed, signed, &mut codes),
        4 => unpack_width::<4>(packed, signed, &mut codes),
        5 => unpack_width::<5>(packed, signed, &mut codes),
        6 => unpack_width::<6>(packed, signed, &mut codes),
        7 => unpack_width::<7>(packed, signed, &mut codes),
        _ => unpack_width::<8>(packed, signed, &mut codes),
    }
    codes
}

fn unpack_width<const BITS: usize>(packed: &[u8], signed: bool, codes: &mut [i16]) {
    let sign = if signed { 1i16 << (BITS - 1) } else { 0 };
    // Eight codes from as many bytes as a code has bits.
    let group = |bytes: &[u8; BITS]| -> [i16; 8] {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        std::array::from_fn(|i| ((word >> (i * BITS) & ((1 << BITS) - 1)) as i16 ^ sign).wrapping_sub(sign))
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
