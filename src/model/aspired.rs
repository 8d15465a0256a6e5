//! Which versions of a model are to be served, from what lies in its folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::config::VersionPolicy;
use super::repository::{MODEL_FILES, scan};
use crate::error::Result;

/// Files and folders of one version that are looked at.
const FILES_MAX: usize = 10_000;
/// Folders inside each other that are looked at.
const DEPTH_MAX: usize = 8;

/// What tells one state of a version's files from another: their names, sizes and times.
pub(super) type Fingerprint = u64;

/// When each version that was being written was last found to have changed.
pub(super) type Unsettled = HashMap<PathBuf, (Fingerprint, Instant)>;

/// A version to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: i64,
    pub(super) path: PathBuf,
    /// `None` for one that is loaded or being loaded: it is not looked at any more.
    pub(super) files: Option<Fingerprint>,
}

/// What is to be served of a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Aspired {
    /// Highest first.
    pub(super) versions: Vec<Found>,
    /// Versions that would be among them, were they not still being written.
    pub(super) unsettled: Unsettled,
}

/// One look at a model's folder.
pub(super) struct Look<'a> {
    pub(super) policy: &'a VersionPolicy,
    /// Versions that are loaded or being loaded.
    pub(super) known: &'a BTreeSet<i64>,
    /// Those that were unsettled at the last look.
    pub(super) unsettled: &'a Unsettled,
    /// How long a version's files must have been as they are.
    pub(super) settle: Duration,
}

impl Look<'_> {
    /// What is to be served of the versions below `base`. A version counts once its model file is there and nothing in it
    /// has changed for a while.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is nothing at `base`, or whatever keeps it from being read.
    pub(super) fn at(&self, base: &Path) -> Result<Aspired> {
        let mut found = Aspired::default();
        let all: BTreeMap<i64, PathBuf> = scan(base)?;
        for (version, path) in all.into_iter().rev() {
            let more = match self.policy {
                VersionPolicy::Latest(count) => found.versions.len() < (*count).max(1),
                VersionPolicy::All => true,
                VersionPolicy::Specific(wanted) if !wanted.contains(&version) => continue,
                VersionPolicy::Specific(_) => true,
            };
            if !more {
                break;
            }
            if self.known.contains(&version) {
                found.versions.push(Found { version, path, files: None });
                continue;
            }
            let Some(files) = Files::at(&path).filter(|files| files.has_model) else { continue };
            if self.is_settled(&path, &files) {
                found.versions.push(Found { version, path, files: Some(files.fingerprint) });
            } else {
                let since = self.unsettled.get(&path).filter(|(print, _)| *print == files.fingerprint);
                let seen = since.copied().unwrap_or_else(|| (files.fingerprint, Instant::now()));
                found.unsettled.insert(path, seen);
            }
        }
        Ok(found)
    }

    /// By the files' own times; where those lie in the future, by what earlier looks have seen.
    fn is_settled(&self, path: &Path, files: &Files) -> bool {
        let age = SystemTime::now().duration_since(files.newest);
        let since = self.unsettled.get(path).filter(|(print, _)| *print == files.fingerprint);
        age.is_ok_and(|age| age >= self.settle) || since.is_some_and(|(_, at)| at.elapsed() >= self.settle)
    }
}

/// The files of one version.
struct Files {
    fingerprint: Fingerprint,
    newest: SystemTime,
    has_model: bool,
}

impl Files {
    /// `None` when they cannot be read, or go away meanwhile.
    fn at(path: &Path) -> Option<Self> {
        let mut files = Self { fingerprint: 0, newest: SystemTime::UNIX_EPOCH, has_model: path.is_file() };
        files.has_model |= MODEL_FILES.iter().any(|file| path.join(file).is_file());
        let (mut left, mut folders) = (FILES_MAX, vec![(path.to_path_buf(), 0)]);
        while let Some((path, depth)) = folders.pop() {
            let metadata = std::fs::metadata(&path).ok()?;
            files.add(&path, &metadata);
            left = left.saturating_sub(1);
            if !metadata.is_dir() || depth == DEPTH_MAX || left == 0 {
                continue;
            }
            for entry in std::fs::read_dir(&path).ok()?.take(left) {
                folders.push((entry.ok()?.path(), depth + 1));
            }
        }
        Some(files)
    }

    fn add(&mut self, path: &Path, metadata: &std::fs::Metadata) {
        let changed = changed(metadata);
        self.newest = self.newest.max(changed);
        let times = changed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let text = format!("{}\0{}\0{times}", path.display(), metadata.len());
        // Folders are read in no order: a sum has none either.
        self.fingerprint = self.fingerprint.wrapping_add(xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
    }
}

/// When a file last changed, by a clock that copies with kept times do not set back where there is one.
fn changed(metadata: &std::fs::Metadata) -> SystemTime {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    #[cfg(unix)]
    let other = {
        use std::os::unix::fs::MetadataExt as _;
        let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
        let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    };
    #[cfg(not(unix))]
    let other = metadata.created().unwrap_or(SystemTime::UNIX_EPOCH);
    modified.max(other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn version(base: &Path, name: &str) {
        fs::create_dir(base.join(name)).expect("a version's folder");
        fs::write(base.join(name).join("model.onnx"), "model").expect("a file");
    }

    fn look(policy: &VersionPolicy, base: &Path, settle: Duration, unsettled: &Unsettled) -> Aspired {
        Look { policy, known: &BTreeSet::new(), unsettled, settle }.at(base).expect("readable")
    }

    fn numbers(aspired: &Aspired) -> Vec<i64> {
        aspired.versions.iter().map(|found| found.version).collect()
    }

    #[test]
    fn only_versions_with_a_model_file_count() {
        let base = tempfile::tempdir().expect("a folder");
        for name in ["1", "2", "3"] {
            version(base.path(), name);
        }
        fs::create_dir(base.path().join("9")).expect("an empty folder");
        let now = |policy| numbers(&look(&policy, base.path(), Duration::ZERO, &Unsettled::new()));
        assert_eq!(now(VersionPolicy::Latest(1)), [3]);
        assert_eq!(now(VersionPolicy::Latest(2)), [3, 2]);
        assert_eq!(now(VersionPolicy::All), [3, 2, 1]);
        assert_eq!(now(VersionPolicy::Specific(vec![1, 9, 4])), [1]);
    }

    #[test]
    fn what_is_being_written_waits_and_the_one_below_serves() {
        let base = tempfile::tempdir().expect("a folder");
        version(base.path(), "1");
        version(base.path(), "2");
        let (policy, hour) = (VersionPolicy::Latest(1), Duration::from_secs(3600));
        let first = look(&policy, base.path(), hour, &Unsettled::new());
        assert!(numbers(&first).is_empty());
        assert_eq!(first.unsettled.len(), 2);
        // What is loaded is not asked again.
        let known = BTreeSet::from([1]);
        let look = Look { policy: &policy, known: &known, unsettled: &first.unsettled, settle: hour };
        let second = look.at(base.path()).expect("readable");
        assert_eq!((numbers(&second), second.unsettled.len()), (vec![1], 1));
    }

    #[test]
    fn changes_change_the_fingerprint() {
        let base = tempfile::tempdir().expect("a folder");
        version(base.path(), "1");
        let print = || Files::at(&base.path().join("1")).expect("readable").fingerprint;
        let before = print();
        assert_eq!(before, print());
        fs::write(base.path().join("1/model.onnx"), "another model").expect("writable");
        assert_ne!(before, print());
    }
}
