//! A file of records that keeps within its size: when it is full it becomes the older part, in place of the one before.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::record::{Records, frame, framed_bytes};
use crate::error::{Code, Error, Result};

/// Such a file.
pub(super) struct LogFile {
    path: PathBuf,
    older: PathBuf,
    file: File,
    bytes: u64,
    /// Of this part: half of all.
    bytes_max: u64,
}

impl LogFile {
    /// The log `prefix` in `folder`, of at most `bytes_max` bytes with its older part. Goes on behind what is there; a last record
    /// that is not whole is cut off.
    ///
    /// # Errors
    /// Those of the system; `FAILED_PRECONDITION` when something that is no file has the name.
    pub(super) fn open(folder: &Path, prefix: &str, bytes_max: u64) -> Result<Self> {
        let path = folder.join(format!("{prefix}.tfrecord"));
        let older = folder.join(format!("{prefix}.old.tfrecord"));
        let mut file = Self { file: create(&path)?, path, older, bytes: 0, bytes_max: bytes_max / 2 };
        file.bytes = file.whole()?;
        file.file.set_len(file.bytes)?;
        file.file.seek(SeekFrom::End(0))?;
        Ok(file)
    }

    /// Bytes of the records that are whole.
    fn whole(&mut self) -> Result<u64> {
        let mut records = Records::new(BufReader::new(&self.file), self.bytes_max);
        loop {
            match records.next(|_| Ok(())) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(records.offset()),
                Err(error) if [Code::DataLoss, Code::ResourceExhausted].contains(&error.code()) => {
                    tracing::warn!("{}: {error}: it goes on from there", self.path.display());
                    return Ok(records.offset());
                }
                Err(error) => return Err(error.at(self.path.display())),
            }
        }
    }

    /// Appends a record, all of it or nothing.
    ///
    /// # Errors
    /// Those of the system; `RESOURCE_EXHAUSTED` for a record that no part can hold.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<()> {
        let more = framed_bytes(record.len());
        if more > self.bytes_max {
            return Err(Error::resource_exhausted(format!(
                "a record of {more} bytes, {} may stand in one part of the log (request_log_max_bytes)",
                self.bytes_max
            )));
        }
        if self.bytes + more > self.bytes_max {
            std::fs::rename(&self.path, &self.older).map_err(|e| Error::from(e).at(self.older.display()))?;
            (self.file, self.bytes) = (create(&self.path)?, 0);
        }
        let mut framed = Vec::with_capacity(record.len() + 16);
        frame(record, &mut framed);
        if let Err(error) = self.file.write_all(&framed) {
            // A part of a record would hide what follows it.
            let _ = self.file.set_len(self.bytes);
            return Err(Error::from(error).at(self.path.display()));
        }
        self.bytes += more;
        Ok(())
    }
}

/// The file at `path`, for its owner alone, made if need be. Links are not followed.
fn create(path: &Path) -> Result<File> {
    match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::failed_precondition(format!("{} is no file", path.display())));
        }
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::from(e).at(path.display())),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|e| Error::from(e).at(path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &Path) -> usize {
        let mut records = Records::new(File::open(path).expect("the log"), 1 << 20);
        std::iter::from_fn(|| records.next(|_| Ok(())).expect("whole records")).count()
    }

    #[test]
    fn full_parts_take_the_place_of_older_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        // Two records of 16 bytes and what frames them fit a part.
        let mut log = LogFile::open(folder.path(), "m", 130).expect("a file");
        for _ in 0..7 {
            log.append(&[1; 16]).expect("it fits");
        }
        let parts = ["m.tfrecord", "m.old.tfrecord"].map(|name| folder.path().join(name));
        assert_eq!(parts.clone().map(|part| count(&part)), [1, 2]);
        assert_eq!(log.append(&[1; 60]).expect_err("too long").code(), Code::ResourceExhausted);
        #[cfg(unix)]
        for part in &parts {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(part).expect("the log").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_was_cut_off_is_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.tfrecord");
        let open = || LogFile::open(folder.path(), "m", 1 << 20).expect("a file");
        open().append(b"first").expect("it fits");
        let whole = std::fs::read(&path).expect("the log");
        std::fs::write(&path, [whole.as_slice(), &whole[..7]].concat()).expect("writable");
        open().append(b"second").expect("it fits");
        assert_eq!(count(&path), 2);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::fs::write(&target, "precious").expect("writable");
        std::os::unix::fs::symlink(&target, folder.path().join("m.tfrecord")).expect("links can be made");
        assert!(LogFile::open(folder.path(), "m", 1 << 20).is_err());
        assert_eq!(std::fs::read_to_string(target).expect("still there"), "precious");
    }
}
