//! Tells when something changes in models' folders, where the system does; looking again and again makes up for the rest.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Which file or folder a path leads to, so that another in its place is seen.
type Identity = (u64, u64);

/// Watches folders, those that hold them, and what is in them.
pub(super) struct Watcher {
    /// `None` where there can be none.
    system: Option<RecommendedWatcher>,
    /// What is to be watched, and whether it is.
    watched: BTreeMap<PathBuf, (Target, bool)>,
    paths: Arc<Mutex<Paths>>,
    /// Whether it was said that some folders cannot be watched.
    warned: bool,
}

/// What events are held against.
#[derive(Debug, Default)]
struct Paths {
    /// Changes at or below these are told of.
    told_of: HashSet<PathBuf>,
    /// What is to be watched.
    watched: HashSet<PathBuf>,
    /// Those of them that have gone: what is there now, if anything, is not watched.
    gone: HashSet<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    recursive: bool,
    identity: Option<Identity>,
}

impl Watcher {
    /// Watches nothing yet. `changed` is notified when something has changed.
    pub(super) fn start(changed: Arc<Notify>) -> Self {
        let paths: Arc<Mutex<Paths>> = Arc::default();
        let known = Arc::clone(&paths);
        let handler = move |event: notify::Result<Event>| {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            // An error may hide a change.
            if event.map_or(true, |event| known.heed(&event)) {
                changed.notify_one();
            }
        };
        let mut made = Self { system: None, watched: BTreeMap::new(), paths, warned: false };
        match notify::recommended_watcher(handler) {
            Ok(system) => made.system = Some(system),
            Err(error) => made.warn(&error),
        }
        made
    }

    /// Watches the folders `bases` and no others. For one that is not there, or is a link, what it would appear in is watched.
    pub(super) fn follow(&mut self, bases: &[PathBuf]) {
        if self.system.is_none() {
            return;
        }
        let (mut wanted, mut told_of): (BTreeMap<PathBuf, Target>, HashSet<PathBuf>) = Default::default();
        for base in bases {
            if let Some((holder, next)) = holder(base) {
                told_of.insert(next);
                let target = Target { recursive: false, identity: identity(&holder) };
                wanted.entry(holder).or_insert(target);
            }
            if let Some(folder) = base.canonicalize().ok().filter(|folder| folder.is_dir()) {
                told_of.insert(folder.clone());
                let target = Target { recursive: true, identity: identity(&folder) };
                wanted.insert(folder, target);
            }
        }
        let gone = {
            let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
            (paths.told_of, paths.watched) = (told_of, wanted.keys().cloned().collect());
            std::mem::take(&mut paths.gone)
        };
        let is_over = |(path, (target, _)): &(&PathBuf, &(Target, bool))| {
            wanted.get(*path) != Some(target) || gone.contains(*path)
        };
        let over: Vec<PathBuf> = self.watched.iter().filter(is_over).map(|(path, _)| path.clone()).collect();
        for path in over {
            let watched = self.watched.remove(&path).is_some_and(|(_, watched)| watched);
            if let Some(system) = self.system.as_mut().filter(|_| watched) {
                // One that is not there any more is not watched either.
                let _ = system.unwatch(&path);
            }
        }
        for (path, target) in wanted {
            if !self.watched.contains_key(&path) {
                let watched = self.watch(&path, target.recursive);
                self.watched.insert(path, (target, watched));
            }
        }
    }

    fn watch(&mut self, path: &Path, recursive: bool) -> bool {
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let Some(outcome) = self.system.as_mut().map(|system| system.watch(path, mode)) else { return false };
        outcome.inspect_err(|error| self.warn(error)).is_ok()
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(
                "some folders of models cannot be watched, they are only looked at from time to time: {error}"
            );
        }
    }
}

impl Paths {
    /// Whether an event changes something that is to be told. Looking at files is no change, or each look would bring on the
    /// next.
    fn heed(&mut self, event: &Event) -> bool {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return false,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                let gone = event.paths.iter().filter(|path| self.watched.contains(*path));
                self.gone.extend(gone.cloned());
            }
            _ => {}
        }
        let is_told =
            |path: &PathBuf| self.gone.contains(path) || path.ancestors().any(|above| self.told_of.contains(above));
        event.need_rescan() || event.paths.iter().any(is_told)
    }
}

/// The folder in which `base`, or the first of those above it that is not there, would appear, and as what.
fn holder(base: &Path) -> Option<(PathBuf, PathBuf)> {
    let pairs = base.ancestors().zip(base.ancestors().skip(1));
    pairs.into_iter().find_map(|(path, above)| {
        let above = above.canonicalize().ok()?;
        let next = above.join(path.file_name()?);
        Some((above, next))
    })
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    /// Longest that a change may take to be told.
    const TOLD_MAX: Duration = Duration::from_secs(60);

    struct Watched {
        watcher: Watcher,
        changed: Arc<Notify>,
    }

    impl Watched {
        fn start(base: &Path) -> Self {
            let changed = Arc::new(Notify::new());
            let mut watcher = Watcher::start(Arc::clone(&changed));
            watcher.follow(&[base.to_path_buf()]);
            Self { watcher, changed }
        }

        async fn is_told(&self) {
            tokio::time::timeout(TOLD_MAX, self.changed.notified()).await.expect("the change is told");
        }
    }

    #[tokio::test]
    async fn folders_that_go_and_come_back_are_watched_again() {
        let root = tempfile::tempdir().expect("a folder");
        let base = root.path().join("models/m");
        let mut watched = Watched::start(&base);
        fs::create_dir(root.path().join("models")).expect("writable");
        watched.is_told().await;
        for round in 0..3 {
            watched.watcher.follow(std::slice::from_ref(&base));
            fs::create_dir_all(base.join("1")).expect("writable");
            watched.is_told().await;
            watched.watcher.follow(std::slice::from_ref(&base));
            fs::write(base.join("1/model.onnx"), "model").expect("writable");
            watched.is_told().await;
            // Even at once, so that no look has seen it away.
            fs::remove_dir_all(&base).expect("writable");
            if round == 0 {
                fs::create_dir(&base).expect("writable");
            }
            watched.is_told().await;
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_are_followed_and_their_change_is_seen() {
        let root = tempfile::tempdir().expect("a folder");
        let (first, second, base) = (root.path().join("a/x"), root.path().join("b/x"), root.path().join("m"));
        fs::create_dir_all(&first).expect("writable");
        fs::create_dir_all(&second).expect("writable");
        std::os::unix::fs::symlink(&first, &base).expect("links can be made");
        let mut watched = Watched::start(&base);
        fs::create_dir(first.join("1")).expect("writable");
        watched.is_told().await;
        let other = root.path().join("other");
        std::os::unix::fs::symlink(&second, &other).expect("links can be made");
        fs::rename(&other, &base).expect("the link is replaced");
        watched.is_told().await;
        watched.watcher.follow(std::slice::from_ref(&base));
        fs::create_dir(second.join("1")).expect("writable");
        watched.is_told().await;
    }

    #[test]
    fn what_happens_elsewhere_and_being_looked_at_is_no_change() {
        let path = PathBuf::from;
        let mut paths = Paths { told_of: [path("/m/a")].into(), watched: [path("/m")].into(), ..Paths::default() };
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let created = EventKind::Create(notify::event::CreateKind::Any);
        assert!(paths.heed(&event(created, "/m/a")) && paths.heed(&event(created, "/m/a/1/model.onnx")));
        assert!(!paths.heed(&event(created, "/m/b")) && !paths.heed(&event(created, "/m")));
        let access = |kind| EventKind::Access(kind);
        assert!(!paths.heed(&event(access(AccessKind::Open(AccessMode::Any)), "/m/a")));
        assert!(paths.heed(&event(access(AccessKind::Close(AccessMode::Write)), "/m/a/1/w")));
        // What is watched and goes must be watched again, although its number may be given to what takes its place.
        let removed = EventKind::Remove(notify::event::RemoveKind::Any);
        assert!(!paths.heed(&event(removed, "/m/b")) && paths.heed(&event(removed, "/m")));
        assert_eq!(paths.gone, [path("/m")].into());
    }
}
