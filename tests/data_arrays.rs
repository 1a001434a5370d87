//! npy and npz files as samples: what is taken, and what hostile files are told.

use std::io::Write;
use std::path::PathBuf;

use catc::data::{DataError, DataSet, Elements, InputSpec, Preprocess, write_npy, write_npz};
use tempfile::TempDir;
use zip::write::{SimpleFileOptions, ZipWriter};

mod npy_bytes;
use npy_bytes::{f32_bytes, npy, npy_with_header};

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// The error text of opening the bytes as an npy of samples of shape [2, 3], or of reading all of them.
fn refused(bytes: &[u8]) -> String {
    let folder = Folder::new();
    let path = folder.file("x.npy", bytes);
    let error = DataSet::open(&path, None, &[2, 3]).and_then(|set| set.validate_all()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("x.npy"), "the file is named: {text}");
    assert!(!text.contains('\n'), "one paragraph: {text}");
    text
}

fn counting(n: usize) -> Vec<f32> {
    (0..n).map(|value| value as f32).collect()
}

#[test]
fn float32_is_taken_as_it_is() {
    let folder = Folder::new();
    let path = folder.file("x.npy", &npy("<f4", false, "(4, 2, 3)", &f32_bytes(&counting(24))));
    let set = DataSet::open(&path, None, &[2, 3]).unwrap();
    assert_eq!((set.len(), set.shape()), (4, &[2, 3][..]));
    assert_eq!(set.sample::<f32>(2).unwrap(), [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]);
    assert_eq!(set.samples::<f32>(&[3, 0]).unwrap()[..7], [18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 0.0]);
    assert!(matches!(set.sample::<f32>(4), Err(DataError::Index { index: 4, len: 4, .. })));
    assert!(set.notes().is_empty());
    set.validate_all().unwrap();
}

#[test]
fn half_and_double_precision_are_converted() {
    let folder = Folder::new();
    let doubles: Vec<u8> = [0.1f64, -2.5, 1e-300].iter().flat_map(|v| v.to_le_bytes()).collect();
    let set = DataSet::open(&folder.file("d.npy", &npy("<f8", false, "(3,)", &doubles)), None, &[]).unwrap();
    assert_eq!(set.samples::<f32>(&[0, 1, 2]).unwrap(), [0.1f32, -2.5, 0.0]);
    // 1.5, -2, the smallest subnormal
    let halves = [0x00, 0x3e, 0x00, 0xc0, 0x01, 0x00];
    let set = DataSet::open(&folder.file("h.npy", &npy("<f2", false, "(1, 3)", &halves)), None, &[3]).unwrap();
    assert_eq!(set.sample::<f32>(0).unwrap(), [1.5, -2.0, 2f32.powi(-24)]);
}

#[test]
fn fortran_order_is_reordered() {
    let folder = Folder::new();
    let (n, h, w) = (3, 4, 5);
    let mut stored = vec![0.0; n * h * w];
    for i in 0..n {
        for y in 0..h {
            for x in 0..w {
                stored[i + n * (y + h * x)] = ((i * h + y) * w + x) as f32;
            }
        }
    }
    let bytes = npy("<f4", true, "(3, 4, 5)", &f32_bytes(&stored));
    let set = DataSet::open(&folder.file("x.npy", &bytes), None, &[4, 5]).unwrap();
    assert_eq!(set.samples::<f32>(&[0, 1, 2]).unwrap(), counting(60));
    assert_eq!(set.sample::<f32>(1).unwrap(), counting(60)[20..40]);
}

#[test]
fn headers_of_all_versions_and_key_orders_are_read() {
    let folder = Folder::new();
    let text = "{\"shape\": (1L, 2), 'fortran_order':False,'descr':'<f4'}";
    let mut version_2 = b"\x93NUMPY\x02\x00".to_vec();
    version_2.extend((text.len() as u32).to_le_bytes());
    version_2.extend(text.as_bytes());
    version_2.extend(f32_bytes(&[5.0, 6.0]));
    let set = DataSet::open(&folder.file("x.npy", &version_2), None, &[2]).unwrap();
    assert_eq!(set.sample::<f32>(0).unwrap(), [5.0, 6.0]);
}

#[test]
fn other_element_types_are_refused_by_name() {
    let values = f32_bytes(&counting(6));
    let doubled = [values.clone(), values.clone()].concat();
    for (descr, bytes, says) in [
        ("|O", &values, "Python objects, stored as a pickle"),
        (">f4", &values, "big-endian float32"),
        ("<i4", &values, "holds int32"),
        ("<i8", &doubled, "holds int64"),
        ("<c8", &doubled, "complex numbers"),
        ("<U2", &doubled, "text"),
        ("<M8[ns]", &doubled, "dates"),
        ("f4", &values, "unknown"),
        ("", &values, "unknown"),
    ] {
        let text = refused(&npy(descr, false, "(1, 2, 3)", bytes));
        assert!(text.contains(says) && text.contains("astype"), "{descr}: {text}");
    }
    let structured = npy_with_header(
        "{'descr': [('a', '<f4'), ('b', '<f4', (2,))], 'fortran_order': False, 'shape': (2,)}",
        &values,
    );
    assert!(refused(&structured).contains("raw records"));
}

#[test]
fn the_shape_must_be_that_of_the_network() {
    let text = refused(&npy("<f4", false, "(2, 3)", &f32_bytes(&counting(6))));
    assert!(text.contains("float32 [2, 3]; expected [n, 2, 3]") && text.contains("x[None]"), "{text}");
    let text = refused(&npy("<f4", false, "(1, 3, 2)", &f32_bytes(&counting(6))));
    assert!(text.contains("float32 [1, 3, 2]; expected [n, 2, 3]"), "{text}");
    assert!(refused(&npy("<f4", false, "()", &f32_bytes(&[0.0]))).contains("first axis counts the samples"));
    assert!(refused(&npy("<f4", false, "(0, 2, 3)", &[])).contains("holds no samples"));
}

#[test]
fn sizes_that_disagree_with_the_file_are_refused() {
    let values = f32_bytes(&counting(12));
    assert!(refused(&npy("<f4", false, "(3, 2, 3)", &values)).contains("takes 72 bytes after the header, but 48"));
    assert!(refused(&npy("<f4", false, "(1, 2, 3)", &values)).contains("longer than it says"));
    assert!(refused(&npy("<f4", true, "(3, 2, 3)", &values)).contains("truncated"));
    // Would be 24 TB: refused without taking them.
    assert!(refused(&npy("<f4", false, "(1000000000000, 2, 3)", &values)).contains("truncated"));
    assert!(refused(&npy("<f4", true, "(1000000000000, 2, 3)", &values)).contains("truncated"));
    assert!(refused(&npy("<f4", false, "(4294967296, 4294967296, 2)", &values)).contains("overflows"));
    assert!(refused(&npy("<f4", false, "(0, 4294967296, 4294967296, 2)", &values)).contains("overflows"));
    assert!(refused(&npy("<f8", false, "(4611686018427387904,)", &values)).contains("overflows"));
    assert!(refused(&npy("<f4", false, "(99999999999999999999999,)", &values)).contains("too long"));
}

#[test]
fn damaged_headers_are_refused() {
    let values = f32_bytes(&counting(6));
    let whole = npy("<f4", false, "(1, 2, 3)", &values);
    assert!(refused(b"").contains("is empty"));
    for cut in 6..whole.len() {
        refused(&whole[..cut]);
    }
    assert!(refused(b"not an array").contains("no data file known here"));
    for header in [
        "",
        "{",
        "{}",
        "[]",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (1, 2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 6}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, -2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), 'more': 1}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3)} import os",
        "{'descr': '<f4, 'fortran_order': False, 'shape': (1, 2, 3)}",
        "{'descr': [('a', '<f4'), 'fortran_order': False, 'shape': (1, 2, 3)}",
        &format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}", "1, ".repeat(65)),
    ] {
        let text = refused(&npy_with_header(header, &values));
        assert!(text.contains("damaged npy header"), "{header}: {text}");
    }
    let mut version = whole.clone();
    version[6] = 9;
    assert!(refused(&version).contains("version 9.0"));
    let mut long = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
    long.extend(&values);
    assert!(refused(&long).contains("4294967295"));
}

#[test]
fn nan_and_infinity_are_found_where_they_are() {
    let mut values = counting(24);
    values[2 * 6 + 5] = f32::NAN;
    values[3 * 6] = f32::INFINITY;
    let folder = Folder::new();
    let path = folder.file("x.npy", &npy("<f4", false, "(4, 2, 3)", &f32_bytes(&values)));
    let set = DataSet::open(&path, None, &[2, 3]).unwrap();
    set.sample::<f32>(1).unwrap();
    let text = set.sample::<f32>(3).unwrap_err().to_string();
    assert!(text.contains("sample 3 holds inf at position [0, 0]"), "{text}");
    for error in [set.validate_all().unwrap_err(), set.samples::<f32>(&[0, 1, 2, 3]).unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("sample 2 holds NaN at position [1, 2]"), "the first of them: {text}");
    }
    set.validate(&[0, 1]).unwrap();
    let too_large: Vec<u8> = [1.0, -1e300].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
    let path = folder.file("d.npy", &npy("<f8", false, "(2,)", &too_large));
    let text = DataSet::open(&path, None, &[]).unwrap().validate_all().unwrap_err().to_string();
    assert!(text.contains("sample 1 holds -1e300, which float32 cannot hold, at position []"), "{text}");
}

#[test]
fn an_input_too_large_for_memory_is_refused() {
    let folder = Folder::new();
    let path = folder.file("x.npy", &npy("<f4", false, "(1, 2, 3)", &f32_bytes(&counting(6))));
    for shape in [vec![usize::MAX, 2], vec![1 << 40, 3]] {
        assert!(DataSet::open(&path, None, &shape).is_err());
        assert!(matches!(DataSet::synthetic(&InputSpec::reals("x", &shape), 0, 1), Err(DataError::TooLarge { .. })));
    }
    // 36 PB: more than an address space.
    let many = DataSet::synthetic(&InputSpec::reals("x", &[1 << 29]), 0, 1).unwrap();
    assert!(matches!(many.samples::<f32>(&vec![0; 1 << 24]), Err(DataError::TooLarge { .. })));
}

#[test]
fn a_preprocess_file_leaves_floats_alone_and_says_so() {
    let folder = Folder::new();
    let path = folder.file("x.npy", &npy("<f4", false, "(1, 1, 2, 3)", &f32_bytes(&counting(6))));
    let preprocess = Preprocess::from_toml("scale = 0.5", "p.toml").unwrap();
    let set = DataSet::open(&path, Some(&preprocess), &[1, 2, 3]).unwrap();
    assert_eq!(set.sample::<f32>(0).unwrap(), counting(6));
    assert!(set.notes()[0].contains("preprocess file was not applied"), "{:?}", set.notes());
}

fn zip(members: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn npz_refused(bytes: &[u8]) -> String {
    let folder = Folder::new();
    let path = folder.file("x.npz", bytes);
    let error = DataSet::open(&path, None, &[2, 3]).and_then(|set| set.validate_all()).unwrap_err();
    assert!(error.to_string().contains("x.npz"), "{error}");
    error.to_string()
}

#[test]
fn archives_give_the_samples_of_the_array_in_them() {
    let folder = Folder::new();
    let array = npy("<f4", false, "(4, 2, 3)", &f32_bytes(&counting(24)));
    let alone = DataSet::open(&folder.file("x.npy", &array), None, &[2, 3]).unwrap();
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let path = folder.file("x.npz", &zip(&[("whatever.npy", &array)], method));
        let set = DataSet::open(&path, None, &[2, 3]).unwrap();
        assert_eq!(set.samples::<f32>(&[0, 1, 2, 3]).unwrap(), counting(24));
        assert_eq!(set.content_hash().unwrap(), alone.content_hash().unwrap());
    }
}

#[test]
fn archives_give_an_array_to_each_input_by_name() {
    let folder = Folder::new();
    let (a, b, other) = (counting(6), counting(4), [9i64, 9]);
    let path = folder.0.path().join("x.npz");
    let arrays: [(&str, &[usize], Elements<'_>); 3] =
        [("b", &[2, 2], Elements::F32(&b)), ("a", &[2, 3], Elements::F32(&a)), ("labels", &[2], Elements::I64(&other))];
    write_npz(&path, &arrays).unwrap();
    let input = |name: &str, shape: &[usize]| InputSpec::reals(name, shape);
    let sets = DataSet::open_inputs(&path, None, &[input("a", &[3]), input("b", &[2])]).unwrap();
    assert_eq!(sets[0].sample::<f32>(1).unwrap(), [3.0, 4.0, 5.0]);
    assert_eq!(sets[1].sample::<f32>(1).unwrap(), [2.0, 3.0]);
    assert!(sets[0].notes()[0].contains("labels"), "{:?}", sets[0].notes());
    let one = DataSet::open_inputs(&path, None, &[input("b", &[2])]).unwrap();
    assert_eq!(one[0].sample::<f32>(0).unwrap(), [0.0, 1.0]);
    let missing = DataSet::open_inputs(&path, None, &[input("a", &[3]), input("c", &[2])]).unwrap_err();
    assert!(
        missing.to_string().contains("no array named `c`") && missing.to_string().contains("`a`, `b`"),
        "{missing}"
    );
    let several = DataSet::open(&path, None, &[3]).unwrap_err();
    assert!(matches!(several, DataError::SeveralArrays { .. }), "{several}");
    let single = folder.file("x.npy", &npy("<f4", false, "(2, 3)", &f32_bytes(&a)));
    let inputs = [input("a", &[3]), input("b", &[2])];
    assert!(matches!(DataSet::open_inputs(&single, None, &inputs), Err(DataError::SeveralInputs { .. })));
    write_npz(&path, &[("a", &[2, 3], Elements::F32(&a)), ("b", &[1, 2], Elements::F32(&b[..2]))]).unwrap();
    let unequal = DataSet::open_inputs(&path, None, &inputs).unwrap_err();
    assert!(matches!(unequal, DataError::SampleCounts { n: 2, m: 1, .. }), "{unequal}");
}

#[test]
fn damaged_archives_are_refused() {
    let array = npy("<f4", false, "(4, 2, 3)", &f32_bytes(&counting(24)));
    let deflated = zip(&[("a.npy", &array)], zip::CompressionMethod::Deflated);
    for cut in 4..deflated.len() {
        npz_refused(&deflated[..cut]);
    }
    let mut flipped = zip(&[("a.npy", &array)], zip::CompressionMethod::Stored);
    let at = flipped.windows(4).position(|w| w == 5f32.to_le_bytes()).unwrap();
    flipped[at] ^= 1;
    assert!(npz_refused(&flipped).contains("checksum"));
    assert!(npz_refused(&zip(&[], zip::CompressionMethod::Stored)).contains("no arrays"));
    assert!(npz_refused(&zip(&[("a.txt", b"x")], zip::CompressionMethod::Stored)).contains("`a.txt` is no npy array"));
    let pickle = npy("|O", false, "(1, 2, 3)", &array);
    assert!(npz_refused(&zip(&[("a.npy", &pickle)], zip::CompressionMethod::Stored)).contains("pickle"));
    let short = npy("<f4", false, "(400000000, 2, 3)", &f32_bytes(&counting(24)));
    assert!(npz_refused(&zip(&[("a.npy", &short)], zip::CompressionMethod::Deflated)).contains("but 96 are there"));
}

#[test]
fn zip_bombs_are_refused() {
    // The stream unpacks to far more than is declared.
    let zeros = vec![0u8; 4 << 20];
    let bomb = npy("<f4", false, "(4, 2, 3)", &zeros);
    assert!(npz_refused(&zip(&[("a.npy", &bomb)], zip::CompressionMethod::Deflated)).contains("longer than it says"));
    // An honest npy header, and the sizes of the zip headers made to agree with it.
    let declared = npy("<f4", false, "(4, 2, 3)", &f32_bytes(&counting(24))).len() as u32;
    let mut lying = zip(&[("a.npy", &bomb)], zip::CompressionMethod::Deflated);
    let real = (bomb.len() as u32).to_le_bytes();
    let mut patched = 0;
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == real {
            lying[at..at + 4].copy_from_slice(&declared.to_le_bytes());
            patched += 1;
        }
    }
    assert!(patched >= 2, "sizes are in the local and the central header");
    npz_refused(&lying);
    // More than DEFLATE can make of so few bytes.
    let huge = npy("<f4", false, "(100000000, 2, 3)", &f32_bytes(&counting(24)));
    let mut claims = zip(&[("a.npy", &huge)], zip::CompressionMethod::Deflated);
    let real = (huge.len() as u32).to_le_bytes();
    let header = huge.len() as u32 - 96;
    for at in 0..claims.len() - 4 {
        if claims[at..at + 4] == real {
            claims[at..at + 4].copy_from_slice(&(header + 2_400_000_000).to_le_bytes());
        }
    }
    let text = npz_refused(&claims);
    assert!(text.contains("cannot unpack to the 2400000"), "{text}");
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = Folder::new();
    let missing = DataSet::open(&folder.0.path().join("none"), None, &[1]).unwrap_err();
    assert!(matches!(missing, DataError::Read { .. }) && missing.to_string().contains("none"), "{missing}");
    #[cfg(unix)]
    {
        let device = DataSet::open("/dev/zero".as_ref(), None, &[1]).unwrap_err();
        assert!(matches!(device, DataError::NotRegular { .. }), "{device}");
    }
}

#[test]
fn written_arrays_are_read_back() {
    let folder = Folder::new();
    let path = folder.0.path().join("y.npy");
    write_npy(&path, &[2, 3], Elements::F32(&counting(6))).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 128 + 24);
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    assert_eq!((bytes[8], bytes[9], bytes[127]), (118, 0, b'\n'));
    assert!(bytes[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
    assert_eq!(DataSet::open(&path, None, &[3]).unwrap().samples::<f32>(&[0, 1]).unwrap(), counting(6));
    write_npy(&path, &[3], Elements::I64(&[1, -2, 3])).unwrap();
    assert!(
        std::fs::read(&path).unwrap()[10..].starts_with(b"{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }")
    );
    assert!(write_npy(&path, &[4], Elements::I64(&[1, -2, 3])).unwrap_err().to_string().contains("do not fill"));
}
