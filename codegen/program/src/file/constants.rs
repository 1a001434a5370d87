//! The elements of constants. One section holds all codes and one holds all f32 values, both in the order of the constants.

use super::container::{Section, aligned};
use crate::codes::packed_len;
use crate::validate::volume;
use crate::{CodeError, Constant, ConstantData};

/// Encodes the section of codes and the section of f32 values.
pub(super) fn store(constants: &[Constant]) -> (Vec<u8>, Vec<u8>) {
    let (mut stored_codes, mut stored_reals) = (vec![], vec![]);
    for c in constants {
        match &c.data {
            ConstantData::F32(v) => {
                stored_reals.resize(aligned(stored_reals.len()), 0);
                stored_reals.extend(v.iter().flat_map(|x| x.to_le_bytes()));
            }
            ConstantData::Codes { codes, .. } => {
                stored_codes.resize(aligned(stored_codes.len()), 0);
                stored_codes.extend_from_slice(codes.bytes());
            }
        }
    }
    (stored_codes, stored_reals)
}

/// Fills the constants with their elements. All sizes are checked before memory is allocated.
pub(super) fn load(constants: &mut [Constant], codes: &[u8], reals: &[u8]) -> Result<(), (Section, String)> {
    let mut ends = [0usize; 2];
    let mut places = Vec::with_capacity(constants.len());
    for (i, c) in constants.iter().enumerate() {
        let (section, bits) = match &c.data {
            ConstantData::F32(_) => (Section::Reals, 32),
            ConstantData::Codes { codes, .. } => match codes.bits() {
                bits @ 2..=8 => (Section::Codes, bits),
                bits => return Err((Section::Metadata, format!("constant {i}: {}", CodeError::Width { bits }))),
            },
        };
        let n = volume(&c.dims).map_err(|e| (Section::Metadata, format!("constant {i}: {e}")))?;
        let end = &mut ends[usize::from(section == Section::Reals)];
        let start = aligned(*end);
        // This cannot overflow: a constant has fewer than 2^29 elements, and `end` never exceeds the length of the file.
        *end = start + packed_len(n, bits);
        let available = if section == Section::Reals { reals.len() } else { codes.len() };
        if *end > available {
            return Err((section, format!("{available} bytes, but constant {i} ends at {end}")));
        }
        places.push((start..*end, n));
    }
    for (section, bytes, end) in [(Section::Codes, codes, ends[0]), (Section::Reals, reals, ends[1])] {
        if bytes.len() != end {
            return Err((section, format!("{} bytes where the constants take {end}", bytes.len())));
        }
    }
    for (i, (c, (place, n))) in constants.iter_mut().zip(places).enumerate() {
        match &mut c.data {
            ConstantData::F32(v) => {
                let words = reals[place].chunks_exact(4);
                *v = words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            }
            ConstantData::Codes { codes: elements, .. } => {
                if !elements.fill(&codes[place], n) {
                    return Err((Section::Codes, format!("constant {i}: bits behind its last code are not 0")));
                }
            }
        }
    }
    Ok(())
}
