//! Files whose contents are never shown, and that are read again when they change.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// Bytes that such a file may have.
const BYTES_MAX: u64 = 1 << 20;
/// Between looks at what the system says of the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The text of a file of at most a mebibyte.
///
/// # Errors
/// Those of the system, naming the file; `INVALID_ARGUMENT` for one that is too large or no text.
pub(super) fn read_sealed(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::from(e).at(path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // What is no plain file may have no end.
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let wrong = |expected: &str| Error::invalid_argument(format!("{}: expected {expected}", path.display()));
    if bytes.len() as u64 > BYTES_MAX {
        return Err(wrong(&format!("at most {BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| wrong("text"))
}

/// What the system says of a file: another answer means other contents. Names may be links that lead elsewhere from one
/// moment to the next, as those of mounted secrets do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    modified: Option<SystemTime>,
    bytes: u64,
    place: u64,
}

fn mark(path: &PathBuf) -> Option<Mark> {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let place = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let place = 0;
    Some(Mark { modified: metadata.modified().ok(), bytes: metadata.len(), place })
}

/// Files as they were at a moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    paths: Vec<PathBuf>,
    marks: Vec<Option<Mark>>,
}

impl Seen {
    /// As they are now. To be made before the files are read: what is written meanwhile is then a change.
    pub(super) fn now(paths: Vec<PathBuf>) -> Self {
        let marks = paths.iter().map(mark).collect();
        Self { paths, marks }
    }
}

/// Reads what is kept of some files again.
pub(super) type Renew = Box<dyn Fn() -> Result<(), Vec<Error>> + Send>;

/// Files, and what is done when they have changed.
pub(super) struct Sealed {
    /// As logs name it.
    what: &'static str,
    taken: Seen,
    last: Vec<Option<Mark>>,
    renew: Renew,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealed").field(&self.taken.paths).finish()
    }
}

impl Sealed {
    /// `what` was made of the files as they were seen.
    pub(super) fn new(what: &'static str, taken: Seen, renew: Renew) -> Self {
        Self { what, last: taken.marks.clone(), taken, renew }
    }

    /// Whether they are others than those taken, and the same as at the last look: who writes several, or one slowly, is done.
    fn has_changed(&mut self) -> bool {
        let now: Vec<_> = self.taken.paths.iter().map(mark).collect();
        let has_settled = now == self.last;
        self.last.clone_from(&now);
        if !has_settled || now == self.taken.marks {
            return false;
        }
        self.taken.marks = now;
        true
    }

    fn look(&mut self) {
        if !self.has_changed() {
            return;
        }
        match (self.renew)() {
            Ok(()) => tracing::info!(files = ?self.taken.paths, "{} changed and were taken up", self.what),
            Err(errors) => {
                for error in errors {
                    tracing::warn!("{} changed and cannot be used, the old ones stay: {error}", self.what);
                }
            }
        }
    }
}

/// Looks again and again, until it is dropped.
pub(super) async fn follow(mut all: Vec<Sealed>) {
    while !all.is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = tokio::task::spawn_blocking(move || {
            all.iter_mut().for_each(Sealed::look);
            all
        });
        match looked.await {
            Ok(again) => all = again,
            // The runtime ends, and so does this.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_count_once_they_have_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "a").expect("writable");
        let mut sealed = Sealed::new("secrets", Seen::now(vec![path.clone()]), Box::new(|| Ok(())));
        assert!(!sealed.has_changed());
        std::fs::write(&path, "other").expect("writable");
        assert!(!sealed.has_changed(), "who knows whether that is all");
        assert!(sealed.has_changed());
        assert!(!sealed.has_changed(), "only once");
        std::fs::remove_file(&path).expect("it is there");
        assert!(!sealed.has_changed());
        assert!(sealed.has_changed());
    }

    #[test]
    fn large_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("large");
        std::fs::File::create(&path).and_then(|file| file.set_len(BYTES_MAX + 1)).expect("writable");
        let error = read_sealed(&path).expect_err("too large");
        assert!(error.message().ends_with("expected at most 1048576 bytes"), "{error}");
        let error = read_sealed(&folder.path().join("missing")).expect_err("not there");
        assert!(error.message().contains("missing"), "{error}");
    }
}
