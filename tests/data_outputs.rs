//! Outputs are complete or not there.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use catc::data::{DataError, write_atomically};
use tempfile::TempDir;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_written_and_replaced() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.bin");
    for text in ["first", "second, longer", "3"] {
        let value = write_atomically(&path, |writer| {
            writer.write_all(b"?")?;
            writer.seek(SeekFrom::Start(0))?;
            writer.write_all(text.as_bytes())?;
            Ok(text.len())
        });
        assert_eq!(value.unwrap(), text.len());
        assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
        assert_eq!(names(folder.path()), ["out.bin"]);
    }
}

#[test]
fn nothing_is_left_behind_on_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.bin");
    let full = || io::Error::new(io::ErrorKind::StorageFull, "no space left on device");
    let fails = || {
        write_atomically(&path, |writer| {
            writer.write_all(&[0; 100_000])?;
            assert_eq!(names(folder.path()).len(), 1 + usize::from(path.exists()), "written beside its target");
            Err::<(), _>(full())
        })
        .unwrap_err()
        .to_string()
    };
    let error = fails();
    assert!(error.contains("out.bin") && error.contains("no space left"), "{error}");
    assert!(names(folder.path()).is_empty());
    std::fs::write(&path, "earlier").unwrap();
    fails();
    assert_eq!(std::fs::read(&path).unwrap(), b"earlier");
    assert_eq!(names(folder.path()), ["out.bin"]);
    let unwound = std::panic::catch_unwind(|| write_atomically(&path, |_| -> io::Result<()> { panic!("in a test") }));
    assert!(unwound.is_err());
    assert_eq!(names(folder.path()), ["out.bin"]);
}

#[test]
fn folders_that_cannot_be_written_to_are_named() {
    let folder = TempDir::new().unwrap();
    let write = |path: &Path| write_atomically(path, |writer| writer.write_all(b"x")).unwrap_err().to_string();
    let missing = write(&folder.path().join("none/out.bin"));
    assert!(missing.contains("there is no folder") && missing.contains("none"), "{missing}");
    assert!(write(folder.path()).contains("it is a folder"));
    assert!(write(Path::new("")).contains("names no file"));
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(write(&file.join("out.bin")).contains("there is no folder"));
    let mut permissions = std::fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&file, permissions).unwrap();
    assert!(write(&file).contains("read-only"));
    assert_eq!(names(folder.path()), ["file"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_written_directly() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = TempDir::new().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    std::fs::write(&file, "old").unwrap();
    symlink(&file, &link).unwrap();
    write_atomically(&link, |writer| writer.write_all(b"new")).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_ne!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o044, 0, "others may read it");

    let (null, full) = (Path::new("/dev/null"), Path::new("/dev/full"));
    write_atomically(null, |writer| writer.write_all(b"x")).unwrap();
    assert!(!std::fs::metadata(null).unwrap().is_file());
    if full.exists() {
        let error = write_atomically(full, |writer| writer.write_all(b"x")).unwrap_err();
        assert!(matches!(error, DataError::Write { .. }) && error.to_string().contains("space"), "{error}");
    }
}
