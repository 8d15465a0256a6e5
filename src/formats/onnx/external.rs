//! Weights in files beside the model.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::proto::StringStringEntryProto;
use crate::error::{Error, Result};

/// Reads external data of one model. Files are read, never mapped: a file truncated under a map would kill the process.
#[derive(Debug)]
pub(super) struct ExternalFiles {
    folder: PathBuf,
    strict_paths: bool,
    // Weights of one file follow each other, so one handle is enough.
    last: Option<(PathBuf, File, u64)>,
}

impl ExternalFiles {
    /// Files relative to `folder`. `strict_paths` forbids links that lead out of it.
    pub(super) fn new(folder: &Path, strict_paths: bool) -> Self {
        Self { folder: folder.to_owned(), strict_paths, last: None }
    }

    /// The `bytes` bytes that `entries` point at.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a location outside the folder or a range outside the file, and what the system reports.
    pub(super) fn read(&mut self, entries: &[StringStringEntryProto], bytes: usize) -> Result<Bytes> {
        let entries: HashMap<&str, &str> = entries.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
        let location =
            entries.get("location").ok_or_else(|| Error::invalid_argument("external data without a location"))?;
        let offset = number(&entries, "offset")?.unwrap_or(0);
        let length = number(&entries, "length")?;
        if let Some(length) = length.filter(|l| *l != bytes as u64) {
            return Err(Error::invalid_argument(format!("{length} bytes of external data, the shape needs {bytes}")));
        }
        self.read_range(location, offset, bytes).map_err(|e| e.at(format_args!("external data {location:?}")))
    }

    fn read_range(&mut self, location: &str, offset: u64, bytes: usize) -> Result<Bytes> {
        let path = self.resolve(location)?;
        if self.last.as_ref().is_none_or(|(open, _, _)| *open != path) {
            self.last = Some(open(path)?);
        }
        let Some((_, file, size)) = &mut self.last else { return Err(Error::internal("a file was just opened")) };
        if offset.checked_add(bytes as u64).is_none_or(|end| end > *size) {
            return Err(Error::invalid_argument(format!(
                "the file has {size} bytes, {bytes} from {offset} on are needed"
            )));
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut data = vec![0; bytes];
        file.read_exact(&mut data)?;
        Ok(data.into())
    }

    fn resolve(&self, location: &str) -> Result<PathBuf> {
        let relative = Path::new(location);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        // A backslash separates folders on some systems and would hide `..` on the others.
        if location.is_empty() || !inside || location.contains(['\\', '\0']) {
            return Err(Error::invalid_argument("the location must be a relative path without `..`"));
        }
        let path = self.folder.join(relative);
        if self.strict_paths && !path.canonicalize()?.starts_with(self.folder.canonicalize()?) {
            return Err(Error::permission_denied("a link leads out of the model's folder"));
        }
        Ok(path)
    }
}

fn open(path: PathBuf) -> Result<(PathBuf, File, u64)> {
    // Asked before opening: opening a pipe would wait for a writer.
    if !std::fs::metadata(&path)?.is_file() {
        return Err(Error::invalid_argument("not a file"));
    }
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    Ok((path, file, size))
}

fn number(entries: &HashMap<&str, &str>, key: &str) -> Result<Option<u64>> {
    let parse = |text: &&str| {
        text.parse().map_err(|_| Error::invalid_argument(format!("external data has {key} {text:?}, not a number")))
    };
    entries.get(key).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(location: &str, offset: &str) -> Vec<StringStringEntryProto> {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        vec![entry("location", location), entry("offset", offset)]
    }

    #[test]
    fn ranges_are_read_and_checked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("w.bin"), [1, 2, 3, 4, 5]).expect("writable");
        let mut files = ExternalFiles::new(folder.path(), true);
        assert_eq!(files.read(&entries("w.bin", "2"), 3).expect("in range").as_ref(), [3, 4, 5]);
        assert!(files.read(&entries("w.bin", "2"), 4).is_err());
        assert!(files.read(&entries("w.bin", "18446744073709551615"), 1).is_err());
        for location in ["../w.bin", "/etc/hostname", "", "a/../w.bin", "a\\..\\w.bin", "."] {
            assert!(files.read(&entries(location, "0"), 1).is_err(), "{location:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_out_are_followed_unless_forbidden() {
        let (folder, other) =
            (tempfile::tempdir().expect("a temporary folder"), tempfile::tempdir().expect("a temporary folder"));
        std::fs::write(other.path().join("blob"), [9]).expect("writable");
        std::os::unix::fs::symlink(other.path().join("blob"), folder.path().join("w.bin")).expect("linkable");
        let read = |strict| ExternalFiles::new(folder.path(), strict).read(&entries("w.bin", "0"), 1);
        assert_eq!(read(false).expect("links are allowed").as_ref(), [9]);
        assert!(read(true).is_err());
    }
}
