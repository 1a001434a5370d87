//! The files that a command reads and writes: refused before any work where an output would overwrite an input or another output, or
//! could not be written at all.

use super::Failure;
use crate::data::check_target;
use crate::driver::listed;
use std::path::{Path, PathBuf};

/// What a command reads and writes, by the option that names it.
#[derive(Default)]
pub struct Files {
    read: Vec<(&'static str, PathBuf)>,
    written: Vec<(String, PathBuf)>,
}

impl Files {
    /// Nothing yet.
    pub fn new() -> Files {
        Files::default()
    }

    /// Adds a file or folder that is read, if one was given. `what` is its name in messages, such as `the model` or `--calib`.
    pub fn read<'p>(mut self, what: &'static str, path: impl Into<Option<&'p Path>>) -> Files {
        self.read.extend(path.into().map(|path| (what, path.to_path_buf())));
        self
    }

    /// Adds a file that is written, if one was given.
    pub fn write<'p>(mut self, option: impl Into<String>, path: impl Into<Option<&'p Path>>) -> Files {
        self.written.extend(path.into().map(|path| (option.into(), path.to_path_buf())));
        self
    }

    /// Refuses what cannot be done with these files, all of it at once.
    ///
    /// # Errors
    /// A usage error if a file that is written is one that is read, or is written twice; links are followed, and two names of one
    /// file are one file. Otherwise a failure if a file cannot be written: its folder is missing, or it is a folder itself.
    pub fn check(&self) -> Result<(), Failure> {
        let clashes = self.clashes();
        if !clashes.is_empty() {
            return Err(Failure::Usage(listed(&clashes)));
        }
        let unwritable: Vec<String> =
            self.written.iter().filter_map(|(_, path)| check_target(path).err()).map(|e| e.to_string()).collect();
        if unwritable.is_empty() { Ok(()) } else { Err(Failure::Failed(listed(&unwritable))) }
    }

    fn clashes(&self) -> Vec<String> {
        let written: Vec<_> = self.written.iter().map(|(option, path)| (option, path, Identity::of(path))).collect();
        let mut clashes = vec![];
        // What is not there yet is no input.
        if written.iter().any(|(_, _, id)| matches!(id, Some(Identity::Existing(_)))) {
            for (what, path) in self.read.iter().flat_map(|(what, path)| parts(what, path)) {
                let id = Identity::of(&path);
                for (option, output, _) in written.iter().filter(|(_, _, other)| id.is_some() && *other == id) {
                    clashes.push(format!(
                        "{option} {} would overwrite {what}{}: name another file for the output",
                        output.display(),
                        if **output == path { String::new() } else { format!(", {}", path.display()) }
                    ));
                }
            }
        }
        for (i, (option, path, id)) in written.iter().enumerate() {
            if let Some((first, other, _)) = written[..i].iter().find(|(_, _, other)| id.is_some() && other == id) {
                clashes.push(format!(
                    "{first} {} and {option} {} are the same file: name another file for one of them",
                    other.display(),
                    path.display()
                ));
            }
        }
        clashes
    }
}

/// The files that are read with a path: those of a folder, and those that a model keeps its weights in.
fn parts(what: &str, path: &Path) -> Vec<(String, PathBuf)> {
    if let Ok(entries) = std::fs::read_dir(path) {
        return entries.flatten().map(|entry| (format!("a file of {what}"), entry.path())).collect();
    }
    let mut all = vec![(what.to_string(), path.to_path_buf())];
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        all.extend(catc_onnx::external_files(path).into_iter().map(|file| (format!("the weights of {what}"), file)));
    }
    all
}

/// What makes two paths the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    /// A regular file that is there.
    Existing(FileId),
    /// A file that does not exist: its folder with links resolved, and its name.
    New(PathBuf),
}

#[cfg(unix)]
type FileId = (u64, u64);
#[cfg(not(unix))]
type FileId = PathBuf;

impl Identity {
    /// `None` for what is no regular file (a device, a pipe, a folder): nothing is replaced there.
    fn of(path: &Path) -> Option<Identity> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => file_id(path, &metadata).map(Identity::Existing),
            Ok(_) => None,
            Err(_) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                Some(Identity::New(folder.canonicalize().ok()?.join(path.file_name()?)))
            }
        }
    }
}

#[cfg(unix)]
fn file_id(_: &Path, metadata: &std::fs::Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(path: &Path, _: &std::fs::Metadata) -> Option<FileId> {
    path.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clashes(read: &[&Path], written: &[&Path]) -> usize {
        let files = read.iter().fold(Files::new(), |files, path| files.read("--calib", *path));
        written.iter().fold(files, |files, path| files.write("-o", *path)).clashes().len()
    }

    #[test]
    fn two_names_of_one_file_are_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let input = at("a.npy");
        std::fs::write(&input, "a").unwrap();
        std::fs::write(at("b.npy"), "a").unwrap();
        std::fs::hard_link(&input, at("hard.npy")).unwrap();
        assert_eq!(clashes(&[&input], &[&input]), 1);
        assert_eq!(clashes(&[&input], &[&at("./a.npy")]), 1);
        assert_eq!(clashes(&[&input], &[&at("hard.npy")]), 1);
        assert_eq!(clashes(&[dir.path()], &[&input]), 2, "the file and its other name");
        assert_eq!(clashes(&[&input], &[&at("b.npy"), &at("new.npy")]), 0);
        assert_eq!(clashes(&[], &[&at("new.npy"), &at("./new.npy")]), 1);
        assert_eq!(clashes(&[], &[&at("new.npy"), &at("other.npy")]), 0);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&input, at("soft.npy")).unwrap();
            assert_eq!(clashes(&[&input], &[&at("soft.npy")]), 1);
            assert_eq!(clashes(&[], &[Path::new("/dev/null"), Path::new("/dev/null")]), 0);
        }
    }

    #[test]
    fn outputs_without_a_folder_are_named_together() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new().write("-o", &*dir.path().join("no/a.bin")).write("--loss-curve", dir.path());
        let Err(Failure::Failed(text)) = files.check() else { panic!("it is refused") };
        assert!(text.contains("there is no folder") && text.contains("it is a folder"), "{text}");
    }
}
