//! Label files against the data they belong to.

use std::path::PathBuf;

use catc::data::{DataError, DataSet, Preprocess, read_labels};
use tempfile::TempDir;

mod npy_bytes;
use npy_bytes::{f32_bytes, npy};

struct Data {
    folder: TempDir,
    array: DataSet,
    images: DataSet,
}

/// Three samples, as an array and as a folder of files a, b, c.
fn data() -> Data {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.npy");
    std::fs::write(&path, npy("<f4", false, "(3, 1)", &f32_bytes(&[0.0; 3]))).unwrap();
    let array = DataSet::open(&path, None, &[1]).unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    for name in ["b,1.npy", "a.npy", "c.npy"] {
        std::fs::write(files.join(name), npy("|u1", false, "(1, 1)", &[7])).unwrap();
    }
    let preprocess = Preprocess::from_toml("color = \"gray\"", "p.toml").unwrap();
    let images = DataSet::open(&files, Some(&preprocess), &[1, 1, 1]).unwrap();
    Data { folder, array, images }
}

impl Data {
    fn labels(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn integers_of_every_width_are_labels() {
    let data = data();
    for (descr, size) in
        [("|i1", 1), ("<i2", 2), ("<i4", 4), ("<i8", 8), ("|u1", 1), ("<u2", 2), ("<u4", 4), ("<u8", 8)]
    {
        let bytes: Vec<u8> = [2u64, 0, 9].iter().flat_map(|label| label.to_le_bytes()[..size].to_vec()).collect();
        let path = data.labels("y.npy", &npy(descr, false, "(3,)", &bytes));
        assert_eq!(read_labels(&path, &data.array, 10).unwrap(), [2, 0, 9], "{descr}");
    }
}

#[test]
fn there_is_a_label_for_every_sample() {
    let data = data();
    let path = data.labels("y.npy", &npy("|u1", false, "(2,)", &[2, 0]));
    let error = read_labels(&path, &data.array, 10).unwrap_err();
    assert!(matches!(error, DataError::LabelCount { labels: 2, samples: 3, .. }), "{error}");
}

#[test]
fn labels_that_are_no_classes_are_refused() {
    let data = data();
    let path = data.labels("y.npy", &npy("|i1", false, "(3,)", &[0, 0xff, 1]));
    let text = read_labels(&path, &data.array, 10).unwrap_err().to_string();
    assert!(text.contains("label 1 (from 0) is -1") && text.contains("from 0 to 9"), "{text}");
    let path = data.labels("y.npy", &npy("<u8", false, "(3,)", &[0xff; 24]));
    let text = read_labels(&path, &data.array, 10).unwrap_err().to_string();
    assert!(text.contains("18446744073709551615"), "{text}");
    let path = data.labels("y.npy", &npy("|u1", false, "(3,)", &[0, 1, 10]));
    assert!(matches!(read_labels(&path, &data.array, 10), Err(DataError::LabelRange { index: 2, label: 10, .. })));
}

#[test]
fn arrays_that_are_no_labels_are_refused() {
    let data = data();
    let floats = data.labels("y.npy", &npy("<f4", false, "(3,)", &f32_bytes(&[0.0; 3])));
    assert!(read_labels(&floats, &data.array, 10).unwrap_err().to_string().contains("float32; expected integers"));
    let one_hot = data.labels("y.npy", &npy("|u1", false, "(3, 2)", &[0; 6]));
    assert!(read_labels(&one_hot, &data.array, 10).unwrap_err().to_string().contains("argmax"));
    let pickle = data.labels("y.npy", &npy("|O", false, "(3,)", &[0; 6]));
    assert!(matches!(read_labels(&pickle, &data.array, 10), Err(DataError::Dtype { .. })));
    let short = data.labels("y.npy", &npy("<i8", false, "(300000000000,)", &[0; 24]));
    assert!(matches!(read_labels(&short, &data.array, 10), Err(DataError::ByteCount { .. })));
    for bytes in [&b""[..], b"PK\x03\x04", b"0,1,2"] {
        assert!(matches!(
            read_labels(&data.labels("y.npy", bytes), &data.array, 10),
            Err(DataError::UnknownFormat { .. })
        ));
    }
    assert!(matches!(read_labels("none.npy".as_ref(), &data.array, 10), Err(DataError::Read { .. })));
}

#[test]
fn csv_rows_belong_to_files_by_name() {
    let data = data();
    let path = data.labels("y.csv", b"\xef\xbb\xbffile,label\r\nc.npy,3\r\na.npy,1\r\n\"b,1.npy\", 2 \r\n\r\n");
    assert_eq!(read_labels(&path, &data.images, 10).unwrap(), [1, 2, 3]);
    assert_eq!(read_labels(&path, &data.array, 10).unwrap(), [3, 1, 2], "of an array by their order");
    let path = data.labels("y.CSV", b"a.npy,1\nb,1.npy,2\nc.npy,3");
    assert_eq!(read_labels(&path, &data.images, 10).unwrap(), [1, 2, 3]);
}

#[test]
fn damaged_csv_files_are_refused() {
    let data = data();
    for (text, says) in [
        ("a.npy,1\nc.npy,3\nd.npy,2", "no row for `b,1.npy`"),
        ("a.npy,1\nc.npy,3\na.npy,2", "`a.npy` is there twice"),
        ("a.npy,1\nc.npy,3", "2 labels, but the data has 3"),
        ("file,label\na.npy,1\nc.npy,x\nd.npy,2", "line 3: the label `x`"),
        ("a.npy,1.5\nc.npy,1\nd.npy,2", "line 1: the label `1.5`"),
        ("a.npy 1\n", "line 1 is not `file,label`"),
        ("a.npy,1\nb,1.npy,-2\nc.npy,3", "is -2"),
    ] {
        let error = read_labels(&data.labels("y.csv", text.as_bytes()), &data.images, 10).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("y.csv"), "{text}: {error}");
    }
    assert!(read_labels(&data.labels("y.csv", b"\xff\xfe"), &data.images, 10).is_err());
}
