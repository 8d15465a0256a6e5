//! The folder that what was learnt about adapters is kept in: where it is, and how files in it are written.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Names the folder of Mesa's own cache of compiled kernels.
const MESA_VARIABLE: &str = "MESA_SHADER_CACHE_DIR";
/// Has Mesa do without.
const MESA_OFF: &str = "MESA_SHADER_CACHE_DISABLE";
/// The index of that cache below the folder, and its bytes: a counter and 65,536 hashes of 20 bytes.
const MESA_INDEX: &str = "mesa_shader_cache/index";
const MESA_INDEX_BYTES: usize = 8 + (1 << 16) * 20;

/// The cache folder that `choice` names: a path, `none`, or, where it is empty, the user's own.
pub fn cache_folder(choice: &str) -> Option<PathBuf> {
    match choice {
        "none" => None,
        "" => default_folder(|name| std::env::var_os(name)),
        path => Some(PathBuf::from(path)),
    }
}

/// `coracle` in the user's cache folder by the platform's rules; `None` where the variables that say so are not set.
fn default_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The rules of XDG: relative paths count as not set.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        absolute("HOME").map(|home| home.join("Library/Caches"))
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("coracle"))
}

/// Has Mesa's drivers keep the kernels that they compile in `folder`, unless the environment names another place, or there is no
/// room: then nowhere. Must be called before the process starts threads: later it does nothing, and Mesa's default place is used.
pub fn keep_driver_cache_in(folder: &Path) {
    if cfg!(not(target_os = "linux")) || std::env::var_os(MESA_VARIABLE).is_some() {
        return;
    }
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone && std::fs::create_dir_all(folder).is_ok() {
        let (name, value) = match fill_index(&folder.join(MESA_INDEX)) {
            Ok(()) => (MESA_VARIABLE, folder.as_os_str()),
            Err(_) => (MESA_OFF, OsStr::new("true")),
        };
        // SAFETY: this thread is the only one of the process, so none reads or writes the environment at the same time.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Sees to it that the disk has room for all of Mesa's index. Some versions make it a file of holes and write to it through a
/// mapping: where the disk is full, that ends the process (SIGBUS).
fn fill_index(path: &Path) -> std::io::Result<()> {
    let mut contents = match std::fs::metadata(path) {
        Ok(metadata) if !has_holes(&metadata) || metadata.len() > MESA_INDEX_BYTES as u64 => return Ok(()),
        Ok(_) => std::fs::read(path)?,
        Err(_) => Vec::new(),
    };
    contents.resize(MESA_INDEX_BYTES, 0);
    replace(path, &contents)
}

/// Whether a file takes less room than it has bytes.
#[cfg(unix)]
fn has_holes(metadata: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::blocks(metadata).saturating_mul(512) < metadata.len()
}

#[cfg(not(unix))]
fn has_holes(_: &std::fs::Metadata) -> bool {
    false
}

/// Drafts of this age belong to nobody any more: their process was killed while it wrote.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(600);

/// Writes `contents` beside `path` and renames, making folders as needed: whoever reads the file reads all of it. What processes
/// that were killed meanwhile have left goes.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    static DRAFTS: AtomicU32 = AtomicU32::new(0);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    remove_drafts(path);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{number}.draft", std::process::id()));
    let written = std::fs::File::create(&draft).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| std::fs::rename(&draft, path));
    if replaced.is_err() {
        // Nothing more can be done about a draft that stays.
        drop(std::fs::remove_file(&draft));
    }
    replaced
}

/// Removes the old drafts of `path`; those that cannot be removed stay.
fn remove_drafts(path: &Path) {
    let Some((folder, stem)) = path.parent().zip(path.file_stem().and_then(|stem| stem.to_str())) else { return };
    let is_draft = |name: &str| name.strip_prefix(stem).is_some_and(|n| n.starts_with('.') && n.ends_with(".draft"));
    let is_old = |entry: &std::fs::DirEntry| {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age >= DRAFT_AGE_MAX)
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_draft) && is_old(&entry) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_platform() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            "LOCALAPPDATA" => Some("C:\\Users\\u\\AppData\\Local".into()),
            _ => None,
        };
        let folder = default_folder(variable).expect("it is known");
        assert!(folder.ends_with("coracle") && folder.is_absolute(), "{folder:?}");
        assert_eq!(default_folder(|_| None), None);
        assert_eq!(default_folder(|_| Some("relative".into())), None);
        assert_eq!(cache_folder("none"), None);
        assert_eq!(cache_folder("here"), Some(PathBuf::from("here")));
    }

    #[test]
    fn files_are_replaced_whole_and_leave_no_draft() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/file");
        replace(&path, b"first").expect("writable");
        replace(&path, b"second").expect("writable");
        assert_eq!(std::fs::read(&path).expect("readable"), b"second");
        assert_eq!(std::fs::read_dir(folder.path().join("deep")).expect("readable").count(), 1);
        assert!(replace(&path.join("below a file"), b"third").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn an_index_of_holes_is_filled_and_keeps_what_it_says() {
        use std::io::{Seek as _, SeekFrom};

        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(MESA_INDEX);
        fill_index(&path).expect("there is room");
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), MESA_INDEX_BYTES as u64);
        let mut file = std::fs::File::create(&path).expect("writable");
        file.seek(SeekFrom::Start(100_000)).expect("a place");
        file.write_all(b"a hash").expect("writable");
        file.set_len(MESA_INDEX_BYTES as u64).expect("a size");
        fill_index(&path).expect("there is room");
        let contents = std::fs::read(&path).expect("readable");
        assert_eq!((contents.len(), &contents[100_000..100_006]), (MESA_INDEX_BYTES, &b"a hash"[..]));
    }

    #[test]
    fn drafts_of_the_dead_go_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = ["file.12-0.draft", "file.13-0.draft", "files.12-0.draft", "file.12-0.json"];
        for name in names {
            std::fs::write(folder.path().join(name), b"a part").expect("writable");
        }
        let dead = std::fs::File::options().write(true).open(folder.path().join(names[0])).expect("it is there");
        dead.set_modified(std::time::SystemTime::now() - DRAFT_AGE_MAX).expect("a time");
        replace(&folder.path().join("file.json"), b"whole").expect("writable");
        let is_there = |name: &str| folder.path().join(name).exists();
        assert_eq!(names.map(is_there), [false, true, true, true]);
    }
}
