//! model.bin: programs survive it, damage does not get through.

mod support;

use catc_program::{FormatError, LoadError, Program, SaveError};
use proptest::prelude::*;
use support::{Build, every_operation, from_choices};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const HEADER: usize = 64;

fn u64_at(file: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
}

/// `(offset, length)` of each section.
fn sections(file: &[u8]) -> Vec<(usize, usize)> {
    let count = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let entry = |i: usize| HEADER + 32 * i;
    (0..count).map(|i| (u64_at(file, entry(i) + 8) as usize, u64_at(file, entry(i) + 16) as usize)).collect()
}

/// Makes all checksums right again, as one who means harm would.
fn seal(file: &mut [u8]) {
    let table_end = HEADER + 32 * sections(file).len();
    for (i, (offset, length)) in sections(file).into_iter().enumerate() {
        let checksum = xxh3_64(&file[offset..offset + length]).to_le_bytes();
        file[HEADER + 32 * i + 24..][..8].copy_from_slice(&checksum);
    }
    let mut hash = Xxh3::new();
    hash.update(&file[..56]);
    hash.update(&file[HEADER..table_end]);
    file[56..HEADER].copy_from_slice(&hash.digest().to_le_bytes());
}

#[test]
fn every_operation_survives() {
    let program = every_operation();
    let bytes = program.to_bytes().unwrap();
    let read = Program::from_bytes(&bytes).unwrap();
    // By bytes, as a NaN is not equal to itself and -0.0 is equal to 0.0.
    assert!(read.to_bytes().unwrap() == bytes);
    assert_eq!(read.to_string(), program.to_string());
    assert_eq!(read.info, program.info);
    assert_eq!(read.tunings, program.tunings);
    // The flag of a section that older readers may skip.
    assert_eq!(bytes[HEADER + 3 * 32..][..8], [4, 0, 0, 0, 1, 0, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]
    #[test]
    fn random_programs_survive(choices in prop::collection::vec(any::<u32>(), 0..200)) {
        let program = from_choices(&choices);
        program.validate().map_err(|e| TestCaseError::fail(e.to_string()))?;
        let bytes = program.to_bytes().unwrap();
        let read = Program::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &program);
        prop_assert!(read.to_bytes().unwrap() == bytes);
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let bytes = every_operation().to_bytes().unwrap();
    for length in 0..bytes.len() {
        let error = Program::from_bytes(&bytes[..length]).unwrap_err();
        assert!(matches!(error, FormatError::Truncated { .. }), "{length} bytes: {error}");
    }
    let mut file = bytes.clone();
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            assert!(Program::from_bytes(&file).is_err(), "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    file.push(0);
    assert!(matches!(Program::from_bytes(&file), Err(FormatError::TrailingBytes { .. })));
}

/// With checksums made right, changed bytes give an error or another valid program.
#[test]
fn forged_files_never_give_an_invalid_program() {
    let bytes = every_operation().to_bytes().unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for (offset, length) in sections(&bytes) {
        for at in offset..offset + length {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut file = bytes.clone();
                file[at] ^= change;
                seal(&mut file);
                match Program::from_bytes(&file) {
                    Ok(program) => {
                        program.validate().unwrap();
                        accepted += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 1000, "{accepted} accepted, {refused} refused");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..Default::default() })]
    #[test]
    fn forged_metadata_never_panics(choices in prop::collection::vec(any::<u32>(), 0..60), at in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 1..12)) {
        let mut file = from_choices(&choices).to_bytes().unwrap();
        let (offset, length) = sections(&file)[0];
        let start = offset + at.index(length);
        for (byte, noise) in file[start..offset + length].iter_mut().zip(noise) {
            *byte = noise;
        }
        seal(&mut file);
        if let Ok(program) = Program::from_bytes(&file) {
            prop_assert!(program.validate().is_ok());
        }
    }
}

/// Weights at their own width, and little else.
#[test]
fn codes_are_packed_densely() {
    let size = |bits: u8| {
        let mut b = Build::new("size");
        let image = b.input(&[64, 4, 4]);
        let x = b.tensor(support::codes(false, 2, 0.5, 0), &[64, 4, 4], catc_program::Layout::ChannelsLast);
        b.step(catc_program::Op::Map { scale: 2.0 }, &[image], Default::default(), x);
        let weights = b.weights(&[128, 64, 3, 3], true, bits);
        let (multiplier, bias) = (b.reals(&[128], vec![0.5; 128]), b.reals(&[128], vec![0.5; 128]));
        let y = b.tensor(catc_program::Format::F32, &[128, 4, 4], catc_program::Layout::ChannelsLast);
        let geometry = support::window([3, 3], [1, 1], [1; 4]);
        b.step(catc_program::Op::Conv { geometry, groups: 1, weights, multiplier, bias }, &[x], Default::default(), y);
        let z = b.plain(
            catc_program::Op::Map { scale: 1.0 },
            &[y],
            catc_program::Format::F32,
            &[128, 4, 4],
            catc_program::Layout::RowMajor,
        );
        b.output(z);
        let stored: usize = b.0.constants.iter().map(|c| c.data.stored_bytes()).sum();
        let file = b.0.to_bytes().unwrap().len();
        assert!((stored..stored + 2048).contains(&file), "{file} bytes for {stored} of constants");
        file
    };
    let weights = 128 * 64 * 9;
    for bits in 2..=8 {
        let packed = weights * usize::from(bits) / 8;
        assert!((packed..packed + 3072).contains(&size(bits)), "{bits} bits: {} bytes for {packed}", size(bits));
    }
}

#[test]
fn saving_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    let program = every_operation();
    let size = program.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
    assert_eq!(Program::load(&path).unwrap().to_string(), program.to_string());
    let before = std::fs::read(&path).unwrap();

    let mut broken = program.clone();
    broken.steps.pop();
    assert!(matches!(broken.save(&path), Err(SaveError::Invalid(_))));
    assert!(std::fs::read(&path).unwrap() == before);
    let link = folder.path().join("link.bin");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::os::unix::fs::symlink(&path, &link).unwrap();
        program.save(&link).unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        // Readable as any other new file is, not for the owner alone.
        let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        let plain = folder.path().join("plain");
        std::fs::write(&plain, b"").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        std::fs::remove_file(&plain).unwrap();
        std::fs::remove_file(&link).unwrap();
    }
    let missing = folder.path().join("missing").join("model.bin");
    assert!(matches!(program.save(&missing), Err(SaveError::Io { .. })));
    assert!(matches!(program.save(folder.path()), Err(SaveError::NotAFile { .. })));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["model.bin"]);
}

#[test]
fn load_errors_say_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    let message = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Program::load(&path).unwrap_err().to_string()
    };
    let good = every_operation().to_bytes().unwrap();
    let mut newer = good.clone();
    newer[8] = 9;
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let appended = [good.as_slice(), b"\n"].concat();
    let cases: [(&[u8], &str); 6] = [
        (b"", "cut off: 0 bytes of 64"),
        (b"\x08\x01ONNX", "no model.bin"),
        (&good[..100], "cut off: 100 bytes"),
        (&newer, "format version 9, this catc reads up to 1: run it with a newer catc"),
        (&damaged, "the section of tunings is damaged"),
        (&appended, "something was appended"),
    ];
    for (bytes, part) in cases {
        let found = message(bytes);
        assert!(found.contains(part) && found.contains("x.bin"), "{found:?} should contain {part:?}");
    }
    assert!(matches!(Program::load(folder.path()), Err(LoadError::NotAFile { .. })));
    let missing = Program::load(folder.path().join("none.bin")).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("none.bin"), "{missing}");
}
